"""docs/costs.md is true: how often a running daemon lists the store in an hour."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from craftsync.daemon.schedule import WatchSettings
from craftsync.stores.base import RemoteObject, Skipped
from tests.support.memory_store import MemoryStore
from tests.support.watching import NoWatch, kept
from tests.support.world import World

PAGE = Path(__file__).parents[2] / "docs" / "costs.md"
ROW = re.compile(r"^\| (?P<settings>`[^|]*`|the defaults) \| (?P<quiet>\d+) \|", re.M)
ROWS = {
    found["settings"].strip("`"): int(found["quiet"]) for found in ROW.finditer(PAGE.read_text())
}
HOUR = 3600


class Counting(MemoryStore):
    """Counts complete listings."""

    def __init__(self) -> None:
        super().__init__()
        self.listings = 0

    def list(self, prefix: str = "", **options: Any) -> Iterator[RemoteObject | Skipped]:
        self.listings += not prefix
        return super().list(prefix, **options)


@pytest.mark.parametrize(
    ("settings", "seconds"),
    [
        ("the defaults", WatchSettings()),
        ("poll: 5m", WatchSettings(poll_seconds=300)),
        ("poll: 1h, rescan: 1h", WatchSettings(poll_seconds=HOUR, rescan_seconds=HOUR)),
    ],
)
def test_listings_an_hour_are_those_of_the_page(
    tmp_path: Path, settings: str, seconds: WatchSettings
) -> None:
    store = Counting()
    world = World(tmp_path, store)
    world.write("a", "content")
    with kept(world, NoWatch, settings=seconds) as at_work:
        for _ in range(HOUR // 30):
            at_work.turn(30)
        first_hour = store.listings
        for _ in range(HOUR // 30):
            at_work.turn(30)
        # A tenth either way is left to chance, so that many clients do not list at once.
        assert abs(store.listings - first_hour - ROWS[settings]) <= 0.2 * ROWS[settings] + 1
