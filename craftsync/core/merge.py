"""Joins what is here, what was agreed, and what is there, path by path.

The three streams come in the byte order of the UTF-8 path (which for valid
Unicode is the order of Python's strings) without repetition, and are joined as
they come: memory does not grow with the number of paths.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

from craftsync.core.model import BaselineRow, LocalFile, RemoteObject, Skipped

_END = "\U0010ffff\U0010ffff"
"""Sorts behind every path: U+10FFFF is a noncharacter no file name carries twice in front."""


class Triple(NamedTuple):
    """One path and what each of the three streams holds for it."""

    path: str
    local: LocalFile | None
    baseline: BaselineRow | None
    remote: RemoteObject | None


class OutOfOrder(ValueError):
    """A stream broke the promise to come sorted and without repetition."""


_Entry = TypeVar("_Entry", LocalFile, BaselineRow, RemoteObject)


def _advance(stream: Iterator[_Entry], last: str, side: str) -> tuple[_Entry | None, str]:
    entry = next(stream, None)
    if entry is None:
        return None, _END
    path = entry[0]
    if path <= last:
        raise OutOfOrder(f"{side}: {path!r} came after {last!r}")
    return entry, path


def merge(
    local: Iterable[LocalFile],
    baseline: Iterable[BaselineRow],
    remote: Iterable[RemoteObject],
) -> Iterator[Triple]:
    """Yield one `Triple` for every path that any of the streams holds, in order.

    Raises `OutOfOrder` at the first entry that is not behind its predecessor.
    """
    locals_, rows, objects = iter(local), iter(baseline), iter(remote)
    here, here_path = _advance(locals_, "", "root")
    row, row_path = _advance(rows, "", "baseline")
    there, there_path = _advance(objects, "", "store")
    while True:
        path = min(here_path, row_path, there_path)
        if path == _END:
            return
        is_here, is_row, is_there = here_path == path, row_path == path, there_path == path
        yield Triple(
            path,
            here if is_here else None,
            row if is_row else None,
            there if is_there else None,
        )
        if is_here:
            here, here_path = _advance(locals_, path, "root")
        if is_row:
            row, row_path = _advance(rows, path, "baseline")
        if is_there:
            there, there_path = _advance(objects, path, "store")


class Unknown:
    """Paths of which one side could not say what it holds.

    Not being listed proves nothing for them: whatever the baseline or the
    other side holds there stays as it is until a later pass sees more.
    """

    def __init__(self) -> None:
        self._paths: set[str] = set()
        self._subtrees: set[str] = set()

    def add(self, skipped: Skipped) -> None:
        self._paths.add(skipped.path)
        if skipped.subtree:
            self._subtrees.add(skipped.path.rstrip("/"))

    def __bool__(self) -> bool:
        return bool(self._paths)

    def __contains__(self, path: str) -> bool:
        if path in self._paths or "" in self._subtrees:
            return True
        end = path.find("/")
        while self._subtrees and end >= 0:
            if path[:end] in self._subtrees:
                return True
            end = path.find("/", end + 1)
        return False
