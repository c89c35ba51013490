"""What SQLite has written and not flushed, so that a power cut can lose it, page by page.

SQLite's own functions for files stay in use; those that write, flush or close
are called through here. Its structures are those of `sqlite3.h`.
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
"""Pointers into `sqlite3_vfs` before xOpen: two integers each in one, then four."""
_CLOSE, _WRITE, _TRUNCATE, _SYNC, _METHODS = 1, 3, 4, 5, 19
"""Pointers into `sqlite3_io_methods`, and how many it is large."""
_KEPT_APART = 0x00000100 | 0x00080000
"""SQLITE_OPEN_MAIN_DB, SQLITE_OPEN_WAL: the files a crash leaves to the next process."""

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
    """Remembers what the writes since the last flush of each file replaced: offset and bytes, and the size before."""

    def __init__(self) -> None:
        self._replaced: dict[str, list[tuple[int, bytes, int]]] = defaultdict(list)
        self._names: dict[int, str] = {}
        self._readers: dict[int, int] = {}
        """Descriptors by which the bytes of before are read."""
        self._methods: dict[int, Any] = {}

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Stand between SQLite and its files, where its library can be reached."""
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

    def lose(self, folder: Path, saved: Path, chance: Random) -> None:
        """Take from the copy of a folder what its files had not flushed: nothing, all, or of each page the newest writes."""
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
        """Drop what is known of the files in a folder: they are others now."""
        for name in [name for name in self._replaced if Path(name).parent == folder]:
            del self._replaced[name]

    def _opened(self, vfs: int, name: int | None, file: int, flags: int, out: Any) -> int:
        # SQLite goes on using the memory that the name lies in: it is handed on as it is.
        result = int(self._open(vfs, name, file, flags, out))
        if result == 0 and name is not None and flags & _KEPT_APART:
            place = ctypes.c_void_p.from_address(file)
            assert place.value is not None
            self._names[file] = os.fsdecode(ctypes.string_at(name))
            self._readers[file] = os.open(self._names[file], os.O_RDONLY)
            place.value = self._table(place.value)
        return result

    def _table(self, methods: int) -> int:
        """Return the table of functions with ours in it, in place of one of SQLite's."""
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
"""The one of this process."""
# SQLite calls what is made there until its last file is closed, which nobody waits for.
ctypes.pythonapi.Py_IncRef(ctypes.py_object(PAGES))
