"""A store that does not answer, or turns every request away: who waits for it is told so after some seconds."""

from __future__ import annotations

import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from queue import SimpleQueue
from subprocess import PIPE

import pytest

from craftsync import progress
from craftsync.engine.report import ProgressEvent
from craftsync.progress import NotebookDisplay, WaitLines
from tests.support.cli import DEADLINE, Craftsync, Process
from tests.support.fake_s3 import Answer, Request, error, proxied, scripted
from tests.support.notebooks import executed
from tests.support.s3 import fake_s3
from tests.support.terminal import lines_shown, on_a_terminal

NOTEBOOK = """
import threading, IPython.display, craftsync

seen, waiting = [], threading.Event()
update = IPython.display.DisplayHandle.update

def updated(handle, display):
    update(handle, display)
    if "waiting" in repr(display):
        seen.append(repr(display))
        waiting.set()

IPython.display.DisplayHandle.update = updated
run = threading.Thread(target=craftsync.push, args=("root-1", "s3://bucket"), daemon=True)
run.start()
assert waiting.wait(60)
print(seen[0])
"""
KEYS = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
COMMANDS = [
    "push root-1 s3://bucket",
    "sync root-2 s3://bucket --json --log-file log",
    "migrate ./root-3 s3://bucket",
    "doctor s3://bucket",
    "ls s3://bucket",
    "find s3://bucket",
    "cp ./root-3/a s3://bucket/a --store s3://bucket",
]


@pytest.fixture
def silent() -> Iterator[str]:
    """Return the address of a server that accepts every connection and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def roots(craftsync: Craftsync) -> None:
    """Make folders, for no two runs can be at work on one."""
    for number in (1, 2, 3):
        craftsync.write(f"root-{number}/a")


@pytest.mark.usefixtures("roots")
def test_every_command_says_once_that_a_store_does_not_answer(
    silent: str, craftsync: Craftsync
) -> None:
    variables = KEYS | {"AWS_ENDPOINT_URL": f"http://{silent}"}
    with ExitStack() as stack:
        running = {}
        for command in [*COMMANDS, "push -q root-3 s3://bucket"]:
            process = craftsync.started(*command.split(), stdout=PIPE, stderr=PIPE, **variables)
            stack.callback(process.kill)
            running[command] = process
        for command in COMMANDS:
            line = _line(running[command])
            assert line.startswith(f"Waiting for s3://bucket at {silent} ("), command
            assert line.endswith(" s): the store does not answer.\n"), command
        assert "waiting for s3://bucket" in (craftsync.folder / "log").read_text()
        for command, process in running.items():
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=DEADLINE)
            assert process.returncode == 130, command
            assert b"aiting for" not in out + err, command


@pytest.mark.usefixtures("roots")
def test_store_that_turns_every_request_away_is_reported(craftsync: Craftsync) -> None:
    def script(_: Request) -> Answer:
        return error(503, "SlowDown", ("Retry-After", "60"))

    with scripted(script) as (server, _), ExitStack() as stack:
        variables = KEYS | {"AWS_ENDPOINT_URL": server.endpoint}
        running = []
        for words in ("push root-1 s3://bucket", "ls s3://bucket"):
            process = craftsync.started(*words.split(), stdout=PIPE, stderr=PIPE, **variables)
            stack.callback(process.kill)
            running.append(process)
        address = server.endpoint.removeprefix("http://")
        for process in running:
            line = _line(process)
            assert line.startswith(f"Waiting for s3://bucket at {address} ("), line
            assert line.endswith(" s): s3://bucket answered 503 SlowDown.\n"), line
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=DEADLINE)
            assert process.returncode == 130


@pytest.mark.usefixtures("roots")
def test_progress_line_shows_the_wait_until_the_store_answers(craftsync: Craftsync) -> None:
    over = threading.Event()

    def script(_: Request) -> None:
        assert over.wait(DEADLINE)

    with fake_s3("plain", "bucket") as (behind, _), proxied(behind, script) as (server, _):
        craftsync.environment |= server.variables
        with on_a_terminal(craftsync, 80, "push", "root-1", "s3://bucket") as terminal:
            try:
                terminal.until("waiting for s3://bucket at 127.0.0.1:")
                terminal.until(" s): the store does not answer")
            finally:
                over.set()
            assert terminal.end() == 0, terminal.sent
    assert not any("aiting" in line for line in lines_shown(terminal.sent))
    assert "push: 1 uploaded" in terminal.sent


@pytest.mark.usefixtures("roots")
def test_python_shows_on_a_terminal_which_store_it_waits_for(
    silent: str, craftsync: Craftsync
) -> None:
    craftsync.environment |= KEYS | {"AWS_ENDPOINT_URL": f"http://{silent}"}
    program = [sys.executable, "-c", "import craftsync; craftsync.push('root-1', 's3://bucket')"]
    with on_a_terminal(craftsync, 120, program=program) as terminal:
        terminal.until(f"waiting for s3://bucket at {silent} (")
        terminal.until(" s): the store does not answer")


@pytest.mark.usefixtures("roots")
def test_notebook_shows_which_store_it_waits_for(silent: str, craftsync: Craftsync) -> None:
    variables = KEYS | {"AWS_ENDPOINT_URL": f"http://{silent}", "AWS_REGION": "us-east-1"}
    (cell,) = executed([NOTEBOOK], craftsync.folder, craftsync.environment | variables)
    (seen,) = (output["text"] for output in cell["outputs"] if output["output_type"] == "stream")
    assert seen.startswith(f"push: waiting for s3://bucket at {silent} (")
    assert "answer" in seen


def test_notebook_shows_each_wait_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: SimpleQueue[str] = SimpleQueue()

    class Handle:
        def update(self, shown: NotebookDisplay) -> None:
            seen.put(repr(shown))

    def until(text: str) -> None:
        while text not in seen.get(timeout=DEADLINE):
            pass

    ipython = pytest.importorskip("IPython.display")
    monkeypatch.setattr(ipython, "display", lambda *_, **__: Handle())
    monkeypatch.setattr(progress, "_LOOK_SECONDS", 0.001)
    waiting: str | None = None
    display = NotebookDisplay("push", lambda: waiting)
    try:
        for wait in ("waiting (10 s)", "waiting (11 s)"):
            waiting = wait
            until(wait)
            display.show(ProgressEvent("transferring", 1, 2))
            waiting = None
            until("push: transferring 1 of 2 files")
    finally:
        display.stop()


def test_wait_is_printed_once() -> None:
    found, is_said = iter([None, None, "waiting (1 s)", "waiting (2 s)"]), threading.Event()
    said: list[str] = []

    class Hasty(WaitLines):
        _LOOK_SECONDS, _AGAIN_SECONDS = 0.0, DEADLINE

    def say(line: str) -> None:
        said.append(line)
        is_said.set()

    with Hasty(lambda: next(found), say):
        assert is_said.wait(DEADLINE)
    assert said == ["waiting (1 s)"]


def _line(process: Process) -> str:
    """Return the next line on stderr."""
    assert process.stderr is not None
    return process.stderr.readline().decode()
