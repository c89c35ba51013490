"""Watching a root: which of its paths may have changed, and whether the watching can be relied on.

Hints only: nothing here decides anything, and no property of a sync may rest
on it. `dirty` collects the paths and lets them settle, `folders` knows which
kernel watch stands for which folder, `inotify` reads the kernel's queue (the
one file that knows watchdog), `supervisor` notices when file watching stops
and starts it anew. Knows nothing of stores and passes.
"""

from craftsync.local.watching.dirty import Dirty, DirtyPaths
from craftsync.local.watching.supervisor import Health, Supervisor

__all__ = ["Dirty", "DirtyPaths", "Health", "Supervisor"]
