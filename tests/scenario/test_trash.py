"""What was displaced can be got back, from either side and from any moment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from craftsync.errors import UsageError
from tests.support.world import World


@pytest.fixture
def edited(world: World) -> World:
    for content in ("first", "second", "third"):
        world.put("a", content)
        world.run()
    return world


def stamps(world: World) -> Iterator[str]:
    with world.open() as session:
        return iter(sorted(entry.stamp for entry in session.trash() if entry.side == "root"))


def test_the_newest_version_comes_back_and_what_was_there_is_kept(edited: World) -> None:
    with edited.open() as session:
        session.restore("a")
    assert edited.here() == {"a": "second"}
    assert "third" in edited.kept()


def test_an_older_version_comes_back_by_its_moment(edited: World) -> None:
    oldest = next(stamps(edited))
    with edited.open() as session:
        session.restore("a", oldest)
    assert edited.here() == {"a": "first"}


def test_a_version_only_the_store_kept_comes_back_too(world: World) -> None:
    world.write("a", "first")
    world.run()
    world.write("a", "second")
    world.run()
    with world.open() as session:
        assert session.restore("a").side == "store"
    assert world.here() == {"a": "first"}


@pytest.mark.parametrize("moment", ["yesterday", "2026-13-01"])
def test_what_is_no_moment_is_refused(edited: World, moment: str) -> None:
    with edited.open() as session, pytest.raises(UsageError, match="is no moment"):
        session.restore("a", moment)


@pytest.mark.parametrize("moment", ["2000-01-01", "2000-01-01 23:59", "2000-01-01T10:00:00+02:00"])
def test_nothing_is_kept_of_before_the_first_version(edited: World, moment: str) -> None:
    with edited.open() as session, pytest.raises(UsageError, match="nothing is kept"):
        session.restore("a", moment)


@pytest.mark.parametrize("kind", ["link", "file"])
def test_without_a_folder_for_the_trash_nothing_is_displaced_and_the_rest_goes_on(
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


def test_a_path_as_long_as_one_may_be_comes_back_too(world: World) -> None:
    path = "/".join(["d" * 203] * 5)
    assert len(path) == 1019
    for content in ("first", "second"):
        world.put(path, content)
        world.run()
    with world.open() as session:
        assert session.restore(path).side == "root"
    assert world.here() == {path: "first"}


def test_purge_removes_what_is_old_enough_and_counts_it(edited: World) -> None:
    with edited.open() as session:
        assert session.purge(older_than_days=1) == 0
        kept = len(list(session.trash()))
        assert session.purge(older_than_days=-1) == kept > 0
        assert list(session.trash()) == []
