"""Replaced and deleted versions can be restored, from either side and from any moment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from craftsync.engine.review.trash import Restored
from craftsync.engine.review.versions import Wanted
from craftsync.engine.session import Session
from craftsync.errors import UsageError
from tests.support.world import World


@pytest.fixture
def edited(world: World) -> World:
    for content in ("first", "second", "third"):
        world.put("a", content)
        world.run()
    return world


def restored(
    session: Session, *paths: str, at: str | None = None, overwrite: bool = False
) -> list[Restored]:
    return list(session.trash.restore(Wanted(paths, at=at), overwrite=overwrite))


def stamps(world: World) -> Iterator[str]:
    with world.open() as session:
        return iter(
            sorted(entry.stamp for entry in session.trash.entries() if entry.side == "root")
        )


def test_restore_brings_the_newest_version_and_keeps_the_current(edited: World) -> None:
    with edited.open() as session:
        restored(session, "a", overwrite=True)
    assert edited.here() == {"a": "second"}
    assert "third" in edited.kept()


def test_restore_with_a_time_takes_an_older_version(edited: World) -> None:
    oldest = next(stamps(edited))
    with edited.open() as session:
        restored(session, "a", at=oldest, overwrite=True)
    assert edited.here() == {"a": "first"}


def test_restore_finds_versions_kept_only_in_the_store(world: World) -> None:
    world.write("a", "first")
    world.run()
    world.write("a", "second")
    world.run()
    with world.open() as session:
        assert restored(session, "a", overwrite=True)[0].entry.side == "store"
    assert world.here() == {"a": "first"}


@pytest.mark.parametrize("moment", ["yesterday", "2026-13-01"])
def test_an_invalid_time_is_refused(edited: World, moment: str) -> None:
    with edited.open() as session, pytest.raises(UsageError, match="is not a date or time"):
        restored(session, "a", at=moment)


@pytest.mark.parametrize("moment", ["2000-01-01", "2000-01-01 23:59", "2000-01-01T10:00:00+02:00"])
def test_restore_before_the_first_version_finds_nothing(edited: World, moment: str) -> None:
    with edited.open() as session, pytest.raises(UsageError, match="Nothing is kept"):
        restored(session, "a", at=moment)


@pytest.mark.parametrize("kind", ["link", "file"])
def test_unusable_trash_folder_prevents_replacements(
    world: World, kind: str, tmp_path: Path
) -> None:
    """For instance somebody has put a link to a larger disk in its place."""
    for path in ("edited", "deleted"):
        world.write(path, "old")
    world.run()
    trash = world.root / ".craftsync" / "trash"
    if kind == "link":
        (tmp_path / "larger disk").mkdir()
        trash.symlink_to(tmp_path / "larger disk")
    else:
        trash.write_text("no folder")
    world.put("edited", "newer")
    world.take("deleted")
    world.put("new", "new")

    report = world.run()

    assert world.said == ["problem deleted", "problem edited", "download new"]
    assert report.exit_code == 1
    assert world.here() == {"deleted": "old", "edited": "old", "new": "new"}
    trash.unlink()
    world.run()
    world.assert_in_step()


def test_restore_works_for_the_longest_path(world: World) -> None:
    path = "/".join(["d" * 203] * 5)
    assert len(path) == 1019
    for content in ("first", "second"):
        world.put(path, content)
        world.run()
    with world.open() as session:
        assert restored(session, path, overwrite=True)[0].entry.side == "root"
    assert world.here() == {path: "first"}


def test_purge_removes_and_counts_old_versions(edited: World) -> None:
    with edited.open() as session:
        assert session.trash.purge(older_than_days=1) == (0, 0)
        kept = len(list(session.trash.entries()))
        assert session.trash.purge(older_than_days=-1) == (kept, 0) != (0, 0)
        assert list(session.trash.entries()) == []


def test_a_different_file_stays_unless_it_is_to_be_overwritten(edited: World) -> None:
    edited.write("a", "mine")
    with edited.open() as session:
        assert [one.status for one in restored(session, "a")] == ["skipped"]
    assert edited.here() == {"a": "mine"}
    with edited.open() as session:
        assert [one.status for one in restored(session, "a", overwrite=True)] == ["done"]
    assert edited.here() == {"a": "second"}
    assert "mine" in edited.kept()


def test_a_file_with_the_same_content_is_in_place_already(edited: World) -> None:
    edited.write("a", "second")
    with edited.open() as session:
        assert [one.status for one in restored(session, "a")] == ["unchanged"]


@pytest.mark.parametrize("mode", [0o600, 0o755])
def test_a_restored_file_keeps_its_mode(world: World, mode: int) -> None:
    world.write("a", "1").chmod(mode)
    world.write("other", "2")
    world.run()
    world.take("a")
    world.run()
    with world.open() as session:
        restored(session, "a")
    assert (world.root / "a").stat().st_mode & 0o777 == mode


def test_purge_removes_old_leftovers_of_a_crash(world: World) -> None:
    world.write("a", "1")
    world.run()
    leftover = world.root / ".craftsync/trash/replaced/0123456789abcdef"
    leftover.parent.mkdir(parents=True)
    leftover.write_text("left by a crash")
    with world.open() as session:
        assert session.trash.purge(older_than_days=1) == (0, 0)
        assert leftover.exists()
        assert session.trash.purge(older_than_days=-1) == (1, 0)
    assert not leftover.exists()


def keep(world: World, stamp: str, path: str, content: str) -> None:
    """Put a version into the trash of the folder, as runs at that moment leave it."""
    file = world.root / ".craftsync" / "trash" / stamp / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)


MOMENT = "20261122T101112000000Z"
NEXT = "20261122T101112000001Z"


@pytest.mark.parametrize("number", ["", "-2", "-10"])
def test_a_stamp_printed_by_trash_list_restores_that_version(world: World, number: str) -> None:
    for one in ("", "-2", "-10"):
        keep(world, MOMENT + one, "a", f"version{one}")
    keep(world, NEXT, "a", "later")
    with world.open() as session:
        restored(session, "a", at=MOMENT + number)
    assert world.here() == {"a": f"version{number}"}


def test_the_tenth_version_of_a_run_is_newer_than_the_second(world: World) -> None:
    for one in ("", "-2", "-10"):
        keep(world, MOMENT + one, "a", f"version{one}")
    with world.open() as session:
        assert [entry.stamp for entry in session.trash.entries()] == [
            f"{MOMENT}-10",
            f"{MOMENT}-2",
            MOMENT,
        ]
        wanted = Wanted(("a",), since=f"{MOMENT}-2").among(session.trash.entries())
        assert [entry.stamp for entry in wanted] == [f"{MOMENT}-10", f"{MOMENT}-2"]
        restored(session, "a")
    assert world.here() == {"a": "version-10"}


@pytest.mark.parametrize("newer", ["file", "folder"])
def test_restore_picks_the_newer_of_file_and_folder_versions(world: World, newer: str) -> None:
    file, folder = (NEXT, MOMENT) if newer == "file" else (MOMENT, NEXT)
    keep(world, file, "a", "a file")
    keep(world, folder, "a/x", "in a folder")
    keep(world, folder, "a/y/z", "in a folder")
    with world.open() as session:
        assert {one.status for one in restored(session, "a")} == {"done"}
    whole = {"a/x": "in a folder", "a/y/z": "in a folder"}
    assert world.here() == ({"a": "a file"} if newer == "file" else whole)
