"""`craftsync.objects`: list, find, copy, move and remove on every store and between any two."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex

import pytest

from craftsync import DataStore, objects
from craftsync.core.paths import TRASH
from craftsync.errors import ObjectNotFound, PathBusy, PathRefused, PreconditionFailed
from craftsync.objects import ObjectFilter
from tests.support.s3 import PERSONALITIES, FakeS3, fake_s3
from tests.support.servers import S3Server
from tests.support.serving import Serving

KINDS = ("directory", "craft-ai", "s3")
NAMES = ["models/[1] é?.bin", "models/deux\tmots", "a b/c+d%20.csv", "-x"]

OpenStore = Callable[[str], DataStore]


@pytest.fixture
def s3() -> Iterator[tuple[S3Server, FakeS3]]:
    with fake_s3("plain") as opened:
        yield opened


@pytest.fixture
def open_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3: tuple[S3Server, FakeS3], served: Serving
) -> Iterator[OpenStore]:
    """Return a function that opens a new empty store of a kind."""
    monkeypatch.setenv("CRAFTSYNC_CONFIG", os.devnull)
    monkeypatch.setenv("CRAFTSYNC_STATE_DIR", str(tmp_path / "state"))
    server, fake = s3
    for name, value in (server.variables | served.variables).items():
        monkeypatch.setenv(name, value)
    opened: list[DataStore] = []

    def open_one(kind: str) -> DataStore:
        name = token_hex(8)
        if kind == "directory":
            (tmp_path / name).mkdir()
        elif kind == "s3":
            fake.bucket(f"objects-{name}")
        word = {
            "directory": f"{tmp_path / name}",
            "craft-ai": f"craft-ai://{name}",
            "s3": f"s3://objects-{name}/deep",
        }[kind]
        opened.append(DataStore(word))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, open_store: OpenStore) -> DataStore:
    return open_store(request.param)


def put(store: DataStore, path: str, content: bytes = b"content") -> None:
    store.upload_data_store_object(io.BytesIO(content), path)


def held(store: DataStore) -> dict[str, bytes]:
    """Return what a store holds."""
    return {
        found["path"]: store.read_data_store_object(found["path"])
        for found in store.iter_data_store_objects()
    }


def trash(store: DataStore) -> dict[str, bytes]:
    """Return what the trash of a store holds, by the path it had."""
    kept = [found.path for found in store.opened().list(".craftsync/trash/")]
    return {path.split("/", 3)[3]: store.read_data_store_object(path) for path in kept}


def test_listing_shows_one_level_and_find_all_below(store: DataStore) -> None:
    for number, path in enumerate(("top", "models/a.csv", "models/2026/b.csv", "models/2026/c")):
        put(store, path, b"x" * number)
    level = [(each.path, each.size, each.is_folder) for each in objects.listing(store)]
    assert sorted(level) == [("models", None, True), ("top", 0, False)]
    inside = {each.path: each for each in objects.listing(store, "models/")}
    assert set(inside) == {"models/2026", "models/a.csv"}
    found = store.get_data_store_object_information("models/a.csv")
    assert inside["models/a.csv"].last_modified == found["last_modified"]
    assert list(objects.listing(store, "model")) == []
    csv = objects.find(store, "models", ObjectFilter(name="*.csv", min_size=2))
    assert [each["path"] for each in csv] == ["models/2026/b.csv"]
    assert len(list(objects.find(store, wanted=ObjectFilter(max_size=1)))) == 2


def test_remove_puts_objects_in_the_trash(store: DataStore) -> None:
    for path in NAMES:
        put(store, path)
    objects.remove(store, NAMES[0])
    with pytest.raises(ObjectNotFound, match=r"models/\[1\]"):
        objects.remove(store, NAMES[0])
    outcomes = list(objects.remove_each(store, [*NAMES, ".craftsync/store-id"]))
    assert [type(each.error) for each in outcomes if each.error] == [ObjectNotFound, ObjectNotFound]
    assert held(store) == {}
    assert trash(store) == dict.fromkeys(NAMES, b"content")


def test_copy_and_move_within_a_store(store: DataStore) -> None:
    put(store, "a", b"new")
    put(store, "d/b", b"old")
    objects.copy(store, "a", store, "d/b")
    assert held(store) == {"a": b"new", "d/b": b"new"}
    assert trash(store) == {"d/b": b"old"}
    with pytest.raises(PreconditionFailed, match="already exists"):
        objects.copy(store, "a", store, "d/b", overwrite=False)
    with pytest.raises(PathRefused, match="itself"):
        objects.move(store, "a", store, "a")
    objects.move(store, "a", store, "c")
    assert held(store) == {"c": b"new", "d/b": b"new"}
    assert trash(store) == {"d/b": b"old"}


@pytest.mark.parametrize("act", [objects.copy_each, objects.move_each])
def test_several_objects_onto_one_path_lose_no_version(
    store: DataStore, act: Callable[..., objects.Outcomes]
) -> None:
    contents = {path: path.encode() for path in ("a", "b", "c", "to")}
    for path, body in contents.items():
        put(store, path, body)
    outcomes = list(act(store, store, [("a", "to"), ("b", "to"), ("c", "to")]))
    kept = {store.read_data_store_object(one.path) for one in store.opened().list(TRASH)}
    assert kept == {b"to"}
    assert set(contents.values()) == kept | set(held(store).values())
    assert [type(one.error) for one in outcomes if one.error] == [PathRefused] * 2


@pytest.mark.parametrize("target_kind", KINDS)
@pytest.mark.parametrize("source_kind", KINDS)
def test_copy_and_move_between_two_stores(
    open_store: OpenStore, source_kind: str, target_kind: str
) -> None:
    source, target = open_store(source_kind), open_store(target_kind)
    content = {path: path.encode() * 3 for path in NAMES}
    for path, body in content.items():
        put(source, path, body)
    put(target, f"to/{NAMES[0]}", b"old")
    pairs = [(path, f"to/{path}") for path in NAMES]
    moved: list[int] = []
    outcomes = list(objects.copy_each(source, target, pairs, on_bytes=moved.append))
    assert [each.error for each in outcomes] == [None] * len(NAMES)
    assert sum(moved) == sum(map(len, content.values()))
    there = {f"to/{path}": body for path, body in content.items()}
    assert (held(source), held(target)) == (content, there)
    assert trash(target) == {f"to/{NAMES[0]}": b"old"}
    missing = [("nowhere", "x"), *pairs]
    (failed, *rest) = objects.move_each(source, target, missing)
    assert isinstance(failed.error, ObjectNotFound)
    assert [each.error for each in rest] == [None] * len(NAMES)
    assert (held(source), held(target)) == ({}, there)
    assert trash(source) == content


def test_large_object_is_streamed_between_stores(open_store: OpenStore) -> None:
    source, target = open_store("directory"), open_store("s3")
    body = os.urandom(17 * 1024 * 1024)
    put(source, "large", body)
    objects.copy(source, "large", target, "copy")
    assert target.read_data_store_object("copy") == body


def test_copy_between_buckets_keeps_type_and_metadata(
    open_store: OpenStore, s3: tuple[S3Server, FakeS3]
) -> None:
    source, target = open_store("s3"), open_store("s3")
    client = s3[0].client()
    bucket = str(source.location).split("/")[2]
    client.put_object(
        Bucket=bucket,
        Key="deep/a.csv",
        Body=b"1",
        ContentType="text/csv",
        Metadata={"owner": "us"},
        Tagging="team=data",
    )
    objects.copy(source, "a.csv", target, "b.csv")
    where = {"Bucket": str(target.location).split("/")[2], "Key": "deep/b.csv"}
    found = client.head_object(**where)
    assert (found["ContentType"], found["Metadata"]["owner"]) == ("text/csv", "us")
    assert client.get_object_tagging(**where)["TagSet"] == [{"Key": "team", "Value": "data"}]


def test_copy_refuses_names_no_store_can_hold(open_store: OpenStore) -> None:
    store = open_store("directory")
    put(store, "a")
    for path in ("b/", "../b", "x//y", ".craftsync/store-id", ""):
        with pytest.raises(PathRefused):
            objects.copy(store, "a", store, path)
    assert held(store) == {"a": b"content"}


def test_many_objects_move_in_groups(open_store: OpenStore) -> None:
    source, target = open_store("directory"), open_store("directory")
    for number in range(230):
        put(source, f"{number % 5}/{number}")
    found = ((each, each.path) for each in objects.below(source))
    outcomes = list(objects.move_each(source, target, found))
    assert len(outcomes) == 230
    assert not any(each.error for each in outcomes)
    assert len(held(target)) == 230
    assert held(source) == {}


@pytest.mark.parametrize("before", [b"", b"before"], ids=["new", "replaced"])
def test_file_is_not_removed_where_the_server_lost_its_upload(
    open_store: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bytes
) -> None:
    with fake_s3("loses-writes", "bucket") as (server, fake):
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        (tmp_path / "edited").write_bytes(b"edited")
        (tmp_path / "new").write_bytes(b"new")
        with DataStore("s3://bucket") as store:
            if before:
                personality, fake.personality = fake.personality, PERSONALITIES["plain"]
                put(store, "edited", before)
                fake.personality = personality
            files = [(str(tmp_path / name), name) for name in ("edited", "new")]
            lost, moved = objects.upload_each(files, store, remove_files=True)
    assert isinstance(lost.error, PathBusy)
    assert moved.error is None
    assert (tmp_path / "edited").read_bytes() == b"edited"
    assert not (tmp_path / "new").exists()


def test_object_is_never_moved_onto_itself_by_another_name(
    open_store: OpenStore, tmp_path: Path
) -> None:
    outer = open_store("directory")
    put(outer, "models/a")
    for inner in (DataStore(f"{outer.location}/models"), DataStore(f"file://{outer.location}")):
        path = "a" if str(inner.location).endswith("models") else "models/a"
        with pytest.raises(PathRefused, match="itself"):
            objects.move(outer, "models/a", inner, path)
    assert held(outer) == {"models/a": b"content"}
