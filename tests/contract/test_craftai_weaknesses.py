"""The official SDK's weaknesses by their numbers (W1 to W27), and that a Craft AI store has none of them.

W8 and W14 are in `test_craftai_faults`. W22 (names of files as `Path`, pipes)
cannot arise: a store is given content, never the name of a file.
"""

from __future__ import annotations

import random
import threading
import unicodedata
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from craftsync.core.model import ABSENT, OWN_FOLDER, RemoteObject, Skipped
from craftsync.errors import (
    CraftsyncError,
    ListingBroken,
    PathBusy,
    PathRefused,
    PreconditionFailed,
    StoreFull,
    StoreUnavailable,
)
from craftsync.stores.craftai import Access, CraftAiStore, Limits
from craftsync.stores.craftai.multipart import part_size
from craftsync.stores.retrying import RetryingStore
from tests.support.clock import FakeClock
from tests.support.platform import FaultyPlatform, faulty_platform
from tests.support.platform import faults as fault
from tests.support.platform.client import LARGE, PART, SMALL, carried, content_of
from tests.support.world import Bytes, World

LIMITS = Limits(single_post=PART, smallest_part=PART, fresh_listing_seconds=-1.0, stats_later=False)
"""Small parts, and every stat made at once."""
SDK_LOSES = 109_576_193
"""11 parts of the SDK's own size and one byte: what it stores is one byte shorter."""

Open = Callable[..., CraftAiStore]


@pytest.fixture
def platform() -> Iterator[FaultyPlatform]:
    with faulty_platform() as platform:
        yield platform


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def open_store(platform: FaultyPlatform, clock: FakeClock) -> Iterator[Open]:
    opened: list[CraftAiStore] = []

    def open_with(folder: str = "", limits: Limits = LIMITS) -> CraftAiStore:
        access = Access(platform.url, lambda: platform.token, platform.url)
        opened.append(CraftAiStore(access, folder, clock=clock, limits=limits))
        return opened[-1]

    yield open_with
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Open) -> CraftAiStore:
    return open_store()


class Changing(Bytes):
    """Content that is found to have changed once it was read."""

    def verify(self) -> None:
        raise PathBusy("the file changed while it was read")


class Journal:
    """Remembers one upload, as the state database does."""

    def __init__(self) -> None:
        self.saved: tuple[str, int, dict[int, str]] | None = None

    def resume(self) -> tuple[str, int, dict[int, str]] | None:
        return self.saved

    def begin(self, upload_id: str, part_size: int) -> None:
        self.saved = upload_id, part_size, {}

    def part_done(self, number: int, version: str) -> None:
        assert self.saved is not None
        self.saved[2][number] = version

    def end(self) -> None:
        self.saved = None


def write(store: CraftAiStore | RetryingStore, path: str, content: bytes) -> RemoteObject:
    return store.write(path, Bytes(content), expect=ABSENT, operation=f"write {path}")


def sizes_around(*sizes: int) -> list[int]:
    return [size + more for size in sizes for more in (-1, 0, 1)]


@pytest.mark.parametrize("gcs", [False, True], ids=["s3", "gcs"])
@pytest.mark.parametrize("size", sizes_around(PART, 2 * PART, 5 * PART))
def test_w01_the_last_byte_arrives_whatever_the_size(
    store: CraftAiStore, platform: FaultyPlatform, gcs: bool, size: int
) -> None:
    """The SDK's own limit, 100,000,000 bytes, is `single_post` here; its parts are `PART`."""
    platform.storage.gcs = gcs
    content = random.Random(size).randbytes(size)
    assert write(store, "a", content).size == size
    assert platform.content("a") == content
    assert content_of(store, "a") == content


def test_w01_w05_large_file_transfers_completely_in_little_memory(
    platform: FaultyPlatform, tmp_path: Path
) -> None:
    file = tmp_path / "sparse"
    with file.open("wb") as opened:
        opened.truncate(SDK_LOSES - 1)
        opened.seek(SDK_LOSES - 1)
        opened.write(b"!")
    sent, megabytes_up = carried(platform, file, 16 << 20, "up")
    assert sent.startswith(f"{SDK_LOSES} ")
    assert len(platform.content("a")) == SDK_LOSES
    assert platform.content("a")[-1:] == b"!"
    received, megabytes_down = carried(platform, file, 16 << 20, "down")
    assert received == sent
    assert max(megabytes_up, megabytes_down) < 150


@pytest.mark.parametrize("size", [99_999_999])
def test_w06_form_upload_is_streamed(platform: FaultyPlatform, tmp_path: Path, size: int) -> None:
    file = tmp_path / "sparse"
    with file.open("wb") as opened:
        opened.truncate(size)
    sent, megabytes = carried(platform, file, 100_000_000, "up")
    assert (sent.split()[0], len(platform.content("a"))) == (str(size), size)
    assert platform.count("form") == 1
    assert megabytes < 150


def test_w02_refused_part_fails_the_upload(
    store: CraftAiStore, platform: FaultyPlatform, clock: FakeClock
) -> None:
    platform.storage.lenient = True
    platform.inject("part", fault.status(503), skip=1, times=1000)
    with pytest.raises(StoreUnavailable):
        write(store, "a", LARGE)
    assert platform.paths() == []
    platform.heal()
    write(RetryingStore(store, clock=clock), "a", LARGE)
    assert platform.content("a") == LARGE


def test_w02_permanently_refused_part_ends_the_upload_with_its_reason(
    store: CraftAiStore, platform: FaultyPlatform, clock: FakeClock
) -> None:
    full = fault.answering(fault.xml_refusal(400, "QuotaExceeded"))
    platform.inject("part", full, skip=1, times=1000)
    with pytest.raises(StoreFull, match="QuotaExceeded"):
        write(RetryingStore(store, clock=clock), "a", LARGE)
    assert platform.paths() == []


@pytest.mark.parametrize("again", ["the same store", "another store"])
def test_w03_failed_upload_is_resumed(
    open_store: Open, platform: FaultyPlatform, again: str
) -> None:
    journal, store = Journal(), open_store()
    late = fault.status(503)
    platform.inject("part", late, when=lambda r: r.query["partNumber"] in ("4", "5"), times=1000)
    put: Callable[[CraftAiStore], RemoteObject] = lambda store: store.write(  # noqa: E731
        "a", Bytes(LARGE), expect=ABSENT, operation="one", journal=journal
    )
    with pytest.raises(StoreUnavailable):
        put(store)
    platform.heal()
    put(store if again == "the same store" else open_store())
    assert platform.content("a") == LARGE
    assert (platform.count("begin"), platform.count("part")) == (0, 2)


def test_w03_upload_forgotten_by_the_platform_is_restarted(
    open_store: Open, platform: FaultyPlatform, clock: FakeClock
) -> None:
    journal = Journal()
    journal.saved = '{"upload": "upload-gone"}', PART, {1: '"' + "0" * 32 + '"'}
    store = RetryingStore(open_store(), clock=clock)
    store.write("a", Bytes(LARGE), expect=ABSENT, operation="one", journal=journal)
    assert platform.content("a") == LARGE


def test_w04_sizes_are_exact(store: CraftAiStore, platform: FaultyPlatform) -> None:
    for size in (0, 1023, 1024, 1025, 1_234_567):
        platform.put(f"{size:08}", bytes(size))
    for entry in store.list():
        looked = store.stat(entry.path)
        assert isinstance(entry, RemoteObject) and looked is not None
        assert entry.size == looked.size == int(entry.path)


def test_w07_failed_download_leaves_the_existing_file(
    store: CraftAiStore, platform: FaultyPlatform, tmp_path: Path, clock: FakeClock
) -> None:
    world = World(tmp_path, RetryingStore(store, clock=clock))
    world.write("a", "old")
    world.run()
    platform.put("a", b"a new content")
    platform.inject("get", fault.short_body, times=1000, when=lambda r: r.path.endswith("/a"))
    world.run()
    assert world.here() == {"a": "old"}
    platform.heal()
    world.run()
    world.assert_in_step()
    assert world.here() == {"a": "a new content"}


def test_w09_connections_are_reused(store: CraftAiStore, platform: FaultyPlatform) -> None:
    for number in range(20):
        write(store, f"{number}", SMALL)
        assert content_of(store, f"{number}") == SMALL
    write(store, "large", LARGE)
    assert platform.connections["api"] <= 5
    assert platform.connections["storage"] <= 5


def test_w10_sixteen_threads_renew_a_token_once(
    store: CraftAiStore, platform: FaultyPlatform, clock: FakeClock
) -> None:
    platform.put("a", SMALL)
    content_of(store, "a")
    expiries: list[Callable[[], object]] = [
        platform.revoke,
        partial(clock.advance, platform.token_seconds),
    ]
    for expire in expiries * 3:
        expire()
        platform.heal()
        start = threading.Barrier(16)

        def read(number: int, start: threading.Barrier = start) -> bytes:
            start.wait(60)
            for _ in range(3):
                store.stat("a")
            return content_of(store, "a")

        with ThreadPoolExecutor(16) as pool:
            assert set(pool.map(read, range(16))) == {SMALL}
        assert platform.count("refresh") == 1
        assert not any(
            "None" in request.headers.get("authorization", "") for request in platform.requests
        )


def test_w11_request_refused_for_its_token_is_retried(
    store: CraftAiStore, platform: FaultyPlatform
) -> None:
    write(store, "a", SMALL)
    platform.revoke()
    write(store, "b", SMALL)
    platform.inject("delete", fault.status(401))
    store.delete("b", expect=None)
    assert platform.paths() == ["a"]


def test_w12_clock_jump_does_not_break_token_renewal(
    store: CraftAiStore, platform: FaultyPlatform, clock: FakeClock
) -> None:
    list(store.list())
    for years in (-30, 30):
        clock._now_ns += years * 365 * 86_400 * 10**9
        list(store.list())
    assert platform.count("refresh") == 1


def test_w13_netrc_entries_are_ignored(
    store: CraftAiStore, platform: FaultyPlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("default login somebody password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for path, content in (("small", SMALL), ("large", LARGE)):
        write(store, path, content)
        assert content_of(store, path) == content
    logins = {request.headers.get("authorization", "")[:7] for request in platform.requests}
    assert logins == {"", "Bearer "}


STRANGE = {
    "array": fault.json_array_error,
    "xhtml": fault.xhtml_502,
    "html": fault.html_200,
    "xml": fault.xml_without_message,
    "204": fault.answering(fault.Answer(204)),
    "OK": fault.answering(fault.Answer(200, b"OK")),
    "redirect": fault.answering(fault.Answer(302, headers=(("Location", "/elsewhere"),))),
    "empty object": fault.answering(fault.json_answer({})),
    "null": fault.answering(fault.json_answer(None)),
    "csv": fault.answering(fault.Answer(200, b"a,b", (("Content-Type", "text/csv"),))),
    "short": fault.short_body,
    "lost": fault.connection_lost,
}


@pytest.mark.parametrize("strange", STRANGE.values(), ids=STRANGE)
@pytest.mark.parametrize(
    "endpoint",
    ["refresh", "list", "information", "upload", "begin", "part-url", "download", "get", "form"],
)
def test_w15_any_response_raises_only_craftsync_errors(
    store: CraftAiStore, platform: FaultyPlatform, endpoint: str, strange: fault.Fault
) -> None:
    platform.put("there", SMALL)
    platform.inject(endpoint, strange, times=1000)
    acts: list[Callable[[], object]] = [
        lambda: list(store.list()),
        partial(store.stat, "there"),
        partial(content_of, store, "there"),
        partial(write, store, "small", SMALL),
        partial(write, store, "large", LARGE),
    ]
    failed = 0
    for act in acts:
        try:
            act()
        except CraftsyncError as error:
            failed += 1
            assert platform.token not in str(error) and "Signature" not in str(error)
    harmless = endpoint == "form" and strange in (STRANGE["204"], STRANGE["short"])
    assert failed or harmless or (endpoint, strange) == ("form", STRANGE["OK"])
    platform.heal()
    for path, content in (("small", SMALL), ("large", LARGE)):
        if path in platform.paths():
            assert platform.content(path) == content


@pytest.mark.parametrize(("endpoint", "content"), [("form", SMALL), ("part", LARGE)])
def test_w16_bytes_changed_in_transit_are_detected(
    store: CraftAiStore, platform: FaultyPlatform, endpoint: str, content: bytes
) -> None:
    """The storage's checksum is the only one there is: the platform itself tells none."""

    def damaged(request: fault.Request, proceed: fault.Proceed) -> fault.Answer | None:
        body = bytes([request.body[0] ^ 1]) + request.body[1:]
        if endpoint == "form":
            body = request.body.replace(SMALL, SMALL.upper())
        return platform.storage.handle(request._replace(body=body))

    platform.inject(endpoint, damaged, skip=1 if endpoint == "part" else 0)
    with pytest.raises(StoreUnavailable):
        write(store, "a", content)
    kept = platform.paths()
    assert len(kept) == (endpoint == "form"), "a damaged part never becomes an object"
    assert all(path.startswith(".craftsync/trash/") and path.endswith("/a") for path in kept)
    write(store, "a", content)
    assert platform.content("a") == content


@pytest.mark.parametrize(
    "theirs", [b"theirs", SMALL.upper()[::-1]], ids=["other size", "same size"]
)
def test_w16_object_of_another_client_is_not_taken_for_a_damaged_upload(
    store: CraftAiStore, platform: FaultyPlatform, theirs: bytes
) -> None:
    def damaged(request: fault.Request, proceed: fault.Proceed) -> fault.Answer | None:
        body = request.body.replace(SMALL, SMALL.upper())
        answer = platform.storage.handle(request._replace(body=body))
        platform.put("a", theirs)
        return answer

    platform.inject("form", damaged)
    with pytest.raises(StoreUnavailable, match="Another client may have written it"):
        write(store, "a", SMALL)
    assert {path: platform.content(path) for path in platform.paths()} == {"a": theirs}


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
def test_w17_faster_writer_is_not_overwritten(
    store: CraftAiStore, platform: FaultyPlatform, content: bytes
) -> None:
    platform.put("a", b"old")
    old = store.stat("a")
    platform.put("a", b"theirs")
    for expect in (old, ABSENT):
        with pytest.raises(PreconditionFailed):
            store.write("a", Bytes(content), expect=expect, operation="mine", trash_stamp="k")
    with pytest.raises(PreconditionFailed):
        store.delete("a", expect=old, trash_stamp="k")
    assert platform.content("a") == b"theirs"


def test_w17_write_during_a_large_upload_is_not_overwritten(
    store: CraftAiStore, platform: FaultyPlatform
) -> None:
    platform.inject("part", fault.before(lambda: platform.put("a", b"theirs")), skip=3)
    with pytest.raises(PreconditionFailed):
        write(store, "a", LARGE)
    assert platform.content("a") == b"theirs"


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22T10:11:12.000Z",
        "2026-11-22T10:11:12Z",
        "2026-11-22T10:11:12",
        "2026-11-22T10:11:12+00:00",
        "2026-11-22T11:11:12.000+01:00",
        "2026-11-22 10:11:12.000000",
    ],
)
def test_w18_every_time_format_is_parsed(
    store: CraftAiStore, platform: FaultyPlatform, text: str
) -> None:
    entry = {"path": "a", "last_modified": text, "size": 5}
    platform.inject("list", fault.answering(fault.json_answer({"items": [entry]})))
    platform.inject("information", fault.answering(fault.json_answer(entry)))
    (listed,) = store.list()
    assert listed == store.stat("a")
    assert isinstance(listed, RemoteObject)
    moment = datetime(2026, 11, 22, 10, 11, 12, tzinfo=UTC)
    assert listed.modified_ns == int(moment.timestamp()) * 10**9


def test_w18_unparsable_time_still_detects_changes(
    store: CraftAiStore, platform: FaultyPlatform
) -> None:
    versions = []
    for text in ("yesterday", "yesterday", "today"):
        entry = {"path": "a", "last_modified": text, "size": 5}
        platform.inject("information", fault.answering(fault.json_answer(entry)))
        looked = store.stat("a")
        assert looked is not None
        versions.append(looked.version)
    assert versions[0] == versions[1] != versions[2]


def test_w18_coarser_time_of_a_stat_is_not_a_change(
    store: CraftAiStore, platform: FaultyPlatform
) -> None:
    """S3 keeps whole seconds; servers like it list milliseconds that a HEAD, being HTTP, cannot tell."""
    platform.bucket.tick, platform.whole_seconds = 1.345, True
    platform.put("a", SMALL)
    (listed,) = store.list()
    assert isinstance(listed, RemoteObject)
    assert content_of(store, "a", expect=listed) == SMALL
    store.write("a", Bytes(b"new"), expect=listed, operation="one")
    assert platform.content("a") == b"new"


def test_w19_path_listed_twice_breaks_the_listing(
    store: CraftAiStore, platform: FaultyPlatform
) -> None:
    """A page that began one object too early could as well have begun one too late, and left one out."""
    entry = {"last_modified": "2026-11-22T10:11:12Z", "size": 5}
    first = {"items": [{"path": "a", **entry}, {"path": "b", **entry}], "continuation_token": "2"}
    second = {"items": [{"path": "b", **entry}, {"path": "c", **entry}]}
    for page in (first, second):
        platform.inject("list", fault.answering(fault.json_answer(page)))
    with pytest.raises(ListingBroken):
        list(store.list())


def test_w19_unordered_listing_is_synced(
    store: CraftAiStore, platform: FaultyPlatform, tmp_path: Path, clock: FakeClock
) -> None:
    platform.descending = True
    world = World(tmp_path, RetryingStore(store, clock=clock))
    for number in range(250):
        platform.put(f"{number % 7}/{number}", str(number).encode())
    world.run()
    assert len(world.here()) == 250
    world.assert_in_step()


@pytest.mark.parametrize("meaning", ["below", "level", "prefix", "ignored"])
@pytest.mark.parametrize("paths", [["a", "b/c", "d/e/f"], ["a", "b"], ["b/c"]])
def test_w20_folder_listing_is_complete_for_any_prefix_semantics(
    open_store: Open, platform: FaultyPlatform, meaning: str, paths: list[str]
) -> None:
    platform.folder_meaning = meaning
    for path in paths:
        platform.put(f"data/{path}", SMALL)
    for path in ("data", "data-2/a", "other/data/a", ".craftsync/x"):
        platform.put(path, SMALL)
    store = open_store("data/")
    assert sorted(entry.path for entry in store.list()) == paths
    platform.put(f"data/{OWN_FOLDER}/trash/k/a", SMALL)
    assert sorted(entry.path for entry in store.list()) == paths
    assert [entry.path for entry in store.list(f"{OWN_FOLDER}/trash/")] == [
        f"{OWN_FOLDER}/trash/k/a"
    ]


@pytest.mark.parametrize("path", ["not-utf-8-\udce9", "", "x" * 1025, "a/../b", "./a", ".."])
def test_w21_name_that_could_not_be_read_back_is_rejected(
    store: CraftAiStore, platform: FaultyPlatform, path: str
) -> None:
    with pytest.raises(PathRefused):
        write(store, path, SMALL)
    assert platform.paths() == []


def test_w21_invalid_names_are_skipped(store: CraftAiStore, platform: FaultyPlatform) -> None:
    for path in ("a/../b", "/lead", "double//slash", "fine", "n" * 300):
        platform.put(path, SMALL)
    found = {entry.path: isinstance(entry, Skipped) for entry in store.list()}
    assert found == {
        "a/../b": True,
        "/lead": True,
        "double//slash": True,
        "fine": False,
        "n" * 300: True,
    }


NAMES = [
    "donn\u00e9es/\u00e9t\u00e9.csv",
    unicodedata.normalize("NFD", "donn\u00e9es/\u00e9t\u00e9.csv"),
    "deux mots/ un  espace ",
    "plus+hash#percent%25&amp;quote\"apostrophe'.txt",
    "?query=1&x=2;y",
    "${filename}",
    "日本/😀",
    "tab\tnewline\nreturn\rend",
]


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
def test_w21_names_round_trip_and_stay_distinct(
    store: CraftAiStore, platform: FaultyPlatform, content: bytes
) -> None:
    for name in NAMES:
        write(store, name, content + name.encode())
    assert platform.paths() == sorted(NAMES)
    assert sorted(entry.path for entry in store.list()) == sorted(NAMES)
    for name in NAMES:
        looked = store.stat(name)
        assert looked is not None and looked.path == name
        assert content_of(store, name, expect=looked) == content + name.encode()
        store.delete(name, expect=looked)
    assert platform.paths() == []


def test_w21_local_file_name_is_not_sent(store: CraftAiStore, platform: FaultyPlatform) -> None:
    write(store, "a", SMALL)
    (form,) = (request for request in platform.requests if request.endpoint == "form")
    assert b'name="file"; filename="f"' in form.body


def test_w23_empty_files_are_objects_but_folder_markers_are_not(
    store: CraftAiStore, platform: FaultyPlatform
) -> None:
    write(store, "empty", b"")
    platform.put("folder/", b"")
    assert [(entry.path, isinstance(entry, Skipped)) for entry in store.list()] == [
        ("empty", False)
    ]
    assert content_of(store, "empty") == b""


@pytest.mark.parametrize("size", sizes_around(99_614_720_000, 10_000 * (16 << 20), 5 << 40))
def test_w24_part_count_never_exceeds_the_storage_limit(size: int) -> None:
    assert -(-size // part_size(size)) <= 10_000
    assert part_size(size) % (256 * 1024) == 0


@pytest.mark.parametrize("gcs", [False, True], ids=["s3", "gcs"])
@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
def test_w25_file_changing_during_upload_never_becomes_an_object(
    store: CraftAiStore, platform: FaultyPlatform, content: bytes, gcs: bool
) -> None:
    platform.storage.gcs = gcs
    with pytest.raises(PathBusy):
        store.write("a", Changing(content), expect=ABSENT, operation="one")
    assert platform.paths() == []


def test_w26_deleted_and_replaced_objects_can_be_restored(
    store: CraftAiStore, platform: FaultyPlatform
) -> None:
    for path, content in (("small", SMALL), ("large", LARGE)):
        write(store, path, content)
        store.write(path, Bytes(b"new"), expect=None, operation="new", trash_stamp="first")
        store.delete(path, expect=None, trash_stamp="second")
        assert platform.content(f"{OWN_FOLDER}/trash/first/{path}") == content
        assert platform.content(f"{OWN_FOLDER}/trash/second/{path}") == b"new"
        assert store.stat(path) is None


def test_w27_one_signed_url_serves_all_ranges_of_an_object(
    store: CraftAiStore, platform: FaultyPlatform
) -> None:
    platform.put("a", LARGE)
    looked = store.stat("a")
    parts = [
        content_of(store, "a", expect=looked, offset=offset, length=PART)
        for offset in range(0, len(LARGE), PART)
    ]
    assert b"".join(parts) == LARGE
    assert platform.count("download") == 1
