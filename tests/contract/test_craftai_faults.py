"""A platform that misbehaves: what the user of a Craft AI store sees, and that nothing is lost or torn."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from craftsync.core.model import ABSENT, OWN_FOLDER, RemoteObject
from craftsync.errors import (
    ListingBroken,
    NotKept,
    ObjectNotFound,
    PathRefused,
    PreconditionFailed,
    StoreDenied,
    StoreUnavailable,
)
from craftsync.stores.craftai import Access, CraftAiStore, Limits
from craftsync.stores.retrying import RetryingStore
from tests.support.clock import FakeClock
from tests.support.platform import FaultyPlatform, faulty_platform
from tests.support.platform import faults as fault
from tests.support.platform.client import LARGE, PART, SMALL, content_of
from tests.support.platform.storage import gzipped
from tests.support.platform.wire import Request
from tests.support.world import Bytes, World

LIMITS = Limits(single_post=PART, smallest_part=PART, fresh_listing_seconds=-1.0)
"""Small parts, and no listing taken for a look: time stands still here unless somebody waits."""


@pytest.fixture(scope="module")
def shared() -> Iterator[FaultyPlatform]:
    with faulty_platform() as platform:
        yield platform


@pytest.fixture
def platform(shared: FaultyPlatform) -> Iterator[FaultyPlatform]:
    """The platform, empty and healthy, and healed again afterwards."""
    shared.bucket.objects.clear()
    shared.heal()
    yield shared
    shared.heal()
    shared.standby(None)
    shared.bucket.thaw_listing()
    shared.path_pattern, shared.token_seconds = None, 3600
    shared.storage.gcs = False


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def bare(platform: FaultyPlatform, clock: FakeClock) -> Iterator[CraftAiStore]:
    """A store that retries nothing."""
    access = Access(platform.url, lambda: platform.token, platform.url)
    store = CraftAiStore(access, clock=clock, limits=LIMITS)
    yield store
    store.close()


@pytest.fixture
def store(bare: CraftAiStore, clock: FakeClock) -> RetryingStore:
    return RetryingStore(bare, clock=clock, rng=random.Random(0))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait a second where a minute would be waited."""
    monkeypatch.setattr("craftsync.stores.craftai.platform.TIMEOUT", (1.0, 1.0))


def part(number: int) -> Callable[[Request], bool]:
    return lambda request: request.query.get("partNumber") == str(number)


def put_large(store: RetryingStore | CraftAiStore, path: str = "a") -> RemoteObject:
    return store.write(path, Bytes(LARGE), expect=ABSENT, operation="one")


@pytest.mark.parametrize("number", [1, 3, 5])
@pytest.mark.parametrize(
    "broken",
    [
        fault.status(503),
        fault.status(500),
        fault.xhtml_502,
        fault.xml_without_message,
        fault.connection_lost,
        fault.answer_lost,
        fault.expired_url,
    ],
    ids=["503", "500", "xhtml", "no message", "not arrived", "answer lost", "expired"],
)
def test_only_the_failed_part_is_sent_again(
    store: RetryingStore, platform: FaultyPlatform, number: int, broken: fault.Fault
) -> None:
    platform.inject("part", broken, when=part(number))
    assert put_large(store).size == len(LARGE)
    assert platform.content("a") == LARGE
    sent = [r.query["partNumber"] for r in platform.requests if r.endpoint == "part"]
    assert 6 <= len(sent) <= 8
    assert platform.count("end") == 1


@pytest.mark.parametrize("number", [1, 3, 5])
@pytest.mark.parametrize(
    "lie", [fault.html_200, fault.answering(fault.Answer(200))], ids=["html", "nothing"]
)
def test_part_acknowledged_but_not_stored_is_sent_again(
    store: RetryingStore, platform: FaultyPlatform, number: int, lie: fault.Fault
) -> None:
    """A login page between here and the storage says 200 to everything."""
    platform.inject("part", lie, when=part(number))
    assert put_large(store).size == len(LARGE)
    assert platform.content("a") == LARGE


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("endpoint", ["part", "part-url", "form", "upload", "end"])
def test_w08_unanswered_upload_times_out_and_is_retried(
    store: RetryingStore, platform: FaultyPlatform, endpoint: str
) -> None:
    content = SMALL if endpoint in ("form", "upload") else LARGE
    platform.inject(endpoint, fault.hanging(platform.gate))
    store.write("a", Bytes(content), expect=ABSENT, operation="one")
    assert platform.content("a") == content


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("endpoint", ["list", "information", "download", "get", "refresh"])
def test_w08_unanswered_request_times_out(
    bare: CraftAiStore, platform: FaultyPlatform, endpoint: str
) -> None:
    platform.put("a", SMALL)
    platform.inject(endpoint, fault.hanging(platform.gate))
    with pytest.raises(StoreUnavailable):
        list(bare.list()) if endpoint == "list" else content_of(bare, "a")
    assert content_of(bare, "a") == SMALL


def test_part_that_always_fails_leaves_no_visible_object(
    store: RetryingStore, platform: FaultyPlatform
) -> None:
    platform.put("a", b"old")
    old = store.stat("a")
    platform.inject("part", fault.status(503), times=1000, when=part(2))
    with pytest.raises(StoreUnavailable):
        store.write("a", Bytes(LARGE), expect=old, operation="two")
    assert platform.content("a") == b"old"
    assert platform.count("end") == 0


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
def test_truncated_body_is_an_error_and_never_a_short_result(
    bare: CraftAiStore, platform: FaultyPlatform, content: bytes
) -> None:
    platform.put("a", content)
    platform.inject("get", fault.short_body)
    with pytest.raises(StoreUnavailable):
        content_of(bare, "a")
    assert content_of(bare, "a") == content


@pytest.mark.parametrize("endpoint", ["get", "form", "part"])
def test_expired_signed_url_is_replaced(
    bare: CraftAiStore, platform: FaultyPlatform, endpoint: str
) -> None:
    platform.inject(endpoint, fault.expired_url)
    content = LARGE if endpoint == "part" else SMALL
    bare.write("a", Bytes(content), expect=ABSENT, operation="one")
    assert content_of(bare, "a") == content


def test_signed_url_older_than_its_lifetime_is_replaced(
    bare: CraftAiStore, platform: FaultyPlatform
) -> None:
    platform.put("a", LARGE)
    assert content_of(bare, "a", offset=0, length=10) == LARGE[:10]
    platform.bucket.now += platform.storage.url_seconds + 1
    assert content_of(bare, "a", offset=10, length=10) == LARGE[10:20]


REFUSALS = {
    "other keys": (403, "SignatureDoesNotMatch"),
    "another account": (403, "InvalidAccessKeyId"),
    "another form": (400, "AuthorizationHeaderMalformed"),
    "not there": (404, "NoSuchBucket"),
    "elsewhere": (301, "PermanentRedirect"),
    "no login": (401, "Unauthorized"),
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_refused_cached_signed_url_is_replaced_once(
    bare: CraftAiStore, platform: FaultyPlatform, refusal: tuple[int, str]
) -> None:
    platform.put("a", LARGE)
    assert content_of(bare, "a", offset=0, length=10) == LARGE[:10]
    platform.inject("get", fault.answering(fault.xml_refusal(*refusal)))
    assert content_of(bare, "a", offset=10, length=10) == LARGE[10:20]
    assert platform.count("download") == 2


def test_refusal_of_a_fresh_signed_url_is_raised(
    bare: CraftAiStore, platform: FaultyPlatform
) -> None:
    platform.put("a", LARGE)
    platform.inject("get", fault.answering(fault.xml_refusal(403, "AccessDenied")), times=2)
    with pytest.raises(StoreDenied):
        content_of(bare, "a", offset=0, length=10)
    assert platform.count("download") == 1
    with pytest.raises(StoreDenied):
        content_of(bare, "a", offset=0, length=10)
    assert content_of(bare, "a", offset=0, length=10) == LARGE[:10]


def test_busy_storage_keeps_its_signed_url(bare: CraftAiStore, platform: FaultyPlatform) -> None:
    platform.put("a", LARGE)
    content_of(bare, "a", offset=0, length=10)
    platform.inject("get", fault.status(503))
    with pytest.raises(StoreUnavailable):
        content_of(bare, "a", offset=10, length=10)
    assert content_of(bare, "a", offset=10, length=10) == LARGE[10:20]
    assert platform.count("download") == 1


def test_revoked_access_token_is_renewed_once(bare: CraftAiStore, platform: FaultyPlatform) -> None:
    list(bare.list())
    for _ in range(3):
        platform.revoke()
        platform.heal()
        bare.write("a", Bytes(SMALL), expect=None, operation="one")
        assert (content_of(bare, "a"), platform.count("refresh")) == (SMALL, 1)


def test_regenerated_sdk_token_is_denied_until_replaced(
    platform: FaultyPlatform, clock: FakeClock
) -> None:
    tokens = [platform.token]
    store = CraftAiStore(
        Access(platform.url, lambda: tokens[-1], platform.url), clock=clock, limits=LIMITS
    )
    platform.put("a", SMALL)
    assert content_of(store, "a") == SMALL
    platform.regenerate()
    with pytest.raises(StoreDenied) as raised:
        content_of(store, "a")
    assert "regenerated" in raised.value.remedy
    tokens.append(platform.token)
    assert content_of(store, "a") == SMALL
    store.close()


@pytest.mark.parametrize("seconds", [60, 120, 121])
def test_short_lived_tokens_are_not_renewed_for_every_request(
    bare: CraftAiStore, platform: FaultyPlatform, seconds: int
) -> None:
    platform.token_seconds = seconds
    for _ in range(5):
        list(bare.list())
    assert platform.count("refresh") == 1


@pytest.mark.parametrize("broken", [fault.status(503), fault.status(500), fault.xhtml_502])
def test_failed_token_refresh_is_retried(
    store: RetryingStore, platform: FaultyPlatform, broken: fault.Fault
) -> None:
    platform.put("a", SMALL)
    platform.inject("refresh", broken, times=2)
    assert content_of(store, "a") == SMALL
    assert platform.count("refresh") == 3


@pytest.mark.parametrize("endpoint", ["information", "download", "get", "list"])
def test_retry_waits_as_long_as_a_429_asks(
    store: RetryingStore, platform: FaultyPlatform, clock: FakeClock, endpoint: str
) -> None:
    platform.put("a", SMALL)
    platform.inject(endpoint, fault.status(429, retry_after=17))
    assert [entry.path for entry in store.list()] == ["a"]
    assert content_of(store, "a") == SMALL
    assert max(clock.slept) >= 17


API_FAULTS = {
    "xhtml": fault.xhtml_502,
    "html": fault.html_200,
    "array": fault.json_array_error,
    "500": fault.status(500),
    "lost": fault.connection_lost,
}


@pytest.mark.parametrize("broken", API_FAULTS.values(), ids=API_FAULTS)
@pytest.mark.parametrize(
    "endpoint", ["information", "upload", "begin", "part-url", "end", "download", "list"]
)
def test_every_transient_platform_failure_is_retried(
    store: RetryingStore, platform: FaultyPlatform, endpoint: str, broken: fault.Fault
) -> None:
    content = LARGE if endpoint in ("begin", "part-url", "end") else SMALL
    platform.inject(endpoint, broken)
    written = store.write("a", Bytes(content), expect=ABSENT, operation="one")
    store.barrier()
    assert content_of(store, "a") == content == platform.content("a")
    assert [entry.path for entry in store.list()] == ["a"]
    assert written.size == len(content)
    assert platform.paths() == ["a"]


@pytest.mark.parametrize(
    "broken",
    [fault.xhtml_502, fault.html_200, fault.xml_without_message, fault.status(503)],
    ids=["xhtml", "html", "no message", "503"],
)
@pytest.mark.parametrize("endpoint", ["form", "get"])
def test_every_transient_storage_failure_is_retried(
    store: RetryingStore, platform: FaultyPlatform, endpoint: str, broken: fault.Fault
) -> None:
    platform.inject(endpoint, broken)
    store.write("a", Bytes(SMALL), expect=ABSENT, operation="one")
    assert platform.content("a") == SMALL
    for _ in range(2):
        try:
            found = content_of(store, "a")
        except StoreUnavailable:
            continue
        assert found == SMALL


@pytest.mark.parametrize(
    "broken", [fault.empty_token, fault.repeated_token], ids=["empty", "repeated"]
)
@pytest.mark.parametrize("skip", [0, 1])
def test_listing_with_looping_page_tokens_is_broken(
    bare: CraftAiStore, platform: FaultyPlatform, broken: fault.Fault, skip: int
) -> None:
    for number in range(350):
        platform.put(f"{number:03}", b"")
    platform.inject("list", broken, times=10_000, skip=skip)
    with pytest.raises(ListingBroken):
        list(bare.list())


def test_null_page_token_ends_the_listing(bare: CraftAiStore, platform: FaultyPlatform) -> None:
    platform.put("a", b"")
    platform.inject("list", fault.null_token)
    assert [entry.path for entry in bare.list()] == ["a"]


@pytest.mark.parametrize("broken", API_FAULTS.values(), ids=API_FAULTS)
def test_failed_listing_page_is_retried_and_never_skipped(
    store: RetryingStore, platform: FaultyPlatform, broken: fault.Fault
) -> None:
    names = [f"{number:03}" for number in range(350)]
    for name in names:
        platform.put(name, b"")
    platform.inject("list", broken, skip=2)
    try:
        assert sorted(entry.path for entry in store.list()) == names
    except StoreUnavailable:
        assert sorted(entry.path for entry in store.list()) == names
    platform.inject("list", broken, skip=2, times=1000)
    with pytest.raises(StoreUnavailable):
        list(store.list())


@pytest.mark.parametrize("endpoint", ["download", "get"])
def test_object_changed_before_download_is_not_taken_for_the_listed_one(
    bare: CraftAiStore, platform: FaultyPlatform, endpoint: str
) -> None:
    platform.put("a", b"one")
    (listed,) = bare.list()
    platform.inject(endpoint, fault.before(lambda: platform.put("a", b"two")))
    with pytest.raises(PreconditionFailed):
        content_of(bare, "a", expect=listed)


def test_object_deleted_before_download_is_not_found(
    bare: CraftAiStore, platform: FaultyPlatform
) -> None:
    platform.put("a", b"one")
    (listed,) = bare.list()
    platform.inject("get", fault.before(lambda: platform.bucket.delete("a")))
    with pytest.raises((ObjectNotFound, PreconditionFailed)):
        content_of(bare, "a", expect=listed)


def test_parts_of_two_versions_are_never_combined(
    bare: CraftAiStore, platform: FaultyPlatform
) -> None:
    platform.put("a", b"1" * 1000)
    (listed,) = bare.list()
    assert isinstance(listed, RemoteObject)
    assert content_of(bare, "a", expect=listed, offset=0, length=500) == b"1" * 500
    platform.put("a", b"2" * 1000)
    with pytest.raises(PreconditionFailed):
        content_of(bare, "a", expect=listed, offset=500, length=500)


def test_stale_listing_deletes_nothing(
    store: RetryingStore, platform: FaultyPlatform, tmp_path: Path
) -> None:
    world = World(tmp_path, store)
    world.write("old", "old")
    world.run()
    platform.bucket.freeze_listing()
    world.write("new", "new")
    world.run()
    world.run()
    assert world.here() == {"old": "old", "new": "new"}
    platform.bucket.thaw_listing()
    world.run()
    world.assert_in_step()


def test_stale_listing_overwrites_nothing(
    store: RetryingStore, platform: FaultyPlatform, tmp_path: Path
) -> None:
    world = World(tmp_path, store)
    world.run()
    platform.bucket.freeze_listing()
    platform.put("a", b"theirs")
    world.write("a", "mine")
    world.run()
    platform.bucket.thaw_listing()
    world.run()
    assert set(world.there().values()) == {"mine", "theirs"}


@pytest.mark.parametrize("code", [502, 503, 504])
def test_standby_environment_is_unavailable_and_never_empty(
    bare: CraftAiStore, platform: FaultyPlatform, code: int
) -> None:
    platform.put("a", SMALL)
    platform.standby(code)
    acts: list[Callable[[], object]] = [
        partial(list, bare.list()),
        partial(bare.stat, "a"),
        partial(content_of, bare, "a"),
        partial(bare.write, "b", Bytes(SMALL), expect=ABSENT, operation="one"),
        partial(bare.delete, "a", expect=None),
    ]
    for act in acts:
        with pytest.raises(StoreUnavailable) as raised:
            act()
        assert "standby" in raised.value.remedy
    platform.standby(None)
    assert content_of(bare, "a") == SMALL
    assert platform.paths() == ["a"]


def test_run_during_standby_deletes_nothing_and_the_next_continues(
    store: RetryingStore, platform: FaultyPlatform, tmp_path: Path
) -> None:
    world = World(tmp_path, store)
    world.write("a", "here")
    platform.put("b", b"there")
    world.run()
    platform.standby(502)
    world.write("c", "new")
    with pytest.raises(StoreUnavailable) as raised:
        world.run()
    assert raised.value.exit_code == 5
    assert set(world.here()) == {"a", "b", "c"}
    platform.standby(None)
    world.run()
    world.assert_in_step()


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
def test_path_the_platform_rejects_is_refused(
    bare: CraftAiStore, platform: FaultyPlatform, content: bytes
) -> None:
    platform.path_pattern = "[a-z]+"
    with pytest.raises(PathRefused, match="pattern"):
        bare.write("É", Bytes(content), expect=ABSENT, operation="one")
    bare.write("e", Bytes(content), expect=ABSENT, operation="one")
    assert platform.paths() == ["e"]


def test_w14_content_encoding_is_never_decoded(
    bare: CraftAiStore, platform: FaultyPlatform
) -> None:
    content = gzipped(b"text " * 1000)
    platform.put("a.gz", content, encoding="gzip")
    assert content_of(bare, "a.gz") == content
    assert content_of(bare, "a.gz", offset=5, length=10) == content[5:15]


def no_ranges(answer: fault.Answer) -> fault.Answer:
    return answer._replace(status=200, body=LARGE, headers=answer.headers[:-1])


def wrong_status(answer: fault.Answer) -> fault.Answer:
    return answer._replace(status=200)


@pytest.mark.parametrize("strange", [no_ranges, wrong_status])
def test_range_read_is_exact_despite_unusual_range_answers(
    bare: CraftAiStore,
    platform: FaultyPlatform,
    strange: Callable[[fault.Answer], fault.Answer],
) -> None:
    """Some send all of the object, and some the part with the status of the whole (rclone)."""
    platform.put("a", LARGE)
    platform.inject("get", fault.changed(strange), times=10)
    for offset, length in ((0, 10), (5, 10), (PART, PART), (len(LARGE) - 3, 3)):
        expected = LARGE[offset : offset + length]
        assert content_of(bare, "a", offset=offset, length=length) == expected


def test_very_slow_response_delays_only_itself(
    bare: CraftAiStore, platform: FaultyPlatform
) -> None:
    platform.put("slow", b"ten bytes!")
    platform.put("quick", SMALL)
    started = threading.Event()
    platform.inject("get", fault.before(started.set))
    platform.inject("get", fault.slow_loris, when=lambda request: "slow" in request.path)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(content_of, bare, "slow")
        assert started.wait(60) and content_of(bare, "quick") == SMALL
        assert slow.result(60) == b"ten bytes!"


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("replaces", [False, True], ids=["new", "replacing"])
def test_write_with_lost_response_succeeds_and_happens_once(
    store: RetryingStore, platform: FaultyPlatform, content: bytes, replaces: bool
) -> None:
    old = None
    if replaces:
        platform.put("a", b"old")
        old = store.stat("a")
    endpoint = "end" if content is LARGE else "form"
    platform.inject(endpoint, fault.answer_lost, when=lambda request: b"trash" not in request.body)
    platform.requests.clear()
    store.write("a", Bytes(content), expect=old or ABSENT, operation="two", trash_stamp="k")
    assert platform.content("a") == content
    assert platform.count(endpoint) == (2 if replaces and content is SMALL else 1)
    kept = {path: platform.content(path) for path in platform.paths() if path != "a"}
    assert kept == ({f"{OWN_FOLDER}/trash/k/a": b"old"} if replaces else {})


def test_delete_with_lost_response_succeeds(store: RetryingStore, platform: FaultyPlatform) -> None:
    platform.put("a", SMALL)
    looked = store.stat("a")
    platform.inject("delete", fault.answer_lost)
    store.delete("a", expect=looked, trash_stamp="k")
    assert platform.paths() == [f"{OWN_FOLDER}/trash/k/a"]


@pytest.mark.parametrize("status", [200, 404])
def test_deleting_a_missing_object_succeeds_for_any_platform_answer(
    bare: CraftAiStore, platform: FaultyPlatform, status: int
) -> None:
    platform.delete_missing_status = status
    bare.delete("a", expect=None)


SIZES = [PART + 1, 2 * PART - 1, 2 * PART, 2 * PART + 1, 5 * PART + 7]


@pytest.mark.parametrize("size", SIZES)
def test_gcs_parts_are_sent_in_order(
    bare: CraftAiStore, platform: FaultyPlatform, size: int
) -> None:
    platform.storage.gcs = True
    content = random.Random(size).randbytes(size)
    bare.write("a", Bytes(content), expect=ABSENT, operation="one")
    assert platform.content("a") == content
    assert content_of(bare, "a") == content


def test_gcs_large_write_keeps_the_replaced_object_first(
    bare: CraftAiStore, platform: FaultyPlatform
) -> None:
    """The last part completes the object there: nothing is left to be held back afterwards."""
    platform.storage.gcs = True
    platform.put("a", b"old")
    old = bare.stat("a")
    bare.write("a", Bytes(LARGE), expect=old, operation="one", trash_stamp="k")
    assert platform.content(f"{OWN_FOLDER}/trash/k/a") == b"old"
    with pytest.raises(PreconditionFailed):
        bare.write("a", Bytes(LARGE[::-1]), expect=ABSENT, operation="two")
    assert platform.content("a") == LARGE


@pytest.mark.parametrize("number", [0, 2, 4])
@pytest.mark.parametrize(
    "broken",
    [fault.status(503), fault.connection_lost, fault.answer_lost, fault.expired_url],
    ids=["503", "not arrived", "answer lost", "expired"],
)
def test_gcs_interrupted_upload_is_completed(
    store: RetryingStore, platform: FaultyPlatform, number: int, broken: fault.Fault
) -> None:
    platform.storage.gcs = True
    platform.inject("part", broken, skip=number)
    put_large(store)
    assert platform.content("a") == LARGE


@pytest.mark.parametrize(
    "broken",
    [fault.status(500), fault.connection_lost, fault.answer_lost],
    ids=["500", "not arrived", "answer lost"],
)
def test_gcs_upload_with_failed_completion_can_be_repeated(
    bare: CraftAiStore, store: RetryingStore, platform: FaultyPlatform, broken: fault.Fault
) -> None:
    platform.storage.gcs = True
    platform.inject("end", broken)
    with pytest.raises(StoreUnavailable):
        put_large(bare)
    looked = bare.stat("a")
    assert looked is not None and looked.operation == "one"
    store.write("a", Bytes(LARGE), expect=looked, operation="two", trash_stamp="k")
    assert platform.content("a") == LARGE


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
def test_archived_object_is_not_replaced_or_deleted_without_a_kept_copy(
    store: RetryingStore, platform: FaultyPlatform, content: bytes
) -> None:
    platform.put("a", b"old")
    old = store.stat("a")
    platform.heal()
    platform.inject("get", fault.answering(fault.xml_refusal(403, "InvalidObjectState")), times=99)
    with pytest.raises(NotKept, match=r"^a is archived"):
        store.write("a", Bytes(content), expect=old, operation="one", trash_stamp="k")
    with pytest.raises(NotKept, match=r"^a is archived"):
        store.delete("a", expect=old, trash_stamp="k")
    assert platform.content("a") == b"old"
    assert not [request for request in platform.requests if request.endpoint in ("form", "part")]
    store.write("a", Bytes(content), expect=old, operation="one")
    assert platform.content("a") == content
