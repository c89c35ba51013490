"""SQLite's unflushed writes, so that a power cut can lose them page by page.

SQLite keeps its own file functions. This module wraps those that write, flush or
close a file. The structures are those of `sqlite3.h`.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

_POINTER = ctypes.sizeof(ctypes.c_void_p)
_OPEN = 5
"""The index of xOpen in `sqlite3_vfs`, in pointers."""
_CLOSE, _WRITE, _TRUNCATE, _SYNC, _METHODS = 1, 3, 4, 5, 19
"""Indices into `sqlite3_io_methods`, in pointers; the last one is its size."""
_KEPT_APART = 0x00000100 | 0x00080000
"""SQLITE_OPEN_MAIN_DB, SQLITE_OPEN_WAL: the files that the next process reads after a crash."""

_File = ctypes.c_void_p
_OpenCall = ctypes.CFUNCTYPE(
    *(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, _File, ctypes.c_int),
    ctypes.POINTER(ctypes.c_int),
)
_CloseCall = ctypes.CFUNCTYPE(ctypes.c_int, _File)
_WriteCall = ctypes.CFUNCTYPE(ctypes.c_int, _File, ctypes.c_void_p, ctypes.c_int, ctypes.c_int64)
_TruncateCall = ctypes.CFUNCTYPE(ctypes.c_int, _File, ctypes.c_int64)
_SyncCall = ctypes.CFUNCTYPE(ctypes.c_int, _File, ctypes.c_int)


class Pages:
    """Records what the writes to each file since its last flush replaced: offset, old bytes, old size."""

    def __init__(self) -> None:
        self._replaced: dict[str, list[tuple[int, bytes, int]]] = defaultdict(list)
        self._names: dict[int, str] = {}
        self._readers: dict[int, int] = {}
        """Descriptors that read the old bytes."""
        self._methods: dict[int, Any] = {}

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Wrap SQLite's file functions, if Python's SQLite library exports them."""
        library = ctypes.CDLL(_sqlite3.__file__)
        if not hasattr(library, "sqlite3_vfs_find"):
            yield
            return
        library.sqlite3_vfs_find.restype = ctypes.c_void_p
        vfs = library.sqlite3_vfs_find(None)
        place = ctypes.c_void_p.from_address(vfs + _OPEN * _POINTER)
        before = place.value
        self._open = _OpenCall(before)
        self._opening = _OpenCall(self._opened)
        place.value = ctypes.cast(self._opening, ctypes.c_void_p).value
        try:
            yield
        finally:
            place.value = before

    def lose_unflushed(self, folder: Path, saved: Path, chance: Random) -> None:
        """Remove unflushed writes from a copy of a folder: none, all, or the newest of each page."""
        fate = chance.choice(("kept", "some", "lost"))
        for name, replaced in self._replaced.items():
            file = saved / Path(name).name
            if Path(name).parent != folder or not replaced or not file.exists():
                continue
            pages: dict[int, list[bytes]] = defaultdict(list)
            for offset, old, _ in replaced:
                pages[offset].append(old)
            with file.open("r+b") as opened:
                for offset, versions in pages.items():
                    lost = {"kept": 0, "some": chance.randint(0, len(versions))}.get(fate)
                    lost = len(versions) if lost is None else lost
                    if lost:
                        opened.seek(offset)
                        opened.write(versions[-lost])
                if fate == "lost":
                    opened.truncate(replaced[0][2])
        self.forget(folder)

    def forget(self, folder: Path) -> None:
        """Forget the writes to a folder's files, which have been replaced."""
        for name in [name for name in self._replaced if Path(name).parent == folder]:
            del self._replaced[name]

    def _opened(self, vfs: int, name: int | None, file: int, flags: int, out: Any) -> int:
        # SQLite keeps the pointer to the name, so the same pointer is passed on.
        result = int(self._open(vfs, name, file, flags, out))
        if result == 0 and name is not None and flags & _KEPT_APART:
            place = ctypes.c_void_p.from_address(file)
            assert place.value is not None
            self._names[file] = os.fsdecode(ctypes.string_at(name))
            self._readers[file] = os.open(self._names[file], os.O_RDONLY)
            place.value = self._table(place.value)
        return result

    def _table(self, methods: int) -> int:
        """Return a copy of SQLite's table of functions that calls the wrappers of this class."""
        if methods not in self._methods:
            table = (ctypes.c_void_p * _METHODS).from_buffer_copy(
                ctypes.string_at(methods, _METHODS * _POINTER)
            )
            kinds = {
                _CLOSE: (_CloseCall, self._close),
                _WRITE: (_WriteCall, self._write),
                _TRUNCATE: (_TruncateCall, self._truncate),
                _SYNC: (_SyncCall, self._sync),
            }
            calls: list[Any] = [table]
            for slot, (kind, made) in kinds.items():
                call = kind(made(kind(table[slot])))
                calls.append(call)
                table[slot] = ctypes.cast(call, ctypes.c_void_p).value
            self._methods[methods] = calls
        return ctypes.addressof(self._methods[methods][0])

    def _close(self, original: Callable[..., int]) -> Callable[..., int]:
        def close(file: int) -> int:
            del self._names[file]
            os.close(self._readers.pop(file))
            return original(file)

        return close

    def _write(self, original: Callable[..., int]) -> Callable[..., int]:
        def write(file: int, data: int, size: int, offset: int) -> int:
            self._note(file, offset, size)
            return original(file, data, size, offset)

        return write

    def _truncate(self, original: Callable[..., int]) -> Callable[..., int]:
        def truncate(file: int, size: int) -> int:
            now = os.fstat(self._readers[file]).st_size
            self._note(file, size, max(now - size, 0))
            return original(file, size)

        return truncate

    def _sync(self, original: Callable[..., int]) -> Callable[..., int]:
        def sync(file: int, flags: int) -> int:
            self._replaced.pop(self._names[file], None)
            return original(file, flags)

        return sync

    def _note(self, file: int, offset: int, size: int) -> None:
        reader = self._readers[file]
        old = os.pread(reader, size, offset).ljust(size, b"\0")
        self._replaced[self._names[file]].append((offset, old, os.fstat(reader).st_size))


PAGES = Pages()
"""The only instance of a process."""
# SQLite calls its functions until the last file is closed, which may be after Python's own cleanup.
ctypes.pythonapi.Py_IncRef(ctypes.py_object(PAGES))
