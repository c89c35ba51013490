"""Keys that no folder can hold, on a server that holds any key."""

from __future__ import annotations

import pytest

from craftsync.core.model import ABSENT, RemoteObject, Skipped
from craftsync.stores.s3 import S3Store
from tests.contract.conftest import OpenS3
from tests.support.servers import S3Server
from tests.support.world import Bytes

HOSTILE = [
    *("../x", "/x", "a//b", "..", ".", "../../etc/passwd", "a/../b", "a/./b", "a/b/.."),
    *("é" * 128, "x" * 256, "a/" + "y" * 256 + "/b", "nul\0byte"),
]


@pytest.fixture
def bucket(plain_server: S3Server, open_s3: OpenS3) -> S3Store:
    """Return a store whose prefix ends in the slash that hostile keys follow upon."""
    return open_s3(plain_server)


def put(store: S3Store, path: str, body: bytes = b"x") -> None:
    store.calls.put(store.root + path, body, {}, None)


def test_hostile_keys_are_all_reported_and_none_is_lost(bucket: S3Store) -> None:
    ordinary = ["a", "a/b", "dir/file", "tab\tname", "été"]
    for path in [*HOSTILE, *ordinary]:
        put(bucket, path)
    entries = list(bucket.list())
    assert {e.path for e in entries if isinstance(e, Skipped)} == set(HOSTILE)
    assert [e.path for e in entries if isinstance(e, RemoteObject)] == sorted(ordinary)
    assert all(e.reason for e in entries if isinstance(e, Skipped))


def test_object_beside_a_folder_of_its_name_hides_nothing(bucket: S3Store) -> None:
    for path in ("a", "a/b", "a!"):
        put(bucket, path)
    assert [entry.path for entry in bucket.list()] == ["a", "a!", "a/b"]


def test_folder_marker_with_content_is_reported(bucket: S3Store) -> None:
    put(bucket, "empty/", b"")
    put(bucket, "full/", b"x")
    put(bucket, "", b"")
    assert [(type(e), e.path) for e in bucket.list()] == [(Skipped, "full/")]


@pytest.mark.parametrize("value", ["prénom".encode().decode("latin-1"), "=?UTF-8?B?w6k=?=", ""])
def test_metadata_of_any_bytes_round_trips(bucket: S3Store, value: str) -> None:
    bucket.calls.put(f"{bucket.root}a", b"x", {"who": value}, None)
    assert bucket.stat("a") is not None
    with bucket.read("a") as reader:
        assert b"".join(reader) == b"x"
        properties = reader.properties
    assert properties.metadata == {"who": value}
    bucket.write("b", Bytes(b"x"), expect=ABSENT, operation="1", properties=properties)
    with bucket.read("b") as reader:
        assert reader.properties == properties
    with bucket.read("a", offset=0, length=1) as reader:
        assert b"".join(reader) == b"x"


def test_skipped_object_can_be_removed_by_its_key(bucket: S3Store) -> None:
    for path in HOSTILE:
        put(bucket, path)
    for entry in list(bucket.list()):
        found = bucket.stat(entry.path)
        assert found is not None and found.size == 1
        with bucket.read(entry.path) as reader:
            assert b"".join(reader) == b"x"
        bucket.delete(entry.path, expect=found)
    assert list(bucket.list()) == []


ORDINARY = [chr(code) for code in range(0x20, 0x7F) if chr(code) != "/"]
STRANGE = ["\x85", "\xa0", "\u200b", "\ufffe", "\U0001f600", "e\u0301", "é"]


@pytest.mark.parametrize("start", range(0, 102, 6))
def test_every_character_of_a_key_is_preserved(bucket: S3Store, start: int) -> None:
    characters = [*ORDINARY, *STRANGE][start : start + 6]
    path = "/".join(f"{c}x{c}{c}" for c in characters) + "".join(characters)
    bucket.write(path, Bytes(b"x"), expect=ABSENT, operation="op")
    assert bucket.calls.head(bucket.root + path) is not None
    assert [entry.path for entry in bucket.list()] == [path]
