"""Deletes that follow each other closely are one event: judged, listed and taken back as a whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from craftsync.core.guard import DeleteLimit
from craftsync.core.model import Policy
from craftsync.engine.report import ActionEvent, Options, Report
from craftsync.engine.review.deletes import Approval
from craftsync.state.held import EVENT_SECONDS
from craftsync.stores.directory import DirectoryStore
from tests.support.clock import FakeClock
from tests.support.memory_store import MemoryStore
from tests.support.world import World

DIED = 9
NAMES = [f"f/{number:03}" for number in range(100)]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["directory", "memory"])
def world(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> World:
    store = (
        DirectoryStore.create(tmp_path / "store") if request.param == "directory" else MemoryStore()
    )
    world = World(tmp_path, store, clock=clock)
    for name in NAMES:
        world.write(name, name)
    assert world.run().exit_code == 0
    return world


def lose(world: World, names: list[str]) -> Report:
    """Delete these files in the folder and run over them alone, as a daemon does."""
    for name in names:
        world.remove(name)
    return world.run(paths=names)


def judge(world: World, *, approved: bool, paths: tuple[str, ...] | None = None) -> Report:
    world.events.clear()
    with world.open() as session:
        return session.resolve_held(Approval(approved, paths), Options(), world.listen)


def reject_and_die(world: World) -> None:
    """Reject everything in a child that is killed before it restores anything."""
    child = os.fork()
    if child == 0:
        with world.open() as session:
            session.resolve_held(Approval(approved=False), Options(), lambda _: os._exit(DIED))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == DIED


def deleted(world: World) -> list[str]:
    with world.open(read_only=True) as session:
        return [one.path for one in session.state.events.deleted()]


def held(world: World) -> list[str]:
    with world.open(read_only=True) as session:
        return [one.path for one in session.state.held.rows()]


def test_deletes_of_runs_shortly_after_each_other_are_judged_as_one_event(
    world: World, clock: FakeClock
) -> None:
    assert lose(world, NAMES[:15]).deleted_remote == 15
    clock.advance(EVENT_SECONDS - 1)
    for name in NAMES[15:25]:
        world.remove(name)
    report = world.run()
    assert (report.held, report.deleted_remote) == (10, 0)
    assert deleted(world) == NAMES[:15]


def test_delete_limit_resets_after_a_quiet_period(world: World, clock: FakeClock) -> None:
    lose(world, NAMES[:15])
    clock.advance(EVENT_SECONDS)
    assert lose(world, NAMES[15:30]).deleted_remote == 15


def test_clock_set_back_starts_a_new_delete_event(world: World, clock: FakeClock) -> None:
    lose(world, NAMES[:15])
    clock.advance(-10 * EVENT_SECONDS)
    assert lose(world, NAMES[15:30]).deleted_remote == 15


def test_new_files_offset_earlier_deletes_in_the_limit(world: World) -> None:
    lose(world, NAMES[:15])
    for number in range(15):
        world.write(f"new/{number}", "new")
    world.run()
    assert lose(world, NAMES[15:30]).deleted_remote == 15


def test_held_deletes_are_not_released_by_time(world: World, clock: FakeClock) -> None:
    lose(world, NAMES[:15])
    lose(world, NAMES[15:30])
    clock.advance(10 * EVENT_SECONDS)
    assert lose(world, NAMES[30:32]).held == 2
    assert world.run().held == 17


def test_forced_deletes_do_not_count_toward_the_limit(world: World) -> None:
    for name in NAMES[:50]:
        world.remove(name)
    assert world.run(force_delete=True).deleted_remote == 50
    assert lose(world, NAMES[50:65]).deleted_remote == 15


def test_rejecting_brings_back_the_whole_event(world: World) -> None:
    lose(world, NAMES[:15])
    lose(world, NAMES[15:60])
    report = judge(world, approved=False)
    assert report.exit_code == 0
    assert world.here() == world.there() == {name: name for name in NAMES}
    world.assert_in_step()
    assert (held(world), deleted(world)) == ([], [])
    # And the event is over: as many may go as ever.
    assert lose(world, NAMES[:15]).deleted_remote == 15


def test_rejecting_brings_back_the_whole_event_however_long_it_was_held(
    world: World, clock: FakeClock
) -> None:
    lose(world, NAMES[:15])
    lose(world, NAMES[15:60])
    clock.advance(10 * EVENT_SECONDS)
    assert world.run().held == 45
    judge(world, approved=False)
    assert world.here() == world.there() == {name: name for name in NAMES}


def test_reject_restores_deleted_objects_in_the_store(world: World) -> None:
    for name in NAMES[:15]:
        world.take(name)
    assert world.run().deleted_local == 15
    for name in NAMES[15:60]:
        world.take(name)
    assert world.run().held == 45
    assert judge(world, approved=False).exit_code == 0
    assert world.here() == world.there() == {name: name for name in NAMES}


def test_reject_reports_and_leaves_paths_that_exist_again(world: World) -> None:
    lose(world, NAMES[:15])
    lose(world, NAMES[15:60])
    world.write(NAMES[0], "new in the folder")
    world.put(NAMES[1], "new in the store")
    report = judge(world, approved=False)
    assert (report.skipped, report.exit_code) == (2, 6)
    assert [line for line in world.said if line.startswith("skipped")] == [
        f"skipped {NAMES[0]}",
        f"skipped {NAMES[1]}",
    ]
    world.run()
    whole = {name: name for name in NAMES}
    assert world.here() == whole | {NAMES[0]: "new in the folder", NAMES[1]: "new in the store"}
    world.assert_in_step()


def test_killed_reject_makes_no_conflict_of_what_another_client_changed(world: World) -> None:
    for name in NAMES[:60]:
        world.take(name)
    assert world.run().held == 60
    reject_and_die(world)
    for name in NAMES[:2]:
        world.put(name, "edited by another client")
    assert world.run().conflicts == 0
    assert held(world) == NAMES[2:60]
    assert judge(world, approved=False).exit_code == 0
    edited = dict.fromkeys(NAMES[:2], "edited by another client")
    assert world.here() == world.there() == {name: name for name in NAMES} | edited


def test_reject_never_restores_approved_deletes(world: World) -> None:
    lose(world, NAMES[:15])
    lose(world, NAMES[15:60])
    judge(world, approved=True, paths=(*NAMES[:5], *NAMES[15:20]))
    judge(world, approved=False)
    assert set(world.there()) == set(NAMES[5:15]) | set(NAMES[20:])


def test_a_part_of_an_event_can_be_brought_back(world: World) -> None:
    lose(world, NAMES[:15])
    lose(world, NAMES[15:60])
    judge(world, approved=False, paths=(NAMES[0], NAMES[15]))
    assert {NAMES[0], NAMES[15]} <= set(world.there())
    assert set(deleted(world)) == set(NAMES[1:15])
    assert set(held(world)) == set(NAMES[16:60])


def test_reject_reports_a_version_missing_from_the_trash(world: World) -> None:
    lose(world, NAMES[:15])
    with world.open() as session:
        session.trash.purge(-1)
    lose(world, NAMES[15:60])
    report = judge(world, approved=False)
    assert (report.problems, report.downloaded) == (15, 45)


def test_unrestored_deletes_stay_listed_until_restored_or_approved(
    world: World, clock: FakeClock
) -> None:
    lose(world, NAMES[:15])
    with world.open() as session:
        session.trash.purge(-1)
    lose(world, NAMES[15:60])
    judge(world, approved=False)
    clock.advance(10 * EVENT_SECONDS)
    world.run()
    assert (held(world), deleted(world)) == ([], NAMES[:15])
    world.write(NAMES[0], "from a backup")
    world.run()
    assert judge(world, approved=False).problems == 14
    assert deleted(world) == NAMES[1:15]
    judge(world, approved=True)
    assert deleted(world) == []


def test_dry_run_of_an_approval_reports_everything_and_changes_nothing(world: World) -> None:
    lose(world, NAMES[:15])
    lose(world, NAMES[15:60])
    world.events.clear()
    with world.open(read_only=True) as session:
        report = session.resolve_held(Approval(False), Options(dry_run=True), world.listen)
    planned = [event.path for event in world.events if isinstance(event, ActionEvent)]
    assert sorted(planned) == NAMES[:60]
    assert (report.uploaded, report.downloaded) == (15, 45)
    assert set(world.here()) == set(NAMES[60:])
    assert (len(held(world)), len(deleted(world))) == (45, 15)


def test_held_deletes_are_released_when_files_return(world: World) -> None:
    for name in NAMES[:60]:
        world.remove(name)
    assert world.run().held == 60
    for name in NAMES[:30]:
        world.write(name, name)
    # A small run, over a folder, as a daemon makes it for an event.
    world.run(paths=["f"])
    assert held(world) == NAMES[30:60]
    for name in NAMES[30:60]:
        world.write(name, name)
    assert world.run().exit_code == 0
    world.assert_in_step()


def test_run_of_another_mode_keeps_held_deletes(world: World) -> None:
    for name in NAMES[:60]:
        world.remove(name)
    assert world.run().held == 60
    judge(world, approved=True, paths=tuple(NAMES[:50]))
    world.run("push")
    assert held(world) == NAMES[50:60]
    report = world.run()
    assert (report.held, report.deleted_remote) == (10, 0)


def test_run_of_another_mode_releases_held_paths_that_exist_again(world: World) -> None:
    kept = world.root.parent / "kept"
    (world.root / "f").rename(kept)
    assert world.run().held == 100
    kept.rename(world.root / "f")
    world.run("push")
    assert held(world) == []


def test_an_unreadable_folder_releases_no_held_delete(world: World) -> None:
    for name in NAMES[:60]:
        world.remove(name)
    assert world.run().held == 60
    aside = world.root.parent / "aside"
    (world.root / "f").rename(aside)
    (world.root / "f").symlink_to(aside)
    world.run()
    assert held(world) == NAMES[:60]


def test_another_max_delete_does_not_count_earlier_deletes(world: World) -> None:
    lose(world, NAMES[:15])
    for name in NAMES[15:40]:
        world.remove(name)
    report = world.run(delete_limit=DeleteLimit(files=30, share=0.0), policy=Policy())
    assert report.deleted_remote == 25
