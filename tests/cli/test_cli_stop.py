"""A stop while the store is silent or turns every request away: what waits is given up."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support.fake_s3 import Answer, Request, error, scripted

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
