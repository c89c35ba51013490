"""Received content, including that of a form (S3's browser-based upload), and changes to the store.

Content is held in memory or in an unnamed temporary file (in TMPDIR), so a crash
leaves nothing. A change keeps what it replaces, and is durable before the
response.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import accumulate
from secrets import token_hex
from tempfile import TemporaryFile
from typing import NamedTuple, ParamSpec, TypeVar

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from craftsync.clock import Clock, stamp
from craftsync.core.model import RemoteObject
from craftsync.core.paths import is_own
from craftsync.errors import PathBusy
from craftsync.serve.errors import Refused
from craftsync.stores.base import Source, Store
from craftsync.stores.sources import kept
from craftsync.stores.trash_copies import left_in_trash

BLOCK = 1024 * 1024


class Extent(NamedTuple):
    """A range of bytes in a temporary file."""

    offset: int
    length: int


class Scratch:
    """An unnamed temporary file, written at given offsets. Thread-safe.

    It is closed only when it is garbage-collected, so that a late write never
    uses a descriptor that now belongs to another file.
    """

    def __init__(self) -> None:
        with TemporaryFile(buffering=0) as file:
            self.descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self.descriptor)

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        with memoryview(data) as rest:
            written = 0
            while written < len(rest):
                written += os.pwrite(self.descriptor, rest[written:], offset + written)

    def read_at(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes."""
        return os.pread(self.descriptor, length, offset)


class SmallScratch:
    """As `Scratch`, but in memory while the content is small, and for one thread at a time."""

    def __init__(self) -> None:
        self._memory = bytearray()
        self._file: Scratch | None = None

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        if self._file is None and offset + len(data) > BLOCK:
            self._file = Scratch()
            self._file.write_at(0, bytes(self._memory))
            self._memory.clear()
        if self._file is not None:
            self._file.write_at(offset, data)
        else:
            # Gaps are zeros, as in a file.
            self._memory += bytes(max(0, offset - len(self._memory)))
            self._memory[offset : offset + len(data)] = data

    def read_at(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes."""
        if self._file is not None:
            return self._file.read_at(offset, length)
        return bytes(self._memory[offset : offset + length])


class Content:
    """Received extents, concatenated. Implements `stores.base.Source`."""

    mtime_ns: int | None = None

    def __init__(self, scratch: Scratch | SmallScratch, extents: Sequence[Extent]) -> None:
        self._scratch = scratch
        self._extents = extents
        self._ends = list(accumulate(extent.length for extent in extents))
        self.size = self._ends[-1] if extents else 0
        self._digest: bytes | None = None

    @property
    def digest(self) -> bytes:
        """The SHA-256, computed at first use because not every store needs it."""
        if self._digest is None:
            digest = sha256()
            for offset in range(0, self.size, BLOCK):
                digest.update(self.read_at(offset, min(BLOCK, self.size - offset)))
            self._digest = digest.digest()
        return self._digest

    def read_at(self, offset: int, length: int) -> bytes:
        content = b"".join(self._pieces(offset, length))
        if len(content) < length:
            raise PathBusy("A temporary file of the server became shorter.")
        return content

    def verify(self) -> None:
        """Do nothing: no other program can change the content."""

    def _pieces(self, offset: int, length: int) -> Iterator[bytes]:
        index = bisect_right(self._ends, offset)
        while length and index < len(self._extents):
            extent = self._extents[index]
            within = offset - (self._ends[index] - extent.length)
            count = min(length, extent.length - within)
            yield self._scratch.read_at(extent.offset + within, count)
            offset, length, index = offset + count, length - count, index + 1


OnKept = Callable[[str, str, int], None]
"""Called with (stamp, path, size in bytes) of a version moved to the store's trash, from any thread."""


def note_nothing(stamp: str, path: str, size: int) -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class StoreWriter:
    """Writes and deletes in one store. Thread-safe."""

    store: Store
    clock: Clock
    note: OnKept = note_nothing

    def write(self, path: str, content: Source) -> RemoteObject:
        with self._keeping(path) as keep:
            written = self.store.write(
                path, content, expect=None, operation=token_hex(16), trash_stamp=keep
            )
        return self.store.barrier().get(path, written)

    def delete(self, path: str) -> None:
        """Delete an object; does nothing if it is absent."""
        with self._keeping(path) as keep:
            self.store.delete(path, expect=None, trash_stamp=keep)
        self.store.barrier()

    @contextmanager
    def _keeping(self, path: str) -> Iterator[str | None]:
        """Yield the trash stamp for what a change replaces or deletes; record what it moved to the trash."""
        keep = self._keep(path)
        try:
            yield keep
            self._note(path, keep)
        finally:
            with left_in_trash(self.store) as copies:
                for copy in copies:
                    self.note(*copy)

    def _keep(self, path: str) -> str | None:
        """Return the trash stamp for what is replaced or deleted.

        `None` in craftsync's own folder: otherwise, the trash could never be emptied.
        """
        return None if is_own(path) else stamp(self.clock)

    def _note(self, path: str, keep: str | None) -> None:
        if keep is not None and (version := kept(self.store, keep, path)):
            self.note(keep, path, version.size)


P = ParamSpec("P")
T = TypeVar("T")

_MOST = 40
_pool = ThreadPoolExecutor(_MOST, thread_name_prefix="store")


async def in_thread(call: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
    """Run a call in another thread and return its result.

    Starlette's run_in_threadpool takes twice the processor time (150 to 200
    microseconds instead of 60 to 100), for a cancellation that store calls do
    not support.
    """
    return await asyncio.get_running_loop().run_in_executor(_pool, partial(call, *args, **named))


_FILE = "file"
_FIELDS_LIMIT = 64 * 1024
"""The most bytes of all fields together, including their headers."""


class Form:
    """Parses a multipart/form-data body in pieces; used by one thread at a time.

    `permit` is called once with the fields, before the first byte of the file is
    written, and raises if they do not permit it. Fields after the file are
    ignored, as in S3.
    """

    def __init__(
        self,
        content_type: str,
        scratch: SmallScratch,
        permit: Callable[[Mapping[str, str]], None],
    ) -> None:
        """Raises `Refused` (400) when the Content-Type is not that of a form."""
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not boundary:
            raise _malformed("the body is not multipart/form-data")
        self.fields: dict[str, str] = {}
        self._permit = permit
        self._scratch = scratch
        self._size = 0
        self._room = _FIELDS_LIMIT
        self._name, self._value, self._header = "", bytearray(), bytearray()
        self._disposition = b""
        self._file_complete = self._complete = False
        self._parser = _parser(boundary, self)

    def feed(self, pieces: Sequence[bytes]) -> None:
        """Parse the next pieces of the body; raises `Refused` (400) when they are malformed."""
        try:
            for piece in pieces:
                self._parser.write(piece)
        except FormParserError as error:
            raise _malformed(str(error)) from error

    def content(self) -> Content:
        """Return the file; raises `Refused` (400) if the form is incomplete or has no file."""
        if not self._complete:
            raise _malformed("it ends early")
        if not self._file_complete:
            raise _malformed("it has no file")
        return Content(self._scratch, [Extent(0, self._size)])

    def on_part_begin(self) -> None:
        self._name, self._disposition = "", b""
        self._value.clear()

    def on_header_begin(self) -> None:
        self._header.clear()

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._spend(end - start)
        self._header += data[start:end].lower()

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._spend(end - start)
        if self._header == b"content-disposition":
            self._disposition += data[start:end]

    def on_headers_finished(self) -> None:
        name = parse_options_header(self._disposition)[1].get(b"name", b"")
        self._name = name.decode(errors="replace")
        if self._name == _FILE:
            if self._file_complete:
                raise _malformed("it has two files")
            self._permit(self.fields)

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._name == _FILE:
            with memoryview(data)[start:end] as piece:
                self._scratch.write_at(self._size, piece)
            self._size += end - start
            return
        self._spend(end - start)
        self._value += data[start:end]

    def on_part_end(self) -> None:
        if self._name == _FILE:
            self._file_complete = True
        elif not self._file_complete:
            self.fields[self._name] = self._value.decode(errors="replace")

    def on_end(self) -> None:
        self._complete = True

    def _spend(self, count: int) -> None:
        self._room -= count
        if self._room < 0:
            raise _malformed(f"its fields are longer than {_FIELDS_LIMIT} bytes")


def _parser(boundary: bytes, form: Form) -> MultipartParser:
    try:
        return MultipartParser(
            boundary,
            {
                "on_part_begin": form.on_part_begin,
                "on_header_begin": form.on_header_begin,
                "on_header_field": form.on_header_field,
                "on_header_value": form.on_header_value,
                "on_headers_finished": form.on_headers_finished,
                "on_part_data": form.on_part_data,
                "on_part_end": form.on_part_end,
                "on_end": form.on_end,
            },
        )
    except FormParserError as error:
        raise _malformed(str(error)) from error


def _malformed(reason: str) -> Refused:
    return Refused(400, "MalformedPOSTRequest", f"The form cannot be used: {reason}.")
