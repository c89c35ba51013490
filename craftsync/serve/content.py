"""Content on its way into the store, and changes that lose nothing.

Content is held in memory or in an unnamed temporary file (in TMPDIR), so a crash
leaves nothing. What a change replaces is kept, and it is durable when answered.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import accumulate
from secrets import token_hex
from tempfile import TemporaryFile
from typing import NamedTuple, ParamSpec, TypeVar

from craftsync.clock import Clock, stamp
from craftsync.core.model import RemoteObject
from craftsync.core.paths import is_own
from craftsync.errors import PathBusy
from craftsync.stores.base import Source, Store, kept

BLOCK = 1024 * 1024


class Extent(NamedTuple):
    """A run of bytes in a temporary file."""

    offset: int
    length: int


class Scratch:
    """A temporary file without a name, written at given offsets by several threads at once.

    It is closed when nobody refers to it any more, and not before: a late write
    must not meet a descriptor that has become another file's.
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
    """The same for one thread at a time, and without a file for as long as the content is small."""

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
            # As in a file, what nobody has written is zeros.
            self._memory += bytes(max(0, offset - len(self._memory)))
            self._memory[offset : offset + len(data)] = data

    def read_at(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes."""
        if self._file is not None:
            return self._file.read_at(offset, length)
        return bytes(self._memory[offset : offset + length])


class Content:
    """Extents of what was received, one after the other, as `stores.base.Source` asks for them.

    Nobody else can reach it, so it cannot change.
    """

    mtime_ns: int | None = None

    def __init__(self, scratch: Scratch | SmallScratch, extents: Sequence[Extent]) -> None:
        self._scratch = scratch
        self._extents = extents
        self._ends = list(accumulate(extent.length for extent in extents))
        self.size = self._ends[-1] if extents else 0
        self._digest: bytes | None = None

    @property
    def digest(self) -> bytes:
        """Read it all, the first time: not every store needs to know."""
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
        """Do nothing: nobody could have changed it."""

    def _pieces(self, offset: int, length: int) -> Iterator[bytes]:
        index = bisect_right(self._ends, offset)
        while length and index < len(self._extents):
            extent = self._extents[index]
            within = offset - (self._ends[index] - extent.length)
            count = min(length, extent.length - within)
            yield self._scratch.read_at(extent.offset + within, count)
            offset, length, index = offset + count, length - count, index + 1


NoteKept = Callable[[str, str, int], None]
"""Takes stamp, path and bytes of a version that went to the store's trash; from any thread."""


def note_nothing(stamp: str, path: str, size: int) -> None:
    """Keep no record."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Writes and deletes in one store, from several threads at once."""

    store: Store
    clock: Clock
    note: NoteKept = note_nothing

    def write(self, path: str, content: Source) -> RemoteObject:
        """Put content at a path and return what the store now holds there."""
        keep = self._keep(path)
        written = self.store.write(path, content, expect=None, operation=token_hex(16), keep=keep)
        self._note(path, keep)
        return self.store.barrier().get(path, written)

    def delete(self, path: str) -> None:
        """Remove an object; one that is not there is a success."""
        keep = self._keep(path)
        self.store.delete(path, expect=None, keep=keep)
        self._note(path, keep)
        self.store.barrier()

    def _keep(self, path: str) -> str | None:
        """Return the name under which the store keeps what is replaced or deleted.

        What lies in its trash is not kept again, or the trash could not be emptied.
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
    """Return what a call returns, made in another thread.

    What starlette has for this takes twice the processor time (150 to 200
    microseconds a call against 60 to 100), for ways to cancel that no call of a
    store knows.
    """
    return await asyncio.get_running_loop().run_in_executor(_pool, partial(call, *args, **named))
