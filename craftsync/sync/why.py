"""Explains what would happen to one path, and which rule says so."""

from __future__ import annotations

from dataclasses import dataclass

from craftsync.core.decide import decide
from craftsync.core.model import OWN_FOLDER, BaselineRow, Kind, LocalFile, Policy, RemoteObject
from craftsync.core.paths import is_own, malformed
from craftsync.errors import PathError, PathObstructed, UsageError
from craftsync.local.folder import Folder
from craftsync.local.ignore import IgnoreRules
from craftsync.state.pair import PairState
from craftsync.stores.base import Store


@dataclass(frozen=True, slots=True)
class Explanation:
    """What each side holds at a path, and what follows. `decision` is `None` when nothing does.

    `unread` says what stands in the folder where that is not a file. Without
    `compared`, neither side was asked.
    """

    path: str
    local: LocalFile | None
    baseline: BaselineRow | None
    remote: RemoteObject | None
    decision: Kind | None
    rule: str
    ignored_by: str | None = None
    unread: str | None = None
    compared: bool = True


def explain(
    path: str, root: Folder, store: Store, state: PairState, rules: IgnoreRules, policy: Policy
) -> Explanation:
    """Stat both sides and explain what a run would do; raises `UsageError` for what is not the path of a file."""
    if is_own(path):
        rule = f"{OWN_FOLDER} is craftsync's own"
        return Explanation(path, None, None, None, None, rule, compared=False)
    if path == ".":
        raise _folder(path)
    if reason := malformed(path):
        raise UsageError(f"{path!r} is not a path in the folder: {reason}.")
    row, remote = state.baseline.get(path), store.stat(path)
    try:
        local = root.stat(path)
    except PathError as error:
        if isinstance(error, PathObstructed) and remote is None and row is None:
            raise _folder(path) from error
        unread = str(error).rstrip(".")
        rule = "what is not a file, or cannot be read, takes no part"
        return Explanation(path, None, row, remote, None, rule, unread=unread)
    if local is None and remote is None and row is None and _is_folder(path, store):
        raise _folder(path)
    match = rules.match(path)
    if match is not None and match.ignored:
        ignored_by = f"{match.pattern} ({match.source})"
        return Explanation(path, local, row, remote, None, f"ignored: {ignored_by}", ignored_by)
    decision = decide(local, row, remote, policy)
    kind = decision.kind if decision else None
    rule = decision.rule if decision else _nothing(local, remote, policy)
    return Explanation(path, local, row, remote, kind, rule, None)


def _is_folder(path: str, store: Store) -> bool:
    return next(iter(store.list(f"{path}/")), None) is not None


def _folder(path: str) -> UsageError:
    return UsageError(
        f"{path} is a folder.",
        remedy="Name a file in it. For the whole folder, use craftsync history, plan or check.",
    )


def _nothing(local: LocalFile | None, remote: RemoteObject | None, policy: Policy) -> str:
    if local is None and remote is None:
        return "on neither side"
    if local is None or remote is None:
        return f"{policy.mode} without --delete leaves it alone"
    return "both sides are as last synced"
