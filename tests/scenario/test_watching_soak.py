"""The daemon is left alone with everything that goes wrong; in short what `python -m benchmarks.soak` does for an hour."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent.parent


@pytest.mark.campaign
def test_soak_with_faults_and_kills_loses_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    soak = [sys.executable, "-m", "benchmarks.soak", "--minutes", "0.4", "--kill-every", "7"]
    run = subprocess.run(
        [*soak, "--folder", str(tmp_path)], cwd=PROJECT, capture_output=True, text=True, timeout=500
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "kills, operations" in run.stdout
