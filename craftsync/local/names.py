"""The names in one folder, in path order, without holding a huge folder in memory.

A path sorts by the bytes of its UTF-8, in which a folder counts with the slash
that follows its name: `a.txt` comes before `a/b`, because "." is less than "/".
"""

from __future__ import annotations

import heapq
import os
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from operator import itemgetter
from typing import IO, Protocol

from craftsync.local import linux

RUN = 50_000
"""How many names are sorted in memory at once; more are merged from a file."""

_CHUNK = 65_536


class Entry(Protocol):
    """What `os.scandir` knows of a name, as far as a scan asks."""

    @property
    def name(self) -> str: ...

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result: ...


def printable(name: str) -> str:
    """Return a name that is not UTF-8 with each offending byte as `\\xNN`, any other as it is."""
    if name.isascii():
        return name
    return os.fsencode(name).decode(errors="backslashreplace")


def in_path_order(
    listing: int, wanted: Callable[[str], bool] | None = None
) -> Iterator[tuple[str, Entry]]:
    """Yield (sort key, entry) for the names in a folder; the key of a folder ends with "/".

    `listing` is the folder's descriptor, which must stay open meanwhile.
    Raises `OSError` before the first entry.
    """
    with linux.scandir(listing) as scanned:
        named = filter(lambda entry: wanted(entry.name), scanned) if wanted else scanned
        entries = list(islice(named, RUN))
        if len(entries) == RUN:
            return _spilled(listing, entries, named)
    return iter(_sorted(entries))


def _sorted(entries: list[os.DirEntry[str]]) -> list[tuple[str, Entry]]:
    by_key: dict[str, Entry] = {}
    for entry in entries:
        name = entry.name
        if entry.is_dir(follow_symlinks=False):
            by_key[printable(name) + "/"] = entry
        elif name.isascii() or (key := printable(name)) == name:
            by_key[name] = entry
        else:
            by_key.setdefault(key, entry)
    return [(key, by_key[key]) for key in sorted(by_key)]


class _Named:
    """An entry read back from a file."""

    def __init__(self, name: str, listing: int) -> None:
        self.name = name
        self._listing = listing

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        return linux.stat(self.name, dir_fd=self._listing, follow_symlinks=follow_symlinks)


def _spilled(
    listing: int, entries: list[os.DirEntry[str]], rest: Iterator[os.DirEntry[str]]
) -> Iterator[tuple[str, Entry]]:
    """Write sorted runs to a file that has no name, and return their merge."""
    spill = tempfile.TemporaryFile()  # noqa: SIM115 (the merge closes it)
    runs = []
    while entries:
        start = spill.tell()
        for key, entry in _sorted(entries):
            spill.write(os.fsencode(entry.name) + (b"/\0" if key.endswith("/") else b"\0"))
        runs.append((start, spill.tell()))
        entries = list(islice(rest, RUN))
    spill.flush()
    return _merged(listing, spill, runs)


def _merged(
    listing: int, spill: IO[bytes], runs: list[tuple[int, int]]
) -> Iterator[tuple[str, Entry]]:
    with spill:
        names = (_read_run(spill.fileno(), start, end) for start, end in runs)
        for key, name in heapq.merge(*names, key=itemgetter(0)):
            yield key, _Named(name, listing)


def _read_run(spill: int, start: int, end: int) -> Iterator[tuple[str, str]]:
    """Yield (sort key, name) of the names stored from `start` to `end`, each ended by a NUL."""
    rest = b""
    while start < end:
        chunk = os.pread(spill, min(_CHUNK, end - start), start)
        start += len(chunk)
        *names, rest = (rest + chunk).split(b"\0")
        for raw in names:
            name = os.fsdecode(raw)
            yield printable(name), name.removesuffix("/")
