"""The kept table: what this client displaced or deleted, as long as the trash keeps it.

The trash of a store holds versions of every client. Retention goes by this
record alone, so that it never removes another client's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from craftsync.state.database import Database


class KeptVersion(NamedTuple):
    """One version in the trash of a side ("root" or "store"). `size` is bytes."""

    side: str
    stamp: str
    path: str
    size: int


class Total(NamedTuple):
    """How many versions this client has in both trashes, and their bytes."""

    files: int
    bytes: int


class Kept:
    """Changes rows inside the caller's transaction; reads them as they come."""

    def __init__(self, database: Database) -> None:
        self._db = database.connection

    def add(self, versions: Iterable[KeptVersion], at_ns: int) -> None:
        """Note what was displaced at `at_ns` (UTC)."""
        self._db.executemany(
            "INSERT INTO kept VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            ((*version, at_ns) for version in versions),
        )

    def total(self) -> Total:
        return Total(*self._db.execute("SELECT files, bytes FROM kept_total").fetchone())

    def newest_ns(self) -> int | None:
        """Return when the newest version was displaced."""
        found = self._db.execute("SELECT max(at_ns) FROM kept").fetchone()[0]
        return None if found is None else int(found)

    def is_older(self, at_ns: int) -> bool:
        """Tell whether any version was displaced before then."""
        query = "SELECT 1 FROM kept WHERE at_ns < ? LIMIT 1"
        return self._db.execute(query, (at_ns,)).fetchone() is not None

    def spare(self, conflicts: Iterable[str], event_since_ns: int) -> None:
        """Choose the paths of which no version is to go now, for `oldest` and `is_spared`.

        These are the `conflicts`, the paths that wait for a person with all
        that was deleted in the same event or in one since `event_since_ns`,
        rejected deletes that could not be undone yet, and those that an
        unfinished run has not come to the end of, or was cut off at.
        """
        self._db.execute(
            "CREATE TEMP TABLE IF NOT EXISTS spared (path TEXT NOT NULL PRIMARY KEY) WITHOUT ROWID"
        )
        self._db.execute("DELETE FROM spared")
        self._db.execute(
            "INSERT OR IGNORE INTO spared SELECT path FROM plan UNION ALL SELECT path FROM intent"
            " UNION ALL SELECT source FROM plan WHERE source IS NOT NULL"
            " UNION ALL SELECT path FROM cut_off"
            " UNION ALL SELECT path FROM held UNION ALL SELECT path FROM event_delete"
            " WHERE rejected OR kind IN (SELECT kind FROM held)"
            " OR kind IN (SELECT kind FROM event WHERE last_ns >= ?)",
            (event_since_ns,),
        )
        self.spare_also(conflicts)

    def spare_also(self, paths: Iterable[str]) -> None:
        self._db.executemany("INSERT OR IGNORE INTO spared VALUES (?)", ((one,) for one in paths))

    def is_spared(self, path: str) -> bool:
        found = self._db.execute("SELECT 1 FROM spared WHERE path = ?", (path,)).fetchone()
        return found is not None

    def oldest(self, limit: int, but: str = "") -> list[tuple[KeptVersion, int]]:
        """Return the oldest that are not spared, nor on the side `but`, each with when it was displaced (UTC)."""
        rows = self._db.execute(
            "SELECT side, stamp, path, size, at_ns FROM kept"
            " WHERE side <> ? AND path NOT IN (SELECT path FROM spared) ORDER BY at_ns LIMIT ?",
            (but, limit),
        )
        return [(KeptVersion(*row[:4]), row[4]) for row in rows.fetchall()]

    def postpone(self, until_ns: int, by_ns: int) -> None:
        """Take what was displaced up to then (UTC) for displaced so much later."""
        self._db.execute("UPDATE kept SET at_ns = at_ns + ? WHERE at_ns <= ?", (by_ns, until_ns))

    def forget(self, versions: Iterable[KeptVersion]) -> None:
        """Drop versions that the trash does not hold any more."""
        self._db.executemany(
            "DELETE FROM kept WHERE side = ? AND stamp = ? AND path = ?",
            (version[:3] for version in versions),
        )

    def forget_before(self, stamp: str) -> None:
        """Drop all that was kept under stamps that sort before `stamp`, but for what is spared."""
        self._db.execute(
            "DELETE FROM kept WHERE stamp < ? AND path NOT IN (SELECT path FROM spared)", (stamp,)
        )
