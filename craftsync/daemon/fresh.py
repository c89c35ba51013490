"""What changes while a run is under way: offered to the run, and what it cannot take in kept for the next one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set

from craftsync.daemon.changes import changed_here, with_other_links, with_rules_applied
from craftsync.daemon.requests import Requests
from craftsync.local.ignore import IGNORE_FILE
from craftsync.local.watching import DirtyPaths
from craftsync.sync.report import Options
from craftsync.sync.session import Session

_MOST_PATHS = 1000
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
        self._left: set[str] = set()
        self._later: set[str] = set()
        self._later_at = 0.0
        self._everything = False

    @property
    def counted(self) -> int | None:
        """How many paths wait for the next run; `None` while it has to look at everything."""
        return None if self._everything else len(self._left | self._later)

    def take(self) -> Set[str]:
        dirty = self._dirty.take()
        self._everything |= dirty.everything
        due, now = set[str](), self._session.clock.monotonic()
        if self._later and now >= self._later_at:
            due, self._later = self._later, set()
        return self._changed(dirty.paths | due) | self._requests.paths()

    def _changed(self, paths: Set[str]) -> set[str]:
        """Return the paths that really differ from the baseline."""
        if not paths:
            return set()
        # The one of the whole folder concerns everything; the others are not to wait for that.
        self._everything |= IGNORE_FILE in paths
        within = with_rules_applied(paths - {IGNORE_FILE}) or set()
        rules = self._session.rules(self._options())
        changed = changed_here(self._session, rules, within, _MOST_PATHS)
        if changed is None:
            self.leave(within)
            return set()
        return with_other_links(self._session, changed)

    def later(self, paths: Iterable[str]) -> None:
        if not self._later:
            self._later_at = self._session.clock.monotonic() + _LATER_SECONDS
        self._later.update(paths)
        if len(self._later) > _MOST_PATHS:
            self.leave(self._later)
            self._later = set()

    def leave(self, paths: Iterable[str]) -> None:
        self._left.update(paths)
        if len(self._left) > 10 * _MOST_PATHS:
            self._everything, self._left = True, set()

    def run_ended(self) -> None:
        """Keep for the next run what was to be offered to this one again, where it still differs."""
        later, self._later = self._later, set()
        self.leave(self._changed(later))

    def left(self) -> tuple[bool, set[str]]:
        """Take what is the next run's: whether everything is to be looked at, and paths."""
        everything, left = self._everything, self._left | self._later
        self._everything, self._left, self._later = False, set(), set()
        return everything, left
