"""Small transfers and changes made during a run do not wait for large transfers."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from craftsync.blocking import blocking
from craftsync.core.model import RemoteObject
from craftsync.errors import StoreMissing
from craftsync.stores.memory import MemoryStore
from tests.support.world import World

MIB = 1 << 20
PATIENCE = 20.0


class Busy(MemoryStore):
    """Writes of paths that begin with `large` end only once everything that is waited for has arrived."""

    def __init__(self, *waited_for: str) -> None:
        super().__init__()
        self._missing = set(waited_for)
        self.arrived = threading.Event()

    def write(self, path: str, *arguments: Any, **options: Any) -> RemoteObject:
        if path.startswith("large"):
            blocking(partial(self.arrived.wait, PATIENCE))
            # The content is of no interest, and there is a lot of it.
            raise StoreMissing("the bucket was deleted")
        found = super().write(path, *arguments, **options)
        self._missing.discard(path)
        if not self._missing:
            self.arrived.set()
        return found


def sparse(world: World, path: str, size: int) -> None:
    """Make a file of so many bytes, which takes no room."""
    target = world.root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        file.truncate(size)


@pytest.mark.parametrize(
    ("files", "size"),
    [(800, MIB + 1), (20, 16 * MIB + 1)],
    ids=["more than are handed out at once", "more than there are workers"],
)
def test_a_small_file_does_not_wait_for_large_ones_planned_before_it(
    tmp_path: Path, files: int, size: int
) -> None:
    store = Busy("small", *(["still small"] if size > 16 * MIB else []))
    world = World(tmp_path, store)
    for number in range(files):
        sparse(world, f"large/{number:03}", size)
    world.write("small", "content")
    sparse(world, "still small", 2 * MIB)

    with pytest.raises(StoreMissing):
        world.run()

    assert store.arrived.is_set()
