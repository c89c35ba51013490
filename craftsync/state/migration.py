"""`MigrationState`: the state of one migration between two stores, in a database of its own."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from craftsync.errors import LockedError, StateError
from craftsync.state.database import Database
from craftsync.state.history import KeptVersion, Outside
from craftsync.state.pair import State


class MigrationState(State):
    """The tables of one migration, locked for one process."""

    keeps_held = False

    def __init__(
        self, database: Database, lock: TextIO | None = None, outside: Outside | None = None
    ) -> None:
        """`outside` records versions moved to the target's trash, for linked folders with that store."""
        super().__init__(database, new_id=str, identity="left_version")
        self._lock = lock
        self._outside = outside

    @classmethod
    def open(
        cls, folder: Path, *, scratch: bool = False, outside: Outside | None = None
    ) -> MigrationState:
        """Open the database in a folder (`migration_folder`), or with `scratch` a temporary copy.

        Raises `LockedError` if another process uses it, `StateError` if the folder is unusable.
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
            return cls(Database.open(file), lock, outside)
        except BlockingIOError as error:
            lock.close()
            raise LockedError(
                "Another craftsync is running this migration.",
                remedy="Wait for it to end, or stop it; this run then resumes it.",
            ) from error
        except BaseException:
            lock.close()
            raise

    def note_kept(self, versions: Sequence[KeptVersion], at_ns: int) -> None:
        if self._outside is not None:
            self._outside.note(versions, at_ns)

    def mark_out_of_sync(self, path: str) -> None:
        self.plan.mark_out_of_sync(path)

    def close(self) -> None:
        super().close()
        if self._lock is not None:
            self._lock.close()


def migration_folder(state_dir: Path, source: str, target: str, shard: str = "") -> Path:
    """Return the state folder of a migration, named by a hash of both addresses and the shard."""
    name = hashlib.sha256(f"{source}\0{target}\0{shard}".encode()).hexdigest()[:24]
    return state_dir / "migrations" / name
