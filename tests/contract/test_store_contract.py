"""What every store promises (`craftsync.stores.base`), checked for each kind of store."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

import pytest

from craftsync.core.model import ABSENT, OWN_FOLDER, RemoteObject, Skipped
from craftsync.errors import (
    ObjectNotFound,
    PathBusy,
    PathObstructed,
    PathRefused,
    PreconditionFailed,
)
from craftsync.stores.base import Store
from tests.contract.conftest import LIMITS, MULTIPART
from tests.support.world import Bytes

MTIME = 1_700_000_000_123_456_789

AWKWARD = [
    "deux mots.csv",
    "données/été.txt",
    "e\u0301te\u0301/decomposed",
    "é/composed",
    "plus+and%25percent/100%.txt",
    "a&b=c;d,e:@!$().txt",
    "quote\"s and 'apostrophes'",
    "~home/*star?question#hash",
    "[brackets]{braces}^|\\backslash`",
    " leading and trailing ",
    "😀/emoji.bin",
    "tab\tin name",
    "newline\nin name",  # moto's router does not know a newline.
    "\x01\x7f control",
    "...dots/.hidden/..almost/a..b",
    "x" * 255,
    "/".join(["deep"] * 100),
]


class Changing(Bytes):
    """Content that is found to have changed once it was read."""

    def verify(self) -> None:
        raise PathBusy("the file changed while it was read")


def put(store: Store, path: str, content: bytes = b"content") -> RemoteObject:
    return store.write(path, Bytes(content, MTIME), expect=None, operation="put")


def content_of(store: Store, path: str, **options: object) -> bytes:
    with store.read(path, **options) as reader:  # type: ignore[arg-type]
        return b"".join(reader)


def kept_of(store: Store, path: str) -> bytes:
    """Return what `pass-1` kept of a path."""
    if store.features.keeps_versions:
        assert paths(store, f"{OWN_FOLDER}/trash/") == []
        pytest.skip("its bucket keeps versions (tests/contract/test_s3_servers.py)")
    return content_of(store, f"{OWN_FOLDER}/trash/pass-1/{path}")


def paths(store: Store, prefix: str = "", **options: object) -> list[str]:
    return [entry.path for entry in store.list(prefix, **options)]  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, 1, MULTIPART])
def test_written_content_is_read_back(store: Store, large: int, size: int) -> None:
    size = min(size, large)
    content = random.Random(size).randbytes(size)
    written = store.write("a/b", Bytes(content, MTIME), expect=ABSENT, operation="one")
    assert (written.path, written.size) == ("a/b", size)
    with store.read("a/b", expect=written) as reader:
        assert reader.object.size == size
        assert hashlib.sha256(b"".join(reader)).digest() == hashlib.sha256(content).digest()


@pytest.mark.parametrize("size", [5, MULTIPART])
def test_write_listing_and_stat_agree_on_the_version(store: Store, large: int, size: int) -> None:
    written = put(store, "a", bytes(min(size, large)))
    (listed,) = store.list()
    looked = store.stat("a")
    assert looked is not None and isinstance(listed, RemoteObject)
    assert written.version == listed.version == looked.version
    assert (written.version is not None) is store.features.versions


@pytest.mark.parametrize("size", [5, MULTIPART])
def test_metadata_round_trips_where_supported(store: Store, large: int, size: int) -> None:
    content = Bytes(bytes(min(size, large)), MTIME)
    store.write("a", content, expect=ABSENT, operation="the operation")
    looked = store.stat("a")
    assert looked is not None
    if store.features.metadata:
        assert looked[4:7] == (content.digest, MTIME, "the operation")


def test_different_content_has_a_different_version(store: Store) -> None:
    first, second = put(store, "a", b"first"), put(store, "a", b"other")
    assert first.version != second.version or not store.features.versions


def test_missing_object_is_absent_everywhere(store: Store) -> None:
    assert store.stat("no/such") is None
    assert paths(store) == []
    with pytest.raises(ObjectNotFound):
        content_of(store, "no/such")


def test_unusual_names_round_trip(store: Store, request: pytest.FixtureRequest) -> None:
    names = [name for name in AWKWARD if "\n" not in name or "moto" not in request.node.name]
    for name in names:
        put(store, name, name.encode())
    assert sorted(paths(store)) == sorted(names)
    for name in names:
        assert content_of(store, name) == name.encode()
        looked = store.stat(name)
        assert looked is not None and looked.path == name
        store.delete(name, expect=looked)
        assert store.stat(name) is None, name
    assert paths(store) == []


@pytest.mark.parametrize("path", ["not-utf-8-\udce9", "x/" * 512 + "y"])
def test_invalid_name_is_rejected(store: Store, path: str) -> None:
    with pytest.raises(PathRefused):
        put(store, path)
    assert paths(store) == []


def test_write_expecting_absence_never_overwrites(store: Store) -> None:
    put(store, "a", b"theirs")
    with pytest.raises(PreconditionFailed):
        store.write("a", Bytes(b"mine"), expect=ABSENT, operation="mine")
    assert content_of(store, "a") == b"theirs"


def test_write_replaces_the_expected_object(store: Store) -> None:
    first = put(store, "a", b"first")
    store.write("a", Bytes(b"second"), expect=first, operation="second")
    assert content_of(store, "a") == b"second"


def test_write_replaces_only_the_expected_object(store: Store) -> None:
    first = put(store, "a", b"first")
    put(store, "a", b"theirs")
    with pytest.raises(PreconditionFailed):
        store.write("a", Bytes(b"mine"), expect=first, operation="mine")
    assert content_of(store, "a") == b"theirs"


@pytest.mark.parametrize("path", ["a", "tab\tname"])
def test_write_expecting_an_object_creates_none(store: Store, path: str) -> None:
    first = put(store, path)
    store.delete(path, expect=first)
    with pytest.raises(PreconditionFailed):
        store.write(path, Bytes(b"mine"), expect=first, operation="mine")
    assert paths(store) == []


def test_large_write_replaces_only_the_expected_object(store: Store, large: int) -> None:
    first = put(store, "a", b"first")
    theirs = put(store, "a", b"theirs")
    content = Bytes(bytes(large))
    for expect in (ABSENT, first):
        with pytest.raises(PreconditionFailed):
            store.write("a", content, expect=expect, operation="mine")
    assert content_of(store, "a") == b"theirs"
    assert store.write("a", content, expect=theirs, operation="mine").size == large


@pytest.mark.parametrize("size", [5, MULTIPART])
def test_write_of_content_changing_while_read_leaves_nothing(
    store: Store, large: int, size: int
) -> None:
    with pytest.raises(PathBusy):
        store.write("a", Changing(bytes(min(size, large))), expect=ABSENT, operation="one")
    assert store.stat("a") is None
    assert paths(store) == []


@pytest.mark.parametrize("path", ["a/b", "tab\tname"])
def test_conditional_write_keeps_the_replaced_object(store: Store, path: str) -> None:
    old = put(store, path, b"old")
    store.write(path, Bytes(b"new"), expect=old, operation="new", trash_stamp="pass-1")
    assert content_of(store, path) == b"new"
    assert kept_of(store, path) == b"old"


def test_unconditional_write_keeps_the_replaced_object(store: Store) -> None:
    put(store, "a", b"old")
    store.write("a", Bytes(b"new"), expect=None, operation="new", trash_stamp="pass-1")
    assert content_of(store, "a") == b"new"
    assert kept_of(store, "a") == b"old"


def test_delete_keeps_the_deleted_object(store: Store) -> None:
    old = put(store, "a/b", b"old")
    store.delete("a/b", expect=old, trash_stamp="pass-1")
    assert store.stat("a/b") is None
    assert kept_of(store, "a/b") == b"old"


def test_keep_without_an_existing_object_is_not_an_error(store: Store) -> None:
    store.write("a", Bytes(b"new"), expect=ABSENT, operation="new", trash_stamp="pass-1")
    store.delete("b", expect=None, trash_stamp="pass-1")
    assert paths(store) == ["a"]


def test_delete_removes_the_expected_object(store: Store) -> None:
    store.delete("a", expect=put(store, "a"))
    assert store.stat("a") is None


def test_delete_removes_only_the_expected_object(store: Store) -> None:
    first = put(store, "a", b"first")
    put(store, "a", b"theirs")
    for keep in (None, "pass-1"):
        with pytest.raises(PreconditionFailed):
            store.delete("a", expect=first, trash_stamp=keep)
    assert content_of(store, "a") == b"theirs"


def test_deleting_twice_succeeds(store: Store) -> None:
    written = put(store, "a")
    for expect in (written, written, None):
        store.delete("a", expect=expect)
    store.delete("a", expect=written, trash_stamp="pass-1")
    assert paths(store) == []


def test_bulk_delete_removes_only_the_named_objects_and_keeps_nothing(store: Store) -> None:
    several = ["a b&<c>.txt", "d/é ü", "tab\tname", "x"]
    for path in [*several, "left"]:
        put(store, path)
    assert store.delete_each([*several, "not there"]) == {}
    assert store.delete_each([]) == {}
    assert paths(store) == ["left"]
    assert paths(store, f"{OWN_FOLDER}/") == []


def test_object_below_an_object_is_stored_or_rejected(store: Store) -> None:
    put(store, "a", b"above")
    if not store.features.folders:
        put(store, "a/b/c", b"below")
        assert paths(store) == ["a", "a/b/c"]
        return
    with pytest.raises(PathObstructed):
        put(store, "a/b/c", b"below")
    assert paths(store) == ["a"]
    assert content_of(store, "a") == b"above"


def test_listing_reflects_the_latest_write_and_delete(store: Store) -> None:
    put(store, "kept")
    gone = put(store, "gone")
    store.delete("gone", expect=gone)
    assert paths(store) == ["kept"]


def test_listing_is_in_utf_8_byte_order(store: Store) -> None:
    names = ["a!", "a/b", "a/b!", "a/b0", "a0", "B", "é", "e\u0301", "\uffff", "😀", "a b", "a-b"]
    for name in names:
        put(store, name)
    listed = paths(store)
    if not store.features.sorted_listing:
        listed.sort(key=str.encode)
    assert listed == sorted(names, key=str.encode)


def test_listing_omits_the_craftsync_folder_unless_requested(store: Store) -> None:
    for name in ("-before", ".craftsyncignore", f"{OWN_FOLDER}/trash/x", "behind"):
        put(store, name)
    assert paths(store) == ["-before", ".craftsyncignore", "behind"]
    assert paths(store, f"{OWN_FOLDER}/trash/") == [f"{OWN_FOLDER}/trash/x"]


def test_listing_omits_craftsync_folders_of_nested_stores(store: Store) -> None:
    for path in ("a", "models/.craftsync/store-id", "models/.craftsync/trash/1/b", "models/b"):
        put(store, path)
    assert paths(store) == ["a", "models/b"]
    assert paths(store, "models/") == ["models/b"]
    nested = ["models/.craftsync/store-id", "models/.craftsync/trash/1/b", "models/b"]
    assert paths(store, nested_own=True) == ["a", *nested]
    assert paths(store, "models/.craftsync/trash/") == nested[1:2]


def test_listing_with_prefix_returns_matching_paths(store: Store) -> None:
    for name in (
        ("data", "data/a", "data/b/c", "data-2/a", "été/a")
        if not store.features.folders
        else (*("data/a", "data/b/c", "data-2/a", "été/a"),)
    ):
        put(store, name)
    assert paths(store, "data/") == ["data/a", "data/b/c"]
    assert paths(store, "data/b") == ["data/b/c"]
    assert paths(store, "été/") == ["été/a"]
    assert paths(store, "no") == []


def test_listing_boundaries_do_not_change_the_result(store: Store) -> None:
    names = [f"{letter}/{number}" for letter in "abcé" for number in range(3)]
    for name in names:
        put(store, name)
    plain = list(store.list())
    cases = (
        ["b/1"],
        ["a/0", "b", "c/2", "z"],
        ["z", "a", "a", "b/2"],
        ["é/1", "no/such", ""],
        names,
    )
    for boundaries in cases:
        assert list(store.list(boundaries=boundaries)) == plain
    assert paths(store, "b/", boundaries=["a/2", "b/1", "c/1"]) == names[3:6]


def test_listing_spans_several_pages(store: Store) -> None:
    names = [f"d{number % 7}/{number:05d}" for number in range(2 * LIMITS.page + 8)]
    for name in names:
        put(store, name, b"")
    assert paths(store) == sorted(names)
    assert paths(store, boundaries=["d1/00015", "d5"]) == sorted(names)


def test_range_reads_are_exact(store: Store) -> None:
    content = random.Random(1).randbytes(10_000)
    written = put(store, "a", content)
    cases = [(0, None), (0, 1), (1, 9_999), (9_999, 1), (5_000, None), (9_000, 5_000), (0, 0)]
    cases += [(10_000, None), (10_000, 5), (20_000, None), (20_000, 1)]
    for offset, length in cases:
        end = None if length is None else offset + length
        with store.read("a", expect=written, offset=offset, length=length) as reader:
            assert b"".join(reader) == content[offset:end], (offset, length)
            assert reader.object.size == 10_000


def test_range_of_an_empty_object_is_empty(store: Store) -> None:
    put(store, "a", b"")
    assert content_of(store, "a", length=10) == b""


def test_read_of_an_unexpected_version_is_rejected(store: Store) -> None:
    first = put(store, "a", b"first")
    put(store, "a", b"other")
    for part in ({}, {"offset": 1}, {"offset": 99}, {"length": 0}):
        with pytest.raises(PreconditionFailed):
            content_of(store, "a", expect=first, **part)
    store.delete("a", expect=None)
    with pytest.raises(ObjectNotFound):
        content_of(store, "a", expect=first)


@pytest.mark.parametrize(("source", "target"), [("a", "b/c"), ("tab\tname", "é\tè")])
def test_copy_has_equal_content_and_metadata(
    store: Store, source: str, target: str, operation: Callable[[], str]
) -> None:
    written = put(store, source, b"content")
    copied = store.copy(written, target, expect=ABSENT, operation=operation())
    assert copied.path == target
    looked = store.stat(target)
    assert looked is not None and looked.version == copied.version
    assert content_of(store, target) == content_of(store, source) == b"content"
    if store.features.metadata:
        assert looked[4:7] == (written.digest, MTIME, "operation-1")


def test_copy_requires_the_expected_source(store: Store) -> None:
    first = put(store, "a", b"first")
    put(store, "a", b"other")
    with pytest.raises(PreconditionFailed):
        store.copy(first, "b", expect=ABSENT, operation="copy")
    store.delete("a", expect=None)
    with pytest.raises(ObjectNotFound):
        store.copy(first, "b", expect=ABSENT, operation="copy")
    assert paths(store) == []


def test_copy_replaces_only_the_expected_target(store: Store) -> None:
    source, target = put(store, "a", b"new"), put(store, "b", b"theirs")
    for expect in (ABSENT, source._replace(path="b")):
        with pytest.raises(PreconditionFailed):
            store.copy(source, "b", expect=expect, operation="copy")
    assert content_of(store, "b") == b"theirs"
    store.copy(source, "b", expect=target, operation="copy")
    assert content_of(store, "b") == b"new"


def test_rename_moves_only_the_expected_object_to_a_free_path(store: Store) -> None:
    if not store.features.renames:
        with pytest.raises(NotImplementedError):
            store.move(put(store, "a"), "b", operation="op")
        return
    first = put(store, "d/a", b"first")
    put(store, "taken")
    moved = store.move(first, "e/é\tb", operation="op")
    assert (moved.path, moved.size, moved.mtime_ns) == ("e/é\tb", 5, first.mtime_ns)
    assert moved.version == store.stat("e/é\tb").version  # type: ignore[union-attr]
    assert content_of(store, "e/é\tb") == b"first"
    assert paths(store) == ["e/é\tb", "taken"]
    with pytest.raises(PreconditionFailed):
        store.move(moved, "taken", operation="op")
    for gone in (first, moved._replace(version="another")):
        with pytest.raises(PreconditionFailed):
            store.move(gone, "free", operation="op")
    with pytest.raises(PathRefused):
        store.move(moved, "../outside", operation="op")
    assert paths(store) == ["e/é\tb", "taken"]
    assert paths(store, f"{OWN_FOLDER}/") == []


def test_listing_of_valid_files_skips_nothing(store: Store) -> None:
    put(store, "a")
    store.barrier()
    assert not any(isinstance(entry, Skipped) for entry in store.list())
