"""`craftsync wait`, `status --check` and `status --watch`: for scripts, health checks and those who look on."""

from __future__ import annotations

import json
import re
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from craftsync.clock import SystemClock
from craftsync.daemon.control import Control, Endpoint, folder_of
from craftsync.daemon.status import exit_code_of
from tests.support.cli import Craftsync
from tests.support.daemons import Daemon, running
from tests.support.terminal import on_a_terminal


@pytest.fixture
def root(craftsync: Craftsync) -> Path:
    craftsync.config.write_text(
        "environments:\n  archive: {store: directory, path: store}\n"
        "folders:\n  datasets: {root: root, environment: archive}\n"
    )
    craftsync.write("store/from-there.csv")
    return craftsync.write("root/first.csv").parent


@pytest.fixture
def daemon(craftsync: Craftsync, root: Path) -> Iterator[Daemon]:
    with running(craftsync, "datasets") as daemon:
        yield daemon


def test_wait_returns_when_all_changes_so_far_have_arrived(
    craftsync: Craftsync, root: Path, daemon: Daemon
) -> None:
    for number in range(2):
        craftsync.write(f"root/new-{number}", "x" * number)
        run = craftsync("wait", "datasets")
        assert (run.code, run.err) == (0, "")
        assert f"new-{number}" in craftsync.files("store")
    # The store may be listed at that moment.
    assert re.match("datasets: (watching: In sync; |scanning: )last in sync 20", run.text)
    facts = json.loads(craftsync("wait", "--json").out)
    assert (facts["folder"], facts["pending"]) == ("datasets", 0)


def test_wait_exits_4_while_a_conflict_waits(
    craftsync: Craftsync, root: Path, daemon: Daemon
) -> None:
    assert craftsync("wait").code == 0
    craftsync.write("root/first.csv", "one")
    craftsync.write("store/first.csv", "another")
    run = craftsync("wait")
    assert (run.code, "1 conflict," in run.text) == (4, True)
    assert craftsync("status", "--check").code == 4
    assert craftsync("status", "--check", "--max-lag", "1h").code == 4


def test_wait_exits_3_when_the_folder_is_gone(
    craftsync: Craftsync, root: Path, daemon: Daemon
) -> None:
    assert craftsync("wait").code == 0
    root.rename(root.with_name("elsewhere"))
    daemon.until_state("halted")
    run = craftsync("wait")
    assert (run.code, "that its disk is mounted" in run.text) == (3, True)


def test_status_check_needs_a_daemon_and_a_synced_folder(craftsync: Craftsync, root: Path) -> None:
    assert craftsync("status", "--check").code == 5
    run = craftsync("wait", "--timeout", "0.1s")
    assert (run.code, "no daemon runs" in run.text) == (5, True)
    with running(craftsync, "datasets"):
        assert craftsync("wait").code == 0
        run = craftsync("status", "--check")
        assert (run.code, run.text.startswith("datasets: watching: In sync")) == (0, True)
        assert json.loads(craftsync("status", "--check", "--json").out)["exit_code"] == 0
    # What was in sync a moment ago is not kept so by anybody.
    assert craftsync("status", "--check", "--max-lag", "1h").code == 5
    assert craftsync("status", "--max-lag", "1h").code == 2
    assert craftsync("wait", "--timeout", "soon").code == 2


def test_pause_is_shown_live_and_accepted_by_check_with_max_lag(
    craftsync: Craftsync, root: Path, daemon: Daemon
) -> None:
    assert craftsync("wait").code == 0
    following = craftsync.start("status", "--watch", "--json", "datasets")
    with following, on_a_terminal(craftsync, 100, "status", "--watch", "datasets") as terminal:
        assert following.stdout
        assert json.loads(following.stdout.readline())["state"] == "watching"
        terminal.until("In sync")
        assert craftsync("pause").code == 0
        assert json.loads(following.stdout.readline())["state"] == "paused"
        terminal.until("paused since")
        terminal.interrupt()
        assert terminal.end() == 0
        following.terminate()
    run = craftsync("wait", "--timeout", "0.1")
    assert (run.code, "paused since" in run.text) == (5, True)
    assert craftsync("status", "--check").code == 5
    assert craftsync("status", "--check", "--max-lag", "1h").code == 0
    assert craftsync("status", "--check", "--max-lag", "0.000001").code == 5


def test_a_daemon_that_does_not_answer_is_not_called_stopped(
    craftsync: Craftsync, daemon: Daemon
) -> None:
    assert craftsync("wait").code == 0
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        waited = craftsync("wait", "--timeout", "1s")
        checked = craftsync("status", "--check")
    finally:
        daemon.process.send_signal(signal.SIGCONT)
    for run in (waited, checked):
        assert (run.code, "does not answer" in run.text, "stopped" in run.text) == (5, True, False)


def test_wait_for_a_folder_with_several_stores_needs_a_store(craftsync: Craftsync) -> None:
    craftsync.write("by-hand/a")
    for store in ("./store", "./other"):
        assert craftsync("push", "by-hand", store).code == 0
    run = craftsync("wait", "--timeout", "0.1s")
    assert (run.code, run.out) == (2, b"")
    assert "linked to several stores: " in run.err
    assert all(f"{craftsync.folder}/{name}" in run.err for name in ("store", "other"))
    assert craftsync("wait", "--timeout", "0.1s", "by-hand", "./store").code == 5
    assert len(craftsync("status", "--check").lines) == 2


def test_wait_exits_3_at_once_without_folder_or_store(craftsync: Craftsync, root: Path) -> None:
    assert craftsync("wait", "nowhere", "./store").code == 3
    assert craftsync("wait", str(root), "./nowhere").code == 3


STATUS = {
    **{"state": "watching", "reason": None, "mode": "two-way", "pid": 1, "pending": 0},
    **{"conflicts": 0, "held": 0, "problems": 0, "busy": 0, "left_out": None},
    **{"last_success": "2026-11-30T13:15:42Z", "watch": {"healthy": True, "reason": None}},
}


@contextmanager
def answering(control: Path, statuses: Iterator[Mapping[str, Any]]) -> Iterator[None]:
    """Answer as a daemon does: a scan is requested at 10.0, then each status is the next of these."""
    clock, stop = SystemClock(), threading.Event()

    def answer(request: Mapping[str, Any]) -> Any:
        return {"pid": 1, "requested_at": 10.0} if request["verb"] == "sync" else next(statuses)

    def serve() -> None:
        while not stop.is_set():
            server.serve(0.02)

    with closing(Endpoint(control)) as endpoint, closing(Control(clock)) as server:
        server.add(endpoint.socket, answer)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


@pytest.mark.parametrize("state", ["watching", "scanning"])
def test_wait_ends_after_the_scan_it_requested(
    craftsync: Craftsync, tmp_path: Path, state: str
) -> None:
    """A listing may be under way at each check; before the scan, in sync is not news."""
    root, store = tmp_path / "root", tmp_path / "store"
    for folder in (root, store):
        folder.mkdir()
    shown = {**STATUS, "root": str(root), "store": str(store)}
    left = 5

    def statuses() -> Iterator[Mapping[str, Any]]:
        nonlocal left
        while left:
            left -= 1
            yield {**shown, "full_run_began": 9.0}
        while True:
            yield {**shown, "state": state, "full_run_began": 11.0}

    words = ("wait", "--json", "--timeout", "30s", str(root), str(store))
    with answering(folder_of(tmp_path / "state", str(root), str(store)), statuses()):
        run = craftsync(*words)
    assert (run.code, left, run.json[0]["state"]) == (0, 0, state)


FACTS = {"state": "watching", "pending": 0, "last_success": "2026-11-29T10:00:00Z"}


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({}, 0),
        ({"state": "scanning"}, 0),
        ({"pending": 3}, 5),
        ({"pending": None}, 5),
        ({"last_success": None}, 5),
        ({"state": "offline"}, 5),
        ({"state": "paused"}, 5),
        ({"state": "stopped"}, 5),
        ({"state": "stopped", "reason": "The folder is not there."}, 3),
        ({"state": "stopped", "reason": "The folder is not there.", "problems": 1}, 3),
        ({"busy": 1}, 6),
        ({"busy": 1, "problems": 1}, 1),
        ({"conflicts": 1, "problems": 1}, 4),
        ({"conflicts": 1, "held": 1}, 7),
        ({"state": "halted", "error_code": 78, "held": 1}, 78),
        ({"state": "halted"}, 1),
    ],
)
def test_exit_code_follows_from_the_status(changed: dict[str, object], code: int) -> None:
    assert exit_code_of({**FACTS, **changed}) == code
