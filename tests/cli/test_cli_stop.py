"""A stop while the store is silent or turns every request away: what waits is given up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.fake_s3 import Answer, Request, error, proxied, scripted
from tests.support.s3.serving import fake_s3

GUARD_SECONDS = 45
"""Well below the minutes that a silent store or its Retry-After would be waited for."""


@pytest.mark.parametrize("store_is", ["silent", "turning requests away"])
def test_a_stop_ends_a_push_whose_store_does_not_answer(store_is: str, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    for number in range(8):
        (tmp_path / "root" / f"f{number}").write_bytes(b"x")
    asked, over = threading.Event(), threading.Event()

    def script(request: Request) -> Answer:
        asked.set()
        if store_is == "silent":
            over.wait(2 * GUARD_SECONDS)
        return error(503, "SlowDown", ("Retry-After", "60"))

    with scripted(script) as (server, _):
        command = [sys.executable, "-m", "craftsync", "push", "-q", "root", "s3://bucket"]
        keys = {"AWS_ENDPOINT_URL": server.endpoint, "AWS_ACCESS_KEY_ID": "k"}
        env = os.environ | keys | {"AWS_SECRET_ACCESS_KEY": "s", "CRAFTSYNC_STATE_DIR": "state"}
        with subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.PIPE) as running:
            try:
                assert asked.wait(GUARD_SECONDS)
                running.terminate()
                assert running.wait(GUARD_SECONDS) == 143
            finally:
                over.set()
                running.kill()


@pytest.mark.parametrize(
    ("command", "waits_for", "store_is", "stop"),
    [
        ("push", "an upload", "silent", signal.SIGTERM),
        ("push", "an upload", "turning requests away", signal.SIGINT),
        ("push", "a listing", "silent", signal.SIGTERM),
        ("watch", "an upload", "silent", signal.SIGTERM),
        ("migrate", "an upload", "turning requests away", signal.SIGTERM),
        ("check", "a listing", "silent", signal.SIGTERM),
    ],
)
def test_a_stop_ends_whatever_waits_for_the_store(
    command: str, store_is: str, waits_for: str, stop: signal.Signals, tmp_path: Path
) -> None:
    (tmp_path / "root").mkdir()
    for number in range(8):
        (tmp_path / "root" / f"f{number}").write_bytes(b"x")
    asked, over = threading.Event(), threading.Event()

    def script(request: Request) -> Answer | None:
        if not _IS[waits_for](request):
            return None
        asked.set()
        if store_is == "silent":
            over.wait(2 * GUARD_SECONDS)
        return error(503, "SlowDown", ("Retry-After", "60"))

    with fake_s3("plain", "bucket") as (behind, _), proxied(behind, script) as (server, _):
        words = [sys.executable, "-m", "craftsync", command, str(tmp_path / "root"), "s3://bucket"]
        env = {
            **os.environ,
            "AWS_ENDPOINT_URL": server.endpoint,
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
            "CRAFTSYNC_STATE_DIR": str(tmp_path / "state"),
        }
        with subprocess.Popen(words, cwd=tmp_path, env=env, stderr=subprocess.PIPE) as running:
            try:
                assert asked.wait(GUARD_SECONDS)
                running.send_signal(stop)
                _, messages = running.communicate(timeout=GUARD_SECONDS)
            finally:
                over.set()
                running.kill()
    assert running.returncode == (0 if command == "watch" else 128 + stop)
    assert b"Traceback" not in messages


_IS: dict[str, Callable[[Request], bool]] = {
    "an upload": lambda request: request.method == "PUT" and "/f" in request.target,
    "a listing": lambda request: "list-type" in request.query,
}
