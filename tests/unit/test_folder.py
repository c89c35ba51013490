"""A folder through its open descriptor: stat, read, place, replace, identity files and the lock."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from craftsync.core.model import LocalFile
from craftsync.errors import (
    LockedError,
    PathBusy,
    PathError,
    PathObstructed,
    PathRefused,
    RootError,
)
from craftsync.local import linux, trash
from craftsync.local.folder import Folder
from craftsync.local.temporary import Temporary

pytestmark = pytest.mark.usefixtures("kernel")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def folder(root: Path) -> Iterator[Folder]:
    with Folder.open(root) as opened:
        yield opened


def finished(folder: Folder, content: str) -> Temporary:
    temporary = folder.temporary()
    temporary.write_at(0, content.encode())
    return temporary


def place(
    folder: Folder,
    path: str,
    content: str,
    expect: LocalFile | None = None,
    trash_stamp: str | None = "t1",
) -> LocalFile:
    with finished(folder, content) as temporary:
        return folder.place(temporary, path, expect=expect, mtime_ns=None, trash_stamp=trash_stamp)


def put(root: Path, path: str, content: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(content)


def seen(folder: Folder, path: str) -> LocalFile:
    file = folder.stat(path)
    assert file is not None
    return file


def tree(root: Path) -> dict[str, str]:
    """Return every file outside craftsync's own folder, with its content."""
    return {
        str(path.relative_to(root)): path.read_text()
        for path in root.rglob("*")
        if path.is_file() and ".craftsync" not in path.parts
    }


def trashed(folder: Folder) -> dict[tuple[str, str], str]:
    found = {}
    for stamp, file in trash.entries(folder):
        with trash.open_trashed(folder, stamp, file.path) as opened:
            found[stamp, file.path] = opened.read_at(0, file.size).decode()
    return found


def leftovers(root: Path) -> list[str]:
    temporaries = root / ".craftsync/tmp"
    return os.listdir(temporaries) if temporaries.exists() else []


# Opening


def test_missing_folder_file_or_invalid_path_is_not_a_root(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "missing", tmp_path / "file", "a\0b"):
        with pytest.raises(RootError):
            Folder.open(path)


def test_moved_replaced_or_deleted_root_is_detected(folder: Folder, root: Path) -> None:
    folder.ensure_same()
    root.rename(root.with_name("moved"))
    with pytest.raises(RootError):
        folder.ensure_same()
    root.mkdir()
    with pytest.raises(RootError, match="was moved, replaced or mounted over"):
        folder.ensure_same()


def test_stat_and_read_leave_nothing_in_the_folder(folder: Folder, root: Path) -> None:
    put(root, "a", "A")
    folder.ensure_same()
    seen(folder, "a")
    folder.sweep_temporaries()
    trash.purge(folder)
    assert not list(trash.entries(folder))
    assert folder.read_own_file("root-id") is None
    assert os.listdir(root) == ["a"]


# Stat


def test_stat_returns_the_fingerprint_of_a_file(folder: Folder, root: Path) -> None:
    put(root, "données/été.csv", "abc")
    status = (root / "données/été.csv").stat()
    assert seen(folder, "données/été.csv") == (
        "données/été.csv",
        3,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino,
    )


@pytest.mark.parametrize("path", ["b", "b/c", "a/b", "a/b/c"])
def test_stat_finds_nothing_where_no_regular_file_can_be(
    folder: Folder, root: Path, path: str
) -> None:
    put(root, "a", "A")
    assert folder.stat(path) is None


def test_stat_reports_what_else_is_at_a_path(
    folder: Folder, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "folder").mkdir()
    (root / "link").symlink_to("folder")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(root)  # The path of a socket is at most 107 bytes long.
        server.bind("socket")
    with pytest.raises(PathObstructed):
        folder.stat("folder")
    for path, kind in (("link", "link"), ("pipe", "pipe"), ("socket", "socket")):
        with pytest.raises(PathRefused, match=kind):
            folder.stat(path)


def test_path_behind_a_symlink_is_rejected_and_never_absent(folder: Folder, root: Path) -> None:
    put(root.parent, "outside/secret", "S")
    (root / "link").symlink_to(root.parent / "outside")
    for path in ("link/secret", "link/missing"):
        with pytest.raises(PathRefused, match="behind the symbolic link link"):
            folder.stat(path)
    with pytest.raises(PathBusy):
        folder.open_file("link/secret")
    with pytest.raises(PathObstructed):
        place(folder, "link/new", "N")
    assert tree(root.parent / "outside") == {"secret": "S"}


@pytest.mark.parametrize("path", ["../outside", "a/../../outside", "/etc/passwd", "a//b", "", "."])
def test_path_that_leaves_the_folder_is_rejected(folder: Folder, root: Path, path: str) -> None:
    put(root, "a/b", "B")
    calls: list[Callable[[], object]] = [
        lambda: folder.stat(path),
        lambda: folder.open_file(path),
        lambda: place(folder, path, "x"),
        lambda: folder.displace(path, seen(folder, "a/b"), "t1"),
        lambda: folder.move("a/b", path, seen(folder, "a/b")),
    ]
    for call in calls:
        with pytest.raises(PathRefused):
            call()
    assert tree(root.parent) == {"root/a/b": "B"}


# Reading


def test_reading_into_memory_raises_if_the_file_became_shorter(folder: Folder, root: Path) -> None:
    (root / "a").write_bytes(b"content")
    with folder.open_file("a") as opened:
        buffer = bytearray(4)
        opened.read_into(3, memoryview(buffer))
        assert buffer == b"tent"
        (root / "a").write_bytes(b"con")
        with pytest.raises(PathBusy, match="became shorter"):
            opened.read_into(2, memoryview(buffer))


def test_open_file_reads_hashes_and_verifies(folder: Folder, root: Path) -> None:
    content = os.urandom(2_500_000)
    (root / "a").write_bytes(content)
    with folder.open_file("a") as opened:
        assert opened.file == seen(folder, "a")
        assert opened.read_at(1_000_000, 1_500_000) == content[1_000_000:]
        assert opened.digest() == sha256(content).digest()
        opened.verify()


def test_empty_file_has_the_sha256_of_no_bytes(folder: Folder, root: Path) -> None:
    put(root, "a", "")
    with folder.open_file("a") as opened:
        assert opened.digest() == sha256().digest()


def rewrite_with_old_times(path: Path) -> None:
    before = path.stat()
    path.write_text("B")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path: Path) -> None:
    path.with_name("new").write_text("B")
    path.with_name("new").replace(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_text("AA"),
        rewrite_with_old_times,
        replace,
        lambda path: path.unlink(),
        lambda path: path.rename(path.with_name("moved")),
    ],
    ids=["written to", "written to with the old times", "replaced", "deleted", "renamed"],
)
def test_file_that_changes_while_open_fails_verification(
    folder: Folder, root: Path, change: Callable[[Path], object]
) -> None:
    put(root, "d/a", "A")
    with folder.open_file("d/a") as opened:
        change(root / "d/a")
        with pytest.raises(PathBusy):
            opened.verify()


def test_file_whose_folder_becomes_a_symlink_fails_verification(folder: Folder, root: Path) -> None:
    put(root, "d/a", "A")
    with folder.open_file("d/a") as opened:
        (root / "d").rename(root / "e")
        (root / "d").symlink_to("e")
        with pytest.raises(PathRefused):
            opened.verify()


def test_file_truncated_while_reading_is_busy(folder: Folder, root: Path) -> None:
    put(root, "a", "x" * 100)
    with folder.open_file("a") as opened:
        os.truncate(root / "a", 50)
        with pytest.raises(PathBusy):
            opened.read_at(0, 100)
        with pytest.raises(PathBusy):
            opened.digest()


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "link"])
def test_special_files_are_never_opened(folder: Folder, root: Path, kind: str) -> None:
    put(root, "target", "T")
    if kind == "folder":
        (root / "a").mkdir()
    elif kind == "pipe":
        os.mkfifo(root / "a")
    elif kind == "link":
        (root / "a").symlink_to("target")
    with pytest.raises(PathBusy):
        folder.open_file("a")


# Temporaries


def test_unfinished_temporary_file_can_be_reopened_by_name(folder: Folder, root: Path) -> None:
    with folder.temporary("part") as temporary:
        temporary.write_at(0, b"hello wo")
    with folder.temporary("part") as temporary:
        assert temporary.size() == 8
        temporary.write_at(6, memoryview(b"world"))
        assert b"".join(map(bytes, temporary.blocks(0, 100))) == b"hello world"
        assert temporary.digest() == sha256(b"hello world").digest()
        folder.place(temporary, "a", expect=None, mtime_ns=None, trash_stamp="t1")
    assert tree(root) == {"a": "hello world"}
    assert not leftovers(root)


def test_unnamed_or_discarded_temporary_file_vanishes_on_close(folder: Folder, root: Path) -> None:
    finished(folder, "x").close()
    folder.temporary("part").discard()
    assert not leftovers(root)


def test_temporary_file_can_be_opened_only_once(folder: Folder) -> None:
    with folder.temporary("part"), pytest.raises(PathBusy, match="in use"):
        folder.temporary("part")


def test_unnamed_temporary_file_leaves_nothing_after_a_crash(
    folder: Folder, root: Path, kernel: str
) -> None:
    with finished(folder, "x"):
        assert len(leftovers(root)) == (0 if kernel == "new" else 1)


def test_no_temporary_file_is_created_in_a_folder_moved_outside(folder: Folder, root: Path) -> None:
    finished(folder, "x").close()
    outside = root.with_name("outside")
    (root / ".craftsync").rename(outside)
    finished(folder, "x").close()
    assert (root / ".craftsync/tmp").is_dir()
    (root / ".craftsync/tmp").rmdir()
    (root / ".craftsync").rmdir()
    (root / ".craftsync").symlink_to(outside)
    with pytest.raises(PathError):
        folder.temporary()
    with pytest.raises(PathError):
        folder.temporary("part")
    assert os.listdir(outside / "tmp") == []


def test_discarding_a_temporary_file_keeps_the_placed_file(folder: Folder, root: Path) -> None:
    for number, name in enumerate([None, "part"]):
        with folder.temporary(name) as temporary:
            folder.place(temporary, f"a{number}", expect=None, mtime_ns=None, trash_stamp=None)
            temporary.discard()
    assert sorted(tree(root)) == ["a0", "a1"]
    assert not leftovers(root)


def test_sweep_of_unnamed_temporary_files_keeps_named_ones(folder: Folder, root: Path) -> None:
    folder.temporary("part").close()
    put(root, ".craftsync/tmp/0123456789abcdef01234567", "x")
    with finished(folder, "x"):
        open_ones = set(leftovers(root)) - {"part", "0123456789abcdef01234567"}
        folder.sweep_generated()
        assert set(leftovers(root)) == {"part", *open_ones}


def test_sweep_keeps_open_and_listed_temporary_files(folder: Folder, root: Path) -> None:
    for name in ("kept", "old"):
        folder.temporary(name).close()
    with folder.temporary("open"):
        folder.sweep_temporaries({"kept"})
        assert sorted(leftovers(root)) == ["kept", "open"]


# Placing


def test_placed_file_gets_parent_folders_mtime_and_default_mode(folder: Folder, root: Path) -> None:
    with finished(folder, "A") as temporary:
        placed = folder.place(
            temporary, "x/y/a", expect=None, mtime_ns=12_345_678_900, trash_stamp="t1"
        )
    assert placed == seen(folder, "x/y/a")
    assert placed.mtime_ns == 12_345_678_900
    put(root, "usual", "")
    assert (root / "x/y/a").stat().st_mode == (root / "usual").stat().st_mode
    assert tree(root)["x/y/a"] == "A"
    assert not leftovers(root)


def test_file_with_inexpressible_mtime_is_still_placed(folder: Folder, root: Path) -> None:
    with finished(folder, "A") as temporary:
        folder.place(temporary, "a", expect=None, mtime_ns=2**80, trash_stamp=None)
    assert tree(root) == {"a": "A"}


def test_replacing_a_file_keeps_its_mode_and_trashes_the_old(folder: Folder, root: Path) -> None:
    put(root, "d/a", "old")
    (root / "d/a").chmod(0o750)
    placed = place(folder, "d/a", "new", seen(folder, "d/a"))
    assert placed == seen(folder, "d/a")
    assert (root / "d/a").stat().st_mode & 0o777 == 0o750
    assert tree(root) == {"d/a": "new"}
    assert trashed(folder) == {("t1", "d/a"): "old"}
    assert not leftovers(root)


def test_trash_keeps_all_versions_with_the_same_stamp(folder: Folder, root: Path) -> None:
    put(root, "a", "0")
    for content in ("1", "2"):
        place(folder, "a", content, seen(folder, "a"))
    folder.displace("a", seen(folder, "a"), "t1")
    put(root, "a/b", "3")
    folder.displace("a/b", seen(folder, "a/b"), "t1")
    assert trashed(folder) == {
        ("t1", "a"): "0",
        ("t1-2", "a"): "1",
        ("t1-3", "a"): "2",
        ("t1-4", "a/b"): "3",
    }


def test_replacing_without_a_stamp_keeps_no_old_version(folder: Folder, root: Path) -> None:
    put(root, "a", "old")
    place(folder, "a", "new", seen(folder, "a"), trash_stamp=None)
    folder.displace("a", seen(folder, "a"), None)
    assert tree(root) == {}
    assert trashed(folder) == {}


def test_file_created_since_the_scan_is_not_overwritten(folder: Folder, root: Path) -> None:
    put(root, "a", "mine")
    with pytest.raises(PathBusy):
        place(folder, "a", "new")
    assert tree(root) == {"a": "mine"}
    assert not leftovers(root)


@pytest.mark.parametrize(
    "change",
    [lambda path: path.write_text("edit"), rewrite_with_old_times, replace],
    ids=["written to", "written to with the old times", "replaced"],
)
def test_file_edited_since_the_scan_is_not_touched(
    folder: Folder, root: Path, change: Callable[[Path], object]
) -> None:
    put(root, "a", "A")
    scanned = seen(folder, "a")
    change(root / "a")
    edited = tree(root)
    with pytest.raises(PathBusy):
        place(folder, "a", "new", scanned)
    with pytest.raises(PathBusy):
        folder.displace("a", scanned, "t1")
    with pytest.raises(PathBusy):
        folder.move("a", "b", scanned)
    assert tree(root) == edited
    assert trashed(folder) == {}


def test_file_deleted_since_the_scan_is_not_recreated(folder: Folder, root: Path) -> None:
    put(root, "a", "A")
    scanned = seen(folder, "a")
    (root / "a").unlink()
    with pytest.raises(PathBusy):
        place(folder, "a", "new", scanned)
    with pytest.raises(PathBusy):
        folder.move("a", "b", scanned)
    folder.displace("a", scanned, "t1")
    assert tree(root) == {}


def test_only_empty_folders_are_replaced_by_a_file(folder: Folder, root: Path) -> None:
    (root / "empty/in/side").mkdir(parents=True)
    place(folder, "empty", "now a file")
    put(root, "full/in/file", "F")
    with pytest.raises(PathObstructed):
        place(folder, "full", "x")
    with pytest.raises(PathObstructed, match="empty is in the way"):
        place(folder, "empty/a", "x")
    assert tree(root) == {"empty": "now a file", "full/in/file": "F"}
    assert not leftovers(root)


# Displacing and moving


def test_deleted_file_goes_to_the_trash_and_empty_parents_are_removed(
    folder: Folder, root: Path
) -> None:
    put(root, "x/y/z/a", "A")
    put(root, "x/other", "O")
    folder.displace("x/y/z/a", seen(folder, "x/y/z/a"), "t1")
    assert not (root / "x/y").exists()
    assert tree(root) == {"x/other": "O"}
    assert trashed(folder) == {("t1", "x/y/z/a"): "A"}


def test_folder_in_place_of_a_file_to_delete_stays(folder: Folder, root: Path) -> None:
    put(root, "a", "A")
    scanned = seen(folder, "a")
    (root / "a").unlink()
    put(root, "a/b", "B")
    folder.displace("a", scanned, "t1")
    assert tree(root) == {"a/b": "B"}


def test_move_keeps_the_file_and_removes_empty_parents(folder: Folder, root: Path) -> None:
    put(root, "x/a", "A")
    scanned = seen(folder, "x/a")
    moved = folder.move("x/a", "y/z/b", scanned)
    assert moved == seen(folder, "y/z/b")
    assert moved.inode == scanned.inode
    assert sorted(os.listdir(root)) == ["y"]


def test_move_never_overwrites(folder: Folder, root: Path) -> None:
    put(root, "a", "A")
    put(root, "b", "B")
    put(root, "c/d", "D")
    with pytest.raises(PathBusy):
        folder.move("a", "b", seen(folder, "a"))
    with pytest.raises(PathObstructed):
        folder.move("a", "c", seen(folder, "a"))
    assert tree(root) == {"a": "A", "b": "B", "c/d": "D"}


def test_purge_removes_only_old_trash(folder: Folder, root: Path) -> None:
    for stamp in ("2026-01", "2026-02", "2026-03"):
        put(root, "d/a", stamp)
        folder.displace("d/a", seen(folder, "d/a"), stamp)
    trash.purge(folder, "2026-03")
    assert trashed(folder) == {("2026-03", "d/a"): "2026-03"}
    trash.purge(folder)
    assert trashed(folder) == {}


# Marks, lock, durability


def test_identity_file_is_written_once(folder: Folder, root: Path) -> None:
    folder.write_own_file("root-id", b"one")
    with pytest.raises(PathBusy):
        folder.write_own_file("root-id", b"two")
    assert folder.read_own_file("root-id") == b"one"
    assert not leftovers(root)


NEVER = Path("/nonexistent/lock")
"""The place of the lock of a read-only folder."""


def test_lock_is_exclusive_until_released(folder: Folder, root: Path) -> None:
    folder.lock(NEVER)
    with Folder.open(root) as other:
        with pytest.raises(LockedError, match=str(root)):
            other.lock(NEVER)
        folder.close()
        other.lock(NEVER)


def test_lock_survives_removal_of_its_file(folder: Folder, root: Path) -> None:
    folder.lock(NEVER)
    (root / ".craftsync/lock").unlink()
    with Folder.open(root) as other:
        other.lock(NEVER)
        descriptor = os.open(root / ".craftsync/lock", os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)


def test_lock_file_removed_while_locking_still_excludes_others(
    folder: Folder, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = linux.flock

    def removed_before(descriptor: int, how: int) -> None:
        monkeypatch.setattr(linux, "flock", flock)
        (root / ".craftsync/lock").unlink()
        flock(descriptor, how)

    monkeypatch.setattr(linux, "flock", removed_before)
    folder.lock(NEVER)
    with Folder.open(root) as other, pytest.raises(LockedError):
        other.lock(NEVER)


def test_disk_error_becomes_a_path_error_with_its_cause(folder: Folder) -> None:
    folder.close()
    with pytest.raises(PathError) as caught:
        folder.sync()
    assert isinstance(caught.value.__cause__, OSError)


def test_syncfs_of_a_real_folder_returns(folder: Folder) -> None:
    folder.sync()


@pytest.mark.parametrize("written", ["", "1\n"])
def test_folder_locked_by_this_process_is_known_despite_its_lock_file(
    tmp_path: Path, written: str
) -> None:
    elsewhere = tmp_path / "state"
    (tmp_path / "root").mkdir()
    with Folder.open(tmp_path / "root") as first, Folder.open(tmp_path / "root") as second:
        first.lock(elsewhere)
        (tmp_path / "root/.craftsync/lock").write_text(written)
        with pytest.raises(LockedError, match="This craftsync already keeps"):
            second.lock(elsewhere)
        first.close()
        second.lock(elsewhere)
