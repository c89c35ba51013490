"""A folder as a store, on a disk in memory, which colleagues use as well."""

from __future__ import annotations

from craftsync.stores.base import Store
from craftsync.stores.directory import DirectoryStore
from tests.simulator.disk import Disk, Inode
from tests.support.world import Bytes

_INTERNAL = (".craftsync/tmp/", ".craftsync/lock", ".craftsync/commit-lock")


class SharedFolder:
    """What `SimulatedStore` is for objects in memory, for the files of a directory store."""

    location = "/simulated/store"

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self._writes = 0

    def connect(self) -> Store:
        return DirectoryStore(self.location)

    def contents(self) -> dict[str, bytes]:
        return {
            path: inode.data for path, inode in self.disk.files() if not path.startswith(_INTERNAL)
        }

    def put(self, path: str, source: Bytes) -> None:
        """Let a colleague save a file: by turns in place, and as a new one."""
        folder, name = self._parent(path)
        there = folder.entries.get(name)  # type: ignore[union-attr]
        self._writes += 1
        if there is None or self._writes % 2:
            there = Inode(self.disk, 0o100644)
            self.disk.put(folder, name, there)
        self.disk.write(there, source.read_at(0, source.size))
        there.mtime = source.mtime_ns or there.mtime

    def take(self, path: str) -> None:
        folder, name = self._parent(path)
        self.disk.put(folder, name, None)

    def saved(self) -> dict[str, tuple[bytes, int]]:
        return {path: (inode.data, inode.mtime) for path, inode in self.disk.files()}

    def restore(self, saved: dict[str, tuple[bytes, int]]) -> None:
        """Be as a backup has it, times included; what is restored is new files."""
        now = self.saved()
        for path in now.keys() - saved.keys():
            self.take(path)
        for path, (content, mtime) in saved.items():
            if now.get(path) != (content, mtime):
                folder, name = self._parent(path)
                inode = Inode(self.disk, 0o100644)
                inode.data, inode.mtime = content, mtime
                self.disk.put(folder, name, inode)

    def _parent(self, path: str) -> tuple[Inode, str]:
        *above, last = path.split("/")
        at = self.disk.root
        for name in above:
            assert at.entries is not None
            if name not in at.entries:
                self.disk.put(at, name, Inode(self.disk, 0o040755))
            at = at.entries[name]
        return at, last
