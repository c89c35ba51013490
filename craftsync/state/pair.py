"""`PairState`: the state of a linked folder, one table class for each subject; `Baseline` is here.

Also here: where the databases are in the state directory, how one is found, and how it is deleted.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from craftsync.core.conflict_names import CONFLICT_GLOB, conflict_original
from craftsync.core.model import BaselineRow
from craftsync.core.paths import ranges, relatives
from craftsync.errors import StateError
from craftsync.state.cut_off import CutOff
from craftsync.state.database import UNREADABLE, Database, open_to_read, state_place
from craftsync.state.held import Events, Held
from craftsync.state.history import History, Kept, KeptVersion, Outside, Total
from craftsync.state.moves import Moves
from craftsync.state.plan import Plan, Replacements
from craftsync.state.transfers import Arrivals, Intents, Transfers

FACTS_LAST_NS = 7 * 86_400 * 1_000_000_000
"""How long probed features are used: a week, in nanoseconds, because servers are upgraded."""


class KnownFacts(NamedTuple):
    """Probed features, as returned by `Store.prepare`, and the identity of their store."""

    store_id: str
    text: str


def known_facts(state_dir: Path, location: str, *, now_ns: int) -> Iterator[KnownFacts]:
    """Yield the recent features that linked folders have saved for a store at this location.

    Compare `store_id`: the location may hold another store by now.
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
    """The last synced state, one row per path. Writes belong to the caller's transaction.

    `identity` is the column for `LocalFile.inode`: "inode", or "left_version" if the left side is a
    store.
    """

    def __init__(self, database: Database, identity: str = "inode") -> None:
        self._db = database.connection
        names = f"path, size, mtime_ns, ctime_ns, {identity}, racy, digest, modified_ns, version, uploaded"
        self._columns = f"{names}, ''" if identity == "inode" else f"{names}, verified"
        # `inode` may not be NULL.
        extra, zero = ("", "") if identity == "inode" else ("inode, ", "0, ")
        self._put = (
            f"INSERT OR REPLACE INTO baseline ({extra}{names}, verified)"
            f" VALUES ({zero}{', '.join('?' * 11)})"
        )

    def count(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM baseline").fetchone()[0])

    def bytes(self) -> int:
        """Return the total size of all files."""
        return int(self._db.execute("SELECT coalesce(sum(size), 0) FROM baseline").fetchone()[0])

    def conflict_copies(self) -> int:
        """Return the number of conflict copies, recognised by name."""
        return sum(1 for _ in self.conflict_paths())

    def conflict_paths(self) -> Iterator[str]:
        """Yield the paths of conflict copies, recognised by name."""
        query = "SELECT path FROM baseline WHERE path GLOB ?"
        found = self._db.execute(query, (CONFLICT_GLOB,))
        return (path for (path,) in found if conflict_original(path) is not None)

    def rows(self, behind: str = "") -> Iterator[BaselineRow]:
        """Yield every row, or those after the path `behind`, in the byte order of the UTF-8 path."""
        query = f"SELECT {self._columns} FROM baseline WHERE path > ? ORDER BY path"
        return map(BaselineRow._make, self._db.execute(query, (behind,)))

    def rows_but_planned(self) -> Iterator[BaselineRow]:
        """Yield in order the rows of paths that are not in the plan."""
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
        """Return whether a row exists above or below this path: file and folder would then collide."""
        above, below = relatives(path)
        found = self._db.execute(
            f"SELECT 1 FROM baseline WHERE path IN ({','.join('?' * len(above))})"
            " UNION ALL SELECT 1 FROM baseline WHERE path > ? AND path < ? LIMIT 1",
            (*above, *below),
        )
        return found.fetchone() is not None

    def below(self, paths: Iterable[str]) -> Iterator[BaselineRow]:
        """Yield the rows at these paths and below them, in order."""
        query = f"SELECT {self._columns} FROM baseline WHERE path >= ? AND path < ? ORDER BY path"
        for bounds in ranges(paths):
            yield from map(BaselineRow._make, self._db.execute(query, bounds))

    def with_inodes(self, inodes: Iterable[int | str]) -> Iterator[str]:
        """Yield the paths whose file had one of these inode numbers. Reads the whole table."""
        numbers = list(inodes)
        for start in range(0, len(numbers), _AT_ONCE):
            some = numbers[start : start + _AT_ONCE]
            places = ",".join("?" * len(some))
            query = f"SELECT path FROM baseline WHERE inode IN ({places})"
            yield from (path for (path,) in self._db.execute(query, some))

    def boundaries(self, share: int) -> list[str]:
        """Return every `share`-th path, to divide a listing into equal shares."""
        found: list[str] = []
        query = "SELECT path FROM baseline WHERE path > ? ORDER BY path LIMIT 1 OFFSET ?"
        last = ""
        while row := self._db.execute(query, (last, share - 1)).fetchone():
            last = row[0]
            found.append(last)
        return found

    def put(self, rows: Iterable[BaselineRow]) -> None:
        self._db.executemany(self._put, rows)

    def forget(self, paths: Iterable[str]) -> None:
        self._db.executemany("DELETE FROM baseline WHERE path = ?", ((path,) for path in paths))


_FILE = "state.db"
_PLACE = "place"
"""In `meta`: `server_and_location` of the store."""
_OLD_RECORD = "outside_read_ns"
"""In `meta`: the mtime of the legacy record when it was imported last."""


class State:
    """The tables of a run between any two sides. Used by the control thread only."""

    keeps_held = True
    """Whether held deletes are saved, so that the user can approve them later."""

    def __init__(
        self, database: Database, new_id: Callable[[], str], *, identity: str = "inode"
    ) -> None:
        """`identity` as in `Baseline`."""
        self.database = database
        self.baseline = Baseline(database, identity)
        self._second_connection = database.second_connection()
        self.intents = Intents(database, self._second_connection)
        self.arrivals = Arrivals(database, self._second_connection)
        self.cut_off = CutOff(database)
        self.plan = Plan(database, new_id, self.intents, self.cut_off, identity)
        self.moves = Moves(database)
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
        """Record versions that a run moved to the trash, in the transaction of its outcomes."""
        self.kept.add(versions, at_ns)

    def mark_out_of_sync(self, path: str) -> None:
        """Record, in a migration, that a path of the baseline is no longer in sync."""

    def close(self) -> None:
        self._second_connection.close()
        self.database.close()


class OutsideRecords(NamedTuple):
    """Records of versions that were moved to either trash outside a run."""

    folder: Outside
    store: Outside
    legacy: Outside | None
    """The record of earlier versions of craftsync, shared by all servers with this location."""


class PairState(State):
    """The tables of one linked folder."""

    def __init__(
        self, database: Database, new_id: Callable[[], str], outside: OutsideRecords
    ) -> None:
        super().__init__(database, new_id)
        self._outside = outside

    @classmethod
    def open(
        cls,
        state_dir: Path,
        root: str,
        location: str,
        place: str | None = None,
        *,
        new_id: Callable[[], str],
        scratch: bool = False,
        reading: bool = False,
    ) -> PairState:
        """Open the database: with `scratch` a temporary copy, with `reading` read-only in place.

        `place` is `server_and_location` of the store, by default the last one given. A database
        that an earlier version kept under another name of the same store is found, and moved unless
        `scratch` or `reading`. Raises `StateError`.
        """
        with state_place(f"the state in {state_dir} cannot be used"):
            if scratch or reading:
                file = known_folder(state_dir, root, location) / _FILE
                database = Database.reading(file) if reading else Database.scratch(file)
                place = place or database.get(_PLACE) or location
                return cls(database, new_id, _outside(state_dir, root, place, location))
            _adopt(state_dir, root, location)
            database = Database.open(pair_folder(state_dir, root, location) / _FILE)
        database.put("root", root)
        database.put("store", location)
        place = place or database.get(_PLACE) or location
        database.put(_PLACE, place)
        return cls(database, new_id, _outside(state_dir, root, place, location))

    def note_in_root(self, versions: Iterable[KeptVersion], at_ns: int) -> None:
        """Record versions moved to the folder's trash, without writing to this database."""
        self._outside.folder.note(versions, at_ns)

    def import_outside_records(self) -> None:
        """Import versions moved to either trash outside a run, so that retention applies to them."""
        for place in (self._outside.folder, self._outside.store):
            with place.taken() as found, self.transaction():
                for version, at_ns in found:
                    self.kept.add([version], at_ns)

    def import_legacy_records(
        self, found_of: Callable[[Iterable[KeptVersion]], Iterable[KeptVersion]]
    ) -> None:
        """Import, once, the legacy record of all stores with this location on any server.

        `found_of` returns those of the versions that are in this store's trash. The record stays
        for the other stores.
        """
        legacy = self._outside.legacy
        if legacy is None:
            return
        noted, changed = dict(legacy.noted()), str(legacy.changed_ns())
        if noted and self.database.get(_OLD_RECORD) != changed:
            found = list(found_of(noted))
            with self.transaction():
                for version in found:
                    self.kept.add([version], noted[version])
                self.database.put(_OLD_RECORD, changed)

    def in_trash(self) -> Total:
        """Return the total of this client's versions in both trashes, also those not imported yet."""
        known = self.kept.total()
        more = [*self._outside.folder.noted(), *self._outside.store.noted()]
        return Total(
            known.files + len(more), known.bytes + sum(version.size for version, _ in more)
        )


def _outside(state_dir: Path, root: str, place: str, location: str) -> OutsideRecords:
    legacy = None if location == place else Outside(state_dir, location)
    return OutsideRecords(Outside(state_dir, root), Outside(state_dir, place), legacy)


def pair_folder(state_dir: Path, root: str, location: str) -> Path:
    """Return the state folder of a linked folder, named by a hash of both addresses."""
    name = hashlib.sha256(f"{root}\0{location}".encode()).hexdigest()[:24]
    return state_dir / "pairs" / name


def known_folder(state_dir: Path, root: str, location: str) -> Path:
    """Return the state folder with the most recently used database, by default `pair_folder`.

    Raises `StateError` if a folder is unreadable.
    """
    return max(pair_folders(state_dir, root, location), key=_used_ns)


def pair_folders(state_dir: Path, root: str, location: str) -> list[Path]:
    """Return the state folders that may contain the database: `pair_folder`, and those of earlier names."""
    own = pair_folder(state_dir, root, location)
    return [own, *(folder for folder in _aliases(state_dir, root, location) if folder != own)]


def _aliases(state_dir: Path, root: str, location: str) -> list[Path]:
    """Return the state folders with databases under paths that contain symbolic links.

    Earlier versions did not resolve the path of a directory store. Losing such a database would
    restore deleted files.
    """
    if not location.startswith("/"):
        return []
    return [
        folder
        for folder, (known_root, store) in _all_known(state_dir)
        if store != location and (os.path.realpath(known_root), _real(store)) == (root, location)
    ]


def _adopt(state_dir: Path, root: str, location: str) -> None:
    """Move the most recently used database to `pair_folder`; rename the others."""
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
    """Checkpoint the WAL of a database into it, so that it is a single file and can be moved."""
    if file.exists():
        Database.open(file).close()
    return file


def _used_ns(folder: Path) -> int:
    """Return when a database was last written (mtime in ns); -1 if there is none."""
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


def known_root(state_dir: Path, root: str, location: str) -> str | None:
    """Return the folder's identity that the database expects, or `None`. Leaves no files behind."""
    file = known_folder(state_dir, root, location) / _FILE
    with (
        contextlib.suppress(StateError, *UNREADABLE),
        state_place(f"the state database {file} cannot be used"),
        contextlib.closing(open_to_read(file)) as connection,
    ):
        row = connection.execute("SELECT value FROM meta WHERE key = 'root_id'").fetchone()
        return str(row[0]) if row else None
    return None


def known_pairs(state_dir: Path) -> list[tuple[str, str]]:
    """Return (root, store location) of each linked folder with a database, with links resolved."""
    names = [(os.path.realpath(root), _real(store)) for _, (root, store) in _all_known(state_dir)]
    return list(dict.fromkeys(names))


def known_places(state_dir: Path, folders: Iterable[Path] | None = None) -> set[str]:
    """Return the roots and stores, as in `Outside.place`, of all databases or of those in `folders`."""
    some = None if folders is None else set(folders)
    known = [facts for folder, facts in _all_facts(state_dir) if some is None or folder in some]
    return {place for facts in known for place in facts.values()}


def _all_known(state_dir: Path) -> list[tuple[Path, tuple[str, str]]]:
    """Return the folder of each database, with its root and store."""
    return [(folder, (facts["root"], facts["store"])) for folder, facts in _all_facts(state_dir)]


def _all_facts(state_dir: Path) -> list[tuple[Path, dict[str, str]]]:
    """Return the folder of each database, with the entries of `meta` about its root and store."""
    found = []
    with state_place(f"the state in {state_dir} cannot be used"):
        files = sorted((state_dir / "pairs").glob(f"*/{_FILE}"))
    for file in files:
        with (
            contextlib.suppress(StateError, *UNREADABLE),
            state_place(f"the state database {file} cannot be used"),
            contextlib.closing(open_to_read(file)) as db,
        ):
            query = "SELECT key, value FROM meta WHERE key IN ('root', 'store', ?)"
            facts = dict(db.execute(query, (_PLACE,)))
            if {"root", "store"} <= facts.keys():
                found.append((file.parent, facts))
    return found


class Memory(NamedTuple):
    """The amounts in a state database. `bytes` is the total size of `files`."""

    files: int
    """Files in the last synced state."""
    bytes: int
    history: int
    """Entries of the history."""
    held: int
    """Held deletes."""
    conflicts: int
    """Conflict copies, which exist on both sides."""
    kept: int
    """Trash versions under retention."""
    uploads: int
    """Unfinished uploads that can be resumed."""

    @classmethod
    def of(cls, state: PairState) -> Memory:
        """Count the contents of a state database."""
        baseline = state.baseline
        return cls(
            baseline.count(),
            baseline.bytes(),
            state.history.count(),
            state.held.count(),
            baseline.conflict_copies(),
            state.in_trash().files,
            state.transfers.count_uploads(),
        )


def is_remembered(state_dir: Path, root: str, location: str) -> bool:
    """Return whether a folder and its store have a saved state, even an unreadable one."""
    with state_place(f"the state in {state_dir} cannot be used"):
        return any(folder.exists() for folder in pair_folders(state_dir, root, location))


def forget(state_dir: Path, root: str, location: str) -> None:
    """Delete the saved state of a folder and its store, without touching either.

    No other process may be using it. A crash leaves the whole state, or only files that no run
    reads. Raises `StateError`.
    """
    with state_place(f"the state in {state_dir} cannot be removed"):
        folders = pair_folders(state_dir, root, location)
        gone = {root, location} | known_places(state_dir, folders)
        for folder in folders:
            aside = state_dir / f"forgotten-{folder.name}"
            shutil.rmtree(aside, ignore_errors=True)
            with suppress(FileNotFoundError):
                folder.rename(aside)
                shutil.rmtree(aside)
        places = {place for pair in known_pairs(state_dir) for place in pair}
        for place in gone - places - known_places(state_dir):
            Outside(state_dir, place).forget()
