"""An object of one store as content for the other: hashed in transit, whole in memory only if it is small.

Every byte read counts against the rate of the source. This module decides and
writes nothing.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import md5, sha256

from craftsync.core.model import RemoteObject, mtime_of
from craftsync.engine.content import body_of, digest_of
from craftsync.errors import (
    ContentDamaged,
    ObjectNotFound,
    PathBusy,
    PreconditionFailed,
    StoreUnavailable,
)
from craftsync.net.pace import Limiter, Pace
from craftsync.stores.base import Reader, Store
from craftsync.stores.sources import BytesSource

MIB = 1024 * 1024
WHOLE = 16 * MIB
"""The largest object, in bytes, to hold whole in memory: every store writes it with one request."""
PART = 8 * MIB
"""Bytes requested at once of a larger object, unless the target reads larger pieces."""
LARGE_SHARE = 32 * MIB
"""Memory that one large object takes: parts in transit, and parts that wait for their turn to be hashed."""
_BLOCK = 4 * MIB
_BLOCKS = 4
"""Blocks kept for targets that read small pieces of several parts of an object at once."""
_EARLY = 16 * MIB


class MemoryBudget:
    """Memory shared by all transfers; a transfer waits until enough is free.

    Only for tasks with a thread of their own (`net.tasks`).
    """

    def __init__(self, size: int) -> None:
        self._free = size
        self._size = size
        self._freed = threading.Condition()

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        wanted = min(size, self._size)
        with self._freed:
            self._freed.wait_for(lambda: self._free >= wanted)
            self._free -= wanted
        try:
            yield
        finally:
            with self._freed:
                self._free += wanted
                self._freed.notify_all()


def read_whole(
    store: Store, source: RemoteObject, incoming: Limiter, outgoing: Pace
) -> tuple[BytesSource, Reader]:
    """Return a small object's content, to be sent at the pace `outgoing`, and its reader.

    Raises `PreconditionFailed` or `ObjectNotFound` if it is not the given
    version, and `ContentDamaged` if the bytes do not match the source's own
    digest.
    """
    body, reader = _read(store, source, incoming, 0, source.size)
    found = reader.object
    content = BytesSource(body, mtime_of(found), outgoing)
    if found.digest not in (None, content.digest):
        raise damaged(store, source.path)
    return content, reader


def damaged(store: Store, path: str) -> ContentDamaged:
    """Return the error for content that does not match the digest of its store."""
    return ContentDamaged(
        f"{path}: the content read from {store.location} does not match its digest.",
        remedy="Try again; if the error repeats, the object is damaged.",
    )


class Stream:
    """A large object as content for a store.

    Unless the source knows the digest, it is known only after `verify`. `verify`
    reads again what could not be hashed in transit: the parts that a resumed
    upload skipped, and those that were read far out of order.
    """

    def __init__(
        self,
        store: Store,
        source: RemoteObject,
        incoming: Limiter,
        outgoing: Pace,
        *,
        hash_parts: bool,
    ) -> None:
        """`source` is a full description, as from `stat`; `is_version` needs `hash_parts`."""
        self.pace = outgoing
        self.size = source.size
        self.mtime_ns = mtime_of(source)
        self._parts: dict[int, tuple[int, bytes]] = {}
        self._store = store
        self._source = source
        self._incoming = incoming
        self._hash_parts = hash_parts
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._hash = _InOrder(self._fetch, md5_too=not source.digest and source.md5 is not None)
        self._digest = source.digest or b""

    @property
    def digest(self) -> bytes:
        return self._digest

    def is_version(self, version: str | None) -> bool:
        """Return whether a version is that of an object made from exactly the parts that were read.

        Most servers make the ETag of a multipart upload from the MD5 of the
        parts' MD5s, and their number.
        """
        end = 0
        digests = []
        for offset, (length, digest) in sorted(self._parts.items()):
            if offset != end:
                return False
            end += length
            digests.append(digest)
        whole = md5(b"".join(digests), usedforsecurity=False).hexdigest()
        return end == self.size and version == f"{whole}-{len(digests)}"

    def read_at(self, offset: int, length: int) -> bytes:
        if length < _BLOCK and offset + length < self.size:
            return self._from_blocks(offset, length)
        content = self._fetch(offset, length)
        if self._hash_parts:
            self._parts[offset] = length, md5(content, usedforsecurity=False).digest()
        self._hash.add(offset, content)
        return content

    def part_md5(self, offset: int, length: int) -> bytes | None:
        """Return the MD5 of a part that was read as one piece; `None` if unknown."""
        known, digest = self._parts.get(offset, (0, b""))
        return digest if known == length else None

    def verify(self) -> None:
        """Raise unless all pieces are of one version, and match the store's digest."""
        digest = self._hash.finished(self.size)
        if self._digest not in (b"", digest):
            raise damaged(self._store, self._source.path)
        doubtful = self._hash.md5 not in (None, self._source.md5)
        # The reader of a whole object finds out whether its MD5 is reliable.
        if doubtful and digest_of(self._store, self._source, self._incoming) != digest:
            raise damaged(self._store, self._source.path)
        self._digest = digest

    def _from_blocks(self, offset: int, length: int) -> bytes:
        """Return a small piece from larger blocks, each of which is read once."""
        pieces = []
        while length:
            start = offset - offset % _BLOCK
            block = self._blocks.get(start)
            if block is None:
                block = self._fetch(start, min(_BLOCK, self.size - start))
                self._hash.add(start, block)
                self._blocks[start] = block
                while len(self._blocks) > _BLOCKS:
                    self._blocks.popitem(last=False)
            piece = block[offset - start : offset - start + length]
            pieces.append(piece)
            offset += len(piece)
            length -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _fetch(self, offset: int, length: int) -> bytes:
        try:
            return _read(self._store, self._source, self._incoming, offset, length)[0]
        except (PreconditionFailed, ObjectNotFound) as error:
            # The caller would take these for errors of the target.
            raise PathBusy(
                f"{self._source.path}: changed in the source since it was listed"
            ) from error


class _InOrder:
    """A SHA-256, and optionally an MD5, over pieces that arrive nearly in order; `fetch` reads dropped pieces again.

    Pieces may overlap those already hashed. Thread-safe.
    """

    def __init__(self, fetch: Callable[[int, int], bytes], *, md5_too: bool) -> None:
        self._fetch = fetch
        self._hash = sha256()
        self._md5 = md5(usedforsecurity=False) if md5_too else None
        self._at = 0
        self._early: dict[int, bytes] = {}
        self._held = 0
        self._lock = threading.Lock()

    def add(self, offset: int, piece: bytes) -> None:
        with self._lock:
            if offset > self._at:
                if offset not in self._early and self._held + len(piece) <= _EARLY:
                    self._early[offset] = piece
                    self._held += len(piece)
                return
            self._take(offset, piece)
            self._take_early()

    def finished(self, size: int) -> bytes:
        with self._lock:
            while self._at < size:
                end = min(self._early, default=size)
                self._take(self._at, self._fetch(self._at, min(PART, end - self._at)))
                self._take_early()
            return self._hash.digest()

    @property
    def md5(self) -> bytes | None:
        """The MD5 of the pieces so far, if it was wanted."""
        return None if self._md5 is None else self._md5.digest()

    def _take(self, offset: int, piece: bytes) -> None:
        new = memoryview(piece)[self._at - offset :]
        self._hash.update(new)
        if self._md5 is not None:
            self._md5.update(new)
        self._at += len(new)

    def _take_early(self) -> None:
        while self._early and (first := min(self._early)) <= self._at:
            piece = self._early.pop(first)
            self._held -= len(piece)
            self._take(first, piece)


def _read(
    store: Store, source: RemoteObject, limiter: Limiter, offset: int, length: int
) -> tuple[bytes, Reader]:
    """Return `length` bytes of exactly this version, and their reader."""
    rest = None if length == source.size else length
    failures = (StoreUnavailable, ContentDamaged)
    body, reader = body_of(store, source, limiter.take, (offset, rest), failures=failures)
    if len(body) != length:
        raise PreconditionFailed(f"{source.path} has changed.")
    return body, reader
