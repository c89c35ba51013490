"""The installed program is killed or fails at a few system calls; a short form of `make campaign`."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.injected.points import Point, writing_calls
from tests.injected.stores import STORES
from tests.injected.trial import Trial

SEED = 1


@pytest.fixture(scope="session")
def strace() -> None:
    """Skip where strace is not installed, or not permitted."""
    is_there = shutil.which("strace") is not None
    if not is_there or subprocess.run(["strace", "-o", "/dev/null", "true"], stderr=-3).returncode:
        pytest.skip("strace is not installed, or not permitted")


traced = pytest.mark.usefixtures("strace")


@pytest.fixture
def trial(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Trial]:
    with STORES[request.param](tmp_path) as opened:
        folder = tmp_path / "trial"
        folder.mkdir()
        yield Trial(folder, SEED, opened(folder))


with_directory, with_s3, with_serve = (
    pytest.mark.parametrize("trial", [name], indirect=True) for name in ("directory", "s3", "serve")
)


@traced
@with_directory
def test_killed_runs_over_a_directory_store_are_completed_by_the_next(trial: Trial) -> None:
    trial.change(conflict=True, large=True)
    assert trial.meet(Point.parse("renameat2:2:SIGKILL")).met
    assert trial.meet(Point.parse("pwrite64:40:SIGKILL")).met
    assert trial.heal() == 0
    trial.change(conflict=True, large=False)
    assert trial.meet(Point.parse("fdatasync:3:EIO")).met
    assert trial.heal() == 0


@traced
@with_s3
def test_killed_runs_over_s3_are_completed_by_the_next(trial: Trial) -> None:
    trial.change(conflict=True, large=True)
    assert trial.meet(Point.parse("sendto:2:SIGKILL")).met
    assert trial.meet(Point.parse("linkat:1:SIGKILL")).met
    # The kill may come after the start of a multipart upload and before its id is recorded.
    assert trial.heal() <= 1
    trial.change(conflict=True, large=False)
    assert trial.meet(Point.parse("openat2:1:EMFILE")).met
    assert trial.heal() <= 1


@traced
@with_serve
def test_a_run_killed_beside_the_platform_is_completed_by_the_next(trial: Trial) -> None:
    trial.change(conflict=True, large=False)
    assert trial.meet(Point.parse("sendto:9:SIGKILL")).met
    assert trial.heal() == 0


@with_directory
def test_a_run_killed_at_once_is_completed_by_the_next(trial: Trial) -> None:
    trial.change(conflict=True, large=False)
    assert trial.killed_after(0.001).met
    assert trial.heal() == 0


@traced
@with_s3
def test_exit_code_reports_a_failed_path(trial: Trial) -> None:
    trial.change(conflict=False, large=False)
    outcome = trial.meet(Point("fchmod", 1, "ENOMEM"))
    assert (outcome.met, outcome.code) == (True, 1)


LOG = """\
10    openat(AT_FDCWD</w>, "x"..., O_RDONLY) = 3</w/x>
11    openat(5</w/root>, "y"..., O_WRONLY|O_CREAT, 0600) = 6</w/root/y>
10    openat(5</w/root>, "z"..., O_WRONLY|O_CREAT, 0600 <unfinished ...>
11    write(1</dev/pts/0>, ""..., 3) = 3
11    write(6</w/root/y>, ""..., 3) = 3
10    <... openat resumed>) = 7</w/root/z>
10    sendto(8<TCP:[127.0.0.1:1->127.0.0.1:2]>, ""..., 9, 0, NULL, 0) = 9
10    sendto(9<NETLINK:[ROUTE:7]>, ""..., 9, 0, NULL, 0) = 9
"""


def test_calls_that_write_are_numbered_as_strace_counts_them_in_each_thread() -> None:
    assert writing_calls(LOG, "/w/root") == {"openat": [1, 2], "sendto": [1], "write": [2]}
