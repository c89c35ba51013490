"""What changes while a run is under way: offered to the run, and what it cannot take in kept for the next one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from itertools import islice

from craftsync.daemon.changes import changed_here, with_other_links, with_rules_applied
from craftsync.daemon.requests import Requests
from craftsync.local.ignore import IGNORE_FILE
from craftsync.local.watch import DirtyPaths
from craftsync.sync.report import Options
from craftsync.sync.session import Session

_MOST_AT_ONCE = 1000
"""Paths offered together: asking the store for more would take long."""
_MOST_PATHS = 10_000
"""More are not remembered one by one."""
_LATER_SECONDS = 1.0
"""Until a path is offered again: a step that has ended is recorded within about that time."""


class FreshPaths:
    """Keeps `sync.fresh.Changes` over the dirty paths of a folder and the objects that others named."""

    def __init__(
        self,
        session: Session,
        dirty: DirtyPaths,
        requests: Requests,
        options: Callable[[], Options],
    ) -> None:
        self._session = session
        self._dirty = dirty
        self._requests = requests
        self._options = options
        self._everything = False
        self._clear()

    def _clear(self) -> None:
        self._waiting: set[str] = set()
        self._later: set[str] = set()
        self._later_at = 0.0
        self._left: set[str] = set()
        self._named: set[str] = set()

    @property
    def counted(self) -> int | None:
        """How many paths wait to be offered or for the next run; `None` while that has to look at everything."""
        return None if self._everything else len(self._waiting | self._later | self._left)

    def take(self) -> Set[str]:
        dirty = self._dirty.take()
        self._everything |= dirty.everything
        due = set[str]()
        if self._later and self._session.clock.monotonic() >= self._later_at:
            due, self._later = self._later, set()
        named = self._requests.paths()
        self._named |= named
        self._waiting |= self._changed(dirty.paths | due) | named
        offered = set(islice(self._waiting, _MOST_AT_ONCE))
        self._waiting -= offered
        self._bound()
        return offered

    def _changed(self, paths: Set[str]) -> set[str]:
        """Return the paths that really differ from the baseline, or that somebody named."""
        if not paths:
            return set()
        # The ignore file of the whole folder concerns everything; the others are not to wait for that.
        self._everything |= IGNORE_FILE in paths
        within = with_rules_applied(paths - {IGNORE_FILE}) or set()
        rules = self._session.rules(self._options())
        changed = changed_here(self._session, rules, within, _MOST_PATHS)
        if changed is None:
            self._everything = True
            return set()
        return with_other_links(self._session, changed) | (paths & self._named)

    def later(self, paths: Iterable[str]) -> None:
        if not self._later:
            self._later_at = self._session.clock.monotonic() + _LATER_SECONDS
        self._later.update(paths)

    def leave(self, paths: Iterable[str]) -> None:
        self._left.update(paths)

    def _bound(self) -> None:
        """Past the bound, let the next run look at everything."""
        if max(map(len, (self._waiting, self._later, self._left, self._named))) > _MOST_PATHS:
            self._everything = True
            self._clear()

    def run_ended(self) -> None:
        """Keep for the next run what was to be offered to this one, where it still differs."""
        rest, self._later, self._waiting = self._later | self._waiting, set(), set()
        self.leave(self._changed(rest))
        self._named.clear()

    def left(self) -> tuple[bool, set[str]]:
        """Take what is the next run's: whether everything is to be looked at, and paths of both sides."""
        everything, left = self._everything, self._waiting | self._later | self._left
        self._everything = False
        self._clear()
        return everything, left
