"""The control socket: who may connect, what it answers, and that no client can block it."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from craftsync.cli import cli
from craftsync.daemon.control import Control, Endpoint, Refused, ask, connect, folder_of
from craftsync.errors import CraftsyncError, LockedError, StateError, UsageError
from tests.support.clock import FakeClock

Connect = Callable[[], socket.socket]


def answer(request: Mapping[str, Any]) -> Any:
    if request.get("verb") == "fail":
        raise ZeroDivisionError("nobody foresaw this")
    if request.get("verb") != "status":
        raise Refused(f"unknown verb {request.get('verb')!r}")
    return {"state": "watching"}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def folder(tmp_path: Path, clock: FakeClock) -> Iterator[Path]:
    """Serve a linked folder in a thread."""
    folder = tmp_path / "control"
    endpoint, control = Endpoint(folder), Control(clock)
    waker, woken = socket.socketpair()
    woken.setblocking(False)
    control.add(endpoint.socket, answer)
    control.wake_by(woken)
    ended = threading.Event()

    def serve() -> None:
        while not ended.is_set():
            control.serve(60)

    thread = threading.Thread(target=serve)
    thread.start()
    yield folder
    ended.set()
    waker.send(b"\0")
    thread.join(60)
    control.close()
    endpoint.close()
    for end in (waker, woken):
        end.close()


@pytest.fixture
def connected(folder: Path) -> Iterator[Connect]:
    """Yield a function that connects; close its connections at the end."""
    opened: list[socket.socket] = []

    def dial() -> socket.socket:
        peer = connect(folder, 60)
        assert peer is not None
        opened.append(peer)
        return peer

    yield dial
    for peer in opened:
        peer.close()


def said(peer: socket.socket, line: bytes) -> dict[str, Any]:
    peer.sendall(line + b"\n")
    answered: dict[str, Any] = json.loads(peer.makefile("rb").readline())
    return answered


def test_control_socket_answers_a_request(folder: Path) -> None:
    assert ask(folder, "status") == {"state": "watching"}


def test_control_socket_is_private_to_its_owner_under_any_umask(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        endpoint = Endpoint(tmp_path / "control")
    finally:
        os.umask(previous)
    modes = [(tmp_path / name).stat().st_mode for name in ("control", "control/control")]
    endpoint.close()
    assert [stat.S_IMODE(mode) for mode in modes] == [0o700, 0o600]
    assert stat.S_ISSOCK(modes[1])


def test_control_socket_works_in_a_state_folder_with_long_path(tmp_path: Path) -> None:
    state = tmp_path / ("a" * 100) / ("b" * 100)
    endpoint = Endpoint(folder_of(state, "/root", "/store"))
    peer = connect(folder_of(state, "/root", "/store"), 10)
    assert peer is not None
    peer.close()
    endpoint.close()


def test_each_linked_folder_has_its_own_control_socket(tmp_path: Path) -> None:
    folders = {folder_of(tmp_path, root, "/store") for root in ("/one", "/two")}
    endpoints = [Endpoint(folder) for folder in folders]
    assert len(endpoints) == 2
    for endpoint in endpoints:
        endpoint.close()


def test_second_daemon_error_names_the_running_process(folder: Path) -> None:
    with pytest.raises(LockedError, match=rf"process {os.getpid()}\b"):
        Endpoint(folder)
    assert ask(folder, "status") == {"state": "watching"}


HOLD = """
import sys
from pathlib import Path
from craftsync.daemon.control import Endpoint
endpoint = Endpoint(Path(sys.argv[1]))
print("listening", flush=True)
sys.stdin.read()
"""


def test_socket_of_a_dead_process_is_replaced_only(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "control"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"listening\n"
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(LockedError, match=f"process {process.pid}"):
            Endpoint(folder)
        process.kill()
    assert (folder / "control").is_socket()
    assert connect(folder, 10) is None
    Endpoint(folder).close()


def test_control_request_without_a_daemon_returns_nothing(tmp_path: Path) -> None:
    assert ask(tmp_path / "none", "status") is None
    Endpoint(tmp_path / "control").close()
    assert ask(tmp_path / "control", "status") is None


def test_state_folder_that_cannot_hold_a_socket_gives_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError) as caught:
        Endpoint(tmp_path / "file" / "control")
    assert caught.value.remedy


def test_unknown_control_command_is_rejected(folder: Path) -> None:
    with pytest.raises(UsageError, match="unknown verb 'reboot'"):
        ask(folder, "reboot")


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"", "not JSON"),
        (b"hello", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 30_000, "not JSON"),
        (b'["status"]', "JSON object"),
        (b"{}", "unknown verb None"),
        (b'{"verb": ["status"]}', "unknown verb"),
    ],
)
def test_invalid_control_request_is_rejected_and_the_connection_kept(
    connected: Connect, line: bytes, error: str
) -> None:
    peer = connected()
    assert error in said(peer, line)["error"]
    assert said(peer, b'{"verb": "status"}') == {"answer": {"state": "watching"}}


def test_silent_control_client_is_disconnected_and_does_not_block_others(
    folder: Path, connected: Connect, clock: FakeClock
) -> None:
    silent = connected()
    silent.sendall(b'{"verb": ')
    assert ask(folder, "status") == {"state": "watching"}
    clock.advance(11)
    assert ask(folder, "status") == {"state": "watching"}
    assert silent.recv(1) == b""


def test_overlong_control_request_is_disconnected(folder: Path, connected: Connect) -> None:
    flooding = connected()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        for _ in range(100):
            flooding.sendall(bytes(1 << 20))
    assert ask(folder, "status") == {"state": "watching"}


def test_control_client_that_never_reads_does_not_block_others(
    folder: Path, connected: Connect
) -> None:
    deaf = connected()
    deaf.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            deaf.send(b'{"verb": "status"}\n' * 1000)
    assert ask(folder, "status") == {"state": "watching"}


def test_full_control_server_drops_an_old_client_for_a_new_one(
    folder: Path, connected: Connect
) -> None:
    crowd = [connected() for _ in range(100)]
    assert ask(folder, "status") == {"state": "watching"}
    assert crowd[0].recv(1) == b""


@pytest.mark.parametrize("response", [b"", b'{"answer": {"state": "wat'], ids=["none", "cut off"])
def test_request_is_sent_again_to_a_daemon_that_restarts(tmp_path: Path, response: bytes) -> None:
    folder = tmp_path / "control"
    before = Endpoint(folder)
    with ThreadPoolExecutor() as pool:
        answered = pool.submit(ask, folder, "status")
        before.socket.settimeout(60)
        peer, _ = before.socket.accept()
        # A socket that closes before it has read everything resets the connection.
        with peer.makefile("rb") as stream:
            assert json.loads(stream.readline()) == {"verb": "status"}
        peer.sendall(response)
        before.close()
        peer.close()
        after = Endpoint(folder)
        after.socket.settimeout(60)
        peer, _ = after.socket.accept()
        assert json.loads(peer.makefile("rb").readline()) == {"verb": "status"}
        peer.sendall(b'{"answer": {"state": "watching"}}\n')
        assert answered.result(60) == {"state": "watching"}
    peer.close()
    after.close()


def test_daemon_that_ends_while_asked_counts_as_ended(tmp_path: Path) -> None:
    folder = tmp_path / "control"
    endpoint = Endpoint(folder)
    with ThreadPoolExecutor() as pool:
        answered = pool.submit(ask, folder, "status")
        endpoint.socket.settimeout(60)
        peer, _ = endpoint.socket.accept()
        endpoint.close()
        peer.close()
        assert answered.result(60) is None


def test_daemon_that_always_hangs_up_gives_a_remedy(tmp_path: Path) -> None:
    folder = tmp_path / "control"
    endpoint = Endpoint(folder)
    endpoint.socket.settimeout(60)

    asked = threading.Event()

    def hang_up() -> None:
        while not asked.is_set():
            endpoint.socket.accept()[0].close()

    thread = threading.Thread(target=hang_up)
    thread.start()
    with pytest.raises(StateError, match="does not answer"):
        ask(folder, "status", within=0.1)
    asked.set()
    last = connect(folder, 60)
    assert last is not None
    last.close()
    thread.join(60)
    endpoint.close()


def test_response_is_sent_although_the_daemon_ends(tmp_path: Path, clock: FakeClock) -> None:
    endpoint, control = Endpoint(tmp_path / "control"), Control(clock)
    control.add(endpoint.socket, answer)
    peer = connect(tmp_path / "control", 60)
    assert peer is not None
    peer.sendall(b'{"verb": "status"}\n')
    for _ in ("accept", "receive", "handle"):
        control.serve(60)
    control.remove(endpoint.socket)
    control.close()
    assert json.loads(peer.makefile("rb").readline()) == {"answer": {"state": "watching"}}
    peer.close()
    endpoint.close()


def test_failed_control_request_reports_the_error_and_the_next_works(folder: Path) -> None:
    with pytest.raises(UsageError, match="the request failed: nobody foresaw this"):
        ask(folder, "fail")
    assert ask(folder, "status") == {"state": "watching"}


@pytest.mark.parametrize("command", ["pause", "resume", "rescan"])
def test_a_command_without_a_daemon_asks_for_one_once(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []
    monkeypatch.setattr(
        "craftsync.daemon.control.connect", lambda folder, timeout: asked.append(folder)
    )
    words = ["--state-dir", str(tmp_path), command, str(tmp_path / "root"), str(tmp_path / "store")]
    with pytest.raises(CraftsyncError, match="No daemon runs"):
        cli.main(words, standalone_mode=False)
    assert len(asked) == 1
