"""A listing of a moment ago stands in for looks at new paths, but never shows what came since as absent."""

from __future__ import annotations

from dataclasses import replace

import pytest

from craftsync.core.model import ABSENT
from craftsync.errors import PreconditionFailed
from craftsync.stores.s3 import Limits, ProbedFacts
from craftsync.stores.s3.listing import FreshListing
from tests.contract.conftest import BUCKET, OpenS3
from tests.support.clock import FakeClock
from tests.support.s3 import PERSONALITIES, fake_s3
from tests.support.world import Bytes


def test_absence_is_proven_only_by_a_fresh_listing() -> None:
    clock, held, listings = FakeClock(), {"there"}, 0

    def list_paths() -> set[str]:
        nonlocal listings
        listings += 1
        assert not absence.is_absent("new"), "a stat costs less than to wait for the listing"
        return set(held)

    absence = FreshListing(list_paths, clock, 2.0)
    assert not absence.is_absent("new")
    absence.listed(clock.monotonic(), 1, lambda: True)
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

    def list_paths() -> set[str]:
        nonlocal listings
        listings += 1
        return {str(number) for number in range(11_000)}

    absence = FreshListing(list_paths, clock, 2.0)
    absence.listed(clock.monotonic(), 11_000, lambda: True)
    clock.advance(3.0)
    assert not absence.is_absent("saved")
    assert listings == 0
    for number in range(100):
        absence.is_absent(f"new-{number}")
    assert listings == 1


def test_large_listing_is_not_repeated() -> None:
    clock = FakeClock()
    absence = FreshListing(lambda: pytest.fail("it was listed again"), clock, 2.0)
    absence.listed(clock.monotonic(), 20_001, lambda: True)
    assert absence.is_absent("new")
    clock.advance(3.0)
    assert not absence.is_absent("new")


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
