"""Every state of three paths, two of which are a file and a path below it.

Each path is absent, one of three contents or a folder on each of the three
sides: 5^9 = 1,953,125 states. The full run is behind the marker `exhaustive`;
the ordinary one takes every 101st state, a stride that meets all values of
every position because 101 and 5 have no common factor.
"""

from __future__ import annotations

import pytest

from craftsync.core.model import Action, Kind, Mode, Policy
from tests.support.model import FOLDER, Tree, World

PATHS = ("a", "a/b", "c")
VALUES = (None, 0, 1, 2, FOLDER)
STATES = len(VALUES) ** 9
POLICY = Policy(Mode.TWO_WAY)
CYCLES = 3


def world(number: int, *, between_stores: bool) -> World:
    sides: list[Tree] = []
    for _ in range(3):
        tree = {}
        for path in PATHS:
            number, digit = divmod(number, len(VALUES))
            value = VALUES[digit]
            if value is not None:
                tree[path] = value
        sides.append(tree)
    return World(*sides, between_stores=between_stores)


def as_file(tree: Tree, path: str) -> int | None:
    value = tree.get(path)
    return None if value == FOLDER else value


def expected(local: int | None, baseline: int | None, remote: int | None) -> Kind | None:
    """Property P7, implemented a second time from the text of the rule."""
    if local == baseline and remote == baseline:
        return None
    if local is None and remote is None:
        return Kind.FORGET
    if baseline is not None and local == baseline:
        return Kind.DELETE_LOCAL if remote is None else Kind.DOWNLOAD
    if baseline is not None and remote == baseline:
        return Kind.DELETE_REMOTE if local is None else Kind.UPLOAD
    if remote is None:
        return Kind.UPLOAD
    if local is None:
        return Kind.DOWNLOAD
    return Kind.RECONCILE


def possible(tree: Tree) -> bool:
    """Return whether a folder can hold this tree: no file has anything below it."""
    return as_file(tree, "a") is None or "a/b" not in tree


def run_cycle(here: World, actions: list[Action], *, reverse: bool) -> None:
    for action in reversed(actions) if reverse else actions:
        before = here.contents()
        here.apply(action)
        assert here.contents() >= before, f"lost content by {action}"


def check_state(number: int, *, between_stores: bool) -> None:
    start = world(number, between_stores=between_stores)
    plan = list(start.plan(POLICY))
    planned = {action.path: action.kind for action in plan}
    for path in PATHS:
        sides = (as_file(t, path) for t in (start.local, start.baseline, start.remote))
        assert planned.get(path) is expected(*sides), (number, path)
    if not start.baseline:
        assert not {Kind.DELETE_LOCAL, Kind.DELETE_REMOTE} & set(planned.values())
    if not possible(start.local):
        return
    for _ in range(CYCLES):
        start.blocked.clear()
        run_cycle(start, plan, reverse=bool(number & 1))
        plan = list(start.plan(POLICY))
        if not plan:
            break
    assert {action.path for action in plan} <= start.blocked, (number, plan)
    for path in {*start.local, *start.remote} - start.blocked:
        assert as_file(start.local, path) == as_file(start.remote, path), (number, path)


@pytest.mark.parametrize("between_stores", [False, True], ids=["folder", "two stores"])
def test_every_101st_state_is_decided_by_the_rule_and_loses_nothing(between_stores: bool) -> None:
    for number in range(0, STATES, 101):
        check_state(number, between_stores=between_stores)


@pytest.mark.exhaustive
@pytest.mark.parametrize("between_stores", [False, True], ids=["folder", "two stores"])
@pytest.mark.parametrize("share", range(8))
def test_every_state_is_decided_by_the_rule_and_loses_nothing(
    share: int, between_stores: bool
) -> None:
    for number in range(share, STATES, 8):
        check_state(number, between_stores=between_stores)
