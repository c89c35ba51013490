"""A stop while the store is silent or turns every request away: what waits is given up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE

import pytest

from tests.support import calls
from tests.support.cli import started
from tests.support.fake_s3 import Answer, Request, error, proxied, scripted
from tests.support.platform import faulty_platform
from tests.support.s3.serving import fake_s3

GUARD_SECONDS = 45
"""Well below the minutes that a silent store or its Retry-After would be waited for."""


@pytest.mark.parametrize("store_is", ["silent", "turning requests away"])
def test_a_stop_ends_a_push_whose_store_does_not_answer(store_is: str, tmp_path: Path) -> None:
    _root(tmp_path, large=0)
    asked, over = threading.Event(), threading.Event()

    def script(request: Request) -> Answer:
        return _held(store_is, asked, over)

    with scripted(script) as (server, _):
        where = {
            "AWS_ENDPOINT_URL": server.endpoint,
            "AWS_ACCESS_KEY_ID": "k",
            "AWS_SECRET_ACCESS_KEY": "s",
        }
        words = ["push", "-q", "root", "s3://bucket"]
        code, _messages = _stopped(words, where, tmp_path, signal.SIGTERM, asked, over)
    assert code == 143


@pytest.mark.parametrize(
    ("command", "waits_for", "store_is", "stop"),
    [
        ("push", "an upload", "silent", signal.SIGTERM),
        ("push", "an upload", "turning requests away", signal.SIGINT),
        ("push", "a part", "silent", signal.SIGINT),
        ("push", "a listing", "silent", signal.SIGTERM),
        ("push", "a try of its conditions", "silent", signal.SIGTERM),
        ("watch", "an upload", "silent", signal.SIGTERM),
        ("migrate", "an upload", "silent", signal.SIGTERM),
        ("migrate", "an upload", "turning requests away", signal.SIGTERM),
        ("migrate", "a part", "silent", signal.SIGTERM),
        ("check", "a listing", "silent", signal.SIGTERM),
        ("put", "a part", "silent", signal.SIGINT),
        ("doctor", "a probe", "silent", signal.SIGTERM),
    ],
)
def test_stop_ends_every_wait_for_the_store(
    command: str, store_is: str, waits_for: str, stop: signal.Signals, tmp_path: Path
) -> None:
    root = _root(tmp_path, large=20 if waits_for == "a part" else 0)
    asked, over = threading.Event(), threading.Event()

    def script(request: Request) -> Answer | None:
        return _held(store_is, asked, over) if _IS[waits_for](request) else None

    with fake_s3("plain", "bucket") as (behind, _), proxied(behind, script) as (server, _):
        words = [command, str(root), "s3://bucket"]
        if command == "put":
            words = ["put", str(root / "large"), "s3://bucket", "large"]
        if command == "doctor":
            words = ["doctor", "s3://bucket"]
        where = {
            "AWS_ENDPOINT_URL": server.endpoint,
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
        }
        code, messages = _stopped(words, where, tmp_path, stop, asked, over)
    assert code == (0 if command == "watch" else 128 + stop)
    assert "Traceback" not in messages


@pytest.mark.parametrize("endpoint", ["refresh", "list", "form", "part", "information"])
def test_a_stop_ends_a_push_to_a_platform_that_does_not_answer(
    endpoint: str, tmp_path: Path
) -> None:
    root = _root(tmp_path, large=20 if endpoint == "part" else 0)
    asked, over = threading.Event(), threading.Event()

    def silent(request: object, proceed: object) -> None:
        asked.set()
        over.wait(2 * GUARD_SECONDS)

    with faulty_platform() as platform:
        platform.inject(endpoint, silent, times=1000)
        where = {
            "CRAFT_AI_SDK_TOKEN": platform.token,
            "CRAFT_AI_ENVIRONMENT_URL": platform.url,
            "CRAFT_AI_CONTROL_URL": platform.url,
        }
        words = ["push", str(root), "craft-ai://"]
        code, messages = _stopped(words, where, tmp_path, signal.SIGTERM, asked, over)
    assert code == 128 + signal.SIGTERM
    assert "Traceback" not in messages


def test_stop_during_garbage_collection_is_not_lost(tmp_path: Path) -> None:
    program = """
import signal, threading, click
from craftsync.cli import terminal

class Freed:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)

@click.command()
def command():
    Freed()
    threading.Event().wait(%d)

raise SystemExit(terminal.run(command, []))
"""
    done = subprocess.run(
        [sys.executable, "-c", program % GUARD_SECONDS], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.strip()) == (128 + signal.SIGTERM, "")


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("at", ["taking a lock", "starting a thread"])
def test_stop_leaves_no_lock_taken_and_no_thread_unknown(at: str, stop: signal.Signals) -> None:
    program = """
import signal, sys, threading, click
from concurrent.futures import ThreadPoolExecutor
from craftsync.cli import terminal

number, at, seconds = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])

class Lock:
    def __init__(self):
        self.inner = threading.Lock()
        self.acquire, self.release = self.inner.acquire, self.inner.release
    def __enter__(self):
        self.inner.acquire()
        signal.raise_signal(number)
    def __exit__(self, *error):
        self.inner.release()

class Starting(threading.Thread):
    def start(self):
        super().start()
        signal.raise_signal(number)

@click.command()
def command():
    lock, pool = Lock(), ThreadPoolExecutor(1)
    try:
        if at == "taking a lock":
            with threading.Condition(lock):
                pass
        else:
            threading.Thread = Starting
            pool.submit(int)
        threading.Event().wait(seconds)
    finally:
        print(lock.inner.locked(), len(pool._threads))

raise SystemExit(terminal.run(command, []))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(int(stop)), at, str(GUARD_SECONDS)],
        capture_output=True,
        text=True,
        check=False,
    )
    threads = int(at == "starting a thread")
    assert (done.returncode, done.stdout) == (128 + stop, f"False {threads}\n"), done.stderr


def test_stop_received_by_another_thread_ends_the_wait() -> None:
    """As one that arrives just before the main thread waits: Python notes it, and the wait goes on."""
    program = """
import signal, sys, threading, click
from craftsync.cli import terminal

# A thread keeps the others from running until it waits.
sys.setswitchinterval(1000)
begun = threading.Event()

def stop():
    begun.wait()
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

@click.command()
def command():
    threading.Thread(target=stop, daemon=True).start()
    begun.set()
    threading.Event().wait()

raise SystemExit(terminal.run(command, []))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=GUARD_SECONDS,
    )
    assert (done.returncode, done.stderr.strip()) == (128 + signal.SIGTERM, "")


def test_stop_while_a_thread_starts_ends_the_push(tmp_path: Path) -> None:
    """Nobody knows of a thread whose start was cut off, and the process waits for it at its end."""
    _root(tmp_path, large=0)
    program = """
import signal, sys, threading
from craftsync.__main__ import main

start = threading.Thread.start

def start_and_stop(thread):
    start(thread)
    if thread.name.startswith("identity"):
        signal.raise_signal(signal.SIGTERM)

threading.Thread.start = start_and_stop
sys.argv[1:] = ["push", "-q", "root", "s3://bucket"]
main()
"""
    asked, over = threading.Event(), threading.Event()
    with scripted(lambda request: _held("silent", asked, over)) as (server, _):
        where = {
            "AWS_ENDPOINT_URL": server.endpoint,
            "AWS_ACCESS_KEY_ID": "k",
            "AWS_SECRET_ACCESS_KEY": "s",
            "CRAFTSYNC_STATE_DIR": str(tmp_path / "state"),
        }
        try:
            done = subprocess.run(
                [sys.executable, "-c", program],
                cwd=tmp_path,
                env=os.environ | where,
                timeout=GUARD_SECONDS,
                check=False,
            )
        finally:
            over.set()
    assert done.returncode == 128 + signal.SIGTERM


def _held(store_is: str, asked: threading.Event, over: threading.Event) -> Answer:
    """Answer late, or with a refusal."""
    asked.set()
    if store_is == "silent":
        over.wait(2 * GUARD_SECONDS)
    return error(503, "SlowDown", ("Retry-After", "60"))


def _root(folder: Path, *, large: int) -> Path:
    """Make a folder of eight small files, and one of so many MiB."""
    root = folder / "root"
    root.mkdir()
    for number in range(8):
        (root / f"f{number}").write_bytes(b"x")
    if large:
        (root / "large").touch()
        os.truncate(root / "large", large << 20)
    return root


def _stopped(
    words: list[str],
    where: dict[str, str],
    folder: Path,
    stop: signal.Signals,
    asked: threading.Event,
    over: threading.Event,
) -> tuple[int, str]:
    """Run craftsync until the store was asked and stop it; return the exit code and the messages.

    It has to end before the store answers, which it does once `over` is set.
    """
    state = {"CRAFTSYNC_STATE_DIR": str(folder / "state")}
    environment = calls.forking(os.environ) | where | state
    with started(words, folder, environment, stderr=PIPE) as running:
        try:
            assert asked.wait(GUARD_SECONDS)
            running.send_signal(stop)
            _, messages = running.communicate(timeout=GUARD_SECONDS)
        finally:
            over.set()
            running.kill()
    return running.wait(), messages.decode()


_IS: dict[str, Callable[[Request], bool]] = {
    "an upload": lambda request: request.method == "PUT" and "/f" in request.target,
    "a part": lambda request: "partNumber" in request.query,
    "a probe": lambda request: "/probe/doctor-" in request.target,
    "a listing": lambda request: "list-type" in request.query,
    "a try of its conditions": lambda request: "if-match" in request.headers,
}
