"""Deletes of a run that was killed before it recorded them: to the guard they are deletes like any other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from craftsync.core.merge import Joined
from craftsync.core.model import Kind
from craftsync.state.database import Database
from craftsync.state.events import Deleted

_Met = TypeVar("_Met", bound=Joined[Any, Any, Any])


class CutOff:
    """Changes rows inside the caller's transaction.

    What a plan still holds when the next one begins may have been carried out.
    It was, if by then neither side holds anything at the path.
    """

    def __init__(self, database: Database, *, plan: str, size: str) -> None:
        """`plan` is the table of the steps, `size` the SQL for the bytes that a delete in it takes away."""
        self._db = database.connection
        self._plan = plan
        self._size = size
        self._gone: list[str] = []

    def delete_under(self, stamp: str) -> None:
        """Remember what the trash will keep the deletes of this plan under, before the first: no person asked for them."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES ('trash_stamp', ?)", (stamp,))

    def begin(self) -> None:
        """Remember the deletes that the last run left in its plan, which is about to be emptied."""
        self._gone = []
        self._db.execute(
            f"INSERT OR REPLACE INTO cut_off SELECT path, kind, {self._size}, value"
            f" FROM {self._plan}, meta WHERE kind IN (?, ?) AND key = 'trash_stamp'",
            (Kind.DELETE_REMOTE, Kind.DELETE_LOCAL),
        )
        self._db.execute("DELETE FROM meta WHERE key = 'trash_stamp'")

    def noting(self, triples: Iterable[_Met], is_unknown: Callable[[str], bool]) -> Iterator[_Met]:
        """Pass on what a run meets, and note what of these paths is there and what is gone.

        `is_unknown` tells of a path whether a side could not say what it holds.
        """
        some = self._db.execute("SELECT 1 FROM cut_off LIMIT 1").fetchone()
        return self._noting(triples, is_unknown) if some else iter(triples)

    def _noting(self, triples: Iterable[_Met], is_unknown: Callable[[str], bool]) -> Iterator[_Met]:
        for triple in triples:
            path, left, _, right = triple
            if left is not None or right is not None:
                self._db.execute("DELETE FROM cut_off WHERE path = ?", (path,))
            elif not is_unknown(path) and self._holds(path):
                self._gone.append(path)
            yield triple

    def _holds(self, path: str) -> bool:
        query = "SELECT 1 FROM cut_off WHERE path = ?"
        return self._db.execute(query, (path,)).fetchone() is not None

    def note_unmet(self, is_unknown: Callable[[str], bool]) -> None:
        """After a complete run has met all there is, note the rest as gone, but for what is unknown."""
        rest = self._db.execute("SELECT path FROM cut_off").fetchall()
        self._gone += (path for (path,) in rest if not is_unknown(path))

    def went(self, now_ns: int) -> list[Deleted]:
        """Return, once, the deletes that were carried out.

        When they went is not known: they count as of now, so that the next
        deletes count with them.
        """
        deleted = []
        for path in self._gone:
            query = "DELETE FROM cut_off WHERE path = ? RETURNING kind, size, stamp"
            for kind, size, stamp in self._db.execute(query, (path,)).fetchall():
                deleted.append(Deleted(Kind(kind), path, size, now_ns, stamp))
        return deleted
