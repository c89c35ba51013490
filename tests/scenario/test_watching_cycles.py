"""When the daemon makes a run, and over what: told turn by turn, with a clock that stands still."""

from __future__ import annotations

import shutil
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from craftsync.core.guard import DeleteLimit
from craftsync.core.model import RemoteObject
from craftsync.daemon.loop import FolderLoop
from craftsync.daemon.schedule import WatchSettings
from craftsync.engine.report import ActionEvent, Event, IssueEvent, Options
from craftsync.errors import RootError
from craftsync.local.watch import Health
from craftsync.stores.directory import DirectoryStore
from tests.support.cli import until
from tests.support.memory_store import MemoryStore
from tests.support.watching import Kept, NoWatch, OutOfReach, StoppedClock, kept
from tests.support.world import World


class Flaky(OutOfReach):
    """Counts how often it is listed and looked at, while it can be reached."""

    def __init__(self) -> None:
        super().__init__()
        self.listings = 0
        self.looks = 0

    def list(self, *words: Any, **options: Any) -> Any:
        entries = super().list(*words, **options)
        self.listings += 1
        return entries

    def stat(self, path: str) -> RemoteObject | None:
        found = super().stat(path)
        self.looks += 1
        return found


@pytest.fixture
def store() -> Flaky:
    return Flaky()


@pytest.fixture
def world(tmp_path: Path, store: Flaky) -> World:
    world = World(tmp_path, store)
    for name in ("a", "b", "d/c", "d/e"):
        world.write(name, f"content of {name}")
    return world


def actions(at_work: Kept[NoWatch]) -> list[str]:
    """Return what was carried out since the last call."""
    events = [event for event in at_work.events if isinstance(event, ActionEvent)]
    at_work.events.clear()
    return sorted(f"{event.action} {event.path}" for event in events)


def test_event_triggers_a_run_over_what_really_changed(world: World, store: Flaky) -> None:
    with kept(world, NoWatch) as at_work:
        world.write("a", "new")
        for path in ("a", "b", "d", "never there"):
            at_work.watch.dirty.change(path)
        at_work.turn()
        assert at_work.passes == [{"a"}]
        assert actions(at_work) == ["upload a"]


def test_edit_through_one_hard_link_uploads_all_its_names(world: World) -> None:
    (world.root / "d/linked").hardlink_to(world.root / "a")
    with kept(world, NoWatch) as at_work:
        world.write("a", "edited in place")
        at_work.watch.dirty.change("a")
        at_work.turn()
        assert actions(at_work) == ["upload a", "upload d/linked"]
        assert at_work.full_passes == 0
    assert world.there()["d/linked"] == "edited in place"


def test_event_without_a_change_sends_no_request(world: World, store: Flaky) -> None:
    with kept(world, NoWatch) as at_work:
        before = store.looks, store.listings
        at_work.watch.dirty.change("d")
        at_work.watch.dirty.delete("never there")
        at_work.turn()
        assert at_work.passes == []
        assert (store.looks, store.listings) == before


def test_changed_ignore_file_triggers_a_scan_of_its_folder(world: World) -> None:
    with kept(world, NoWatch) as at_work:
        world.write("d/x.log", "not wanted, then wanted")
        world.write("d/.craftsyncignore", "*.log\n")
        at_work.watch.dirty.change("d/.craftsyncignore")
        at_work.turn()
        assert "d/x.log" not in world.there()
        (world.root / "d/.craftsyncignore").unlink()
        at_work.watch.dirty.delete("d/.craftsyncignore")
        at_work.turn()
        assert "d/x.log" in world.there()
        assert at_work.full_passes == 0


def test_ignored_file_triggers_no_run(world: World, store: Flaky) -> None:
    with kept(world, NoWatch) as at_work:
        before = store.looks
        for name in ("a.part", ".git/index"):
            world.write(name, "by default none of ours")
            at_work.watch.dirty.change(name)
        at_work.turn()
        assert at_work.passes == []
        assert store.looks == before


def test_more_paths_than_a_listing_costs_trigger_a_full_scan(world: World) -> None:
    with kept(world, NoWatch) as at_work:
        for number in range(1_200):
            world.write(f"many/{number}", "x")
        at_work.watch.dirty.change("many")
        at_work.turn()
        assert at_work.passes == [None]
        assert len(world.there()) == 1_204


def test_lost_events_trigger_a_full_scan_after_rewatching(
    world: World,
) -> None:
    with kept(world, NoWatch) as at_work:
        before = at_work.watch.refreshed
        world.write("unheard", "of")
        at_work.watch.dirty.everything()
        at_work.turn()
        assert at_work.watch.refreshed == before + 1
        assert actions(at_work) == ["upload unheard"]


def test_full_scan_runs_every_ten_minutes_without_events(world: World) -> None:
    with kept(world, NoWatch, settings=WatchSettings(poll_seconds=10_000)) as at_work:
        world.write("unheard", "of")
        at_work.turn(599)
        assert at_work.passes == []
        at_work.turn(1)
        assert at_work.passes == [None]
        assert actions(at_work) == ["upload unheard"]


def test_listing_finds_a_store_change_without_a_folder_scan(
    world: World,
) -> None:
    with kept(world, NoWatch) as at_work:
        world.put("a", "from there")
        world.put("new", "from there")
        at_work.turn(40)
        assert at_work.passes == [{"a", "new"}]
        assert actions(at_work) == ["download a", "download new"]


def listing_times(at_work: Kept[NoWatch], store: Flaky, seconds: int) -> list[int]:
    """Let that much time pass second by second; return when listings were made."""
    times = []
    for second in range(seconds):
        before = store.listings
        at_work.turn(1)
        if store.listings > before:
            times.append(second)
    return times


def test_unchanged_store_is_listed_with_growing_pauses_until_a_change(
    world: World, store: Flaky
) -> None:
    with kept(world, NoWatch, settings=WatchSettings(rescan_seconds=100_000)) as at_work:
        quiet = listing_times(at_work, store, 800)
        gaps = [after - before for before, after in pairwise(quiet)]
        assert min(gaps[2:]) >= 108
        assert max(gaps) <= 133
        world.put("new", "from there")
        first, second, third = listing_times(at_work, store, 133 + 33 + 66)[:3]
        assert "new" in world.here()
        assert second - first <= 33 < third - second


def test_permanent_difference_is_not_rechecked_after_every_listing(
    world: World,
) -> None:
    with kept(world, NoWatch, settings=WatchSettings(rescan_seconds=100_000)) as at_work:
        world.put("folder/with/../dots", "no path of a root")
        world.put("x.part", "taking no part")
        world.put("a", "there")
        world.write("a", "here, and another")
        for _ in range(20):
            at_work.turn(133)
        assert len(at_work.passes) <= 2


def test_notified_paths_are_checked_at_once(world: World, store: Flaky) -> None:
    with kept(world, NoWatch) as at_work:
        world.put("a", "from there")
        listings = store.listings
        at_work.loop.request_paths({"a"})
        at_work.turn(0)
        assert at_work.passes == [{"a"}]
        assert actions(at_work) == ["download a"]
        assert store.listings == listings


def test_unreachable_store_is_retried_with_backoff_then_fully_scanned(
    world: World, store: Flaky
) -> None:
    with kept(world, NoWatch) as at_work:
        store.reachable = False
        world.write("a", "new")
        at_work.watch.dirty.change("a")
        at_work.turn()
        state = at_work.loop.state
        assert (state.state, "the network is down" in str(state.reason)) == ("offline", True)
        for _ in range(600):
            at_work.turn(1)
        assert 10 <= len(at_work.passes) <= 40
        store.reachable = True
        at_work.passes.clear()
        at_work.turn(60)
        assert at_work.passes == [None]
        assert at_work.loop.state.state == "watching"
        assert actions(at_work) == ["upload a"]


def test_unreliable_watching_triggers_full_scans_every_few_seconds(
    world: World,
) -> None:
    with kept(world, NoWatch) as at_work:
        at_work.watch.health = Health(False, "no more watches")
        at_work.watch.dirty.everything()
        at_work.turn()
        assert at_work.loop.state.watch_reason == "no more watches"
        for number in range(4):
            world.write("a", f"unheard {number}")
            at_work.turn(5)
        assert at_work.full_passes == 5
        at_work.watch.health = Health(True)
        at_work.turn(5)
        at_work.passes.clear()
        for _ in range(100):
            at_work.turn(5)
        assert at_work.full_passes == 0


def test_failing_path_is_retried_with_growing_pauses(world: World) -> None:
    settings = WatchSettings(poll_seconds=10_000)
    with kept(world, NoWatch, settings=settings) as at_work:
        (world.root / "a").unlink()
        (world.root / "a").mkdir()
        world.write("a/inner", "x")
        world.put("a", "there")
        at_work.loop.request_paths({"a"})
        at_work.turn(0)
        if not any(isinstance(event, IssueEvent) for event in at_work.events):
            pytest.fail("the path did not fail")
        for _ in range(599):
            at_work.turn(1)
        assert at_work.full_passes <= 1
        assert 3 <= len(at_work.passes) <= 12


def held(at_work: Kept[NoWatch]) -> set[str]:
    return {
        event.path
        for event in at_work.events
        if isinstance(event, IssueEvent) and str(event.issue) == "held"
    }


def test_slow_deletes_are_held_beyond_the_limit(world: World, store: Flaky) -> None:
    for number in range(60):
        world.write(f"slow/{number:02}", f"content {number}")
    options = Options(transfers=4, delete_limit=DeleteLimit(files=20, share=0.1))
    with kept(world, NoWatch, options=options) as at_work:
        for number in range(60):
            world.remove(f"slow/{number:02}")
            at_work.watch.dirty.delete(f"slow/{number:02}")
            at_work.turn()
        kept_there = {path for path in world.there() if path.startswith("slow/")}
        assert len(kept_there) == 40
        assert held(at_work) == kept_there
        at_work.turn(600)
        assert {path for path in world.there() if path.startswith("slow/")} == kept_there


def test_objects_vanishing_one_by_one_are_held_beyond_the_limit(world: World) -> None:
    for number in range(60):
        world.write(f"slow/{number:02}", f"content {number}")
    options = Options(transfers=4, delete_limit=DeleteLimit(files=20, share=0.1))
    settings = WatchSettings(poll_seconds=2)
    with kept(world, NoWatch, options=options, settings=settings) as at_work:
        for number in range(60):
            world.take(f"slow/{number:02}")
            at_work.turn(9)
        assert len([path for path in world.here() if path.startswith("slow/")]) == 40


def test_files_that_come_and_go_all_day_are_not_held(world: World) -> None:
    options = Options(transfers=4, delete_limit=DeleteLimit(files=20, share=0.1))
    with kept(world, NoWatch, options=options) as at_work:
        for number in range(60):
            world.write(f"spool/{number + 1}", f"content {number}")
            at_work.watch.dirty.change(f"spool/{number + 1}")
            at_work.turn()
            if number:
                world.remove(f"spool/{number}")
                at_work.watch.dirty.delete(f"spool/{number}")
                at_work.turn()
        assert held(at_work) == set()
        assert world.there() == world.here()


def test_new_files_do_not_hide_more_deletes(world: World) -> None:
    for number in range(60):
        world.write(f"slow/{number:02}", f"content {number}")
    options = Options(transfers=4, delete_limit=DeleteLimit(files=20, share=0.1))
    with kept(world, NoWatch, options=options) as at_work:
        for number in range(60):
            world.remove(f"slow/{number:02}")
            at_work.watch.dirty.delete(f"slow/{number:02}")
            if number % 3 == 0:
                world.write(f"new/{number}", f"new {number}")
                at_work.watch.dirty.change(f"new/{number}")
            at_work.turn()
        kept_there = {path for path in world.there() if path.startswith("slow/")}
        assert len(kept_there) > 25
        at_work.watch.dirty.everything()
        at_work.turn()
        assert held(at_work) == kept_there


def test_a_store_that_is_suddenly_empty_deletes_nothing(world: World) -> None:
    with kept(world, NoWatch, settings=WatchSettings(poll_seconds=2)) as at_work:
        before = world.here()
        for path in before:
            world.take(path)
        at_work.turn(9)
        at_work.turn(600)
        assert world.here() == before
        assert held(at_work) == set(before)


def test_missing_root_halts_the_loop(world: World) -> None:
    with kept(world, NoWatch) as at_work:
        shutil.rmtree(world.root)
        at_work.watch.dirty.everything()
        at_work.clock.advance(2)
        with pytest.raises(RootError):
            at_work.loop.run()
        assert at_work.loop.state.state == "halted"
        assert str(world.root) in str(at_work.loop.state.reason)
    assert len(world.there()) == 4


def test_paused_loop_makes_no_runs_and_then_a_full_scan(world: World) -> None:
    with kept(world, NoWatch) as at_work:
        at_work.loop.pause()
        world.write("a", "new")
        at_work.watch.dirty.change("a")
        at_work.turn(700)
        assert at_work.loop.state.state == "paused"
        assert at_work.loop.state.pending == 1
        assert at_work.passes == []
        at_work.loop.resume()
        at_work.turn(0)
        assert at_work.passes == [None]
        assert actions(at_work) == ["upload a"]


def test_pause_ends_the_running_run_and_the_next_completes_it(world: World) -> None:
    for number in range(50):
        world.write(f"many/{number}", f"content {number}")
    with kept(world, NoWatch) as at_work:
        for number in range(50):
            world.write(f"many/{number}", f"new content {number}")

        def pause_at_the_first(event: Event) -> None:
            if isinstance(event, ActionEvent):
                at_work.loop.pause()

        at_work.listen = pause_at_the_first
        at_work.loop.request_full_run()
        at_work.turn(0)
        assert at_work.loop.state.state == "paused"
        at_work.listen = None
        at_work.loop.resume()
        at_work.turn(0)
    world.assert_in_step()


def test_a_stop_ends_the_wait_at_once(tmp_path: Path) -> None:
    world = World(tmp_path, MemoryStore())
    ready, stop, states = threading.Event(), threading.Event(), []

    def keep() -> None:
        with world.open(clock=StoppedClock()) as session:
            cycles = FolderLoop(
                session, WatchSettings(), Options(), lambda _: None, stop, make_watch=NoWatch
            )
            states.append(cycles)
            ready.set()
            cycles.run()

    thread = threading.Thread(target=keep)
    thread.start()
    ready.wait(60)
    until(lambda: states[0].state.last_report, "the first run")
    stop.set()
    states[0].wake()
    thread.join(60)
    assert not thread.is_alive()
    assert states[0].state.state == "stopped"


def test_loop_state_follows_the_work(world: World) -> None:
    with kept(world, NoWatch) as at_work:
        first = at_work.loop.state
        assert (first.state, first.pending, first.watch_healthy) == ("watching", 0, True)
        assert first.last_success_ns is not None
        assert first.next_full_scan == at_work.clock.monotonic() + 600
        words = set()
        at_work.listen = lambda _: words.add(at_work.loop.state.state)
        world.write("a", "new")
        at_work.watch.dirty.change("a")
        at_work.turn()
        assert words - {"scanning"} == {"transferring"}
        assert at_work.loop.state.next_full_scan == first.next_full_scan
        assert at_work.loop.state.last_report is not first.last_report


def test_scan_requested_during_a_run_follows_it(world: World) -> None:
    with kept(world, NoWatch) as at_work:
        world.write("a", "new")

        def ask_again(event: Event) -> None:
            if isinstance(event, ActionEvent):
                at_work.loop.request_full_run()

        at_work.listen = ask_again
        at_work.loop.request_full_run()
        at_work.turn(0)
        assert at_work.passes == [None]
        at_work.turn(0)
        assert at_work.passes == [None, None]
        at_work.turn(0)
        assert len(at_work.passes) == 2


def test_too_many_notified_paths_trigger_a_full_scan(world: World) -> None:
    with kept(world, NoWatch) as at_work:
        world.put("new", "from there")
        at_work.loop.pause()
        at_work.loop.request_paths({f"{number}" for number in range(20_000)})
        at_work.loop.resume()
        at_work.turn(0)
        assert at_work.passes == [None]
        assert actions(at_work) == ["download new"]


def test_file_that_became_a_folder_is_replaced_in_one_run(world: World) -> None:
    with kept(world, NoWatch) as at_work:
        world.remove("a")
        for number in range(12):
            world.write(f"a/b/{number}", f"content {number}")
        at_work.watch.dirty.change("a/b/3")
        at_work.turn()
        assert world.here() == world.there()
        assert at_work.full_passes == 0


def test_obstructing_paths_do_not_end_the_watch(tmp_path: Path) -> None:
    world = World(tmp_path, DirectoryStore.create(tmp_path / "store"))
    for name in "abcde":
        world.write(name, name)
    with kept(world, NoWatch) as at_work:
        (tmp_path / "store/in the way").write_text("a file nobody has listed yet")
        for number in range(20):
            world.write(f"in the way/{number}", "x")
        at_work.watch.dirty.change("in the way")
        at_work.loop.request_paths({"in the way/never"})
        at_work.turn()
        assert at_work.loop.state.state == "watching"


@pytest.mark.parametrize(("before", "after"), [("x", "x/inner"), ("x/inner", "x")])
def test_move_into_or_out_of_a_folder_of_equal_name_syncs(
    tmp_path: Path, before: str, after: str
) -> None:
    world = World(tmp_path, DirectoryStore.create(tmp_path / "store"))
    for name in ("a", "b", before):
        world.write(name, f"content of {name}")
    with kept(world, NoWatch) as at_work:
        (world.root / before).rename(world.root / "aside")
        if before != "x":
            (world.root / "x").rmdir()
        (world.root / after).parent.mkdir(exist_ok=True)
        (world.root / "aside").rename(world.root / after)
        at_work.watch.dirty.change("x")
        at_work.turn()
    world.assert_in_step()
