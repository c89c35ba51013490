"""Joins the left side, the last synced state and the right side, path by path.

The three streams are sorted by the bytes of the UTF-8 path (for valid Unicode, the order of
Python's strings) and repeat no path. They are joined entry by entry, so memory does not grow
with the number of paths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, NamedTuple, TypeVar

from craftsync.core.model import BaselineRow, LocalFile, RemoteObject, Skipped

_END = "\U0010ffff\U0010ffff"
"""Sorts after every path: no file name begins with this noncharacter twice."""


Entry = tuple[Any, ...]
"""A named tuple whose first field is its path."""

_Here = TypeVar("_Here", bound=Entry)
_Agreed = TypeVar("_Agreed", bound=Entry)
_There = TypeVar("_There", bound=Entry)


class Joined(NamedTuple, Generic[_Here, _Agreed, _There]):
    """One path and what each of the three streams holds for it."""

    path: str
    local: _Here | None
    baseline: _Agreed | None
    remote: _There | None


Triple = Joined[LocalFile, BaselineRow, RemoteObject]
"""A path, with its file, its baseline row and its object."""


class OutOfOrder(ValueError):
    """A stream was not sorted, or repeated a path."""


def merge(
    local: Iterable[_Here],
    baseline: Iterable[_Agreed],
    remote: Iterable[_There],
) -> Iterator[Joined[_Here, _Agreed, _There]]:
    """Yield one `Joined` for each path that any of the streams holds, in order.

    Raises `OutOfOrder` at the first entry that does not sort after its predecessor.
    """
    files, rows, objects = iter(local), iter(baseline), iter(remote)
    file, row, found = next(files, None), next(rows, None), next(objects, None)
    file_path, row_path, found_path = _path(file), _path(row), _path(found)
    new = tuple.__new__  # Half the cost of Joined(...), in the one loop every path goes through.
    while (path := min(file_path, row_path, found_path)) != _END:
        is_file, is_row, is_found = file_path == path, row_path == path, found_path == path
        yield new(
            Joined,
            (
                path,
                file if is_file else None,
                row if is_row else None,
                found if is_found else None,
            ),
        )
        if is_file:
            file = next(files, None)
            file_path = file[0] if file is not None else _END
        if is_row:
            row = next(rows, None)
            row_path = row[0] if row is not None else _END
        if is_found:
            found = next(objects, None)
            found_path = found[0] if found is not None else _END
        if path >= file_path or path >= row_path or path >= found_path:
            raise OutOfOrder(f"{min(file_path, row_path, found_path)!r} came after {path!r}")


def _path(entry: Entry | None) -> str:
    return _END if entry is None else str(entry[0])


class Unknown:
    """Paths that one side could not read, or that take no part on it.

    Their absence from its stream proves nothing. A run changes nothing at them, neither in the
    baseline nor on the other side, until a later run can read them.
    """

    def __init__(self) -> None:
        self._paths: set[str] = set()
        self._subtrees: set[str] = set()
        self._by_design: set[str] = set()

    def add(self, skipped: Skipped) -> None:
        self._paths.add(skipped.path)
        if skipped.by_design:
            self._by_design.add(skipped.path.rstrip("/"))
        if skipped.subtree:
            self._subtrees.add(skipped.path.rstrip("/"))

    def __bool__(self) -> bool:
        return bool(self._paths)

    def is_by_design(self, path: str) -> bool:
        """Return whether this path itself is a symbolic link or special file."""
        return path in self._by_design

    def take_blocker(self, path: str) -> str | None:
        """Return the symbolic link or special file at or above this path. Each is returned, and so reported, once."""
        end = path.find("/")
        while self._by_design:
            place = path[:end] if end >= 0 else path
            if place in self._by_design:
                self._by_design.remove(place)
                return place
            if end < 0:
                return None
            end = path.find("/", end + 1)
        return None

    def __contains__(self, path: str) -> bool:
        if path in self._paths or "" in self._subtrees:
            return True
        end = path.find("/")
        while self._subtrees and end >= 0:
            if path[:end] in self._subtrees:
                return True
            end = path.find("/", end + 1)
        return False


class UnknownPaths(NamedTuple):
    """The unknown paths of each side."""

    left: Unknown
    right: Unknown


_Found = TypeVar("_Found", LocalFile, RemoteObject)


def known(
    stream: Iterable[_Found | Skipped], unknown: Unknown, note: Callable[[Skipped], None]
) -> Iterator[_Found]:
    """Yield the entries; add the skipped ones to `unknown` and pass them to `note`."""
    for entry in stream:
        if isinstance(entry, Skipped):
            unknown.add(entry)
            note(entry)
        else:
            yield entry
