"""The parts of the daemon one by one: what it tells systemd, Prometheus and people, and what it remembers."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from craftsync.core.model import Kind
from craftsync.daemon import metrics
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


def test_systemd_is_told_on_the_socket_it_names(listening: socket.socket) -> None:
    address = listening.getsockname()
    ServiceManager({"NOTIFY_SOCKET": address}).tell("READY=1", "STATUS=fine")
    assert listening.recv(100) == b"READY=1\nSTATUS=fine"
    listening.close()


def test_an_address_without_a_file_is_one_too() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(f"\0craftsync-test-{os.getpid()}")
        line.settimeout(60)
        ServiceManager({"NOTIFY_SOCKET": f"@craftsync-test-{os.getpid()}"}).tell("READY=1")
        assert line.recv(100) == b"READY=1"


def test_without_systemd_or_when_it_has_gone_nobody_is_told(tmp_path: Path) -> None:
    ServiceManager({}).tell("READY=1")
    ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")}).tell("READY=1")


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
def test_whatever_a_status_contains_it_is_one_line_that_systemd_reads(
    listening: socket.socket, text: str, line: bytes
) -> None:
    ServiceManager({"NOTIFY_SOCKET": listening.getsockname()}).tell(text)
    assert listening.recv(10_000) == line
    listening.close()


def test_a_manager_that_does_not_read_holds_up_nobody(listening: socket.socket) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": listening.getsockname()})
    for _ in range(10_000):
        manager.tell("WATCHDOG=1")
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
def test_the_watchdog_is_for_the_process_it_is_meant_for(
    variables: dict[str, str], seconds: float | None
) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": "/run/nobody", **variables})
    assert manager.watchdog_seconds == seconds


HELD = IssueEvent(Issue.HELD, "a", "too many")
PROBLEM = IssueEvent(Issue.PROBLEM, "b", "unreadable")


def test_what_a_pass_says_holds_until_one_over_everything_says_otherwise() -> None:
    waiting = Waiting()
    for event in (HELD, PROBLEM, IssueEvent(Issue.SKIPPED, "c", "busy")):
        waiting.note(event)
    assert waiting.run_ended(None) == [HELD, PROBLEM]
    assert waiting.run_ended({"elsewhere"}) == []
    assert waiting.first(10) == [HELD, PROBLEM]
    waiting.note(PROBLEM)
    assert waiting.run_ended(None) == []
    assert (waiting.count(Issue.HELD), waiting.count(Issue.PROBLEM)) == (0, 1)


def test_what_was_done_waits_no_more() -> None:
    waiting = Waiting()
    waiting.note(PROBLEM)
    waiting.run_ended(None)
    waiting.note(ActionEvent(Kind.UPLOAD, "b", 1, "done"))
    waiting.run_ended({"elsewhere"})
    assert waiting.first(10) == []


def test_a_million_problems_are_counted_and_not_kept() -> None:
    waiting = Waiting()
    for number in range(20_000):
        waiting.note(IssueEvent(Issue.PROBLEM, str(number), "unreadable"))
    waiting.run_ended(None)
    assert waiting.count(Issue.PROBLEM) == 20_000
    assert len(waiting.first(20_000)) == 10_000


def notice(event: str) -> Notice:
    return Notice(event, "/root", "/store", "path", "reason", 1)


def test_one_call_after_the_other_and_one_that_hangs_is_ended(tmp_path: Path) -> None:
    clock = FakeClock()
    program = (
        "import os, sys, time\n"
        "event = os.environ['CRAFTSYNC_NOTIFY_EVENT']\n"
        f"open(os.path.join({str(tmp_path)!r}, event), 'w').close()\n"
        "sys.stdin.read() if event == 'done' else time.sleep(3600)\n"
    )
    hook = Hook([sys.executable, "-c", program], clock)
    for event in ("hangs", "done"):
        hook.tell(notice(event))
    hook.tick()
    until((tmp_path / "hangs").exists, "the first call")
    hook.tick()
    assert not (tmp_path / "done").exists()
    clock.advance(31)
    hook.tick()
    until((tmp_path / "done").exists, "the second call")
    hook.close()


def test_what_a_command_that_hangs_has_started_is_ended_with_it(tmp_path: Path) -> None:
    clock, child = FakeClock(), tmp_path / "child"
    hook = Hook(
        ["/bin/sh", "-c", f"sleep 3600 & echo $! > {child}.new; mv {child}.new {child}; wait"],
        clock,
    )
    hook.tell(notice("hangs"))
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
def test_a_command_of_notify_gets_any_reason_in_a_form_a_variable_can_hold(
    tmp_path: Path, reason: str, heard: str
) -> None:
    file = tmp_path / "reason"
    hook = Hook(
        ["/bin/sh", "-c", f'echo "$CRAFTSYNC_NOTIFY_REASON" > {file}.new; mv {file}.new {file}'],
        FakeClock(),
    )
    hook.tell(Notice("halted", "/root", "/store", "", reason, 1))
    hook.tick()
    until(file.exists, "the call")
    hook.close()
    assert file.read_text() == f"{heard}\n"


def test_a_command_that_is_not_there_is_no_reason_to_end(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    hook = Hook([str(tmp_path / "none")], FakeClock())
    hook.tell(notice("held"))
    hook.tick()
    hook.close()
    assert "cannot be started" in caplog.text


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


def test_figures_are_written_as_prometheus_reads_them() -> None:
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
def test_up_is_0_while_a_folder_cannot_be_synced(state: str, up: int) -> None:
    assert f'craftsync_up{{root="/r",store="/s"}} {up}\n' in metrics.rendered([status(state=state)])


def test_figures_that_are_not_known_are_left_out() -> None:
    text = metrics.rendered([status(pending=None, watch={"healthy": None, "reason": None})])
    assert "craftsync_pending_paths{" not in text
    assert "craftsync_watch_healthy{" not in text


def test_a_reader_finds_the_old_figures_or_the_new_ones(tmp_path: Path) -> None:
    file = tmp_path / "node" / "craftsync.prom"
    for number in range(3):
        metrics.write(file, [status(pending=number)])
    assert 'craftsync_pending_paths{root="/r",store="/s"} 2' in file.read_text()
    assert [path.name for path in file.parent.iterdir()] == ["craftsync.prom"]
