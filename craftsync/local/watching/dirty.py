"""The paths that may have changed, until they have settled.

Pure but for the lock: time is an argument. Knows nothing of events; what it is
told are changes, departures and deletions, and it decides when each of them
has come to rest.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

LONGEST_UNREST = 30.0
"""Seconds after which a path that never rests is handed out all the same."""

DELETION_PATIENCE = 1.0
"""Seconds by which a deletion rests longer than an edit: an editor that deletes and
writes anew, or a rename that arrives in two halves, is then one change."""

MOST_PATHS = 10_000
"""More paths than this are collapsed into their folders: a bound on memory, not on truth."""

_CROWD = 100
"""Dirty paths in one folder from which on the folder stands for them."""
_BURST = 1_000
"""Dirty paths from which on most have to have settled before any is handed out:
one large pass after a burst costs less than many during it."""


class Dirty(NamedTuple):
    """What has come to rest. With `everything`, the paths say nothing more."""

    paths: frozenset[str]
    everything: bool


class DirtyPaths:
    """A bounded set of paths that may have changed; past the bound it means everything.

    A path that is a folder stands for all below it. Any thread may add; one
    thread waits and takes. Each path is handed out once it has been quiet for
    `settle` seconds (a deletion for longer), and after `LONGEST_UNREST`
    whether it is quiet or not. The two ends of a rename are handed out together.
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
        # Both are ordered by the moment of the last event: the first is the first to settle.
        self._edits: dict[str, float] = {}
        self._gone: dict[str, float] = {}
        self._departed: set[str] = set()
        self._sources: dict[str, set[str]] = {}
        self._target: dict[str, str] = {}
        self._first: dict[str, float] = {}
        self._folders: set[str] = set()
        self._everything_at: float | None = None

    def change(self, path: str) -> None:
        """Something at the path was made, written, or came to it."""
        with self._changed:
            self._edit(path)

    def delete(self, path: str) -> None:
        """What was at the path is gone for good."""
        with self._changed:
            self._leave(path, departed=False)

    def depart(self, path: str) -> None:
        """What was at the path was moved somewhere that is not known (yet)."""
        with self._changed:
            self._leave(path, departed=True)

    def move(self, source: str, target: str) -> None:
        """What was at `source`, which had departed, has come to `target`."""
        with self._changed:
            self._edit(target)
            if self._everything_at is None and source in self._gone:
                del self._gone[source]
                self._follow(source, target)

    def everything(self) -> None:
        """More may have changed than can be told."""
        with self._changed:
            self._collapse_all()

    def wake(self) -> None:
        """Make `wait` return now."""
        with self._changed:
            self._woken = True
            self._changed.notify()

    def __len__(self) -> int:
        """Return how many paths are known to wait."""
        with self._changed:
            return len(self._first)

    @property
    def counted(self) -> int | None:
        """How many paths wait; `None` while a folder, or everything, stands for more than can be told."""
        with self._changed:
            if self._everything_at is not None or self._folders:
                return None
            return len(self._first)

    def wait(self, timeout: float) -> None:
        """Return once `take` would hand something out, after `timeout` seconds, or after `wake`."""
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
        """Hand out what has settled by now; it is forgotten here."""
        with self._changed:
            now = self._monotonic()
            if self._due(now) > now:
                return Dirty(frozenset(), everything=False)
            if self._everything_at is not None:
                self._clear()
                return Dirty(frozenset(), everything=True)
            return Dirty(frozenset(self._take_settled(now)), everything=False)

    def _edit(self, path: str) -> None:
        place = self._noted(path)
        if place is None:
            return
        if not self._edits:
            self._changed.notify()
        self._gone.pop(place, None)
        self._unfollow(place)
        self._edits.pop(place, None)
        self._edits[place] = self._monotonic()
        self._bound()

    def _leave(self, path: str, *, departed: bool) -> None:
        place = self._noted(path)
        if place is None:
            return
        if place in self._folders:
            self._edits[place] = self._monotonic()
            return
        self._edits.pop(place, None)
        self._unfollow(place)
        self._gone.pop(place, None)
        self._gone[place] = self._monotonic()
        (self._departed.add if departed else self._departed.discard)(place)
        self._bound()

    def _noted(self, path: str) -> str | None:
        """Return the path or the folder that stands for it, `None` while everything is dirty."""
        now = self._monotonic()
        if self._everything_at is not None:
            self._everything_at = now
            return None
        folder = path.rpartition("/")[0]
        place = folder if folder in self._folders else path
        if not self._first:
            self._changed.notify()
        self._first.setdefault(place, now)
        return place

    def _follow(self, source: str, target: str) -> None:
        """Hand `source` out with `target`, and with it whatever was to be handed out with `source`."""
        sources = self._sources.pop(source, set()) | {source}
        sources.discard(target)
        self._sources.setdefault(target, set()).update(sources)
        for moved in sources:
            self._target[moved] = target

    def _unfollow(self, path: str) -> None:
        target = self._target.pop(path, None)
        if target is not None:
            self._sources[target].discard(path)

    def _due(self, now: float) -> float:
        """Return when something is to be handed out; infinity when nothing is dirty."""
        first = next(iter(self._first.values()), None)
        if first is None:
            return float("inf")
        overdue = first + LONGEST_UNREST
        if self._everything_at is not None:
            return min(overdue, self._everything_at + self._settle)
        edited, gone = _oldest(self._edits), _oldest(self._gone)
        due = min(edited + self._settle, gone + self._settle + DELETION_PATIENCE)
        if due <= now < overdue and self._in_burst(now):
            return now + self._settle
        return min(due, overdue)

    def _in_burst(self, now: float) -> bool:
        """Tell whether many paths are dirty and more than a tenth of them were touched just now."""
        if len(self._first) <= _BURST:
            return False
        tenth = len(self._first) // 10
        newest = islice(reversed(self._edits.values()), tenth, tenth + 1)
        return any(at > now - self._settle for at in newest)

    def _take_settled(self, now: float) -> Iterator[str]:
        for path in self._settled(now):
            yield from self._sources.get(path, ())
            for source in self._sources.pop(path, ()):
                self._forget(source)
            yield path
            self._forget(path)

    def _settled(self, now: float) -> dict[str, None]:
        quiet = now - self._settle
        edits = list(_until(self._edits, quiet))
        overdue = [self._leader(path) for path in _until(self._first, now - LONGEST_UNREST)]
        patient = list(_until(self._gone, quiet - DELETION_PATIENCE))
        # What departed may be what has arrived in a folder that was not watched yet.
        alone = not edits
        company = [
            path for path in _until(self._gone, quiet) if path in self._departed and not alone
        ]
        return dict.fromkeys([*edits, *overdue, *patient, *company])

    def _leader(self, path: str) -> str:
        return self._target.get(path, path)

    def _bound(self) -> None:
        """Past the bound, let folders stand for the crowds in them; the root stands for everything."""
        if len(self._first) <= self._most:
            return
        crowds: dict[str, list[str]] = {}
        for path in self._first:
            crowds.setdefault(path.rpartition("/")[0], []).append(path)
        for folder, paths in crowds.items():
            if folder and len(paths) >= _CROWD:
                self._collapse(folder, paths)
        if len(self._first) > self._most // 2:
            self._collapse_all()

    def _collapse(self, folder: str, paths: list[str]) -> None:
        now = self._monotonic()
        for path in paths:
            self._unfollow(path)
            for source in self._sources.pop(path, ()):
                del self._target[source]
                self._gone[source] = now
        for path in paths:
            self._forget(path)
        self._folders.add(folder)
        self._first[folder] = self._edits[folder] = now

    def _forget(self, path: str) -> None:
        for moments in (self._edits, self._gone, self._first):
            moments.pop(path, None)
        self._departed.discard(path)
        self._target.pop(path, None)
        self._folders.discard(path)

    def _collapse_all(self) -> None:
        now = self._monotonic()
        first = next(iter(self._first.values()), now)
        if self._everything_at is None:
            self._clear()
            self._first[""] = first
            self._changed.notify()
        self._everything_at = now


def _oldest(moments: dict[str, float]) -> float:
    return next(iter(moments.values()), float("inf"))


def _until(moments: dict[str, float], latest: float) -> Iterator[str]:
    """Yield the paths whose moment has passed; the moments come in order."""
    for path, at in moments.items():
        if at > latest:
            return
        yield path
