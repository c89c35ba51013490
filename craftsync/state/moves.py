"""How a moved file is recognised: a delete and an arrival of the same content become one move."""

from __future__ import annotations

from collections.abc import Sequence

from craftsync.core.model import Kind
from craftsync.state.database import Database


class Moves:
    """Pairs steps of the plan by what identifies a content on each side."""

    def __init__(self, database: Database) -> None:
        self._db = database.connection
        self._refused: set[str] = set()

    def pair(self, *, by_version: bool) -> None:
        """Replace a delete and an arrival of the same content on one side by a move on the other.

        A renamed file keeps inode, size and mtime. A moved object keeps size and
        version, if versions depend on the content (`by_version`), else size and
        time; its content is compared during the move. Ambiguous pairs are not
        replaced. The baseline of a move is the row of its source.
        """
        fingerprint = ("inode", "size", "mtime_ns")
        self._pair(Kind.MOVE_REMOTE, Kind.DELETE_REMOTE, Kind.UPLOAD, fingerprint, fingerprint)
        sign = "version" if by_version else "modified_ns"
        known, seen = (sign, "size"), (sign, "remote_size")
        self._pair(Kind.MOVE_LOCAL, Kind.DELETE_LOCAL, Kind.DOWNLOAD, known, seen)

    def refuse(self, source: str) -> None:
        """Plan no move from a path until `refuse_none`, because the contents of the last one differed."""
        self._refused.add(source)

    def refuse_none(self) -> None:
        self._refused.clear()

    def _pair(
        self, move: Kind, delete: Kind, arrival: Kind, known: Sequence[str], seen: Sequence[str]
    ) -> None:
        """Pair steps where columns `known` of the baseline equal columns `seen` of the plan.

        MATERIALIZED makes SQLite build an index; otherwise it compares each
        delete with each arrival, which takes hours for a large folder.
        """
        planned = "SELECT 1 FROM plan WHERE kind = ? LIMIT 1"
        if not all(self._db.execute(planned, (kind,)).fetchone() for kind in (delete, arrival)):
            return
        columns = ", ".join(f"b.{column}" for column in known)
        same = " AND ".join(f"g.{one} = a.{other}" for one, other in zip(known, seen, strict=True))
        pairs = self._db.execute(
            f"WITH gone AS MATERIALIZED (SELECT min(d.id) AS id, b.path, {columns}"
            f" FROM plan d CROSS JOIN baseline b ON b.path = d.path"
            f" WHERE d.kind = ? AND b.size > 0 GROUP BY {columns} HAVING count(*) = 1)"
            f" SELECT g.id, a.id, g.path FROM plan a CROSS JOIN gone g ON {same}"
            f" LEFT JOIN baseline taken ON taken.path = a.path"
            f" WHERE a.kind = ? AND taken.path IS NULL"
            # A file cannot be moved below its own path, nor to a folder above it.
            f" AND NOT (a.path > g.path || '/' AND a.path < g.path || '0')"
            f" AND NOT (g.path > a.path || '/' AND g.path < a.path || '0')"
            f" ORDER BY a.id",
            (delete, arrival),
        ).fetchall()
        moved: set[int] = set()
        for deleted, arrived, source in pairs:
            if deleted in moved or source in self._refused:
                continue
            moved.add(deleted)
            self._db.execute(
                "UPDATE plan SET kind = ?, source = ?, rule = ? WHERE id = ?",
                (move, source, f"renamed from {source}", arrived),
            )
            self._db.execute("DELETE FROM plan WHERE id = ?", (deleted,))
