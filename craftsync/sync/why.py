"""Explains what would happen to one path, and which rule says so."""

from __future__ import annotations

from dataclasses import dataclass

from craftsync.core.decide import decide
from craftsync.core.model import BaselineRow, Kind, LocalFile, Policy, RemoteObject
from craftsync.core.paths import refusal
from craftsync.errors import PathError
from craftsync.local.folder import Folder
from craftsync.local.ignore import IgnoreRules
from craftsync.state.pair import PairState
from craftsync.stores.base import Store


@dataclass(frozen=True, slots=True)
class Explanation:
    """What each side holds at a path, and what follows. `decision` is `None` when nothing does."""

    path: str
    local: LocalFile | None
    baseline: BaselineRow | None
    remote: RemoteObject | None
    decision: Kind | None
    rule: str
    ignored_by: str | None


def explain(
    path: str, root: Folder, store: Store, state: PairState, rules: IgnoreRules, policy: Policy
) -> Explanation:
    """Look at both sides and say what a pass would do."""
    refused = refusal(path)
    if refused:
        return Explanation(path, None, None, None, None, refused, None)
    row, remote = state.baseline.get(path), store.stat(path)
    try:
        local = root.stat(path)
    except PathError as error:
        return Explanation(path, None, row, remote, None, str(error), None)
    match = rules.match(path)
    if match is not None and match.ignored:
        ignored_by = f"{match.pattern} ({match.source})"
        return Explanation(path, local, row, remote, None, f"ignored: {ignored_by}", ignored_by)
    decision = decide(local, row, remote, policy)
    kind = decision.kind if decision else None
    rule = decision.rule if decision else _nothing(local, remote, policy)
    return Explanation(path, local, row, remote, kind, rule, None)


def _nothing(local: LocalFile | None, remote: RemoteObject | None, policy: Policy) -> str:
    if local is None and remote is None:
        return "on neither side"
    if local is None or remote is None:
        return f"{policy.mode} without --delete leaves it alone"
    return "in step: both sides are as last agreed on"
