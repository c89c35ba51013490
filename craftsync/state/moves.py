"""Recognises moved files: replaces a delete and an arrival of the same content by one move."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Container, Sequence

from craftsync.core.model import Kind
from craftsync.state.database import Database

_Kinds = tuple[Kind, Kind, Kind]
_Columns = Sequence[str]


class Moves:
    """Pairs deletes and arrivals of the plan by what identifies their content on each side."""

    def __init__(self, database: Database) -> None:
        self._db = database.connection
        self._refused: set[str] = set()

    def pair(self, *, by_version: bool) -> None:
        """Replace the delete and the arrival that a move on one side causes by a move on the other.

        A renamed file keeps inode, size and mtime. A moved object keeps its size, and its version
        if that depends on the content (`by_version`), else its time; the move compares the content.
        Ambiguous pairs stay. The baseline of a move is the row of its source.
        """
        fingerprint = ("inode", "size", "mtime_ns")
        kinds = Kind.MOVE_REMOTE, Kind.DELETE_REMOTE, Kind.UPLOAD
        self._pair(kinds, fingerprint, fingerprint, "remote_size")
        sign = "version" if by_version else "modified_ns"
        kinds = Kind.MOVE_LOCAL, Kind.DELETE_LOCAL, Kind.DOWNLOAD
        self._pair(kinds, (sign, "size"), (sign, "remote_size"), "size")

    def refuse(self, source: str) -> None:
        """Plan no move from a path until `refuse_none`, because the last one was skipped."""
        self._refused.add(source)

    def refuse_none(self) -> None:
        self._refused.clear()

    def leaving(self) -> Container[str]:
        """Return the paths that this plan moves away, or deletes because they obstruct other steps.

        The set is fixed by this call, which must come before any step is done. Thread-safe.
        """
        self._db.execute("DROP TABLE IF EXISTS temp.leaving")
        self._db.execute("CREATE TEMP TABLE leaving (path TEXT PRIMARY KEY) WITHOUT ROWID")
        self._db.execute(
            "INSERT OR IGNORE INTO temp.leaving"
            " SELECT path FROM plan WHERE kind IN (?, ?) AND stage = 0"
            " UNION ALL SELECT source FROM plan WHERE source IS NOT NULL",
            (Kind.DELETE_REMOTE, Kind.DELETE_LOCAL),
        )
        return _Leaving(self._db)

    def _pair(self, kinds: _Kinds, known: _Columns, seen: _Columns, size_at_target: str) -> None:
        """Pair steps where columns `known` of the baseline equal columns `seen` of the plan.

        A path where the other side has a version, of the size in column `size_at_target`, is no
        target. MATERIALIZED makes SQLite build an index, else a large folder would take hours.
        """
        move, delete, arrival = kinds
        planned = "SELECT 1 FROM plan WHERE kind = ? LIMIT 1"
        if not all(self._db.execute(planned, (kind,)).fetchone() for kind in (delete, arrival)):
            return
        columns = ", ".join(f"b.{column}" for column in known)
        same = " AND ".join(f"g.{one} = a.{other}" for one, other in zip(known, seen, strict=True))
        self._db.execute("DROP TABLE IF EXISTS temp.moved")
        self._db.execute(
            "CREATE TEMP TABLE moved (id INTEGER PRIMARY KEY, gone, source TEXT UNIQUE)"
        )
        # Of several arrivals with the same content, the first counts as the target.
        self._db.execute(
            f"WITH gone AS MATERIALIZED (SELECT min(d.id) AS id, b.path, {columns}"
            f" FROM plan d CROSS JOIN baseline b ON b.path = d.path"
            f" WHERE d.kind = ? AND b.size > 0 GROUP BY {columns} HAVING count(*) = 1)"
            f" INSERT INTO moved SELECT min(a.id), g.id, g.path FROM plan a CROSS JOIN gone g ON {same}"
            f" LEFT JOIN baseline taken ON taken.path = a.path"
            f" WHERE a.kind = ? AND taken.path IS NULL AND a.{size_at_target} IS NULL"
            # A file cannot be moved below its own path, nor to a folder above it.
            f" AND NOT (a.path > g.path || '/' AND a.path < g.path || '0')"
            f" AND NOT (g.path > a.path || '/' AND g.path < a.path || '0')"
            f" GROUP BY g.id",
            (delete, arrival),
        )
        self._db.executemany(
            "DELETE FROM moved WHERE source = ?", ((source,) for source in self._refused)
        )
        self._db.execute(
            "UPDATE plan SET kind = ?, source = moved.source, rule = 'renamed from ' || moved.source"
            " FROM temp.moved AS moved WHERE moved.id = plan.id",
            (move,),
        )
        self._db.execute("DELETE FROM plan WHERE id IN (SELECT gone FROM temp.moved)")


class _Leaving(Container[str]):
    """The table that `Moves.leaving` filled, so that memory does not grow with the plan."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._lock = threading.Lock()

    def __contains__(self, path: object) -> bool:
        with self._lock:
            found = self._db.execute("SELECT 1 FROM temp.leaving WHERE path = ?", (path,))
            return found.fetchone() is not None
