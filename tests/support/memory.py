"""Folders of tests in memory, where writing through to a disk takes no time.

Nothing in these tests depends on the disk: no power is cut, and a killed process
leaves the same files. What depends on it is marked `on_disk`; the units, the
contract of the stores, kills at system calls and power cuts stay on the disk too.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp

import pytest

_MEMORY = Path("/dev/shm")
_PREFIX = f"craftsync-tests-{os.getuid()}-"
_ENOUGH = 2**30
"""Bytes: more than the largest files of all workers at once."""


@pytest.fixture(scope="session")
def memory() -> Iterator[Path | None]:
    """A folder in memory until the tests of this process end; `None` where there is no room for it.

    With CRAFTSYNC_TEST_START=anew all tests run on the disk.
    """
    if os.environ.get("CRAFTSYNC_TEST_START") == "anew" or not _has_room():
        yield None
        return
    with open(_MEMORY / f"{_PREFIX}lock", "w") as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        _remove_what_killed_tests_left()
        folder = Path(mkdtemp(prefix=_PREFIX, dir=_MEMORY))
        in_use = os.open(folder, os.O_RDONLY)
        fcntl.flock(in_use, fcntl.LOCK_SH)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
    os.close(in_use)


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, memory: Path | None) -> Iterator[Path]:
    """A folder for one test alone: in memory where it may be, else on the disk."""
    if memory is None or request.node.get_closest_marker("on_disk"):
        yield request.getfixturevalue("tmp_path")
        return
    folder = Path(mkdtemp(prefix="test-", dir=memory))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _has_room() -> bool:
    if not os.access(_MEMORY, os.W_OK):
        return False
    place = os.statvfs(_MEMORY)
    return place.f_bavail * place.f_frsize >= _ENOUGH


def _remove_what_killed_tests_left() -> None:
    """Each folder in use is locked by its process."""
    for folder in _MEMORY.glob(f"{_PREFIX}*/"):
        descriptor = os.open(folder, os.O_RDONLY)
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)
