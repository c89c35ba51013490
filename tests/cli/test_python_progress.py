"""Progress of the Python functions: on a terminal and in a notebook, and nowhere else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Craftsync
from tests.support.notebooks import executed
from tests.support.terminal import on_a_terminal

PUSH = "import craftsync; print(craftsync.push('root', './store'{}).uploaded, 'uploaded')"
NO_PROGRESS = ", progress=False"


@pytest.fixture
def root(craftsync: Craftsync) -> Path:
    (craftsync.folder / "root").mkdir()
    for name in ("a.bin", "b.bin"):
        (craftsync.folder / "root" / name).write_bytes(name.encode() * 1000)
    return craftsync.folder / "root"


@pytest.mark.parametrize("option", ["", NO_PROGRESS])
def test_progress_is_one_line_of_a_terminal_while_a_run_lasts(
    option: str, craftsync: Craftsync, root: Path
) -> None:
    program = [sys.executable, "-c", PUSH.format(option)]
    with on_a_terminal(craftsync, 120, program=program) as terminal:
        assert terminal.end() == 0, terminal.sent
    assert ("2/2 files" in terminal.sent) is (not option)
    in_the_end = terminal.sent.rpartition("\x1b[2K")[2]
    assert in_the_end == "2 uploaded\r\n"


def test_no_progress_where_output_is_not_a_terminal(craftsync: Craftsync, root: Path) -> None:
    probe = f"{PUSH.format('')}; import sys; assert 'rich' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", probe],
        cwd=craftsync.folder,
        env=craftsync.environment,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert (done.stdout, done.stderr) == (b"2 uploaded\n", b"")


def html_of(cell: dict[str, Any]) -> list[str]:
    return [output["data"]["text/html"] for output in cell["outputs"]]


def test_notebook_shows_one_display_that_updates_and_the_report(
    craftsync: Craftsync, root: Path
) -> None:
    (root / "<b>").symlink_to("a.bin")
    cells = [
        "import craftsync; report = craftsync.push('root', './store')",
        "report",
        "craftsync.pull('copy', './store', progress=False).downloaded",
    ]
    pushed, shown, pulled = executed(cells, craftsync.folder, craftsync.environment)
    (progress,) = html_of(pushed)
    assert progress == "<span>push: 2 of 2 files, 9.8 KiB of 9.8 KiB</span>"
    (table,) = html_of(shown)
    assert "<td>uploaded</td><td>2</td>" in table
    assert [output["data"] for output in pulled["outputs"]] == [{"text/plain": "2"}]
