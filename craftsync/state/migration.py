"""All that is remembered about one migration, behind one door: what was copied, and the steps of the run under way."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

from craftsync.core.model import Kind, RemoteObject
from craftsync.errors import LockedError, StateError
from craftsync.state.database import Database
from craftsync.state.held import CutOff, Events
from craftsync.state.plan import Totals
from craftsync.state.transfers import SavedUpload, Transfers

_PAGE = 1000
_STEP = (
    "id, kind, path, rule, source_size, source_modified_ns, source_version,"
    " target_size, target_modified_ns, target_version"
)
_ROW = (
    "path, size, source_modified_ns, source_version, target_modified_ns, target_version,"
    " digest, verified"
)


class CopiedRow(NamedTuple):
    """What source and target last agreed on for one path: same content, both looks.

    `verified` says how that is known. `digest` is `None` where the server
    copied by itself and nobody knows the content's.
    """

    path: str
    size: int
    source_modified_ns: int | None
    source_version: str | None
    target_modified_ns: int | None
    target_version: str | None
    digest: bytes | None
    verified: str


class CopyStep(NamedTuple):
    """One step of a run: `kind` is upload (source to target), delete-remote (in the target) or forget."""

    id: int
    kind: Kind
    path: str
    rule: str
    source: RemoteObject | None
    target: RemoteObject | None


class MigrationState:
    """The tables of one migration. Belongs to the control thread; one process at a time holds it."""

    def __init__(self, database: Database, lock: TextIO | None = None) -> None:
        self.database = database
        self.transfers = Transfers(database)
        self.events = Events(database)
        self.cut_off = CutOff(database, plan="copy_step", size="coalesce(target_size, 0)")
        self._db = database.connection
        self._lock = lock

    @classmethod
    def open(cls, folder: Path, *, scratch: bool = False) -> MigrationState:
        """Open the database in a folder (`migration_folder`), or with `scratch` a copy that is gone when closed.

        Raises `LockedError` when another process is at work on it, and
        `StateError` when the folder cannot be used.
        """
        file = folder / "state.db"
        if scratch:
            return cls(Database.scratch(file))
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = (folder / "lock").open("w")
        except OSError as error:
            raise StateError(
                f"The state folder {folder} cannot be used: {error.strerror}.",
                remedy="Check that it may be written to, or name another with --state-dir.",
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return cls(Database.open(file), lock)
        except BlockingIOError as error:
            lock.close()
            raise LockedError(
                "Another craftsync is at work on this very migration.",
                remedy="Wait for it to end, or stop it; this run would resume where it stopped.",
            ) from error
        except BaseException:
            lock.close()
            raise

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        with self.database.transaction():
            yield

    def close(self) -> None:
        self.database.close()
        if self._lock is not None:
            self._lock.close()

    def rows(self) -> Iterator[CopiedRow]:
        """Yield what was copied, in the byte order of the UTF-8 path."""
        return map(CopiedRow._make, self._db.execute(f"SELECT {_ROW} FROM copied ORDER BY path"))

    def finished_rows(self) -> Iterator[CopiedRow]:
        """Yield what was copied and is as the last run found it: without the paths it could not bring in sync."""
        return map(
            CopiedRow._make,
            self._db.execute(
                f"SELECT {_ROW} FROM copied WHERE path NOT IN (SELECT path FROM copy_step)"
                " ORDER BY path"
            ),
        )

    def row(self, path: str) -> CopiedRow | None:
        found = self._db.execute(f"SELECT {_ROW} FROM copied WHERE path = ?", (path,)).fetchone()
        return None if found is None else CopiedRow._make(found)

    def count_rows(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM copied").fetchone()[0])

    def put(self, rows: Iterable[CopiedRow]) -> None:
        self._db.executemany(
            f"INSERT OR REPLACE INTO copied ({_ROW}) VALUES (?,?,?,?,?,?,?,?)", rows
        )

    def forget(self, paths: Iterable[str]) -> None:
        self._db.executemany("DELETE FROM copied WHERE path = ?", ((path,) for path in paths))

    def boundaries(self, share: int) -> list[str]:
        """Return every `share`-th path: where to cut a listing into parts of like size."""
        found: list[str] = []
        query = "SELECT path FROM copied WHERE path > ? ORDER BY path LIMIT 1 OFFSET ?"
        last = ""
        while row := self._db.execute(query, (last, share - 1)).fetchone():
            last = row[0]
            found.append(last)
        return found

    def begin(self, *, anew: bool) -> None:
        """Start with an empty plan; unless `anew`, what could not be done so far stays noted."""
        if anew:
            self.cut_off.begin()
        self._db.execute("DELETE FROM copy_step WHERE undone <= ?", (anew,))

    def add(self, steps: Iterable[CopyStep]) -> None:
        """Put steps into the plan; their numbers are given here."""
        self._db.executemany(
            f"INSERT OR REPLACE INTO copy_step ({_STEP}) VALUES (NULL,?,?,?,?,?,?,?,?,?)",
            (_values(step) for step in steps),
        )

    def count(self, kind: Kind) -> int:
        found = self._db.execute("SELECT count(*) FROM copy_step WHERE kind = ?", (kind,))
        return int(found.fetchone()[0])

    def remove(self, kind: Kind) -> list[str]:
        """Take all steps of a kind out of the plan and return their paths, in order."""
        found = self._db.execute("SELECT path FROM copy_step WHERE kind = ? ORDER BY id", (kind,))
        paths = [path for (path,) in found]
        self._db.execute("DELETE FROM copy_step WHERE kind = ?", (kind,))
        return paths

    def totals(self) -> Totals:
        """Return the steps that move or remove something, and the bytes to be copied."""
        files, size = self._db.execute(
            "SELECT count(*), total(CASE kind WHEN 'upload' THEN source_size END)"
            " FROM copy_step WHERE kind <> 'forget' AND NOT undone"
        ).fetchone()
        return Totals(int(files), int(size))

    def steps(self) -> Iterator[CopyStep]:
        """Yield the steps nobody has tried yet, deletes last; pages through the table, so that outcomes may be recorded meanwhile."""
        for deletes in (False, True):
            last = -1
            while True:
                page = self._db.execute(
                    f"SELECT {_STEP} FROM copy_step WHERE (kind = 'delete-remote') = ?"
                    f" AND NOT undone AND id > ? ORDER BY id LIMIT {_PAGE}",
                    (deletes, last),
                ).fetchall()
                yield from map(_step, page)
                if len(page) < _PAGE:
                    break
                last = page[-1][0]

    def done(self, steps: Iterable[int]) -> None:
        self._db.executemany("DELETE FROM copy_step WHERE id = ?", ((step,) for step in steps))

    def leave(self, steps: Iterable[int]) -> None:
        """Note that these could not be done in this run."""
        self._db.executemany(
            "UPDATE copy_step SET undone = 1 WHERE id = ?", ((step,) for step in steps)
        )

    def leave_out(self, path: str) -> None:
        """Note that a path which was copied once is not known to be in sync any more."""
        self._db.execute(
            "INSERT OR REPLACE INTO copy_step (kind, path, rule, undone) VALUES (?, ?, '', 1)",
            (Kind.FORGET, path),
        )

    def upload(self, path: str, identity: bytes) -> SavedUpload | None:
        """Return the unfinished upload of one version of a source object."""
        return self.transfers.uploads(path).get(identity)

    def stale_uploads(self) -> list[tuple[str, str]]:
        """Return (path, upload id) of the uploads that no step of the plan is left to go on with."""
        return self.transfers.stale_uploads("copy_step")


def migration_folder(state_dir: Path, source: str, target: str, shard: str = "") -> Path:
    """Return the folder that holds what is remembered about a migration; its name is made from both addresses."""
    name = hashlib.sha256(f"{source}\0{target}\0{shard}".encode()).hexdigest()[:24]
    return state_dir / "migrations" / name


def _values(step: CopyStep) -> tuple[object, ...]:
    sides = (side[1:4] if side else (None, None, None) for side in (step.source, step.target))
    source, target = sides
    return (step.kind, step.path, step.rule, *source, *target)


def _step(row: tuple[object, ...]) -> CopyStep:
    number, kind, path, rule = row[:4]
    source = None if row[4] is None else RemoteObject(path, *row[4:7])  # type: ignore[arg-type]
    target = None if row[7] is None else RemoteObject(path, *row[7:10])  # type: ignore[arg-type]
    return CopyStep(number, Kind(kind), path, rule, source, target)  # type: ignore[arg-type]
