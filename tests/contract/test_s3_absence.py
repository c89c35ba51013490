"""A listing of a moment ago stands in for looks at new paths, but never shows what came since as absent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from craftsync.core.model import ABSENT
from craftsync.errors import PreconditionFailed
from craftsync.stores.s3 import Limits, ProbedFacts
from craftsync.stores.s3.listing import AfterEnd, FreshListing
from tests.contract.conftest import BUCKET, OpenS3
from tests.support.clock import FakeClock
from tests.support.s3 import PERSONALITIES, fake_s3
from tests.support.world import Bytes


def test_absence_is_proven_only_by_a_fresh_listing() -> None:
    clock, held, listings = FakeClock(), {"there"}, 0

    def list_paths() -> tuple[set[str], AfterEnd]:
        nonlocal listings
        listings += 1
        assert not absence.is_absent("new"), "a stat costs less than to wait for the listing"
        return set(held), set

    absence = FreshListing(list_paths, clock, 2.0)
    assert not absence.is_absent("new")
    absence.listed(clock.monotonic(), 1, set)
    assert absence.is_absent("new")
    assert not absence.is_absent(".craftsync/store-id"), "listings leave it out"
    held.add("came since")
    clock.advance(3.0)
    assert not absence.is_absent("new")
    assert listings == 0
    assert not absence.is_absent("came since")
    assert absence.is_absent("new")
    assert listings == 1


def test_one_listing_is_repeated_only_for_many_new_files() -> None:
    clock, listings = FakeClock(), 0

    def list_paths() -> tuple[set[str], AfterEnd]:
        nonlocal listings
        listings += 1
        return {str(number) for number in range(11_000)}, set

    absence = FreshListing(list_paths, clock, 2.0)
    absence.listed(clock.monotonic(), 11_000, set)
    clock.advance(3.0)
    assert not absence.is_absent("saved")
    assert listings == 0
    for number in range(100):
        absence.is_absent(f"new-{number}")
    assert listings == 1


def test_large_listing_is_not_repeated() -> None:
    clock = FakeClock()
    absence = FreshListing(lambda: pytest.fail("it was listed again"), clock, 2.0)
    absence.listed(clock.monotonic(), 20_001, set)
    assert absence.is_absent("new")
    clock.advance(3.0)
    assert not absence.is_absent("new")


class InterruptedClock(FakeClock):
    """Calls a function the first time that somebody reads the time, as if a thread came in between."""

    def __init__(self, between: Callable[[], object]) -> None:
        super().__init__()
        self.between: list[Callable[[], object]] = [between]

    def monotonic(self) -> float:
        now = super().monotonic()
        if self.between:
            self.between.pop()()
        return now


def test_listing_that_another_thread_finds_incomplete_proves_nothing() -> None:
    clock = InterruptedClock(lambda: absence.is_absent("another"))
    absence = FreshListing(lambda: pytest.fail("it was listed again"), clock, 2.0)
    absence.listed(0.0, 1, lambda: None)
    assert not absence.is_absent("hidden")
    assert not clock.between


def test_listing_that_another_thread_replaces_is_confirmed_too() -> None:
    clock = InterruptedClock(lambda: absence.listed(0.0, 1, lambda: None))
    absence = FreshListing(lambda: pytest.fail("it was listed again"), clock, 2.0)
    absence.listed(0.0, 1, set)
    assert not absence.is_absent("hidden")
    assert not clock.between


def test_listing_that_became_too_old_while_its_end_was_confirmed_proves_nothing() -> None:
    clock = FakeClock()

    def confirmed_late() -> set[str]:
        clock.advance(60.0)
        return set()

    absence = FreshListing(lambda: pytest.fail("it was listed again"), clock, 2.0)
    absence.listed(clock.monotonic(), 1, confirmed_late)
    assert not absence.is_absent("came since")


def test_repeated_listing_that_is_too_old_when_it_ends_proves_nothing() -> None:
    clock = FakeClock()

    def list_slowly() -> tuple[set[str], AfterEnd]:
        clock.advance(60.0)
        return set(), set

    absence = FreshListing(list_slowly, clock, 2.0)
    absence.listed(clock.monotonic(), 1, set)
    clock.advance(3.0)
    assert not absence.is_absent("one")
    assert not absence.is_absent("came since")


@pytest.mark.parametrize(("late", "is_complete"), [("written since", True), ("hidden", False)])
def test_only_what_was_written_since_may_follow_the_end_of_a_listing(
    late: str, is_complete: bool
) -> None:
    clock = FakeClock()

    def list_paths() -> tuple[set[str], AfterEnd]:
        assert not absence.is_absent("written since"), "another thread stats and writes it"
        return set(), lambda: {late}

    absence = FreshListing(list_paths, clock, 2.0)
    absence.listed(clock.monotonic(), 1, set)
    clock.advance(3.0)
    assert not absence.is_absent("one")
    assert absence.is_absent("new") is is_complete
    assert absence.is_absent("newer") is is_complete
    assert not absence.is_absent(late), "it is there"


@pytest.mark.parametrize(
    "shown", [["a"], ["a", "b", "c"], [".craftsync/store-id"], ["!"]], ids=" ".join
)
def test_object_that_a_cut_listing_hides_is_not_overwritten(
    open_s3: OpenS3, shown: list[str]
) -> None:
    cutting = replace(PERSONALITIES["ignores-conditions"], cuts_listings=True)
    limits = Limits(page=len(shown), fresh_listing_seconds=2.0)
    with fake_s3(cutting, BUCKET) as (server, _):
        store = open_s3(server, prefix="", facts=ProbedFacts(), clock=FakeClock(), limits=limits)
        hidden = [".craftsync/own", "y", "z"] if shown == ["!"] else ["y", "z"]
        for path in [*shown, *hidden]:
            store.write(path, Bytes(b"theirs"), expect=None, operation="theirs")
        assert [entry.path for entry in store.list()] == [path for path in shown if path[0] != "."]
        with pytest.raises(PreconditionFailed):
            store.write("z", Bytes(b"ours"), expect=ABSENT, operation="ours")


def test_end_of_a_listing_is_confirmed_once(open_s3: OpenS3) -> None:
    clock = FakeClock()
    with fake_s3("ignores-conditions", BUCKET) as (server, fake):
        store = open_s3(server, prefix="", facts=ProbedFacts(), clock=clock, limits=Limits())
        for path in (".craftsync/store-id", "a"):
            store.write(path, Bytes(b"theirs"), expect=None, operation="theirs")
        list(store.list())
        fake.requests.clear()
        for path in ("b", "c"):
            store.write(path, Bytes(b"ours"), expect=ABSENT, operation="ours")
        assert [request.method for request in fake.requests] == ["GET", "PUT", "PUT"]


def test_object_that_a_cut_repeated_listing_hides_is_not_overwritten(open_s3: OpenS3) -> None:
    clock, limits = FakeClock(), Limits(page=2, fresh_listing_seconds=2.0)
    with fake_s3("ignores-conditions", BUCKET) as (server, fake):
        store = open_s3(server, prefix="", facts=ProbedFacts(), clock=clock, limits=limits)
        for path in ("a", "b", "z"):
            store.write(path, Bytes(b"theirs"), expect=None, operation="theirs")
        assert [entry.path for entry in store.list()] == ["a", "b", "z"]
        store.write("y", Bytes(b"theirs"), expect=None, operation="theirs")
        fake.personality = replace(fake.personality, cuts_listings=True)
        clock.advance(3.0)
        store.write("c", Bytes(b"ours"), expect=ABSENT, operation="ours")
        with pytest.raises(PreconditionFailed):
            store.write("y", Bytes(b"ours"), expect=ABSENT, operation="ours")


def test_repeated_listing_costs_one_request_more_whatever_was_written_before(
    open_s3: OpenS3,
) -> None:
    clock = FakeClock()
    with fake_s3("ignores-conditions", BUCKET) as (server, fake):
        store = open_s3(server, prefix="", facts=ProbedFacts(), clock=clock, limits=Limits())
        store.write("a", Bytes(b"theirs"), expect=None, operation="theirs")
        list(store.list())
        clock.advance(3.0)
        fake.requests.clear()
        for path in ("b", "c", "d"):
            store.write(path, Bytes(b"ours"), expect=ABSENT, operation="ours")
        sent = [request.method for request in fake.requests]
        assert sent == ["HEAD", "PUT", "GET", "GET", "PUT", "PUT"]
