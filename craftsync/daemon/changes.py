"""Which paths differ from the last synced state on one side: what makes a small run out of a hint.

An event of our own download, a touched folder or a listing that shows nothing
new ends here, without a request for each path. Only looks are taken; the run
over the paths found here looks again before it decides anything. What changes
while a run is under way is offered to it, and kept for the next where it cannot
take it in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Set
from itertools import islice
from typing import NamedTuple

from craftsync.core.decide import remote_is_same
from craftsync.core.merge import Unknown, merge
from craftsync.core.model import Kind, LocalFile, RemoteObject, Skipped
from craftsync.core.paths import folders_above
from craftsync.daemon.control import Requests
from craftsync.engine.report import Options
from craftsync.engine.session import Session
from craftsync.local.ignore import IGNORE_FILE, IgnoreRules
from craftsync.local.scan import look
from craftsync.local.watch import DirtyPaths
from craftsync.state.spool import in_order

_LISTING_SHARE = 5000
"""Keys in each part of a listing that is fetched in several streams."""
_MOST_MARKS = 100_000
_64_BITS = (1 << 64) - 1


def changed_here(
    session: Session, rules: IgnoreRules, paths: Iterable[str], most: int
) -> set[str] | None:
    """Return the paths among these, and below the folders among them, that differ from the baseline.

    What could not be looked at is returned too, for a run says why; and so is a
    file that is there again although its delete is held. More than `most` are
    `None`: then everything is to be looked at. Raises `RootError` when the
    folder is not the one it was.
    """
    wanted, state = sorted(paths), session.state
    changed: set[str] = set()

    def files() -> Iterator[LocalFile]:
        for found in look(session.root, rules, wanted):
            if isinstance(found, Skipped):
                changed.add(found.path)
            else:
                yield found

    held = state.held.paths(Kind.DELETE_REMOTE, wanted)
    for path, file, row, is_held in merge(files(), state.baseline.below(wanted), held):
        if file is None:
            if row is not None and not rules.ignored(path):
                changed.add(path)
        elif is_held or row is None or row.racy or file != row[:5]:
            changed.add(path)
        if len(changed) > most:
            return None
    return changed


def with_obstacles(session: Session, paths: set[str]) -> set[str]:
    """Return the paths, and with them the files that used to be where they need a folder.

    Such a file has to go from the other side in the same run.
    """
    above = {folder for path in paths for folder in folders_above(path)} - paths
    return paths | {folder for folder in above if session.state.baseline.get(folder) is not None}


def with_other_links(session: Session, paths: set[str]) -> set[str]:
    """Return the paths, and with them the other names of files that have several.

    A file that was edited through one of its hard links has changed under all
    of them; events name only the one.
    """
    inodes = {
        row.inode
        for path in paths
        if session.root.is_linked(path) and (row := session.state.baseline.get(path))
    }
    return paths | set(session.state.baseline.with_inodes(inodes)) if inodes else paths


class Differing(NamedTuple):
    """What a list of the store found to differ from the baseline, without keeping all of it.

    `marks` stand for single objects, as long as there are few enough; `total`
    stands for all of them together.
    """

    marks: frozenset[int] = frozenset()
    total: int = 0
    number: int = 0

    @property
    def has_all_marks(self) -> bool:
        return len(self.marks) == self.number


def changed_there(
    session: Session, rules: IgnoreRules, before: Differing, most: int
) -> tuple[Differing, set[str] | None]:
    """List the store; return what differs from the baseline, and the paths of it that did not `before`.

    More than `most` new ones, or more in all than can be told apart, are `None`
    where there is anything new: then everything is to be looked at. Raises what
    the store raises when its listing does not end well.
    """
    marks: set[int] = set()
    new: set[str] = set()
    total = count = 0
    for path, remote in _differing_there(session, rules):
        mark = hash((path, remote))
        total, count = (total + mark) & _64_BITS, count + 1
        if len(marks) < _MOST_MARKS:
            marks.add(mark)
        if len(new) <= most and mark not in before.marks:
            new.add(path)
    found = Differing(frozenset(marks), total, count)
    if (count, total) == (before.number, before.total):
        return found, set()
    can_tell = found.has_all_marks and before.has_all_marks
    return found, new if can_tell and len(new) <= most else None


def _differing_there(
    session: Session, rules: IgnoreRules
) -> Iterator[tuple[str, RemoteObject | None]]:
    """Yield what differs, `None` for an object that is gone; one that is there again although its delete is held, too."""
    unknown, state = Unknown(), session.state
    boundaries = state.baseline.boundaries(_LISTING_SHARE)
    listing: Iterator[RemoteObject] = _known(session.store.list(boundaries=boundaries), unknown)
    if not session.store.features.sorted_listing:
        listing = in_order(state.database, listing)
    held = state.held.paths(Kind.DELETE_LOCAL)
    for path, is_held, row, remote in merge(held, state.baseline.rows(), listing):
        if row is not None and remote is not None and remote_is_same(remote, row) and not is_held:
            continue
        if not (remote is None and path in unknown) and not rules.ignored(path):
            yield path, remote


def with_rules_applied(paths: Iterable[str]) -> set[str] | None:
    """Return the paths, an ignore file among them standing for its whole folder; `None` is everything."""
    found = set()
    for path in paths:
        folder, _, name = path.rpartition("/")
        if name != IGNORE_FILE:
            found.add(path)
        elif not folder:
            return None
        else:
            found.add(folder)
    return found


def _known(listing: Iterable[RemoteObject | Skipped], unknown: Unknown) -> Iterator[RemoteObject]:
    for entry in listing:
        if isinstance(entry, Skipped):
            unknown.add(entry)
        else:
            yield entry


_MOST_AT_ONCE = 1000
"""Paths offered together: asking the store for more would take long."""
_MOST_PATHS = 10_000
"""More are not remembered one by one."""
_LATER_SECONDS = 1.0
"""Until a path is offered again: a step that has ended is recorded within about that time."""


class FreshPaths:
    """Keeps `engine.planner.Changes` over the dirty paths of a folder and the objects that others named."""

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
