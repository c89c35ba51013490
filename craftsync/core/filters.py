"""Filters: leave out paths by size, by age, by a list, or by whether the destination has them.

(Patterns and ignore files leave out paths by name.) A filter sees both sides of a path at once.
A path that it leaves out is not copied or deleted, and its last synced state stays. A file that
a filter hides on one side would look deleted there, so filters are allowed only in a one-way run
without deletes (`refusal`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from craftsync.core.merge import Triple
from craftsync.core.model import NO_TIME, BaselineRow, LocalFile, Mode, Policy, RemoteObject
from craftsync.core.paths import folders_above

_Found = TypeVar("_Found", LocalFile, BaselineRow)


@dataclass(frozen=True, slots=True)
class Listed:
    """The entries of a list: each the path of a file, or, with a final slash, of a folder and all in it."""

    names: frozenset[str]

    def entry_of(self, path: str) -> str | None:
        """Return the entry that includes a path: the path itself, else the outermost listed folder."""
        if path in self.names:
            return path
        named = (f"{folder}/" for folder in folders_above(path))
        return next((name for name in named if name in self.names), None)

    def relevant(self, entries: Iterable[_Found]) -> Iterator[_Found]:
        """Yield the listed entries, and one entry below each folder listed without a final slash.

        From that one entry the run reports that the slash is missing (`Sieve.folders`).
        """
        seen: set[str | None] = set()
        for entry in entries:
            if self.entry_of(entry.path) is None:
                folder = self.folder_of(entry.path)
                if folder in seen:
                    continue
                seen.add(folder)
            yield entry

    def folder_of(self, path: str) -> str | None:
        """Return the listed entry without a final slash that is a folder, because this path lies in it."""
        return next((folder for folder in folders_above(path) if folder in self.names), None)


class Now(NamedTuple):
    """The current time by the clock of each side, in nanoseconds since the epoch. The two are never compared."""

    local: int
    remote: int


@dataclass(frozen=True, slots=True)
class Filter:
    """The limits that leave paths out. Sizes are bytes, ages nanoseconds; `None` is no limit."""

    min_size: int | None = None
    max_size: int | None = None
    min_age: int | None = None
    max_age: int | None = None
    listed: Listed | None = None
    existing: bool = False
    """Only paths that the destination already has."""
    ignore_existing: bool = False
    """Only paths that the destination lacks."""

    def flags(self) -> list[str]:
        """Return the flags of the limits that are set."""
        given = {
            "--files-from": self.listed is not None,
            "--min-size": self.min_size is not None,
            "--max-size": self.max_size is not None,
            "--min-age": self.min_age is not None,
            "--max-age": self.max_age is not None,
            "--existing": self.existing,
            "--ignore-existing": self.ignore_existing,
        }
        return [flag for flag, is_given in given.items() if is_given]

    def __bool__(self) -> bool:
        return bool(self.flags())

    @property
    def by_age(self) -> bool:
        return self.min_age is not None or self.max_age is not None

    @property
    def by_size(self) -> bool:
        return self.min_size is not None or self.max_size is not None

    def refusal(self, policy: Policy) -> tuple[str, str] | None:
        """Return why this policy forbids the filter, and the remedy, as sentences; `None` if it does not."""
        flags = ", ".join(self.flags())
        if not flags:
            return None
        if policy.mode is Mode.TWO_WAY:
            return (
                f"{flags} cannot be used with sync: a file that the filter hides on one side would"
                " look deleted there.",
                "Use push or pull (with plan: --mode), or exclude by name (--include, --exclude).",
            )
        if policy.delete:
            return (
                f"{flags} cannot be used with --delete: a file that the filter hides would look"
                " deleted.",
                "Omit --delete (--no-delete overrides the configuration),"
                " or exclude by name (--include, --exclude).",
            )
        return None

    def leaves_out(
        self, path: str, local: LocalFile | None, remote: RemoteObject | None, mode: Mode, now: Now
    ) -> bool:
        """Return whether a path takes no part in a run of this mode. Two-way means `check`."""
        written = {Mode.PUSH: remote, Mode.PULL: local}.get(mode)
        return (
            (self.listed is not None and self.listed.entry_of(path) is None)
            or (self.existing and written is None)
            or (self.ignore_existing and written is not None)
            or (self.by_size and not self._has_size(local, remote))
            or (self.by_age and not self._has_age(local, remote, mode, now))
        )

    def _has_size(self, local: LocalFile | None, remote: RemoteObject | None) -> bool:
        """Return whether the path exists and each of its versions has a size within the limits."""
        sizes = [side.size for side in (local, remote) if side is not None]
        return bool(sizes) and all(
            (self.min_size is None or size >= self.min_size)
            and (self.max_size is None or size <= self.max_size)
            for size in sizes
        )

    def _has_age(
        self, local: LocalFile | None, remote: RemoteObject | None, mode: Mode, now: Now
    ) -> bool:
        """Return whether the version to copy has an age within the limits, by the clock of its own side."""
        if local is not None and mode is not Mode.PULL:
            time = None if local.mtime_ns == NO_TIME else local.mtime_ns
            clock = now.local
        elif remote is not None and mode is not Mode.PUSH:
            time, clock = remote.modified_ns, now.remote
        else:
            return False
        if time is None:
            return False
        age = clock - time
        return (self.min_age is None or age >= self.min_age) and (
            self.max_age is None or age <= self.max_age
        )


def _ignore(path: str) -> None:
    """Do nothing."""


class Sieve:
    """Yields the paths that take part, and notes which entries of a list were found."""

    def __init__(self, filter: Filter, mode: Mode, now: Now) -> None:
        self._filter = filter
        self._mode = mode
        self._now = now
        self._met: set[str] = set()
        self.folders: set[str] = set()
        """Entries of the list that are folders but lack the final slash."""
        self.count = 0
        """Paths that were left out and exist on a side."""

    def of(
        self, triples: Iterable[Triple], left_out: Callable[[str], None] = _ignore
    ) -> Iterator[Triple]:
        """Yield the paths that take part; call `left_out` with each other path that has a baseline row."""
        listed, mode = self._filter.listed, self._mode
        for triple in triples:
            path, local, row, remote = triple
            if listed is not None and self._is_to_be_copied(local, remote):
                self._met.add(listed.entry_of(path) or "")
                self.folders.add(listed.folder_of(path) or "")
            if not self._filter.leaves_out(path, local, remote, mode, self._now):
                yield triple
                continue
            self.count += local is not None or remote is not None
            if row is not None:
                left_out(path)

    def _is_to_be_copied(self, local: LocalFile | None, remote: RemoteObject | None) -> bool:
        if self._mode is Mode.TWO_WAY:
            return local is not None or remote is not None
        return (local if self._mode is Mode.PUSH else remote) is not None

    def unmet(self) -> list[str]:
        """Return, sorted, the entries of the list for which the source side has nothing."""
        listed = self._filter.listed
        return [] if listed is None else sorted(listed.names - self._met)
