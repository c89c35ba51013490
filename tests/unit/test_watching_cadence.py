"""How often a store is looked at, and how the deletions of small passes add up."""

from __future__ import annotations

from random import Random

from craftsync.core.guard import DeleteLimit, SideCounts, reason_to_hold
from craftsync.daemon.cadence import EPISODE_SECONDS, Backoff, Cadence, RecentDeletions
from craftsync.sync.report import Report


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


def held(limit: DeleteLimit, deletes: int) -> str | None:
    return reason_to_hold(SideCounts(listed=100, deletes=deletes, baseline=100), limit, "folder")


def deleted(count: int, held: int = 0) -> Report:
    return Report("watch", deleted_remote=count, held=held)


def test_deletions_that_trickle_in_are_held_as_if_they_had_come_at_once() -> None:
    asked, recent = DeleteLimit(files=20, share=0.1), RecentDeletions()
    for moment, baseline in [(0.0, 100), (10.0, 95), (20.0, 90), (30.0, 85)]:
        limit = recent.limit(asked, moment)
        assert held(limit, 5) is None
        recent.add(deleted(5), asked, baseline, moment)
    reason = held(recent.limit(asked, 40.0), 5)
    assert reason is not None
    assert "25 paths are gone from the folder within a short time" in reason


def test_what_is_new_makes_up_for_what_went_before_it_and_not_for_what_goes_later() -> None:
    asked, recent = DeleteLimit(files=20, share=0.1), RecentDeletions()
    recent.add(deleted(0), asked, 100, 0.0)
    recent.add(deleted(15), asked, 150, 1.0)
    recent.add(deleted(0), asked, 145, 2.0)
    assert recent.limit(asked, 3.0).spent == 5
    recent.hold(1, complete=True)
    recent.add(deleted(0), asked, 200, 4.0)
    assert recent.limit(asked, 5.0).spent == 5


def test_after_a_minute_without_deletions_the_limit_is_whole_again() -> None:
    asked, recent = DeleteLimit(files=20, share=0.1), RecentDeletions()
    recent.add(deleted(20), asked, 100, 0.0)
    assert held(recent.limit(asked, EPISODE_SECONDS - 1), 1)
    assert held(recent.limit(asked, EPISODE_SECONDS), 20) is None


def test_held_deletions_are_not_released_by_waiting() -> None:
    asked, recent = DeleteLimit(files=20, share=0.1), RecentDeletions()
    recent.add(deleted(20), asked, 100, 0.0)
    recent.hold(5, complete=False)
    recent.hold(0, complete=False)
    assert held(recent.limit(asked, 10_000.0), 5)
    recent.hold(0, complete=True)
    assert held(recent.limit(asked, 10_000.0), 5) is None


def test_deletions_a_person_has_allowed_do_not_count() -> None:
    asked, recent = DeleteLimit(files=20, share=0.1), RecentDeletions()
    recent.add(deleted(5_000), asked, 6_000, 0.0)
    assert recent.limit(asked, 1.0) == asked
