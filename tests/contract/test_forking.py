"""Programs that fork while they use a store: `multiprocessing`, a PyTorch DataLoader."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.s3.serving import fake_s3


def forks(address: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.support.forking", address],
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | environment,
    )


def test_forked_child_shares_no_s3_connection_lock_or_thread() -> None:
    with fake_s3("plain", "bucket") as (server, _):
        ended = forks(
            "s3://bucket",
            AWS_ENDPOINT_URL=server.endpoint,
            AWS_ACCESS_KEY_ID=server.access_key,
            AWS_SECRET_ACCESS_KEY=server.secret_key,
        )
    assert ended.returncode == 0, ended.stderr


def test_forked_child_shares_no_craft_ai_connection_lock_or_thread(
    platform_url: str,
) -> None:
    ended = forks(
        f"craft-ai+{platform_url}",
        CRAFT_AI_SDK_TOKEN="the token",
        CRAFT_AI_CONTROL_URL=platform_url,
    )
    assert ended.returncode == 0, ended.stderr


def test_forked_child_can_use_a_directory_store(tmp_path: Path) -> None:
    ended = forks(str(tmp_path / "store"))
    assert ended.returncode == 0, ended.stderr
