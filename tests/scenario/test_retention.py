"""What this client displaced is recorded, and only that is ever removed by retention."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from craftsync.core.guard import DeleteLimit
from craftsync.core.model import RemoteObject
from craftsync.core.retention import Retention, StoreTrash
from craftsync.engine.report import Options
from craftsync.engine.review.deletes import Approval
from craftsync.engine.review.retention import suspended
from craftsync.engine.review.versions import Wanted
from craftsync.errors import PathRefused, StoreDenied, StoreError, StoreUnavailable
from craftsync.stores.retrying import RetryingStore
from tests.support.clock import FakeClock
from tests.support.memory_store import MemoryStore
from tests.support.world import Bytes, World


def recorded(world: World) -> set[tuple[str, str, int]]:
    """Return side, path and size of what the state database says this client keeps."""
    with world.open() as session:
        rows = list(session.state.database.connection.execute("SELECT * FROM kept"))
        total = session.state.kept.total()
    assert total == (len(rows), sum(size for *_, size, _ in rows))
    return {(side, path, size) for side, _, path, size, _ in rows}


def test_each_replaced_or_deleted_version_is_recorded_with_its_side_and_size(
    world: World,
) -> None:
    for path in ("edited here", "edited there", "gone here", "gone there", "both"):
        world.write(path, "old")
    world.write("stays", "old")
    world.run()
    assert recorded(world) == set()
    world.write("edited here", "newer")
    world.put("edited there", "newer")
    world.remove("gone here")
    world.take("gone there")
    world.write("both", "mine")
    world.put("both", "theirs")
    world.run()
    assert recorded(world) == {
        ("store", "edited here", 3),
        ("root", "edited there", 3),
        ("store", "gone here", 3),
        ("root", "gone there", 3),
        ("store", "both", 6),
    }
    with world.open() as session:
        found = {(entry.side, entry.path, entry.size) for entry in session.trash.entries()}
    assert found == recorded(world)


def test_a_dry_run_and_another_client_record_nothing(world: World) -> None:
    world.write("a", "old")
    world.run()
    world.write("a", "newer")
    world.run(dry_run=True)
    world.store.delete("a", expect=None, trash_stamp="20200101T000000000000Z")
    assert recorded(world) == set()


def test_version_replaced_by_a_restore_is_recorded(world: World) -> None:
    world.write("a", "old")
    world.run()
    world.put("a", "newer")
    world.run()
    before = recorded(world)
    with world.open() as session:
        list(session.trash.restore(Wanted(("a",)), overwrite=True))
    assert recorded(world) - before == {("root", "a", 5)}


@pytest.mark.parametrize("versions", [False, True])
def test_version_replaced_by_a_repair_is_recorded_unless_versioned(
    tmp_path: Path, versions: bool
) -> None:
    store = MemoryStore()
    store.features = replace(store.features, keeps_versions=versions)
    world = World(tmp_path, store)
    world.write("a", "good")
    world.run()
    described, _ = store._objects["a"]
    store._objects["a"] = described, b"rot!"
    with world.open() as session:
        session.scrub(repair=True)
    assert world.there()["a"] == "good"
    assert recorded(world) == (set() if versions else {("store", "a", 4)})


def test_copies_that_a_failed_repair_leaves_are_recorded(tmp_path: Path) -> None:
    class Lost(MemoryStore):
        """A store that loses the answer to a repair and refuses the next try."""

        def write(self, path: str, source: Any, **options: Any) -> RemoteObject:
            if not options["operation"].startswith("scrub-"):
                return super().write(path, source, **options)
            if self.stat(f".craftsync/trash/{options['trash_stamp']}/{path}"):
                raise StoreDenied("not permitted")
            self._keep(path, self.stat(path), options["trash_stamp"])
            raise StoreUnavailable("the answer was lost", ambiguous=True)

    store = Lost()
    world = World(tmp_path, RetryingStore(store, clock=FakeClock()))
    world.write("a", "good")
    world.run()
    described, _ = store._objects["a"]
    store._objects["a"] = described._replace(digest=None), b"rot!"
    with world.open() as session:
        assert session.scrub(repair=True).problems == 1
    assert recorded(world) == {("store", "a", 4)}


DAY = 86_400
OTHERS = "20200101T000000000000Z"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def aging(tmp_path: Path, clock: FakeClock) -> World:
    """A world on a clock of its own, whose trash keeps for 30 days; each side has kept one old version."""
    world = World(tmp_path, MemoryStore(), clock=clock)
    world.retention = Retention(keep=30 * DAY * 10**9)
    world.write("mine", "old")
    world.write("theirs", "old")
    world.run()
    world.write("mine", "newer")
    world.put("theirs", "newer")
    world.run()
    assert in_trash(world) == {"mine", "theirs"}
    return world


def in_trash(world: World) -> set[str]:
    with world.open() as session:
        return {entry.path for entry in session.trash.entries()}


def reason(world: World) -> str | None:
    with world.open() as session:
        return suspended(session.state.database)


def test_run_purges_expired_versions_on_both_sides(aging: World, clock: FakeClock) -> None:
    clock.advance(29 * DAY)
    aging.run()
    assert in_trash(aging) == {"mine", "theirs"}
    clock.advance(2 * DAY)
    aging.run()
    assert in_trash(aging) == recorded(aging) == set()
    assert aging.here() == aging.there() == {"mine": "newer", "theirs": "newer"}


def test_by_default_nothing_is_ever_removed(aging: World, clock: FakeClock) -> None:
    aging.retention = Retention()
    clock.advance(9999 * DAY)
    aging.run()
    assert in_trash(aging) == {"mine", "theirs"}


def test_a_dry_run_and_a_run_of_some_paths_remove_nothing(aging: World, clock: FakeClock) -> None:
    clock.advance(31 * DAY)
    aging.run(dry_run=True)
    aging.run(paths=["mine"])
    assert in_trash(aging) == {"mine", "theirs"}


def test_retention_keeps_unrecorded_versions_and_those_of_others(
    aging: World, clock: FakeClock
) -> None:
    aging.store.write("other", Bytes(b"x"), expect=None, operation="1", trash_stamp=None)
    aging.store.delete("other", expect=None, trash_stamp=OTHERS)
    with aging.open() as session, session.state.transaction():
        session.state.database.connection.execute("DELETE FROM kept")
    clock.advance(31 * DAY)
    aging.run()
    assert in_trash(aging) == {"mine", "theirs", "other"}


def test_size_limit_purges_the_oldest_versions_first(aging: World, clock: FakeClock) -> None:
    clock.advance(DAY)
    aging.write("mine", "newest of all")
    aging.run()
    aging.retention = Retention(max_size=8)
    aging.run()
    assert {(path, size) for _, path, size in recorded(aging)} in (
        {("mine", 5), ("mine", 3)},
        {("mine", 5), ("theirs", 3)},
    )
    aging.retention = Retention(max_size=0)
    aging.run()
    assert in_trash(aging) == set()


def test_expired_history_is_purged_with_the_trash(aging: World, clock: FakeClock) -> None:
    clock.advance(31 * DAY)
    aging.write("new", "new")
    aging.run()
    with aging.open() as session:
        assert [row.path for row in session.state.history.rows(None, 99)] == ["new"]


@pytest.mark.parametrize("hours", [31 * 24, -2, -31 * 24])
def test_clock_jump_suspends_retention_for_an_hour(
    aging: World, clock: FakeClock, hours: int
) -> None:
    aging.run()
    clock.jump(hours * 3600)
    aging.run()
    assert reason(aging) is not None
    assert in_trash(aging) == {"mine", "theirs"}
    clock.advance(1800)
    aging.run()
    assert in_trash(aging) == {"mine", "theirs"}
    clock.advance(1900)
    aging.run()
    assert reason(aging) is None
    assert in_trash(aging) == {"mine", "theirs"}


@pytest.mark.parametrize("hours", [31 * 24, -2])
def test_clock_jump_suspends_the_size_limit_for_an_hour(
    aging: World, clock: FakeClock, hours: int
) -> None:
    aging.run()
    aging.retention = Retention(max_size=0)
    clock.jump(hours * 3600)
    aging.run()
    assert in_trash(aging) == {"mine", "theirs"}
    for _ in range(2):
        clock.advance(1850)
        aging.run()
    assert in_trash(aging) == set()


def test_clock_jump_forward_does_not_age_versions(aging: World, clock: FakeClock) -> None:
    aging.run()
    clock.jump(29 * DAY)
    aging.run()
    clock.advance(2 * DAY)
    aging.run()
    assert (reason(aging), in_trash(aging)) == (None, {"mine", "theirs"})
    clock.advance(29 * DAY)
    aging.run()
    assert in_trash(aging) == set()


def test_clock_jump_is_noticed_before_the_trash_is_bounded(
    tmp_path: Path, clock: FakeClock
) -> None:
    world = World(tmp_path, MemoryStore(), clock=clock)
    world.write("mine", "old")
    world.run()
    world.write("mine", "newer")
    world.run()
    clock.jump(31 * DAY)
    world.run()
    world.retention = Retention(keep=30 * DAY * 10**9)
    world.run()
    assert in_trash(world) == {"mine"}
    clock.advance(29 * DAY)
    world.run()
    assert in_trash(world) == {"mine"}
    clock.advance(2 * DAY)
    world.run()
    assert in_trash(world) == set()


def test_clock_jump_before_the_first_complete_run_is_noticed(
    tmp_path: Path, clock: FakeClock
) -> None:
    world = World(tmp_path, MemoryStore(), clock=clock)
    world.retention = Retention(keep=30 * DAY * 10**9)
    for content in ("old", "newer"):
        world.write("mine", content)
        world.run(paths=["mine"])
    clock.jump(31 * DAY)
    world.run()
    assert (reason(world), in_trash(world)) == ("the clock has jumped", {"mine"})


def test_after_the_machine_was_suspended_retention_continues_at_once(
    aging: World, clock: FakeClock
) -> None:
    aging.run()
    clock.suspend(31 * DAY)
    aging.run()
    assert (reason(aging), in_trash(aging)) == (None, set())


def test_clock_jump_during_suspend_is_detected(aging: World, clock: FakeClock) -> None:
    aging.run()
    clock.suspend(8 * 3600)
    clock.jump(31 * DAY)
    aging.run()
    assert reason(aging) == "the clock has jumped"
    clock.suspend(3700)
    aging.run()
    assert (reason(aging), in_trash(aging)) == (None, {"mine", "theirs"})


def test_a_clock_behind_the_newest_version_removes_nothing(aging: World, clock: FakeClock) -> None:
    with aging.open() as session, session.state.transaction():
        session.state.database.put("retention_clock", "")
    aging.retention = Retention(max_size=0)
    clock.jump(-60)
    aging.run()
    assert reason(aging) == "the clock is behind the newest version kept"
    assert in_trash(aging) == {"mine", "theirs"}


def test_versions_of_a_path_in_conflict_are_not_purged(aging: World, clock: FakeClock) -> None:
    aging.write("mine", "one side")
    aging.put("mine", "the other side")
    aging.run()
    clock.advance(31 * DAY)
    aging.run()
    assert in_trash(aging) == {"mine"}
    for path in aging.here():
        if "(conflict " in path:
            aging.remove(path)
    aging.run()
    clock.advance(31 * DAY)
    aging.run()
    assert in_trash(aging) == set()


def test_versions_of_a_held_delete_event_are_not_purged(aging: World, clock: FakeClock) -> None:
    paths = [f"many/{number}" for number in range(10)]
    for path in paths:
        aging.write(path, "x")
    aging.run()
    limit = DeleteLimit(files=3, share=0.0)
    for path in paths[:2]:
        aging.remove(path)
    aging.run(delete_limit=limit)
    for path in paths[2:]:
        aging.remove(path)
    aging.run(delete_limit=limit)
    clock.advance(31 * DAY)
    aging.run(delete_limit=limit)
    assert in_trash(aging) == set(paths[:2])


def test_versions_an_unfinished_run_needs_are_not_purged(aging: World, clock: FakeClock) -> None:
    clock.advance(31 * DAY)
    with aging.open() as session, session.state.transaction():
        session.state.database.connection.execute(
            "INSERT INTO intent (path, operation, size, mtime_ns, ctime_ns, inode)"
            " VALUES ('mine', 'x', 0, 0, 0, 0)"
        )
        session.state.kept.spare((), 0)
        assert [version.path for version, _ in session.state.kept.oldest(9)] == ["theirs"]


def test_retention_keeps_versions_of_rejected_deletes(aging: World, clock: FakeClock) -> None:
    """It could not be brought back yet; the next try is to find it."""
    paths = [f"many/{number}" for number in range(10)]
    for path in paths:
        aging.write(path, "x")
    aging.run()
    limit = DeleteLimit(files=3, share=0.0)
    for path in paths[:2]:
        aging.remove(path)
    aging.run(delete_limit=limit)
    for path in paths[2:]:
        aging.remove(path)
    aging.run(delete_limit=limit)
    blocked = aging.root / "many"
    blocked.rmdir()
    blocked.symlink_to(aging.root.parent)
    with aging.open() as session:
        session.resolve_held(Approval(False, tuple(paths[:2])), Options())
    blocked.unlink()
    with aging.open() as session:
        session.resolve_held(Approval(True, tuple(paths[2:])), Options())
        assert [(one.path, one.rejected) for one in session.state.events.deleted()] == [
            (path, True) for path in paths[:2]
        ]
    clock.advance(31 * DAY)
    aging.run(delete_limit=limit)
    assert in_trash(aging) == set(paths[:2])
    with aging.open() as session:
        assert session.resolve_held(Approval(False), Options()).uploaded == 2


def test_retention_keeps_versions_of_interrupted_deletes(aging: World, clock: FakeClock) -> None:
    """Whether it was carried out is not known yet: an event may be about to need it."""
    clock.advance(31 * DAY)
    with aging.open() as session, session.state.transaction():
        session.state.database.connection.execute(
            "INSERT INTO cut_off VALUES ('mine', 'delete-remote', 3, 'x')"
        )
        session.state.kept.spare((), 0)
        assert [version.path for version, _ in session.state.kept.oldest(9)] == ["theirs"]


def test_manual_purge_keeps_versions_that_pending_decisions_need(
    aging: World, clock: FakeClock
) -> None:
    aging.write("mine", "one side")
    aging.put("mine", "the other side")
    aging.run()
    kept = recorded(aging)
    with aging.open() as session:
        assert {entry.path for entry in session.trash.purgeable(-1)} == {"theirs"}
        assert session.trash.purge(-1) == (1, 1)
    assert in_trash(aging) == {"mine"}
    assert recorded(aging) == kept - {("root", "theirs", 3)}


def test_version_that_cannot_be_purged_stays_and_the_run_succeeds(
    tmp_path: Path, clock: FakeClock
) -> None:
    class Refusing(MemoryStore):
        def delete(self, path: str, **words: object) -> None:
            raise StoreError(path)

    world = World(tmp_path, MemoryStore(), clock=clock)
    world.write("a", "old")
    world.run()
    world.write("a", "newer")
    world.run()
    world.store.__class__ = Refusing
    world.retention = Retention(max_size=0)
    assert world.run().exit_code == 0
    assert recorded(world) == {("store", "a", 3)}
    assert reason(world) is not None


def test_manually_purged_versions_leave_the_record(aging: World) -> None:
    with aging.open() as session:
        assert session.trash.purge(-1) == (2, 0)
    assert recorded(aging) == set()


class Copying(MemoryStore):
    """A store of which each kept byte travels through this machine, as the platform's."""

    def __init__(self) -> None:
        super().__init__()
        self.features = replace(self.features, server_side_copy=False)


@pytest.fixture
def costly(tmp_path: Path) -> World:
    """A world whose store does not copy by itself; `own` is this client's upload."""
    world = World(tmp_path, Copying())
    world.write("own", "old")
    world.run()
    return world


def test_costly_store_does_not_keep_replaced_uploads_of_this_client(
    costly: World,
) -> None:
    for content in ("newer", "newest"):
        costly.write("own", content)
        costly.run()
    assert costly.there() == {"own": "newest"}
    assert in_trash(costly) == recorded(costly) == set()


def test_costly_store_keeps_deletes(costly: World) -> None:
    costly.remove("own")
    costly.run()
    assert costly.kept() == {"old"}
    assert recorded(costly) == {("store", "own", 3)}


def test_costly_store_keeps_downloaded_versions_of_other_clients(
    costly: World,
) -> None:
    costly.put("own", "theirs")
    costly.run()
    costly.write("own", "mine again")
    costly.run()
    assert "theirs" in costly.kept()


def test_costly_store_keeps_other_clients_versions_replaced_by_push(costly: World) -> None:
    costly.put("own", "theirs")
    costly.run("push")
    assert "theirs" in costly.kept() | set(costly.there().values())
    costly.write("own", "mine again")
    costly.run("push")
    assert "theirs" in costly.kept()


def test_an_adopted_or_rewritten_version_counts_as_another_clients(costly: World) -> None:
    costly.write("adopted", "same")
    costly.put("adopted", "same")
    costly.put("own", "old")
    costly.run()
    for path in ("adopted", "own"):
        costly.write(path, "newer of mine")
    costly.run()
    assert costly.kept() == {"same", "old"}


def test_touched_file_still_counts_as_own_upload(costly: World) -> None:
    costly.write("own", "old")
    costly.run()
    costly.write("own", "newer")
    costly.run()
    assert costly.kept() == set()


def test_without_saved_state_every_replaced_version_is_kept(costly: World) -> None:
    shutil.rmtree(costly.state_dir)
    costly.run()
    costly.write("own", "newer")
    costly.run()
    assert costly.kept() == {"old"}


@pytest.mark.parametrize(
    ("word", "kept"),
    [("all", {"old", "gone"}), ("foreign", {"gone"}), ("off", set()), ("auto", {"old", "gone"})],
)
def test_trash_store_option_chooses_what_is_kept(world: World, word: str, kept: set[str]) -> None:
    world.retention = Retention(store=StoreTrash(word))
    world.write("a", "old")
    world.write("b", "gone")
    world.run()
    world.write("a", "newer")
    world.remove("b")
    world.run()
    assert world.kept() == kept
    assert {path for _, path, _ in recorded(world)} == in_trash(world)


def test_purge_names_each_version_that_cannot_be_removed(aging: World) -> None:
    class Refusing(MemoryStore):
        def delete(self, path: str, **words: object) -> None:
            raise PathRefused(f"no, not {path[-1]}", remedy="Ask.")

    for path in "ab":
        aging.write(path, "old")
    aging.run()
    for path in "ab":
        aging.write(path, "newer")
    aging.run()
    aging.store.__class__ = Refusing
    with aging.open() as session, pytest.raises(StoreError) as raised:
        session.trash.purge(-1)
    assert "a: no, not a" in str(raised.value)
    assert "b: no, not b" in str(raised.value)
    assert raised.value.remedy == "Ask."
    assert {("store", "a", 3), ("store", "b", 3)} <= recorded(aging)
