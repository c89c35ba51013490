"""A run that is killed between a delete and its record: the delete is part of the event all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from craftsync.core.model import Mode, Policy
from craftsync.engine.report import Options
from craftsync.engine.review.deletes import Approval
from craftsync.stores.directory import DirectoryStore
from tests.scenario.test_crash import die_in_a_pass
from tests.support.clock import FakeClock
from tests.support.world import World

NAMES = [f"f/{number:03}" for number in range(60)]
BATCH = 18


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path, DirectoryStore.create(tmp_path / "store"), clock=FakeClock())
    for name in NAMES:
        world.write(name, name)
    assert world.run().exit_code == 0
    return world


def lose(world: World, side: str, names: list[str]) -> None:
    for name in names:
        (world.remove if side == "folder" else world.take)(name)


def deleted(world: World) -> list[str]:
    with world.open(reading=True, read_only=True) as session:
        return [one.path for one in session.state.events.deleted()]


@pytest.mark.parametrize("side", ["folder", "store"])
def test_deletes_of_killed_runs_count_with_the_next_and_can_be_rejected(
    world: World, side: str
) -> None:
    for first in range(0, 3 * BATCH, BATCH):
        lose(world, side, NAMES[first : first + BATCH])
        die_in_a_pass(world, BATCH, after=True)
    report = world.run()
    assert report.held >= 2 * BATCH
    went = deleted(world)
    assert went
    assert set(went) == set(NAMES) - {*world.here(), *world.there()}
    with world.open() as session:
        assert session.resolve_held(Approval(False, None), Options(), world.listen).exit_code == 0
    assert world.here() == world.there() == {name: name for name in NAMES}
    assert deleted(world) == []


def test_deletes_of_never_synced_paths_count_with_the_next(tmp_path: Path) -> None:
    world = World(tmp_path, DirectoryStore.create(tmp_path / "store"), clock=FakeClock())
    world.write("kept", "kept")
    assert world.run("push", delete=True).exit_code == 0
    for first in range(0, 3 * BATCH, BATCH):
        for name in NAMES[first : first + BATCH]:
            world.put(name, name)
        die_in_a_pass(world, BATCH, after=True, policy=Policy(Mode.PUSH, delete=True))
    assert world.run("push", delete=True).held >= 2 * BATCH


def test_run_over_single_paths_counts_only_their_cut_off_deletes(world: World) -> None:
    lose(world, "folder", NAMES[:BATCH])
    assert die_in_a_pass(world, BATCH, after=True)
    gone = [name for name in NAMES[:BATCH] if name not in world.there()]
    world.run(paths=gone[:3])
    world.run(paths=gone[3:])
    for name in NAMES[BATCH : 2 * BATCH]:
        world.remove(name)
    assert world.run().held >= BATCH
    assert set(gone) <= set(deleted(world))


def test_forced_deletes_do_not_count_after_a_kill(world: World) -> None:
    lose(world, "folder", NAMES[-1:])
    assert world.run().deleted_remote == 1  # Its trash stamp is none of the deletes that follow.
    lose(world, "folder", NAMES[:BATCH])
    assert die_in_a_pass(world, BATCH, after=True, force_delete=True)
    world.run(force_delete=True)
    lose(world, "folder", NAMES[BATCH : 2 * BATCH])
    assert world.run().deleted_remote == BATCH
