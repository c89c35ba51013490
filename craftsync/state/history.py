"""The history table: what was done, for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from craftsync.core.paths import malformed
from craftsync.state.database import Database

_FAILED = ("skipped", "problem", "held")
"""How steps end that a daemon tries again all day long."""


class HistoryRow(NamedTuple):
    """One thing that was done, or could not be. `at_ns` is UTC, `size` bytes, `run` the number of its run."""

    at_ns: int
    command: str
    action: str
    path: str
    size: int
    status: str
    reason: str
    run: int | None = None


class History:
    """Appends inside the caller's transaction; reads newest first."""

    def __init__(self, database: Database) -> None:
        self._db = database.connection
        self._run: int | None = None

    def begin(self) -> None:
        """Begin a run: it gets a number when it has something to note."""
        self._run = None

    def run(self) -> int:
        """Return the number of this run: one that no run before it had."""
        if self._run is None:
            self._db.execute(
                "INSERT INTO meta VALUES ('runs', '1') ON CONFLICT DO UPDATE"
                " SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT)"
            )
            found = self._db.execute("SELECT value FROM meta WHERE key = 'runs'").fetchone()
            self._run = int(found[0])
        return self._run

    def first_run(self) -> int | None:
        """Return the number of the oldest run of which anything is noted."""
        found = self._db.execute(
            "SELECT run FROM history WHERE run IS NOT NULL ORDER BY id LIMIT 1"
        ).fetchone()
        return None if found is None else int(found[0])

    def add(self, rows: Iterable[HistoryRow]) -> None:
        """Note what happened; a failure that is the same as the last of its path is there already."""
        self._db.executemany(
            "INSERT INTO history (at_ns, command, action, path, size, status, reason, run)"
            " VALUES (?,?,?,?,?,?,?,?)",
            (
                row._replace(run=self.run())
                for row in rows
                if row.status not in _FAILED or not self._is_last(row)
            ),
        )

    def _is_last(self, row: HistoryRow) -> bool:
        last = self._db.execute(
            "SELECT command, action, status, reason FROM history WHERE path = ?"
            " ORDER BY id DESC LIMIT 1",
            (row.path,),
        ).fetchone()
        return bool(last == (row.command, row.action, row.status, row.reason))

    def drop_before(self, at_ns: int) -> None:
        """Drop the rows from the first on, up to the first that is not older (UTC); reads only those."""
        self._db.execute(
            "DELETE FROM history WHERE id < coalesce("
            "(SELECT id FROM history WHERE at_ns >= ? ORDER BY id LIMIT 1),"
            " (SELECT max(id) + 1 FROM history))",
            (at_ns,),
        )

    def rows(self, path: str | None, limit: int) -> Iterator[HistoryRow]:
        """Yield the rows of a file or of all in a folder, or (`None` or ".") all there are."""
        if path == ".":
            path = None
        if path is not None and malformed(path):
            return iter(())
        # "0" is what comes after "/".
        below = "path > :path || '/' AND path < :path || '0'"
        where = f"WHERE path = :path OR {below}" if path is not None else ""
        cursor = self._db.execute(
            f"SELECT at_ns, command, action, path, size, status, reason, run FROM history {where}"
            f" ORDER BY id DESC LIMIT :limit",
            {"path": path, "limit": limit},
        )
        return map(HistoryRow._make, cursor)
