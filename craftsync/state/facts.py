"""What passes have found out about a store, for callers that have no pair of their own."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from craftsync.state.database import UNREADABLE

FACTS_LAST_NS = 7 * 86_400 * 1_000_000_000
"""How long what was found out about a store is relied on, for servers are upgraded: a week."""


class KnownFacts(NamedTuple):
    """Facts as `Store.prepare` gave them, and the mark of the store they are about."""

    store_id: str
    text: str


def known_facts(state_dir: Path, location: str, *, now_ns: int) -> Iterator[KnownFacts]:
    """Yield the facts, not yet too old, that the pairs with a store at this location have.

    A location may stand for another store than it did then: they are about the
    one that has the mark.
    """
    for file in sorted((state_dir / "pairs").glob("*/state.db")):
        uri = f"{file.resolve().as_uri()}?mode=ro"
        with (
            contextlib.suppress(*UNREADABLE),
            contextlib.closing(sqlite3.connect(uri, uri=True)) as database,
        ):
            meta = dict(database.execute("SELECT key, value FROM meta"))
            known = meta.get("store") == location and {"facts", "store_id"} <= meta.keys()
            if known and abs(now_ns - int(meta.get("facts_at_ns") or 0)) <= FACTS_LAST_NS:
                yield KnownFacts(meta["store_id"], meta["facts"])
