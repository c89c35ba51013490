"""Deletes that wait for approval, and the events they belong to.

Deletes that follow each other closely are one event. A folder that is removed
slowly reaches craftsync in many small, harmless-looking runs; the guard judges
them together, and rejecting the event restores all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

from craftsync.core.guard import DeleteLimit
from craftsync.core.merge import Joined
from craftsync.core.model import Action, Kind, LocalFile, Mode, RemoteObject
from craftsync.state.database import Database
from craftsync.state.spool import ranges

_LOOKS = "size, mtime_ns, ctime_ns, inode, remote_size, modified_ns, version"


class HeldDelete(NamedTuple):
    """One delete that waits. `since_ns` is UTC.

    What survives, and would go, is `local` or `remote`, as the look that held
    it found it. An upload waits as well where the object it would replace is
    `archived`, so that no copy of it can be kept; then both are there.
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
        """Bytes that would go."""
        survivor = self.remote if self.archived else self.local or self.remote
        return survivor.size if survivor else 0


class Held:
    """Changes rows inside the caller's transaction; reads them as they come."""

    def __init__(self, database: Database) -> None:
        self._db = database.connection

    def count(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM held").fetchone()[0])

    def rows(self, paths: Iterable[str] | None = None) -> Iterator[HeldDelete]:
        """Yield all of them, or those at `paths` and in the folders of that name."""
        query = f"SELECT path, kind, mode, reason, since_ns, archived, {_LOOKS} FROM held"
        if paths is None:
            yield from map(_held, self._db.execute(f"{query} ORDER BY kind, path"))
            return
        for bounds in ranges(paths):
            where = "WHERE path >= ? AND path < ? ORDER BY path"
            yield from map(_held, self._db.execute(f"{query} {where}", bounds))

    def kind(self, path: str) -> Kind | None:
        """Return which delete of a path is held."""
        found = self._db.execute("SELECT kind FROM held WHERE path = ?", (path,)).fetchone()
        return None if found is None else Kind(found[0])

    def paths(self, kind: Kind, within: Iterable[str] | None = None) -> Iterator[tuple[str]]:
        """Yield in order the paths of which this delete is held: all, or those at `within` and below them."""
        query = "SELECT path FROM held WHERE kind = ?"
        if within is None:
            yield from self._db.execute(f"{query} ORDER BY path", (kind,))
            return
        where = "AND path >= ? AND path < ? ORDER BY path"
        for bounds in ranges(within):
            yield from self._db.execute(f"{query} {where}", (kind, *bounds))

    def has_other(self, mode: Mode) -> bool:
        """Return whether deletes are held that a run of another mode asked for."""
        found = self._db.execute("SELECT 1 FROM held WHERE mode <> ? LIMIT 1", (mode,)).fetchone()
        return found is not None

    def add(self, kind: Kind, reason: str, mode: Mode, limit: DeleteLimit, now_ns: int) -> None:
        """Take in all steps of a kind that the plan has; one that was held before keeps its `since_ns`."""
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
        """Take in steps that would delete or replace archived objects; one that was held before keeps its `since_ns`."""
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
        """Return whether a path waits because its object is archived."""
        found = self._db.execute("SELECT archived FROM held WHERE path = ?", (path,)).fetchone()
        return found is not None and bool(found[0])

    def keep_planned(self, mode: Mode, is_unknown: Callable[[str], bool]) -> None:
        """Drop what a run of this mode held and a complete run of it no longer asks for.

        A run of another mode asks for other deletes, and says nothing of these. Nor
        does one for which a side could not say what it holds at the path.
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

    def standing(self, kind: Kind, limit: DeleteLimit) -> str | None:
        """Return why deletes of a kind are held already, under this limit; `None` when none are.

        They stay held when some of them were let go or came back: else the
        rest would slip under the limit. A different limit is a person's word,
        and begins anew.
        """
        found = self._db.execute(
            "SELECT reason FROM held WHERE NOT archived"
            " AND kind = ? AND limit_files = ? AND limit_share = ? LIMIT 1",
            (kind, limit.files, limit.share),
        ).fetchone()
        return None if found is None else str(found[0])

    def release(self, paths: Iterable[str]) -> None:
        """Drop the rows of paths about which something new was agreed on."""
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


_Met = TypeVar("_Met", bound=Joined[Any, Any, Any])


class CutOff:
    """Changes rows inside the caller's transaction.

    What a plan still holds when the next one begins may have been carried out.
    It was, if by then neither side holds anything at the path.
    """

    def __init__(self, database: Database) -> None:
        self._db = database.connection
        self._gone: list[str] = []

    def delete_under(self, stamp: str) -> None:
        """Remember what the trash will keep the deletes of this plan under, before the first: no person asked for them."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES ('trash_stamp', ?)", (stamp,))

    def begin(self) -> None:
        """Remember the deletes that the last run left in its plan, which is about to be emptied."""
        self._gone = []
        self._db.execute(
            "INSERT OR REPLACE INTO cut_off SELECT path, kind, coalesce(size, remote_size, 0), value"
            " FROM plan, meta WHERE kind IN (?, ?) AND key = 'trash_stamp'",
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
