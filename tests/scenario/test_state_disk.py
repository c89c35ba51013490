"""The state database when its disk fails: an error for people, and nothing half done."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from craftsync.engine.report import Options
from craftsync.errors import StateError
from craftsync.state.database import Database
from tests.support.world import World


def fill_disk(database: Database) -> None:
    """Leave SQLite no page more than it has: what it then says is what a full disk makes it say."""
    pages = database.connection.execute("PRAGMA page_count").fetchone()[0]
    database.connection.execute(f"PRAGMA max_page_count = {pages}")


def free_disk(database: Database) -> None:
    database.connection.execute("PRAGMA max_page_count = 1000000")


def test_full_disk_is_a_clear_error_and_nothing_is_half_done(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "state.db")
    fill_disk(database)
    with (
        pytest.raises(StateError, match=r"state\.db cannot be used: .*full"),
        database.transaction(),
    ):
        database.put("first", "x")
        database.put("second", "x" * 1_000_000)
    assert database.get("first") is None
    free_disk(database)
    with database.transaction():
        database.put("first", "y")
    assert database.get("first") == "y"
    database.close()


def test_run_ended_by_a_full_disk_resumes_after_space_is_freed(world: World) -> None:
    world.run()
    for number in range(500):
        world.write(f"a-rather-long-name-so-that-rows-fill-pages-{number}", str(number))
    with world.open() as session:
        fill_disk(session.state.database)
        with pytest.raises(StateError) as caught:
            session.run("sync", Options(transfers=4))
    assert "Free disk space" in caught.value.remedy
    report = world.run()
    assert (report.exit_code, report.conflicts) == (0, 0)
    world.assert_in_step()


def test_failed_copy_of_the_state_for_reading_is_a_clear_error(tmp_path: Path) -> None:
    file = tmp_path / "state.db"
    Database.open(file).close()
    shutil.move(file, tmp_path / "elsewhere")
    file.mkdir()
    with pytest.raises(StateError, match="cannot be used"):
        Database.scratch(file)


def left_in(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return content and time of each file of a folder."""
    return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.iterdir()}


def test_reading_the_state_leaves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "state.db"
    Database.open(file).connection.close()
    before = left_in(tmp_path)
    Database.scratch(file).connection.close()
    assert left_in(tmp_path) == before


def test_reading_the_state_of_a_killed_writer_keeps_its_log(tmp_path: Path) -> None:
    writer = Database.open(tmp_path / "state.db")
    writer.put("word", "in the log")
    killed = tmp_path / "killed"
    killed.mkdir()
    for name in ("state.db", "state.db-wal"):
        shutil.copy2(tmp_path / name, killed / name)
    before = left_in(killed)
    copy = Database.scratch(killed / "state.db")
    assert copy.get("word") == "in the log"
    copy.connection.close()
    after = left_in(killed)
    assert {name: after[name] for name in before} == before
