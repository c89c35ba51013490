"""One level of a store, as far as it is listed: sorted, filtered, selected, and shown in windows.

A folder may contain a hundred thousand objects. A thread lists them page by page,
and a browser only ever gets the rows that it shows.
"""

from __future__ import annotations

import threading
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

from craftsync import objects
from craftsync.core.model import Skipped
from craftsync.datastore import DataStore
from craftsync.errors import CraftsyncError
from craftsync.objects import Entry

_PAGE = 1000
_NONE = -1
"""The value of an unknown size or time."""
_MOST_BLOCKS = 40
"""The most folders and objects in each part of the size chart; the rest is one block."""


class Order(NamedTuple):
    """The order of a level; folders always come before objects."""

    column: str = "name"
    reverse: bool = False


class Entries:
    """The entries of a folder, in columns: a hundred thousand take some 10 MB, as Python objects 30.

    One thread may add entries while others read.
    """

    def __init__(self, folder: str) -> None:
        self._above = f"{folder}/" if folder else ""
        self._sizes, self._times, self._folders = array("q"), array("d"), bytearray()
        self._names: list[str] = []

    def add(self, entry: Entry) -> None:
        self._sizes.append(_NONE if entry.size is None else entry.size)
        moment = entry.last_modified
        self._times.append(datetime.fromisoformat(moment).timestamp() if moment else _NONE)
        self._folders.append(entry.is_folder)
        self._names.append(
            entry.path[len(self._above) :]
        )  # Last, because its length is the number of entries.

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, at: int) -> Entry:
        size, time = self._sizes[at], self._times[at]
        moment = None if time == _NONE else datetime.fromtimestamp(time, UTC).isoformat()
        return Entry(
            self._above + self._names[at],
            None if size == _NONE else size,
            moment,
            self.is_folder(at),
        )

    def path(self, at: int) -> str:
        return self._above + self._names[at]

    def name(self, at: int) -> str:
        """Return the name of an entry relative to the folder."""
        return self._names[at]

    def size(self, at: int) -> int:
        """Return the bytes of an entry, negative if unknown."""
        return self._sizes[at]

    def time(self, at: int) -> float:
        return self._times[at]

    def is_folder(self, at: int) -> bool:
        return bool(self._folders[at])


@dataclass(slots=True)
class Level:
    """The entries of a folder, or those below it whose names contain `search`.

    One thread fills it while others read: entries are only ever added.
    """

    store: DataStore
    folder: str = ""
    search: str = ""
    order: Order = field(default_factory=Order)
    filter: str = ""
    entries: Entries = field(init=False)
    shown: array[int] = field(default_factory=lambda: array("L"))
    """Indexes into `entries`, in the order shown."""
    selected: set[str] = field(default_factory=set)
    sizes: dict[str, int] = field(default_factory=dict)
    """Sizes of folders, in bytes, once requested."""
    skipped: list[Skipped] = field(default_factory=list)
    complete: bool = False
    error: CraftsyncError | None = None
    stopped: bool = False
    _arranging: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.entries = Entries(self.folder)

    def close(self) -> None:
        """End the listing, and free its entries."""
        self.stopped = True
        self.entries, self.shown, self.selected = Entries(self.folder), array("L"), set()

    def fill(self) -> Iterator[None]:
        """List the level, and yield after each page. An error is kept, with the entries listed before it."""
        entries = self.entries
        try:
            for count, entry in enumerate(self._source(), 1):
                if self.stopped:
                    return
                entries.add(entry)
                if count % _PAGE == 0:
                    yield
            self.complete = True
        except CraftsyncError as error:
            self.error = error

    def _source(self) -> Iterator[Entry]:
        if not self.search:
            return objects.listing(self.store, self.folder, on_skipped=self.skipped.append)
        found = objects.find(self.store, self.folder, on_skipped=self.skipped.append)
        wanted = self.search.casefold()
        return (
            Entry(one["path"], one["size"], one["last_modified"], False)
            for one in found
            if wanted in one["path"].rpartition("/")[2].casefold()
        )

    def arrange(self) -> None:
        """Sort and filter what is listed so far."""
        with self._arranging:  # One at a time, so that the last call with the last settings wins.
            self._arrange()

    def _arrange(self) -> None:
        entries, wanted = self.entries, self.filter.casefold()
        places: Iterable[int] = range(len(entries))
        if wanted:
            places = [at for at in places if wanted in entries.name(at).casefold()]
        order = sorted(places, key=partial(self._key, entries), reverse=self.order.reverse)
        shown = array("L", [at for at in order if entries.is_folder(at)])
        shown.extend(at for at in order if not entries.is_folder(at))
        if entries is self.entries:
            self.shown = shown

    def _key(self, entries: Entries, at: int) -> Any:
        name = entries.name(at).casefold()
        if self.order.column == "size":
            is_folder = entries.is_folder(at)
            return (self.size(entries[at]) or 0 if is_folder else entries.size(at), name)
        if self.order.column == "time":
            return (entries.time(at), name)
        return name

    def size(self, entry: Entry) -> int | None:
        """Return the bytes of an entry; those of a folder once requested."""
        return self.sizes.get(entry.path) if entry.is_folder else entry.size

    def name(self, entry: Entry) -> str:
        """Return the name of an entry relative to the folder."""
        return entry.path[len(self.folder) + 1 :] if self.folder else entry.path

    def window(self, start: int, end: int) -> list[tuple[int, Entry]]:
        """Return the rows from `start` up to `end` (exclusive), with their numbers."""
        start = max(start, 0)
        return [(start + at, self.entries[place]) for at, place in enumerate(self.shown[start:end])]

    def at(self, row: int) -> Entry | None:
        return self.entries[self.shown[row]] if 0 <= row < len(self.shown) else None

    def row(self, row: int, path: str | None) -> int:
        """Return the current row of a path that a browser saw at `row`, -1 if it is gone: a listing under way may move rows."""
        entry = self.at(row)
        if path is None or (entry is not None and entry.path == path):
            return row
        found = (at for at, place in enumerate(self.shown) if self.entries.path(place) == path)
        return next(found, -1)

    def select(self, row: int, how: str, since: int = 0) -> None:
        """Change the selection: `one`, `toggle`, `range` (from `since` to the row), `all` or `none`."""
        entry = self.at(row)
        if how == "none":
            self.selected = set()
        elif how == "all":
            self.selected = set(map(self.entries.path, self.shown))
        elif how == "range":
            rows = self.shown[min(row, since) : max(row, since) + 1]
            self.selected = set(map(self.entries.path, rows))
        elif entry is not None and how == "toggle":
            self.selected ^= {entry.path}
        elif entry is not None:
            self.selected = {entry.path}

    def picked(self) -> list[Entry]:
        """Return the selected entries, in the order shown."""
        entries = self.entries
        return [entries[at] for at in self.shown if entries.path(at) in self.selected]

    def picked_bytes(self) -> int:
        """Return the known bytes of the selected entries."""
        entries = self.entries
        paths = ((at, entries.path(at)) for at in self.shown)
        known = (
            self.sizes.get(path, 0) if entries.is_folder(at) else max(entries.size(at), 0)
            for at, path in paths
            if path in self.selected
        )
        return sum(known)

    def names(self) -> set[str]:
        return {self.entries.name(at) for at in range(len(self.entries))}


def below(store: DataStore, entries: Iterable[Entry]) -> Iterator[str]:
    """Yield the path of each object of the entries: the object itself, or all below a folder."""
    for entry in entries:
        if entry.is_folder:
            yield from (found["path"] for found in objects.find(store, entry.path))
        else:
            yield entry.path


class Block(NamedTuple):
    """A part of the size chart."""

    name: str
    bytes: int
    parts: list[Block]


def sizes(store: DataStore, folder: str) -> tuple[dict[str, int], list[Block]]:
    """Return the bytes below each subfolder, and a chart of blocks in at most two levels."""
    totals: Counter[str] = Counter()
    inner: dict[str, Counter[str]] = {}
    start = len(folder) + 1 if folder else 0
    for found in objects.find(store, folder):
        first, slash, rest = found["path"][start:].partition("/")
        totals[first] += found["size"]
        if slash:
            parts = inner.setdefault(first, Counter())
            parts[rest.partition("/")[0]] += found["size"]
    blocks = [
        Block(name, size, [Block(*part, []) for part in _largest(inner.get(name, Counter()))])
        for name, size in _largest(totals)
    ]
    prefix = f"{folder}/" if folder else ""
    return {prefix + name: totals[name] for name in inner}, blocks


def _largest(counted: Counter[str]) -> list[tuple[str, int]]:
    found = counted.most_common(_MOST_BLOCKS)
    rest = counted.total() - sum(size for _, size in found)
    return [*found, ("all others", rest)] if rest else found
