"""What an S3 listing makes of what servers send."""

from __future__ import annotations

import random
import re
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from craftsync.core.model import RemoteObject, Skipped
from craftsync.errors import ListingBroken, StoreMissing, StoreUnavailable
from craftsync.stores.retrying import RetryingStore
from craftsync.stores.s3 import ProbedFacts, S3Store
from craftsync.stores.s3.listing import BrokenPage, Page, entries, parse
from craftsync.stores.s3.parallel_listing import PAGES_AHEAD, SHARES_AT_ONCE
from tests.contract.conftest import BUCKET, OpenS3
from tests.support.clock import FakeClock
from tests.support.fake_s3 import (
    NAMESPACE,
    Answer,
    Drop,
    Proxy,
    Request,
    Script,
    error,
    listing_of,
    listing_page,
    scripted,
)
from tests.support.s3 import PERSONALITIES, served
from tests.support.s3.bucket import Stored
from tests.support.waves import HeldS3, counting, wait_for_sleep

Serve = Callable[..., tuple[S3Store, Proxy]]
IN_ORDER, ANY_ORDER = ProbedFacts(), ProbedFacts(sorted_listing=False)


@pytest.fixture
def serve(open_s3: OpenS3) -> Serve:
    """Return a function that opens a store, at the top of a bucket, on a server with that script."""
    stack = ExitStack()

    def start(
        script: Script, facts: ProbedFacts = IN_ORDER, clock: FakeClock | None = None
    ) -> tuple[S3Store, Proxy]:
        server, proxy = stack.enter_context(scripted(script))
        clock = clock or FakeClock()
        return open_s3(server, prefix="", facts=facts, clock=clock), proxy

    with stack:
        yield start  # type: ignore[misc]


def paths(store: S3Store | RetryingStore, prefix: str = "", **options: object) -> list[str]:
    return [entry.path for entry in store.list(prefix, **options)]  # type: ignore[arg-type]


def numbered(count: int) -> list[str]:
    return [f"dir/{number:06d}" for number in range(count)]


BROKEN = {
    "truncated XML": lambda page: page[:-10],
    "cut within an entry": lambda page: page[: page.rindex(b"<Size>")],
    "a web page": lambda page: b"<html><head></head><body>Log in</body></html>",
    "a web page that is no XML": lambda page: b"<!doctype html><html><br><body>Log in",
    "an error with status 200": lambda page: error(200, "InternalError").body,
    "a list of something else": lambda page: page.replace(b"ListBucketR", b"ListVersionsR"),
    "nothing": lambda page: b"",
    "no word of more": lambda page: page.replace(b"IsTruncated", b"Else"),
    "a size that is none": lambda page: page.replace(b"<Size>10<", b"<Size>ten<", 1),
    "a negative size": lambda page: page.replace(b"<Size>10<", b"<Size>-10<", 1),
    "a time that is none": lambda page: page.replace(b"2026-11", b"2026-99", 1),
    "an entry without a key": lambda page: page.replace(b"Key>", b"Nokey>"),
}


@pytest.mark.parametrize("bad_page", [1, 2, 3])
@pytest.mark.parametrize("fault", BROKEN)
def test_listing_with_a_broken_page_raises(serve: Serve, fault: str, bad_page: int) -> None:
    good = listing_of(numbered(30), page=10)
    count = 0

    def script(request: Request) -> Answer:
        nonlocal count
        count += "start-after" not in request.query  # Those are of shares further ahead.
        answer = good(request)
        return answer._replace(body=BROKEN[fault](answer.body)) if count == bad_page else answer

    store, _ = serve(script)
    with pytest.raises(ListingBroken) as broken:
        paths(store)
    is_page = fault == "a web page"
    assert ("login page" in broken.value.remedy) == is_page, broken.value.remedy


@pytest.mark.parametrize(
    ("second", "token", "truncated"),
    [
        (["b"], "same", True),
        (["b"], None, True),
        (["a"], None, False),
        (["0"], None, False),
        (["c", "b"], None, False),
        (["b", "b"], None, False),
        (["\U0001f600", "\uffff"], None, False),
    ],
    ids=["token again", "no token", "key again", "backwards", "disorder", "twice", "utf-16 order"],
)
def test_listing_with_wrong_continuation_raises(
    serve: Serve, second: list[str], token: str | None, truncated: bool
) -> None:
    def script(request: Request) -> Answer:
        if "continuation-token" not in request.query:
            return Answer(200, listing_page(["a"], "same"))
        return Answer(200, listing_page(second, token, truncated=truncated))

    store, _ = serve(script)
    with pytest.raises(ListingBroken):
        paths(store)


def test_endless_unordered_listing_is_detected(serve: Serve) -> None:
    store, _ = serve(lambda _: Answer(200, listing_page(["b", "a"], "same")), ANY_ORDER)
    with pytest.raises(ListingBroken):
        paths(store)


def test_endless_empty_pages_raise(serve: Serve) -> None:
    count = 0

    def script(request: Request) -> Answer:
        nonlocal count
        count += 1
        return Answer(200, listing_page([], f"token-{count}"))

    store, _ = serve(script)
    with pytest.raises(ListingBroken):
        paths(store)


def test_unordered_listing_keeps_the_servers_order(serve: Serve) -> None:
    def script(request: Request) -> Answer:
        if "continuation-token" not in request.query:
            return Answer(200, listing_page(["b", ".craftsync/x", "a"], "more"))
        return Answer(200, listing_page(["d", "c"]))

    store, _ = serve(script, ANY_ORDER)
    assert paths(store, boundaries=["b"]) == ["b", "a", "d", "c"]


def test_unencoded_keys_are_taken_literally(serve: Serve) -> None:
    keys = ["100%41+b", "<a>&amp;", "é"]
    store, _ = serve(lambda _: Answer(200, listing_page(keys, encoded=False)))
    assert paths(store) == keys


def test_listing_skips_the_pages_of_the_craftsync_folder(serve: Serve) -> None:
    own = [f".craftsync/trash/{number:05d}" for number in range(5_000)]
    store, proxy = serve(listing_of(["-first", *own, "dir/a", "dir/b"]))
    assert paths(store) == ["-first", "dir/a", "dir/b"]
    assert len(proxy.requests) == 2
    assert paths(store, ".craftsync/") == own


@pytest.mark.parametrize(
    "boundaries",
    [
        ["dir/000500"],
        ["dir/000099", "dir/000100"],
        numbered(900)[::90],
        ["", "a", "z"],
        ["dir/0003x"],
    ],
)
def test_parallel_range_listings_form_the_whole_in_order(
    serve: Serve, boundaries: list[str]
) -> None:
    store, _ = serve(listing_of(numbered(900), page=100))
    assert paths(store, boundaries=boundaries) == numbered(900)
    assert paths(store, "dir/0003", boundaries=boundaries) == numbered(400)[300:]


KEYS_LIKE = {
    "numbers": lambda rng: f"data/{rng.randrange(10**6):06}.csv",
    "numbers of any length": lambda rng: f"{rng.randrange(10**5)}",
    "digests": lambda rng: rng.randbytes(8).hex(),
    "dates": lambda rng: f"y=202{rng.randrange(4)}/m={rng.randrange(1, 13):02}/{rng.random()}",
    "words": lambda rng: "/".join(rng.choices(("été", "Zoo", "a b", "naïve", "x"), k=6)),
    "folders of unlike size": lambda rng: f"{rng.choice('abbbbbbc')}/{rng.randrange(10**4)}",
    "any text": lambda rng: "".join(map(chr, rng.choices((32, 47, 122, 233, 8364, 66000), k=9))),
}


@pytest.mark.parametrize("kind", KEYS_LIKE)
def test_first_listing_in_shares_yields_each_key_once_in_order(serve: Serve, kind: str) -> None:
    rng = random.Random(kind)
    keys = sorted({KEYS_LIKE[kind](rng) for _ in range(1500)}, key=str.encode)
    keys = [key for key in keys if "//" not in key and key.strip("/") == key]
    store, proxy = serve(listing_of(keys, page=20))
    assert paths(store) == keys
    assert len(proxy.requests) <= 1.5 * len(keys) / 20 + 10


def test_first_listing_of_many_pages_waits_for_few(open_s3: OpenS3) -> None:
    fake = HeldS3(PERSONALITIES["plain"])
    bucket = fake.bucket(BUCKET)
    for path in numbered(400):
        bucket.put(fake.personality, path, Stored(b"", "e", 0, "v"))
    fake.most_listed = 10
    with counting() as fake.waves, served(fake) as server:
        store = open_s3(server, prefix="", facts=IN_ORDER)
        assert paths(store) == numbered(400)
        requests, waits = fake.waves.counted()
    assert requests.total() <= 48
    assert waits <= 15


def test_listing_fetches_only_a_few_pages_ahead(serve: Serve) -> None:
    store, proxy = serve(listing_of(numbered(20_000), page=10))
    with closing(store.list()) as entries:  # type: ignore[type-var]
        next(entries)
        wait_for_sleep()
        assert len(proxy.requests) >= PAGES_AHEAD
        assert len(proxy.requests) <= SHARES_AT_ONCE * (PAGES_AHEAD + 1)


def test_abandoned_listing_leaves_no_thread(serve: Serve) -> None:
    store, _ = serve(listing_of(numbered(5_000), page=100))
    with closing(store.list(boundaries=numbered(5_000)[::300])) as entries:  # type: ignore[type-var]
        next(entries)
    for thread in threading.enumerate():
        if thread.name == "listing":
            thread.join(timeout=60)
            assert not thread.is_alive()


@pytest.mark.parametrize("boundaries", [[], ["dir/000250", "dir/000700"]])
def test_listing_survives_transient_failures(serve: Serve, boundaries: list[str]) -> None:
    good, tried = listing_of(numbered(2_000), page=100), Counter[str]()

    def script(request: Request) -> Answer | Drop:
        tried[request.target] += 1
        if tried[request.target] > 1:
            return good(request)
        return error(503, "SlowDown") if len(tried) % 2 else Drop(delivered=False)

    store, _ = serve(script)
    patient = RetryingStore(store, clock=FakeClock())
    assert paths(patient, boundaries=boundaries) == numbered(2_000)


@pytest.mark.parametrize("boundaries", [[], ["dir/000250", "dir/000700"]])
def test_interrupted_listing_resumes_after_its_last_entry(
    serve: Serve, boundaries: list[str]
) -> None:
    good, seen = listing_of(numbered(900), page=100), 0

    def script(request: Request) -> Answer:
        nonlocal seen
        seen += 1
        answer = good(request)
        return answer._replace(body=answer.body[:-1]) if seen in (5, 9) else answer

    store, _ = serve(script)
    patient = RetryingStore(store, clock=FakeClock())
    assert paths(patient, boundaries=boundaries) == numbered(900)


def test_store_is_unreachable_while_a_page_of_its_listing_is_unanswered(serve: Serve) -> None:
    clock, found = FakeClock(), list[str | None]()
    good = listing_of(numbered(200), page=100)

    def script(request: Request) -> Answer:
        clock.advance(50)
        found.append(patient.health.trouble())
        return good(request)

    store, _ = serve(script, ANY_ORDER, clock)
    patient = RetryingStore(store, clock=clock)
    assert paths(patient) == numbered(200)
    assert found == ["the store does not answer"] * 2
    assert patient.health.trouble() is None


def test_interrupted_unordered_listing_is_not_resumed(serve: Serve) -> None:
    def script(request: Request) -> Answer:
        if "continuation-token" not in request.query:
            return Answer(200, listing_page(["b", "a"], "more"))
        return error(503, "SlowDown")

    store, _ = serve(script, ANY_ORDER)
    with pytest.raises(StoreUnavailable):
        paths(RetryingStore(store, clock=FakeClock()))


def test_missing_bucket_is_not_an_empty_listing(serve: Serve) -> None:
    store, _ = serve(lambda _: error(404, "NoSuchBucket"))
    with pytest.raises(StoreMissing):
        paths(store)


HOSTILE = [
    *("../x", "/x", "a//b", "dir/sub/../../x", "./x", "x/.", "y/..", "trailing/", "nul\0byte"),
    *("l" * 256, "é" * 128, "//", "/"),
]


@pytest.mark.parametrize("neighbour", ["plain", "née"])
@pytest.mark.parametrize("key", HOSTILE)
def test_invalid_key_is_reported_without_losing_its_neighbors(
    serve: Serve, key: str, neighbour: str
) -> None:
    keys = sorted([key, "a", "zz", neighbour], key=str.encode)
    store, _ = serve(lambda _: Answer(200, listing_page(keys)))
    entries = list(store.list())
    assert [entry.path for entry in entries] == keys
    assert [type(entry) for entry in entries if entry.path == key] == [Skipped]
    assert sum(isinstance(entry, RemoteObject) for entry in entries) == 3


def test_non_utf_8_key_is_skipped(serve: Serve) -> None:
    page = listing_page(["plain", "x"]).replace(b"<Key>x<", b"<Key>%E9t%E9<")
    store, _ = serve(lambda _: Answer(200, page))
    entries = list(store.list())
    assert isinstance(entries[1], Skipped) and "UTF-8" in entries[1].reason


def test_folder_markers_are_skipped_unless_they_have_content(serve: Serve) -> None:
    page = listing_page(["full/", "marker/", "marker/file"])
    page = page.replace(b"<Key>marker/</Key>", b"<Key>marker/</Key><Key2/>")
    empty = page.index(b"<Size>10", page.index(b"<Key2/>"))
    page = page[:empty] + page[empty:].replace(b"<Size>10", b"<Size>0", 1)
    store, _ = serve(lambda _: Answer(200, page))
    entries = list(store.list())
    assert [entry.path for entry in entries] == ["full/", "marker/file"]
    assert isinstance(entries[0], Skipped)


TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12
)


@given(st.lists(TEXT, unique=True, max_size=20), st.booleans())
def test_fast_page_parser_agrees_with_the_xml_parser(keys: list[str], encoded: bool) -> None:
    keys.sort(key=str.encode)
    plain = listing_page(keys, "token", encoded=encoded)
    # An owner, as some servers add it, makes a page one for the parser.
    spelled_out = plain.replace(b"</Contents>", b"<Owner><ID>me</ID></Owner></Contents>")
    indented = re.sub(
        rb"(<Contents>|</(?:Key|LastModified|ETag|Size|Contents)>)", rb"\1\n  ", plain
    )
    assert parse(plain) == parse(spelled_out) == parse(indented)
    if encoded:
        assert parse(plain).keys == keys


@given(st.integers(0, 3_000))
def test_truncated_page_is_never_accepted(length: int) -> None:
    page = listing_page(["a", "b/ü", "c"], "token")
    if length < len(page):
        with pytest.raises(BrokenPage):
            parse(page[:length])


def test_page_mixing_plain_and_unusual_entries_loses_none() -> None:
    page = listing_page(["a", "b", "c"])
    odd = page.replace(b"<Contents><Key>b", b"<Contents><Extra>1</Extra><Key>b")
    assert parse(odd) == parse(page)
    assert NAMESPACE.encode() in page


@pytest.mark.parametrize(
    "key",
    ["a//b", "a/./b", "a/../b", "/a", "a/", "./a", "../a", "a/.", "a/..", "a\0b"],
    ids=repr,
)
def test_invalid_key_in_an_ordinary_page_is_reported(key: str) -> None:
    page = Page(["before", key], ["2026-11-29T00:00:00Z"] * 2, ["v", "v"], ["1", "1"], None)
    ordinary, other = entries(page, "", lambda path: False)
    assert isinstance(ordinary, RemoteObject)
    assert isinstance(other, Skipped)
    assert other.path == key
