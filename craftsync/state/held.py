"""The held table: what waits for a person's approval, and what it would delete or replace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from craftsync.core.guard import DeleteLimit
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
