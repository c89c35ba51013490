"""The parts of the daemon: its reports to systemd, Prometheus and users, and its memory."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from craftsync.core.model import Kind
from craftsync.daemon import health, metrics
from craftsync.daemon.hook import Hook, Notice
from craftsync.daemon.process import ServiceManager
from craftsync.daemon.status import Waiting
from craftsync.engine.report import ActionEvent, Issue, IssueEvent
from tests.support.cli import until
from tests.support.clock import FakeClock


@pytest.fixture
def listening(tmp_path: Path) -> socket.socket:
    line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    line.bind(str(tmp_path / "notify"))
    line.settimeout(60)
    return line


def test_systemd_notifications_go_to_notify_socket(listening: socket.socket) -> None:
    address = listening.getsockname()
    ServiceManager({"NOTIFY_SOCKET": address}).notify("READY=1", "STATUS=fine")
    assert listening.recv(100) == b"READY=1\nSTATUS=fine"
    listening.close()


def test_notify_socket_may_be_an_abstract_address() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(f"\0craftsync-test-{os.getpid()}")
        line.settimeout(60)
        ServiceManager({"NOTIFY_SOCKET": f"@craftsync-test-{os.getpid()}"}).notify("READY=1")
        assert line.recv(100) == b"READY=1"


def test_missing_or_dead_systemd_is_ignored(tmp_path: Path) -> None:
    ServiceManager({}).notify("READY=1")
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")}).notify("READY=1")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("STATUS=a\nSTOPPING=1", b"STATUS=a?STOPPING=1"),
        ("STATUS=a\0b", b"STATUS=a?b"),
        ("STATUS=na\udce9me", b"STATUS=na?me"),
        ("STATUS=" + "é" * 100_000, ("STATUS=" + "é" * 1993).encode()),
    ],
    ids=["a line break", "NUL", "no UTF-8", "too long"],
)
def test_systemd_status_is_always_one_valid_line(
    listening: socket.socket, text: str, line: bytes
) -> None:
    ServiceManager({"NOTIFY_SOCKET": listening.getsockname()}).notify(text)
    assert listening.recv(10_000) == line
    listening.close()


def test_systemd_that_does_not_read_does_not_block_the_daemon(listening: socket.socket) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": listening.getsockname()})
    for _ in range(10_000):
        manager.notify("WATCHDOG=1")
    listening.close()


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({}, None),
    ],
)
def test_systemd_watchdog_of_another_process_is_ignored(
    variables: dict[str, str], seconds: float | None
) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": "/run/nobody", **variables})
    assert manager.watchdog_seconds == seconds


HELD = IssueEvent(Issue.HELD, "a", "too many")
PROBLEM = IssueEvent(Issue.PROBLEM, "b", "unreadable")


def test_problems_stay_listed_until_a_complete_run_clears_them() -> None:
    waiting = Waiting()
    for event in (HELD, PROBLEM, IssueEvent(Issue.SKIPPED, "c", "busy")):
        waiting.note(event)
    assert waiting.run_ended(None) == [HELD, PROBLEM]
    assert waiting.run_ended({"elsewhere"}) == []
    assert waiting.first(10) == [HELD, PROBLEM]
    waiting.note(PROBLEM)
    assert waiting.run_ended(None) == []
    assert (waiting.count(Issue.HELD), waiting.count(Issue.PROBLEM)) == (0, 1)


def test_synced_paths_are_no_longer_listed_as_pending() -> None:
    waiting = Waiting()
    waiting.note(PROBLEM)
    waiting.run_ended(None)
    waiting.note(ActionEvent(Kind.UPLOAD, "b", 1, "done"))
    waiting.run_ended({"elsewhere"})
    assert waiting.first(10) == []


def test_problems_beyond_10000_are_counted_but_not_listed() -> None:
    waiting = Waiting()
    for number in range(20_000):
        waiting.note(IssueEvent(Issue.PROBLEM, str(number), "unreadable"))
    waiting.run_ended(None)
    assert waiting.count(Issue.PROBLEM) == 20_000
    assert len(waiting.first(20_000)) == 10_000


def notice(event: str) -> Notice:
    return Notice(event, "/root", "/store", "path", "reason", 1)


def test_notify_commands_run_one_by_one_and_hanging_ones_are_killed(tmp_path: Path) -> None:
    clock = FakeClock()
    program = (
        "import os, sys, time\n"
        "event = os.environ['CRAFTSYNC_NOTIFY_EVENT']\n"
        f"open(os.path.join({str(tmp_path)!r}, event), 'w').close()\n"
        "sys.stdin.read() if event == 'done' else time.sleep(3600)\n"
    )
    hook = Hook([sys.executable, "-c", program], clock)
    for event in ("hangs", "done"):
        hook.notify(notice(event))
    hook.tick()
    until((tmp_path / "hangs").exists, "the first call")
    hook.tick()
    assert not (tmp_path / "done").exists()
    clock.advance(31)
    hook.tick()
    until((tmp_path / "done").exists, "the second call")
    hook.close()


def test_killing_a_notify_command_kills_its_children(tmp_path: Path) -> None:
    clock, child = FakeClock(), tmp_path / "child"
    hook = Hook(
        ["/bin/sh", "-c", f"sleep 3600 & echo $! > {child}.new; mv {child}.new {child}; wait"],
        clock,
    )
    hook.notify(notice("hangs"))
    hook.tick()
    until(child.exists, "the call")
    state = Path(f"/proc/{child.read_text().strip()}/stat")
    assert state.exists()
    clock.advance(31)
    hook.tick()
    until(lambda: not state.exists() or ") Z " in state.read_text(), "the end of its child")
    hook.close()


@pytest.mark.parametrize(
    ("reason", "heard"),
    [("no \0 entry", "no � entry"), ("na\udce9me", "na?me"), ("x" * 200_000, "x" * 30_000)],
    ids=["NUL", "no UTF-8", "too long"],
)
def test_notify_reason_is_made_safe_for_an_environment_variable(
    tmp_path: Path, reason: str, heard: str
) -> None:
    file = tmp_path / "reason"
    hook = Hook(
        ["/bin/sh", "-c", f'echo "$CRAFTSYNC_NOTIFY_REASON" > {file}.new; mv {file}.new {file}'],
        FakeClock(),
    )
    hook.notify(Notice("halted", "/root", "/store", "", reason, 1))
    hook.tick()
    until(file.exists, "the call")
    hook.close()
    assert file.read_text() == f"{heard}\n"


def test_missing_notify_command_does_not_stop_the_daemon(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    hook = Hook([str(tmp_path / "none")], FakeClock())
    hook.notify(notice("held"))
    hook.tick()
    hook.close()
    assert "cannot start" in caplog.text


def status(**facts: Any) -> dict[str, Any]:
    totals = dict.fromkeys(
        ("uploaded", "downloaded", "bytes_uploaded", "bytes_downloaded", "errors"), 7
    )
    return {
        **{
            "state": "watching",
            "root": "/r",
            "store": "/s",
            "lag": 1.5,
            "pending": 0,
            "transfers_at_once": None,
        },
        **{"last_success_seconds": 1800000000.0, "conflicts": 0, "held": 0, "problems": 0},
        **{"watch": {"healthy": True, "reason": None}, "totals": totals},
        **facts,
    }


def test_metrics_file_is_valid_prometheus_text() -> None:
    text = metrics.rendered([status(), status(root='a"b\\c\nd', state="halted", lag=None)])
    assert 'craftsync_up{root="/r",store="/s"} 1\n' in text
    assert 'craftsync_up{root="a\\"b\\\\c\\nd",store="/s"} 0\n' in text
    assert 'craftsync_last_success_timestamp_seconds{root="/r",store="/s"} 1800000000\n' in text
    assert text.count("craftsync_lag_seconds{") == 1
    assert 'craftsync_state{root="/r",store="/s",state="watching"} 1\n' in text
    assert all(line.startswith(("#", "craftsync_")) for line in text.splitlines())


@pytest.mark.parametrize(
    ("state", "up"),
    [
        *(("watching", 1), ("scanning", 1), ("transferring", 1), ("paused", 1)),
        *(("offline", 0), ("halted", 0), ("stopped", 0)),
    ],
)
def test_metric_up_is_0_while_a_folder_cannot_be_synced(state: str, up: int) -> None:
    assert f'craftsync_up{{root="/r",store="/s"}} {up}\n' in metrics.rendered([status(state=state)])


def test_unknown_metrics_are_left_out() -> None:
    text = metrics.rendered([status(pending=None, watch={"healthy": None, "reason": None})])
    assert "craftsync_pending_paths{" not in text
    assert "craftsync_watch_healthy{" not in text


def test_metrics_file_is_replaced_atomically(tmp_path: Path) -> None:
    file = tmp_path / "node" / "craftsync.prom"
    for number in range(3):
        metrics.write(file, [status(pending=number)])
    assert 'craftsync_pending_paths{root="/r",store="/s"} 2' in file.read_text()
    assert [path.name for path in file.parent.iterdir()] == ["craftsync.prom"]


@contextmanager
def serving(
    *statuses: dict[str, Any], alive: bool = True, unready: Sequence[str] = ()
) -> Iterator[int]:
    checks = health.Health(lambda: alive, lambda: unready)
    server = health.Endpoint(("127.0.0.1", 0), lambda: statuses, checks)
    try:
        yield int(server.url.rpartition(":")[2].partition("/")[0])
    finally:
        server.close()


def fetched(port: int, path: str) -> tuple[int, str]:
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()


def samples_of(text: str) -> list[tuple[str, dict[str, str], float]]:
    families = text_string_to_metric_families(text)
    found = [(one.name, one.labels, one.value) for family in families for one in family.samples]
    return sorted(found, key=repr)


def test_metrics_file_and_http_endpoint_show_equal_figures() -> None:
    odd = status(root='a"b\\c\nd', store="na\udce9me", state="halted", lag=None, pending=None)
    with serving(status(), odd) as port:
        code, text = fetched(port, "/metrics")
    assert code == 200
    assert samples_of(text) == samples_of(metrics.rendered([status(), odd]))
    assert len(samples_of(text)) > 30


def test_healthz_fails_when_the_main_loop_hangs() -> None:
    with serving(alive=False) as port:
        assert fetched(port, "/healthz") == (503, "the main loop hangs\n")


def test_each_reason_for_not_being_ready_has_a_line() -> None:
    with serving(unready=["/a: halted", "/b: offline"]) as port:
        assert fetched(port, "/readyz") == (503, "/a: halted\n/b: offline\n")


def test_silent_clients_do_not_delay_other_clients() -> None:
    with serving(status()) as port, ExitStack() as silent:
        for _ in range(100):
            silent.enter_context(socket.create_connection(("127.0.0.1", port)))
        assert fetched(port, "/healthz") == (200, "ok\n")
