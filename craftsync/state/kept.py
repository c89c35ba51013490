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
