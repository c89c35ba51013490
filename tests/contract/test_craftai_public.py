"""The fallback through the SDK's public functions: the contract, and what those functions would lose."""

from __future__ import annotations

import logging
import os
import random
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from craftsync.core.model import ABSENT, OWN_FOLDER, RemoteObject, Skipped
from craftsync.errors import (
    CraftsyncError,
    ListingBroken,
    PathRefused,
    PreconditionFailed,
    StoreDenied,
    StoreFull,
    StoreUnavailable,
)
from craftsync.stores.craftai import Access, CraftAiStore
from craftsync.stores.craftai.public import PublicStore
from craftsync.stores.craftai.public_calls import PublicLimits
from craftsync.stores.craftai.public_sizes import KnownSizes, shown_as, size_text
from craftsync.stores.retrying import RetryingStore
from tests.contract.test_store_contract import (  # noqa: F401 (collected once more, for this store)
    test_conditional_write_keeps_the_replaced_object,
    test_copy_has_equal_content_and_metadata,
    test_copy_replaces_only_the_expected_target,
    test_copy_requires_the_expected_source,
    test_delete_keeps_the_deleted_object,
    test_delete_removes_only_the_expected_object,
    test_delete_removes_the_expected_object,
    test_deleting_twice_succeeds,
    test_different_content_has_a_different_version,
    test_invalid_name_is_rejected,
    test_keep_without_an_existing_object_is_not_an_error,
    test_listing_is_in_utf_8_byte_order,
    test_listing_of_valid_files_skips_nothing,
    test_listing_omits_the_craftsync_folder_unless_requested,
    test_listing_reflects_the_latest_write_and_delete,
    test_listing_with_prefix_returns_matching_paths,
    test_missing_object_is_absent_everywhere,
    test_range_of_an_empty_object_is_empty,
    test_range_reads_are_exact,
    test_read_of_an_unexpected_version_is_rejected,
    test_unconditional_write_keeps_the_replaced_object,
    test_unusual_names_round_trip,
    test_write_expecting_absence_never_overwrites,
    test_write_expecting_an_object_creates_none,
    test_write_listing_and_stat_agree_on_the_version,
    test_write_of_content_changing_while_read_leaves_nothing,
    test_write_replaces_only_the_expected_object,
    test_write_replaces_the_expected_object,
    test_written_content_is_read_back,
)
from tests.support.clock import FakeClock
from tests.support.platform import FaultyPlatform, faulty_platform
from tests.support.platform import faults as fault
from tests.support.platform.client import content_of
from tests.support.platform.storage import gzipped
from tests.support.world import Bytes, World

PART = 1000
LIMITS = PublicLimits(threshold=3000, part_size=PART, largest=16 << 20, call_seconds=60)
"""Parts so small that a few thousand bytes make many of them."""

Open = Callable[..., PublicStore]


@pytest.fixture(scope="module")
def shared() -> Iterator[FaultyPlatform]:
    with faulty_platform() as platform:
        yield platform


@pytest.fixture
def platform(shared: FaultyPlatform) -> FaultyPlatform:
    shared.bucket.objects.clear()
    shared.heal()
    return shared


@pytest.fixture(scope="module")
def shared_store(
    shared: FaultyPlatform, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PublicStore]:
    """One store for many tests, because starting its processes is what takes the time."""
    sizes = tmp_path_factory.mktemp("cache") / "sizes.json"
    store = PublicStore(access_to(shared), limits=LIMITS, sizes=sizes)
    yield store
    store.close()


@pytest.fixture
def store(platform: FaultyPlatform, shared_store: PublicStore) -> PublicStore:
    return shared_store


@pytest.fixture
def open_store(platform: FaultyPlatform, tmp_path: Path) -> Iterator[Open]:
    """Return a function that opens a store of its own."""
    opened: list[PublicStore] = []

    def open_with(limits: PublicLimits = LIMITS, folder: str = "") -> PublicStore:
        access = access_to(platform)
        opened.append(PublicStore(access, folder, limits=limits, sizes=tmp_path / "sizes.json"))
        return opened[-1]

    yield open_with
    for store in opened:
        store.close()


def access_to(platform: FaultyPlatform) -> Access:
    return Access(platform.url, lambda: platform.token, platform.url)


def patient(store: PublicStore) -> RetryingStore:
    return RetryingStore(store, clock=FakeClock())


def children() -> set[int]:
    """Return the processes this one has started and not ended."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError):  # A thread may end meanwhile.
            found.update(map(int, (task / "children").read_text().split()))
    return found


def cut_last_byte(platform: FaultyPlatform, path: str) -> None:
    stored = platform.bucket.objects[path]
    platform.bucket.objects[path] = stored._replace(content=stored.content[:-1])


@pytest.mark.parametrize("size", [1, 2999, 3000, 3001, 4001, 16_001])
def test_w01_the_last_byte_arrives_whatever_the_size(
    store: PublicStore, platform: FaultyPlatform, size: int
) -> None:
    content = random.Random(size).randbytes(size)
    assert store.write("a", Bytes(content), expect=ABSENT, operation="one").size == size
    assert platform.content("a") == content


@pytest.mark.parametrize(("size", "endpoint"), [(5, "form"), (5000, "end")])
def test_w01_object_missing_its_last_byte_is_trashed_and_sent_again(
    open_store: Open, platform: FaultyPlatform, size: int, endpoint: str
) -> None:
    store = patient(open_store())
    platform.inject(endpoint, fault.after(partial(cut_last_byte, platform, "a")))
    content = Bytes(bytes(size))
    assert store.write("a", content, expect=ABSENT, operation="one").size == size
    assert platform.content("a") == bytes(size)
    (aside,) = [path for path in platform.paths() if path.startswith(OWN_FOLDER)]
    assert platform.content(aside) == bytes(size - 1)


@pytest.mark.parametrize("lenient", [False, True])
def test_w02_upload_with_a_rejected_part_fails(
    store: PublicStore, platform: FaultyPlatform, monkeypatch: pytest.MonkeyPatch, lenient: bool
) -> None:
    """S3 itself refuses to end such an upload; the SDK would not mind."""
    monkeypatch.setattr(platform.storage, "lenient", lenient)
    content = random.Random(2).randbytes(4321)
    platform.inject("part", fault.status(503), skip=1)
    with pytest.raises(StoreUnavailable):
        store.write("a", Bytes(content), expect=ABSENT, operation="one")
    assert "a" not in platform.paths()
    platform.inject("part", fault.status(503), skip=1)
    patient(store).write("a", Bytes(content), expect=ABSENT, operation="one")
    assert platform.content("a") == content


def test_damaged_object_of_equal_size_is_found_by_reading_back(
    store: PublicStore, platform: FaultyPlatform
) -> None:
    platform.inject("end", fault.after(lambda: platform.put("a", bytes(4000))))
    with pytest.raises(StoreUnavailable):
        store.write("a", Bytes(b"x" * 4000), expect=ABSENT, operation="one")
    assert "a" not in platform.paths()


def test_w04_sizes_are_exact_despite_rounding_by_the_platform(
    store: PublicStore, platform: FaultyPlatform
) -> None:
    for size in (0, 1023, 1024, 1025, 1_234_567):
        platform.put(f"{size:08}", bytes(size))
    listed = list(store.list())
    assert [entry.size for entry in listed if isinstance(entry, RemoteObject)] == [
        0,
        1023,
        1024,
        1025,
        1_234_567,
    ]


def test_learned_size_is_remembered_by_the_next_store(
    open_store: Open, platform: FaultyPlatform
) -> None:
    platform.put("a", bytes(5000))
    first = open_store()
    assert [entry.path for entry in first.list()] == ["a"]
    first.close()
    platform.heal()
    (entry,) = open_store().list()
    assert isinstance(entry, RemoteObject) and entry.size == 5000
    assert platform.count("get") == 0


def test_remembered_size_is_not_used_for_another_object(
    open_store: Open, platform: FaultyPlatform
) -> None:
    platform.put("a", bytes(1024))
    store = open_store()
    list(store.list())
    platform.put("a", bytes(1025))
    (entry,) = store.list()
    assert isinstance(entry, RemoteObject) and entry.size == 1025


@pytest.mark.parametrize("content", ["", "nonsense", "[]", '{"a": 1}', '{"a": ["x", "y", "z"]}'])
def test_damaged_size_cache_is_discarded(tmp_path: Path, content: str) -> None:
    file = tmp_path / "sizes.json"
    file.write_text(content)
    sizes, shown = KnownSizes(file), shown_as("a", "2026-11-22T10:11:12Z", "4.88 KB")
    assert sizes.of(shown) is None
    sizes.learn(shown, 5000)
    sizes.save()
    assert KnownSizes(file).of(shown) == 5000


@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 10_240, 109_576_193, 5 << 30, 3 << 50])
def test_size_texts_match_the_sdk(size: int) -> None:
    from craft_ai_sdk.utils import convert_size

    assert size_text(size) == convert_size(size)


def test_object_larger_than_memory_is_rejected_with_the_reason(
    open_store: Open, platform: FaultyPlatform
) -> None:
    store = open_store(PublicLimits(threshold=5000, largest=4000))
    with pytest.raises(StoreFull, match=r"4,001 bytes.*at most 4,000"):
        store.write("mine", Bytes(bytes(4001)), expect=ABSENT, operation="one")
    platform.put("theirs", bytes(9000))
    platform.put("small", b"small")
    entries = {entry.path: entry for entry in store.list()}
    assert isinstance(entries["theirs"], Skipped) and entries["theirs"].failed
    assert content_of(store, "small") == b"small"
    with pytest.raises(StoreFull):
        content_of(store, "theirs")


def test_child_process_out_of_memory_fails_alone(
    open_store: Open, platform: FaultyPlatform
) -> None:
    store = open_store(PublicLimits(threshold=5000, largest=1 << 20))
    platform.put("a", bytes(96 << 20))
    lie = fault.answering(
        fault.json_answer({"path": "a", "last_modified": "2026-01-01T00:00:00Z", "size": 5})
    )
    platform.inject("information", lie)
    with pytest.raises(StoreFull, match="memory"):
        content_of(store, "a")
    platform.put("b", b"fine")
    assert content_of(store, "b") == b"fine"


@pytest.mark.parametrize("endpoint", ["list", "get", "form"])
def test_w08_unresponsive_platform_times_out(
    open_store: Open, platform: FaultyPlatform, endpoint: str
) -> None:
    store = open_store(PublicLimits(largest=1 << 20, call_seconds=1))
    platform.put("a", b"content")
    platform.inject(endpoint, fault.hanging(platform.gate))
    act: Callable[[], object] = partial(list, store.list())
    if endpoint == "get":
        act = partial(content_of, store, "a")
    elif endpoint == "form":
        act = partial(store.write, "b", Bytes(b"b"), expect=ABSENT, operation="one")
    with pytest.raises(StoreUnavailable) as raised:
        act()
    assert raised.value.ambiguous is (endpoint == "form")
    assert content_of(store, "a") == b"content"
    assert platform.paths() == ["a"]


def test_very_slow_response_times_out(open_store: Open, platform: FaultyPlatform) -> None:
    store = open_store(PublicLimits(largest=1 << 20, call_seconds=1))
    platform.put("a", bytes(1000))
    platform.inject("get", fault.slow_loris)
    with pytest.raises(StoreUnavailable):
        content_of(store, "a")


@pytest.mark.parametrize("size", [5, 4500])
def test_upload_with_lost_response_succeeds(
    store: PublicStore, platform: FaultyPlatform, size: int
) -> None:
    endpoint = "form" if size < LIMITS.threshold else "end"
    platform.inject(endpoint, fault.answer_lost)
    written = store.write("a", Bytes(b"x" * size), expect=ABSENT, operation="one")
    assert (written.size, platform.content("a")) == (size, b"x" * size)
    assert platform.count(endpoint) == 1


def test_upload_that_did_not_arrive_changes_nothing(
    store: PublicStore, platform: FaultyPlatform
) -> None:
    old = store.write("a", Bytes(b"old"), expect=ABSENT, operation="one")
    platform.inject("form", fault.connection_lost)
    with pytest.raises(StoreUnavailable) as raised:
        store.write("a", Bytes(b"new"), expect=old, operation="two")
    assert raised.value.ambiguous
    assert platform.content("a") == b"old"


def test_w11_revoked_access_token_is_renewed(store: PublicStore, platform: FaultyPlatform) -> None:
    platform.put("a", b"content")
    assert content_of(store, "a") == b"content"
    platform.revoke()
    assert content_of(store, "a") == b"content"


def test_regenerated_sdk_token_is_requested_again(
    store: PublicStore, platform: FaultyPlatform
) -> None:
    platform.put("a", b"content")
    assert content_of(store, "a") == b"content"
    platform.regenerate()
    assert content_of(store, "a") == b"content"


def test_wrong_token_is_denied_with_a_remedy(platform: FaultyPlatform, tmp_path: Path) -> None:
    access = Access(platform.url, lambda: "obsolete", platform.url)
    store = PublicStore(access, limits=LIMITS, sizes=tmp_path / "sizes.json")
    try:
        with pytest.raises(StoreDenied) as raised:
            list(store.list())
        assert "token" in raised.value.remedy
    finally:
        store.close()


def test_w13_netrc_entries_are_ignored(
    open_store: Open, platform: FaultyPlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("default login somebody password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    store = open_store()
    store.write("a", Bytes(b"content"), expect=ABSENT, operation="one")
    assert content_of(store, "a") == b"content"


def test_w14_object_decompressed_in_transit_is_rejected(
    store: PublicStore, platform: FaultyPlatform
) -> None:
    platform.put("a", gzipped(b"x" * 5000), encoding="gzip")
    platform.put("b", gzipped(bytes(range(256)) * 9000), encoding="gzip")
    with pytest.raises(StoreUnavailable, match="5,000 bytes arrived"):
        content_of(store, "a")
    listed = {entry.path: entry for entry in store.list()}
    assert isinstance(listed["b"], Skipped) and listed["b"].failed


def test_html_page_of_a_proxy_is_not_taken_for_content(
    store: PublicStore, platform: FaultyPlatform
) -> None:
    platform.put("a", b"content")
    platform.inject("get", fault.html_200)
    with pytest.raises(StoreUnavailable):
        content_of(store, "a")
    assert content_of(store, "a") == b"content"


@pytest.mark.parametrize(
    "broken",
    [
        fault.empty_token,
        fault.repeated_token,
        fault.status(502),
        fault.json_array_error,
        fault.xhtml_502,
        fault.html_200,
        fault.connection_lost,
        fault.short_body,
    ],
)
def test_w19_listing_that_ended_in_an_error_is_broken(
    store: PublicStore, platform: FaultyPlatform, broken: fault.Fault
) -> None:
    for number in range(250):
        platform.put(f"{number:03}", b"")
    platform.inject("list", broken, skip=1, times=1000)
    with pytest.raises(ListingBroken):
        list(store.list())
    platform.heal()
    assert len(list(store.list())) == 250


def test_w19_empty_page_pointing_to_itself_ends_the_listing(
    open_store: Open, platform: FaultyPlatform
) -> None:
    store = open_store(PublicLimits(largest=1 << 20, call_seconds=1))
    platform.inject("list", fault.empty_token, times=1_000_000)
    with pytest.raises(ListingBroken):
        list(store.list())


def test_w20_folder_of_an_environment_is_a_store_of_its_own(
    open_store: Open, platform: FaultyPlatform
) -> None:
    for path in ("data/a", "data/é/b", "data-2/c", "other", "data/marker/"):
        platform.put(path, b"" if path.endswith("/") else b"x")
    store = open_store(folder="data/")
    assert [entry.path for entry in store.list()] == ["a", "é/b"]
    store.write("new", Bytes(b"new"), expect=ABSENT, operation="one")
    assert platform.content("data/new") == b"new"


@pytest.mark.parametrize("path", ["a/../b", "./a", "..", "not-utf-8-\udce9"])
def test_w21_name_that_could_not_be_downloaded_is_rejected(
    store: PublicStore, platform: FaultyPlatform, path: str
) -> None:
    with pytest.raises(PathRefused):
        store.write(path, Bytes(b""), expect=ABSENT, operation="one")
    assert platform.paths() == []


def test_object_changing_while_read_is_rejected(
    store: PublicStore, platform: FaultyPlatform
) -> None:
    platform.put("a", b"one")
    platform.inject("get", fault.before(lambda: platform.put("a", b"two")))
    with pytest.raises(StoreUnavailable):
        content_of(store, "a")
    platform.inject("get", fault.before(lambda: platform.bucket.delete("a")))
    with pytest.raises(CraftsyncError):
        content_of(store, "a")


def test_standby_environment_is_unavailable_and_never_empty(
    store: PublicStore, platform: FaultyPlatform
) -> None:
    platform.put("a", b"content")
    for code in (502, 503, 504):
        platform.standby(code)
        try:
            with pytest.raises(StoreUnavailable):
                list(store.list())
            with pytest.raises(StoreUnavailable):
                store.stat("a")
        finally:
            platform.standby(None)
    assert content_of(store, "a") == b"content"


def test_dead_child_process_is_replaced(open_store: Open, platform: FaultyPlatform) -> None:
    before = children()
    store = open_store()
    platform.put("a", b"content")
    assert store.stat("a") is not None
    for child in children() - before:
        os.kill(child, signal.SIGKILL)
    assert content_of(patient(store), "a") == b"content"


def test_close_ends_all_child_processes(open_store: Open, platform: FaultyPlatform) -> None:
    before = children()
    store = open_store()
    store.write("a", Bytes(bytes(3001)), expect=ABSENT, operation="one")
    assert 1 <= len(children() - before) <= LIMITS.slots
    store.close()
    assert children() == before


ORPHAN = """
import os, signal, sys
from pathlib import Path
from craftsync.stores.craftai import Access, CraftAiStore
from craftsync.stores.craftai.public import PublicStore

url, token, sizes = sys.argv[1:]
store = PublicStore(Access(url, lambda: token, url), sizes=Path(sizes))
store.stat("a")
print(Path("/proc/self/task", str(os.getpid()), "children").read_text(), flush=True)
sys.stdin.read()
"""


def test_child_process_ends_with_its_parent(platform: FaultyPlatform, tmp_path: Path) -> None:
    arguments = [platform.url, platform.token, str(tmp_path / "sizes.json")]
    with subprocess.Popen(
        [sys.executable, "-c", ORPHAN, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        child = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
    ended = select.poll()
    ended.register(child, select.POLLIN)
    assert ended.poll(20_000)
    os.close(child)


def test_many_threads_share_few_child_processes(
    store: PublicStore, platform: FaultyPlatform
) -> None:
    def carry(number: int) -> bool:
        content = random.Random(number).randbytes([0, 7, 2500, 3001, 5001][number % 5])
        store.write(f"{number}", Bytes(content), expect=ABSENT, operation=f"{number}")
        return content_of(store, f"{number}") == content == platform.content(f"{number}")

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(carry, range(32)))


def test_token_is_in_no_environment_or_argument_of_child_processes(
    open_store: Open, platform: FaultyPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRAFT_AI_SDK_TOKEN", platform.token)
    before = children()
    open_store().stat("a")
    (child,) = children() - before
    for name in ("environ", "cmdline"):
        assert platform.token.encode() not in Path(f"/proc/{child}/{name}").read_bytes()


def test_sdk_fallback_limits_are_reported_once(
    open_store: Open, platform: FaultyPlatform, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        store = open_store()
        store.write("a", Bytes(b"content"), expect=ABSENT, operation="one")
        list(store.list())
    (record,) = caplog.records
    for word in ("2 transfers", "16,777,216 bytes", "rounded", "read back"):
        assert word in record.getMessage()


def test_write_overtaken_by_another_client_is_rejected(
    store: PublicStore, platform: FaultyPlatform
) -> None:
    old = store.write("a", Bytes(b"old"), expect=ABSENT, operation="one")
    platform.put("a", b"theirs")
    for expect in (old, ABSENT):
        with pytest.raises(PreconditionFailed):
            store.write("a", Bytes(b"mine"), expect=expect, operation="two", keep="k")
    assert platform.content("a") == b"theirs"


@pytest.mark.parametrize("changed", [False, True])
def test_sdk_fallback_is_used_when_sdk_internals_changed(
    platform: FaultyPlatform,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    changed: bool,
) -> None:
    """Changed in this process only: the worker processes load the SDK as it is installed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if changed:
        monkeypatch.setattr("craft_ai_sdk.CraftAiSdk._refresh_access_token", None)
    before = children()
    store = CraftAiStore(access_to(platform))
    store.prepare(None)
    store.write("a", Bytes(b"content"), expect=ABSENT, operation="one")
    assert platform.content("a") == b"content"
    assert bool(children() - before) is changed
    assert ("public functions only" in caplog.text) is changed
    store.close()


def test_sdk_fallback_keeps_a_folder_in_sync(
    store: PublicStore, platform: FaultyPlatform, tmp_path: Path
) -> None:
    world = World(tmp_path, patient(store))
    world.write("données/été.csv", "1" * 2000)
    world.write("empty", "")
    platform.put("modèles/m.joblib", b"2" * 3000)
    world.run()
    world.assert_in_step()
    world.write("données/été.csv", "3" * 2000)
    platform.put("modèles/m.joblib", b"4" * 3000)
    world.run()
    world.assert_in_step()
    assert platform.content("données/été.csv") == b"3" * 2000
    world.remove("empty")
    world.run()
    world.assert_in_step()
    assert "empty" not in platform.paths()
    # Each kept byte would travel twice here, so the own upload that was replaced is not kept.
    assert world.kept() == {"2" * 3000, ""}
