"""How often a store is polled."""

from __future__ import annotations

from random import Random

from craftsync.daemon.schedule import Backoff, Cadence


class Middle(Random):
    """A random generator that always returns the middle."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


def test_polling_backs_off_to_4x_and_resets_after_a_change() -> None:
    cadence = Cadence(30, 600, Middle())
    assert [cadence.next(changed=False) for _ in range(4)] == [30, 60, 120, 120]
    assert [cadence.next(changed=True), cadence.next(changed=False)] == [30, 60]


def test_costly_polling_backs_off_further_and_still_follows_changes() -> None:
    cadence = Cadence(30, 600, Middle())
    cadence.record_duration(1.0)
    assert [cadence.next(changed=False), cadence.next(changed=True)] == [300, 30]
    cadence.record_duration(100)
    assert cadence.next(changed=False) == 600


def test_polls_of_many_clients_are_spread_in_time() -> None:
    waits = {Cadence(30, 600, Random(seed)).next(changed=True) for seed in range(100)}
    assert len(waits) == 100
    assert 27 <= min(waits) < 28 and 32 < max(waits) <= 33


def test_retries_back_off_to_a_bound_until_success() -> None:
    backoff = Backoff(Middle())
    assert [backoff.next(8) for _ in range(5)] == [0.75, 1.5, 3, 6, 6]
    backoff.reset()
    assert backoff.next(8) == 0.75
