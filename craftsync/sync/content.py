"""Content on its way between the two sides: read from the root, fetched from the store.

Every byte is counted against the rate limits and hashed; nothing here decides
or commits.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TypeVar

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
from craftsync.pace import Attempt, Pace
from craftsync.stores.base import Store
from craftsync.sync.limiter import Hashing, Limiter

WHOLE = 16 << 20
"""Bytes up to which a file is read, or an object fetched, in one piece."""
PART = 16 << 20
"""Bytes in each part of a larger download."""
_ATTEMPTS = 3
"""How often the body of one request is asked for again when it breaks off."""


class RootSource:
    """A file of the root as content for a store: hashed, checked for changes, sent at the pace of all uploads.

    A small file is read once, so that what was hashed is what is sent.
    """

    def __init__(self, file: OpenFile, pace: Pace, hashing: Hashing) -> None:
        self._file = file
        self.pace = pace
        self.size = file.file.size
        self.mtime_ns: int | None = file.file.mtime_ns
        self._content = file.read_at(0, self.size) if self.size <= WHOLE else None
        if self._content is None:
            hashing.file()
            self.digest = file.digest(hashing.read)
        else:
            self.digest = fed(sha256(), self._content).digest()

    def read_at(self, offset: int, length: int) -> bytes:
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

    temporary: str | None
    """Its name; `None` for one that no later run goes on with."""
    parts: frozenset[int]
    part_done: Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Brings objects into temporary files of the root."""

    root: Folder
    store: Store
    limiter: Limiter
    part_pool: Executor
    hashing: Hashing = field(default_factory=Hashing)

    def fetch(
        self, remote: RemoteObject, partial: PartialDownload | None
    ) -> tuple[Temporary, RemoteObject, bytes]:
        """Return the object in an open temporary file, its full description, and its digest.

        Raises `PreconditionFailed` or `ObjectNotFound` when it is not the one
        that was listed, `ContentDamaged` when what arrived is not what the
        store has. An unfinished large download keeps its temporary file for the
        next try, unless the disk is full (`NoSpace`) or it has no name (`partial`).
        """
        if remote.size <= WHOLE or not self.store.features.ranges:
            return self._fetch_whole(remote)
        if partial is None:
            partial = PartialDownload(None, frozenset(), _noted_nowhere)
        temporary = self.root.temporary(partial.temporary, size=remote.size)
        try:
            found, digest = self._fetch_parts(remote, temporary, partial)
            _check(remote, found, digest, temporary.size())
        except (PreconditionFailed, ObjectNotFound, ContentDamaged, NoSpace):
            temporary.discard()
            raise
        except BaseException:
            if partial.temporary is None:
                temporary.discard()
            else:
                temporary.close()
            raise
        return temporary, found, digest

    def _fetch_whole(self, remote: RemoteObject) -> tuple[Temporary, RemoteObject, bytes]:
        temporary = self.root.temporary(size=remote.size)
        try:
            return temporary, *_tried(lambda: self._fetch_into(temporary, remote))
        except BaseException:
            temporary.discard()
            raise

    def _fetch_into(self, temporary: Temporary, remote: RemoteObject) -> tuple[RemoteObject, bytes]:
        hashed, offset = sha256(), 0
        with Attempt(self.limiter.pace_for(remote.size)) as attempt:
            with self.store.read(remote.path, expect=remote) as reader:
                for chunk in reader:
                    attempt.count(len(chunk))
                    attempt.take(len(chunk))
                    fed(hashed, chunk)
                    temporary.write_at(offset, chunk)
                    offset += len(chunk)
                found = reader.object
            digest = hashed.digest()
            _check(remote, found, digest, offset)
        return found, digest

    def _fetch_parts(
        self, remote: RemoteObject, temporary: Temporary, partial: PartialDownload
    ) -> tuple[RemoteObject, bytes]:
        """Fetch what is missing, several parts at once, and hash each part while later ones are on their way.

        When a part fails, this returns only after the others have ended: none
        may write to a file that is closed by then.
        """
        given_up = threading.Event()

        def fetch_part(number: int) -> RemoteObject | None:
            if number in partial.parts or given_up.is_set():
                return None
            try:
                found = self._fetch_part(remote, temporary, number, given_up)
            except BaseException:
                given_up.set()
                raise
            partial.part_done(number)
            return found

        # Where the first part has to be fetched, its answer describes the object.
        described = self._described(remote) if 0 in partial.parts else None
        numbers = range(-(-remote.size // PART))
        parts = [self.part_pool.submit(fetch_part, number) for number in numbers]
        try:
            described, digest, md5 = _hashed(parts, temporary, described)
        except _GivenUp as error:
            raise _first_error(parts) from error
        finally:
            given_up.set()
            for part in parts:
                part.cancel()
            wait(parts)
        if _is_told_by_md5(described) and md5 != described.md5:
            self._read_again(remote, digest)
        return described, digest

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

    def _fetch_part(
        self, remote: RemoteObject, temporary: Temporary, number: int, given_up: threading.Event
    ) -> RemoteObject:
        offset = number * PART
        length = min(PART, remote.size - offset)

        def fetch() -> RemoteObject:
            with (
                Attempt(self.limiter) as attempt,
                self.store.read(remote.path, expect=remote, offset=offset, length=length) as reader,
            ):
                at = offset
                for chunk in reader:
                    attempt.count(len(chunk))
                    attempt.take(len(chunk))
                    if given_up.is_set():
                        raise _GivenUp
                    temporary.write_at(at, chunk)
                    at += len(chunk)
                return reader.object

        return _tried(fetch)

    def digest(self, remote: RemoteObject) -> bytes:
        """Return the digest of an object's content: as the store knows it, else by reading it all."""
        found = self.store.stat(remote.path)
        if found is not None and found.digest is not None:
            return found.digest
        return self.read_digest(remote)

    def holds_bytes_of(self, file: OpenFile, remote: RemoteObject) -> bool:
        """Tell whether an object of the size of a file has its bytes; reads both, up to the first difference.

        The object is read in ranges, for which no MD5 is asked: bytes that
        agree need no other proof.
        """
        step = min(PART, -(-remote.size // 2))
        return all(
            self._same_range(file, remote, offset, min(step, remote.size - offset))
            for offset in range(0, remote.size, step)
        )

    def _same_range(self, file: OpenFile, remote: RemoteObject, offset: int, length: int) -> bool:
        def compare() -> bool:
            at = offset
            with self.store.read(
                remote.path, expect=remote, offset=offset, length=length
            ) as reader:
                for chunk in reader:
                    self.limiter.take(len(chunk))
                    if file.read_at(at, len(chunk)) != chunk:
                        return False
                    at += len(chunk)
            return True

        return _tried(compare)

    def read_digest(self, remote: RemoteObject) -> bytes:
        """Return the digest of an object's content by reading all of it; a body that breaks off is resumed."""
        content, offset, failures = sha256(), 0, 0
        while True:
            try:
                with self.store.read(remote.path, expect=remote, offset=offset) as reader:
                    for chunk in reader:
                        self.limiter.take(len(chunk))
                        self.hashing.read(len(chunk))
                        content.update(chunk)
                        offset, failures = offset + len(chunk), 0
                return content.digest()
            except StoreUnavailable:
                failures += 1
                if failures == _ATTEMPTS or (offset and not self.store.features.ranges):
                    raise


def _hashed(
    parts: Sequence[Future[RemoteObject | None]],
    temporary: Temporary,
    described: RemoteObject | None,
) -> tuple[RemoteObject, bytes, bytes]:
    """Hash the parts in order, each once it is there; return the object's description, its SHA-256 and its MD5.

    The MD5 is that of nothing where nothing is to be compared with it.
    """
    digest, md5 = sha256(), hashlib.md5(usedforsecurity=False)
    for number, part in enumerate(parts):
        described = part.result() or described
        assert described is not None
        for block in _blocks(temporary, number * PART):
            digest.update(block)
            if _is_told_by_md5(described):
                md5.update(block)
    assert described is not None
    return described, digest.digest(), md5.digest()


class _GivenUp(Exception):
    """A part ends because another one failed."""


def _first_error(parts: Iterable[Future[RemoteObject | None]]) -> BaseException:
    """Return why the parts of an object were given up, once all have ended."""
    errors = [error for part in wait(parts).done if (error := part.exception())]
    return next(error for error in errors if not isinstance(error, _GivenUp))


_Got = TypeVar("_Got")


def _tried(fetch: Callable[[], _Got]) -> _Got:
    """Return what a request brings, made again when its body breaks off."""
    for _ in range(_ATTEMPTS - 1):
        with suppress(StoreUnavailable):
            return fetch()
    return fetch()


def _noted_nowhere(part: int) -> None:
    """Forget that a part is there: its file has no name to be found by."""


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
