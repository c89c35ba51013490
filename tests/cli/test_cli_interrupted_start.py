"""Ctrl-C while the program is still being loaded."""

from __future__ import annotations

import signal
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.support.cli import DEADLINE, Craftsync

PROJECT = Path(__file__).parents[2]
WAITS = """
import os
os.write(1, b"loading\\n")
os.read(0, 1)
"""


def test_ctrl_c_while_modules_are_loaded_ends_without_a_traceback(craftsync: Craftsync) -> None:
    craftsync.write("modules/click.py", WAITS)
    process = subprocess.Popen(
        [sys.executable, "-m", "craftsync", "--version"],
        env=craftsync.environment | {"PYTHONPATH": str(craftsync.folder / "modules")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"loading\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, err) == (-signal.SIGINT, b"")


def test_the_installed_program_starts_as_the_module_does() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"craftsync": "craftsync.__main__:main"}


def test_hardly_a_module_is_loaded_before_ctrl_c_works() -> None:
    program = "import sys; before = {*sys.modules}; import craftsync.__main__; print(*{*sys.modules} - before)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True
    )
    assert "typing" not in done.stdout.split()
