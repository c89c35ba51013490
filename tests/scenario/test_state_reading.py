"""What only shows the state reads it where it is: nothing is copied, left behind or needed to write."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from craftsync.errors import StateError
from craftsync.state.database import Database, _schema_steps

KILLED = """
import os, signal, sys
from pathlib import Path
from craftsync.state.database import Database
database = Database.open(Path(sys.argv[1]))
database.put("word", "in the log")
os.kill(os.getpid(), signal.SIGKILL)
"""


@contextmanager
def somebody_else() -> Iterator[None]:
    """Be a user to whom something is forbidden: to root nothing is."""
    user = os.geteuid()
    if not user:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def left_in(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return content and time of each file of a folder, but for the index of a log."""
    return {
        file.name: (file.read_bytes(), file.stat().st_mtime_ns)
        for file in folder.iterdir()
        if not file.name.endswith("-shm")
    }


def word_in(file: Path) -> str | None:
    database = Database.reading(file)
    try:
        return database.get("word")
    finally:
        database.close()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    file = tmp_path / "state" / "state.db"
    database = Database.open(file)
    database.put("word", "in the file")
    database.close()
    return file


def test_reading_leaves_nothing_behind(state: Path) -> None:
    before = left_in(state.parent)
    assert word_in(state) == "in the file"
    assert left_in(state.parent) == before
    assert {file.name for file in state.parent.iterdir()} == {"state.db"}


def test_existing_database_log_is_read_and_kept(state: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(state)], check=False)
    names = {file.name for file in state.parent.iterdir()}
    assert names == {"state.db", "state.db-wal", "state.db-shm"}
    before = left_in(state.parent)
    assert word_in(state) == "in the log"
    assert left_in(state.parent) == before
    assert {file.name for file in state.parent.iterdir()} == names


def test_a_database_log_without_its_index_is_read_unchanged(state: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(state)], check=False)
    state.with_name("state.db-shm").unlink()
    before = left_in(state.parent)
    assert word_in(state) == "in the log"
    assert left_in(state.parent) == before
    assert {file.name for file in state.parent.iterdir()} == {"state.db", "state.db-wal"}


def test_unflushed_state_of_a_running_program_is_read(state: Path) -> None:
    writer = Database.open(state)
    writer.put("word", "while it runs")
    assert word_in(state) == "while it runs"
    writer.put("word", "and later")
    assert word_in(state) == "and later"
    writer.close()


def test_a_folder_that_cannot_be_written_to_is_read() -> None:
    with TemporaryDirectory() as place:
        file = Path(place) / "state.db"
        database = Database.open(file)
        database.put("word", "in the file")
        database.close()
        Path(place).chmod(0o555)
        with somebody_else():
            assert word_in(file) == "in the file"
        assert {found.name for found in file.parent.iterdir()} == {"state.db"}


def test_a_database_that_is_damaged_is_refused_and_not_set_aside(state: Path) -> None:
    state.write_bytes(b"no database, but something else" * 100)
    with pytest.raises(StateError, match="damaged"):
        Database.reading(state)
    assert {file.name for file in state.parent.iterdir()} == {"state.db"}


def test_database_of_an_older_craftsync_is_read_without_changes(tmp_path: Path) -> None:
    file = tmp_path / "state.db"
    connection = sqlite3.connect(file)
    connection.executescript(
        f"PRAGMA journal_mode = WAL; {_schema_steps()[1]}; PRAGMA user_version = 1"
    )
    connection.execute("INSERT INTO meta VALUES ('word', 'of old')")
    connection.commit()
    connection.close()
    before = left_in(tmp_path)
    assert word_in(file) == "of old"
    assert left_in(tmp_path) == before
