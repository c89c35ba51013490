"""Watching a root: which of its paths may have changed, and whether the watching can be relied on.

Hints only: nothing here decides anything, and no property of a sync may rest
on it. `inotify` emits the kernel's events into a queue, `dirty` is that queue
and lets paths settle, `supervisor` notices when file watching stops and starts
it anew. Knows nothing of stores and runs.
"""

from craftsync.local.watch.dirty import Dirty, DirtyPaths
from craftsync.local.watch.supervisor import Health, Supervisor

__all__ = ["Dirty", "DirtyPaths", "Health", "Supervisor"]
