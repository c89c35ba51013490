"""Brings a listing into order through a temporary table, for stores that promise none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from craftsync.core.model import RemoteObject
from craftsync.state.database import Database


def in_order(database: Database, objects: Iterable[RemoteObject]) -> Iterator[RemoteObject]:
    """Read the whole listing, then yield it in the byte order of the UTF-8 path."""
    db = database.connection
    db.execute("DROP TABLE IF EXISTS temp.listing")
    db.execute(
        "CREATE TEMP TABLE listing (path TEXT PRIMARY KEY, size, modified_ns, version) WITHOUT ROWID"
    )
    db.executemany("INSERT OR REPLACE INTO listing VALUES (?,?,?,?)", (o[:4] for o in objects))
    rows = db.execute("SELECT path, size, modified_ns, version FROM listing ORDER BY path")
    return (RemoteObject(*row) for row in rows)
