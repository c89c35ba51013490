"""Renames that never overwrite, exchanges, and their fallbacks for kernels without them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from craftsync.local import exclusive_rename, linux


@pytest.fixture
def here(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture(params=["kernel", "links", "no links"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The system call and its two fallbacks."""
    if request.param == "kernel":
        return exclusive_rename.noreplace, exclusive_rename.exchange
    if request.param == "no links":

        def refuse(*_: object, **__: object) -> None:
            raise OSError(errno.EPERM, "links are not supported")

        monkeypatch.setattr(linux, "link", refuse)
    return exclusive_rename.noreplace_by_link, exclusive_rename.exchange_by_steps


def test_rename_to_a_free_name_keeps_the_inode(way: Any, here: int, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("A")
    inode = (tmp_path / "a").stat().st_ino
    way[0](here, "a", here, "b")
    assert os.listdir(tmp_path) == ["b"]
    assert (tmp_path / "b").stat().st_ino == inode


@pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
def test_rename_never_overwrites(way: Any, here: int, tmp_path: Path, kind: str) -> None:
    (tmp_path / "a").write_text("A")
    if kind == "file":
        (tmp_path / "b").write_text("B")
    elif kind == "folder":
        (tmp_path / "b").mkdir()
    else:
        (tmp_path / "b").symlink_to("nowhere")
    with pytest.raises(FileExistsError):
        way[0](here, "a", here, "b")
    assert (tmp_path / "a").read_text() == "A"
    assert (tmp_path / "b").is_file() == (kind == "file")


def test_exchange_swaps_two_files(way: Any, here: int, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("A")
    (tmp_path / "b").write_text("B")
    way[1](here, "a", here, "b")
    assert (tmp_path / "a").read_text() == "B"
    assert (tmp_path / "b").read_text() == "A"
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


@pytest.mark.parametrize("missing", ["a", "b"])
def test_exchange_with_a_missing_file_changes_nothing(
    way: Any, here: int, tmp_path: Path, missing: str
) -> None:
    other = {"a": "b", "b": "a"}[missing]
    (tmp_path / other).write_text(other)
    with pytest.raises(FileNotFoundError):
        way[1](here, "a", here, "b")
    assert os.listdir(tmp_path) == [other]
    assert (tmp_path / other).read_text() == other


@pytest.mark.parametrize("way", ["links", "no links"], indirect=True)
def test_failed_exchange_leaves_both_files_in_place(
    way: Any, here: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_text("A")
    (tmp_path / "b").write_text("B")
    real = linux.rename

    def fail_for_a(source: str, target: str, **folders: int) -> None:
        if source == "a":
            raise OSError(errno.EIO, "the disk is broken")
        real(source, target, **folders)

    monkeypatch.setattr(linux, "rename", fail_for_a)
    with pytest.raises(OSError, match="broken"):
        way[1](here, "a", here, "b")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "A", "b": "B"}


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.ENOTSUP])
def test_filesystem_without_renameat2_uses_fallbacks(
    monkeypatch: pytest.MonkeyPatch, here: int, tmp_path: Path, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(linux, "renameat2", refuse)
    (tmp_path / "a").write_text("A")
    (tmp_path / "b").write_text("B")
    exclusive_rename.exchange(here, "a", here, "b")
    exclusive_rename.noreplace(here, "a", here, "c")
    assert (tmp_path / "b").read_text() == "A"
    assert (tmp_path / "c").read_text() == "B"


def test_other_rename_errors_are_raised(here: int) -> None:
    with pytest.raises(FileNotFoundError):
        exclusive_rename.noreplace(here, "missing", here, "b")


def test_syncfs_reports_a_failure() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        linux.syncfs(-1)


def test_syncfs_and_timestamp_granularity_work_on_a_real_folder(here: int) -> None:
    linux.syncfs(here)
    assert exclusive_rename.timestamp_granularity_ns(here) in (10_000_000, 2_000_000_000)


def test_unknown_filesystem_gets_two_second_timestamp_granularity() -> None:
    descriptor = os.open("/proc", os.O_RDONLY)
    try:
        assert exclusive_rename.timestamp_granularity_ns(descriptor) == 2_000_000_000
    finally:
        os.close(descriptor)


def test_unnamed_file_is_linked_only_to_a_free_name(here: int, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("T")
    (tmp_path / "link").symlink_to("nowhere")
    unnamed = os.open(tmp_path, os.O_TMPFILE | os.O_WRONLY)
    os.write(unnamed, b"U")
    for name in ("taken", "link"):
        with pytest.raises(FileExistsError):
            exclusive_rename.link_unnamed(unnamed, here, name)
    exclusive_rename.link_unnamed(unnamed, here, "free")
    os.close(unnamed)
    assert (tmp_path / "free").read_text() == "U"
    assert (tmp_path / "taken").read_text() == "T"


@pytest.mark.parametrize("path", ["link", "link/in", "d/link", "../outside", "/", "d/../../x"])
def test_openat2_beneath_never_leaves_the_folder(here: int, tmp_path: Path, path: str) -> None:
    (tmp_path / "d/in").mkdir(parents=True)
    (tmp_path / "link").symlink_to("d")
    (tmp_path / "d/link").symlink_to("in")
    os.close(linux.open_beneath(here, "d/in", os.O_PATH | os.O_DIRECTORY))
    with pytest.raises(OSError, match=r"cross-device|symbolic links"):
        linux.open_beneath(here, path, os.O_PATH | os.O_DIRECTORY)
