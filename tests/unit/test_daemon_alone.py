"""The daemon and unforeseen errors: only the folder in which one occurs halts."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from craftsync.clock import SystemClock
from craftsync.daemon.control import ask
from craftsync.daemon.pair import Watched
from craftsync.daemon.process import ServiceManager, Setup, watch
from craftsync.daemon.schedule import WatchSettings
from craftsync.engine.report import Options, ignore_events
from craftsync.engine.session import Session
from craftsync.errors import exhausted
from craftsync.stores.directory import DirectoryStore
from tests.support.cli import until


@contextmanager
def opened(place: Path) -> Iterator[Session]:
    root = place / "root"
    root.mkdir(parents=True, exist_ok=True)
    store = place / "store"
    directory = DirectoryStore(store) if store.exists() else DirectoryStore.create(store)
    with Session.open(root, directory, state_dir=place / "state") as session:
        yield session
    directory.close()


def watched(place: Path, open_it: Callable[[], Any]) -> Watched:
    return Watched(
        root=str(place / "root"),
        store=str(place / "store"),
        control=place / "control",
        given=place,
        settings=WatchSettings(settle_seconds=0.1, poll_seconds=1.0),
        options=Options(transfers=2),
        open=open_it,
        on_event=ignore_events,
    )


def run_until(done: Callable[[], object], *folders: Watched) -> int:
    """Watch these folders until a condition holds, then stop the daemon as a service manager does."""

    def look() -> None:
        try:
            until(done, "what the test waits for")
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        return watch(lambda: Setup(folders), SystemClock(), ServiceManager({}))
    finally:
        looking.join()


def status(folder: Watched) -> dict[str, Any]:
    facts: dict[str, Any] = ask(folder.control, "status") or {"state": None}
    return facts


def test_unexpected_exception_halts_and_retries_only_its_own_folder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tries, seen = [], []

    def fails_first() -> Any:
        tries.append(1)
        if len(tries) == 1:
            raise ZeroDivisionError("nobody foresaw this")
        return opened(tmp_path / "odd")

    odd = watched(tmp_path / "odd", fails_first)
    fine = watched(tmp_path / "fine", lambda: opened(tmp_path / "fine"))
    (tmp_path / "fine/root").mkdir(parents=True)
    (tmp_path / "fine/root/file").touch()

    def both_work() -> bool:
        facts = status(odd)
        if facts["state"] == "halted":
            seen.append(facts["reason"])
            ask(odd.control, "sync")
        return (
            bool(seen) and facts["state"] == "watching" and (tmp_path / "fine/store/file").exists()
        )

    with caplog.at_level(logging.ERROR):
        assert run_until(both_work, odd, fine) == 0
    assert "ZeroDivisionError: nobody foresaw this" in seen[0]
    assert "Traceback" in caplog.text


def test_folder_halts_with_a_reason_when_no_thread_can_start(tmp_path: Path) -> None:
    reasons: list[str] = []

    def no_thread() -> Any:
        raise RuntimeError("can't start new thread")

    folder = watched(tmp_path, no_thread)

    def is_halted() -> bool:
        facts = status(folder)
        reasons.append(str(facts.get("reason")))
        return facts["state"] == "halted"

    assert run_until(is_halted, folder) == 0
    assert reasons[-1].startswith("No thread can be started. ")
    assert "TasksMax=" in reasons[-1]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "No memory is left."),
        (RuntimeError("can't start new thread"), "No thread can be started."),
        (RuntimeError("another"), None),
    ],
)
def test_exhausted_machine_resource_is_named(error: Exception, words: str | None) -> None:
    found = exhausted(error)
    assert (str(found) if found else None) == words
