"""The fsspec filesystem: fsspec's own abstract suite and what users of pandas do, over each kind of store."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex

import fsspec
import pytest
from fsspec.tests.abstract import (
    AbstractCopyTests,
    AbstractFixtures,
    AbstractGetTests,
    AbstractOpenTests,
    AbstractPipeTests,
    AbstractPutTests,
)

from craftsync.filesystem import DataStoreFileSystem
from tests.contract.conftest import BUCKET
from tests.support.servers import S3Server
from tests.support.serving import Serving, serving

KINDS = ("directory", "craft-ai", "s3")


@pytest.fixture(scope="session")
def served_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture
def open_fs(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], DataStoreFileSystem]:
    """Open an empty store of a kind as a filesystem."""
    monkeypatch.setenv("CRAFTSYNC_CONFIG", os.devnull)
    monkeypatch.setenv("CRAFTSYNC_STATE_DIR", str(tmp_path / "state"))

    def opened(kind: str) -> DataStoreFileSystem:
        if kind == "directory":
            (tmp_path / "store").mkdir()
            return DataStoreFileSystem(f"file://{tmp_path / 'store'}", skip_instance_cache=True)
        if kind == "craft-ai":
            for name, value in request.getfixturevalue("served_store").variables.items():
                monkeypatch.setenv(name, value)
            return DataStoreFileSystem(f"craft-ai://{token_hex(8)}", skip_instance_cache=True)
        server: S3Server = request.getfixturevalue("plain_server")
        for name, value in server.variables.items():
            monkeypatch.setenv(name, value)
        return DataStoreFileSystem(f"s3://{BUCKET}", skip_instance_cache=True)

    return opened


class _Fixtures(AbstractFixtures):
    # Each bulk test makes dozens of objects: over requests only in the long run.
    @pytest.fixture(
        params=[
            "directory",
            *(pytest.param(kind, marks=pytest.mark.exhaustive) for kind in KINDS[1:]),
        ]
    )
    def fs(
        self, request: pytest.FixtureRequest, open_fs: Callable[[str], DataStoreFileSystem]
    ) -> DataStoreFileSystem:
        return open_fs(request.param)

    @pytest.fixture
    def fs_path(self) -> str:
        return "base"

    @pytest.fixture
    def fs_join(self) -> Callable[..., str]:
        return lambda *parts: "/".join(parts)

    @pytest.fixture
    def supports_empty_directories(self) -> bool:
        return False


class TestCopy(_Fixtures, AbstractCopyTests):
    """fsspec's own tests of copies."""


class TestGet(_Fixtures, AbstractGetTests):
    """fsspec's own tests of downloads."""


class TestPut(_Fixtures, AbstractPutTests):
    """fsspec's own tests of uploads."""


class TestPipe(_Fixtures, AbstractPipeTests):
    """fsspec's own tests of writing bytes."""


class TestOpen(_Fixtures, AbstractOpenTests):
    """fsspec's own tests of open files."""


def test_url_without_a_name_is_the_current_environment(
    served_store: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRAFTSYNC_CONFIG", os.devnull)
    for name, value in served_store.variables.items():
        monkeypatch.setenv(name, value)
    url = f"craft-ai://{token_hex(8)}/clients.csv"
    with fsspec.open(url, "wb") as file:
        file.write(b"id;name\n1;Zo\xc3\xa9\n")
    with fsspec.open(url, "rt", encoding="utf-8") as file:
        assert file.read() == "id;name\n1;Zoé\n"


def test_url_names_a_configured_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "store").mkdir()
    config = tmp_path / "config.yaml"
    config.write_text(f"environments:\n  dev: {{store: directory, path: {tmp_path / 'store'}}}\n")
    monkeypatch.setenv("CRAFTSYNC_CONFIG", str(config))
    with fsspec.open("craftsync://dev/datasets/x.csv", "wb") as file:
        file.write(b"a")
    assert (tmp_path / "store/datasets/x.csv").read_bytes() == b"a"
    fs, path = fsspec.url_to_fs("craftsync://dev/datasets")
    assert fs.ls(path, detail=False) == ["datasets/x.csv"]
    assert fs.unstrip_protocol("datasets/x.csv") == "craftsync://dev/datasets/x.csv"


@pytest.mark.parametrize("kind", KINDS)
def test_missing_object_is_a_file_not_found_error(
    kind: str, open_fs: Callable[[str], DataStoreFileSystem]
) -> None:
    fs = open_fs(kind)
    fs.pipe_file("present", b"1")
    for action in (fs.info, fs.cat_file, fs.ls, lambda path: fs.open(path).read()):
        with pytest.raises(FileNotFoundError):
            action("absent")


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_an_object_are_read_by_range(
    kind: str, open_fs: Callable[[str], DataStoreFileSystem]
) -> None:
    fs = open_fs(kind)
    content = bytes(range(256)) * 64
    fs.pipe_file("models/x.bin", content)
    assert fs.cat_file("models/x.bin", 100, 300) == content[100:300]
    assert fs.cat_file("models/x.bin", -10) == content[-10:]
    assert fs.cat_ranges(["models/x.bin"] * 2, [0, 5], [5, 9]) == [content[:5], content[5:9]]
    with fs.open("models/x.bin", "rb", block_size=100) as file:
        file.seek(1000)
        assert file.read(50) == content[1000:1050]


@pytest.mark.parametrize("kind", KINDS)
def test_many_objects_are_read_at_once_in_their_order(
    kind: str, open_fs: Callable[[str], DataStoreFileSystem]
) -> None:
    fs = open_fs(kind)
    names = [f"part-{number:02}" for number in range(6)]
    fs.pipe({name: name.encode() for name in names})
    assert fs.cat(names) == fs.cat("part-*") == {name: name.encode() for name in names}
    assert fs.cat_ranges(names, 5, None) == [name[5:].encode() for name in names]
    assert isinstance(fs.cat_ranges(["part-00", "absent"], 0, 4)[1], FileNotFoundError)
    assert fs.cat(["part-00", "absent"], on_error="omit") == {"part-00": b"part-00"}
    with pytest.raises(FileNotFoundError):
        fs.cat(["part-00", "absent"])


@pytest.mark.parametrize("kind", KINDS)
def test_folder_is_removed_with_all_below_and_nothing_beside(
    kind: str, open_fs: Callable[[str], DataStoreFileSystem]
) -> None:
    fs = open_fs(kind)
    fs.pipe(dict.fromkeys(("a/1", "a/b/2", "ab/3", "c"), b"1"))
    with pytest.raises(IsADirectoryError):
        fs.rm("a")
    fs.rm("a", recursive=True)
    assert fs.find("") == ["ab/3", "c"]
    with pytest.raises(FileNotFoundError):
        fs.rm("a", recursive=True)
    fs.rm(["ab", "c"], recursive=True)
    assert fs.find("") == []


@pytest.mark.parametrize("kind", KINDS)
def test_folder_is_uploaded_and_downloaded_with_all_below(
    kind: str, open_fs: Callable[[str], DataStoreFileSystem], tmp_path: Path
) -> None:
    fs = open_fs(kind)
    (tmp_path / "sent/deep").mkdir(parents=True)
    for name in ("a", "b", "deep/c", "deep/é"):
        (tmp_path / "sent" / name).write_text(name)
    fs.put(f"{tmp_path}/sent", "new", recursive=True)
    fs.put(f"{tmp_path}/sent", "new", recursive=True)
    fs.put(f"{tmp_path}/sent/", "flat", recursive=True)
    assert fs.find("new/sent") == [f"new/sent/{name}" for name in ("a", "b", "deep/c", "deep/é")]
    assert fs.find("flat/deep") == ["flat/deep/c", "flat/deep/é"]
    fs.get("flat", f"{tmp_path}/brought", recursive=True)
    assert (tmp_path / "brought/deep/é").read_text() == "deep/é"
    fs.get("flat", f"{tmp_path}/brought", recursive=True)
    assert (tmp_path / "brought/flat/a").read_text() == "a"
    fs.get("", f"{tmp_path}/all", recursive=True)
    assert (tmp_path / "all/new/sent/b").read_text() == "b"
    with pytest.raises(FileNotFoundError):
        fs.get("absent", f"{tmp_path}/absent", recursive=True)


def test_discarded_write_leaves_the_object_as_it_was(
    open_fs: Callable[[str], DataStoreFileSystem],
) -> None:
    fs = open_fs("directory")
    fs.pipe_file("x", b"old")
    with fs.open("x", "wb", autocommit=False) as file:
        file.write(b"new")
    file.discard()
    assert fs.cat_file("x") == b"old"
