"""Stores that colleagues use as well: objects in memory with a personality, and a folder on a disk in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from craftsync.clock import Clock
from craftsync.core.model import OWN_FOLDER, RemoteObject, Skipped
from craftsync.errors import CraftsyncError, StoreUnavailable
from craftsync.stores.base import Expect, Source, Store, UploadJournal
from craftsync.stores.directory import DirectoryStore
from tests.simulator.disk import Disk, Inode
from tests.simulator.steps import Fail
from tests.support.memory_store import MemoryStore
from tests.support.world import Bytes

_INTERNAL = (".craftsync/tmp/", ".craftsync/lock", ".craftsync/commit-lock")

Objects = dict[str, tuple[RemoteObject, bytes]]


@dataclass(frozen=True)
class Personality:
    """What a store promises (`conditions`, `copies`, `ordered`) and what it says of an object."""

    conditions: bool = True
    copies: bool = True
    ordered: bool = True
    metadata: bool = True
    """It keeps operation id, digest and time of a write."""
    times: bool = True
    """It tells the time of the uploaded file, as a folder does."""
    md5: bool = False
    """Versions are the MD5 of the content."""


PERSONALITIES = {
    "whole": Personality(),
    "no conditions": Personality(conditions=False),
    "no copy": Personality(copies=False),
    "no metadata": Personality(metadata=False, times=False),
    "times only": Personality(metadata=False),
    "bare": Personality(False, False, False, metadata=False, times=False),
    "md5": Personality(md5=True),
    "md5 only": Personality(md5=True, metadata=False, times=False, conditions=False),
}


class SimulatedStore(MemoryStore):
    """The objects; what they say of themselves depends on the personality."""

    def __init__(self, personality: Personality, name: str = "store") -> None:
        super().__init__(name)
        self._mine = personality
        self._shown: dict[str, bytes] = {}
        self._people = 0
        conditions = personality.conditions
        self.features = replace(
            self.features,
            conditional_create=conditions,
            conditional_replace=conditions,
            conditional_delete=conditions,
            server_side_copy=personality.copies,
            sorted_listing=personality.ordered,
            metadata=personality.metadata,
            md5_versions=personality.md5,
        )

    def connect(self) -> Store:
        """Return it as a client uses it."""
        return self

    def put(self, path: str, source: Bytes) -> None:
        """Let another program write an object."""
        self._people += 1
        self.write(path, source, expect=None, operation=f"person-{self._people}")

    def take(self, path: str) -> None:
        self.delete(path, expect=None)

    def contents(self) -> dict[str, bytes]:
        """Return everything there is, the trash too: the same dictionary while nothing changes."""
        now = {path: content for path, (_, content) in self._objects.items()}
        if now != self._shown:
            self._shown = now
        return self._shown

    def rot(self, path: str, content: bytes) -> None:
        """Let the content of an object be another, and nothing else."""
        self._objects[path] = self._objects[path][0], content

    def saved(self) -> Objects:
        """Return all there is as a backup keeps it."""
        return dict(self._objects)

    def restore(self, saved: Objects) -> None:
        """Be as a backup has it, versions and times included."""
        self._objects = dict(saved)

    def list(
        self, prefix: str = "", *, boundaries: Sequence[str] = (), nested_own: bool = False
    ) -> Iterator[RemoteObject | Skipped]:
        listed = list(super().list(prefix, boundaries=boundaries, nested_own=nested_own))
        return iter(listed if self._mine.ordered else listed[::-1])

    def stat(self, path: str) -> RemoteObject | None:
        found = super().stat(path)
        return None if found is None else self._told(found)

    def _told(self, found: RemoteObject) -> RemoteObject:
        if self._mine.metadata:
            return found
        mtime_ns = found.mtime_ns if self._mine.times else None
        return found._replace(digest=None, operation=None, mtime_ns=mtime_ns)

    def _held(self, path: str, expect: RemoteObject | None) -> tuple[RemoteObject, bytes]:
        described, content = super()._held(path, expect)
        return self._told(described), content

    def _put(self, path: str, content: bytes, mtime_ns: int | None, operation: str) -> RemoteObject:
        described = super()._put(path, content, mtime_ns, operation)
        if self._mine.md5:
            version = hashlib.md5(content, usedforsecurity=False).hexdigest()
            described = described._replace(version=version)
            self._objects[path] = (described, content)
        return self._told(described)


class SharedFolder:
    """What `SimulatedStore` is for objects in memory, for the files of a directory store."""

    def __init__(self, clock: Clock, name: str = "store") -> None:
        disk = Disk(99 + len(name), clock.now_ns, lambda path: not path.startswith(_INTERNAL))
        self.location = f"/simulated/{name}"
        self.disk = disk
        self._writes = 0

    def connect(self) -> Store:
        return DirectoryStore(self.location)

    def contents(self) -> dict[str, bytes]:
        return self.disk.contents()

    def put(self, path: str, source: Bytes) -> None:
        """Let a colleague save a file: by turns in place, and as a new one."""
        folder, name = self._parent(path)
        there = folder.entries.get(name)  # type: ignore[union-attr]
        self._writes += 1
        if there is not None and there.entries is not None:
            there = None  # Nothing is in it any more.
        if there is None or self._writes % 2:
            there = Inode(self.disk, 0o100644)
            self.disk.put(folder, name, there)
        self.disk.write(there, source.read_at(0, source.size))
        there.mtime = source.mtime_ns or there.mtime

    def take(self, path: str) -> None:
        folder, name = self._parent(path)
        self.disk.put(folder, name, None)

    def rot(self, path: str, content: bytes) -> None:
        """Let the content of a file be another, and nothing else."""
        inode = self.disk.find(path)
        assert inode is not None
        self.disk.rot(inode, content)

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
                inode.data, inode.mtime = content, mtime  # A backup is flushed.
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


class Connection:
    """One client's way to a store. `request` is called before and after each operation; see `bucket.OnRequest`."""

    def __init__(self, store: Store, request: Callable[[str, str, bool], Fail | None]) -> None:
        self._store = store
        self._request = request
        self.name = store.name
        self.location = store.location

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @contextmanager
    def _asked(self, operation: str, path: str) -> Iterator[None]:
        fail = self._request(operation, path, False)
        if fail is not None and not fail.after:
            raise StoreUnavailable("simulated", ambiguous=fail.doubt)
        yield
        self._request(operation, path, True)
        if fail is not None and fail.after:
            raise StoreUnavailable("simulated", ambiguous=True)

    def list(self, prefix: str = "", **options: Any) -> Iterator[RemoteObject | Skipped]:
        with self._asked("list", prefix):
            listed = list(self._store.list(prefix, **options))
        yield from listed
        if not prefix:
            with self._asked("end of list", prefix):
                pass

    def stat(self, path: str) -> RemoteObject | None:
        with self._asked("stat", path):
            return self._store.stat(path)

    @contextmanager
    def read(self, path: str, **options: Any) -> Iterator[Any]:
        with self._asked("read", path):
            opened = self._store.read(path, **options)
        with opened as reader:
            yield reader

    def write(
        self,
        path: str,
        source: Source,
        *,
        expect: Expect,
        operation: str,
        trash_stamp: str | None = None,
        journal: UploadJournal | None = None,
    ) -> RemoteObject:
        with self._asked("write", path):
            return self._store.write(
                path,
                source,
                expect=expect,
                operation=operation,
                trash_stamp=trash_stamp,
                journal=journal,
            )

    def delete(self, path: str, *, expect: Expect, trash_stamp: str | None = None) -> None:
        with self._asked("delete", path):
            self._store.delete(path, expect=expect, trash_stamp=trash_stamp)

    def delete_each(self, paths: Sequence[str]) -> dict[str, CraftsyncError]:
        failed: dict[str, CraftsyncError] = {}
        for path in paths:
            try:
                self.delete(path, expect=None)
            except StoreUnavailable as error:
                failed[path] = error
        return failed

    def copy(
        self,
        source: RemoteObject,
        target: str,
        *,
        expect: Expect,
        operation: str,
        trash_stamp: str | None = None,
    ) -> RemoteObject:
        with self._asked("copy", target):
            return self._store.copy(
                source, target, expect=expect, operation=operation, trash_stamp=trash_stamp
            )

    def move(self, source: RemoteObject, target: str, *, operation: str) -> RemoteObject:
        with self._asked("copy", target):
            return self._store.move(source, target, operation=operation)

    def barrier(self) -> Mapping[str, RemoteObject]:
        with self._asked("barrier", ""):
            return self._store.barrier()


@lru_cache(1 << 16)
def is_own(path: str) -> bool:
    return f"/{OWN_FOLDER}/" in f"/{path}"
