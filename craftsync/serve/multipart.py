"""Uploads in parts, until they are put together: what is here of them is gone when the server stops.

Parts come in any order, several at once, and again; each answers with its MD5.
As in S3, an upload says at its end which parts it is made of.
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
"""How long an upload may rest between two requests before it is dropped."""

ABANDONED_SECONDS = 3600.0
"""How long an upload must have rested before a new one may take its place when there are too many."""

MOST_UPLOADS = 256
"""Each holds a descriptor, of which a process has 1024 unless told otherwise."""

MOST_PARTS = 10_000
LARGEST_PART = 5 * 1024**3
"""Both as in S3 (AWS S3 user guide, "Multipart upload limits")."""


class ListedPart(NamedTuple):
    """A part as the end of an upload names it."""

    number: int
    etag: str


class Part(NamedTuple):
    """A part that arrived whole; the ETag is its MD5, without quotes."""

    extent: Extent
    etag: str


class Upload:
    """One upload under way. All methods may be called from several threads."""

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
    def receiving(self, number: int, length: int) -> Iterator[Arrival]:
        """Give room for a part; it counts as arrived only when all of it did."""
        with self._lock:
            extent = self._room_for(length)
        arrival = Arrival(self.scratch, extent)
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
        """Return the parts that are listed as one content; raises `Refused` (400) if they are not what arrived."""
        with self._lock:
            parts = dict(self._parts)
        numbers = [part.number for part in listed]
        if not numbers or any(after <= before for before, after in pairwise(numbers)):
            raise Refused(400, "InvalidPartOrder", "The parts are not listed in rising order.")
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
        """Use the room of a part that was sent again or broke off, or else more of the file.

        While the upload is put together, what was just replaced is still being read.
        """
        if not self.ending.locked():
            for index, extent in enumerate(self._free):
                if extent.length == length:
                    return self._free.pop(index)
        self._end += length
        return Extent(self._end - length, length)


class Arrival:
    """A part being received; its bytes come in order, from one thread at a time."""

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
    """All uploads under way. All methods may be called from several threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[str, Upload] = {}
        self._touched: dict[str, float] = {}

    def begin(self, path: str) -> str:
        """Return the id of a new upload; raises `Refused` (503) when too many are under way.

        Before that, the one that rested longest makes room, if it was abandoned.
        """
        with self._lock:
            if len(self._open) >= MOST_UPLOADS:
                self._drop_abandoned()
            if len(self._open) >= MOST_UPLOADS:
                raise Refused(
                    503,
                    "SlowDown",
                    f"There are {MOST_UPLOADS} unfinished uploads; one that rests for an hour makes room.",
                    {"retry-after": "60"},
                )
            upload_id = token_hex(16)
            self._open[upload_id] = Upload(path)
            self._touched[upload_id] = self._clock.monotonic()
        return upload_id

    def find(self, upload_id: object, path: str) -> Upload:
        """Return the upload of that id to that path; raises `Refused` (404) when there is none."""
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
