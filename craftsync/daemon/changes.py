"""Which paths differ from the baseline on one side: what makes a small pass out of a hint.

An event of our own download, a touched folder or a listing that shows nothing
new ends here, without a request for each path. Only looks are taken; the pass
over the paths found here looks again before it decides anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from craftsync.core.decide import remote_is_same
from craftsync.core.merge import Unknown, merge
from craftsync.core.model import RemoteObject, Skipped
from craftsync.local.ignore import IGNORE_FILE, IgnoreRules
from craftsync.local.scan import look
from craftsync.state.spool import in_order
from craftsync.sync.session import Session

_LISTING_SHARE = 5000
"""Keys in each part of a listing that is fetched in several streams."""


def changed_here(session: Session, rules: IgnoreRules, paths: Iterable[str]) -> set[str]:
    """Return the paths among these, and below the folders among them, that differ from the baseline.

    What could not be looked at is returned too: a pass says why. Raises
    `RootError` when the root is not the one it was.
    """
    wanted = sorted(paths)
    rows = {row.path: row for row in session.state.baseline.below(wanted)}
    changed = set()
    for found in look(session.root, rules, wanted):
        row = None if isinstance(found, Skipped) else rows.pop(found.path, None)
        if row is None or row.racy or found != row[:5]:
            changed.add(found.path)
    changed.update(path for path in rows if not rules.ignored(path))
    return changed


def with_obstacles(session: Session, paths: set[str]) -> set[str]:
    """Return the paths, and with them the files that used to be where they need a folder.

    Such a file has to go from the other side in the same pass.
    """
    above = {folder for path in paths for folder in _above(path)} - paths
    return paths | {folder for folder in above if session.state.baseline.get(folder) is not None}


def changed_there(session: Session, rules: IgnoreRules) -> dict[str, RemoteObject | None]:
    """List the store and return what differs from the baseline; `None` is an object that is gone.

    Raises what the store raises when its listing does not end well.
    """
    unknown = Unknown()
    boundaries = session.state.baseline.boundaries(_LISTING_SHARE)
    listing: Iterator[RemoteObject] = _known(session.store.list(boundaries=boundaries), unknown)
    if not session.store.features.sorted_listing:
        listing = in_order(session.state.database, listing)
    return {
        path: remote
        for path, _, row, remote in merge((), session.state.baseline.rows(), listing)
        if (row is None or remote is None or not remote_is_same(remote, row))
        and not (remote is None and path in unknown)
        and not rules.ignored(path)
    }


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


def _above(path: str) -> Iterator[str]:
    folder = path.rpartition("/")[0]
    while folder:
        yield folder
        folder = folder.rpartition("/")[0]


def _known(listing: Iterable[RemoteObject | Skipped], unknown: Unknown) -> Iterator[RemoteObject]:
    for entry in listing:
        if isinstance(entry, Skipped):
            unknown.add(entry)
        else:
            yield entry
