"""The history of steps (`History`), and this client's versions in a trash (`Kept`, `Outside`).

A store's trash contains versions of every client. Retention uses only the records here, so it never
removes another client's versions.

Resolved conflicts, single-object commands, `serve` and `migrate` work while a daemon runs. They
take no lock and open no database: they append lines to one file for each folder or store
(`Outside`), which the next run imports.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from craftsync.core.paths import malformed
from craftsync.state.database import Database

_FAILED = ("skipped", "problem", "held")
"""Results of steps that a daemon may repeat all day."""
_OUTSIDE = "outside"
"""In the state folder: the folder of the notes made outside runs."""


class HistoryRow(NamedTuple):
    """One step of a run, done or failed. `at_ns` is in ns since the epoch (UTC), `size` in bytes."""

    at_ns: int
    command: str
    action: str
    path: str
    size: int
    status: str
    reason: str
    run: int | None = None


class History:
    """The table of the history, read newest first. Writes belong to the caller's transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database.connection
        self._run: int | None = None

    def begin(self) -> None:
        """Begin a run, which gets a number with its first entry."""
        self._run = None

    def run(self) -> int:
        """Return the number of this run, unique within the state."""
        if self._run is None:
            self._db.execute(
                "INSERT INTO meta VALUES ('runs', '1') ON CONFLICT DO UPDATE"
                " SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT)"
            )
            found = self._db.execute("SELECT value FROM meta WHERE key = 'runs'").fetchone()
            self._run = int(found[0])
        return self._run

    def count(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM history").fetchone()[0])

    def first_run(self) -> int | None:
        """Return the number of the oldest run in the history, or `None` if that is empty."""
        found = self._db.execute(
            "SELECT run FROM history WHERE run IS NOT NULL ORDER BY id LIMIT 1"
        ).fetchone()
        return None if found is None else int(found[0])

    def add(self, rows: Iterable[HistoryRow]) -> None:
        """Add entries, except a failure that repeats the last entry of its path."""
        told = [row for row in rows if row.status not in _FAILED or not self._is_last(row)]
        if not told:
            return
        run = self.run()
        self._db.executemany(
            "INSERT INTO history (at_ns, command, action, path, size, status, reason, run)"
            " VALUES (?,?,?,?,?,?,?,?)",
            ((*row[:-1], run) for row in told),
        )

    def _is_last(self, row: HistoryRow) -> bool:
        last = self._db.execute(
            "SELECT command, action, status, reason FROM history WHERE path = ?"
            " ORDER BY id DESC LIMIT 1",
            (row.path,),
        ).fetchone()
        return bool(last == (row.command, row.action, row.status, row.reason))

    def added_by(self, run: int) -> Iterator[str]:
        """Yield the paths that a run added or renamed, each once, by path. Reads the whole history."""
        cursor = self._db.execute(
            "SELECT DISTINCT path FROM history WHERE run = :run AND status = 'done'"
            " AND action IN ('upload', 'download', 'move-remote', 'move-local')"
            " AND path NOT IN (SELECT path FROM replaced WHERE run = :run) ORDER BY path",
            {"run": run},
        )
        return (row[0] for row in cursor)

    def drop_before(self, at_ns: int) -> None:
        """Delete the oldest entries, up to the first that is not older than `at_ns`. Reads only those."""
        self._db.execute(
            "DELETE FROM history WHERE id < coalesce("
            "(SELECT id FROM history WHERE at_ns >= ? ORDER BY id LIMIT 1),"
            " (SELECT max(id) + 1 FROM history))",
            (at_ns,),
        )

    def rows(self, path: str | None, limit: int) -> Iterator[HistoryRow]:
        """Yield up to `limit` entries of a path and below it, or (`None` or ".") of all paths."""
        if path == ".":
            path = None
        if path is not None and malformed(path):
            return iter(())
        # "0" is the character after "/".
        below = "path > :path || '/' AND path < :path || '0'"
        where = f"WHERE path = :path OR {below}" if path is not None else ""
        cursor = self._db.execute(
            f"SELECT at_ns, command, action, path, size, status, reason, run FROM history {where}"
            f" ORDER BY id DESC LIMIT :limit",
            {"path": path, "limit": limit},
        )
        return map(HistoryRow._make, cursor)


class KeptVersion(NamedTuple):
    """A version in the trash of a side ("root" or "store"). `size` is in bytes."""

    side: str
    stamp: str
    path: str
    size: int


class Total(NamedTuple):
    """Number and bytes of this client's versions in both trashes."""

    files: int
    bytes: int


class Kept:
    """The table of versions in the trash. Writes belong to the caller's transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database.connection

    def add(self, versions: Iterable[KeptVersion], at_ns: int) -> None:
        """Record versions moved to the trash at `at_ns` (ns since the epoch, UTC)."""
        self._db.executemany(
            "INSERT INTO kept VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            ((*version, at_ns) for version in versions),
        )

    def total(self) -> Total:
        return Total(*self._db.execute("SELECT files, bytes FROM kept_total").fetchone())

    def paths(self, limit: int) -> Iterator[str]:
        """Yield up to `limit` paths that have versions in the trash."""
        query = "SELECT DISTINCT path FROM kept LIMIT ?"
        return (row[0] for row in self._db.execute(query, (limit,)))

    def newest_ns(self) -> int | None:
        """Return when the newest version was moved to the trash, or `None` if there is none."""
        found = self._db.execute("SELECT max(at_ns) FROM kept").fetchone()[0]
        return None if found is None else int(found)

    def is_older(self, at_ns: int) -> bool:
        """Return whether any version was moved to the trash before `at_ns`."""
        query = "SELECT 1 FROM kept WHERE at_ns < ? LIMIT 1"
        return self._db.execute(query, (at_ns,)).fetchone() is not None

    def spare(self, conflicts: Iterable[str], event_since_ns: int) -> None:
        """Choose the paths whose versions must stay for now, for `oldest` and `is_spared`.

        These are the `conflicts`; held deletes, with all deletes of their event; the deletes of an
        event since `event_since_ns`; rejected deletes that are not restored yet; and the paths of
        an unfinished or interrupted run.
        """
        self._db.execute(
            "CREATE TEMP TABLE IF NOT EXISTS spared (path TEXT NOT NULL PRIMARY KEY) WITHOUT ROWID"
        )
        self._db.execute("DELETE FROM spared")
        self._db.execute(
            "INSERT OR IGNORE INTO spared SELECT path FROM plan UNION ALL SELECT path FROM intent"
            " UNION ALL SELECT source FROM plan WHERE source IS NOT NULL"
            " UNION ALL SELECT path FROM cut_off"
            " UNION ALL SELECT path FROM held UNION ALL SELECT path FROM event_delete"
            " WHERE rejected OR kind IN (SELECT kind FROM held)"
            " OR kind IN (SELECT kind FROM event WHERE last_ns >= ?)",
            (event_since_ns,),
        )
        self.spare_also(conflicts)

    def spare_also(self, paths: Iterable[str]) -> None:
        self._db.executemany("INSERT OR IGNORE INTO spared VALUES (?)", ((one,) for one in paths))

    def is_spared(self, path: str) -> bool:
        found = self._db.execute("SELECT 1 FROM spared WHERE path = ?", (path,)).fetchone()
        return found is not None

    def oldest(self, limit: int, but: str = "") -> list[tuple[KeptVersion, int]]:
        """Return the oldest versions that are not spared and not on the side `but`, each with its trash time."""
        rows = self._db.execute(
            "SELECT side, stamp, path, size, at_ns FROM kept"
            " WHERE side <> ? AND path NOT IN (SELECT path FROM spared) ORDER BY at_ns LIMIT ?",
            (but, limit),
        )
        return [(KeptVersion(*row[:4]), row[4]) for row in rows.fetchall()]

    def postpone(self, until_ns: int, by_ns: int) -> None:
        """Add `by_ns` to the trash time of versions up to `until_ns`, which postpones their removal."""
        self._db.execute("UPDATE kept SET at_ns = at_ns + ? WHERE at_ns <= ?", (by_ns, until_ns))

    def forget(self, versions: Iterable[KeptVersion]) -> None:
        """Forget versions that are no longer in the trash."""
        self._db.executemany(
            "DELETE FROM kept WHERE side = ? AND stamp = ? AND path = ?",
            (version[:3] for version in versions),
        )

    def forget_before(self, stamp: str) -> None:
        """Forget versions with stamps that sort before `stamp`, except spared ones."""
        self._db.execute(
            "DELETE FROM kept WHERE stamp < ? AND path NOT IN (SELECT path FROM spared)", (stamp,)
        )


class Outside(NamedTuple):
    """The versions moved to the trash outside runs, in a file for each folder or store.

    Safe across threads and processes.
    """

    state_dir: Path
    place: str
    """The path of a folder, or `server_and_location` of a store."""

    def note(self, versions: Iterable[KeptVersion], at_ns: int) -> None:
        """Add versions moved to the trash at `at_ns` (ns since the epoch, UTC).

        Write errors are ignored: an unrecorded version stays in the trash until the user purges it.
        """
        lines = b"".join(_line(version, at_ns) for version in versions)
        if not lines:
            return
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with _locked(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT) as descriptor:
                os.write(descriptor, lines)

    def drop(self, versions: Iterable[KeptVersion]) -> None:
        """Remove the records of versions that are no longer in the trash.

        A crash in between loses all records: then the versions stay until the user purges them.
        """
        gone = {version[:3] for version in versions}
        if not gone:
            return
        with suppress(FileNotFoundError), _locked(self._file, os.O_RDWR) as descriptor:
            noted = _versions(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
            left = b"".join(_line(*one) for one in noted if one[0][:3] not in gone)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, left, 0)

    def noted(self) -> list[tuple[KeptVersion, int]]:
        """Return the versions that are not imported yet, each once."""
        try:
            return _versions(self._file.read_bytes())
        except OSError:
            return []

    @contextmanager
    def taken(self) -> Iterator[list[tuple[KeptVersion, int]]]:
        """Yield the recorded versions; they are removed unless the block raises."""
        with ExitStack() as stack:
            try:
                descriptor = stack.enter_context(_locked(self._file, os.O_RDONLY))
            except FileNotFoundError:
                yield []
                return
            yield _versions(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
            self._file.unlink()

    def changed_ns(self) -> int:
        """Return when the record was last written (mtime in ns), or 0 if it does not exist."""
        try:
            return self._file.stat().st_mtime_ns
        except OSError:
            return 0

    def forget(self) -> None:
        """Remove all recorded versions."""
        self._file.unlink(missing_ok=True)

    @property
    def _file(self) -> Path:
        name = hashlib.sha256(self.place.encode(errors="surrogateescape")).hexdigest()[:24]
        return self.state_dir / _OUTSIDE / f"{name}.jsonl"


def anything_noted(state_dir: Path) -> bool:
    """Return whether there are notes of versions moved to any trash outside runs."""
    return any((state_dir / _OUTSIDE).glob("*.jsonl"))


@contextmanager
def _locked(file: Path, flags: int) -> Iterator[int]:
    """Open and lock the file. Open it again if an import has removed it in between."""
    while True:
        descriptor = os.open(file, flags | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _line(version: KeptVersion, at_ns: int) -> bytes:
    """Return one record. It starts with a line break, which ends a line that a crash has cut off."""
    return f"\n{json.dumps([*version, at_ns])}".encode()


def _versions(content: bytes) -> list[tuple[KeptVersion, int]]:
    """Return each version once, by its first record: the size in a later one may be a guess."""
    found: dict[tuple[str, ...], tuple[KeptVersion, int]] = {}
    for line in content.splitlines():
        with suppress(ValueError, TypeError):
            side, stamp, path, size, at_ns = json.loads(line)
            version = KeptVersion(str(side), str(stamp), str(path), int(size))
            found.setdefault(version[:3], (version, int(at_ns)))
    return list(found.values())
