"""Commits beside other work: one that a worker makes, and those of a second connection."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from craftsync.errors import StateError


class PendingCommit:
    """The commit of one transaction, made by the first who needs it: a worker, or the next user of the connection.

    Waiting for the disk takes milliseconds, in which the transfers of the control thread continue. Thread-safe.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._is_due = True
        self._error: Exception | None = None

    def make(self) -> None:
        """Commit, unless that is done; raises what it raised, also in another thread: the transaction is rolled back."""
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
                # A signal concerns the thread that it came to, and may have come after the commit.
                if was_open:
                    self._error = StateError("What was done last is not recorded: a signal came.")
                raise

    def _roll_back(self) -> bool:
        """Roll back, unless the transaction has ended; return whether it had not."""
        if not self._connection.in_transaction:
            return False
        self._connection.rollback()
        return True


class SecondConnection:
    """A second connection to a database, outside of transactions. Thread-safe.

    Its commits survive a crash of the process at once, and a power cut after the
    next commit of the first connection.
    """

    def __init__(
        self, connect: Callable[[], sqlite3.Connection], *, shared: bool, ready: Callable[[], None]
    ) -> None:
        """`connect` is called once, when the connection is needed first.

        `ready` returns once the first connection no longer holds the lock for a pending commit.
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
        """Execute for all rows in one transaction; no other task runs during it, as it holds the lock."""
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
