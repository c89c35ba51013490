"""Content on its way between the two sides: read from the root, fetched from the store.

Every byte is counted against the rate limits and hashed; nothing here decides
or commits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from hashlib import sha256

from craftsync.core.model import RemoteObject
from craftsync.errors import (
    ContentDamaged,
    NoSpace,
    ObjectNotFound,
    PreconditionFailed,
    StoreUnavailable,
)
from craftsync.hashing import fed
from craftsync.local.files import BLOCK, OpenFile
from craftsync.local.folder import Folder
from craftsync.local.temporary import Temporary
from craftsync.stores.base import Store
from craftsync.sync.limiter import Limiter

WHOLE = 16 << 20
"""Bytes up to which a file is read, or an object fetched, in one piece."""
PART = 16 << 20
"""Bytes in each part of a larger download."""
_ATTEMPTS = 3
"""How often the body of one request is asked for again when it breaks off."""


class RootSource:
    """A file of the root as content for a store: hashed, rate limited, checked for changes.

    A small file is read once, so that what was hashed is what is sent.
    """

    def __init__(self, file: OpenFile, limiter: Limiter) -> None:
        self._file = file
        self._limiter = limiter
        self.size = file.file.size
        self.mtime_ns: int | None = file.file.mtime_ns
        self._content = file.read_at(0, self.size) if self.size <= WHOLE else None
        self.digest = (
            file.digest() if self._content is None else fed(sha256(), self._content).digest()
        )

    def read_at(self, offset: int, length: int) -> bytes:
        self._limiter.take(length)
        if self._content is None:
            return self._file.read_at(offset, length)
        if length == self.size:
            return self._content
        return self._content[offset : offset + length]

    def verify(self) -> None:
        self._file.verify()


@dataclass(frozen=True, slots=True)
class PartialDownload:
    """The parts of a large download that a temporary file holds already, and whom to tell of more."""

    temporary: str
    parts: frozenset[int]
    part_done: Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Brings objects into temporary files of the root."""

    root: Folder
    store: Store
    limiter: Limiter
    part_pool: Executor

    def fetch(
        self, remote: RemoteObject, partial: PartialDownload | None
    ) -> tuple[Temporary, RemoteObject, bytes]:
        """Return the object in an open temporary file, its full description, and its digest.

        Raises `PreconditionFailed` or `ObjectNotFound` when it is not the one
        that was listed, `ContentDamaged` when what arrived is not what the
        store has. An unfinished large download keeps its temporary file for the
        next try, unless the disk is full (`NoSpace`).
        """
        if remote.size <= WHOLE or not self.store.features.ranges or partial is None:
            return self._fetch_whole(remote)
        temporary = self.root.temporary(partial.temporary, size=remote.size)
        try:
            found, digest = self._fetch_parts(remote, temporary, partial)
        except (PreconditionFailed, ObjectNotFound, ContentDamaged, NoSpace):
            temporary.discard()
            raise
        except BaseException:
            temporary.close()
            raise
        try:
            _check(remote, found, digest, temporary.size())
        except ContentDamaged:
            temporary.discard()
            raise
        return temporary, found, digest

    def _fetch_whole(self, remote: RemoteObject) -> tuple[Temporary, RemoteObject, bytes]:
        temporary = self.root.temporary(size=remote.size)
        try:
            hashed = sha256()
            offset = 0
            with self.store.read(remote.path, expect=remote) as reader:
                for chunk in reader:
                    self.limiter.take(len(chunk))
                    fed(hashed, chunk)
                    temporary.write_at(offset, chunk)
                    offset += len(chunk)
                found = reader.object
            digest = hashed.digest()
            _check(remote, found, digest, offset)
        except BaseException:
            temporary.discard()
            raise
        return temporary, found, digest

    def _fetch_parts(
        self, remote: RemoteObject, temporary: Temporary, partial: PartialDownload
    ) -> tuple[RemoteObject, bytes]:
        """Fetch what is missing, several parts at once, and hash each part while later ones are on their way."""

        def fetch_part(number: int) -> RemoteObject | None:
            if number in partial.parts:
                return None
            found = self._fetch_part(remote, temporary, number)
            partial.part_done(number)
            return found

        # Where the first part has to be fetched, its answer describes the object.
        described = self._described(remote) if 0 in partial.parts else None
        digest, md5 = sha256(), hashlib.md5(usedforsecurity=False)
        parts = self.part_pool.map(fetch_part, range(-(-remote.size // PART)))
        for number, found in enumerate(parts):
            described = described or found
            assert described is not None
            for block in _blocks(temporary, number * PART):
                digest.update(block)
                if _is_told_by_md5(described):
                    md5.update(block)
        assert described is not None
        if _is_told_by_md5(described) and md5.digest() != described.md5:
            self._read_again(remote, digest.digest())
        return described, digest.digest()

    def _read_again(self, remote: RemoteObject, digest: bytes) -> None:
        """Raise unless an object that is not what its MD5 says comes once more, in one piece, as it came in parts.

        The reader of a whole object finds out whether the MD5 is to be believed.
        """
        if self.read_digest(remote) != digest:
            raise _damaged(remote)

    def _described(self, remote: RemoteObject) -> RemoteObject:
        """Look at an object none of whose bytes had to be asked for; it must be the one that was listed."""
        found = self.store.stat(remote.path)
        if found is None or found.version != remote.version:
            raise PreconditionFailed(f"{remote.path} has changed since it was listed.")
        return found

    def _fetch_part(self, remote: RemoteObject, temporary: Temporary, number: int) -> RemoteObject:
        offset = number * PART
        end = min(offset + PART, remote.size)
        for attempt in range(_ATTEMPTS):
            try:
                with self.store.read(
                    remote.path, expect=remote, offset=offset, length=end - offset
                ) as reader:
                    self._write_all(reader, temporary, offset)
                    return reader.object
            except StoreUnavailable:
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError("the loop returns or raises")

    def _write_all(
        self, chunks: Iterable[bytes | memoryview], temporary: Temporary, offset: int
    ) -> None:
        for chunk in chunks:
            self.limiter.take(len(chunk))
            temporary.write_at(offset, chunk)
            offset += len(chunk)

    def digest(self, remote: RemoteObject) -> bytes:
        """Return the digest of an object's content: as the store knows it, else by reading it all."""
        found = self.store.stat(remote.path)
        if found is not None and found.digest is not None:
            return found.digest
        return self.read_digest(remote)

    def read_digest(self, remote: RemoteObject) -> bytes:
        """Return the digest of an object's content by reading all of it."""
        content = sha256()
        with self.store.read(remote.path, expect=remote) as reader:
            for chunk in reader:
                self.limiter.take(len(chunk))
                content.update(chunk)
        return content.digest()


def _blocks(temporary: Temporary, offset: int) -> Iterator[bytes]:
    """Read one part of a download back, which is still in the page cache."""
    end = offset + PART
    while offset < end and (block := temporary.read_at(offset, min(BLOCK, end - offset))):
        yield block
        offset += len(block)


def _check(remote: RemoteObject, found: RemoteObject, digest: bytes, size: int) -> None:
    """Raise unless what arrived is as long as was listed, and what was uploaded where that is known."""
    if size != remote.size or found.digest not in (None, digest):
        raise _damaged(remote)


def _damaged(remote: RemoteObject) -> ContentDamaged:
    return ContentDamaged(
        f"{remote.path}: what arrived is not what was uploaded.",
        remedy="Try again; if it stays so, the object is damaged in the store.",
    )


def _is_told_by_md5(found: RemoteObject) -> bool:
    """Tell whether an MD5 is the best that is known of a content."""
    return found.digest is None and found.md5 is not None
