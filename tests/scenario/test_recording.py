"""Making a group of transfers durable takes its time; the others go on meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from craftsync.core.model import RemoteObject
from craftsync.errors import StateError
from craftsync.local import linux
from craftsync.net.concurrency import Fixed
from craftsync.net.tasks import TaskPool
from craftsync.net.waiting import blocking
from craftsync.state.commits import PendingCommit
from craftsync.state.database import Database
from tests.support.memory_store import MemoryStore
from tests.support.world import World

TIMEOUT = 60.0
FILES = 600
"""More than two groups."""
FIRST_GROUP = 300
"""As many as make a group, and some more."""


class SlowlyDurable(MemoryStore):
    """Its first barrier after the identity's ends only once objects are written that came after it."""

    def __init__(self) -> None:
        super().__init__()
        self.went_on: bool | None = None
        self._begun = threading.Event()
        self._more = threading.Event()
        self._writes = 0
        self._has_identity = False

    def write(self, path: str, *arguments: Any, **options: Any) -> RemoteObject:
        if self._begun.is_set():
            self._more.set()
        self._writes += 1
        if self._writes > FIRST_GROUP:
            # So that some are left, however long it takes until the barrier begins.
            blocking(partial(self._begun.wait, TIMEOUT))
        return super().write(path, *arguments, **options)

    def barrier(self) -> Mapping[str, RemoteObject]:
        if self._has_identity and not self._begun.is_set():
            self._begun.set()
            self.went_on = blocking(partial(self._more.wait, TIMEOUT))
        self._has_identity = True
        return super().barrier()


def test_transfers_continue_while_a_group_is_flushed(tmp_path: Path) -> None:
    store = SlowlyDurable()
    world = World(tmp_path, store)
    for number in range(FILES):
        world.write(f"{number:03}", "content")

    report = world.run()

    assert store.went_on
    assert (report.uploaded, report.exit_code) == (FILES, 0)
    world.assert_in_step()


def test_failed_transaction_leaves_no_read_lock(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "state.db")
    with pytest.raises(ValueError, match="the listing broke"), database.transaction() as open_one:
        open_one.executemany("INSERT INTO meta VALUES (?, '')", [(f"{n}",) for n in range(500)])
        reading = open_one.execute("SELECT key FROM meta")
        next(reading)
        raise ValueError("the listing broke")
    database.put("a", "")
    with pytest.raises(ValueError, match="the listing broke"), database.transaction() as open_one:
        reading = open_one.execute("SELECT key FROM meta UNION ALL SELECT key FROM meta")
        next(reading)
        raise ValueError("the listing broke")
    beside = database.second_connection()
    beside.execute("INSERT INTO meta VALUES (?, ?)", ("b", ""))
    with database.transaction():
        database.put("c", "")
    assert reading is not None
    beside.close()
    database.close()


def use_the_connection_during_a_commit(
    database: Database, monkeypatch: pytest.MonkeyPatch, *, fails: bool = False
) -> bool:
    """Record `a` in a transaction, and `b` in another task while the disk makes that wait; return whether it could."""
    begun, used = threading.Event(), threading.Event()
    waits: list[bool] = []
    at_once = type(database.connection).commit

    def commit(connection: Any) -> None:
        begun.set()
        waits.append(used.wait(TIMEOUT))
        if fails:
            raise StateError("the disk failed")
        at_once(connection)

    def record() -> None:
        with database.transaction():
            database.put("a", "recorded")

    def use() -> None:
        blocking(partial(begun.wait, TIMEOUT))
        used.set()
        database.put("b", "used")

    monkeypatch.setattr(type(database.connection), "commit", commit)
    pool: TaskPool[None] = TaskPool(Fixed(2))
    pool.submit(use)
    pool.submit(record)
    try:
        for _ in range(2):
            pool.take(TIMEOUT)
    finally:
        pool.close()
    return waits == [True]


def test_other_tasks_run_while_a_commit_waits_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database.open(tmp_path / "state.db")
    assert use_the_connection_during_a_commit(database, monkeypatch)
    assert (database.get("a"), database.get("b")) == ("recorded", "used")
    database.close()


def test_what_is_written_during_a_commit_is_not_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database.open(tmp_path / "state.db")
    with pytest.raises(StateError, match="the disk failed"):
        use_the_connection_during_a_commit(database, monkeypatch, fails=True)
    assert (database.get("a"), database.get("b")) == (None, "used")
    database.close()


@pytest.mark.parametrize("is_committed", [True, False])
def test_a_signal_during_a_commit_ends_only_the_thread_it_came_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_committed: bool
) -> None:
    database = Database.open(tmp_path / "state.db")
    at_once = type(database.connection).commit

    def interrupted(connection: Any) -> None:
        if is_committed:
            at_once(connection)
        raise KeyboardInterrupt

    database.connection.execute("BEGIN IMMEDIATE")
    database.put("a", "recorded")
    pending = PendingCommit(database.connection)
    monkeypatch.setattr(type(database.connection), "commit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pending.end()
    with nullcontext() if is_committed else pytest.raises(StateError, match="not recorded"):
        pending.make()
    assert database.get("a") == ("recorded" if is_committed else None)
    database.close()


def test_a_pending_commit_is_made_once_by_whoever_needs_it_first(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "state.db")
    database.connection.execute("BEGIN IMMEDIATE")
    database.put("a", "recorded")
    pending = PendingCommit(database.connection)
    pending.end()
    database.connection.execute("BEGIN IMMEDIATE")
    pending.make()
    assert database.connection.in_transaction, "it commits nothing but its own transaction"
    database.connection.execute("ROLLBACK")
    assert database.get("a") == "recorded"
    database.close()


@pytest.mark.parametrize("path", ["new", "replaced"])
def test_a_download_is_on_the_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    world = World(tmp_path, MemoryStore())
    world.put("replaced", "the version before")
    world.run()
    world.put(path, "downloaded")
    calls: list[str] = []

    def noting(name: str) -> None:
        call = getattr(linux, name)

        def noted(*given: Any, **named: Any) -> Any:
            if name != "pwrite" or b"downloaded" in bytes(given[1]):
                calls.append(name)
            return call(*given, **named)

        monkeypatch.setattr(linux, name, noted)

    for name in ("pwrite", "syncfs", "link", "renameat2"):
        noting(name)
    world.run()
    assert world.here()[path] == "downloaded"
    assert calls[:2] == ["pwrite", "syncfs"]
    assert {"link", "renameat2"} & set(calls[2:])
    assert calls[-1] == "syncfs", "the name is on the disk before it is recorded"
