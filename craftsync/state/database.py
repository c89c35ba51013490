"""`Database`: opens a state database, upgrades its schema, and sets a damaged one aside.

A transaction is on disk when it ends (`synchronous=FULL`), because deletes rely on baseline rows.
While a worker waits for the disk, other tasks run (`commits.PendingCommit`). All methods belong to
the control thread; only the result of `Moves.leaving` may be used by others.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import sqlite3
import weakref
from collections.abc import Iterator
from enum import StrEnum
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from craftsync.core.model import Kind, Mode
from craftsync.errors import StateError
from craftsync.net.waiting import blocking
from craftsync.state.commits import PendingCommit, SecondConnection


def _listed(words: type[StrEnum]) -> str:
    return ", ".join(f"'{word}'" for word in words)


_STEP = re.compile(r"(\d+)-.*\.sql")
_BUSY_SECONDS = 30.0
_INVALID_VALUES = (
    f"SELECT kind FROM plan WHERE kind NOT IN ({_listed(Kind)}) LIMIT 1",
    f"SELECT kind FROM held WHERE kind NOT IN ({_listed(Kind)}) LIMIT 1",
    f"SELECT mode FROM held WHERE mode NOT IN ({_listed(Mode)}) LIMIT 1",
)
"""Each query finds a value that only damage can explain. Both tables are small between runs."""


UNREADABLE = (sqlite3.Error, UnicodeDecodeError)
"""What reading a database may raise: the second, if SQLite's own message contains damaged text."""
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class _Damaged(StateError):
    """The content of the database is damaged; the next run sets it aside."""


class _Cursor(sqlite3.Cursor):
    """Raises `StateError` for an unreadable row: SQLite's checks do not detect a flipped bit in a text."""

    connection: _Connection

    def __iter__(self) -> _Cursor:
        self.connection.reading.add(self)
        return self

    def __next__(self) -> Any:
        try:
            return super().__next__()
        except UNREADABLE as error:
            raise self.connection.state_error(error) from error

    def fetchone(self) -> Any:
        try:
            return super().fetchone()
        except UNREADABLE as error:
            raise self.connection.state_error(error) from error

    def fetchall(self) -> list[Any]:
        try:
            return super().fetchall()
        except UNREADABLE as error:
            raise self.connection.state_error(error) from error


class _Connection(sqlite3.Connection):
    """Raises `StateError` for disk errors and damaged content, so that they do not look like bugs."""

    place = ""
    """The file's path in messages."""

    def __init__(self, *words: Any, **named: Any) -> None:
        super().__init__(*words, **named)
        self.reading = weakref.WeakSet[sqlite3.Cursor]()

    is_scratch = False
    """Whether the connection is temporary or read-only: damage that it finds does not set the file aside."""
    folder: TemporaryDirectory[str] | None = None
    """The folder of a temporary copy, which `close` removes."""

    _pending: PendingCommit | None = None

    def close(self) -> None:
        super().close()
        if self.folder is not None:
            self.folder.cleanup()

    def finish_commit(self) -> None:
        """Wait until no commit is pending."""
        if self._pending is not None:
            self._pending.end()

    def commit_beside(self) -> None:
        """Commit. Other tasks of this thread run while it waits for the disk."""
        self._pending = pending = PendingCommit(self)
        try:
            blocking(pending.make)
        finally:
            pending.end()
            if self._pending is pending:
                self._pending = None

    def commit(self) -> None:
        try:
            super().commit()
        except UNREADABLE as error:
            raise self.state_error(error) from error

    def execute(self, *words: Any) -> sqlite3.Cursor:
        self.finish_commit()
        try:
            cursor = self.cursor(_Cursor)
            if self.in_transaction:
                self.reading.add(cursor)
            return cursor.execute(*words)
        except UNREADABLE as error:
            raise self.state_error(error) from error

    def executemany(self, *words: Any) -> sqlite3.Cursor:
        self.finish_commit()
        try:
            return super().executemany(*words)
        except UNREADABLE as error:
            raise self.state_error(error) from error

    def state_error(self, error: Exception) -> Exception:
        """Return the exception to raise for an error of SQLite. Records damage (see `damaged`)."""
        if _is_damage(error):
            return self.damaged(error)
        if isinstance(error, sqlite3.OperationalError):
            return _unusable(self.place, error)
        return error

    def damaged(self, reason: object) -> StateError:
        """Return the error for damaged content. Records it, so that the next `Database.open` sets the file aside."""
        if self.place and not self.is_scratch:
            with contextlib.suppress(OSError):
                _damage_note(Path(self.place)).touch()
        return _damaged(self.place, reason)


class Database:
    """A connection with the current schema. `recovered` is the new path of a damaged file set aside, if any."""

    def __init__(
        self,
        connection: _Connection,
        path: Path | None = None,
        *,
        recovered: Path | None = None,
    ) -> None:
        self.connection = connection
        self.path = path
        """The file's path in messages; for a copy, the original's."""
        self.recovered = recovered

    @classmethod
    def open(cls, path: Path) -> Database:
        """Open or create the database at `path`. A damaged one is renamed, and a new one created.

        Raises `StateError` for a database of a newer craftsync, a locked one, or a full or
        read-only disk. None of these is damage, so the database stays.
        """
        _make_folder(path.parent)
        try:
            if not _damage_note(path).exists():
                return cls(_connect(str(path)), path)
        except _Damaged:
            pass
        aside = _set_aside(path)
        return cls(_connect(str(path)), path, recovered=aside)

    @classmethod
    def scratch(cls, copy_of: Path | None = None) -> Database:
        """Create a temporary database, with the content of `copy_of` if that exists.

        It spills to a temporary file, so a dry run needs no more memory than a real one. Raises
        `StateError` if `copy_of` is unreadable or damaged, and leaves it: only a run sets it aside.
        """
        has_original = copy_of is not None and copy_of.exists()
        connection = _new_connection("") if has_original else _connect("")
        connection.is_scratch = True
        if copy_of is not None and has_original:
            connection.place = str(copy_of)
            try:
                with contextlib.closing(_open_to_copy(copy_of)) as original:
                    original.backup(connection)
            except UNREADABLE as error:
                raise connection.state_error(error) from error
            _set_up(connection)
        return cls(connection, copy_of)

    @classmethod
    def reading(cls, path: Path) -> Database:
        """Open the database at `path` read-only in place, or an empty one if it does not exist.

        Leaves no files behind, and works on a read-only disk. A database of an older schema is
        copied and upgraded. Raises `StateError` as `scratch` does.
        """
        if not path.exists():
            return cls.scratch()
        connection = open_to_read(path)
        try:
            current, newest = _schema(connection)
        except BaseException:
            connection.close()
            raise
        if current == newest:
            return cls(connection, path)
        connection.close()
        return cls.scratch(path)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit at the end of the block, roll back on any exception. Other tasks run during the commit."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            try:
                yield self.connection
            except BaseException:
                # If the disk is full, SQLite has already rolled back.
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise
            self.connection.commit_beside()
        except BaseException:
            self.end_reading()
            raise

    def end_reading(self) -> None:
        """Close the cursors of a failed transaction or run, which its traceback keeps alive for a while.

        Once another connection has written, an open cursor prevents writes (SQLITE_BUSY_SNAPSHOT).
        """
        for cursor in list(getattr(self.connection, "reading", ())):
            cursor.close()

    def get(self, key: str) -> str | None:
        row = self.connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def get_int(self, key: str) -> int | None:
        """Return a number, or `None` if it is missing. Raises `StateError` for other text, which is damage."""
        text = self.get(key)
        try:
            return None if text is None else int(text)
        except ValueError as error:
            raise self.connection.damaged(f"{key} is {text!r}") from error

    def put(self, key: str, value: str) -> None:
        self.connection.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
            (key, value),
        )

    def second_connection(self) -> SecondConnection:
        """Return a second connection, whose commits do not wait for the disk; a scratch database has only one."""
        shared, ready = self.connection.is_scratch, self.connection.finish_commit
        connect = partial(_connect_beside, str(self.path))
        return SecondConnection(
            (lambda: self.connection) if shared else connect, shared=shared, ready=ready
        )

    def close(self) -> None:
        self.connection.close()


def _connect_beside(name: str) -> _Connection:
    connection = _new_connection(name)
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def _connect(name: str) -> _Connection:
    connection = _new_connection(name)
    try:
        _set_up(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _new_connection(name: str, *, place: str | None = None) -> _Connection:
    connection = sqlite3.connect(
        name,
        uri=place is not None and name.startswith("file:"),
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        factory=_Connection,
    )
    connection.place = name if place is None else place
    connection.is_scratch = place is not None
    return connection


def _open_to_copy(path: Path) -> sqlite3.Connection:
    """Open a database in a mode that leaves no files behind.

    A read-only connection creates the two files of a WAL and cannot remove them. A writable one
    checkpoints an existing WAL into the database.
    """
    mode = "ro" if path.with_name(f"{path.name}-wal").exists() else "rw"
    uri = f"{path.resolve().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS)


def open_to_read(path: Path) -> _Connection:
    """Open a database and its WAL read-only, without leaving files behind.

    Raises `StateError` if it is unreadable or damaged.
    """
    log, index = (path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))
    if log.exists():
        # Without the index file, a reader would create one.
        if index.exists() and (connection := _open_if_readable(path, "mode=ro")):
            return connection
        return _open_copy(path, log)
    # The first mode creates a WAL and removes it at the end. That fails on a read-only disk and in
    # another user's folder, where no other process writes, so that `immutable` is safe.
    for mode in ("mode=rw", "mode=ro&immutable=1"):
        if connection := _open_if_readable(path, mode):
            return connection
    return _open_copy(path, log)


def _open_if_readable(path: Path, mode: str) -> _Connection | None:
    """Return a connection in this mode, or `None` if it cannot read. Raises `StateError` for damage."""
    try:
        connection = _new_connection(f"{path.resolve().as_uri()}?{mode}", place=str(path))
    except sqlite3.OperationalError:
        return None
    try:
        connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
    except _Damaged:
        connection.close()
        raise
    except StateError:
        connection.close()
        return None
    return connection


def _open_copy(path: Path, log: Path) -> _Connection:
    """Open a temporary copy of a database and its WAL."""
    folder = TemporaryDirectory(prefix="craftsync-")
    try:
        copy = Path(folder.name, path.name)
        shutil.copyfile(path, copy)
        if log.exists():
            shutil.copyfile(log, copy.with_name(log.name))
        connection = _new_connection(str(copy), place=str(path))
        connection.folder = folder
        connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
    except BaseException as error:
        folder.cleanup()
        if isinstance(error, OSError):
            raise _unusable(path, sqlite3.OperationalError(error.strerror or str(error))) from error
        raise
    return connection


def _set_up(connection: _Connection) -> None:
    """Upgrade a database to the current schema. Raises `StateError`, also if it is damaged."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA temp_store = FILE")
    damage = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if damage != "ok":
        raise connection.damaged(damage)
    _upgrade(connection)
    for query in _INVALID_VALUES:
        if unknown := connection.execute(query).fetchone():
            raise connection.damaged(f"unknown value {unknown[0]!r}")


def _schema(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return the schema of a database and the newest known one. Raises `StateError` for a newer database."""
    current = connection.execute("PRAGMA user_version").fetchone()[0]
    newest = max(_schema_steps())
    if current > newest:
        raise StateError(
            f"the state database has schema {current}, this craftsync supports {newest}",
            remedy="Use the newer craftsync that wrote it.",
        )
    return current, newest


def _upgrade(connection: sqlite3.Connection) -> None:
    (current, newest), steps = _schema(connection), _schema_steps()
    missing = [steps[number] for number in sorted(steps) if number > current]
    if not current:
        # The same as all steps, in a third of the time.
        missing = [Path(__file__).with_name("schema.sql").read_text("utf-8")]
    elif missing and isinstance(connection, _Connection):
        _keep_older(connection, current)
    if missing:
        # A single transaction, because each would wait for the disk.
        script = "\n".join(missing)
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {newest};\nCOMMIT;"
        )


def _keep_older(connection: _Connection, schema: int) -> None:
    """Copy a database before its schema changes, for the older craftsync that wrote it."""
    if not connection.place or connection.is_scratch:
        return
    kept = Path(f"{connection.place}.schema-{schema}")
    unfinished = kept.with_name(f"{kept.name}.part")
    unfinished.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(unfinished)) as copy:
        connection.backup(copy)
    unfinished.replace(kept)


@cache
def _schema_steps() -> dict[int, str]:
    found = {}
    for file in Path(__file__).with_name("schema").iterdir():
        match = _STEP.fullmatch(file.name)
        if match:
            found[int(match[1])] = file.read_text("utf-8")
    return found


def _make_folder(folder: Path) -> None:
    """Create the folder of a database, accessible to its owner only."""
    with state_place(f"cannot create the folder {folder} for the state database"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)


@contextlib.contextmanager
def state_place(what: str) -> Iterator[None]:
    """Translate an `OSError` of the state folder into a `StateError` with the sentence `what`."""
    try:
        yield
    except OSError as error:
        raise StateError(
            f"{what}: {error.strerror or error}",
            remedy="Choose a writable folder with --state-dir or CRAFTSYNC_STATE_DIR.",
        ) from error


def _unusable(path: str | Path, error: sqlite3.OperationalError) -> StateError:
    return StateError(
        f"the state database {path} cannot be used: {error}",
        remedy="Free disk space, or wait for the process that uses it; then run the command again."
        " Nothing that was transferred is lost.",
    )


def _is_damage(error: Exception) -> bool:
    """Return whether an error means damaged content. Python has two errors for text that is not UTF-8."""
    if isinstance(error, UnicodeDecodeError) or str(error).startswith("Could not decode"):
        return True
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _DAMAGE


def _damage_note(path: Path) -> Path:
    """Return the file whose existence records that a database was found damaged while in use."""
    return path.with_name(f"{path.name}.is-damaged")


def _damaged(path: str, reason: object) -> StateError:
    return _Damaged(
        f"the state database {path} is damaged: {reason}",
        remedy="The next run that is not a dry run sets it aside and merges both sides without"
        " deleting anything.",
    )


def _set_aside(path: Path) -> Path:
    """Rename a damaged database with its WAL, and return the new path."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    path.rename(aside)
    _damage_note(path).unlink(missing_ok=True)
    return aside
