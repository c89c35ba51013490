"""Everything that looks like a user who deleted all files, and is not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from craftsync.core.model import RemoteObject, Skipped
from craftsync.errors import ListingBroken, LockedError, RootError, StateError, StoreChanged
from craftsync.state import pair_folder
from craftsync.stores.directory import DirectoryStore
from tests.support.clock import FakeClock
from tests.support.memory_store import MemoryStore
from tests.support.world import World


def fill(world: World, count: int = 40) -> None:
    for number in range(count):
        world.write(f"f{number:03}", str(number))
    world.run()


def test_too_many_deletes_are_held_while_the_rest_continues(world: World) -> None:
    fill(world)
    for number in range(30):
        world.remove(f"f{number:03}")
    world.write("new", "1")
    report = world.run()
    assert (report.held, report.uploaded, report.exit_code) == (30, 1, 7)
    assert len(world.there()) == 41


def test_forced_deletes_are_carried_out(world: World) -> None:
    fill(world)
    for number in range(30):
        world.remove(f"f{number:03}")
    report = world.run(force_delete=True)
    assert (report.deleted_remote, report.exit_code) == (30, 0)
    world.assert_in_step()


def test_a_store_suddenly_empty_deletes_nothing(world: World) -> None:
    fill(world, 5)
    for number in range(5):
        world.take(f"f{number:03}")
    report = world.run()
    assert (report.held, len(world.here())) == (5, 5)


def test_suddenly_empty_store_deletes_no_racy_files(
    tmp_path: Path,
) -> None:
    """Files written in the tick they were looked at in are hashed first, and decided in a later round."""
    clock = FakeClock()
    world = World(tmp_path, MemoryStore(), clock=clock)
    for number in range(5):
        file = world.write(f"f{number:03}", str(number))
        os.utime(file, ns=(clock.now_ns(), clock.now_ns()))
    world.run()
    clock.advance(60)
    for number in range(5):
        world.take(f"f{number:03}")
    report = world.run()
    assert (report.held, len(world.here())) == (5, 5)


def test_deletes_after_a_second_stat_count_with_earlier_ones(tmp_path: Path) -> None:
    clock = FakeClock()
    world = World(tmp_path, MemoryStore(), clock=clock)
    for number in range(40):
        file = world.write(f"f{number:03}", str(number))
        if number < 15:
            os.utime(file, ns=(clock.now_ns(), clock.now_ns()))
    world.run()
    clock.advance(60)
    for number in range(30):
        world.take(f"f{number:03}")
    report = world.run()
    assert (report.deleted_local, report.held) == (15, 15)


def test_a_root_suddenly_empty_deletes_nothing(world: World) -> None:
    fill(world, 5)
    for number in range(5):
        world.remove(f"f{number:03}")
    report = world.run()
    assert (report.held, len(world.there())) == (5, 5)


def test_folder_that_lost_its_identity_file_is_rejected(world: World) -> None:
    fill(world, 3)
    shutil.rmtree(world.root)
    world.root.mkdir()
    with pytest.raises(RootError, match="has no identity file"):
        world.run()
    assert len(world.there()) == 3


def test_another_folder_in_the_place_of_the_root_is_refused(world: World) -> None:
    fill(world, 3)
    (world.root / ".craftsync/root-id").unlink()
    (world.root / ".craftsync/root-id").write_text("0" * 32)
    with pytest.raises(RootError, match="is not the folder of the last run"):
        world.run()


def test_store_that_lost_its_identity_file_is_rejected(world: World) -> None:
    fill(world, 3)
    world.store.delete(".craftsync/store-id", expect=None)
    with pytest.raises(StoreChanged, match="has no identity file"):
        world.run()
    assert len(world.here()) == 3


def test_a_missing_root_is_refused(world: World) -> None:
    fill(world, 3)
    shutil.rmtree(world.root)
    with pytest.raises(RootError):
        world.run()
    assert len(world.there()) == 3


def test_a_lost_database_merges_and_deletes_nothing(world: World) -> None:
    fill(world, 3)
    shutil.rmtree(world.state_dir)
    world.remove("f000")
    world.put("f001", "changed there")
    report = world.run()
    assert report.adopted == 1 and report.conflicts == 1
    assert world.here()["f000"] == "0"
    assert {"1", "changed there"} <= set(world.here().values())
    world.assert_in_step()


@pytest.mark.parametrize("damage", [b"", b"this is no database" * 300])
def test_a_damaged_database_is_set_aside_and_deletes_nothing(world: World, damage: bytes) -> None:
    fill(world, 3)
    database = pair_folder(world.state_dir, str(world.root), world.store.location) / "state.db"
    database.write_bytes(damage)
    world.remove("f000")
    if damage:
        with pytest.raises(StateError, match="is damaged"):
            world.run(dry_run=True)
        assert database.read_bytes() == damage
    report = world.run()
    assert report.deleted_remote == 0
    assert world.here()["f000"] == "0"
    if damage:
        assert report.exit_code == 7
        assert database.with_name("state.db.damaged-1").exists()


def test_a_second_craftsync_on_the_same_root_is_refused(world: World) -> None:
    with world.open(), pytest.raises(LockedError):
        world.open()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_folder_is_not_a_deletion(world: World) -> None:
    world.write("d/a", "1")
    world.run()
    (world.root / "d").chmod(0)
    try:
        report = world.run()
    finally:
        (world.root / "d").chmod(0o755)
    assert report.exit_code == 1
    assert world.there() == {"d/a": "1"}


def test_a_file_replaced_by_a_link_is_reported_and_not_deleted(
    world: World, tmp_path: Path
) -> None:
    world.write("a", "1")
    world.run()
    world.remove("a")
    (tmp_path / "outside").write_text("secret")
    (world.root / "a").symlink_to(tmp_path / "outside")
    report = world.run()
    assert (world.said, report.exit_code) == (["skipped a"], 6)
    assert world.there() == {"a": "1"}


def test_a_store_that_vanishes_is_reported_and_the_root_stays(tmp_path: Path) -> None:
    world = World(tmp_path, DirectoryStore.create(tmp_path / "store"))
    fill(world, 3)
    shutil.rmtree(tmp_path / "store")
    (tmp_path / "store").mkdir()
    world.store = DirectoryStore(tmp_path / "store")
    with pytest.raises(StoreChanged):
        world.run()
    assert len(world.here()) == 3


def test_nothing_is_created_in_an_unmounted_folders_mount_point(world: World) -> None:
    fill(world, 5)
    world.root.rename(world.root.with_name("the disk"))
    world.root.mkdir()
    with pytest.raises(RootError, match="has no identity file"):
        world.run()
    assert list(world.root.iterdir()) == []


class _Unsorted(MemoryStore):
    """A store that promises an order and keeps none."""

    def list(self, prefix: str = "", **options: Any) -> Iterator[RemoteObject | Skipped]:
        return reversed([*super().list(prefix, **options)])


def test_listing_out_of_order_changes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, _Unsorted())
    fill(world, 1)
    for name in ("a", "b", "g"):
        world.put(name, name)
    before = world.here(), world.there()
    with pytest.raises(ListingBroken):
        world.run()
    assert (world.here(), world.there()) == before
