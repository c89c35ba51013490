"""A Craft AI store as a pass uses it: what it costs, what it knows of its own writes, and of changes of the API."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from craftsync.core.model import ABSENT, OWN_FOLDER
from craftsync.errors import (
    ListingBroken,
    PreconditionFailed,
    StoreError,
    StoreUnavailable,
    UsageError,
)
from craftsync.stores.craftai import Access, CraftAiStore, Limits
from craftsync.stores.craftai.contract import check_contract
from craftsync.stores.craftai.listing import (
    BatchedStats,
    InvalidDescription,
    Listed,
    described,
    moment_of,
)
from craftsync.stores.craftai.multipart import MOST_PARTS, PART_STEP, part_size
from tests.support.clock import FakeClock
from tests.support.platform import FaultyPlatform, faulty_platform
from tests.support.platform import faults as fault
from tests.support.platform.wire import Answer
from tests.support.world import Bytes, World

Open = Callable[..., CraftAiStore]


@pytest.fixture
def platform() -> Iterator[FaultyPlatform]:
    with faulty_platform() as platform:
        yield platform


@pytest.fixture
def open_store(platform: FaultyPlatform) -> Iterator[Open]:
    """Return a function that opens the store as the command line does."""
    opened: list[CraftAiStore] = []

    def open_it(folder: str = "", **options: object) -> CraftAiStore:
        access = Access(platform.url, lambda: platform.token, platform.url)
        opened.append(CraftAiStore(access, folder, **options))  # type: ignore[arg-type]
        return opened[-1]

    yield open_it
    for store in opened:
        store.close()


def content_of(store: CraftAiStore, path: str) -> bytes:
    with store.read(path) as reader:
        return b"".join(reader)


def test_new_file_takes_two_requests(
    platform: FaultyPlatform, open_store: Open, tmp_path: Path
) -> None:
    world = World(tmp_path, open_store())
    for number in range(100):
        world.write(f"data/{number}", f"content {number}")
    world.run()
    assert len(platform.paths()) == 101
    assert platform.count("upload") == platform.count("form") == 101
    assert platform.count("list", "information", "download", "get") < 40


def test_many_new_files_get_only_the_stats_that_prove_the_listing() -> None:
    together, asked = threading.Barrier(16, timeout=10), list[str]()

    def stat(path: str) -> None:
        asked.append(path)
        together.wait()

    def listed_again() -> Listed:
        raise AssertionError

    clock = FakeClock()
    stats = BatchedStats(listed_again, stat, lambda _: None, clock, 2.0, None)
    stats.listed(clock.monotonic(), 0, 1)
    with ThreadPoolExecutor(40) as pool:
        assert not any(pool.map(stats.find, map(str, range(40))))
    assert len(asked) == 16


def test_next_run_knows_an_upload_without_reading_it(
    platform: FaultyPlatform, open_store: Open, tmp_path: Path
) -> None:
    world = World(tmp_path, open_store())
    for number in range(30):
        world.write(f"data/{number}", f"content {number}")
    world.run()
    platform.heal()
    report = world.run()
    assert (report.unchanged, world.said) == (30, [])
    read = platform.count("get")
    assert read <= 1, "only the store's identity file is read"


def test_another_programs_immediate_write_is_not_taken_for_ours(
    platform: FaultyPlatform, open_store: Open, tmp_path: Path
) -> None:
    """The look after a write comes later, and finds another client's object of the same size."""
    world = World(tmp_path, open_store())
    world.run()
    platform.bucket.tick = 10.0
    theirs_first = fault.before(lambda: platform.put("a", b"theirs"))
    platform.inject(
        "information", theirs_first, skip=1, when=lambda request: b'"a"' in request.body
    )
    world.write("a", "mine, ")
    world.run()
    world.run()
    assert world.here() == {"a": "theirs"}
    assert "mine, " in world.kept()


def test_acknowledged_write_that_is_incomplete_stops_the_run(
    platform: FaultyPlatform, open_store: Open
) -> None:
    store = open_store()
    list(store.list())
    kept = platform.bucket.put

    def put(path: str, content: bytes, **options: object) -> object:
        """Acknowledge all of it, and hold less."""
        stored = kept(path, content)
        platform.bucket.objects[path] = stored._replace(content=content[:-1])
        return stored

    platform.bucket.put = put  # type: ignore[method-assign, assignment]
    store.write("a", Bytes(b"content"), expect=ABSENT, operation="one")
    with pytest.raises(StoreError, match="acknowledged 7 bytes of a and holds 6"):
        store.barrier()


def test_failed_listing_postpones_confirming_writes_to_the_next_run(
    platform: FaultyPlatform, open_store: Open
) -> None:
    store = open_store()
    list(store.list())
    written = store.write("a", Bytes(b"content"), expect=ABSENT, operation="one")
    assert (written.version, written.modified_ns) == (None, None)
    platform.standby()
    assert store.barrier() == {}


def test_second_write_expecting_absence_is_rejected_before_any_listing(open_store: Open) -> None:
    store = open_store()
    list(store.list())
    for number in range(20):
        store.write(f"{number}", Bytes(b"first"), expect=ABSENT, operation="one")
    for number in range(20):
        with pytest.raises(PreconditionFailed):
            store.write(f"{number}", Bytes(b"second"), expect=ABSENT, operation="two")


def test_keeping_a_large_object_uses_little_memory(
    platform: FaultyPlatform, open_store: Open
) -> None:
    store = open_store(limits=Limits(single_post=PART_STEP, smallest_part=PART_STEP))
    content = bytes(range(256)) * (3 * PART_STEP // 256) + b"end"
    platform.put("a", content)
    store.delete("a", expect=store.stat("a"), trash_stamp="pass-1")
    assert platform.paths() == [f"{OWN_FOLDER}/trash/pass-1/a"]
    assert platform.content(f"{OWN_FOLDER}/trash/pass-1/a") == content
    asked = [
        request.headers.get("range") for request in platform.requests if request.endpoint == "get"
    ]
    assert len(asked) == 4 and None not in asked


def test_environments_are_distinguished_by_address(open_store: Open) -> None:
    here = open_store("models/2026")
    there = Access("https://my-env.example/", lambda: "token")
    assert here.location.endswith("/models/2026")
    assert (there.location, there.name) == ("craft-ai+https://my-env.example", "my-env")
    assert here.name == "2026"


def test_token_appears_in_no_output(
    platform: FaultyPlatform, open_store: Open, caplog: pytest.LogCaptureFixture
) -> None:
    platform.token = "a-secret-nobody-may-see"
    store = open_store()
    with caplog.at_level(logging.INFO):
        store.write("a", Bytes(b"content"), expect=None, operation="one")
        platform.inject("get", fault.status(403), times=10)
        platform.inject("information", fault.connection_lost, times=10)
        errors = []
        for act in (lambda: content_of(store, "a"), lambda: store.stat("a")):
            with pytest.raises(StoreError) as caught:
                act()
            errors.append(caught.value)
    said = [caplog.text, store.location, repr(Access(platform.url, lambda: platform.token))]
    said += [f"{error} {error.remedy}" for error in errors]
    assert platform.token not in " ".join(said)
    assert "Signature" not in " ".join(said)


def test_sdk_import_leaves_warning_filters_unchanged(platform: FaultyPlatform) -> None:
    code = (
        "import sys\n"
        "for name in ('craft_ai_sdk', 'requests', 'jwt'): sys.modules[name] = None\n"
        "from craftsync.stores.craftai import Access, CraftAiStore\n"
        "url, token = sys.argv[1:]\n"
        "store = CraftAiStore(Access(url, lambda: token, url))\n"
        "print(*(entry.path for entry in store.list()))\n"
    )
    platform.put("a", b"content")
    run = subprocess.run(
        [sys.executable, "-c", code, platform.url, platform.token],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.stdout == "a\n", run.stderr


def test_changed_api_error_names_doctor_and_doctor_names_transport_sdk(
    platform: FaultyPlatform, open_store: Open
) -> None:
    platform.inject("list", fault.answering(fault.json_answer({"objects": []})), times=2)
    with pytest.raises(ListingBroken, match="a page holds no items") as raised:
        list(open_store().list())
    assert "craftsync doctor" in raised.value.remedy
    access = Access(platform.url, lambda: platform.token, platform.url)
    (found,) = (finding for finding in check_contract(access) if finding.ok is False)
    assert found.name == "listing" and "transport: sdk" in found.remedy


@pytest.mark.parametrize("endpoint", ["refresh", "information", "upload", "download"])
def test_doctor_detects_each_changed_api_response(platform: FaultyPlatform, endpoint: str) -> None:
    platform.put("a", b"content")
    platform.inject(endpoint, fault.answering(fault.json_answer({"answer": "another"})))
    access = Access(platform.url, lambda: platform.token, platform.url)
    changed = [finding for finding in check_contract(access) if finding.ok is False]
    assert len(changed) == 1 and "transport: sdk" in changed[0].remedy


@pytest.mark.parametrize("endpoint", ["refresh", "list", "information", "upload", "download"])
def test_login_page_is_not_taken_for_a_changed_api(platform: FaultyPlatform, endpoint: str) -> None:
    platform.put("a", b"content")
    platform.inject(endpoint, fault.html_200)
    access = Access(platform.url, lambda: platform.token, platform.url)
    found = list(check_contract(access))
    assert not any(finding.ok is False for finding in found)
    assert any("login page" in finding.remedy for finding in found)


def test_unreachable_platform_is_not_taken_for_a_changed_api(platform: FaultyPlatform) -> None:
    platform.standby()
    access = Access(platform.url, lambda: platform.token, platform.url)
    assert all(finding.ok is not False for finding in check_contract(access))


def test_doctor_lists_what_was_checked_of_the_platform(platform: FaultyPlatform) -> None:
    platform.put("a", b"content")
    access = Access(platform.url, lambda: platform.token, platform.url)
    found = {finding.name: finding for finding in check_contract(access)}
    assert all(finding.ok for finding in found.values())
    assert list(found) == ["token", "listing", "description", "download", "upload"]
    assert platform.paths() == ["a"]
    *_, refused = check_contract(replace(access, token=lambda: "another"))
    assert (refused.name, refused.ok) == ("token", None)
    assert "does not accept the SDK token" in refused.detail


@pytest.mark.parametrize(
    "token",
    [
        None,
        5,
        "opaque",
        "a.b.c",
        "a.!!!.c",
        "a.e30.c",
        "a.eyJleHAiOiAieCIsICJpYXQiOiAxfQ.c",
        "a.eyJleHAiOjksImlhdCI6MX0.c\r\nX-Injected: 1",
    ],
)
def test_unreadable_token_is_never_used(
    platform: FaultyPlatform, open_store: Open, token: object
) -> None:
    platform.inject("refresh", fault.answering(fault.json_answer({"access_token": token})))
    with pytest.raises(StoreUnavailable, match="invalid token"):
        open_store().stat("a")
    assert [request.endpoint for request in platform.requests] == ["refresh"]


def test_concurrent_token_requests_share_one_refresh(
    platform: FaultyPlatform, open_store: Open
) -> None:
    store = open_store()
    gate = threading.Barrier(16)

    def look() -> None:
        gate.wait()
        assert store.stat("a") is None

    threads = [threading.Thread(target=look) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert platform.count("refresh") == 1


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (1, 16 << 20),
        (16 << 20, 16 << 20),
        (MOST_PARTS * (16 << 20), 16 << 20),
        (MOST_PARTS * (16 << 20) + 1, (16 << 20) + PART_STEP),
        (1 << 40, 420 * PART_STEP),
    ],
)
def test_part_size_is_the_smallest_that_fits_the_part_limit(size: int, expected: int) -> None:
    assert part_size(size) == expected
    assert expected % PART_STEP == 0 and -(-size // expected) <= MOST_PARTS


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("2026-11-22T10:11:12Z", 1795342272_000_000_000),
        ("2026-11-22T10:11:12.345Z", 1795342272_345_000_000),
        ("2026-11-22T11:11:12+01:00", 1795342272_000_000_000),
        ("2026-11-22T10:11:12", 1795342272_000_000_000),
        ("last Sunday", None),
    ],
)
def test_time_without_zone_is_utc(text: str, nanoseconds: int | None) -> None:
    assert moment_of(text)[0] == nanoseconds


@pytest.mark.parametrize("size", ["1.00 KB", None, True, -1, 1.5, [], "1"])
def test_invalid_size_is_rejected(size: object) -> None:
    entry = {"path": "a", "last_modified": "2026-11-22T10:11:12Z", "size": size}
    with pytest.raises(InvalidDescription):
        described(entry)


def test_missing_sdk_token_is_a_usage_error() -> None:
    def missing() -> str:
        raise UsageError("There is no SDK token")

    with pytest.raises(UsageError):
        CraftAiStore(Access("http://127.0.0.1:9", missing))


def test_success_response_of_another_server_is_rejected(
    platform: FaultyPlatform, open_store: Open
) -> None:
    """What is there afterwards has the right size, because it is what was to be replaced."""
    store = open_store()
    platform.put("a", b"before")
    platform.inject("form", fault.answering(Answer(200)), when=lambda r: b"trash" not in r.body)
    with pytest.raises(StoreUnavailable):
        store.write("a", Bytes(b"behind"), expect=store.stat("a"), operation="one", trash_stamp="k")
