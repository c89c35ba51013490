"""A few power cuts on real filesystems; a short form of `make campaign`."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.powercuts.__main__ import NOT_HERE
from tests.support.cli import DEADLINE

SESSIONS = {"ext4": 3, "xfs": 2}
"""Numbers of sessions, one with each filesystem."""


@pytest.mark.parametrize("session", SESSIONS.values(), ids=SESSIONS)
def test_next_run_recovers_from_a_power_cut(session: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.powercuts", "--seed", "1", "--session", str(session)],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    if done.returncode == NOT_HERE:
        pytest.skip(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^[1-9]\d* power cuts survived", done.stdout, re.MULTILINE), done.stdout
