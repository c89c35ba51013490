"""The daemon reads a little of both sides now and then, and reports what went bad by itself."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from craftsync.core.model import RemoteObject
from craftsync.daemon.schedule import WatchSettings
from craftsync.engine.report import Issue, IssueEvent
from tests.support.memory_store import MemoryStore
from tests.support.watching import NoWatch, kept
from tests.support.world import World

QUARTER_HOUR = 900.0
DAILY_SHARE = 0.96
"""A hundredth of all bytes each quarter of an hour."""


class Rotting(MemoryStore):
    """Counts what is read, and returns other bytes of one path than it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: Counter[str] = Counter()
        self.rotten = ""

    def read(self, path: str, *, expect: RemoteObject | None = None, **more: object):  # type: ignore[no-untyped-def,override]
        self.reads[path] += 1
        if path == self.rotten:
            path = "rot"
            expect = None
        return super().read(path, expect=expect, **more)  # type: ignore[arg-type]


@pytest.fixture
def store() -> Rotting:
    return Rotting()


@pytest.fixture
def world(tmp_path: Path, store: Rotting) -> World:
    world = World(tmp_path, store)
    for number in range(200):
        world.write(f"{number:03}", "1234567890")
    world.put("rot", "12345x7890")
    return world


def test_daily_scrub_share_is_read_in_small_resumed_pieces(world: World, store: Rotting) -> None:
    with kept(world, NoWatch, settings=WatchSettings(scrub_share=DAILY_SHARE)) as at_work:
        store.reads.clear()
        at_work.turn(QUARTER_HOUR)
        assert 1 <= len(own_reads(store)) <= 4
        for _ in range(95):
            at_work.turn(QUARTER_HOUR)
        assert len(own_reads(store)) == 201
        assert max(own_reads(store).values()) <= 2


def test_damage_is_reported_and_stays_until_it_is_repaired_by_hand(
    world: World, store: Rotting
) -> None:
    with kept(world, NoWatch, settings=WatchSettings(scrub_share=1.0)) as at_work:
        store.rotten = "007"
        for _ in range(96):
            at_work.turn(QUARTER_HOUR)
        for _ in range(5):
            at_work.turn(QUARTER_HOUR)
            assert at_work.loop.waiting.count(Issue.PROBLEM) == 1
        said = [event for event in at_work.events if isinstance(event, IssueEvent)]
        assert {(event.path, event.reason) for event in said} == {("007", "damaged in the store")}
        assert world.here()["007"] == "1234567890"
        world.write("007", "an edit")
        at_work.watch.dirty.change("007")
        at_work.turn()
        assert at_work.loop.waiting.is_in_sync


def test_scrub_without_a_daily_share_reads_nothing(world: World, store: Rotting) -> None:
    with kept(world, NoWatch) as at_work:
        store.reads.clear()
        for _ in range(10):
            at_work.turn(QUARTER_HOUR)
        assert not own_reads(store)


def own_reads(store: Rotting) -> dict[str, int]:
    """Return how often each object was read; the identity of the store is asked for all the time."""
    return {path: count for path, count in store.reads.items() if not path.startswith(".craftsync")}
