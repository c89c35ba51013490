"""Sorts unsorted listings in the database, and turns paths into ranges of keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from craftsync.core.model import RemoteObject
from craftsync.core.paths import folders_above, malformed
from craftsync.state.database import Database


def in_order(
    database: Database, objects: Iterable[RemoteObject], *, name: str = "listing"
) -> Iterator[RemoteObject]:
    """Read the whole listing, then yield it in the byte order of the UTF-8 path.

    `name` is the temporary table; listings in use at the same time need different ones.
    """
    db = database.connection
    db.execute(f"DROP TABLE IF EXISTS temp.{name}")
    db.execute(
        f"CREATE TEMP TABLE {name} (path TEXT PRIMARY KEY, size, modified_ns, version) WITHOUT ROWID"
    )
    db.executemany(f"INSERT OR REPLACE INTO {name} VALUES (?,?,?,?)", (o[:4] for o in objects))
    rows = db.execute(f"SELECT path, size, modified_ns, version FROM {name} ORDER BY path")
    return (RemoteObject(*row) for row in rows)


def relatives(path: str) -> tuple[list[str], tuple[str, str]]:
    """Return the folders above a path, and the range of the paths below it."""
    return list(folders_above(path)), (f"{path}/", f"{path}0")


def ranges(paths: Iterable[str]) -> list[tuple[str, str]]:
    """Return these paths and everything below them as sorted, disjoint half-open ranges [low, high)."""
    found: list[tuple[str, str]] = []
    wanted = {path for path in paths if not malformed(path)}  # Nothing else is a key.
    both = ({(path, path + "\0") for path in wanted}) | {
        (f"{path}/", f"{path}0") for path in wanted
    }
    for low, high in sorted(both):
        if not found or low >= found[-1][1]:
            found.append((low, high))
    return found
