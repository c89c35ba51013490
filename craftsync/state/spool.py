"""Brings a listing into order through a temporary table, for stores that promise none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from craftsync.core.model import RemoteObject
from craftsync.state.database import Database


def in_order(
    database: Database, objects: Iterable[RemoteObject], *, name: str = "listing"
) -> Iterator[RemoteObject]:
    """Read the whole listing, then yield it in the byte order of the UTF-8 path.

    Two listings that are read side by side need different names.
    """
    db = database.connection
    db.execute(f"DROP TABLE IF EXISTS temp.{name}")
    db.execute(
        f"CREATE TEMP TABLE {name} (path TEXT PRIMARY KEY, size, modified_ns, version) WITHOUT ROWID"
    )
    db.executemany(f"INSERT OR REPLACE INTO {name} VALUES (?,?,?,?)", (o[:4] for o in objects))
    rows = db.execute(f"SELECT path, size, modified_ns, version FROM {name} ORDER BY path")
    return (RemoteObject(*row) for row in rows)
