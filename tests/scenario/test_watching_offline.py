"""A store that stops answering in the middle of a run is shown as offline while it is still tried."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from craftsync.core.model import RemoteObject
from craftsync.daemon.status import FolderState
from craftsync.errors import ObjectNotFound, StoreUnavailable
from craftsync.stores.retrying import RetryingStore
from craftsync.stores.sources import StoreHealth
from tests.support.clock import FakeClock
from tests.support.memory_store import MemoryStore
from tests.support.watching import NoWatch, kept
from tests.support.world import World

AWAY = StoreUnavailable("the network is down")


class Away(MemoryStore):
    """A store that may be away: then each request fails after ten seconds."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self.reachable = True
        self._clock = clock

    def stat(self, path: str) -> RemoteObject | None:
        if not self.reachable:
            self._clock.advance(10)
            raise AWAY
        return super().stat(path)


def test_store_failing_during_a_run_is_reported_offline_at_once(
    tmp_path: Path,
) -> None:
    seen: list[FolderState] = []

    class Looking(FakeClock):
        """Looks at the state whenever somebody waits for the next try."""

        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            seen.append(at_work.loop.state)

    clock = Looking()
    store = Away(clock)
    world = World(tmp_path, RetryingStore(store, clock=clock))
    for name in "abc":
        world.write(name, name)
    with kept(world, NoWatch) as at_work:
        store.reachable = False
        world.write("a", "new")
        at_work.watch.dirty.change("a")
        at_work.turn()
        offline = [state for state in seen if state.state == "offline"]
        assert offline
        assert all("the network is down" in str(state.reason) for state in offline)
        store.reachable = True
        at_work.turn(60)
        assert at_work.loop.state.state == "watching"


def test_a_folder_stays_offline_while_the_store_is_tried_again(tmp_path: Path) -> None:
    seen: list[str] = []

    class Watched(MemoryStore):
        reachable = True

        def list(self, *words: Any, **options: Any) -> Any:
            if not self.reachable:
                seen.append(at_work.loop.state.state)
                raise AWAY
            return super().list(*words, **options)

    store = Watched()
    world = World(tmp_path, store)
    world.write("a", "a")
    with kept(world, NoWatch) as at_work:
        store.reachable = False
        at_work.turn(600)
        seen.clear()
        for _ in range(3):
            at_work.turn(600)
        store.reachable = True
        at_work.turn(600)
        assert set(seen) == {"offline"}
        assert at_work.loop.state.state == "watching"


def test_one_throttled_request_does_not_mean_offline() -> None:
    clock = FakeClock()
    answers = StoreHealth(clock)
    answers.failed(AWAY)
    clock.advance(4)
    assert answers.trouble() is None
    with answers.attempt(short=True):
        clock.advance(10)
    assert answers.trouble() is None


def test_error_response_counts_as_a_response() -> None:
    clock = FakeClock()
    answers = StoreHealth(clock)
    answers.failed(AWAY)
    clock.advance(10)
    assert answers.trouble() == "the network is down"
    try:
        with answers.attempt(short=True):
            raise ObjectNotFound("none")
    except ObjectNotFound:
        assert answers.trouble() is None


def test_unanswered_request_means_offline_within_a_minute() -> None:
    clock = FakeClock()
    answers = StoreHealth(clock)
    with answers.attempt(short=True):
        clock.advance(44)
        assert answers.trouble() is None
        clock.advance(5)
        assert answers.trouble() == "the store does not answer"
    assert answers.trouble() is None


def test_caller_decides_how_long_a_store_may_be_silent() -> None:
    clock = FakeClock()
    answers = StoreHealth(clock)
    with answers.attempt(short=True):
        clock.advance(10)
        assert answers.trouble(10) == "the store does not answer"
        assert answers.trouble(11) is None


def test_call_of_many_requests_is_not_offline_while_they_are_made() -> None:
    clock, found = FakeClock(), list[str | None]()

    class Slow(MemoryStore):
        def prepare(self, saved: str | None) -> str | None:
            clock.advance(600)
            found.append(patient.health.trouble())
            return super().prepare(saved)

        def barrier(self) -> Mapping[str, RemoteObject]:
            clock.advance(600)
            found.append(patient.health.trouble())
            return super().barrier()

    patient = RetryingStore(Slow(), clock=clock)
    patient.prepare(None)
    patient.barrier()
    assert found == [None, None]


def test_a_long_upload_is_not_offline() -> None:
    clock = FakeClock()
    answers = StoreHealth(clock)
    with answers.attempt(short=False):
        clock.advance(600)
        assert answers.trouble() is None
