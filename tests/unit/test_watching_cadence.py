"""How often a store is looked at."""

from __future__ import annotations

from random import Random

from craftsync.daemon.schedule import Backoff, Cadence


class Middle(Random):
    """A source of chance that always hits the middle."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


def test_a_quiet_store_is_looked_at_four_times_more_rarely_and_a_change_brings_back_the_beginning() -> (
    None
):
    cadence = Cadence(30, 600, Middle())
    assert [cadence.next(changed=False) for _ in range(4)] == [30, 60, 120, 120]
    assert [cadence.next(changed=True), cadence.next(changed=False)] == [30, 60]


def test_costly_looks_at_a_quiet_store_are_rarer_still_and_a_change_is_followed_all_the_same() -> (
    None
):
    cadence = Cadence(30, 600, Middle())
    cadence.took(1.0)
    assert [cadence.next(changed=False), cadence.next(changed=True)] == [300, 30]
    cadence.took(100)
    assert cadence.next(changed=False) == 600


def test_looks_of_many_clients_are_spread() -> None:
    waits = {Cadence(30, 600, Random(seed)).next(changed=True) for seed in range(100)}
    assert len(waits) == 100
    assert 27 <= min(waits) < 28 and 32 < max(waits) <= 33


def test_tries_become_rarer_up_to_a_bound_until_one_succeeds() -> None:
    backoff = Backoff(Middle())
    assert [backoff.next(8) for _ in range(5)] == [0.75, 1.5, 3, 6, 6]
    backoff.reset()
    assert backoff.next(8) == 0.75
