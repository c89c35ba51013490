"""Each story is told on a folder as store, and on one in memory that behaves like a good S3."""

from __future__ import annotations

from pathlib import Path

import pytest

from craftsync.stores.directory import DirectoryStore
from tests.support.memory import memory as memory
from tests.support.memory import tmp_path as tmp_path
from tests.support.memory_store import MemoryStore
from tests.support.world import World


@pytest.fixture(params=["directory", "memory"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    if request.param == "memory":
        return World(tmp_path, MemoryStore())
    return World(tmp_path, DirectoryStore.create(tmp_path / "store"))
