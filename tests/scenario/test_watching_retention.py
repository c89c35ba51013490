"""The daemon removes daily what its retention has ended for, whether its runs come to an end or not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from craftsync.core.retention import Retention
from craftsync.daemon.schedule import WatchSettings
from craftsync.engine.report import ActionEvent, Event, ProgressEvent
from craftsync.state.history import KeptVersion
from tests.support.watching import Kept, NoWatch, OutOfReach, StoppedClock, kept
from tests.support.world import World

DAY = 86_400.0
SELDOM = WatchSettings(poll_seconds=100 * DAY, rescan_seconds=100 * DAY)
"""No run and no listing comes by itself within the days of a test."""


class RunningClock(StoppedClock):
    """The date goes on with the intervals."""

    def now_ns(self) -> int:
        return super().now_ns() + round(self.boottime() * 1e9)


@pytest.fixture
def store() -> OutOfReach:
    return OutOfReach()


@pytest.fixture
def world(tmp_path: Path, store: OutOfReach) -> World:
    """A world of which each side has replaced one version, with no bound so far."""
    world = World(tmp_path, store)
    world.write("mine", "old")
    world.write("theirs", "old")
    world.run()
    world.write("mine", "newer")
    world.put("theirs", "newer")
    world.run()
    return world


@pytest.fixture
def at_work(world: World) -> Iterator[Kept[NoWatch]]:
    """The daemon after its first run; from then on nothing is to be kept."""
    with kept(world, NoWatch, settings=SELDOM, clock=RunningClock()) as at_work:
        at_work.session.retention = Retention(max_size=0)
        yield at_work


def in_trash(at_work: Kept[NoWatch]) -> set[str]:
    return {entry.path for entry in at_work.session.trash.entries()}


def test_daemon_purges_due_trash_a_day_after_the_last_run(at_work: Kept[NoWatch]) -> None:
    at_work.turn(DAY - 10)
    assert in_trash(at_work) == {"mine", "theirs"}
    at_work.turn(20)
    assert (in_trash(at_work), at_work.passes) == (set(), [])


def test_suspended_time_counts_for_retention(at_work: Kept[NoWatch]) -> None:
    at_work.clock.suspend(DAY)
    at_work.turn()
    assert in_trash(at_work) == set()


def test_remaining_expired_versions_are_purged_within_minutes(
    at_work: Kept[NoWatch],
) -> None:
    with at_work.session.state.transaction():
        versions = [KeptVersion("root", "x", f"gone before {n}", 9) for n in range(250)]
        at_work.session.state.kept.add(versions, 0)
    at_work.turn(DAY)
    assert at_work.session.state.kept.total().files == 152
    at_work.turn(60)
    at_work.turn(60)
    assert at_work.session.state.kept.total().files == 0


def test_daemon_wakes_within_a_day_for_retention(at_work: Kept[NoWatch]) -> None:
    at_work.turn()
    assert at_work.loop.seconds_to_next() <= DAY


def test_trash_of_the_folder_is_purged_while_the_store_is_unreachable(
    at_work: Kept[NoWatch], store: OutOfReach
) -> None:
    at_work.session.retention = Retention(keep=1)
    store.reachable = False
    at_work.loop.request_full_run()
    at_work.turn(DAY)
    store.reachable = True
    assert in_trash(at_work) == {"mine"}
    at_work.loop.request_full_run()
    at_work.turn(61)
    assert in_trash(at_work) == set()


def test_daemon_purges_trash_even_during_a_day_long_run(
    world: World, at_work: Kept[NoWatch]
) -> None:
    left: list[set[str]] = []

    def listen(event: Event) -> None:
        if isinstance(event, ProgressEvent) and event.stage == "transferring":
            at_work.clock.advance(DAY)
        if isinstance(event, ActionEvent):
            left.append(in_trash(at_work))

    at_work.listen = listen
    world.write("new", "content")
    at_work.watch.dirty.change("new")
    at_work.turn()
    assert left == [set()]


def test_a_paused_folder_is_left_alone(at_work: Kept[NoWatch]) -> None:
    at_work.loop.pause()
    at_work.turn(2 * DAY)
    assert in_trash(at_work) == {"mine", "theirs"}
    at_work.loop.resume()
    at_work.turn()
    assert in_trash(at_work) == set()
