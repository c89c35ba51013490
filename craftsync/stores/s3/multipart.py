"""Multipart uploads and copies of large objects: resumed after a crash, aborted if they cannot be.

boto3's managed transfers are not used. They open the file by name for every part, so a file
replaced during the upload becomes an object that mixes two versions. Nor can they complete on a
condition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext, suppress
from hashlib import md5
from itertools import islice
from typing import NamedTuple

from craftsync.errors import StoreError, StoreUnavailable
from craftsync.hashing import is_md5
from craftsync.net.hosts import Host
from craftsync.net.http import Buffer
from craftsync.net.pace import Attempt, Pace
from craftsync.stores.base import Source, UnfinishedUpload, UploadJournal, pace_of
from craftsync.stores.s3.credentials import BODY_SHA256, UNSIGNED
from craftsync.stores.s3.errors import ChecksumWanted, Conflict, PartDamaged, UploadGone
from craftsync.stores.s3.objects import Condition, Digests, Original, begun_ns_of
from craftsync.stores.s3.requests import Calls
from craftsync.stores.sources import PartPool, briefly, gathered

MIB = 1024 * 1024
SMALLEST_PART = 8 * MIB
MOST_PARTS = 9_000
"""S3 allows 10,000 (AWS S3 user guide, "Multipart upload limits")."""

PARTS_AT_ONCE = 8
COPIED_PART = 256 * MIB
"""Large enough to be worth a request, small enough to copy several parts of an object at once."""


class Upload(NamedTuple):
    """An upload under way, with the versions of its finished parts by number."""

    id: str
    part_size: int
    parts: dict[int, str]


class Completed(NamedTuple):
    """A completed upload.

    `version` is empty if the server returned none. `is_proven`: the version is the ETag that
    Amazon computes from these parts.
    """

    version: str
    is_proven: bool


class _NoJournal:
    """An `UploadJournal` that records nothing."""

    def resume(self) -> None:
        return None

    def begin(self, upload_id: str, part_size: int) -> None:
        """Do nothing."""

    def part_done(self, number: int, version: str) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""


def _version_of(parts: Mapping[int, str]) -> str | None:
    """Return the ETag that Amazon computes from these parts; `None` if their versions are not MD5s."""
    versions = [parts[number] for number in sorted(parts)]
    if not all(map(is_md5, versions)):
        return None
    together = md5(bytes.fromhex("".join(versions)), usedforsecurity=False)
    return f"{together.hexdigest()}-{len(versions)}"


def part_size(size: int, smallest: int = SMALLEST_PART) -> int:
    """Return the part size for an object: `smallest`, or the whole number of MiB that it needs."""
    needed = -(-size // MOST_PARTS)
    return smallest if needed <= smallest else -(-needed // MIB) * MIB


class Uploads:
    """Sends objects in parts. The parts of all objects share one small pool, which limits the memory."""

    def __init__(self, calls: Calls, smallest_part: int, host: Host) -> None:
        """`host` is the host of `calls`; a stop cancels its requests."""
        self._calls = calls
        self._host = host
        self._smallest_part = smallest_part
        self._pool = PartPool(PARTS_AT_ONCE)
        self._buffers = _Buffers()
        self._names_others = False

    def send(
        self,
        key: str,
        source: Source,
        metadata: tuple[Mapping[str, str], Mapping[str, str]],
        condition: Callable[[], Condition],
        journal: UploadJournal | None,
    ) -> Completed:
        """Upload an object in parts and return its version.

        `metadata` is the object's headers that S3 keeps, and its metadata. `condition` is called
        just before the completion, so that its stat of the replaced object is recent. After a
        transient failure the parts stay, for the journal to resume. After any other the upload is
        aborted, and its bytes no longer count as moved.
        """
        notes = journal or _NoJournal()
        resumed = self._resumed(key, notes)
        upload = resumed or self._begun(key, source.size, metadata, notes)
        attempt = Attempt(pace_of(source))
        try:
            self._send_parts(key, upload, source, notes, attempt)
            source.verify()
            completed = self._completed(key, upload, condition(), notes)
            # A resumed upload has the metadata of the attempt that began it.
            return completed if resumed is None else completed._replace(is_proven=False)
        except BaseException as error:
            if journal is None or not _can_go_on(error):
                self._give_up(key, upload, error)
                attempt.undo()
            raise

    def copy(
        self,
        source: Original,
        target: str,
        metadata: tuple[Mapping[str, str], Mapping[str, str]],
        condition: Callable[[], Condition],
        journal: UploadJournal | None = None,
    ) -> str:
        """Copy an object in parts on the server and return its version.

        `metadata`, `condition` and failures as in `send`.
        """
        notes = journal or _NoJournal()
        headers, own = metadata
        upload = self._resumed(target, notes)
        if upload is None:
            step = max(COPIED_PART, part_size(source.size))
            upload = Upload(self._calls.begin_upload(target, own, headers), step, {})
            notes.begin(upload.id, step)
        try:
            self._copy_parts(target, upload, source, notes)
            return self._completed(target, upload, condition(), notes).version
        except BaseException as error:
            if journal is None or not _can_go_on(error):
                self._give_up(target, upload, error)
            raise

    def _completed(
        self, key: str, upload: Upload, condition: Condition, notes: UploadJournal | _NoJournal
    ) -> Completed:
        version = self._calls.complete_upload(key, upload.id, upload.parts, condition)
        notes.end()
        return Completed(version, bool(version) and version == _version_of(upload.parts))

    def _copy_parts(
        self, target: str, upload: Upload, source: Original, notes: UploadJournal | _NoJournal
    ) -> None:
        def copy(number: int, start: int) -> str:
            span = range(start, min(start + upload.part_size, source.size))
            version = self._calls.copy_part(target, upload.id, number, source, span)
            notes.part_done(number, version)
            return version

        self._gather(upload, self._missing(upload, source.size, copy))

    def _missing(
        self, upload: Upload, size: int, fill: Callable[[int, int], str]
    ) -> dict[int, Future[str]]:
        """Start to fill the parts that the upload lacks; `fill` is called with number and offset of each."""
        return {
            number: self._pool.submit(fill, number, offset)
            for number, offset in enumerate(range(0, size, upload.part_size), 1)
            if number not in upload.parts
        }

    def close(self) -> None:
        self._pool.close()

    def _begun(
        self,
        key: str,
        size: int,
        metadata: tuple[Mapping[str, str], Mapping[str, str]],
        journal: UploadJournal | _NoJournal,
    ) -> Upload:
        headers, own = metadata
        upload_id = self._calls.begin_upload(key, own, headers)
        upload = Upload(upload_id, part_size(size, self._smallest_part), {})
        journal.begin(upload.id, upload.part_size)
        return upload

    def _resumed(self, key: str, journal: UploadJournal | _NoJournal) -> Upload | None:
        """Return the upload in the journal, with the parts that both the journal and the server have."""
        remembered = journal.resume()
        if remembered is None:
            return None
        upload_id, size, parts = remembered
        try:
            arrived = self._calls.list_parts(key, upload_id)
        except UploadGone:
            return None
        agreed = {
            number: version
            for number, version in parts.items()
            if arrived.get(number, ("", 0))[0] == version
        }
        return Upload(upload_id, size, agreed)

    @property
    def _names_md5s(self) -> bool:
        """Whether the server returns each part's MD5, over a connection that no third party can alter.

        The MD5 is then compared here, so that the server need not check it as well.
        """
        calls = self._calls
        compares = calls.part_digests is Digests.MD5 and calls.md5_etags
        return compares and self._host.is_private and not self._names_others

    def _sent_part(
        self,
        key: str,
        upload: str,
        number: int,
        body: Buffer,
        pace: Pace,
        hashed: bytes | None,
    ) -> str:
        """Send a part and return its version; `hashed` is its MD5, if known.

        Raises `PartDamaged` if the server returns another MD5 than the part's.
        """
        if self._names_md5s:
            hashed = hashed or md5(body, usedforsecurity=False).digest()
            with suppress(ChecksumWanted), Attempt(pace) as attempt:
                headers = {BODY_SHA256: UNSIGNED}
                version = self._calls.put_part(key, upload, number, body, headers, attempt)
                if version == hashed.hex():
                    return version
                self._names_others = True
                raise PartDamaged(f"The store names another MD5 of part {number} of {key}.")
            self._names_others = True
        return self._calls.upload_part(key, upload, number, body, pace, hashed)

    def _send_parts(
        self,
        key: str,
        upload: Upload,
        source: Source,
        journal: UploadJournal | _NoJournal,
        pace: Pace,
    ) -> None:
        def send(number: int, offset: int) -> str:
            length = min(upload.part_size, source.size - offset)
            with self._buffers.read(source, offset, length) as body:
                hashed = _md5_of(source, offset, length)
                version = self._sent_part(key, upload.id, number, body, pace, hashed)
            journal.part_done(number, version)
            return version

        with self._buffers.in_use():
            self._gather(upload, self._missing(upload, source.size, send))

    def _gather(self, upload: Upload, futures: Mapping[int, Future[str]]) -> None:
        """Wait for the parts. If one fails, this raises after all others have ended."""
        versions = gathered([*futures.values()], self._host)
        upload.parts.update(zip(futures, versions, strict=True))

    def _give_up(self, key: str, upload: Upload, reason: BaseException) -> None:
        """Abort the upload. Its own failure is ignored: `reason` is about to be raised, and matters more."""
        stopped = isinstance(reason, KeyboardInterrupt)
        with briefly(self._host) if stopped else nullcontext(), suppress(StoreError):
            self._calls.abort_upload(key, upload.id)


class _Buffers:
    """Memory for parts, reused while any upload is under way. Thread-safe.

    Otherwise the kernel maps and clears memory for each part: a file of 256 MiB causes 73,000 page
    faults instead of 23,000, and 0.34 s in the kernel instead of 0.24.
    """

    def __init__(self) -> None:
        self._free: list[bytearray] = []
        self._users = set[object]()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the memory until this block, and those of all other uploads, have ended."""
        user = object()
        self._users.add(user)
        try:
            yield
        finally:
            self._users.discard(user)
            if not self._users:
                self._free.clear()

    @contextmanager
    def read(self, source: Source, offset: int, length: int) -> Iterator[bytes | memoryview]:
        """Yield a part of a source, in reused memory if the source can read into it."""
        read_into: Callable[[int, memoryview], None] | None = getattr(source, "read_into", None)
        if read_into is None or length < MIB:
            yield source.read_at(offset, length)
            return
        try:
            buffer = self._free.pop()
        except IndexError:
            buffer = bytearray()
        if len(buffer) < length:
            buffer = bytearray(length)
        try:
            body = memoryview(buffer)[:length]
            read_into(offset, body)
            yield body
        finally:
            self._free.append(buffer)


def _md5_of(source: Source, offset: int, length: int) -> bytes | None:
    """Return the MD5 of a part just read, if the source computes it anyway (`migrate.stream.Stream`)."""
    part_md5: Callable[[int, int], bytes | None] | None = getattr(source, "part_md5", None)
    return None if part_md5 is None else part_md5(offset, length)


def _can_go_on(error: BaseException) -> bool:
    """Return whether the upload may still succeed later: not after a conflict, refusal or damaged part."""
    if isinstance(error, Conflict | UploadGone | PartDamaged):
        return False
    return isinstance(error, StoreUnavailable) or not isinstance(error, Exception)


def unfinished(calls: Calls, root: str, *, most: int, sized: int) -> list[UnfinishedUpload]:
    """Return the unfinished uploads below a prefix, as `Store.unfinished_uploads` does."""
    found = islice(calls.list_uploads(root), most)
    return [
        UnfinishedUpload(
            key.removeprefix(root),
            begun_ns_of(begun),
            _size_so_far(calls, key, upload) if number < sized else None,
        )
        for number, (key, upload, begun) in enumerate(found)
    ]


def _size_so_far(calls: Calls, key: str, upload: str) -> int | None:
    """Return the bytes of an upload's parts; `None` if it has ended or its parts may not be listed."""
    try:
        return sum(size for _, size in calls.list_parts(key, upload).values())
    except UploadGone:
        return None
    except StoreUnavailable:
        raise
    except StoreError:
        return None
