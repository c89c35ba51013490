"""Simulated stores, which users change too: objects in memory, and a shared folder on a simulated disk."""

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
    """What a store supports (`conditions`, `copies`, `ordered`), and what it reports of an object."""

    conditions: bool = True
    copies: bool = True
    ordered: bool = True
    metadata: bool = True
    """Whether it keeps operation id, digest and mtime of a write."""
    times: bool = True
    """Whether it reports the mtime of the uploaded file, as a folder does."""
    md5: bool = False
    """Whether versions are the MD5 of the content."""


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
    """Objects in memory; the personality decides what the store supports and reports."""

    def __init__(self, personality: Personality, name: str = "store") -> None:
        super().__init__(name)
        self._personality = personality
        self._shown: dict[str, bytes] = {}
        self._user_writes = 0
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
        """Return the store as a client uses it."""
        return self

    def put(self, path: str, source: Bytes) -> None:
        """Write an object as another program does."""
        self._user_writes += 1
        self.write(path, source, expect=None, operation=f"person-{self._user_writes}")

    def remove(self, path: str) -> None:
        self.delete(path, expect=None)

    def contents(self) -> dict[str, bytes]:
        """Return every object, the trash too; the same dictionary while nothing changes."""
        now = {path: content for path, (_, content) in self._objects.items()}
        if now != self._shown:
            self._shown = now
        return self._shown

    def corrupt(self, path: str, content: bytes) -> None:
        """Change the content of an object without any trace."""
        self._objects[path] = self._objects[path][0], content

    def backup(self) -> Objects:
        """Return a backup of all objects."""
        return dict(self._objects)

    def restore(self, saved: Objects) -> None:
        """Restore a backup, with versions and times."""
        self._objects = dict(saved)

    def list(
        self, prefix: str = "", *, boundaries: Sequence[str] = (), nested_own: bool = False
    ) -> Iterator[RemoteObject | Skipped]:
        listed = list(super().list(prefix, boundaries=boundaries, nested_own=nested_own))
        return iter(listed if self._personality.ordered else listed[::-1])

    def stat(self, path: str) -> RemoteObject | None:
        found = super().stat(path)
        return None if found is None else self._as_reported(found)

    def _as_reported(self, found: RemoteObject) -> RemoteObject:
        if self._personality.metadata:
            return found
        mtime_ns = found.mtime_ns if self._personality.times else None
        return found._replace(digest=None, operation=None, mtime_ns=mtime_ns)

    def _held(self, path: str, expect: RemoteObject | None) -> tuple[RemoteObject, bytes]:
        described, content = super()._held(path, expect)
        return self._as_reported(described), content

    def _put(self, path: str, content: bytes, mtime_ns: int | None, operation: str) -> RemoteObject:
        described = super()._put(path, content, mtime_ns, operation)
        if self._personality.md5:
            version = hashlib.md5(content, usedforsecurity=False).hexdigest()
            described = described._replace(version=version)
            self._objects[path] = (described, content)
        return self._as_reported(described)


class SharedFolder:
    """A directory store on a simulated disk; used like `SimulatedStore`."""

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
        """Write a file as another program does: in place and as a new file by turns."""
        folder, name = self._parent(path)
        there = folder.entries.get(name)  # type: ignore[union-attr]
        self._writes += 1
        if there is not None and there.entries is not None:
            there = None  # Only an empty folder can be in the way.
        if there is None or self._writes % 2:
            there = Inode(self.disk, 0o100644)
            self.disk.set_entry(folder, name, there)
        self.disk.write(there, source.read_at(0, source.size))
        there.mtime = source.mtime_ns or there.mtime

    def remove(self, path: str) -> None:
        folder, name = self._parent(path)
        self.disk.set_entry(folder, name, None)

    def corrupt(self, path: str, content: bytes) -> None:
        """Change the content of a file without any trace."""
        inode = self.disk.find(path)
        assert inode is not None
        self.disk.corrupt(inode, content)

    def backup(self) -> dict[str, tuple[bytes, int]]:
        return {path: (inode.data, inode.mtime) for path, inode in self.disk.files()}

    def restore(self, saved: dict[str, tuple[bytes, int]]) -> None:
        """Restore a backup with its times; each restored file is a new inode."""
        now = self.backup()
        for path in now.keys() - saved.keys():
            self.remove(path)
        for path, (content, mtime) in saved.items():
            if now.get(path) != (content, mtime):
                folder, name = self._parent(path)
                inode = Inode(self.disk, 0o100644)
                inode.data, inode.mtime = content, mtime  # A backup is flushed.
                self.disk.set_entry(folder, name, inode)

    def _parent(self, path: str) -> tuple[Inode, str]:
        *above, last = path.split("/")
        at = self.disk.root
        for name in above:
            assert at.entries is not None
            if name not in at.entries:
                self.disk.set_entry(at, name, Inode(self.disk, 0o040755))
            at = at.entries[name]
        return at, last


class Connection:
    """One client's connection to a store. `request` is called before and after each operation; see `bucket.OnRequest`."""

    def __init__(self, store: Store, request: Callable[[str, str, bool], Fail | None]) -> None:
        self._store = store
        self._request = request
        self.name = store.name
        self.location = store.location

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @contextmanager
    def _request_around(self, operation: str, path: str) -> Iterator[None]:
        fail = self._request(operation, path, False)
        if fail is not None and not fail.after:
            raise StoreUnavailable("simulated", ambiguous=fail.doubt)
        yield
        self._request(operation, path, True)
        if fail is not None and fail.after:
            raise StoreUnavailable("simulated", ambiguous=True)

    def list(self, prefix: str = "", **options: Any) -> Iterator[RemoteObject | Skipped]:
        with self._request_around("list", prefix):
            listed = list(self._store.list(prefix, **options))
        yield from listed
        if not prefix:
            with self._request_around("end of list", prefix):
                pass

    def stat(self, path: str) -> RemoteObject | None:
        with self._request_around("stat", path):
            return self._store.stat(path)

    @contextmanager
    def read(self, path: str, **options: Any) -> Iterator[Any]:
        with self._request_around("read", path):
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
        with self._request_around("write", path):
            return self._store.write(
                path,
                source,
                expect=expect,
                operation=operation,
                trash_stamp=trash_stamp,
                journal=journal,
            )

    def delete(self, path: str, *, expect: Expect, trash_stamp: str | None = None) -> None:
        with self._request_around("delete", path):
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
        with self._request_around("copy", target):
            return self._store.copy(
                source, target, expect=expect, operation=operation, trash_stamp=trash_stamp
            )

    def move(self, source: RemoteObject, target: str, *, operation: str) -> RemoteObject:
        with self._request_around("copy", target):
            return self._store.move(source, target, operation=operation)

    def barrier(self) -> Mapping[str, RemoteObject]:
        with self._request_around("barrier", ""):
            return self._store.barrier()


@lru_cache(1 << 16)
def is_own(path: str) -> bool:
    return f"/{OWN_FOLDER}/" in f"/{path}"
