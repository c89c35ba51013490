"""The decision for one path: what was agreed, what is here, what is there, what now?

Everything that can happen to a file is told from five looks at each side, and
each mode is one `match` over the two looks. Push is the rule for one-way copies;
pull is its mirror image, never a table of its own.
"""

from __future__ import annotations

from enum import Enum, auto

from craftsync.core.model import (
    NO_TIME,
    BaselineRow,
    Compare,
    Decision,
    Kind,
    LocalFile,
    Mode,
    Policy,
    RemoteObject,
)


class Look(Enum):
    """One side of one path, told from the baseline."""

    NONE = auto()
    """Not there, and not in the baseline."""
    NEW = auto()
    """There, and not in the baseline."""
    SAME = auto()
    """As the baseline recorded it."""
    CHANGED = auto()
    """There, but not as the baseline recorded it."""
    GONE = auto()
    """In the baseline, and not there."""


def local_is_same(local: LocalFile, row: BaselineRow) -> bool:
    """Tell whether the file's fingerprint is the recorded one, and can be believed.

    An object of a store is the recorded one by its version, where there is one.
    """
    if isinstance(local.inode, str):
        return _left_object_is_same(local, row)
    return local == row[:5] and not row.racy


def _left_object_is_same(found: LocalFile, row: BaselineRow) -> bool:
    if found.size != row.size:
        return False
    if found.inode and row.inode:
        return found.inode == row.inode
    return found.mtime_ns != NO_TIME and found.mtime_ns == row.mtime_ns


def remote_is_same(remote: RemoteObject, row: BaselineRow) -> bool:
    """Tell whether the object is the recorded one: by version where there is one, else by size and time."""
    if remote.size != row.size:
        return False
    if remote.version is not None and row.version is not None:
        return remote.version == row.version
    return remote.modified_ns is not None and remote.modified_ns == row.modified_ns


def look_local(local: LocalFile | None, row: BaselineRow | None, compare: Compare) -> Look:
    if row is None:
        return Look.NONE if local is None else Look.NEW
    if local is None:
        return Look.GONE
    if compare is Compare.SIZE_ONLY:
        return Look.SAME if local.size == row.size else Look.CHANGED
    return Look.SAME if local_is_same(local, row) else Look.CHANGED


def look_remote(remote: RemoteObject | None, row: BaselineRow | None, compare: Compare) -> Look:
    if row is None:
        return Look.NONE if remote is None else Look.NEW
    if remote is None:
        return Look.GONE
    if compare is Compare.SIZE_ONLY:
        return Look.SAME if remote.size == row.size else Look.CHANGED
    return Look.SAME if remote_is_same(remote, row) else Look.CHANGED


def decide(
    local: LocalFile | None,
    baseline: BaselineRow | None,
    remote: RemoteObject | None,
    policy: Policy,
) -> Decision | None:
    """Return what to do about one path, or `None` when it is in sync or out of the mode's reach."""
    here = look_local(local, baseline, policy.compare)
    there = look_remote(remote, baseline, policy.compare)
    if local is not None and remote is not None:
        if policy.compare is Compare.CHECKSUM:
            return Decision(Kind.RECONCILE, "contents are compared because of --checksum")
        if policy.compare is Compare.SIZE_ONLY and local.size == remote.size:
            return None if baseline else Decision(Kind.ADOPT, "both sides have the same size")
    return decide_looks(here, there, policy)


def decide_looks(here: Look, there: Look, policy: Policy) -> Decision | None:
    """Return what follows from two looks alone; the exhaustive table of the rules."""
    if policy.mode is Mode.TWO_WAY:
        return _two_way(here, there)
    if policy.mode is Mode.PUSH:
        return _one_way(here, there, policy.delete, "file", "store")
    decision = _one_way(there, here, policy.delete, "object", "folder")
    return decision and Decision(_MIRRORED[decision.kind], decision.rule)


def _two_way(here: Look, there: Look) -> Decision | None:  # noqa: C901 (one arm a rule)
    match here, there:
        case (Look.SAME, Look.SAME) | (Look.NONE, Look.NONE):
            return None
        case Look.NEW, Look.NONE:
            return Decision(Kind.UPLOAD, "the file is new in the folder")
        case Look.NONE, Look.NEW:
            return Decision(Kind.DOWNLOAD, "the object is new in the store")
        case Look.CHANGED, Look.SAME:
            return Decision(Kind.UPLOAD, "the file changed in the folder")
        case Look.SAME, Look.CHANGED:
            return Decision(Kind.DOWNLOAD, "the object changed in the store")
        case Look.GONE, Look.SAME:
            return Decision(Kind.DELETE_REMOTE, "the file was deleted in the folder")
        case Look.SAME, Look.GONE:
            return Decision(Kind.DELETE_LOCAL, "the object was deleted in the store")
        case Look.CHANGED, Look.GONE:
            return Decision(Kind.UPLOAD, "an edit in the folder beats a deletion in the store")
        case Look.GONE, Look.CHANGED:
            return Decision(Kind.DOWNLOAD, "an edit in the store beats a deletion in the folder")
        case Look.GONE, Look.GONE:
            return Decision(Kind.FORGET, "gone from both sides")
        case _:
            return Decision(Kind.RECONCILE, "both sides changed")


def _one_way(here: Look, there: Look, delete: bool, thing: str, target: str) -> Decision | None:
    """Decide for the direction here → there, in the words and kinds of a push."""
    match here, there:
        case (Look.SAME, Look.SAME) | (Look.NONE, Look.NONE):
            return None
        case Look.GONE, Look.GONE:
            return Decision(Kind.FORGET, "gone from both sides")
        case ((Look.NONE | Look.GONE), _) if delete:
            return Decision(Kind.DELETE_REMOTE, f"--delete: the {target} mirrors the other side")
        case ((Look.NONE | Look.GONE), _):
            return None
        case _, (Look.NONE | Look.GONE):
            return Decision(Kind.UPLOAD, f"the {thing} is missing from the {target}")
        case _, Look.SAME:
            return Decision(Kind.UPLOAD, f"the {thing} changed")
        case _:
            return Decision(Kind.UPLOAD, f"the {target} holds something else")


_MIRRORED = {
    Kind.UPLOAD: Kind.DOWNLOAD,
    Kind.DELETE_REMOTE: Kind.DELETE_LOCAL,
    Kind.FORGET: Kind.FORGET,
}
