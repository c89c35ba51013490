"""The pages of a listing of `serve`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from craftsync.core.model import RemoteObject, Skipped
from craftsync.errors import ListingBroken
from craftsync.serve.api import IDLE_SECONDS, MOST_OPEN, Listings
from craftsync.serve.errors import Refused
from tests.support.clock import FakeClock
from tests.support.memory_store import MemoryStore

PATHS = [f"d/{name}" for name in ("a", "b", "é", "\U0001f600", "ｚ")]
"""In the byte order of UTF-8, which is not that of UTF-16."""
PATHS.sort(key=str.encode)


class CountingStore(MemoryStore):
    """Holds given entries and counts how often it is listed."""

    def __init__(self, entries: Sequence[RemoteObject | Skipped]) -> None:
        super().__init__()
        self.entries = entries
        self.listed = 0

    def list(
        self, prefix: str = "", *, boundaries: Sequence[str] = (), nested_own: bool = False
    ) -> Iterator[RemoteObject | Skipped]:
        self.listed += 1
        yield from (entry for entry in self.entries if entry.path.startswith(prefix))


def objects(paths: Sequence[str]) -> list[RemoteObject | Skipped]:
    return [RemoteObject(path, 1, 0, "v") for path in paths]


@pytest.fixture
def store() -> CountingStore:
    return CountingStore(objects(PATHS))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def listings(store: CountingStore, clock: FakeClock) -> Listings:
    return Listings(store, clock, page_size=2)


def paths(listings: Listings, token: str | None = None) -> tuple[list[str], str | None]:
    page = listings.page("", token)
    return [found.path for found in page.objects], page.token


def all_paths(listings: Listings, prefix: str = "") -> list[str]:
    page = listings.page(prefix, None)
    found = list(page.objects)
    while page.token is not None:
        page = listings.page(prefix, page.token)
        found += page.objects
    return [entry.path for entry in found]


def test_pages_together_are_the_whole_listing(listings: Listings, store: CountingStore) -> None:
    assert all_paths(listings) == PATHS
    assert store.listed == 1


@pytest.mark.parametrize("count", range(6))
def test_only_an_empty_store_has_an_empty_page(count: int) -> None:
    listings = Listings(CountingStore(objects(PATHS[:count])), FakeClock(), page_size=2)
    page, pages = listings.page("", None), 1
    while page.token is not None:
        page, pages = listings.page("", page.token), pages + 1
        assert page.objects
    assert pages == max(1, (count + 1) // 2)


def test_repeated_page_request_returns_the_same_page(listings: Listings) -> None:
    _, token = paths(listings)
    assert paths(listings, token)[0] == paths(listings, token)[0] == PATHS[2:4]


def test_expired_listing_resumes_where_it_stopped(
    listings: Listings, store: CountingStore, clock: FakeClock
) -> None:
    _, token = paths(listings)
    clock.advance(IDLE_SECONDS + 1)
    listings.close_idle()
    assert paths(listings, token)[0] == PATHS[2:4]
    assert store.listed == 2


def test_many_concurrent_listings_all_complete(listings: Listings) -> None:
    tokens = [paths(listings)[1] for _ in range(MOST_OPEN + 3)]
    assert [paths(listings, token)[0] for token in tokens] == [PATHS[2:4]] * (MOST_OPEN + 3)


def test_expired_listing_of_an_unordered_store_cannot_resume(
    listings: Listings, store: CountingStore, clock: FakeClock
) -> None:
    store.features = replace(store.features, sorted_listing=False)
    _, token = paths(listings)
    clock.advance(IDLE_SECONDS + 1)
    listings.close_idle()
    with pytest.raises(Refused, match="list again"):
        listings.page("", token)


def test_page_token_is_bound_to_its_prefix(listings: Listings) -> None:
    _, token = paths(listings)
    assert listings.page("other/", token).objects == []


@pytest.mark.parametrize("token", ["", "x", "%", "é", "bm90b2tlbg==", "//8=", "[[[["])
def test_unknown_page_token_is_rejected(listings: Listings, token: str) -> None:
    with pytest.raises(Refused) as refused:
        listings.page("", token)
    assert refused.value.status == 400


def test_listing_with_more_pages_than_the_recursion_limit_completes() -> None:
    many = [f"{number:06}" for number in range(20_000)]
    assert all_paths(Listings(CountingStore(objects(many)), FakeClock(), page_size=1)) == many


def test_invalid_keys_are_left_out_of_listings() -> None:
    entries = [*objects(["a"]), Skipped("b//c", "a part is empty"), *objects(["d"])]
    assert all_paths(Listings(CountingStore(entries), FakeClock())) == ["a", "d"]


def test_unreadable_entry_fails_the_listing() -> None:
    entries = [*objects(["a"]), Skipped("b", "Permission denied", subtree=True, failed=True)]
    with pytest.raises(ListingBroken, match="b cannot be listed: Permission denied"):
        Listings(CountingStore(entries), FakeClock()).page("", None)
