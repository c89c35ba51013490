"""The disk space that files being written may take together."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from craftsync.core.retention import Reserve
from craftsync.errors import NoSpace
from craftsync.local import linux
from craftsync.local.folder import Folder

MB, GB = 1000**2, 1000**3


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    """Yield a folder whose disk has one gigabyte left, whatever other programs write."""
    disk = os.statvfs(tmp_path)
    monkeypatch.setattr(linux, "fstatvfs", lambda _: disk)
    with Folder.open(tmp_path) as opened:
        opened.reserve = Reserve(share=0.0, size=disk.f_bavail * disk.f_frsize - GB)
        yield opened


@pytest.mark.parametrize(
    ("reserve", "disk", "kept"),
    [
        (Reserve(), 1000 * GB, 10 * GB),
        (Reserve(), 5 * GB, 100 * MB),
        (Reserve(), 20 * MB, 2 * MB),
        (Reserve(share=0.0, size=5 * GB), 1000 * GB, 5 * GB),
        (Reserve(share=0.0), 1000 * GB, 0),
    ],
)
def test_free_space_reserve_is_a_share_with_a_minimum(
    reserve: Reserve, disk: int, kept: int
) -> None:
    assert reserve.of(disk) == kept


def test_concurrent_downloads_reserve_their_space(folder: Folder) -> None:
    with folder.temporary(size=700 * MB):
        with pytest.raises(NoSpace, match=r"700\.0 MB for files being written"):
            folder.temporary(size=700 * MB)
        with folder.temporary(size=MB):
            pass
    with folder.temporary(size=700 * MB):
        pass


def test_written_bytes_are_not_reserved_twice(folder: Folder) -> None:
    with folder.temporary(size=600 * MB) as first:
        os.ftruncate(first.fileno(), 600 * MB)
        first.note_written(600 * MB)
        with folder.temporary(size=600 * MB):
            pass


def test_resumed_download_reserves_only_missing_bytes(folder: Folder) -> None:
    with folder.temporary("part") as partial:
        partial.write_at(0, bytes(50 * MB))
    with folder.temporary("part", size=1025 * MB):
        pass
    with pytest.raises(NoSpace):
        folder.temporary(size=1025 * MB)


def test_forked_child_starts_without_parent_space_reservations(folder: Folder) -> None:
    with folder.temporary(size=700 * MB):
        child = os.fork()
        if not child:
            try:
                folder.temporary(size=700 * MB).discard()
                os._exit(0)
            except NoSpace:
                os._exit(1)
            finally:
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
