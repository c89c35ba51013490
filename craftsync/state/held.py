"""The tables of held deletes (`Held`), and of the delete events they belong to (`Events`).

Deletes in close succession are one event: a folder that is removed slowly reaches craftsync in many
small runs that look harmless. The guard counts the deletes of an event together, and rejecting the
event restores all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from craftsync.core.guard import DeleteLimit
from craftsync.core.model import Action, Kind, LocalFile, Mode, RemoteObject
from craftsync.core.paths import ranges
from craftsync.state.database import Database

_LOOKS = "size, mtime_ns, ctime_ns, inode, remote_size, modified_ns, version"


class HeldDelete(NamedTuple):
    """A held delete. `since_ns` is in nanoseconds since the epoch (UTC).

    `local` or `remote` is the file or object that would be deleted, as it was when the delete was
    held. An upload over an `archived` object of which no copy can be kept is held too; it has both.
    """

    path: str
    kind: Kind
    mode: Mode
    reason: str
    since_ns: int
    local: LocalFile | None
    remote: RemoteObject | None
    archived: bool = False

    @property
    def size(self) -> int:
        """Bytes that would be deleted."""
        survivor = self.remote if self.archived else self.local or self.remote
        return survivor.size if survivor else 0


class Held:
    """The table of held deletes. Writes belong to the caller's transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database.connection

    def count(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM held").fetchone()[0])

    def rows(self, paths: Iterable[str] | None = None) -> Iterator[HeldDelete]:
        """Yield all held deletes, or those at `paths` and below them."""
        query = f"SELECT path, kind, mode, reason, since_ns, archived, {_LOOKS} FROM held"
        if paths is None:
            yield from map(_held, self._db.execute(f"{query} ORDER BY kind, path"))
            return
        for bounds in ranges(paths):
            where = "WHERE path >= ? AND path < ? ORDER BY path"
            yield from map(_held, self._db.execute(f"{query} {where}", bounds))

    def kind(self, path: str) -> Kind | None:
        """Return the kind of a path's held step, or `None`: a delete, or an upload over an archived object."""
        found = self._db.execute("SELECT kind FROM held WHERE path = ?", (path,)).fetchone()
        return None if found is None else Kind(found[0])

    def paths(self, kind: Kind, within: Iterable[str] | None = None) -> Iterator[tuple[str]]:
        """Yield, sorted, the paths with a held delete of this kind: all, or those at `within` and below."""
        query = "SELECT path FROM held WHERE kind = ?"
        if within is None:
            yield from self._db.execute(f"{query} ORDER BY path", (kind,))
            return
        where = "AND path >= ? AND path < ? ORDER BY path"
        for bounds in ranges(within):
            yield from self._db.execute(f"{query} {where}", (kind, *bounds))

    def has_other(self, mode: Mode) -> bool:
        """Return whether deletes of another mode's runs are held."""
        found = self._db.execute("SELECT 1 FROM held WHERE mode <> ? LIMIT 1", (mode,)).fetchone()
        return found is not None

    def add(self, kind: Kind, reason: str, mode: Mode, limit: DeleteLimit, now_ns: int) -> None:
        """Hold all steps of a kind in the plan. One that is already held keeps its `since_ns`."""
        self._db.execute(
            f"INSERT INTO held (path, kind, mode, reason, since_ns, limit_files, limit_share, {_LOOKS})"
            f" SELECT path, kind, ?, ?, ?, ?, ?, {_LOOKS} FROM plan WHERE kind = ?"
            f" ON CONFLICT DO UPDATE SET kind = excluded.kind, mode = excluded.mode,"
            f" reason = excluded.reason, limit_files = excluded.limit_files,"
            f" limit_share = excluded.limit_share, size = excluded.size,"
            f" mtime_ns = excluded.mtime_ns, ctime_ns = excluded.ctime_ns, inode = excluded.inode,"
            f" remote_size = excluded.remote_size, modified_ns = excluded.modified_ns,"
            f" version = excluded.version, archived = 0",
            (mode, reason, now_ns, limit.files, limit.share, kind),
        )

    def add_archived(self, actions: Iterable[Action], reason: str, mode: Mode, now_ns: int) -> None:
        """Hold steps that would delete or replace archived objects. One already held keeps its `since_ns`."""
        columns = (
            f"path, kind, mode, reason, since_ns, limit_files, limit_share, archived, {_LOOKS}"
        )
        changed = [name for name in columns.split(", ") if name not in ("path", "since_ns")]
        self._db.executemany(
            f"INSERT INTO held ({columns}) VALUES (?, ?, ?, ?, ?, 0, 0, 1, ?, ?, ?, ?, ?, ?, ?)"
            f" ON CONFLICT DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in changed)}",
            (
                (one.path, one.kind, mode, reason, now_ns, *_looks_of(one.local, one.remote))
                for one in actions
            ),
        )

    def is_archived(self, path: str) -> bool:
        """Return whether a path is held because its object is archived."""
        found = self._db.execute("SELECT archived FROM held WHERE path = ?", (path,)).fetchone()
        return found is not None and bool(found[0])

    def keep_planned(self, mode: Mode, is_unknown: Callable[[str], bool]) -> None:
        """Release deletes of this mode that a complete run of it no longer plans.

        Deletes of other modes stay, as do paths that could not be read (`is_unknown`).
        """
        last = ""
        while page := self._db.execute(
            "SELECT path FROM held WHERE path > ? AND mode = ? AND NOT EXISTS"
            " (SELECT 1 FROM plan WHERE plan.path = held.path AND plan.kind = held.kind)"
            " ORDER BY path LIMIT 1000",
            (last, mode),
        ).fetchall():
            last = page[-1][0]
            self.release(path for (path,) in page if not is_unknown(path))

    def begin_run(self) -> None:
        """Forget which held paths the last run found."""
        self._db.execute("CREATE TEMP TABLE IF NOT EXISTS held_met (path TEXT PRIMARY KEY)")
        self._db.execute("DELETE FROM held_met")

    def met(self, path: str) -> None:
        """Note that a run found a held path on a side or in the baseline."""
        self._db.execute("INSERT OR IGNORE INTO held_met VALUES (?)", (path,))

    def release_unmet(self, mode: Mode, is_unknown: Callable[[str], bool]) -> None:
        """Release deletes of other modes at paths that a complete run did not find: nothing is left to delete.

        Paths that could not be read, or took no part (`is_unknown`), stay held.
        """
        rows = self._db.execute(
            "SELECT path FROM held WHERE mode <> ? AND path NOT IN (SELECT path FROM held_met)",
            (mode,),
        ).fetchall()
        self.release(path for (path,) in rows if not is_unknown(path))

    def standing(self, kind: Kind, limit: DeleteLimit) -> str | None:
        """Return why deletes of a kind are already held under this limit, or `None` if none are.

        The rest stays held after some were approved or restored, even if it is within the limit.
        Changing the limit starts over.
        """
        found = self._db.execute(
            "SELECT reason FROM held WHERE NOT archived"
            " AND kind = ? AND limit_files = ? AND limit_share = ? LIMIT 1",
            (kind, limit.files, limit.share),
        ).fetchone()
        return None if found is None else str(found[0])

    def release(self, paths: Iterable[str]) -> None:
        """Release paths whose state has been recorded."""
        if self._db.execute("SELECT 1 FROM held LIMIT 1").fetchone():
            self._db.executemany("DELETE FROM held WHERE path = ?", ((path,) for path in paths))


def _looks_of(local: LocalFile | None, remote: RemoteObject | None) -> tuple[object, ...]:
    return (*(local[1:5] if local else [None] * 4), *(remote[1:4] if remote else [None] * 3))


def _held(row: tuple[str, str, str, str, int, int, *tuple[int | None, ...]]) -> HeldDelete:
    path, kind, mode, reason, since_ns, archived, *looks = row
    local = None if looks[0] is None else LocalFile._make((path, *looks[:4]))
    remote = None if looks[4] is None else RemoteObject._make((path, *looks[4:], *[None] * 4))
    return HeldDelete(path, Kind(kind), Mode(mode), reason, since_ns, local, remote, bool(archived))


EVENT_SECONDS = 120
"""Deletes less than this apart are one event, such as those of a job that runs every minute."""


class Deleted(NamedTuple):
    """A carried-out delete of an event. `at_ns` is in ns since the epoch (UTC), `size` in bytes.

    `stamp` is its folder in the trash of the side it was deleted on. `rejected`: the user rejected
    it, but it could not be restored.
    """

    kind: Kind
    path: str
    size: int
    at_ns: int
    stamp: str
    rejected: bool = False


class Events:
    """The tables of delete events. Writes belong to the caller's transaction.

    Each direction has at most one event. It lasts while deletes follow each other closely, or any
    of its direction is held. Changing the limit starts over.
    """

    def __init__(self, database: Database) -> None:
        self._db = database.connection

    def spent(self, kind: Kind, limit: DeleteLimit, now_ns: int) -> int:
        """Return how many earlier deletes count towards the limit. Drops an event that is over."""
        found = self._db.execute(
            "SELECT deletes, last_ns, limit_files, limit_share FROM event WHERE kind = ?", (kind,)
        ).fetchone()
        if found is None:
            return 0
        deletes, last_ns, *judged_under = found
        # A clock that was set back must not keep an event open.
        is_over = abs(now_ns - last_ns) >= EVENT_SECONDS * 10**9 and not self._is_held(kind)
        if is_over:
            self.end(kind)
            return 0
        return int(deletes) if judged_under == [limit.files, limit.share] else 0

    def add(self, deleted: Iterable[Deleted], limit: DeleteLimit) -> None:
        """Add deletes that a run carried out without an approval."""
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
        """Reduce the count by the number of new paths, unless deletes are held.

        Otherwise a folder whose files come and go all day would look like one being removed.
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
        """Yield the deletes of events with held deletes, and rejected ones that could not be restored.

        All of them, or those at `paths` and below.
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
        """Forget deletes that were approved or restored."""
        self._db.executemany("DELETE FROM event_delete WHERE path = ?", ((path,) for path in paths))

    def keep_rejected(self, paths: Iterable[str]) -> None:
        """Keep the deletes that could not be restored, even after their event ends."""
        self._db.executemany(
            "UPDATE event_delete SET rejected = 1 WHERE path = ?", ((path,) for path in paths)
        )

    def held(self) -> list[Kind]:
        """Return the directions with held deletes."""
        rows = self._db.execute("SELECT DISTINCT kind FROM held WHERE NOT archived")
        return [Kind(kind) for (kind,) in rows]

    def end_settled(self, kinds: Iterable[Kind]) -> None:
        """End the events of the directions that have no held deletes left."""
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
