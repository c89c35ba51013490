"""Remembers the deletes and moves of a killed run that it may have carried out without recording them.

Such a step leaves its path in the last synced state, although one side has lost it. If the user
then puts the path back on the other side, the next run would take the loss for a new delete, and
delete the restored file too. If not, the guard would not count the delete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

from craftsync.core.merge import Joined
from craftsync.core.model import DELETES, Kind, RemoteObject
from craftsync.state.database import Database
from craftsync.state.held import Deleted

_Met = TypeVar("_Met", bound=Joined[Any, Any, Any])
Stat = Callable[[Sequence[str]], Mapping[str, RemoteObject]]
"""Returns what the store holds at these paths now."""
_BATCH = 1000
"""Paths in each batch; those that need a stat get it together."""
_FROM_STORE = (Kind.DELETE_REMOTE, Kind.MOVE_REMOTE, Kind.FORGET)
"""Steps after which the store no longer has the path."""
_FROM_FOLDER = (Kind.DELETE_LOCAL, Kind.MOVE_LOCAL, Kind.FORGET)
"""Steps after which the folder no longer has the path."""
_MAY_BE_CARRIED_OUT = (
    "kind IN ({})"
    # A skipped `forget`, or one that only marks a path out of sync, has another stage.
    " AND (kind <> 'forget' OR stage = 1)"
    # A skipped move has no source (`Plan.not_moved`).
    " AND (kind NOT IN ('move-remote', 'move-local') OR source IS NOT NULL)"
).format(", ".join(f"'{kind}'" for kind in sorted({*_FROM_STORE, *_FROM_FOLDER})))
"""Steps in the plan of an interrupted run, after which a side may lack the path."""


class CutOff:
    """The table of steps of interrupted runs. Writes belong to the caller's transaction.

    A delete or move that is still in the plan when the next run begins may have been carried out.
    It counts as carried out if the side it removes the path from now lacks the path. Then the
    path's last synced state ends: what the other side has there was put back since, and is new. If
    neither side has the path, a delete counts for the guard. A step is remembered until its path is
    recorded, or until both sides show that it was not carried out.
    """

    def __init__(self, database: Database) -> None:
        self._db = database.connection
        self._gone: list[str] = []

    def save_stamp(self, stamp: str) -> None:
        """Save the trash stamp of this plan's deletes, before the first of them is carried out.

        Deletes that the user ordered have no stamp, because they do not count for the guard.
        """
        self._db.execute("INSERT OR REPLACE INTO meta VALUES ('trash_stamp', ?)", (stamp,))

    def begin(self) -> None:
        """Save the steps that the last run left in its plan, before the plan is cleared."""
        self._gone = []
        self._db.execute(
            "INSERT INTO cut_off"
            " SELECT coalesce(source, path), kind, coalesce(size, remote_size, 0),"
            " coalesce((SELECT value FROM meta WHERE key = 'trash_stamp'), '') FROM plan"
            f" WHERE {_MAY_BE_CARRIED_OUT}"
            # Keep the kind of an earlier step, which names its side: a `forget` may be due to a
            # late listing.
            " ON CONFLICT DO UPDATE SET kind = excluded.kind, size = excluded.size,"
            " stamp = excluded.stamp WHERE excluded.kind <> 'forget'"
        )
        self._db.execute("DELETE FROM meta WHERE key = 'trash_stamp'")

    def noting(
        self, triples: Iterable[_Met], is_unknown: Callable[[str], bool], stat: Stat
    ) -> Iterator[_Met]:
        """Yield the triples of a run, without the baseline row where one of these steps was carried out.

        `is_unknown` returns whether a path could not be read on one side.
        """
        return self._noting(triples, is_unknown, stat) if self._is_any() else iter(triples)

    def _is_any(self) -> bool:
        return self._db.execute("SELECT 1 FROM cut_off LIMIT 1").fetchone() is not None

    def _noting(
        self, triples: Iterable[_Met], is_unknown: Callable[[str], bool], stat: Stat
    ) -> Iterator[_Met]:
        put_back = []
        for triple in self._with_stats(iter(triples), stat):
            path, left, row, right = triple
            kind = self._kind(path)
            if kind is None or is_unknown(path):
                pass
            elif left is None and right is None:
                self._gone.append(path)
            elif row is not None and _was_carried_out(kind, triple):
                put_back.append(path)
                self._end(path)
                triple = triple._replace(baseline=None)
            else:
                # If only the store shows it, the listing may be late: the path may still be put back.
                self._end(path, still_open=row is not None and left is None)
            yield triple
        # Delete only now: until here the rows were being read.
        self._db.executemany("DELETE FROM baseline WHERE path = ?", ((one,) for one in put_back))

    def _with_stats(self, triples: Iterator[_Met], stat: Stat) -> Iterator[_Met]:
        """Yield the triples, with a new stat of each object that a step may have removed from the store.

        Only at paths that the folder still has: a late listing may still show a removed object, or
        may not show a new one yet.
        """
        while batch := list(islice(triples, _BATCH)):
            uncertain = {
                one.path
                for one in batch
                if None not in (one.local, one.baseline) and self._kind(one.path) in _FROM_STORE
            }
            found = stat(sorted(uncertain)) if uncertain else {}
            for one in batch:
                yield one._replace(remote=found.get(one.path)) if one.path in uncertain else one

    def _end(self, path: str, *, still_open: bool = False) -> None:
        """Forget the step at a path. If `still_open`, keep it, but it no longer counts for the guard."""
        change = "UPDATE cut_off SET stamp = ''" if still_open else "DELETE FROM cut_off"
        self._db.execute(f"{change} WHERE path = ?", (path,))

    def _kind(self, path: str) -> str | None:
        query = "SELECT kind FROM cut_off WHERE path = ?"
        found = self._db.execute(query, (path,)).fetchone()
        return None if found is None else str(found[0])

    def is_over(self, at: Joined[Any, Any, Any]) -> bool:
        """Return whether the next run will end the last synced state of a path that a side has. Changes nothing."""
        found = self._db.execute(
            "SELECT kind, 1 AS rank FROM cut_off WHERE path = ?"
            " UNION ALL SELECT kind, CASE kind WHEN 'forget' THEN 2 ELSE 0 END FROM plan"
            f" WHERE coalesce(source, path) = ? AND {_MAY_BE_CARRIED_OUT} ORDER BY rank LIMIT 1",
            (at.path, at.path),
        ).fetchone()
        is_anywhere = at.local is not None or at.remote is not None
        return found is not None and is_anywhere and _was_carried_out(found[0], at)

    def end_planned_as_new(self) -> None:
        """End the last synced state of paths that a plan file copies to the side that lost them."""
        for transfer, lacks, kinds in (
            (Kind.UPLOAD, "remote_size", _FROM_STORE),
            (Kind.DOWNLOAD, "size", _FROM_FOLDER),
        ):
            self._db.execute(
                "DELETE FROM baseline WHERE path IN (SELECT path FROM plan JOIN cut_off USING (path)"
                f" WHERE plan.kind = ? AND plan.{lacks} IS NULL"
                f" AND cut_off.kind IN ({', '.join('?' * len(kinds))}))",
                (transfer, *kinds),
            )

    def note_unmet(self, is_unknown: Callable[[str], bool]) -> None:
        """After a complete run, note the steps at all paths that it did not find, except unknown ones."""
        rest = self._db.execute("SELECT path FROM cut_off").fetchall()
        self._gone += (path for (path,) in rest if not is_unknown(path))

    def carried_out_deletes(self, now_ns: int) -> list[Deleted]:
        """Return, once, the carried-out deletes that the user did not order.

        Their time is unknown, so they are dated `now_ns` and count with the next deletes. A path in
        the last synced state is remembered until it is recorded as gone, because it may be put back
        before.
        """
        deleted = []
        for path in self._gone:
            query = "SELECT kind, size, stamp FROM cut_off WHERE path = ?"
            for kind, size, stamp in self._db.execute(query, (path,)).fetchall():
                if kind in DELETES and stamp:
                    deleted.append(Deleted(Kind(kind), path, size, now_ns, stamp))
            is_left = "SELECT 1 FROM baseline WHERE path = ?"
            self._end(path, still_open=bool(self._db.execute(is_left, (path,)).fetchone()))
        self._gone = []
        return deleted

    def agreed(self, paths: Iterable[str]) -> None:
        """Forget the steps at paths that were recorded as in sync, or as gone from both sides."""
        if self._is_any():
            self._db.executemany("DELETE FROM cut_off WHERE path = ?", ((path,) for path in paths))


def _was_carried_out(kind: str, at: Joined[Any, Any, Any]) -> bool:
    return (kind in _FROM_STORE and at.remote is None) or (
        kind in _FROM_FOLDER and at.local is None
    )
