"""A file that a program writes to without moving its times."""

from __future__ import annotations

import mmap
import os
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from craftsync.local import linux
from tests.support.cli import Craftsync
from tests.support.s3 import FakeS3, fake_s3

pytestmark = pytest.mark.on_disk

PAGES = 3 * mmap.PAGESIZE


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    with path.open("w+b") as file:
        file.write(b"-" * PAGES)
        file.flush()
        os.fsync(file.fileno())  # Else ext4 writes the pages back with its next commit.
        with closing(mmap.mmap(file.fileno(), PAGES)) as pages:
            yield pages


@pytest.fixture
def bucket(craftsync: Craftsync) -> Iterator[FakeS3]:
    with fake_s3("plain", "bucket") as (server, fake):
        craftsync.environment |= server.variables
        yield fake


def test_a_later_write_to_a_dirty_mapped_page_is_uploaded(
    craftsync: Craftsync, bucket: FakeS3
) -> None:
    (craftsync.folder / "root").mkdir()
    with mapped(craftsync.folder / "root/data.bin") as pages:
        pages[mmap.PAGESIZE] = ord("1")
        craftsync("push", "--dry-run", "root", "s3://bucket")  # Another tick of the clock comes.
        assert craftsync("push", "root", "s3://bucket").code == 0
        pages[mmap.PAGESIZE] = ord("2")
        assert craftsync("push", "root", "s3://bucket").code == 0
        assert bucket.bucket("bucket").get("data.bin").content == pages[:]


def test_open_for_writing_is_known_and_disturbs_no_writer(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"a")
    descriptor = os.open(path, os.O_RDONLY)
    heard: list[int] = []
    before = signal.signal(signal.SIGIO, lambda number, frame: heard.append(number))
    try:
        assert linux.is_open_for_writing(descriptor) is False
        with path.open("r+b"):
            assert linux.is_open_for_writing(descriptor) is True
        assert linux.is_open_for_writing(descriptor) is False
    finally:
        signal.signal(signal.SIGIO, before)
        os.close(descriptor)
    assert heard == []
