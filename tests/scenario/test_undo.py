"""One run is taken back: what it replaced and deleted, where both sides are still as it left them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from craftsync.core.guard import DeleteLimit
from craftsync.core.retention import Retention
from craftsync.engine.report import Options
from craftsync.engine.review.deletes import Approval
from craftsync.engine.review.versions import Wanted
from craftsync.errors import UsageError
from tests.support.clock import FakeClock
from tests.support.memory_store import MemoryStore
from tests.support.world import World

BEFORE = {
    "edited here": "old 1",
    "edited there": "old 2",
    "gone here": "old 3",
    "gone there": "old 4",
    "stays": "same",
}


@pytest.fixture
def changed(world: World) -> World:
    """A world in sync, of which one run replaced and deleted on both sides."""
    for path, content in BEFORE.items():
        world.write(path, content)
    world.run()
    world.write("edited here", "newer 1")
    world.put("edited there", "newer 2")
    world.remove("gone here")
    world.take("gone there")
    world.write("new", "new")
    world.run()
    return world


def last_run(world: World) -> int:
    with world.open() as session:
        return next(row.run for row in session.state.history.rows(None, 1) if row.run)


def undone(world: World, run: int, *paths: str, dry_run: bool = False) -> dict[str, str]:
    """Take a run back; return how it ended for each path."""
    with world.open(read_only=dry_run) as session:
        wanted = Wanted(paths)
        found = session.trash.restore_run(run, wanted, dry_run=dry_run)
        return {one.entry.path: one.status for one in found}


def test_the_history_numbers_runs(changed: World) -> None:
    with changed.open() as session:
        rows = list(session.state.history.rows(None, 99))
    assert {row.run for row in rows} == {1, 2}
    assert {row.path for row in rows if row.run == 1} == set(BEFORE)
    assert {row.path for row in rows if row.run == 2} == {*BEFORE, "new"} - {"stays"}


def test_run_without_changes_gets_no_number(changed: World) -> None:
    changed.run()
    changed.run(dry_run=True)
    changed.write("new", "newer")
    changed.run()
    assert last_run(changed) == 3


def test_undo_restores_what_a_run_replaced_and_deleted(changed: World) -> None:
    assert undone(changed, 2) == dict.fromkeys(BEFORE.keys() - {"stays"}, "done")
    assert changed.here() == {**BEFORE, "new": "new"}
    changed.run()
    assert changed.there() == changed.here()
    changed.assert_in_step()


def test_undo_keeps_replaced_versions_and_can_be_undone(changed: World) -> None:
    undone(changed, 2)
    assert {"newer 1", "newer 2"} <= changed.kept()
    changed.run()
    undone(changed, last_run(changed))
    assert changed.here()["edited here"] == "newer 1"


def test_undo_dry_run_lists_paths_and_changes_nothing(changed: World) -> None:
    before = changed.here()
    assert undone(changed, 2, dry_run=True) == dict.fromkeys(BEFORE.keys() - {"stays"}, "planned")
    assert changed.here() == before


def test_paths_that_have_changed_since_on_either_side_stay_and_are_listed(changed: World) -> None:
    changed.write("edited here", "newest 1")
    changed.put("edited there", "newest 2")
    changed.write("gone here", "there again")
    changed.put("gone there", "there again")
    for _ in range(2):
        found = undone(changed, 2)
        assert found == dict.fromkeys(BEFORE.keys() - {"stays"}, "skipped")
        changed.run()
    assert changed.here()["edited here"] == "newest 1"


def test_undo_accepts_a_file_whose_mtime_alone_changed(changed: World) -> None:
    changed.write("edited here", "newer 1")
    assert undone(changed, 2, "edited here") == {"edited here": "done"}
    assert changed.here()["edited here"] == "old 1"


def test_undo_restores_only_the_given_paths(changed: World) -> None:
    assert undone(changed, 2, "gone*") == {"gone here": "done", "gone there": "done"}


def test_undo_of_a_run_without_deletes_or_replacements_is_rejected(changed: World) -> None:
    for run in (1, 99):
        with pytest.raises(UsageError, match=f"run {run} "):
            undone(changed, run)


def test_approved_deletes_are_a_run_too(world: World) -> None:
    names = [f"f/{number}" for number in range(10)]
    for name in names:
        world.write(name, name)
    world.run()
    for name in names:
        world.remove(name)
    limit = DeleteLimit(files=3, share=0.0)
    assert world.run(delete_limit=limit).held == 10
    with world.open() as session:
        session.resolve_held(Approval(True), Options())
    assert undone(world, last_run(world)) == dict.fromkeys(names, "done")


def test_a_version_that_was_not_kept_is_listed(tmp_path: Path) -> None:
    store = MemoryStore()
    store.features = replace(store.features, server_side_copy=False)
    world = World(tmp_path, store)
    for content in ("old", "newer"):
        world.write("own", content)
        world.run()
    for dry_run in (True, False):
        assert undone(world, 2, dry_run=dry_run) == {"own": "skipped"}


def test_undo_data_is_pruned_with_the_history(tmp_path: Path) -> None:
    clock = FakeClock()
    world = World(tmp_path, MemoryStore(), clock=clock)
    world.retention = Retention(keep=10**9)
    for content in ("old", "newer"):
        world.write("a", content)
        world.run()
    clock.advance(60)
    world.write("a", "newest")
    world.run()
    with world.open() as session:
        assert list(session.state.replaced.of(2)) == []
        assert [one.path for one in session.state.replaced.of(3)] == ["a"]
