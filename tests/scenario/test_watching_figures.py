"""The figures of a watched folder: each is true at the moment it is shown, or it is not shown."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from craftsync.core.model import RemoteObject
from craftsync.daemon.loop import FolderLoop
from craftsync.daemon.schedule import WatchSettings
from craftsync.daemon.status import Waiting
from craftsync.engine.report import Event, Issue, IssueEvent, Options, ProgressEvent
from craftsync.engine.review.inspect import of_pair
from craftsync.errors import PathError
from craftsync.local.watch import DirtyPaths
from tests.support.clock import FakeClock
from tests.support.watching import Kept, NoWatch, OutOfReach, StoppedClock, kept
from tests.support.world import World


class Told(OutOfReach):
    """A store that refuses one path, can be away, and calls back when it is asked for something."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = ""
        self.asked: Callable[[], object] = lambda: None

    def write(self, path: str, *words: Any, **options: Any) -> RemoteObject:
        if path == self.refused:
            raise PathError(f"{path} is refused")
        return super().write(path, *words, **options)

    def reach(self) -> None:
        self.asked()
        super().reach()


@pytest.fixture
def store() -> Told:
    return Told()


@pytest.fixture
def world(tmp_path: Path, store: Told) -> World:
    world = World(tmp_path, store)
    for name in ("a", "b", "d/c", "d/e"):
        world.write(name, f"content of {name}")
    return world


def pending(at_work: Kept[NoWatch]) -> int | None:
    return at_work.loop.state.pending


def changed(world: World, at_work: Kept[NoWatch], *paths: str) -> None:
    for path in paths:
        world.write(path, f"new content of {path}")
        at_work.watch.dirty.change(path)


def test_status_before_the_first_scan_leaves_pending_and_watching_unknown(
    world: World,
) -> None:
    with world.open(clock=StoppedClock()) as session:
        state = FolderLoop(
            session, WatchSettings(), Options(), lambda event: None, threading.Event()
        ).state
    assert (state.pending, state.watch_healthy, state.watch_reason) == (None, None, None)


def test_pending_is_unknown_during_a_full_scan(world: World, store: Told) -> None:
    with kept(world, NoWatch) as at_work:
        for number in range(20):
            world.write(f"new/{number}", "x")
        found: dict[str, set[int | None]] = {"scanning": set(), "transferring": set()}

        def listen(event: Event) -> None:
            if isinstance(event, ProgressEvent):
                moving = event.stage == "transferring"
                found[event.stage if moving else "scanning"].add(pending(at_work))

        at_work.listen = listen
        store.asked = lambda: found[at_work.loop.state.state].add(pending(at_work))
        at_work.loop.request_full_run()
        assert pending(at_work) is None
        at_work.turn(0)
        assert found["scanning"] == {None}
        assert 20 in found["transferring"]
        assert None not in found["transferring"]
        assert pending(at_work) == 0


def test_planned_work_is_pending_until_done(world: World, store: Told) -> None:
    with kept(world, NoWatch) as at_work:
        found: list[int | None] = []
        changed(world, at_work, "a", "b")
        assert pending(at_work) == 2
        store.asked = lambda: found.append(pending(at_work))
        at_work.turn()
        assert found[0] == 2
        assert all(number is not None and number >= 0 for number in found)
        assert pending(at_work) == 0


def test_pending_is_unknown_while_the_store_is_offline(world: World, store: Told) -> None:
    with kept(world, NoWatch) as at_work:
        changed(world, at_work, "a")
        store.reachable = False
        at_work.turn()
        assert (at_work.loop.state.state, pending(at_work)) == ("offline", None)
        store.reachable = True
        at_work.turn(60)
        assert pending(at_work) == 0


def test_number_of_paths_collapsed_into_a_folder_is_unknown() -> None:
    dirty = DirtyPaths(FakeClock().monotonic, most=200)
    for number in range(150):
        dirty.change(f"folder/{number}")
    assert dirty.counted == 150
    for number in range(100):
        dirty.change(f"other/{number}")
    assert dirty.counted is None
    dirty.everything()
    assert dirty.counted is None


def test_only_a_full_run_after_a_request_answers_it(world: World) -> None:
    with kept(world, NoWatch) as at_work:
        loop = at_work.loop
        at_work.clock.advance(1.0)
        requested = loop.request_full_run()
        began = loop.state.full_run_began
        assert began is not None
        assert began < requested

        def request_again(event: Event) -> None:
            nonlocal requested
            at_work.listen = None
            at_work.clock.advance(1.0)
            requested = loop.request_full_run()

        world.write("a", "new")
        at_work.listen = request_again
        at_work.turn(0)
        began = loop.state.full_run_began
        assert began is not None
        assert began < requested, "it was under way"
        at_work.turn(0)
        assert (loop.state.full_run_began or 0.0) >= requested
        assert at_work.full_passes == 2


def test_a_listing_that_shows_nothing_new_renews_the_last_success(world: World) -> None:
    with kept(world, NoWatch) as at_work:
        first = at_work.loop.state.last_success_ns
        at_work.turn(300)
        assert at_work.passes == []
        assert (at_work.loop.state.last_success_ns or 0) > (first or 0)


def test_listing_does_not_mean_in_sync_while_local_changes_wait(world: World) -> None:
    settings = WatchSettings(settle_seconds=20.0, poll_seconds=5.0)
    with kept(world, NoWatch, settings=settings) as at_work:
        first = at_work.loop.state.last_success_ns
        changed(world, at_work, "a")
        at_work.turn(10)
        assert at_work.passes == []
        assert at_work.loop.state.last_success_ns == first


def test_failing_path_prevents_success_of_other_runs_and_listings(
    world: World, store: Told
) -> None:
    store.refused = "bad"
    with kept(world, NoWatch) as at_work:
        first = at_work.loop.state.last_success_ns
        changed(world, at_work, "bad")
        at_work.turn()
        changed(world, at_work, "a")
        at_work.turn()
        at_work.turn(300)
        assert at_work.loop.state.last_success_ns == first
        store.refused = ""
        at_work.turn(600)
        assert (at_work.loop.state.last_success_ns or 0) > (first or 0)


def test_conflict_copies_are_counted_until_resolved(world: World) -> None:
    with kept(world, NoWatch) as at_work:
        world.put("a", "another version")
        changed(world, at_work, "a")
        at_work.loop.request_paths({"a"})
        at_work.turn()
        at_work.turn(60)
        assert at_work.loop.state.conflicts == 1
        at_work.loop.request_full_run()
        at_work.turn(0)
        assert at_work.loop.state.conflicts == 1
        (copy,) = world.root.glob("a (conflict *")
        copy.unlink()
        at_work.watch.dirty.delete(copy.name)
        at_work.turn()
        assert at_work.loop.state.conflicts == 0


PROBLEM = IssueEvent(Issue.PROBLEM, "d/bad", "unreadable")


@pytest.mark.parametrize("covered", [{"d/bad"}, {"d"}, None])
def test_problem_of_a_deleted_file_is_cleared_by_its_run(
    covered: set[str] | None,
) -> None:
    waiting = Waiting()
    waiting.note(PROBLEM)
    waiting.run_ended({"d/bad"})
    waiting.run_ended({"d/other", "dd"})
    assert waiting.count(Issue.PROBLEM) == 1
    waiting.run_ended(covered)
    assert waiting.count(Issue.PROBLEM) == 0
    assert waiting.is_in_sync


def test_busy_file_is_not_in_sync_until_synced() -> None:
    waiting = Waiting()
    waiting.note(IssueEvent(Issue.SKIPPED, "busy", "it changes"))
    waiting.run_ended(None, skipped=1)
    assert not waiting.is_in_sync
    waiting.run_ended({"other"})
    assert not waiting.is_in_sync
    waiting.run_ended({"busy"})
    assert waiting.is_in_sync


def test_excluded_paths_do_not_prevent_in_sync() -> None:
    waiting = Waiting()
    waiting.note(IssueEvent(Issue.SKIPPED, "link", "a symbolic link"))
    waiting.run_ended(None, skipped=0)
    assert waiting.is_in_sync


def test_problem_of_a_deleted_file_is_cleared_without_a_full_scan(
    world: World, store: Told
) -> None:
    store.refused = "bad"
    with kept(world, NoWatch) as at_work:
        changed(world, at_work, "bad")
        at_work.turn()
        waiting = at_work.loop.waiting
        assert waiting.count(Issue.PROBLEM) == 1
        world.remove("bad")
        at_work.watch.dirty.delete("bad")
        at_work.turn()
        assert waiting.count(Issue.PROBLEM) == 0
        assert at_work.full_passes == 0


def test_partial_run_leaves_other_paths_in_stopped_status(world: World, store: Told) -> None:
    store.refused = "bad"
    world.write("bad", "x")
    assert world.run().problems == 1
    world.write("a", "new")
    assert world.run(paths={"a"}).exit_code == 0
    facts = of_pair(str(world.root), store.location, world.state_dir)
    assert (facts["problems"], facts["last_success"]) == (1, None)
