"""A listing of a moment ago stands in for looks at new paths, but never shows what came since as absent."""

from __future__ import annotations

import pytest

from craftsync.stores.s3.listing import FreshListing
from tests.support.clock import FakeClock


def test_absence_is_proven_only_by_a_fresh_listing() -> None:
    clock, held, listings = FakeClock(), {"there"}, 0

    def list_paths() -> set[str]:
        nonlocal listings
        listings += 1
        assert not absence.is_absent("new"), "a stat costs less than to wait for the listing"
        return set(held)

    absence = FreshListing(list_paths, clock, 2.0)
    assert not absence.is_absent("new")
    absence.listed(clock.monotonic(), 1)
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
    absence.listed(clock.monotonic(), 11_000)
    clock.advance(3.0)
    assert not absence.is_absent("saved")
    assert listings == 0
    for number in range(100):
        absence.is_absent(f"new-{number}")
    assert listings == 1


def test_large_listing_is_not_repeated() -> None:
    clock = FakeClock()
    absence = FreshListing(lambda: pytest.fail("it was listed again"), clock, 2.0)
    absence.listed(clock.monotonic(), 20_001)
    assert absence.is_absent("new")
    clock.advance(3.0)
    assert not absence.is_absent("new")
