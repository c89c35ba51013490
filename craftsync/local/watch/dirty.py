"""`DirtyPaths`: the queue of paths that may have changed, each until it settles.

Accepts watchdog's events and keeps one entry per path. Pure except for the lock: time is an
argument.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from watchdog.events import FileSystemEvent

MAX_SETTLE_SECONDS = 30.0
"""Seconds after which a path that keeps changing is returned anyway."""

DELETE_SETTLE_SECONDS = 1.0
"""Seconds that a delete waits longer than an edit, so that a program that deletes and rewrites a
file causes one change."""

MOST_PATHS = 10_000
"""More paths than this are replaced by their folders, to limit memory."""

_CROWD = 100
"""Folders with at least this many dirty paths are collapsed first."""
_BURST = 1_000
"""With more dirty paths than this, none is returned until most have settled: one large run after a
burst costs less than many during it."""


class Dirty(NamedTuple):
    """The paths that have settled. `everything`: any path may have changed."""

    paths: frozenset[str]
    everything: bool


class DirtyPaths:
    """A bounded set of paths that may have changed. Beyond the bound it means everything.

    The path of a folder includes everything below it. Any thread may add; one thread waits and
    takes. A path is returned once it has been quiet for `settle` seconds (a delete for longer), and
    after `MAX_SETTLE_SECONDS` in any case. Both ends of a move are returned together.
    """

    def __init__(
        self, monotonic: Callable[[], float], settle: float = 0.5, most: int = MOST_PATHS
    ) -> None:
        self._monotonic = monotonic
        self._settle = settle
        self._most = most
        self._changed = threading.Condition()
        self._woken = False
        self._clear()

    def _clear(self) -> None:
        # Ordered by the time of the last event: the first is the first to settle.
        self._edits: dict[str, float] = {}
        self._gone: dict[str, float] = {}
        self._departed: set[str] = set()
        self._first: dict[str, float] = {}
        self._folders: set[str] = set()
        self._everything_at: float | None = None

    def put(self, item: tuple[FileSystemEvent, object]) -> None:
        """Add an event with its watch, as watchdog's `EventQueue` does. Paths are relative."""
        event, _ = item
        path = str(event.src_path)
        if event.event_type == "deleted":
            self.delete(path)
        elif event.event_type == "moved":
            self.depart(path)
            if event.dest_path:
                self.change(str(event.dest_path))
        else:
            self.change(path)

    def change(self, path: str) -> None:
        """Record that something was created, written or moved to `path`."""
        self._mark(path)

    def delete(self, path: str) -> None:
        self._mark(path, gone=True)

    def depart(self, path: str) -> None:
        """Record a move away from `path`, out of the folder or to a path that has an event of its own."""
        self._mark(path, gone=True, departed=True)

    def everything(self) -> None:
        """Record that any path may have changed."""
        with self._changed:
            self._collapse_all()

    def wake(self) -> None:
        """Make `wait` return now."""
        with self._changed:
            self._woken = True
            self._changed.notify()

    def __len__(self) -> int:
        """Return the number of waiting paths."""
        with self._changed:
            return len(self._first)

    @property
    def counted(self) -> int | None:
        """The number of waiting paths; `None` while collapsed folders make it unknown."""
        with self._changed:
            if self._everything_at is not None or self._folders:
                return None
            return len(self._first)

    def wait(self, timeout: float) -> None:
        """Return once paths have settled, after `timeout` seconds, or after `wake`."""
        with self._changed:
            end = self._monotonic() + timeout
            while not self._woken:
                now = self._monotonic()
                due = min(end, self._due(now))
                if due <= now:
                    return
                self._changed.wait(due - now)
            self._woken = False

    def take(self) -> Dirty:
        """Remove and return the paths that have settled."""
        with self._changed:
            now = self._monotonic()
            if self._due(now) > now:
                return Dirty(frozenset(), everything=False)
            if self._everything_at is not None:
                self._clear()
                return Dirty(frozenset(), everything=True)
            settled = frozenset(self._settled(now))
            for path in settled:
                self._forget(path)
            return Dirty(settled, everything=False)

    def _mark(self, path: str, *, gone: bool = False, departed: bool = False) -> None:
        with self._changed:
            now = self._monotonic()
            if self._everything_at is not None:
                self._everything_at = now
                return
            folder = path.rpartition("/")[0]
            if folder in self._folders:
                path = folder
            gone = gone and path not in self._folders
            if not self._first or not (gone or self._edits):
                self._changed.notify()
            self._first.setdefault(path, now)
            self._edits.pop(path, None)
            self._gone.pop(path, None)
            (self._gone if gone else self._edits)[path] = now
            (self._departed.add if gone and departed else self._departed.discard)(path)
            self._bound()

    def _due(self, now: float) -> float:
        """Return the time at which the next path settles; infinity if none is dirty."""
        first = next(iter(self._first.values()), None)
        if first is None:
            return float("inf")
        overdue = first + MAX_SETTLE_SECONDS
        if self._everything_at is not None:
            return min(overdue, self._everything_at + self._settle)
        edited, gone = _oldest(self._edits), _oldest(self._gone)
        due = min(edited + self._settle, gone + self._settle + DELETE_SETTLE_SECONDS)
        if due <= now < overdue and self._in_burst(now):
            return now + self._settle
        return min(due, overdue)

    def _in_burst(self, now: float) -> bool:
        """Return whether many paths are dirty and more than a tenth of them changed within `settle`."""
        if len(self._first) <= _BURST:
            return False
        tenth = len(self._first) // 10
        newest = islice(reversed(self._edits.values()), tenth, tenth + 1)
        return any(at > now - self._settle for at in newest)

    def _settled(self, now: float) -> Iterator[str]:
        quiet = now - self._settle
        yield from _until(self._edits, quiet)
        yield from _until(self._first, now - MAX_SETTLE_SECONDS)
        yield from _until(self._gone, quiet - DELETE_SETTLE_SECONDS)
        if _oldest(self._edits) <= quiet:
            # A run that sees both ends of a move can carry it out as a rename.
            yield from self._departed.intersection(_until(self._gone, quiet))

    def _bound(self) -> None:
        """Beyond the bound, replace the paths of crowded folders by the folders, then all by `everything`."""
        if len(self._first) <= self._most:
            return
        crowds: dict[str, list[str]] = {}
        for path in self._first:
            crowds.setdefault(path.rpartition("/")[0], []).append(path)
        for folder, paths in crowds.items():
            if folder and len(paths) >= _CROWD:
                for path in paths:
                    self._forget(path)
                self._folders.add(folder)
                self._first[folder] = self._edits[folder] = self._monotonic()
        if len(self._first) > self._most // 2:
            self._collapse_all()

    def _forget(self, path: str) -> None:
        for times in (self._edits, self._gone, self._first):
            times.pop(path, None)
        self._departed.discard(path)
        self._folders.discard(path)

    def _collapse_all(self) -> None:
        now = self._monotonic()
        if self._everything_at is None:
            first = next(iter(self._first.values()), now)
            self._clear()
            self._first[""] = first
            self._changed.notify()
        self._everything_at = now


def _oldest(times: dict[str, float]) -> float:
    return next(iter(times.values()), float("inf"))


def _until(times: dict[str, float], latest: float) -> Iterator[str]:
    """Yield the paths with a time up to `latest`. The times are sorted."""
    for path, at in times.items():
        if at > latest:
            return
        yield path
