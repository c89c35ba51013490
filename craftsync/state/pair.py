"""All that is remembered about one pair of root and store, behind one door."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from craftsync.state.baseline import Baseline
from craftsync.state.database import UNREADABLE, Database
from craftsync.state.events import Events
from craftsync.state.held import Held
from craftsync.state.history import History
from craftsync.state.plan import Plan
from craftsync.state.transfers import Transfers

_FILE = "state.db"


class PairState:
    """The tables of one pair's database. Belongs to the control thread."""

    def __init__(self, database: Database, new_id: Callable[[], str]) -> None:
        self.database = database
        self.baseline = Baseline(database)
        self.plan = Plan(database, new_id)
        self.held = Held(database)
        self.events = Events(database)
        self.history = History(database)
        self.transfers = Transfers(database)

    @classmethod
    def open(
        cls,
        state_dir: Path,
        root: str,
        location: str,
        *,
        new_id: Callable[[], str],
        scratch: bool = False,
    ) -> PairState:
        """Open the database of the pair, or with `scratch` a copy of it that is gone when closed."""
        path = pair_folder(state_dir, root, location) / _FILE
        database = Database.scratch(path) if scratch else Database.open(path)
        if not scratch:
            database.put("root", root)
            database.put("store", location)
        return cls(database, new_id)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        with self.database.transaction():
            yield

    def close(self) -> None:
        self.database.close()


def pair_folder(state_dir: Path, root: str, location: str) -> Path:
    """Return the folder that holds a pair's database; its name is made from both addresses."""
    name = hashlib.sha256(f"{root}\0{location}".encode()).hexdigest()[:24]
    return state_dir / "pairs" / name


def known_conflicts(state_dir: Path, root: str, location: str) -> int:
    """Count the conflict copies of a pair as a look from outside, while another process works with it."""
    uri = f"{(pair_folder(state_dir, root, location) / _FILE).resolve().as_uri()}?mode=ro"
    with (
        contextlib.suppress(*UNREADABLE),
        contextlib.closing(sqlite3.connect(uri, uri=True)) as connection,
    ):
        return Baseline(Database(connection)).conflict_copies()
    return 0


def known_pairs(state_dir: Path) -> list[tuple[str, str]]:
    """Return (root, store location) of every pair a database is kept for."""
    found = []
    for file in sorted((state_dir / "pairs").glob(f"*/{_FILE}")):
        uri = f"{file.resolve().as_uri()}?mode=ro"
        with (
            contextlib.suppress(*UNREADABLE),
            contextlib.closing(sqlite3.connect(uri, uri=True)) as db,
        ):
            facts = dict(db.execute("SELECT key, value FROM meta WHERE key IN ('root', 'store')"))
            if len(facts) == 2:
                found.append((facts["root"], facts["store"]))
    return found
