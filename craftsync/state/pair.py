"""What is remembered of a folder and its store: the last synced state and what was found out about the store."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from craftsync.core.conflicts import CONFLICT_GLOB, conflict_original
from craftsync.core.model import BaselineRow
from craftsync.errors import StateError
from craftsync.state.database import UNREADABLE, Database, open_to_read, state_place
from craftsync.state.held import CutOff, Events, Held
from craftsync.state.history import History, Kept, KeptVersion, Outside, Total
from craftsync.state.plan import Plan, Replacements
from craftsync.state.spool import ranges, relatives
from craftsync.state.transfers import Arrivals, Intents, Transfers

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


_AT_ONCE = 500
"""Values in one query; SQLite allows 32,766."""


class Baseline:
    """Reads rows in the order of a listing and changes them inside the caller's transaction.

    `identity` is the column of `LocalFile.inode`: "inode", or "left_version" where the left side is a store.
    """

    def __init__(self, database: Database, identity: str = "inode") -> None:
        self._db = database.connection
        self._columns = f"path, size, mtime_ns, ctime_ns, {identity}, racy, digest, modified_ns, version, uploaded"
        self._put = (
            f"INSERT OR REPLACE INTO baseline ({self._columns}, verified) VALUES (?{',?' * 10})"
        )
        if identity == "inode":
            self._columns += ", ''"
        else:
            self._columns += ", verified"
            self._put = self._put.replace("(path", "(inode, path").replace("(?", "(0,?")

    def count(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM baseline").fetchone()[0])

    def bytes(self) -> int:
        """Sum up the sizes of all files."""
        return int(self._db.execute("SELECT coalesce(sum(size), 0) FROM baseline").fetchone()[0])

    def conflict_copies(self) -> int:
        """Count the paths that are named as conflict copies are."""
        return sum(1 for _ in self.conflict_paths())

    def conflict_paths(self) -> Iterator[str]:
        """Yield the paths that are named as conflict copies are."""
        query = "SELECT path FROM baseline WHERE path GLOB ?"
        found = self._db.execute(query, (CONFLICT_GLOB,))
        return (path for (path,) in found if conflict_original(path) is not None)

    def rows(self, behind: str = "") -> Iterator[BaselineRow]:
        """Yield every row, or those behind a path, in the byte order of the UTF-8 path."""
        query = f"SELECT {self._columns} FROM baseline WHERE path > ? ORDER BY path"
        return map(BaselineRow._make, self._db.execute(query, (behind,)))

    def rows_but_planned(self) -> Iterator[BaselineRow]:
        """Yield the rows, in order, of the paths that the plan does not name."""
        query = (
            f"SELECT {self._columns} FROM baseline WHERE path NOT IN (SELECT path FROM plan)"
            " ORDER BY path"
        )
        return map(BaselineRow._make, self._db.execute(query))

    def get(self, path: str) -> BaselineRow | None:
        row = self._db.execute(
            f"SELECT {self._columns} FROM baseline WHERE path = ?", (path,)
        ).fetchone()
        return None if row is None else BaselineRow._make(row)

    def obstructs(self, path: str) -> bool:
        """Return whether a row stands where a folder has to be for this path, or below it."""
        above, below = relatives(path)
        found = self._db.execute(
            f"SELECT 1 FROM baseline WHERE path IN ({','.join('?' * len(above))})"
            " UNION ALL SELECT 1 FROM baseline WHERE path > ? AND path < ? LIMIT 1",
            (*above, *below),
        )
        return found.fetchone() is not None

    def below(self, paths: Iterable[str]) -> Iterator[BaselineRow]:
        """Yield the rows at these paths and in the folders of that name, in order."""
        query = f"SELECT {self._columns} FROM baseline WHERE path >= ? AND path < ? ORDER BY path"
        for bounds in ranges(paths):
            yield from map(BaselineRow._make, self._db.execute(query, bounds))

    def with_inodes(self, inodes: Iterable[int | str]) -> Iterator[str]:
        """Yield the paths whose file had one of these inode numbers; reads every row."""
        numbers = list(inodes)
        for start in range(0, len(numbers), _AT_ONCE):
            some = numbers[start : start + _AT_ONCE]
            places = ",".join("?" * len(some))
            query = f"SELECT path FROM baseline WHERE inode IN ({places})"
            yield from (path for (path,) in self._db.execute(query, some))

    def boundaries(self, share: int) -> list[str]:
        """Return every `share`-th path: where to cut a listing into parts of like size."""
        found: list[str] = []
        query = "SELECT path FROM baseline WHERE path > ? ORDER BY path LIMIT 1 OFFSET ?"
        last = ""
        while row := self._db.execute(query, (last, share - 1)).fetchone():
            last = row[0]
            found.append(last)
        return found

    def put(self, rows: Iterable[BaselineRow]) -> None:
        self._db.executemany(self._put, rows)

    def set_aside(self, paths: Iterable[str]) -> None:
        """Take these rows out until `bring_back`, or for good if the process ends before."""
        self._db.execute("CREATE TEMP TABLE aside AS SELECT * FROM baseline WHERE 0")
        self._db.executemany(
            "INSERT INTO aside SELECT * FROM baseline WHERE path = ?", ((path,) for path in paths)
        )
        self._db.execute("DELETE FROM baseline WHERE path IN (SELECT path FROM aside)")

    def bring_back(self) -> None:
        """Put back the rows that were set aside, but for paths about which something new was agreed on."""
        self._db.execute("INSERT OR IGNORE INTO baseline SELECT * FROM aside")
        self._db.execute("DROP TABLE aside")

    def forget(self, paths: Iterable[str]) -> None:
        self._db.executemany("DELETE FROM baseline WHERE path = ?", ((path,) for path in paths))


_FILE = "state.db"


class State:
    """The tables of every run, whatever it runs between. Belongs to the control thread."""

    keeps_held = True
    """Whether held deletes wait for a person."""

    def __init__(
        self, database: Database, new_id: Callable[[], str], *, identity: str = "inode"
    ) -> None:
        """`identity` as in `Baseline`."""
        self.database = database
        self.baseline = Baseline(database, identity)
        self._beside = database.beside()
        self.intents = Intents(database, self._beside)
        self.arrivals = Arrivals(database, self._beside)
        self.cut_off = CutOff(database)
        self.plan = Plan(database, new_id, self.intents, self.cut_off, identity)
        self.held = Held(database)
        self.events = Events(database)
        self.history = History(database)
        self.kept = Kept(database)
        self.replaced = Replacements(database)
        self.transfers = Transfers(database)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        with self.database.transaction():
            yield

    def note_kept(self, versions: Sequence[KeptVersion], at_ns: int) -> None:
        """Note what a run displaced, in the transaction that records it."""
        self.kept.add(versions, at_ns)

    def leave_out(self, path: str) -> None:
        """Note, where that is of interest, that a path of the baseline is not known to be in sync any more."""

    def close(self) -> None:
        self._beside.close()
        self.database.close()


class PairState(State):
    """The tables of one linked folder."""

    def __init__(
        self, database: Database, new_id: Callable[[], str], outside: Sequence[Outside] = ()
    ) -> None:
        """`outside` is what was noted of its folder and of its store outside a run."""
        super().__init__(database, new_id)
        self._outside = outside

    @classmethod
    def open(
        cls,
        state_dir: Path,
        root: str,
        location: str,
        *,
        new_id: Callable[[], str],
        scratch: bool = False,
        reading: bool = False,
    ) -> PairState:
        """Open the database of the pair, or with `scratch` a copy of it that is gone when closed.

        With `reading` it is read where it is, and cannot be changed. What an
        earlier version kept under another name of the same store is found, and
        without either moved to where it belongs. Raises `StateError`.
        """
        with state_place(f"the state in {state_dir} cannot be used"):
            outside = [Outside(state_dir, place) for place in (root, location)]
            if scratch or reading:
                file = known_folder(state_dir, root, location) / _FILE
                database = Database.reading(file) if reading else Database.scratch(file)
                return cls(database, new_id, outside)
            _adopt(state_dir, root, location)
            database = Database.open(pair_folder(state_dir, root, location) / _FILE)
        database.put("root", root)
        database.put("store", location)
        return cls(database, new_id, outside)

    def note_in_root(self, versions: Iterable[KeptVersion], at_ns: int) -> None:
        """Note what went to the folder's trash, without the right to change this database."""
        root, *_ = self._outside
        root.note(versions, at_ns)

    def take_in(self) -> None:
        """Record what went to the trash of either side outside a run, so that retention bounds it."""
        for place in self._outside:
            with place.taken() as found, self.transaction():
                for version, at_ns in found:
                    self.kept.add([version], at_ns)

    def in_trash(self) -> Total:
        """Return what this client has in both trashes, also of what is not taken in yet."""
        known, more = self.kept.total(), [one for place in self._outside for one in place.noted()]
        return Total(
            known.files + len(more), known.bytes + sum(version.size for version, _ in more)
        )


def pair_folder(state_dir: Path, root: str, location: str) -> Path:
    """Return the folder that holds a pair's database; its name is made from both addresses."""
    name = hashlib.sha256(f"{root}\0{location}".encode()).hexdigest()[:24]
    return state_dir / "pairs" / name


def known_folder(state_dir: Path, root: str, location: str) -> Path:
    """Return the folder whose database was used last for the pair, its own where there is none.

    Raises `StateError` where that cannot be told.
    """
    return max(pair_folders(state_dir, root, location), key=_used_ns)


def pair_folders(state_dir: Path, root: str, location: str) -> list[Path]:
    """Return the folders that may hold a database of the pair: its own, and those of earlier names."""
    own = pair_folder(state_dir, root, location)
    return [own, *(folder for folder in _aliases(state_dir, root, location) if folder != own)]


def _aliases(state_dir: Path, root: str, location: str) -> list[Path]:
    """Return the folders that hold databases of the pair under names with links in them.

    Earlier versions named a directory store as it was called. Losing such a
    database would bring back what was deleted.
    """
    if not location.startswith("/"):
        return []
    return [
        folder
        for folder, (known_root, store) in _all_known(state_dir)
        if store != location and (os.path.realpath(known_root), _real(store)) == (root, location)
    ]


def _adopt(state_dir: Path, root: str, location: str) -> None:
    """Give the pair the database that was used last for it under any of its names; set the others aside."""
    aliases = _aliases(state_dir, root, location)
    if not aliases:
        return
    own, latest = pair_folder(state_dir, root, location), known_folder(state_dir, root, location)
    for folder in {own, *aliases} - {latest}:
        with contextlib.suppress(FileNotFoundError):
            _fold(folder / _FILE).rename(folder / f"{_FILE}.superseded")
    if latest != own:
        own.mkdir(parents=True, exist_ok=True, mode=0o700)
        _fold(latest / _FILE).rename(own / _FILE)


def _fold(file: Path) -> Path:
    """Work the log of a database into it, so that it is one file and can be moved."""
    if file.exists():
        Database.open(file).close()
    return file


def _used_ns(folder: Path) -> int:
    """Return when a database was last written to; -1 when there is none."""
    times = [-1]
    for name in (_FILE, f"{_FILE}-wal"):
        with (
            state_place(f"the state in {folder} cannot be used"),
            contextlib.suppress(FileNotFoundError, NotADirectoryError),
        ):
            times.append((folder / name).stat().st_mtime_ns)
    return max(times)


def _real(location: str) -> str:
    return os.path.realpath(location) if location.startswith("/") else location


def known_conflicts(state_dir: Path, root: str, location: str) -> int:
    """Count the conflict copies of a pair as a look from outside, while another process works with it."""
    file = pair_folder(state_dir, root, location) / _FILE
    with (
        contextlib.suppress(StateError, *UNREADABLE),
        state_place(f"the state database {file} cannot be used"),
        contextlib.closing(open_to_read(file)) as connection,
    ):
        return Baseline(Database(connection)).conflict_copies()
    return 0


def known_root(state_dir: Path, root: str, location: str) -> tuple[str | None, Path]:
    """Return the identity that a pair's root should have, read without a trace, and the file that says so."""
    file = known_folder(state_dir, root, location) / _FILE
    with (
        contextlib.suppress(StateError, *UNREADABLE),
        state_place(f"the state database {file} cannot be used"),
        contextlib.closing(open_to_read(file)) as connection,
    ):
        row = connection.execute("SELECT value FROM meta WHERE key = 'root_id'").fetchone()
        return (str(row[0]) if row else None), file
    return None, file


def known_pairs(state_dir: Path) -> list[tuple[str, str]]:
    """Return (root, store location) of every pair a database is kept for, each once, links resolved."""
    names = [(os.path.realpath(root), _real(store)) for _, (root, store) in _all_known(state_dir)]
    return list(dict.fromkeys(names))


def _all_known(state_dir: Path) -> list[tuple[Path, tuple[str, str]]]:
    """Return the folder of each database, and the root and store it was made for."""
    found = []
    with state_place(f"the state in {state_dir} cannot be used"):
        files = sorted((state_dir / "pairs").glob(f"*/{_FILE}"))
    for file in files:
        with (
            contextlib.suppress(StateError, *UNREADABLE),
            state_place(f"the state database {file} cannot be used"),
            contextlib.closing(open_to_read(file)) as db,
        ):
            facts = dict(db.execute("SELECT key, value FROM meta WHERE key IN ('root', 'store')"))
            if len(facts) == 2:
                found.append((file.parent, (facts["root"], facts["store"])))
    return found
