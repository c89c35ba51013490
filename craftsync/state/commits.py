"""Commits that do not block the control thread: by a worker, and through a second connection."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from craftsync.errors import StateError


class PendingCommit:
    """The commit of one transaction, made by a worker or, if that is later, by the connection's next user.

    While a commit waits for the disk, the transfers of the control thread continue.
    Thread-safe.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._is_due = True
        self._error: Exception | None = None

    def make(self) -> None:
        """Commit, unless already done. Raises the commit's error, also in a later caller; it is rolled back then."""
        self.end()
        if self._error is not None:
            raise self._error

    def end(self) -> None:
        """Return once the transaction has ended, committed or rolled back."""
        with self._lock:
            if not self._is_due:
                return
            self._is_due = False
            try:
                self._connection.commit()
            except BaseException as error:
                was_open = self._roll_back()
                if isinstance(error, Exception):
                    self._error = error
                    return
                # A signal is raised in its own thread only, and may have come after the commit.
                if was_open:
                    self._error = StateError("What was done last is not recorded: a signal came.")
                raise

    def _roll_back(self) -> bool:
        """Roll back the transaction if it is still open; return whether it was."""
        if not self._connection.in_transaction:
            return False
        self._connection.rollback()
        return True


class SecondConnection:
    """A second connection to a database, outside of transactions. Thread-safe.

    Its commits survive a crash of the process at once; they survive a power cut after the next
    commit of the first connection.
    """

    def __init__(
        self, connect: Callable[[], sqlite3.Connection], *, shared: bool, ready: Callable[[], None]
    ) -> None:
        """`connect` is called once, at the first use.

        `ready` waits until no pending commit of the first connection holds the database's lock.
        """
        self._connection = cache(connect)
        self.is_shared = shared
        self._ready = ready
        self._lock = threading.Lock()

    def execute(self, sql: str, values: tuple[Any, ...]) -> None:
        self._ready()
        with self._lock:
            self._connection().execute(sql, values)

    def executemany(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Execute for all rows in one transaction. No other task runs during it, because it holds the lock."""
        self._ready()
        with self._lock:
            connection = self._connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.executemany(sql, rows)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        if self._connection.cache_info().currsize and not self.is_shared:
            self._connection().close()
