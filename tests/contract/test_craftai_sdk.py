"""An environment through the functions of the SDK (`transport: sdk`): the contract, and what those functions would lose."""

from __future__ import annotations

import ast
import inspect
import logging
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from craftsync.clock import SystemClock
from craftsync.core.model import ABSENT, OWN_FOLDER, RemoteObject
from craftsync.errors import (
    CraftsyncError,
    Interrupted,
    PathRefused,
    PreconditionFailed,
    StoreDenied,
    StoreFull,
    StoreUnavailable,
    UsageError,
)
from craftsync.install_hint import install_command
from craftsync.stores.craftai import Access, CraftAiStore
from craftsync.stores.craftai.multipart import PART_STEP
from craftsync.stores.craftai.sdk import Sdk, SdkLimits
from craftsync.stores.craftai.sizes import KnownSizes, Shown, size_text
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
from tests.support.platform.wire import Gate
from tests.support.world import Bytes, World

# All connections here are the SDK's, which leaves that of a failed call to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

PART, THRESHOLD = 1000, 3000
"""So small that a few thousand bytes make many parts."""
LIMITS = SdkLimits(threshold=THRESHOLD, largest=16 << 20, call_seconds=60)

Open = Callable[..., CraftAiStore]


@pytest.fixture(scope="module")
def shared() -> Iterator[FaultyPlatform]:
    with faulty_platform() as platform:
        yield platform


@pytest.fixture
def platform(shared: FaultyPlatform) -> FaultyPlatform:
    shared.bucket.objects.clear()
    shared.heal()
    return shared


@pytest.fixture(autouse=True)
def small_parts_and_no_memory(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The contract's objects are so large that they would be of very many parts."""
    part = PART if request.function.__module__ == __name__ else PART_STEP
    monkeypatch.setattr("craft_ai_sdk.CraftAiSdk._MULTIPART_THRESHOLD", THRESHOLD)
    monkeypatch.setattr("craft_ai_sdk.CraftAiSdk._MULTIPART_PART_SIZE", part)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def open_store(platform: FaultyPlatform) -> Iterator[Open]:
    """Return a function that opens a store of its own."""
    opened: list[CraftAiStore] = []

    def open_with(limits: SdkLimits = LIMITS, folder: str = "") -> CraftAiStore:
        access = access_to(platform)
        sdk = Sdk(access, SystemClock(), limits)
        opened.append(CraftAiStore(access, folder, sdk=sdk))
        return opened[-1]

    yield open_with
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Open) -> CraftAiStore:
    return open_store()


def access_to(platform: FaultyPlatform) -> Access:
    return Access(platform.url, lambda: platform.token, platform.url)


def patient(store: CraftAiStore) -> RetryingStore:
    return RetryingStore(store, clock=FakeClock())


def cut_last_byte(platform: FaultyPlatform, path: str) -> None:
    stored = platform.bucket.objects[path]
    platform.bucket.objects[path] = stored._replace(content=stored.content[:-1])


@pytest.mark.parametrize("size", [1, 2999, 3000, 3001, 4001, 16_001])
def test_w01_the_last_byte_arrives_whatever_the_size(
    store: CraftAiStore, platform: FaultyPlatform, size: int
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
    store: CraftAiStore, platform: FaultyPlatform, monkeypatch: pytest.MonkeyPatch, lenient: bool
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
    store: CraftAiStore, platform: FaultyPlatform
) -> None:
    platform.inject("end", fault.after(lambda: platform.put("a", bytes(4000))))
    with pytest.raises(StoreUnavailable):
        store.write("a", Bytes(b"x" * 4000), expect=ABSENT, operation="one")
    assert "a" not in platform.paths()


def test_w04_sizes_are_exact_despite_rounding_by_the_platform(
    store: CraftAiStore, platform: FaultyPlatform
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
def test_damaged_size_cache_is_discarded(content: str) -> None:
    sizes, shown = KnownSizes("here"), Shown("a", "2026-11-22T10:11:12Z", "t1", "4.88 KB")
    sizes.file.parent.mkdir(parents=True)
    sizes.file.write_text(content)
    sizes = KnownSizes("here")
    assert sizes.of(shown) is None
    sizes.learn(shown, 5000)
    sizes.save()
    assert KnownSizes("here").of(shown) == 5000


def test_size_cache_without_home_is_not_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also where nobody can say whose home it would be, and in no folder of that name."""
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "~")
    monkeypatch.chdir(tmp_path)
    sizes = KnownSizes("here")
    sizes.learn(Shown("a", "2026-11-22T10:11:12Z", "t1", "4.88 KB"), 5000)
    sizes.save()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 10_240, 109_576_193, 5 << 30, 3 << 50])
def test_size_texts_match_the_sdk(size: int) -> None:
    from craft_ai_sdk.utils import convert_size

    assert size_text(size) == convert_size(size)


def test_object_larger_than_memory_is_rejected_with_the_reason(
    open_store: Open, platform: FaultyPlatform
) -> None:
    store = open_store(SdkLimits(largest=4000))
    with pytest.raises(StoreFull, match=r"4,001 bytes.*at most 4,000"):
        store.write("mine", Bytes(bytes(4001)), expect=ABSENT, operation="one")
    platform.put("theirs", bytes(9000))
    platform.put("small", b"small")
    entries = {entry.path: entry for entry in store.list()}
    assert isinstance(entries["theirs"], RemoteObject) and entries["theirs"].size > 4000
    assert content_of(store, "small") == b"small"
    with pytest.raises(StoreFull):
        content_of(store, "theirs")


@pytest.mark.parametrize("endpoint", ["list", "get", "form"])
def test_w08_unresponsive_platform_times_out(
    open_store: Open, platform: FaultyPlatform, endpoint: str
) -> None:
    store = open_store(SdkLimits(largest=1 << 20, call_seconds=1))
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
    store = open_store(SdkLimits(largest=1 << 20, call_seconds=1))
    platform.put("a", bytes(1000))
    platform.inject("get", fault.slow_loris)
    with pytest.raises(StoreUnavailable):
        content_of(store, "a")


@pytest.mark.parametrize("size", [5, 4500])
def test_upload_with_lost_response_succeeds(
    store: CraftAiStore, platform: FaultyPlatform, size: int
) -> None:
    endpoint = "form" if size < THRESHOLD else "end"
    platform.inject(endpoint, fault.answer_lost)
    written = patient(store).write("a", Bytes(b"x" * size), expect=ABSENT, operation="one")
    assert (written.size, platform.content("a")) == (size, b"x" * size)
    assert platform.count(endpoint) == 1


def test_upload_that_did_not_arrive_changes_nothing(
    store: CraftAiStore, platform: FaultyPlatform
) -> None:
    old = store.write("a", Bytes(b"old"), expect=ABSENT, operation="one")
    platform.inject("form", fault.connection_lost)
    with pytest.raises(StoreUnavailable) as raised:
        store.write("a", Bytes(b"new"), expect=old, operation="two")
    assert raised.value.ambiguous
    assert platform.content("a") == b"old"


def test_w11_revoked_access_token_is_renewed(store: CraftAiStore, platform: FaultyPlatform) -> None:
    platform.put("a", b"content")
    assert content_of(store, "a") == b"content"
    platform.revoke()
    assert content_of(store, "a") == b"content"


def test_regenerated_sdk_token_is_requested_again(
    store: CraftAiStore, platform: FaultyPlatform
) -> None:
    platform.put("a", b"content")
    assert content_of(store, "a") == b"content"
    platform.regenerate()
    assert content_of(store, "a") == b"content"


def test_wrong_token_is_denied_with_a_remedy(platform: FaultyPlatform) -> None:
    access = Access(platform.url, lambda: "obsolete", platform.url)
    store = CraftAiStore(access, sdk=Sdk(access, SystemClock()))
    with pytest.raises(StoreDenied) as raised:
        list(store.list())
    assert "token" in raised.value.remedy


def test_w13_netrc_entry_is_rejected_until_hidden(
    open_store: Open, platform: FaultyPlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("default login somebody password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    with pytest.raises(UsageError, match="in the place of the token") as raised:
        open_store()
    assert "NETRC=/dev/null" in raised.value.remedy
    monkeypatch.setenv("NETRC", os.devnull)
    store = open_store()
    store.write("a", Bytes(b"content"), expect=ABSENT, operation="one")
    assert content_of(store, "a") == b"content"


def test_w14_object_decompressed_in_transit_is_rejected(
    store: CraftAiStore, platform: FaultyPlatform
) -> None:
    platform.put("a", gzipped(b"x" * 5000), encoding="gzip")
    platform.put("b", gzipped(bytes(range(256)) * 9000), encoding="gzip")
    with pytest.raises(StoreUnavailable, match="5,000 bytes arrived"):
        content_of(store, "a")
    assert [entry.path for entry in store.list()] == ["a", "b"]
    with pytest.raises(StoreUnavailable, match="bytes arrived"):
        content_of(store, "b")


def test_html_page_of_a_proxy_is_not_taken_for_content(
    store: CraftAiStore, platform: FaultyPlatform
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
def test_w19_listing_that_ended_in_an_error_fails(
    store: CraftAiStore, platform: FaultyPlatform, broken: fault.Fault
) -> None:
    for number in range(250):
        platform.put(f"{number:03}", b"")
    platform.inject("list", broken, skip=1, times=1000)
    with pytest.raises(StoreUnavailable):
        list(store.list())
    platform.heal()
    assert len(list(store.list())) == 250


def test_w19_empty_page_pointing_to_itself_ends_the_listing(
    open_store: Open, platform: FaultyPlatform
) -> None:
    store = open_store(SdkLimits(largest=1 << 20, call_seconds=1))
    platform.inject("list", fault.empty_token, times=1_000_000)
    with pytest.raises(StoreUnavailable):
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
    store: CraftAiStore, platform: FaultyPlatform, path: str
) -> None:
    with pytest.raises(PathRefused):
        store.write(path, Bytes(b""), expect=ABSENT, operation="one")
    assert platform.paths() == []


def test_object_changing_while_read_is_rejected(
    store: CraftAiStore, platform: FaultyPlatform
) -> None:
    platform.put("a", b"one")
    platform.inject("get", fault.before(lambda: platform.put("a", b"two")))
    with pytest.raises(StoreUnavailable):
        content_of(store, "a")
    platform.inject("get", fault.before(lambda: platform.bucket.delete("a")))
    with pytest.raises(CraftsyncError):
        content_of(store, "a")


def test_standby_environment_is_unavailable_and_never_empty(
    store: CraftAiStore, platform: FaultyPlatform
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


def test_many_threads_share_the_few_instances_of_the_sdk(
    store: CraftAiStore, platform: FaultyPlatform
) -> None:
    def carry(number: int) -> bool:
        content = random.Random(number).randbytes([0, 7, 2500, 3001, 5001][number % 5])
        store.write(f"{number}", Bytes(content), expect=ABSENT, operation=f"{number}")
        return content_of(store, f"{number}") == content == platform.content(f"{number}")

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(carry, range(15)))


def test_sdk_fallback_limits_are_logged_once(
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
    store: CraftAiStore, platform: FaultyPlatform
) -> None:
    old = store.write("a", Bytes(b"old"), expect=ABSENT, operation="one")
    platform.put("a", b"theirs")
    for expect in (old, ABSENT):
        with pytest.raises(PreconditionFailed):
            store.write("a", Bytes(b"mine"), expect=expect, operation="two", trash_stamp="k")
    assert platform.content("a") == b"theirs"


def test_sdk_fallback_keeps_a_folder_in_sync(
    store: CraftAiStore, platform: FaultyPlatform, tmp_path: Path
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


def test_abandoned_upload_changes_nothing_later(open_store: Open, platform: FaultyPlatform) -> None:
    """An upload that nobody waits for sends no further part, and until it has ended nothing else is sent there."""
    store = open_store(SdkLimits(largest=1 << 20, call_seconds=1))
    gate = Gate()

    def held(request: fault.Request, proceed: fault.Proceed) -> fault.Answer | None:
        gate.wait()
        return proceed()

    platform.inject("part", held)
    with pytest.raises(StoreUnavailable, match="did not answer"):
        store.write("a", Bytes(b"x" * 5000), expect=ABSENT, operation="one")
    with pytest.raises(StoreUnavailable, match="has not ended"):
        store.write("a", Bytes(b"y" * 10), expect=ABSENT, operation="two")
    store.write("b", Bytes(b"y" * 10), expect=ABSENT, operation="three")
    gate.open()
    RetryingStore(store, clock=SystemClock()).write(
        "a", Bytes(b"z" * 10), expect=ABSENT, operation="four"
    )
    assert platform.content("a") == b"z" * 10
    assert platform.count("part", "end") == 1


def test_stop_ends_a_wait_for_the_sdk(open_store: Open, platform: FaultyPlatform) -> None:
    store = open_store()
    platform.put("a", b"content")
    asked = threading.Event()
    hang = fault.hanging(platform.gate)

    def held(request: fault.Request, proceed: fault.Proceed) -> fault.Answer | None:
        asked.set()
        return hang(request, proceed)

    platform.inject("get", held)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(content_of, store, "a")
        assert asked.wait(60)
        store.cancel()
        with pytest.raises(Interrupted):
            reading.result(60)
    with pytest.raises(Interrupted):
        store.stat("a")
    store.renew()
    assert content_of(store, "a") == b"content"


def test_missing_extra_error_says_how_to_install_it(
    open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "craft_ai_sdk", None)
    with pytest.raises(UsageError) as raised:
        open_store()
    assert raised.value.remedy == f"Install it with: {install_command('sdk')}"


def test_sdk_import_leaves_warning_filters_unchanged() -> None:
    code = (
        "import warnings, requests; before = list(warnings.filters)\n"
        "from craftsync.clock import SystemClock\n"
        "from craftsync.stores.craftai import Access\n"
        "from craftsync.stores.craftai.sdk import Sdk\n"
        "Sdk(Access('http://127.0.0.1:9', lambda: 'token'), SystemClock()).close()\n"
        "assert warnings.filters == before, warnings.filters\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_only_public_functions_of_the_sdk_are_used() -> None:
    source = Path(inspect.getsourcefile(Sdk) or "").read_text()
    touched = {
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "sdk"
    }
    assert touched == {
        "delete_data_store_object",
        "download_data_store_object",
        "get_data_store_object_information",
        "list_data_store_objects",
        "upload_data_store_object",
    }
