"""Moves content: reads files of the folder for uploads, downloads objects into temporary files.

Every byte is hashed and counted against the rate limits. Nothing here decides, or puts files
in place."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from io import BytesIO
from typing import NamedTuple, TypeVar

from craftsync.core.model import RemoteObject
from craftsync.errors import (
    ContentDamaged,
    CraftsyncError,
    NoSpace,
    ObjectNotFound,
    PathBusy,
    PreconditionFailed,
    StoreUnavailable,
)
from craftsync.hashing import Hash, update_in_place
from craftsync.local.files import BLOCK, OpenFile
from craftsync.local.folder import Folder
from craftsync.local.temporary import Temporary
from craftsync.net.pace import Attempt, Hashing, Limiter, Pace
from craftsync.stores.base import Reader, Store
from craftsync.stores.sources import workers

WHOLE = 16 << 20
"""Up to this many bytes, a file is read and an object downloaded in one piece."""
PART = 16 << 20
"""Bytes in each part of a larger download."""
ATTEMPTS = 3
"""The most requests for one body that keeps breaking off."""


class RootSource:
    """A file of the folder as the content of an upload: hashed, checked for changes, rate-limited.

    A small file is read once, so the bytes sent are the bytes hashed. `verify` reads a file
    again that is `in_writing` (`OpenFile.may_still_be_written`).
    """

    def __init__(
        self, file: OpenFile, pace: Pace, hashing: Hashing, *, in_writing: bool = False
    ) -> None:
        self._file = file
        self._in_writing = in_writing
        self.pace = pace
        self.size = file.file.size
        self.mtime_ns: int | None = file.file.mtime_ns
        self._content = file.read_at(0, self.size) if self.size <= WHOLE else None
        if self._content is None:
            hashing.file()
            self.digest = file.digest(hashing.read)
        else:
            self.digest = update_in_place(sha256(), self._content).digest()

    def read_at(self, offset: int, length: int) -> bytes:
        if self._content is None:
            return self._file.read_at(offset, length)
        if length == self.size:
            return self._content
        return self._content[offset : offset + length]

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill a buffer with the bytes from `offset`."""
        self._file.read_into(offset, buffer)

    def verify(self) -> None:
        self._file.verify()
        if self._in_writing and self._file.digest() != self.digest:
            raise PathBusy(f"{self._file.file.path}: another program is writing to it")


@dataclass(frozen=True, slots=True)
class PartialDownload:
    """A large download: its temporary file, its finished parts, and a callback for further ones."""

    temporary: str | None
    """The name of the temporary file; `None` if no later run can resume the download."""
    parts: frozenset[int]
    part_done: Callable[[int], None]


@dataclass(slots=True)
class Fetched:
    """A downloaded object in an open temporary file, with its full description and its digest.

    `bytes_read_before` bytes of it were read to compare, and not counted as transferred.
    """

    temporary: Temporary
    found: RemoteObject
    digest: bytes
    bytes_read_before: int = 0
    _is_taken: bool = False

    def take(self) -> Temporary:
        """Return the file. From now on the caller must close it."""
        self._is_taken = True
        return self.temporary

    def discard(self) -> None:
        """Remove the file, unless it was taken."""
        if not self._is_taken:
            self.temporary.discard()

    @contextmanager
    def discarded_after_an_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.discard()
            raise


class Comparison(NamedTuple):
    """The result of comparing an object with a file of its size.

    `digest` is the object's, if all of it was read. `fetched` is the object, if it differs and
    was kept.
    """

    is_same: bool
    digest: bytes | None = None
    fetched: Fetched | None = None


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Downloads objects into temporary files of the folder."""

    root: Folder
    store: Store
    limiter: Limiter
    part_pool: Executor
    hashing: Hashing = field(default_factory=Hashing)

    def fetch(self, remote: RemoteObject, partial: PartialDownload | None) -> Fetched:
        """Return the object in an open temporary file.

        Raises `PreconditionFailed` or `ObjectNotFound` if the store no longer holds the listed
        version, `ContentDamaged` if the received bytes are not the uploaded ones. An unfinished
        large download keeps its temporary file for the next run, unless the disk is full
        (`NoSpace`) or `partial` has no name for the file.
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
        return Fetched(temporary, found, digest)

    def _fetch_whole(self, remote: RemoteObject) -> Fetched:
        temporary = self.root.temporary(size=remote.size)
        try:
            return Fetched(temporary, *_tried(lambda: self._fetch_into(temporary, remote)))
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
                    update_in_place(hashed, chunk)
                    temporary.write_at(offset, chunk)
                    offset += len(chunk)
                found = reader.object
            digest = hashed.digest()
            _check(remote, found, digest, offset)
        return found, digest

    def _fetch_parts(
        self, remote: RemoteObject, temporary: Temporary, partial: PartialDownload
    ) -> tuple[RemoteObject, bytes]:
        """Download the missing parts, several at once, and hash each while later ones arrive.

        If a part fails, raise only after the others have ended: none may write to a closed file.
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

        # Otherwise the response to the first part describes the object.
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
        if _has_only_md5(described) and md5 != described.md5:
            self._read_again(remote, digest)
        return described, digest

    def _read_again(self, remote: RemoteObject, digest: bytes) -> None:
        """Read again, in one piece, an object whose MD5 does not match; raise unless both reads agree.

        The reader of a whole object detects whether its MD5 is reliable.
        """
        if self.read_digest(remote) != digest:
            raise _damaged(remote)

    def _described(self, remote: RemoteObject) -> RemoteObject:
        """Return the description of an object whose first part is downloaded; raise if it changed."""
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
                temporary.start_writing(offset, length)
                return reader.object

        return _tried(fetch)

    def digest(self, remote: RemoteObject) -> bytes:
        """Return the digest of an object: as the store reports it, else by reading all of it."""
        return self.known_digest(remote) or self.read_digest(remote)

    def known_digest(self, remote: RemoteObject) -> bytes | None:
        """Return the digest that the store reports for an object, or `None`."""
        found = self.store.stat(remote.path)
        return None if found is None else found.digest

    def compare_with(self, remote: RemoteObject, file: OpenFile, *, keep: bool) -> Comparison:
        """Compare an object with a file of its size, reading each once.

        If they differ, `keep` saves the object in a temporary file; without it, reading ends at
        the first part that differs. Nothing is written while they are equal. A small object is
        read in one piece, so that the reader detects whether its MD5 is reliable. Parts need no
        MD5: they are compared with the file's bytes.
        """
        ranges = self.store.features.ranges
        if remote.size > WHOLE and not ranges:
            digest = self.read_digest(remote)
            return Comparison(digest == file.digest(self.hashing.read), digest)
        if remote.size <= WHOLE:
            try:
                return self._compare_whole(remote, file, keep=keep)
            except ContentDamaged:
                if not ranges:
                    raise
        return self._compare_parts(remote, file, keep=keep)

    def _compare_whole(self, remote: RemoteObject, file: OpenFile, *, keep: bool) -> Comparison:
        content, reader = body_of(self.store, remote, self._take)
        digest = update_in_place(sha256(), content).digest()
        if _is_in(file, 0, content):
            return Comparison(True, digest)
        _check(remote, reader.object, digest, len(content))
        if not keep:
            return Comparison(False, digest)
        temporary = self.root.temporary(size=remote.size)
        fetched = Fetched(temporary, reader.object, digest, remote.size)
        with fetched.discarded_after_an_error():
            fetched.temporary.write_at(0, content)
        return Comparison(False, digest, fetched)

    def _compare_parts(self, remote: RemoteObject, file: OpenFile, *, keep: bool) -> Comparison:
        step, hashed = min(PART, -(-remote.size // 2)), sha256()
        for offset in range(0, remote.size, step):
            length = min(step, remote.size - offset)
            part, _ = body_of(self.store, remote, self._take, (offset, length))
            if _is_in(file, offset, part):
                update_in_place(hashed, part)
                continue
            if not keep or step < PART:
                return Comparison(False)
            fetched = self._fetch_rest(remote, file, (offset, hashed.digest()), part)
            return Comparison(False, fetched.digest, fetched)
        return Comparison(True, hashed.digest())

    def _take(self, size: int) -> None:
        self.limiter.take(size)
        self.hashing.read(size)

    def _fetch_rest(
        self, remote: RemoteObject, file: OpenFile, equal: tuple[int, bytes], next_part: bytes
    ) -> Fetched:
        """Download an object that begins like the file, copying the equal bytes from the file.

        `equal` is the number of equal bytes and their digest. `next_part`, the bytes after
        them, has been read already.
        """
        equal_bytes, equal_digest = equal
        temporary, copied = self.root.temporary(size=remote.size), sha256()
        fetched = Fetched(temporary, remote, equal_digest, equal_bytes + len(next_part))
        with fetched.discarded_after_an_error():
            for offset in range(0, equal_bytes, BLOCK):
                block = file.read_at(offset, min(BLOCK, equal_bytes - offset))
                temporary.write_at(offset, block)
                copied.update(block)
            if copied.digest() != equal_digest:
                raise PathBusy(f"{remote.path}: changed in the folder while it was compared")
            temporary.write_at(equal_bytes, next_part)
            parts = frozenset(range(equal_bytes // PART + 1))
            read = PartialDownload(None, parts, _noted_nowhere)
            fetched.found, fetched.digest = self._fetch_parts(remote, temporary, read)
            _check(remote, fetched.found, fetched.digest, temporary.size())
        return fetched

    def read_digest(self, remote: RemoteObject) -> bytes:
        """Return the digest of an object's content by reading all of it."""
        return digest_of(self.store, remote, self.limiter, self.hashing)


def body_of(
    store: Store,
    found: RemoteObject,
    take: Callable[[int], object],
    span: tuple[int, int | None] = (0, None),
    *,
    failures: tuple[type[CraftsyncError], ...] = (StoreUnavailable,),
) -> tuple[bytes, Reader]:
    """Read an object, or `span` of it (offset, length), into memory; return it and its reader.

    `take` is called with the size of each piece. A request that raises one of `failures` is
    repeated, up to `ATTEMPTS` in all.
    """

    def read() -> tuple[bytes, Reader]:
        offset, length = span
        with store.read(found.path, expect=found, offset=offset, length=length) as reader:
            # A list of chunks would hold every byte twice while it is joined.
            gathered = BytesIO()
            for chunk in reader:
                take(len(chunk))
                gathered.write(chunk)
            return gathered.getvalue(), reader

    return _tried(read, failures)


def digest_of(
    store: Store, found: RemoteObject, limiter: Limiter, hashing: Hashing | None = None
) -> bytes:
    """Return the digest of an object by reading all of it, one piece at a time in memory.

    A body that breaks off is resumed where it ended; a store without ranges raises instead.
    """
    digest, offset, failures = sha256(), 0, 0
    while True:
        try:
            with store.read(found.path, expect=found, offset=offset) as reader:
                for chunk in reader:
                    limiter.take(len(chunk))
                    if hashing is not None:
                        hashing.read(len(chunk))
                    update_in_place(digest, chunk)
                    offset, failures = offset + len(chunk), 0 if chunk else failures
            if offset != found.size:
                raise PreconditionFailed(f"{found.path} has changed.")
            return digest.digest()
        except StoreUnavailable:
            failures += 1
            if failures == ATTEMPTS or (offset and not store.features.ranges):
                raise


def _hashed(
    parts: Sequence[Future[RemoteObject | None]],
    temporary: Temporary,
    described: RemoteObject | None,
) -> tuple[RemoteObject, bytes, bytes]:
    """Hash the parts in order as they arrive; return the object's description, SHA-256 and MD5.

    The MD5 is computed only if the store reports no better checksum, which may begin with a later
    part. It has a thread of its own, because it takes longer than the SHA-256.
    """
    digest, md5, md5_end = sha256(), hashlib.md5(usedforsecurity=False), 0

    def update(hashed: Hash, first: int, end: int) -> None:
        for block in temporary.blocks(first * PART, (end - first) * PART):
            hashed.update(block)

    with workers(1, "md5") as beside:
        for number, part in enumerate(parts):
            described = part.result() or described
            assert described is not None
            first, md5_end = md5_end, number + 1 if _has_only_md5(described) else md5_end
            second = beside.submit(update, md5, first, md5_end) if first < md5_end else None
            update(digest, number, number + 1)
            if second is not None:
                second.result()
    assert described is not None
    return described, digest.digest(), md5.digest()


def _is_in(file: OpenFile, offset: int, content: bytes) -> bool:
    """Return whether a file holds these bytes at an offset."""
    view = memoryview(content)
    return all(
        view[at : at + BLOCK] == file.read_at(offset + at, min(BLOCK, len(view) - at))
        for at in range(0, len(view), BLOCK)
    )


class _GivenUp(Exception):
    """A part was cancelled because another failed."""


def _first_error(parts: Iterable[Future[RemoteObject | None]]) -> BaseException:
    """Wait for all parts, and return the error that cancelled the others."""
    errors = [error for part in wait(parts).done if (error := part.exception())]
    return next(error for error in errors if not isinstance(error, _GivenUp))


_Got = TypeVar("_Got")


def _tried(
    fetch: Callable[[], _Got], failures: tuple[type[CraftsyncError], ...] = (StoreUnavailable,)
) -> _Got:
    """Return the result of a request. Repeat the request if its body breaks off."""
    for left in range(ATTEMPTS - 1, -1, -1):
        try:
            return fetch()
        except failures:
            if not left:
                raise
    raise AssertionError  # The last try returns or raises.


def _noted_nowhere(part: int) -> None:
    """Record nothing: no later run can find a temporary file without a name."""


def _check(remote: RemoteObject, found: RemoteObject, digest: bytes, size: int) -> None:
    """Raise `ContentDamaged` unless the bytes have the listed size and the uploaded digest, if known."""
    if size != remote.size or found.digest not in (None, digest):
        raise _damaged(remote)


def _damaged(remote: RemoteObject) -> ContentDamaged:
    return ContentDamaged(
        f"{remote.path}: what arrived is not what was uploaded.",
        remedy="Try again; if it stays so, the object is damaged in the store.",
    )


def _has_only_md5(found: RemoteObject) -> bool:
    """Return whether the MD5 is the best checksum that the store reports."""
    return found.digest is None and found.md5 is not None
