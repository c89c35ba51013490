"""Opens a pair's state database: migrations, damage, durability.

All methods of a `Database` belong to the control thread. A commit of recorded
outcomes is on disk when it returns (`synchronous=FULL`), because files are
deleted on the strength of a baseline row.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from craftsync.errors import StateError

_MIGRATION = re.compile(r"(\d+)-.*\.sql")
_BUSY_SECONDS = 30.0


class _Connection(sqlite3.Connection):
    """Says `StateError` when the disk, not the content, is what fails: a full one must not look like a defect."""

    place = ""
    """The file, for messages."""

    def execute(self, *words: Any) -> sqlite3.Cursor:
        try:
            return super().execute(*words)
        except sqlite3.OperationalError as error:
            raise _unusable(self.place, error) from error

    def executemany(self, *words: Any) -> sqlite3.Cursor:
        try:
            return super().executemany(*words)
        except sqlite3.OperationalError as error:
            raise _unusable(self.place, error) from error


class Database:
    """A connection with the current schema. `recovered` tells that a damaged file was set aside."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path | None = None,
        *,
        recovered: Path | None = None,
    ) -> None:
        self.connection = connection
        self.path = path
        """The file, for messages; of a copy that of the original."""
        self.recovered = recovered

    @classmethod
    def open(cls, path: Path) -> Database:
        """Open or create the database at `path`; a damaged one is renamed and a fresh one begun.

        Raises `StateError` for a database of a newer craftsync, one that is
        locked, or a disk that is full or read-only: none of these is damage,
        and a good database must never be thrown away for them.
        """
        _make_folder(path.parent)
        try:
            return cls(_connect(str(path)), path)
        except sqlite3.OperationalError as error:
            raise _unusable(path, error) from error
        except sqlite3.DatabaseError:
            aside = _set_aside(path)
            return cls(_connect(str(path)), path, recovered=aside)

    @classmethod
    def scratch(cls, copy_of: Path | None = None) -> Database:
        """Make a database that is gone when closed, with the content of `copy_of` where that exists.

        It spills to a temporary file, so a dry run needs no more memory than a real one. Raises
        `StateError` for one that cannot be read or is damaged: only a pass may set that aside.
        """
        connection = _connect("")
        if copy_of is not None and copy_of.exists():
            try:
                with contextlib.closing(_open_to_copy(copy_of)) as original:
                    original.backup(connection)
                _prepare(connection)
            except sqlite3.OperationalError as error:
                raise _unusable(copy_of, error) from error
            except sqlite3.DatabaseError as error:
                raise _damaged(copy_of, error) from error
        return cls(connection, copy_of)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit on success, roll back on any exception."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield self.connection
            self.connection.execute("COMMIT")
        except BaseException:
            # SQLite has rolled back by itself where the disk was full.
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise

    def get(self, key: str) -> str | None:
        row = self.connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def put(self, key: str, value: str) -> None:
        self.connection.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
            (key, value),
        )

    def close(self) -> None:
        self.connection.close()


def _connect(name: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        name,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        factory=_Connection,
    )
    connection.place = name
    try:
        _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _open_to_copy(path: Path) -> sqlite3.Connection:
    """Open a database so that looking at it leaves nothing behind.

    A reader that may not write makes the two files of the log and cannot
    remove them; one that may would work a log that is there into the database.
    """
    mode = "ro" if path.with_name(f"{path.name}-wal").exists() else "rw"
    uri = f"{path.resolve().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS)


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA temp_store = FILE")
    damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if damage != "ok":
        raise sqlite3.DatabaseError(damage)
    _migrate(connection)


def _migrate(connection: sqlite3.Connection) -> None:
    current = connection.execute("PRAGMA user_version").fetchone()[0]
    migrations = _migrations()
    newest = max(migrations)
    if current > newest:
        raise StateError(
            f"the state database has schema {current}, this craftsync knows {newest}",
            remedy="Use the newer craftsync that wrote it.",
        )
    for number in range(current + 1, newest + 1):
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{migrations[number]}\nPRAGMA user_version = {number};\nCOMMIT;"
        )


def _migrations() -> dict[int, str]:
    found = {}
    for file in resources.files(__package__).joinpath("migrations").iterdir():
        match = _MIGRATION.fullmatch(file.name)
        if match:
            found[int(match[1])] = file.read_text("utf-8")
    return found


def _make_folder(folder: Path) -> None:
    """Make the folder of a database, which is its owner's alone."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StateError(
            f"the folder {folder} for the state database cannot be made: {error.strerror}",
            remedy="Name a place you may write to with --state-dir or CRAFTSYNC_STATE_DIR.",
        ) from error


def _unusable(path: str | Path, error: sqlite3.OperationalError) -> StateError:
    return StateError(
        f"the state database {path} cannot be used: {error}",
        remedy="Free its disk or the lock, then run the command again; what was done and could not"
        " be recorded is recognised then.",
    )


def _damaged(path: Path, error: sqlite3.DatabaseError) -> StateError:
    return StateError(
        f"the state database {path} is damaged: {error}",
        remedy="The next pass that is no dry run sets it aside and merges both sides without"
        " deleting anything.",
    )


def _set_aside(path: Path) -> Path:
    """Rename a damaged database, its journals with it, and return where it is now."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    path.rename(aside)
    return aside
