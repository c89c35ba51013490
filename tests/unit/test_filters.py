"""A path that a filter excludes takes no part: checked for every state of one path, and of three."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from copy import deepcopy

import pytest

from craftsync.core.filters import Filter, Listed, Now, Sieve
from craftsync.core.model import Kind, Mode, Policy
from tests.property.test_exhaustive import PATHS, STATES, as_file, possible, world
from tests.support.model import FOLDER, Tree, World

NOW = Now(10, 10)
"""A content is its own time: content 1 is 9 old."""
CONTENTS = (None, 0, 1, 2, FOLDER)
Out = Callable[[str, int | None, int | None], bool]
"""Returns whether a path is excluded, given the version to be copied and the one that it replaces."""

FILTERS: dict[str, tuple[Filter, Out]] = {
    "max size": (Filter(max_size=2), lambda path, new, old: 2 in (new, old) or new is old is None),
    "min size": (Filter(min_size=2), lambda path, new, old: 0 in (new, old) or new is old is None),
    "max age": (Filter(max_age=9), lambda path, new, old: new in (None, 0)),
    "min age": (Filter(min_age=9), lambda path, new, old: new in (None, 2)),
    "existing": (Filter(existing=True), lambda path, new, old: old is None),
    "ignore existing": (Filter(ignore_existing=True), lambda path, new, old: old is not None),
    "list": (Filter(listed=Listed(frozenset({"a/", "c"}))), lambda path, new, old: path == "a"),
    "nothing listed": (Filter(listed=Listed(frozenset())), lambda path, new, old: True),
    "several": (
        Filter(max_size=2, existing=True),
        lambda path, new, old: 2 in (new, old) or old is None,
    ),
}
MODES = (Mode.PUSH, Mode.PULL)


def states_of_one_path() -> Iterator[World]:
    for local, row, remote in itertools.product(CONTENTS, repeat=3):
        yield World(*({} if each is None else {"c": each} for each in (local, row, remote)))


@pytest.mark.parametrize("between_stores", [False, True], ids=["folder", "two stores"])
@pytest.mark.parametrize("name", FILTERS)
def test_a_path_left_out_takes_no_part_whatever_its_state(name: str, between_stores: bool) -> None:
    three = (world(number, between_stores=between_stores) for number in range(0, STATES, 8009))
    for start, mode in itertools.product([*states_of_one_path(), *three], MODES):
        start.between_stores = between_stores
        if possible(start.local):
            check_state(start, mode, *FILTERS[name])


def check_state(start: World, mode: Mode, filter: Filter, is_out: Out) -> None:
    policy = Policy(mode)
    assert filter.refusal(policy) is None
    everything = {action.path: action.kind for action in start.plan(policy)}
    plan = list(start.plan(policy, Sieve(filter, mode, NOW)))
    planned = {action.path: action.kind for action in plan}
    assert not {Kind.DELETE_LOCAL, Kind.DELETE_REMOTE} & set(planned.values())
    after = deepcopy(start)
    for action in plan:
        after.apply(action)
    for path in PATHS:
        new, old = as_file(start.local, path), as_file(start.remote, path)
        if mode is Mode.PULL:
            new, old = old, new
        if is_out(path, new, old):
            assert path not in planned
            assert at(after, path) == at(start, path)
        else:
            assert planned.get(path) == everything.get(path)
    assert after.contents() >= start.contents()


def at(state: World, path: str) -> list[int | None]:
    """Return the versions of a path on both sides and in the last synced state."""
    trees: tuple[Tree, ...] = (state.local, state.baseline, state.remote)
    return [tree.get(path) for tree in trees]


@pytest.mark.parametrize("name", FILTERS)
def test_every_filter_refuses_both_directions_and_deletes(name: str) -> None:
    filter, _ = FILTERS[name]
    for policy in (Policy(Mode.TWO_WAY), Policy(Mode.PUSH, delete=True), Policy(Mode.PULL, True)):
        refusal = filter.refusal(policy)
        assert refusal is not None
        assert all(flag in refusal[0] for flag in filter.flags())
    assert Filter().refusal(Policy(Mode.TWO_WAY)) is None


def test_a_list_names_files_and_with_a_slash_all_in_a_folder() -> None:
    listed = Listed(frozenset({"a", "d/", "d/e/", "x/y"}))
    named = {path: listed.entry_of(path) for path in ("a", "a/b", "d", "d/e/f", "x/y", "x", "x/z")}
    assert named == {
        **dict.fromkeys(("a/b", "d", "x", "x/z")),
        **{"a": "a", "d/e/f": "d/", "x/y": "x/y"},
    }
    assert (listed.folder_of("a/b"), listed.folder_of("d/e")) == ("a", None)
