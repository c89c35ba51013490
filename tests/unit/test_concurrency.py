"""The number of concurrent transfers, adapted to stores that are near, far, busy or throttling."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

import pytest

from craftsync.net.concurrency import FIRST, MOST, START, Adaptive, Shared


class Way:
    """A client and a store on one simulated clock.

    An answer takes `seconds`, the store serves `a_second` requests a second one
    after the other, and the client works `busy` seconds on each transfer, alone.
    """

    def __init__(self, seconds: float, *, a_second: float = 1e9, busy: float = 0.0001) -> None:
        self.seconds, self.spacing, self.busy = seconds, 1 / a_second, busy
        self.now = 0.0
        self.adaptive = Adaptive(lambda: self.now, lambda: self.most)
        self.most = MOST
        self.refusals = 0

    def transfer(
        self, number: int, on_end: Callable[[], None] = lambda: None, pools: int = 1
    ) -> float:
        """Carry out transfers, divided among pools that share the client; return the seconds they took."""
        shared = [Shared(self.adaptive, lambda: self.refusals) for _ in range(pools)]
        began, served, waiting, order = self.now, self.now, number, count()
        under_way: list[tuple[float, int, Shared]] = []
        running = dict.fromkeys(shared, 0)
        while waiting or under_way:
            for pool in shared:
                while waiting and running[pool] < pool.limit:
                    waiting -= 1
                    running[pool] += 1
                    self.now += self.busy
                    served = max(served, self.now) + self.spacing
                    answered = max(served, self.now + self.seconds)
                    heapq.heappush(under_way, (answered, next(order), pool))
            answered, _, pool = heapq.heappop(under_way)
            if answered > self.now:
                for each in shared:
                    each.waited(answered - self.now)
                self.now = answered
            running[pool] -= 1
            pool.ended(more=waiting > 0)
            on_end()
        for pool in shared:
            pool.close()
        return self.now - began


@pytest.mark.parametrize("seconds", [0.01, 0.03, 0.08])
def test_adaptive_concurrency_beats_a_fixed_number_at_high_latency(
    seconds: float,
) -> None:
    fixed = 5_000 * seconds / FIRST
    assert Way(seconds).transfer(5_000) < fixed / 3


@pytest.mark.parametrize("seconds", [0.01, 0.03, 0.08])
def test_concurrency_doubles_with_each_round_trip(seconds: float) -> None:
    way = Way(seconds, busy=0.0)
    assert way.transfer(START + 2 * START + 4 * START) < 3.5 * seconds
    assert way.adaptive.limit == MOST


def test_short_run_leaves_the_start_of_the_next_one() -> None:
    way = Way(0.03)
    way.transfer(3)
    assert way.adaptive.limit == START
    way.transfer(5_000)
    assert way.adaptive.limit > START


def test_pause_between_runs_does_not_slow_the_next_one() -> None:
    way, fresh = Way(0.03), Way(0.03)
    way.transfer(40)
    way.now += 60.0
    assert way.transfer(2_000) < 1.05 * fresh.transfer(2_000)


def test_few_transfers_share_a_low_rate() -> None:
    adaptive = Adaptive(lambda: 0.0, lambda: MOST)
    assert Shared(adaptive, lambda: 0, lambda: 20).limit == 20
    assert Shared(adaptive, lambda: 0, lambda: 1).limit == FIRST


def test_concurrency_does_not_grow_when_the_client_cpu_is_saturated() -> None:
    way = Way(0.0005, busy=0.001)
    way.transfer(5_000)
    assert way.adaptive.limit == START


def test_concurrency_stops_growing_at_the_stores_throughput_limit() -> None:
    way = Way(0.03, a_second=1_000)
    way.transfer(20_000)
    assert 30 <= way.adaptive.limit <= 80


def test_concurrency_is_bounded_by_file_descriptors() -> None:
    way = Way(0.08)
    way.most = 40
    way.transfer(5_000)
    assert way.adaptive.limit == 40
    way.most = 10
    assert way.adaptive.limit == 10


def test_throttling_halves_concurrency_which_grows_back_later() -> None:
    way = Way(0.08)
    way.transfer(10_000)
    before, ended = way.adaptive.limit, count(1)

    def throttled() -> None:
        way.refusals += next(ended) <= 20

    way.transfer(100, throttled)
    assert way.adaptive.limit == before // 2
    way.transfer(100_000)
    assert way.adaptive.limit > before // 2


def test_run_starts_at_the_concurrency_of_the_previous_run() -> None:
    way = Way(0.03)
    first = way.transfer(1_000)
    assert way.transfer(1_000) < first


def test_pools_of_one_host_share_its_concurrency() -> None:
    way = Way(0.03)
    way.transfer(5_000)
    alone = way.adaptive.limit
    shared = [Shared(way.adaptive, lambda: 0) for _ in range(4)]
    assert [pool.limit for pool in shared] == [-(-alone // 4)] * 4
    for pool in shared:
        pool.close()
    assert way.transfer(2_000, pools=4) < 2_000 * 0.03 / FIRST
