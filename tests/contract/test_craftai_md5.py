"""What arrives from an environment is compared with its MD5, once its storage is known to report MD5s."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from craftsync.core.model import ABSENT
from craftsync.engine.identity import STORE_ID_FILE
from craftsync.errors import ContentDamaged, StoreChanged
from craftsync.stores.craftai import Access, CraftAiStore, Limits
from tests.support.platform import FaultyPlatform, faulty_platform
from tests.support.platform import faults as fault
from tests.support.platform.client import LARGE, PART, SMALL, content_of
from tests.support.platform.wire import Answer
from tests.support.world import Bytes, World

LIMITS = Limits(single_post=PART, smallest_part=PART, fresh_listing_seconds=-1.0)
NO_MD5 = "0123456789abcdef" * 2
"""An ETag that only looks like an MD5."""


@pytest.fixture(scope="module")
def shared() -> Iterator[FaultyPlatform]:
    with faulty_platform() as platform:
        yield platform


@pytest.fixture
def platform(shared: FaultyPlatform) -> Iterator[FaultyPlatform]:
    shared.bucket.objects.clear()
    shared.heal()
    yield shared
    shared.heal()
    shared.storage.ranges = True


@pytest.fixture
def store(platform: FaultyPlatform) -> Iterator[CraftAiStore]:
    """A store that retries nothing, and does not know yet what ETags are."""
    access = Access(platform.url, lambda: platform.token, platform.url)
    with closing(CraftAiStore(access, limits=LIMITS)) as store:
        yield store


def md5_of(content: bytes) -> bytes:
    return hashlib.md5(content, usedforsecurity=False).digest()


def flipped(answer: Answer) -> Answer:
    body = bytearray(answer.body)
    body[len(body) // 2] ^= 1
    return answer._replace(body=bytes(body))


def naming(*headers: tuple[str, str]) -> fault.Fault:
    return fault.changed(lambda answer: answer._replace(headers=(*answer.headers, *headers)))


def content_md5(content: bytes) -> tuple[str, str]:
    return "Content-MD5", b64encode(md5_of(content)).decode()


def confirm(store: CraftAiStore, platform: FaultyPlatform) -> None:
    """Let the store see that the ETags of its storage are MD5s."""
    platform.put("seen", SMALL)
    assert content_of(store, "seen") == SMALL
    platform.heal()


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
def test_download_that_does_not_match_its_md5_raises(
    store: CraftAiStore, platform: FaultyPlatform, content: bytes
) -> None:
    platform.put("a", content)
    platform.inject("get", fault.changed(flipped))
    arrived: list[bytes] = []
    with pytest.raises(ContentDamaged), store.read("a") as reader:
        arrived.extend(reader)
    assert len(b"".join(arrived)) < len(content)
    assert content_of(store, "a") == content


@pytest.mark.parametrize("proof", ["match", "upload"])
def test_same_wrong_bytes_are_damage_once_etags_are_known_to_be_md5s(
    store: CraftAiStore, platform: FaultyPlatform, proof: str
) -> None:
    if proof == "match":
        confirm(store, platform)
    else:
        store.write("seen", Bytes(SMALL), expect=ABSENT, operation="one")
    platform.put("a", SMALL)
    platform.inject("get", fault.changed(flipped), times=4)
    for _ in range(3):
        with pytest.raises(ContentDamaged):
            content_of(store, "a")
    assert platform.count("get") == 3


def test_match_of_a_second_read_shows_that_etags_are_md5s(
    store: CraftAiStore, platform: FaultyPlatform
) -> None:
    platform.put("a", SMALL)
    platform.inject("get", fault.changed(flipped))
    with pytest.raises(ContentDamaged):
        content_of(store, "a")
    platform.inject("get", fault.changed(flipped), times=2)
    with pytest.raises(ContentDamaged):
        content_of(store, "a")
    assert platform.count("get") == 3


def test_empty_objects_do_not_show_that_etags_are_md5s(
    store: CraftAiStore, platform: FaultyPlatform
) -> None:
    store.write("empty", Bytes(b""), expect=ABSENT, operation="one")
    assert content_of(store, "empty") == b""
    platform.put("a", SMALL, etag=NO_MD5)
    assert content_of(store, "a") == SMALL


def test_etags_that_are_not_md5s_cost_one_more_read(
    store: CraftAiStore, platform: FaultyPlatform
) -> None:
    for path in ("a", "b"):
        platform.put(path, SMALL, etag=NO_MD5)
        assert content_of(store, path) == SMALL
    assert platform.count("get") == 3


def test_large_object_is_compared_only_once_etags_are_known_to_be_md5s(
    store: CraftAiStore, platform: FaultyPlatform
) -> None:
    content = bytes(16 * 1024 * 1024 + 1)
    platform.put("a", content)
    platform.inject("get", fault.changed(flipped))
    assert content_of(store, "a") == flipped(Answer(200, content)).body
    assert platform.count("get") == 1
    confirm(store, platform)
    platform.inject("get", fault.changed(flipped))
    with pytest.raises(ContentDamaged):
        content_of(store, "a")
    assert platform.count("get") == 1


def test_intact_upload_brings_the_comparison_back(
    store: CraftAiStore, platform: FaultyPlatform
) -> None:
    """An object that is damaged in the storage looks like one whose ETag is not an MD5."""
    platform.put("a", SMALL, etag=NO_MD5)
    assert content_of(store, "a") == SMALL
    store.write("b", Bytes(SMALL), expect=ABSENT, operation="one")
    with pytest.raises(ContentDamaged):
        content_of(store, "a")


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
def test_storage_whose_etags_stop_being_md5s_takes_uploads(
    store: CraftAiStore, platform: FaultyPlatform, content: bytes
) -> None:
    def other_etag(answer: Answer) -> Answer:
        if "a" in platform.bucket.objects:
            platform.put("a", platform.content("a"), etag=NO_MD5)
        return answer._replace(headers=(("ETag", f'"{NO_MD5}"'),))

    confirm(store, platform)
    platform.storage.lenient = True
    platform.inject("form", fault.changed(other_etag), times=99)
    platform.inject("part", fault.changed(other_etag), times=99)
    store.write("a", Bytes(content), expect=ABSENT, operation="one")
    platform.put("a", content, etag=NO_MD5)
    assert content_of(store, "a") == content
    platform.storage.lenient = False


def test_md5_of_an_object_is_named_only_once_it_is_certain(
    store: CraftAiStore, platform: FaultyPlatform
) -> None:
    platform.put("a", LARGE)
    for known in (None, md5_of(LARGE)):
        with store.read("a", offset=0, length=PART) as reader:
            assert reader.object.md5 == known
        confirm(store, platform)


def test_etag_that_is_not_an_md5_is_not_named_as_one(
    store: CraftAiStore, platform: FaultyPlatform
) -> None:
    platform.put("a", SMALL, etag=NO_MD5)
    for _ in range(2):
        with store.read("a") as reader:
            assert reader.object.md5 is None


@pytest.mark.parametrize(
    "header",
    [
        ("x-amz-server-side-encryption", "aws:kms"),
        ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
    ],
)
def test_etag_of_an_object_encrypted_with_other_keys_is_not_compared(
    store: CraftAiStore, platform: FaultyPlatform, header: tuple[str, str]
) -> None:
    confirm(store, platform)
    platform.put("a", SMALL, etag=NO_MD5)
    platform.inject("get", naming(header))
    assert content_of(store, "a") == SMALL
    assert platform.count("get") == 1


def damaged_beside_its_md5(content: bytes) -> fault.Fault:
    named = naming(content_md5(content))
    damaged = fault.changed(flipped)
    return lambda request, proceed: named(request, lambda: damaged(request, proceed))


def test_content_md5_is_believed_without_another_read(
    store: CraftAiStore, platform: FaultyPlatform
) -> None:
    platform.put("a", SMALL, etag="a-version")
    platform.inject("get", naming(content_md5(SMALL)))
    with store.read("a") as reader:
        assert (reader.object.md5, b"".join(reader)) == (md5_of(SMALL), SMALL)
    platform.inject("get", damaged_beside_its_md5(SMALL))
    with pytest.raises(ContentDamaged):
        content_of(store, "a")
    assert platform.count("get") == 2


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
def test_object_that_arrives_damaged_is_not_deleted(
    platform: FaultyPlatform, content: bytes
) -> None:
    access = Access(platform.url, lambda: platform.token, platform.url)
    with closing(CraftAiStore(access)) as store:
        platform.put("a", content)
        found = store.stat("a")
        assert found is not None
        platform.inject("get", fault.changed(flipped))
        with pytest.raises(ContentDamaged):
            store.delete("a", expect=found, trash_stamp="kept")
        assert platform.paths() == ["a"]
        store.delete("a", expect=found, trash_stamp="kept")
        (kept,) = platform.paths()
        assert platform.content(kept) == content


def test_object_that_never_matches_its_content_md5_is_not_deleted(
    platform: FaultyPlatform,
) -> None:
    """Where a storage sends no ranges, each answer has the Content-MD5 of the whole object."""
    access = Access(platform.url, lambda: platform.token, platform.url)
    platform.storage.ranges = False
    platform.put("a", LARGE, etag="a-version")
    platform.inject("get", damaged_beside_its_md5(LARGE), times=99)
    with closing(CraftAiStore(access)) as store:
        found = store.stat("a")
        assert found is not None
        with pytest.raises(ContentDamaged):
            store.delete("a", expect=found, trash_stamp="kept")
    assert platform.paths() == ["a"]


def test_identity_file_that_arrives_damaged_once_is_read_again(
    store: CraftAiStore, platform: FaultyPlatform, tmp_path: Path
) -> None:
    world = World(tmp_path, store)
    world.write("a", "here")
    world.run()
    platform.put(STORE_ID_FILE, platform.content(STORE_ID_FILE))
    platform.inject("get", fault.changed(flipped), when=lambda request: "store-id" in request.path)
    assert world.run().exit_code == 0
    world.assert_in_step()


def test_identity_file_damaged_in_the_storage_is_named_with_the_way_out(
    store: CraftAiStore, platform: FaultyPlatform, tmp_path: Path
) -> None:
    world = World(tmp_path, store)
    world.write("a", "here")
    world.run()
    content = platform.content(STORE_ID_FILE)
    etag = md5_of(content).hex()
    platform.put(STORE_ID_FILE, flipped(Answer(200, content)).body, etag=etag)
    with pytest.raises(StoreChanged, match="damaged") as raised:
        world.run()
    assert raised.value.remedy.startswith(f"Remove {STORE_ID_FILE} from the store")
    assert "craftsync forget" in raised.value.remedy
    platform.bucket.delete(STORE_ID_FILE)
    shutil.rmtree(world.state_dir)
    assert world.run().exit_code == 0
    world.assert_in_step()


SERVE_AN_ENVIRONMENT = """
import sys
from craftsync.cli.serve import listen, url_of
from craftsync.clock import SystemClock
from craftsync.serve import server
from craftsync.stores.craftai import Access, CraftAiStore

url, token = sys.argv[1:]
with listen("127.0.0.1", 0) as listener:
    print(url_of(listener), flush=True)
    store = CraftAiStore(Access(url, lambda: token, url))
    settings = server.Settings(sdk_token="the token")
    server.serve(store, listener, settings, clock=SystemClock(), log=print)
"""


def test_serve_sends_no_content_md5_that_is_only_an_etag(platform: FaultyPlatform) -> None:
    for path, content in (("large", LARGE), ("small", SMALL)):
        platform.put(path, content, etag=NO_MD5)
    words = [sys.executable, "-c", SERVE_AN_ENVIRONMENT, platform.url, platform.token]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            with closing(CraftAiStore(Access(url, lambda: "the token", url))) as client:
                assert content_of(client, "large") == LARGE
                with client.read("small") as reader:
                    assert (reader.object.md5, b"".join(reader)) == (md5_of(SMALL), SMALL)
        finally:
            process.kill()
