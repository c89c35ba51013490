"""The installed program dies, or an error meets it, at a few of its system calls; a short form of `make campaign`."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.injected.points import Point, in_turns, writing_calls
from tests.injected.trial import Trial
from tests.support.s3 import FakeS3, fake_s3
from tests.support.servers import S3Server

SEED = 1


def may_trace() -> bool:
    """Tell whether strace is there, and may be used here."""
    if shutil.which("strace") is None:
        return False
    return (
        subprocess.run(["strace", "-o", "/dev/null", "true"], stderr=-3, check=False).returncode
        == 0
    )


traced = pytest.mark.skipif(not may_trace(), reason="strace is not there, or not allowed")


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[S3Server, FakeS3]]:
    with fake_s3() as both:
        yield both


@traced
@pytest.mark.parametrize("point", ["renameat2:2:SIGKILL", "pwrite64:40:SIGKILL", "fdatasync:3:EIO"])
def test_a_run_with_a_directory_store_is_healed(tmp_path: Path, point: str) -> None:
    assert Trial(tmp_path / "trial", SEED).meet(Point.parse(point)).met


@traced
@pytest.mark.parametrize("point", ["linkat:1:SIGKILL", "sendto:2:SIGKILL", "openat2:1:EMFILE"])
def test_a_run_with_s3_is_healed(
    tmp_path: Path, point: str, served: tuple[S3Server, FakeS3]
) -> None:
    folder = tmp_path / point.replace(":", "-").lower()
    assert Trial(folder, SEED, served).meet(Point.parse(point)).met


@traced
def test_a_path_that_failed_is_in_the_exit_code(
    tmp_path: Path, served: tuple[S3Server, FakeS3]
) -> None:
    trial = Trial(tmp_path / "no-conflict", SEED, served, conflict=False)
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


def test_the_kinds_of_calls_take_turns_and_every_point_comes_once() -> None:
    points = list(in_turns({"fsync": [1, 2, 3], "linkat": [4]}, Random(1), kills=True))
    assert [point.kind for point in points] == ["fsync", "linkat", "fsync", "fsync"]
    assert {str(point) for point in points} == {
        *("fsync:1:SIGKILL", "fsync:2:SIGKILL", "fsync:3:SIGKILL", "linkat:4:SIGKILL")
    }
