"""The replaced table: what each run replaced or deleted, and what it left there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from craftsync.state.database import Database


class Left(NamedTuple):
    """What both sides held after the run. `digest` is the SHA-256, `version` the store's token."""

    size: int
    digest: bytes | None
    version: str | None


class Replaced(NamedTuple):
    """A version that one side ("root" or "store") held before the run. `size` is bytes.

    The trash keeps it under `stamp`; without one it does not. `version` is the
    store's token, where the store held it. `left` is `None` where the run left nothing.
    """

    path: str
    side: str
    stamp: str | None
    size: int
    version: str | None
    left: Left | None


class Replacements:
    """Changes rows inside the caller's transaction; reads them as they come."""

    def __init__(self, database: Database) -> None:
        self._db = database.connection

    def add(self, run: int, replaced: Iterable[Replaced]) -> None:
        """Note what a run replaced; of a path that it replaced twice the first version, and what was left in the end."""
        self._db.executemany(
            "INSERT INTO replaced VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " left_size = excluded.left_size, left_digest = excluded.left_digest,"
            " left_version = excluded.left_version",
            ((run, *one[:5], *(one.left or (None, None, None))) for one in replaced),
        )

    def of(self, run: int) -> Iterator[Replaced]:
        """Yield what a run replaced or deleted, in order of path."""
        rows = self._db.execute(
            "SELECT path, side, stamp, size, version, left_size, left_digest, left_version"
            " FROM replaced WHERE run = ? ORDER BY path",
            (run,),
        )
        for row in rows:
            left = None if row[5] is None else Left(*row[5:])
            yield Replaced(row[0], row[1], row[2], row[3], row[4], left)

    def drop_before(self, run: int) -> None:
        """Drop what runs before this one replaced."""
        self._db.execute("DELETE FROM replaced WHERE run < ?", (run,))
