"""The history table: what was done, for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from craftsync.core.paths import malformed
from craftsync.state.database import Database

_FAILED = ("skipped", "problem")
"""How steps end that a daemon tries again all day long."""


class HistoryRow(NamedTuple):
    """One thing that was done, or could not be. `at_ns` is UTC, `size` bytes."""

    at_ns: int
    command: str
    action: str
    path: str
    size: int
    status: str
    reason: str


class History:
    """Appends inside the caller's transaction; reads newest first."""

    def __init__(self, database: Database) -> None:
        self._db = database.connection

    def add(self, rows: Iterable[HistoryRow]) -> None:
        """Note what happened; a failure that is the same as the last of its path is there already."""
        self._db.executemany(
            "INSERT INTO history (at_ns, command, action, path, size, status, reason)"
            " VALUES (?,?,?,?,?,?,?)",
            (row for row in rows if row.status not in _FAILED or not self._is_last(row)),
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
            f"SELECT at_ns, command, action, path, size, status, reason FROM history {where}"
            f" ORDER BY id DESC LIMIT :limit",
            {"path": path, "limit": limit},
        )
        return map(HistoryRow._make, cursor)
