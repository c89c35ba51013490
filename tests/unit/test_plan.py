"""The plan table during a run: steps are added, and it knows which paths are being worked on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from craftsync.core.model import Action, BaselineRow, Kind, LocalFile
from craftsync.state.pair import PairState
from craftsync.state.transfers import Intent


@pytest.fixture
def state(tmp_path: Path) -> Iterator[PairState]:
    ids = map(str, count())
    state = PairState.open(tmp_path, "/root", "/store", new_id=lambda: f"run{next(ids)}")
    yield state
    state.close()


def upload(path: str, size: int = 1) -> Action:
    return Action(Kind.UPLOAD, path, "new", LocalFile(path, size, 2, 3, 4))


def planned(state: PairState, *actions: Action) -> list[str]:
    """Plan actions, and return the operation ids of the steps that are handed out."""
    with state.transaction():
        state.plan.begin(by_operation=True)
        state.plan.add(actions)
    return [state.plan.operation(step.id) for step in state.plan.steps()]


def test_added_steps_get_unique_operation_ids(
    state: PairState,
) -> None:
    operations = planned(state, upload("a"), upload("b"))
    for _ in range(3):
        with state.transaction():
            state.plan.done([1, 2])
            (step,) = state.plan.add_during_run([upload("b")])
            state.plan.done([step.id])
        operations.append(state.plan.operation(step.id))

    assert len(set(operations)) == 5


def test_added_steps_run_once_and_survive_into_the_next_run(
    state: PairState,
) -> None:
    with state.transaction():
        state.plan.begin(by_operation=True)
        state.plan.add([upload("a")])
    steps = state.plan.steps()
    assert next(steps).action.path == "a"
    with state.transaction():
        (added,) = state.plan.add_during_run([upload("b")])
    assert list(steps) == []
    operation = state.plan.operation(added.id)

    planned(state, upload("b", size=9))

    assert state.intents.of("b") == (Intent(operation, LocalFile("b", 1, 2, 3, 4)),)


@pytest.mark.parametrize(
    ("path", "touched"),
    [
        *[("d/file", True), ("d", True), ("d/file/below", True), ("d/other", False)],
        *[("old/name", True), ("old", True), ("old/name/below", True), ("old/other", False)],
        *[("new name", True), ("d0", False), ("d/file0", False), ("", False)],
    ],
)
def test_plan_touches_its_paths_their_parents_and_children(
    state: PairState, path: str, touched: bool
) -> None:
    move = upload("new name")._replace(kind=Kind.MOVE_REMOTE, source="old/name")
    planned(state, upload("d/file"), move)

    assert state.plan.touches(path) is touched


def test_abandoned_step_frees_its_path_and_keeps_its_intent(
    state: PairState,
) -> None:
    operation, _ = planned(state, upload("a"), upload("b"))
    with state.transaction():
        state.plan.give_up("a")

    assert [state.plan.touches(path) for path in "ab"] == [False, True]
    assert [intent.operation for intent in state.intents.of("a")] == [operation]
    assert state.intents.of("b") == ()


def test_baseline_row_obstructs_paths_above_and_below_it(state: PairState) -> None:
    with state.transaction():
        state.baseline.put([BaselineRow("d/file", 1, 2, 3, 4, False, None, 5, "v")])

    paths = ("d", "d/file/below", "d/file", "d/other", "other")
    assert [state.baseline.obstructs(path) for path in paths] == [True, True, False, False, False]
