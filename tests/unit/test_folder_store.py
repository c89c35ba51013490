"""The particulars of a directory store; tests/contract covers what all stores have in common."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from craftsync.core.model import ABSENT, RemoteObject, Skipped
from craftsync.errors import (
    ObjectNotFound,
    PathBusy,
    PathDenied,
    PathObstructed,
    PathRefused,
    PreconditionFailed,
    StoreDenied,
    StoreFull,
    StoreMissing,
    StoreUnavailable,
)
from craftsync.stores.base import Expect
from craftsync.stores.directory import DirectoryStore

NOBODY = 65534


class Content:
    """Bytes as a `Source`; `change` makes the final check fail."""

    def __init__(self, content: bytes, *, change: bool = False) -> None:
        self.size = len(content)
        self.digest = sha256(content).digest()
        self.mtime_ns: int | None = 1_234_567_890
        self._content = content
        self._change = change

    def read_at(self, offset: int, length: int) -> bytes:
        return self._content[offset : offset + length]

    def verify(self) -> None:
        if self._change:
            raise PathBusy("changed")


@pytest.fixture
def place() -> Iterator[Path]:
    """Yield a folder that every user can enter, unlike pytest's own."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def store(place: Path) -> Iterator[DirectoryStore]:
    opened = DirectoryStore(place)
    yield opened
    opened.close()


def write(
    store: DirectoryStore,
    path: str,
    content: str,
    expect: Expect = None,
    trash_stamp: str | None = None,
) -> RemoteObject:
    return store.write(
        path, Content(content.encode()), expect=expect, operation="o", trash_stamp=trash_stamp
    )


def read(store: DirectoryStore, path: str) -> str:
    with store.read(path) as reader:
        return b"".join(reader).decode()


def listed(store: DirectoryStore, prefix: str = "") -> list[str]:
    return [entry.path for entry in store.list(prefix)]


def files(place: Path) -> list[str]:
    return sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())


def test_missing_store_folder_raises_until_created(place: Path) -> None:
    with pytest.raises(StoreMissing):
        DirectoryStore(place / "new/store")
    created = DirectoryStore.create(place / "new/store")
    assert created.name == "store"
    assert created.location == str(place / "new/store")
    DirectoryStore.create(place / "new/store", name="again").close()
    created.close()


def test_reading_a_directory_store_creates_nothing(store: DirectoryStore, place: Path) -> None:
    assert list(store.list()) == []
    assert store.stat("a") is None
    store.delete("a", expect=None)
    with pytest.raises(ObjectNotFound), store.read("a"):
        pass
    assert os.listdir(place) == []


def test_directory_store_object_is_a_plain_file_with_source_mtime(
    store: DirectoryStore, place: Path
) -> None:
    written = write(store, "d/a", "hello")
    assert (place / "d/a").read_text() == "hello"
    assert (place / "d/a").stat().st_mtime_ns == written.mtime_ns == 1_234_567_890
    assert store.stat("d/a") == written
    assert list(store.list()) == [written._replace(mtime_ns=None)]
    assert os.listdir(place / ".craftsync/tmp") == []


def test_hand_edited_file_in_directory_store_has_new_version(
    store: DirectoryStore, place: Path
) -> None:
    written = write(store, "a", "A")
    (place / "a").write_text("B")
    os.utime(place / "a", ns=(1_234_567_890, 1_234_567_890))
    with pytest.raises(PreconditionFailed):
        write(store, "a", "C", expect=written)
    with pytest.raises(PreconditionFailed):
        store.delete("a", expect=written)
    with pytest.raises(PreconditionFailed), store.read("a", expect=written):
        pass
    assert read(store, "a") == "B"


def test_write_from_a_changed_source_leaves_nothing(store: DirectoryStore, place: Path) -> None:
    with pytest.raises(PathBusy):
        store.write("a", Content(b"x", change=True), expect=None, operation="o")
    assert files(place) == []


def test_first_write_removes_leftovers_of_a_crash(store: DirectoryStore, place: Path) -> None:
    (place / ".craftsync/tmp").mkdir(parents=True)
    for name in ("0123456789abcdef01234567", "download-1"):
        (place / ".craftsync/tmp" / name).touch()
    listed(store)
    assert len(os.listdir(place / ".craftsync/tmp")) == 2
    write(store, "a", "A")
    assert os.listdir(place / ".craftsync/tmp") == ["download-1"]


def test_directory_store_trashes_old_versions_only_with_keep(
    store: DirectoryStore, place: Path
) -> None:
    for content in ("1", "2"):
        write(store, "d/a", content)
    write(store, "d/a", "3", trash_stamp="t1")
    store.delete("d/a", expect=None, trash_stamp="t2")
    write(store, "b", "4")
    store.delete("b", expect=None)
    kept = {path: read(store, path) for path in listed(store, ".craftsync/trash/")}
    assert kept == {".craftsync/trash/t1/d/a": "2", ".craftsync/trash/t2/d/a": "3"}
    assert listed(store) == []
    assert files(place) == [".craftsync/commit-lock", *kept]


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("", ["a", "data.csv", "data/x", "data2/y"]),
        ("data", ["data.csv", "data/x", "data2/y"]),
        ("data/", ["data/x"]),
        ("data/x", ["data/x"]),
        ("data/x/", []),
        ("nothing", []),
        ("/", []),
        ("../", []),
        ("a//", []),
        (".craftsync/", [".craftsync/store-id"]),
    ],
)
def test_list_prefix_matches_the_start_of_the_path(
    store: DirectoryStore, prefix: str, expected: list[str]
) -> None:
    for path in ("a", "data.csv", "data/x", "data2/y", ".craftsync/store-id"):
        write(store, path, path)
    assert listed(store, prefix) == expected


def test_symlinks_in_directory_store_are_reported_and_never_followed(
    store: DirectoryStore, place: Path
) -> None:
    (place / "link").symlink_to("/etc")
    assert list(store.list()) == [Skipped("link", "a symbolic link", subtree=True, by_design=True)]
    with pytest.raises(PathRefused):
        store.stat("link/passwd")
    with pytest.raises(PathRefused):
        write(store, "link/new", "x")


@pytest.mark.parametrize("path", ["../a", "/a", "a//b", "a/", "", "a\0", "x" * 256])
def test_invalid_key_is_rejected_and_never_found(store: DirectoryStore, path: str) -> None:
    with pytest.raises(PathRefused):
        write(store, path, "x")
    assert store.stat(path) is None
    store.delete(path, expect=None)
    with pytest.raises(ObjectNotFound), store.read(path):
        pass


@pytest.mark.parametrize("path", [".craftsync", ".craftsync/tmp/x", ".craftsync/commit-lock"])
def test_directory_stores_internal_files_cannot_be_written(
    store: DirectoryStore, path: str
) -> None:
    write(store, "a", "A")
    with pytest.raises(PathRefused):
        write(store, path, "x")
    assert store.stat(path) is None


def test_file_and_folder_of_one_name_exclude_each_other(store: DirectoryStore) -> None:
    write(store, "a", "A")
    write(store, "b/c", "C")
    with pytest.raises(PathObstructed):
        write(store, "a/x", "x")
    with pytest.raises(PathObstructed):
        write(store, "b", "x", expect=ABSENT)
    assert store.stat("b") is None
    assert listed(store) == ["a", "b/c"]


def test_directory_store_copies_within_itself(store: DirectoryStore) -> None:
    content = os.urandom(3_000_000)
    source = store.write("a", Content(content), expect=ABSENT, operation="o")
    copied = store.copy(source, "d/b", expect=ABSENT, operation="o")
    assert copied == store.stat("d/b")
    assert copied.mtime_ns == source.mtime_ns
    with store.read("d/b") as reader:
        assert b"".join(reader) == content
    with store.read("d/b", offset=2_000_000, length=10) as reader:
        assert b"".join(reader) == content[2_000_000:2_000_010]
        assert reader.object == copied


def test_reading_an_object_rewritten_in_place_fails(store: DirectoryStore, place: Path) -> None:
    store.write("a", Content(bytes(3_000_000)), expect=None, operation="o")
    with store.read("a") as reader, pytest.raises(StoreUnavailable):
        for _ in reader:
            with (place / "a").open("r+b") as file:
                file.write(b"x")


def test_object_replaced_while_reading_reads_the_old_version(store: DirectoryStore) -> None:
    write(store, "a", "old", trash_stamp="t1")
    with store.read("a") as reader:
        write(store, "a", "new", trash_stamp="t1")
        assert b"".join(reader) == b"old"


@pytest.mark.parametrize("creating", [True, False], ids=["create", "replace"])
def test_one_of_many_concurrent_conditional_writes_succeeds(place: Path, creating: bool) -> None:
    stores = [DirectoryStore(place) for _ in range(2)]
    ready = threading.Barrier(8)

    def attempt(number: int) -> bool:
        ready.wait()
        try:
            write(stores[number % 2], f"x/{turn}", str(number), expect=expect)
        except PreconditionFailed:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        for turn in range(10):
            expect = ABSENT if creating else write(stores[0], f"x/{turn}", "first")
            won = list(pool.map(attempt, range(8)))
            assert won.count(True) == 1
            assert read(stores[1], f"x/{turn}") == str(won.index(True))
    assert len(listed(stores[0])) == 10
    for store in stores:
        store.close()


def test_concurrent_unconditional_writes_all_succeed_and_are_kept(store: DirectoryStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: write(store, "a", str(number), trash_stamp="t"), range(24)))
    kept = [read(store, path) for path in listed(store, ".craftsync/trash/")]
    assert sorted([*kept, read(store, "a")]) == sorted(map(str, range(24)))


def test_moved_store_folder_is_missing_and_not_empty(store: DirectoryStore, place: Path) -> None:
    write(store, "a", "A")
    place.rename(place.with_name(place.name + "-moved"))
    try:
        with pytest.raises(StoreMissing):
            list(store.list())
        with pytest.raises(StoreMissing):
            store.stat("b")
    finally:
        place.with_name(place.name + "-moved").rename(place)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give its rights away")
def test_store_folder_without_permission_raises_denied(store: DirectoryStore, place: Path) -> None:
    write(store, "d/a", "A")
    (place / "d").chmod(0)
    os.seteuid(NOBODY)
    try:
        with pytest.raises(StoreDenied):
            write(store, "b", "B")
        with pytest.raises(PathDenied):
            store.stat("d/a")
        assert [entry for entry in store.list() if isinstance(entry, Skipped) and entry.failed]
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small disk")
def test_full_disk_changes_nothing_and_is_reported(place: Path) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        store = DirectoryStore(place)
        write(store, "a", "old")
        for path in ("a", "b"):
            with pytest.raises(StoreFull):
                store.write(path, Content(bytes(2_000_000)), expect=None, operation="o")
        assert listed(store) == ["a"]
        assert read(store, "a") == "old"
        assert os.listdir(place / ".craftsync/tmp") == []
        write(store, "b", "small")
        store.close()
    finally:
        subprocess.run(["umount", place], check=True)
