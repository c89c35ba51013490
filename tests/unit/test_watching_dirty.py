"""When a changed path has settled. Time passes only when a test advances the clock."""

from __future__ import annotations

import threading
from typing import cast

import pytest
from watchdog.events import (
    DirCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
)
from watchdog.observers.api import EventEmitter, EventQueue, ObservedWatch

from craftsync.local.watch.dirty import MAX_SETTLE_SECONDS, MOST_PATHS, Dirty, DirtyPaths
from tests.support.clock import FakeClock

NOTHING = Dirty(frozenset(), everything=False)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def dirty(clock: FakeClock) -> DirtyPaths:
    return DirtyPaths(clock.monotonic, settle=0.5)


def taken(dirty: DirtyPaths) -> set[str]:
    found = dirty.take()
    assert not found.everything
    return set(found.paths)


def test_changed_path_is_due_once_after_half_a_second_of_quiet(
    dirty: DirtyPaths, clock: FakeClock
) -> None:
    dirty.change("a")
    clock.advance(0.4)
    assert taken(dirty) == set()
    dirty.change("a")
    clock.advance(0.4)
    assert taken(dirty) == set()
    clock.advance(0.1)
    assert taken(dirty) == {"a"}
    clock.advance(60)
    assert dirty.take() == NOTHING


def test_each_path_settles_on_its_own(dirty: DirtyPaths, clock: FakeClock) -> None:
    dirty.change("quiet")
    dirty.change("busy")
    clock.advance(0.4)
    dirty.change("busy")
    clock.advance(0.1)
    assert taken(dirty) == {"quiet"}
    assert len(dirty) == 1


def test_constantly_written_file_is_due_after_thirty_seconds(
    dirty: DirtyPaths, clock: FakeClock
) -> None:
    rounds = 0
    while not taken(dirty):
        dirty.change("log")
        clock.advance(0.25)
        rounds += 1
    assert rounds * 0.25 == MAX_SETTLE_SECONDS


def test_deletion_settles_longer_than_an_edit(dirty: DirtyPaths, clock: FakeClock) -> None:
    dirty.delete("a")
    dirty.change("b")
    clock.advance(0.5)
    assert taken(dirty) == {"b"}
    clock.advance(0.9)
    assert taken(dirty) == set()
    clock.advance(0.1)
    assert taken(dirty) == {"a"}


def test_delete_and_recreate_counts_as_one_edit(dirty: DirtyPaths, clock: FakeClock) -> None:
    dirty.delete("a")
    clock.advance(1.2)
    dirty.change("a")
    clock.advance(0.5)
    assert taken(dirty) == {"a"}
    clock.advance(60)
    assert dirty.take() == NOTHING


def test_both_paths_of_a_rename_are_due_together(dirty: DirtyPaths, clock: FakeClock) -> None:
    dirty.depart("old")
    dirty.change("new")
    clock.advance(0.4)
    dirty.change("new")
    clock.advance(0.4)
    assert taken(dirty) == set()
    clock.advance(0.1)
    assert taken(dirty) == {"old", "new"}


def test_all_paths_of_a_double_rename_are_due_together(dirty: DirtyPaths, clock: FakeClock) -> None:
    dirty.depart("a")
    dirty.change("b")
    clock.advance(0.4)
    dirty.depart("b")
    dirty.change("c")
    clock.advance(0.4)
    assert taken(dirty) == set()
    clock.advance(0.1)
    assert taken(dirty) == {"a", "b", "c"}


def test_swapped_files_are_due_together(dirty: DirtyPaths, clock: FakeClock) -> None:
    dirty.depart("a")
    dirty.change("b")
    dirty.depart("b")
    dirty.change("a")
    clock.advance(0.5)
    assert taken(dirty) == {"a", "b"}
    assert len(dirty) == 0


def test_reused_path_after_a_rename_settles_on_its_own(dirty: DirtyPaths, clock: FakeClock) -> None:
    dirty.depart("a")
    dirty.change("a~")
    dirty.change("a")
    clock.advance(0.4)
    dirty.change("a~")
    clock.advance(0.1)
    assert taken(dirty) == {"a"}
    clock.advance(0.4)
    assert taken(dirty) == {"a~"}


def test_file_moved_to_an_unwatched_folder_is_due_with_that_folder(
    dirty: DirtyPaths, clock: FakeClock
) -> None:
    dirty.depart("a")
    dirty.change("a new folder that was not watched yet")
    clock.advance(0.5)
    assert taken(dirty) == {"a", "a new folder that was not watched yet"}


def test_old_name_of_a_renamed_busy_file_settles_like_a_deletion(
    dirty: DirtyPaths, clock: FakeClock
) -> None:
    dirty.depart("log")
    dirty.change("log.1")
    handed_out: list[tuple[float, set[str]]] = []
    while len(handed_out) < 2:
        dirty.change("log.1")
        clock.advance(0.25)
        if found := taken(dirty):
            handed_out.append((clock.monotonic(), found))
    assert handed_out == [(1.5, {"log"}), (MAX_SETTLE_SECONDS, {"log.1"})]


def test_events_of_every_watchdog_emitter_are_understood(
    dirty: DirtyPaths, clock: FakeClock
) -> None:
    watch = ObservedWatch("/root", recursive=True)
    emitter = EventEmitter(cast(EventQueue, dirty), watch)
    for event in (
        FileModifiedEvent("edited"),
        DirCreatedEvent("folder"),
        FileMovedEvent("old", "new"),
        FileMovedEvent("left", ""),
        FileDeletedEvent("deleted"),
    ):
        emitter.queue_event(event)
    clock.advance(0.5)
    assert taken(dirty) == {"edited", "folder", "old", "new", "left"}
    clock.advance(1)
    assert taken(dirty) == {"deleted"}


def test_many_changes_in_one_folder_become_the_folder(clock: FakeClock) -> None:
    dirty = DirtyPaths(clock.monotonic, settle=0.5, most=300)
    for number in range(10_000):
        dirty.change(f"d/{number}")
    dirty.change("alone")
    assert len(dirty) <= 300
    clock.advance(0.5)
    assert taken(dirty) == {"d", "alone"}


def test_many_changed_folders_become_a_full_scan(clock: FakeClock) -> None:
    dirty = DirtyPaths(clock.monotonic, settle=0.5, most=300)
    for number in range(1_000):
        dirty.change(f"{number}/a")
    clock.advance(0.5)
    assert dirty.take().everything
    dirty.change("next")
    clock.advance(0.5)
    assert taken(dirty) == {"next"}


def test_both_paths_of_a_rename_into_a_busy_folder_are_due(clock: FakeClock) -> None:
    dirty = DirtyPaths(clock.monotonic, settle=0.5, most=300)
    dirty.depart("old")
    dirty.change("d/new")
    for number in range(400):
        dirty.change(f"d/{number}")
    clock.advance(30)
    assert taken(dirty) == {"old", "d"}


def test_many_events_use_bounded_memory(dirty: DirtyPaths, clock: FakeClock) -> None:
    most = 0
    for number in range(10 * MOST_PATHS):
        dirty.change(f"{number % 20_011}/{number}")
        if not number % 1000:
            most = max(most, len(dirty))
    assert most <= MOST_PATHS
    clock.advance(MAX_SETTLE_SECONDS)
    assert dirty.take().everything


def test_burst_is_held_until_most_of_it_settled(dirty: DirtyPaths, clock: FakeClock) -> None:
    for number in range(4_000):
        dirty.change(f"d/{number}")
        clock.advance(0.0002)
        if not number % 100:
            assert taken(dirty) == set()
    clock.advance(0.5)
    assert len(taken(dirty)) == 4_000


def test_endless_burst_is_held_for_thirty_seconds_at_most(
    dirty: DirtyPaths, clock: FakeClock
) -> None:
    found: set[str] = set()
    while not found:
        for number in range(1_100):
            dirty.change(str(number))
        clock.advance(0.25)
        found = taken(dirty)
    assert clock.monotonic() == MAX_SETTLE_SECONDS
    assert len(found) == 1_100


def test_full_scan_replaces_pending_paths_and_settles_too(
    dirty: DirtyPaths, clock: FakeClock
) -> None:
    dirty.change("a")
    dirty.everything()
    clock.advance(0.4)
    dirty.change("b")
    clock.advance(0.4)
    assert dirty.take() == NOTHING
    clock.advance(0.1)
    assert dirty.take() == Dirty(frozenset(), everything=True)
    clock.advance(60)
    assert dirty.take() == NOTHING


def test_waiting_ends_when_woken(dirty: DirtyPaths) -> None:
    waiter = threading.Thread(target=dirty.wait, args=(3600.0,))
    waiter.start()
    dirty.wake()
    waiter.join(60)
    assert not waiter.is_alive()


def test_waiting_ends_at_once_when_something_has_settled(
    dirty: DirtyPaths, clock: FakeClock
) -> None:
    dirty.change("a")
    clock.advance(0.5)
    dirty.wait(3600.0)
    assert taken(dirty) == {"a"}
