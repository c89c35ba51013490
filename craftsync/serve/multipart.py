"""Multipart uploads under way, which are lost when the server stops.

Parts may arrive in any order, concurrently and repeatedly; the response to each
is its MD5. As in S3, the request that completes an upload lists its parts.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import md5
from itertools import pairwise
from secrets import token_hex
from typing import NamedTuple

from craftsync.clock import Clock
from craftsync.serve.content import Content, Extent, Scratch
from craftsync.serve.errors import Refused

LIFETIME_SECONDS = 86_400.0
"""How long an upload may be idle before it is dropped."""

ABANDONED_SECONDS = 3600.0
"""How long an upload must be idle before a new one may replace it when there are too many."""

MOST_UPLOADS = 256
"""Each uses a file descriptor, of which a process has 1024 by default."""

MOST_PARTS = 10_000
LARGEST_PART = 5 * 1024**3
"""Both as in S3 (AWS S3 user guide, "Multipart upload limits")."""


class ListedPart(NamedTuple):
    """A part as listed in the request that completes an upload."""

    number: int
    etag: str


class Part(NamedTuple):
    """A complete part; the ETag is its MD5, without quotes."""

    extent: Extent
    etag: str


class Upload:
    """One upload under way. Thread-safe."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.total: int | None = None
        self.scratch = Scratch()
        self.ending = threading.Lock()
        self._lock = threading.Lock()
        self._end = 0
        self._free: list[Extent] = []
        self._parts: dict[int, Part] = {}

    @contextmanager
    def receiving(self, number: int, length: int) -> Iterator[IncomingPart]:
        """Yield an `IncomingPart` for a part, which counts only once it is complete."""
        with self._lock:
            extent = self._room_for(length)
        arrival = IncomingPart(self.scratch, extent)
        unused: Extent | None = extent
        try:
            yield arrival
            arrival.ensure_whole()
            with self._lock:
                replaced = self._parts.get(number)
                self._parts[number] = Part(extent, arrival.etag())
            unused = replaced.extent if replaced else None
        finally:
            if unused is not None:
                with self._lock:
                    self._free.append(unused)

    def content(self, listed: Sequence[ListedPart]) -> Content:
        """Return the listed parts as one content; raises `Refused` (400) if they do not match those that arrived."""
        with self._lock:
            parts = dict(self._parts)
        numbers = [part.number for part in listed]
        if not numbers or any(after <= before for before, after in pairwise(numbers)):
            raise Refused(400, "InvalidPartOrder", "The parts are not listed in ascending order.")
        for part in listed:
            if part.number not in parts or parts[part.number].etag != part.etag.strip('"'):
                raise Refused(
                    400,
                    "InvalidPart",
                    f"Part {part.number} did not arrive, or is not the one listed.",
                )
        extents = [parts[number].extent for number in numbers]
        size = sum(extent.length for extent in extents)
        if self.total is not None and size != self.total:
            raise Refused(
                400, "IncompleteBody", f"The parts have {size} bytes of the {self.total} announced."
            )
        return Content(self.scratch, extents)

    def _room_for(self, length: int) -> Extent:
        """Return space for a part: that of a replaced or failed part, or else at the end of the file.

        While the upload is being completed, replaced parts may still be read.
        """
        if not self.ending.locked():
            for index, extent in enumerate(self._free):
                if extent.length == length:
                    return self._free.pop(index)
        self._end += length
        return Extent(self._end - length, length)


class IncomingPart:
    """A part being received; its bytes arrive in order, from one thread at a time."""

    def __init__(self, scratch: Scratch, extent: Extent) -> None:
        self._scratch = scratch
        self._extent = extent
        self._digest = md5(usedforsecurity=False)
        self._arrived = 0

    def feed(self, pieces: Sequence[bytes]) -> None:
        for piece in pieces:
            if self._arrived + len(piece) > self._extent.length:
                raise Refused(400, "IncompleteBody", "The part is longer than announced.")
            self._scratch.write_at(self._extent.offset + self._arrived, piece)
            self._digest.update(piece)
            self._arrived += len(piece)

    def ensure_whole(self) -> None:
        if self._arrived < self._extent.length:
            raise Refused(400, "IncompleteBody", "The part is shorter than announced.")

    def etag(self) -> str:
        return self._digest.hexdigest()


class Uploads:
    """All uploads under way. Thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[str, Upload] = {}
        self._touched: dict[str, float] = {}

    def begin(self, path: str) -> str:
        """Return the id of a new upload; raises `Refused` (503) when too many are under way.

        The upload that has been idle longest is dropped first, if it is abandoned.
        """
        with self._lock:
            if len(self._open) >= MOST_UPLOADS:
                self._drop_abandoned()
            if len(self._open) >= MOST_UPLOADS:
                raise Refused(
                    503,
                    "SlowDown",
                    f"There are {MOST_UPLOADS} unfinished uploads; try again once one has been idle for an hour.",
                    {"retry-after": "60"},
                )
            upload_id = token_hex(16)
            self._open[upload_id] = Upload(path)
            self._touched[upload_id] = self._clock.monotonic()
        return upload_id

    def find(self, upload_id: object, path: str) -> Upload:
        """Return the upload with that id and path; raises `Refused` (404) if there is none."""
        with self._lock:
            upload = self._open.get(upload_id) if isinstance(upload_id, str) else None
            if upload is None or upload.path != path:
                raise Refused(404, "NoSuchUpload", "No such upload.")
            self._touched[str(upload_id)] = self._clock.monotonic()
        return upload

    def drop(self, upload_id: str) -> None:
        with self._lock:
            self._open.pop(upload_id, None)
            self._touched.pop(upload_id, None)

    def _drop_abandoned(self) -> None:
        upload_id = min(self._touched, key=self._touched.__getitem__)
        if self._touched[upload_id] < self._clock.monotonic() - ABANDONED_SECONDS:
            del self._open[upload_id], self._touched[upload_id]

    def drop_stale(self) -> None:
        oldest = self._clock.monotonic() - LIFETIME_SECONDS
        with self._lock:
            stale = [upload_id for upload_id, at in self._touched.items() if at < oldest]
        for upload_id in stale:
            self.drop(upload_id)
