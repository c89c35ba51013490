"""The event tables: deletes that follow each other closely are one event for the guard.

A folder that is being removed slowly reaches craftsync in many small runs, each
of them harmless. The guard judges them together, and a person can take back the
whole event, also what went before the guard held anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from craftsync.core.guard import DeleteLimit
from craftsync.core.model import Kind
from craftsync.state.database import Database
from craftsync.state.spool import ranges

EVENT_SECONDS = 120
"""Deletes that follow each other more closely than this are one event, as those of a job that runs every minute."""


class Deleted(NamedTuple):
    """A delete that was carried out as part of an event. `at_ns` is UTC, `size` bytes.

    `stamp` names the run in the trash of the side it was deleted on. `rejected`:
    a person rejected it, and it could not be brought back.
    """

    kind: Kind
    path: str
    size: int
    at_ns: int
    stamp: str
    rejected: bool = False


class Events:
    """Changes rows inside the caller's transaction; reads them as they come.

    There is one event for each direction. It lasts as long as deletes follow
    each other, or any of its direction is held. Another limit is a person's
    word, and begins anew.
    """

    def __init__(self, database: Database) -> None:
        self._db = database.connection

    def spent(self, kind: Kind, limit: DeleteLimit, now_ns: int) -> int:
        """Return how many deletes count with those that are planned now; an event that is over is forgotten."""
        found = self._db.execute(
            "SELECT deletes, last_ns, limit_files, limit_share FROM event WHERE kind = ?", (kind,)
        ).fetchone()
        if found is None:
            return 0
        deletes, last_ns, *judged_under = found
        # A clock that was set back must not keep an event open for as long as it was set back.
        is_over = abs(now_ns - last_ns) >= EVENT_SECONDS * 10**9 and not self._is_held(kind)
        if is_over:
            self.end(kind)
            return 0
        return int(deletes) if judged_under == [limit.files, limit.share] else 0

    def add(self, deleted: Iterable[Deleted], limit: DeleteLimit) -> None:
        """Count deletes that a run has carried out without a person's word."""
        for one in deleted:
            self._db.execute(
                "INSERT INTO event VALUES (?, 1, ?, ?, ?) ON CONFLICT DO UPDATE SET"
                " deletes = 1 + CASE WHEN (limit_files, limit_share) ="
                " (excluded.limit_files, excluded.limit_share) THEN deletes ELSE 0 END, last_ns = excluded.last_ns,"
                " limit_files = excluded.limit_files, limit_share = excluded.limit_share",
                (one.kind, one.at_ns, limit.files, limit.share),
            )
            self._db.execute("INSERT OR REPLACE INTO event_delete VALUES (?, ?, ?, ?, ?, ?)", one)

    def make_up(self, new: int) -> None:
        """Let new paths make up for as many deletes before them, unless deletes are held.

        Or a folder where files come and go all day would look like one that is
        being removed.
        """
        if not new:
            return
        for kind, deletes in self._db.execute("SELECT kind, deletes FROM event").fetchall():
            if self._is_held(kind):
                continue
            if deletes <= new:
                self.end(kind)
            else:
                self._db.execute(
                    "UPDATE event SET deletes = ? WHERE kind = ?", (deletes - new, kind)
                )

    def deleted(self, paths: Iterable[str] | None = None) -> Iterator[Deleted]:
        """Yield what was deleted in the events that have held deletes, and what could not be brought back of any.

        All, or those at `paths` and below them.
        """
        query = (
            "SELECT kind, path, size, at_ns, stamp, rejected FROM event_delete"
            " WHERE (rejected OR kind IN (SELECT kind FROM held WHERE NOT archived))"
        )
        if paths is None:
            yield from map(_deleted, self._db.execute(f"{query} ORDER BY kind, rejected, path"))
            return
        for low, high in ranges(paths):
            where = "AND path >= ? AND path < ? ORDER BY path"
            yield from map(_deleted, self._db.execute(f"{query} {where}", (low, high)))

    def forget(self, paths: Iterable[str]) -> None:
        """Drop deletes that a person has approved or taken back."""
        self._db.executemany("DELETE FROM event_delete WHERE path = ?", ((path,) for path in paths))

    def keep_rejected(self, paths: Iterable[str]) -> None:
        """Keep deletes that could not be brought back, also when their event ends."""
        self._db.executemany(
            "UPDATE event_delete SET rejected = 1 WHERE path = ?", ((path,) for path in paths)
        )

    def held(self) -> list[Kind]:
        """Return the directions of which deletes are held."""
        rows = self._db.execute("SELECT DISTINCT kind FROM held WHERE NOT archived")
        return [Kind(kind) for (kind,) in rows]

    def end_settled(self, kinds: Iterable[Kind]) -> None:
        """End the events of these directions of which nothing is held any more."""
        for kind in kinds:
            if not self._is_held(kind):
                self.end(kind)

    def end(self, kind: str) -> None:
        self._db.execute("DELETE FROM event WHERE kind = ?", (kind,))
        self._db.execute("DELETE FROM event_delete WHERE kind = ? AND NOT rejected", (kind,))

    def _is_held(self, kind: str) -> bool:
        query = "SELECT 1 FROM held WHERE kind = ? AND NOT archived LIMIT 1"
        found = self._db.execute(query, (kind,)).fetchone()
        return found is not None


def _deleted(row: tuple[str, str, int, int, str, int]) -> Deleted:
    return Deleted(Kind(row[0]), *row[1:5], bool(row[5]))
