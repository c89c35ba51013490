"""Decides what to do at one path: compares each side with the last synced state, then applies a table.

Each side is in one of five states (`SideState`). Each mode is one `match` over the pair of
states; pull is push with the sides swapped.
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


class SideState(Enum):
    """One side of one path, compared with the baseline."""

    NONE = auto()
    """Absent, and not in the baseline."""
    NEW = auto()
    """Present, but not in the baseline."""
    SAME = auto()
    """Present as the baseline recorded it."""
    CHANGED = auto()
    """Present, but not as the baseline recorded it."""
    GONE = auto()
    """Absent, but in the baseline."""


def local_is_same(local: LocalFile, row: BaselineRow) -> bool:
    """Return whether the file has the recorded fingerprint, and the row is not racy.

    Where the left side is a store, compare by version if both have one, else by time.
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
    """Return whether the object is the recorded one: by size, and by version or else by time."""
    if remote.size != row.size:
        return False
    if remote.version is not None and row.version is not None:
        return remote.version == row.version
    return remote.modified_ns is not None and remote.modified_ns == row.modified_ns


def local_state(local: LocalFile | None, row: BaselineRow | None, compare: Compare) -> SideState:
    if row is None:
        return SideState.NONE if local is None else SideState.NEW
    if local is None:
        return SideState.GONE
    if compare is Compare.SIZE_ONLY:
        return SideState.SAME if local.size == row.size else SideState.CHANGED
    return SideState.SAME if local_is_same(local, row) else SideState.CHANGED


def remote_state(
    remote: RemoteObject | None, row: BaselineRow | None, compare: Compare
) -> SideState:
    if row is None:
        return SideState.NONE if remote is None else SideState.NEW
    if remote is None:
        return SideState.GONE
    if compare is Compare.SIZE_ONLY:
        return SideState.SAME if remote.size == row.size else SideState.CHANGED
    return SideState.SAME if remote_is_same(remote, row) else SideState.CHANGED


def decide(
    local: LocalFile | None,
    baseline: BaselineRow | None,
    remote: RemoteObject | None,
    policy: Policy,
) -> Decision | None:
    """Return what to do at one path, or `None` if it is in sync or the mode leaves it alone."""
    if local is not None and remote is not None:
        if policy.compare is Compare.CHECKSUM:
            return Decision(Kind.RECONCILE, "contents are compared because of --checksum")
        if policy.compare is Compare.SIZE_ONLY and local.size == remote.size:
            return None if baseline else Decision(Kind.ADOPT, "both sides have the same size")
    return decide_states(
        local_state(local, baseline, policy.compare),
        remote_state(remote, baseline, policy.compare),
        policy,
    )


def decide_states(local: SideState, remote: SideState, policy: Policy) -> Decision | None:
    """Return the decision for two states. The tables below it are all of the rules."""
    if policy.mode is Mode.TWO_WAY:
        return _two_way(local, remote)
    if policy.mode is Mode.PUSH:
        return _one_way(local, remote, policy.delete, "file", "store")
    decision = _one_way(remote, local, policy.delete, "object", "folder")
    return decision and Decision(_MIRRORED[decision.kind], decision.rule)


def _two_way(local: SideState, remote: SideState) -> Decision | None:  # noqa: C901 (one arm a rule)
    match local, remote:
        case (SideState.SAME, SideState.SAME) | (SideState.NONE, SideState.NONE):
            return None
        case SideState.NEW, SideState.NONE:
            return Decision(Kind.UPLOAD, "the file is new in the folder")
        case SideState.NONE, SideState.NEW:
            return Decision(Kind.DOWNLOAD, "the object is new in the store")
        case SideState.CHANGED, SideState.SAME:
            return Decision(Kind.UPLOAD, "the file changed in the folder")
        case SideState.SAME, SideState.CHANGED:
            return Decision(Kind.DOWNLOAD, "the object changed in the store")
        case SideState.GONE, SideState.SAME:
            return Decision(Kind.DELETE_REMOTE, "the file was deleted in the folder")
        case SideState.SAME, SideState.GONE:
            return Decision(Kind.DELETE_LOCAL, "the object was deleted in the store")
        case SideState.CHANGED, SideState.GONE:
            return Decision(Kind.UPLOAD, "an edit in the folder beats a deletion in the store")
        case SideState.GONE, SideState.CHANGED:
            return Decision(Kind.DOWNLOAD, "an edit in the store beats a deletion in the folder")
        case SideState.GONE, SideState.GONE:
            return Decision(Kind.FORGET, "gone from both sides")
        case _:
            return Decision(Kind.RECONCILE, "both sides changed")


def _one_way(
    source: SideState, target: SideState, delete: bool, thing: str, where: str
) -> Decision | None:
    """Decide for a copy from source to target, as in a push. `thing` and `where` are words of the rule."""
    match source, target:
        case (SideState.SAME, SideState.SAME) | (SideState.NONE, SideState.NONE):
            return None
        case SideState.GONE, SideState.GONE:
            return Decision(Kind.FORGET, "gone from both sides")
        case ((SideState.NONE | SideState.GONE), _) if delete:
            return Decision(Kind.DELETE_REMOTE, f"--delete: the {where} mirrors the other side")
        case ((SideState.NONE | SideState.GONE), _):
            return None
        case _, (SideState.NONE | SideState.GONE):
            return Decision(Kind.UPLOAD, f"the {thing} is missing from the {where}")
        case _, SideState.SAME:
            return Decision(Kind.UPLOAD, f"the {thing} changed")
        case _:
            return Decision(Kind.UPLOAD, f"the {where} holds something else")


_MIRRORED = {
    Kind.UPLOAD: Kind.DOWNLOAD,
    Kind.DELETE_REMOTE: Kind.DELETE_LOCAL,
    Kind.FORGET: Kind.FORGET,
}
