"""Finds the paths that differ from the last synced state on one side, for a run over just those.

An event caused by our own download, a touched folder or an unchanged listing
starts no run, and costs no request per path. A run scans its paths again before
it decides anything. Paths that change during a run are offered to that run, and
if it is too late, to the next one.
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
from craftsync.engine.planner import LISTING_SHARE
from craftsync.engine.report import Options
from craftsync.engine.session import Session
from craftsync.local.ignore import IGNORE_FILE, IgnoreRules
from craftsync.local.scan import look
from craftsync.local.watch import DirtyPaths
from craftsync.state.plan import in_order

_MAX_HASHES = 100_000
_64_BITS = (1 << 64) - 1


def changed_in_folder(
    session: Session, rules: IgnoreRules, paths: Iterable[str], most: int
) -> set[str] | None:
    """Return which of these paths, and of those below them, differ from the baseline; `None` for more than `most`.

    Includes paths that could not be scanned, which a run reports, and files
    that exist again although their delete is held. Raises `RootError` when the
    folder was replaced.
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
    """Return the paths, and former files where they now need a folder.

    The same run must delete such a file on the other side.
    """
    above = {folder for path in paths for folder in folders_above(path)} - paths
    return paths | {folder for folder in above if session.state.baseline.get(folder) is not None}


def with_other_links(session: Session, paths: set[str]) -> set[str]:
    """Return the paths, and the other hard links of their files.

    An edit through one hard link changes all of them; the event names only one.
    """
    inodes = {
        row.inode
        for path in paths
        if session.root.is_linked(path) and (row := session.state.baseline.get(path))
    }
    return paths | set(session.state.baseline.with_inodes(inodes)) if inodes else paths


class StoreDifferences(NamedTuple):
    """The differences between a listing of the store and the baseline, in bounded memory.

    `hashes` are hashes of single objects, up to a limit; `total` is their sum
    and `number` their count.
    """

    hashes: frozenset[int] = frozenset()
    total: int = 0
    number: int = 0

    @property
    def has_all_hashes(self) -> bool:
        return len(self.hashes) == self.number


def changed_in_store(
    session: Session, rules: IgnoreRules, before: StoreDifferences, most: int
) -> tuple[StoreDifferences, set[str] | None]:
    """List the store; return its differences from the baseline, and the paths that are new since `before`.

    The paths are `None`, for a full run, when more than `most` are new, or when
    too much differs to know which paths are new. Raises the errors of
    `Store.list`.
    """
    hashes: set[int] = set()
    new: set[str] = set()
    total = count = 0
    for path, remote in _differing_in_store(session, rules):
        hashed = hash((path, remote))
        total, count = (total + hashed) & _64_BITS, count + 1
        if len(hashes) < _MAX_HASHES:
            hashes.add(hashed)
        if len(new) <= most and hashed not in before.hashes:
            new.add(path)
    found = StoreDifferences(frozenset(hashes), total, count)
    if (count, total) == (before.number, before.total):
        return found, set()
    can_tell = found.has_all_hashes and before.has_all_hashes
    return found, new if can_tell and len(new) <= most else None


def _differing_in_store(
    session: Session, rules: IgnoreRules
) -> Iterator[tuple[str, RemoteObject | None]]:
    """Yield paths that differ, with `None` for a deleted object; also objects that exist again while their delete is held."""
    unknown, state = Unknown(), session.state
    boundaries = state.baseline.boundaries(LISTING_SHARE)
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
    """Return the paths, with each ignore file replaced by its folder; `None` means everything."""
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
"""The most paths offered at once: stats of more objects would take too long."""
_MOST_PATHS = 10_000
"""With more paths than this, the next run is a full one."""
_LATER_SECONDS = 1.0
"""The pause before a path is offered again: a finished step is recorded within about that time."""


class FreshPaths:
    """Collects paths that changed during a run: file events, and objects named by requests. Implements `engine.planner.Changes`."""

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
        self._deferred: set[str] = set()
        self._named: set[str] = set()

    @property
    def counted(self) -> int | None:
        """The number of paths that wait for this run or the next; `None` if the next is a full run."""
        return None if self._everything else len(self._waiting | self._later | self._deferred)

    def take(self) -> Set[str]:
        dirty = self._dirty.take()
        self._everything |= dirty.everything
        due = set[str]()
        if self._later and self._session.clock.monotonic() >= self._later_at:
            due, self._later = self._later, set()
        named = self._requests.take_paths()
        self._named |= named
        self._waiting |= self._changed(dirty.paths | due) | named
        offered = set(islice(self._waiting, _MOST_AT_ONCE))
        self._waiting -= offered
        self._bound()
        return offered

    def _changed(self, paths: Set[str]) -> set[str]:
        """Return the paths that differ from the baseline, or that a request named."""
        if not paths:
            return set()
        # The top ignore file needs a full run; the other paths should not wait for it.
        self._everything |= IGNORE_FILE in paths
        within = with_rules_applied(paths - {IGNORE_FILE}) or set()
        rules = self._session.rules(self._options())
        changed = changed_in_folder(self._session, rules, within, _MOST_PATHS)
        if changed is None:
            self._everything = True
            return set()
        return with_other_links(self._session, changed) | (paths & self._named)

    def later(self, paths: Iterable[str]) -> None:
        if not self._later:
            self._later_at = self._session.clock.monotonic() + _LATER_SECONDS
        self._later.update(paths)

    def defer(self, paths: Iterable[str]) -> None:
        self._deferred.update(paths)

    def _bound(self) -> None:
        """Past the bound, make the next run a full one."""
        if max(map(len, (self._waiting, self._later, self._deferred, self._named))) > _MOST_PATHS:
            self._everything = True
            self._clear()

    def run_ended(self) -> None:
        """Keep what was not offered and still differs for the next run."""
        rest, self._later, self._waiting = self._later | self._waiting, set(), set()
        self.defer(self._changed(rest))
        self._named.clear()

    def take_rest(self) -> tuple[bool, set[str]]:
        """Return what the next run must cover, and forget it: whether it is a full run, and the paths of both sides."""
        everything, rest = self._everything, self._waiting | self._later | self._deferred
        self._everything = False
        self._clear()
        return everything, rest
