"""Stories of a two-way sync."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from craftsync.core.model import Compare, OnConflict, Policy, RemoteObject
from craftsync.engine.report import Options
from craftsync.engine.session import Session
from craftsync.errors import StoreDenied
from craftsync.stores.directory import DirectoryStore
from tests.support.clock import FakeClock
from tests.support.memory_store import MemoryStore
from tests.support.world import Bytes, World


def test_new_files_of_both_sides_end_up_on_both(world: World) -> None:
    world.write("a.txt", "here")
    world.put("b/c.txt", "there")
    report = world.run()
    assert world.said == ["upload a.txt", "download b/c.txt"]
    assert world.here() == world.there() == {"a.txt": "here", "b/c.txt": "there"}
    assert (report.uploaded, report.downloaded, report.exit_code) == (1, 1, 0)
    world.assert_in_step()


def test_edits_are_synced_and_replaced_versions_kept(world: World) -> None:
    world.write("a", "1")
    world.write("b", "1")
    world.run()
    world.write("a", "edited here")
    world.put("b", "edited there")
    world.run()
    assert world.here() == world.there() == {"a": "edited here", "b": "edited there"}
    assert world.kept() == {"1"}
    world.assert_in_step()


def test_deletes_are_synced_and_deleted_versions_kept(world: World) -> None:
    world.write("here/a", "1")
    world.write("b", "2")
    world.write("c", "3")
    world.run()
    world.remove("here/a")
    world.take("b")
    world.run()
    assert world.said == ["delete-local b", "delete-remote here/a"]
    assert world.here() == world.there() == {"c": "3"}
    assert world.kept() == {"1", "2"}
    world.assert_in_step()


def test_an_edit_beats_a_deletion_on_either_side(world: World) -> None:
    world.write("a", "1")
    world.write("b", "1")
    world.run()
    world.remove("a")
    world.put("a", "edited there")
    world.write("b", "edited here")
    world.take("b")
    world.run()
    assert world.here() == world.there() == {"a": "edited there", "b": "edited here"}
    world.assert_in_step()


def test_a_conflict_keeps_both_versions_on_both_sides(world: World) -> None:
    world.write("d/a.txt", "1")
    world.run()
    world.write("d/a.txt", "mine")
    world.put("d/a.txt", "theirs")
    report = world.run()
    assert (report.conflicts, report.exit_code) == (1, 4)
    copy = next(path for path in world.here() if "(conflict " in path)
    assert copy.startswith("d/a (conflict ") and copy.endswith(f"{world.store.name}).txt")
    assert world.here() == world.there() == {"d/a.txt": "mine", copy: "theirs"}
    world.assert_in_step()


@pytest.mark.parametrize(("choice", "winner"), [("local", "mine"), ("remote", "theirs")])
def test_a_conflict_can_be_decided_beforehand(world: World, choice: str, winner: str) -> None:
    world.write("a", "mine")
    world.put("a", "theirs")
    world.run(policy=Policy(conflict=OnConflict(choice)))
    assert world.here() == world.there() == {"a": winner}
    assert world.kept() == {"mine", "theirs"} - {winner}


def test_equal_content_is_adopted_and_nothing_moves(world: World) -> None:
    world.write("a", "same")
    world.put("a", "same")
    report = world.run()
    assert (report.adopted, report.bytes_uploaded, report.bytes_downloaded) == (1, 0, 0)
    world.assert_in_step()


def test_a_touched_file_moves_no_bytes(world: World) -> None:
    file = world.write("a", "same")
    world.run()
    os.utime(file, (1, 1))
    report = world.run()
    assert (world.said, report.unchanged, report.exit_code) == ([], 1, 0)
    world.assert_in_step()


def test_edit_of_equal_size_with_restored_mtime_is_detected(world: World) -> None:
    file = world.write("a", "1")
    world.run()
    times = (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    file.write_text("2")
    os.utime(file, ns=times)
    world.run()
    assert world.there() == {"a": "2"}


def test_an_edit_in_the_tick_of_the_last_stat_is_seen(world: World) -> None:
    world.write("a", "old")
    world.run()
    world.write("a", "new")
    with world.open() as session:
        file, row = session.root.stat("a"), session.state.baseline.get("a")
        assert file is not None and row is not None
        with session.state.transaction():
            session.state.baseline.put([row._replace(**file._asdict(), racy=True)])
    world.run()
    assert world.there() == {"a": "new"}


def test_a_rename_moves_no_bytes(world: World) -> None:
    world.write("a/one", "content")
    world.run()
    (world.root / "b").mkdir()
    (world.root / "a/one").rename(world.root / "b/two")
    report = world.run()
    assert world.said == ["move-remote b/two"]
    assert (report.moved, report.bytes_uploaded) == (1, 0)
    assert world.there() == {"b/two": "content"}
    world.assert_in_step()


@pytest.mark.parametrize("mode", ["push", "pull"])
def test_path_with_another_version_is_no_target_of_a_rename(world: World, mode: str) -> None:
    """A store without conditional writes would replace that version unseen."""
    world.write("b", "mine")
    world.run()
    if mode == "push":
        (world.root / "b").rename(world.root / "a")
        world.put("a", "another client's")
    else:
        world.take("b")
        world.put("a", "mine")
        world.write("a", "another client's")
    world.run(mode, delete=True, dry_run=True)
    steps = {"push": ["upload a", "delete-remote b"], "pull": ["download a", "delete-local b"]}
    assert world.said == steps[mode]
    world.run(mode, delete=True)
    assert world.here() == world.there() == {"a": "mine"}
    assert world.kept() == {"another client's", "mine"}


def _effort_of_a_rename(folder: Path, files: int) -> int:
    """Return how many thousand steps the database takes to plan the rename of a folder of so many."""
    folder.mkdir()
    world = World(folder, MemoryStore())
    for number in range(files):
        world.write(f"before/{number}", f"{number:06}")
    world.run()
    (world.root / "before").rename(world.root / "after")
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    with world.open(read_only=True) as session:
        session.state.database.connection.set_progress_handler(count, 1000)
        report = session.run("sync", Options(dry_run=True))
    assert report.moved == files
    return steps


def test_renaming_four_times_as_many_files_takes_about_four_times_the_effort(
    tmp_path: Path,
) -> None:
    small, large = (_effort_of_a_rename(tmp_path / str(files), files) for files in (300, 1200))
    assert large < 7 * small


def test_renamed_and_edited_file_is_uploaded_and_old_version_kept(
    world: World,
) -> None:
    file = world.write("a", "one")
    world.run()
    times = (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    file.write_text("two")
    os.utime(file, ns=times)
    file.rename(world.root / "b")
    world.run()
    assert world.there() == {"b": "two"}
    assert "one" in world.kept()
    world.assert_in_step()


def test_file_replaced_by_a_folder_is_synced(world: World) -> None:
    world.write("a", "file")
    world.run()
    world.remove("a")
    world.write("a/b", "below")
    world.run()
    assert world.here() == world.there() == {"a/b": "below"}
    world.assert_in_step()


def test_folder_replaced_by_a_file_is_synced(world: World) -> None:
    world.write("a/b", "below")
    world.run()
    world.remove("a/b")
    (world.root / "a").rmdir()
    world.write("a", "file")
    world.run()
    assert world.here() == world.there() == {"a": "file"}
    world.assert_in_step()


def test_folder_replaced_by_a_file_in_the_store_is_synced(world: World) -> None:
    world.write("a/b", "below")
    world.run()
    world.take("a/b")
    world.put("a", "file")
    world.run()
    assert world.here() == world.there() == {"a": "file"}
    world.assert_in_step()


def test_dry_run_reports_planned_actions_and_changes_nothing(world: World) -> None:
    world.write("a", "1")
    world.put("b", "2")
    before = world.there()
    report = world.run(dry_run=True)
    assert world.said == ["upload a", "download b"]
    assert (report.uploaded, report.downloaded) == (1, 1)
    assert (world.here(), world.there()) == ({"a": "1"}, before)
    assert not (world.root / ".craftsync").exists()


def test_dry_run_deletes_a_touched_file_below_an_object(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    world = World(tmp_path, DirectoryStore(tmp_path / "store"))
    for path in ("d/edited", "d/touched"):
        world.write(path, "as uploaded")
    world.run()
    os.utime(world.root / "d/touched")
    world.write("d/edited", "edited")
    for path in ("d/edited", "d/touched"):
        world.take(path)
    world.put("d", "where the folder is")
    world.run(dry_run=True)
    foreseen = world.said
    assert foreseen == ["problem d", "problem d/edited", "delete-local d/touched"]
    world.run()
    assert world.said == foreseen


def test_dry_run_omits_baseline_only_updates(world: World) -> None:
    world.write("gone from both sides", "1")
    world.run()
    world.remove("gone from both sides")
    world.take("gone from both sides")
    world.write("same size", "mine")
    world.put("same size", "your")
    by_size = Policy(compare=Compare.SIZE_ONLY)
    report = world.run(dry_run=True, policy=by_size)
    assert (world.said, report.exit_code, report.adopted) == ([], 0, 1)
    assert world.run(policy=by_size).adopted == 1


def test_a_repeated_failure_is_in_the_history_once(tmp_path: Path) -> None:
    """A daemon meets it every half minute, for months."""
    world = World(tmp_path, MemoryStore())
    world.write("a/b", "here")
    world.put("a", "in the way")
    for _ in range(3):
        assert world.run().problems == 1
    with world.open() as session:
        rows = [row for row in session.state.history.rows("a", 10) if row.path == "a"]
        assert [row.status for row in rows] == ["problem"]


def test_run_over_given_paths_leaves_others_alone(world: World) -> None:
    world.write("d/a", "1")
    world.write("b", "1")
    world.run(paths=["d"])
    assert world.there() == {"d/a": "1"}


def test_renamed_file_is_renamed_in_a_directory_store(tmp_path: Path) -> None:
    world, place = World(tmp_path, DirectoryStore.create(tmp_path / "store")), tmp_path / "store"
    world.write("old/a", "1")
    world.run()
    before = (place / "old" / "a").stat()
    (world.root / "old").rename(world.root / "new")
    assert world.run().moved == 1
    after = (place / "new" / "a").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert not (place / "old").exists()
    report = world.run()
    assert (report.moved, report.uploaded, report.downloaded) == (0, 0, 0)


def test_given_path_with_failed_stat_is_reported_and_others_continue(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, DirectoryStore.create(tmp_path / "store"))
    (tmp_path / "store" / "a").symlink_to("elsewhere")
    no_utf8 = os.fsdecode(b"caf\xe9")
    for path in ("a", no_utf8, "z"):
        world.write(path, path[:1])
    report = world.run(paths=["a", no_utf8, "z"])
    assert world.said == ["skipped a", "skipped caf\\xe9", "upload z"]
    assert report.exit_code == 6


def test_given_path_without_permission_does_not_block_others(
    tmp_path: Path,
) -> None:
    class Denying(MemoryStore):
        def stat(self, path: str) -> RemoteObject | None:
            if path == "denied":
                raise StoreDenied("The policy of the bucket does not allow it.")
            return super().stat(path)

    world = World(tmp_path, Denying())
    for path in ("denied", "z"):
        world.write(path, path)
    report = world.run(paths=["denied", "z"])
    assert (world.said, report.exit_code) == (["problem denied", "upload z"], 1)
    assert world.here()["denied"] == "denied"


def test_craftsync_folder_of_a_nested_root_is_ignored(world: World, tmp_path: Path) -> None:
    world.write("inner/file", "first")
    store = MemoryStore()
    for content in (b"second", b"third"):
        with Session.open(world.root / "inner", store, state_dir=tmp_path / "inner's") as inner:
            inner.run("sync", Options())
        store.write("file", Bytes(content), expect=None, operation=content.decode())
    assert list((world.root / "inner/.craftsync/trash").rglob("file"))

    assert world.run().exit_code == 0
    assert world.there() == {"inner/file": "second"}


def test_ignored_paths_take_no_part_on_either_side_and_are_never_deleted(world: World) -> None:
    world.write("a.log", "1")
    world.write("b", "1")
    world.run()
    world.write(".craftsyncignore", "*.log\n")
    world.remove("a.log")
    world.put("c.log", "2")
    world.run()
    assert "a.log" in world.there() and "c.log" not in world.here()


def test_accents_in_both_normal_forms_are_two_files(world: World) -> None:
    world.write("caf\u00e9.csv", "composed")
    world.write("cafe\u0301.csv", "decomposed")
    world.run()
    assert world.there() == {"caf\u00e9.csv": "composed", "cafe\u0301.csv": "decomposed"}
    world.assert_in_step()


def test_deleting_a_racily_scanned_file_is_synced(
    tmp_path: Path,
) -> None:
    """Its row does not prove that it is unchanged, so it is hashed; that settles it for good."""
    clock = FakeClock()
    world = World(tmp_path, MemoryStore(), clock=clock)
    for name in ("deleted", "kept"):
        world.write(name, name)
        os.utime(world.root / name, ns=(clock.now_ns(), clock.now_ns()))
    world.run()
    clock.advance(60)
    world.take("deleted")
    world.run()
    assert world.here() == world.there() == {"kept": "kept"}


def test_folder_with_pending_deletes_is_replaced_by_a_file(tmp_path: Path) -> None:
    clock = FakeClock()
    world = World(tmp_path, MemoryStore(), clock=clock)
    world.write("a/b", "below")
    os.utime(world.root / "a/b", ns=(clock.now_ns(), clock.now_ns()))
    world.run()
    clock.advance(60)
    world.take("a/b")
    world.put("a", "file")
    report = world.run()
    assert world.here() == world.there() == {"a": "file"}
    assert report.exit_code == 0
