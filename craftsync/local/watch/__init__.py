"""Watches a folder: which paths may have changed, and whether its events are reliable.

Events are hints only: no guarantee of a sync may depend on them. `inotify` reads the kernel's
events, `dirty` queues paths until they settle, and `supervisor` restarts watching when it stops.
Knows nothing of stores and runs.
"""

from craftsync.local.watch.dirty import Dirty, DirtyPaths
from craftsync.local.watch.supervisor import Health, Supervisor

__all__ = ["Dirty", "DirtyPaths", "Health", "Supervisor"]
