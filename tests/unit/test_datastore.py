"""The five functions of the data store, with a directory store and real files."""

from __future__ import annotations

import gzip
import io
import os
import stat
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

from craftsync import DataStore
from craftsync.errors import (
    CraftsyncError,
    ObjectNotFound,
    PathBusy,
    PathError,
    PathRefused,
    StoreMissing,
    UsageError,
)
from craftsync.state.pair import FACTS_LAST_NS as WEEK
from craftsync.state.pair import PairState, known_facts
from craftsync.stores.sources import FileSource


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(folder: Path) -> Iterator[DataStore]:
    folder.mkdir()
    with DataStore(str(folder)) as opened:
        yield opened


def kept_versions(folder: Path) -> list[bytes]:
    trash = folder / ".craftsync" / "trash"
    return [path.read_bytes() for path in sorted(trash.rglob("*")) if path.is_file()]


def test_uploaded_object_can_be_listed_described_downloaded_and_deleted(
    store: DataStore, tmp_path: Path
) -> None:
    (tmp_path / "local.csv").write_bytes(b"id;name\n1;Zo\xc3\xa9\n")
    store.upload_data_store_object(str(tmp_path / "local.csv"), "datasets/été.csv")
    (found,) = store.list_data_store_objects()
    assert found == store.get_data_store_object_information("datasets/été.csv")
    assert (found["path"], found["size"]) == ("datasets/été.csv", 15)
    store.download_data_store_object("datasets/été.csv", tmp_path / "copy.csv")
    assert (tmp_path / "copy.csv").read_bytes() == (tmp_path / "local.csv").read_bytes()
    assert store.delete_data_store_object("datasets/été.csv") == {"path": "datasets/été.csv"}
    assert store.list_data_store_objects() == []


def test_object_time_is_iso_8601_utc_in_seconds(store: DataStore, folder: Path) -> None:
    (folder / "a").write_bytes(b"a")
    os.utime(folder / "a", ns=(0, 1_795_342_272_987_654_321))
    (found,) = store.list_data_store_objects()
    assert found["last_modified"] == "2026-11-22T10:11:12Z"
    assert datetime.fromisoformat(found["last_modified"]).utcoffset() is not None


def test_folder_path_matches_a_folder_and_not_a_name_prefix(store: DataStore, folder: Path) -> None:
    for path in ("a/b/1", "a/2", "ab/3", "a.txt"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"x")
    for asked in ("a", "a/", "/a/"):
        assert sorted(o["path"] for o in store.iter_data_store_objects(asked)) == ["a/2", "a/b/1"]
    assert len(store.list_data_store_objects("")) == 4


def test_replaced_and_deleted_objects_stay_in_the_trash(store: DataStore, folder: Path) -> None:
    for content in (b"one", b"two"):
        store.upload_data_store_object(io.BytesIO(content), "a")
    store.delete_data_store_object("a")
    assert sorted(kept_versions(folder)) == [b"one", b"two"]
    assert store.list_data_store_objects() == []


def test_deleting_a_missing_object_succeeds(store: DataStore) -> None:
    assert store.delete_data_store_object("never/there") == {"path": "never/there"}


@pytest.mark.parametrize("size", [0, 1, 3 * 1024 * 1024 + 7])
def test_file_objects_can_be_uploaded_and_downloaded_into(store: DataStore, size: int) -> None:
    content = os.urandom(size)
    store.upload_data_store_object(io.BytesIO(content), "a")
    target = io.BytesIO()
    store.download_data_store_object("a", target)
    assert target.tell() == 0
    assert target.read() == content


def test_file_object_is_uploaded_from_its_start(store: DataStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    with (tmp_path / "file").open("rb") as file:
        file.read(5)
        store.upload_data_store_object(file, "a")
    assert store.get_data_store_object_information("a")["size"] == 10


def test_unflushed_writes_of_a_file_object_are_uploaded(store: DataStore, tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+b") as file:
        file.write(b"still in the buffer")
        store.upload_data_store_object(file, "a")
    assert store.get_data_store_object_information("a")["size"] == 19


def test_unseekable_stream_is_uploaded_completely(store: DataStore) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"through a pipe")
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        store.upload_data_store_object(stream, "a")
    target = io.BytesIO()
    store.download_data_store_object("a", target)
    assert target.getvalue() == b"through a pipe"


class OnlyReads:
    """The smallest file object that the SDK's documentation allows."""

    def __init__(self, content: bytes) -> None:
        self._rest = io.BytesIO(content)

    def read(self, size: int = -1) -> bytes:
        return self._rest.read(size)


class OnlyWrites:
    def __init__(self) -> None:
        self.written = b""

    def write(self, content: bytes) -> None:
        self.written += content


class TakesAFewBytes(io.RawIOBase):
    """A raw stream that writes only a part of its input, as write(2) may."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, content: Any) -> int:
        self.written += bytes(content[:7])
        return min(7, len(content))


class GivesNothingYet(OnlyReads):
    def read(self, size: int = -1) -> bytes:
        return super().read(size) or cast(bytes, None)


def test_file_objects_with_only_read_or_write_are_enough(store: DataStore) -> None:
    store.upload_data_store_object(cast(BinaryIO, OnlyReads(b"12345")), "a")
    target = OnlyWrites()
    store.download_data_store_object("a", cast(BinaryIO, target))
    assert target.written == b"12345"


def test_download_into_a_raw_stream_writes_every_byte(store: DataStore) -> None:
    store.upload_data_store_object(io.BytesIO(b"0123456789" * 3), "a")
    target = TakesAFewBytes()
    store.download_data_store_object("a", cast(BinaryIO, target))
    assert target.written == b"0123456789" * 3


def test_nonblocking_stream_is_never_stored_partially(store: DataStore) -> None:
    with pytest.raises(UsageError, match="gives nothing yet"):
        store.upload_data_store_object(cast(BinaryIO, GivesNothingYet(b"the first part")), "a")
    assert store.list_data_store_objects() == []


def test_gzip_file_object_uploads_its_decompressed_content(
    store: DataStore, tmp_path: Path
) -> None:
    with gzip.open(tmp_path / "file.gz", "wb") as compressed:
        compressed.write(b"a" * 5000)
    with gzip.open(tmp_path / "file.gz", "rb") as plain:
        store.upload_data_store_object(cast(BinaryIO, plain), "a")
    assert store.get_data_store_object_information("a")["size"] == 5000


def test_download_keeps_permissions_of_the_replaced_file(store: DataStore, tmp_path: Path) -> None:
    store.upload_data_store_object(io.BytesIO(b"new"), "a")
    target = tmp_path / "target"
    target.write_bytes(b"old")
    target.chmod(0o640)
    store.download_data_store_object("a", str(target))
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_download_into_a_symlink_writes_to_its_target(store: DataStore, tmp_path: Path) -> None:
    store.upload_data_store_object(io.BytesIO(b"new"), "a")
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    store.download_data_store_object("a", tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_download_into_a_named_pipe_keeps_the_pipe(store: DataStore, tmp_path: Path) -> None:
    store.upload_data_store_object(io.BytesIO(b"new"), "a")
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        store.download_data_store_object("a", tmp_path / "pipe")
        assert os.read(reader, 10) == b"new"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_failed_download_leaves_only_the_old_file(
    store: DataStore, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "target").write_bytes(b"old")
    with pytest.raises(ObjectNotFound):
        store.download_data_store_object("missing", tmp_path / "target")
    with pytest.raises(PathError, match="cannot be written"):
        (folder / "a").write_bytes(b"new")
        store.download_data_store_object("a", tmp_path / "no-such-folder" / "target")
    assert (tmp_path / "target").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store", "target"]


@pytest.mark.parametrize("path", ["missing", "a/missing"])
def test_missing_object_raises_not_found(store: DataStore, path: str, tmp_path: Path) -> None:
    with pytest.raises(ObjectNotFound, match="missing"):
        store.get_data_store_object_information(path)
    with pytest.raises(ObjectNotFound, match="missing"):
        store.download_data_store_object(path, tmp_path / "target")


@pytest.mark.parametrize("path", [".craftsync/trash/x", ".craftsync", "../out", "a//b", "/a", "a/"])
def test_invalid_object_paths_are_rejected(store: DataStore, folder: Path, path: str) -> None:
    with pytest.raises(PathRefused):
        store.upload_data_store_object(io.BytesIO(b"x"), path)
    assert not [
        entry
        for entry in folder.parent.rglob("*")
        if entry.is_file() and not entry.match("*store-id*")
    ]


def test_data_store_cannot_delete_craftsyncs_own_objects(store: DataStore, folder: Path) -> None:
    for content in (b"one", b"two"):
        store.upload_data_store_object(io.BytesIO(content), "a")
    (kept,) = (path for path in (folder / ".craftsync/trash").rglob("*") if path.is_file())
    with pytest.raises(PathRefused):
        store.delete_data_store_object(str(kept.relative_to(folder)))
    assert kept.read_bytes() == b"one"


@pytest.mark.parametrize("path", ["../secret", "a/../../secret"])
def test_data_store_reads_nothing_outside_the_store(
    store: DataStore, tmp_path: Path, path: str
) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    target = io.BytesIO()
    with pytest.raises(CraftsyncError):
        store.download_data_store_object(path, target)
    with pytest.raises(CraftsyncError):
        store.get_data_store_object_information(path)
    assert target.getvalue() == b""


def test_only_uploads_create_the_store_folder(folder: Path, tmp_path: Path) -> None:
    with DataStore(str(folder)) as store:
        with pytest.raises(StoreMissing):
            store.list_data_store_objects()
        with pytest.raises(StoreMissing):
            store.delete_data_store_object("a")
        assert not folder.exists()
        store.upload_data_store_object(io.BytesIO(b"x"), "a")
        assert (folder / "a").read_bytes() == b"x"


def test_upload_of_an_unreadable_file_names_it(store: DataStore, tmp_path: Path) -> None:
    with pytest.raises(PathError, match=r"nowhere\.csv cannot be read"):
        store.upload_data_store_object(str(tmp_path / "nowhere.csv"), "a")


def test_upload_of_text_or_non_files_is_rejected(store: DataStore) -> None:
    with pytest.raises(UsageError, match="text"):
        store.upload_data_store_object(cast(BinaryIO, io.StringIO("text")), "a")
    with pytest.raises(UsageError, match="int is neither a path nor a binary file"):
        store.upload_data_store_object(cast(BinaryIO, 3), "a")
    assert store.list_data_store_objects() == []
    store.upload_data_store_object(io.BytesIO(b"bytes"), "a")
    with pytest.raises(UsageError, match="text"):
        store.download_data_store_object("a", cast(BinaryIO, io.StringIO()))


def test_upload_detects_a_file_changing_while_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"0123456789")
    with file.open("rb") as opened:
        source = FileSource(opened.fileno(), "file")
        assert source.read_at(3, 4) == b"3456"
        file.write_bytes(b"01234")
        with pytest.raises(PathBusy, match="changed while it was read"):
            source.read_at(0, 10)
        with pytest.raises(PathBusy, match="changed while it was read"):
            source.verify()


def test_probed_store_facts_are_reused_for_a_week_per_store_identity(
    tmp_path: Path,
) -> None:
    now = 1_795_342_272_000_000_000
    for store, mark, age_ns in (("s3://a", "1", 0), ("s3://b", "2", 0), ("s3://a", "3", 2 * WEEK)):
        state = PairState.open(tmp_path, f"/root{mark}", store, new_id=lambda: "id")
        for key, value in (("store_id", mark), ("facts", f"facts {mark}")):
            state.database.put(key, value)
        state.database.put("facts_at_ns", str(now - age_ns))
        state.close()
    assert list(known_facts(tmp_path, "s3://a", now_ns=now)) == [("1", "facts 1")]
    assert list(known_facts(tmp_path / "nowhere", "s3://a", now_ns=now)) == []


def test_data_store_upload_works_despite_a_damaged_state_database(
    tmp_path: Path, folder: Path
) -> None:
    damaged = tmp_path / "state" / "pairs" / "one" / "state.db"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"no database" * 100)
    with DataStore(str(folder), state_dir=tmp_path / "state") as store:
        store.upload_data_store_object(io.BytesIO(b"x"), "a")
    assert (folder / "a").read_bytes() == b"x"
