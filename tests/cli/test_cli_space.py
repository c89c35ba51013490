"""Free space: what does not fit is not begun, and a reserve stays free for everybody else."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Craftsync

pytestmark = pytest.mark.on_disk

MEGABYTE = 1000**2
FULL = "Not enough space on the disk"


@pytest.fixture
def full(craftsync: Craftsync) -> Craftsync:
    """A folder and a store in sync on a disk of which nothing more may be used."""
    craftsync.write("root/a", "a")
    assert craftsync("sync", "root", "./store").code == 0
    craftsync.config.write_text("reserve: 100000T\n")
    return craftsync


@pytest.fixture
def disk(craftsync: Craftsync) -> Iterator[Path]:
    """A file system of 20 MB, mounted in the folder of the test."""
    place = craftsync.folder / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", place], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def free(disk: Path) -> int:
    status = os.statvfs(disk)
    return status.f_bavail * status.f_frsize


def large(file: Path, megabytes: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(os.urandom(megabytes * MEGABYTE))


def temporaries(folder: Path) -> list[str]:
    place = folder / ".craftsync/tmp"
    return sorted(os.listdir(place)) if place.is_dir() else []


def test_a_download_that_does_not_fit_is_a_problem_of_its_path(full: Craftsync) -> None:
    full.write("store/b", "b")
    run = full("sync", "root", "./store")
    assert (run.code, full.files("root")) == (1, {"a": "a"})
    assert FULL in run.err + run.text
    assert temporaries(full.folder / "root") == []


def test_a_directory_store_keeps_the_reserve_of_its_disk(full: Craftsync) -> None:
    full.write("root/b", "b")
    run = full("push", "root", "./store")
    assert (run.code, full.files("store")) == (1, {"a": "a"})
    assert f"problem: b: In the store store: {FULL}" in run.err


def test_a_migration_into_a_directory_store_keeps_the_reserve(full: Craftsync) -> None:
    run = full("migrate", "./store", "./new")
    assert (run.code, full.files("new")) == (1, {})
    assert FULL in run.err + run.text


def test_a_conflict_copy_that_does_not_fit_changes_nothing(full: Craftsync) -> None:
    full.write("root/a", "ours")
    full.write("store/a", "theirs")
    assert full("sync", "root", "./store").code == 1
    assert (full.files("root"), full.files("store")) == ({"a": "ours"}, {"a": "theirs"})


def test_get_keeps_the_reserve_and_leaves_no_part_behind(full: Craftsync) -> None:
    run = full("get", "./store", "a", "copy")
    assert run.code == 1
    assert FULL in run.err
    assert not [
        file for file in full.folder.iterdir() if "copy" in file.name or "part" in file.name
    ]


def test_without_a_reserve_the_disk_is_used(full: Craftsync) -> None:
    full.config.write_text("reserve: off\n")
    full.write("store/b", "b")
    assert full("sync", "root", "./store").code == 0


def test_a_reserve_that_is_not_an_amount_is_refused(full: Craftsync) -> None:
    full.config.write_text("reserve: some\n")
    run = full("sync", "root", "./store")
    assert run.code == 78
    assert "reserve: 'some' is not an amount of free space" in run.err


def test_many_downloads_at_once_leave_the_reserve_free(craftsync: Craftsync, disk: Path) -> None:
    for number in range(30):
        large(craftsync.folder / f"store/{number}", 1)
    (disk / "root").mkdir()
    assert craftsync("pull", "disk/root", "./store").code == 1
    assert len(list((disk / "root").iterdir())) > 10
    assert free(disk) >= 2 * MEGABYTE


@pytest.mark.parametrize("megabytes", [10, 40], ids=["whole", "in parts"])
def test_a_partial_download_is_given_up_when_the_disk_is_full(
    craftsync: Craftsync, disk: Path, megabytes: int
) -> None:
    craftsync.config.write_text("reserve: off\n")
    large(craftsync.folder / "store/huge", megabytes)
    (disk / "root").mkdir()
    large(disk / "other", 15)
    before = free(disk)
    run = craftsync("pull", "disk/root", "./store")
    assert run.code == 1
    assert FULL in run.err + run.text
    assert temporaries(disk / "root") == []
    assert free(disk) > before - MEGABYTE
