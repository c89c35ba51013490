"""Scans of real trees: which files are found, in which order, and what is reported for the rest."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from craftsync.core.model import LocalFile, Skipped
from craftsync.errors import RootError
from craftsync.local import files
from craftsync.local.folder import Folder
from craftsync.local.ignore import IgnoreRules
from craftsync.local.scan import VANISHED, look, scan

NOBODY = 65534


@pytest.fixture
def root() -> Iterator[Path]:
    """Yield a folder that every user can enter, unlike pytest's own."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def folder(root: Path) -> Iterator[Folder]:
    with Folder.open(root) as opened:
        yield opened


@contextmanager
def as_nobody() -> Iterator[None]:
    """Drop the rights of root, for whom every file is readable."""
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)
    else:
        yield


def make(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)


def paths(entries: Iterator[LocalFile | Skipped]) -> list[str]:
    return [entry.path for entry in entries if isinstance(entry, LocalFile)]


def skipped(entries: Iterator[LocalFile | Skipped]) -> list[Skipped]:
    return [entry for entry in entries if isinstance(entry, Skipped)]


def test_files_come_in_the_byte_order_of_their_paths(folder: Folder, root: Path) -> None:
    make(root, "a/b", "a.txt", "a-", "a0", "A", "é", "z/z/z", "\U0001f600", "\uffee", "a b/c")
    found = paths(scan(folder, None))
    assert found == sorted(found, key=str.encode)
    assert found[:6] == ["A", "a b/c", "a-", "a.txt", "a/b", "a0"]
    assert len(found) == 10


def test_scan_and_stat_describe_a_file_equally(folder: Folder, root: Path) -> None:
    make(root, "d/a")
    assert list(scan(folder, None)) == [folder.stat("d/a")]


def test_no_pattern_includes_a_nested_craftsync_folder(folder: Folder, root: Path) -> None:
    make(root, ".craftsync/tmp/x", "a/.craftsync/y", "a/b")
    rules = IgnoreRules(folder, exclude=["!.craftsync/", "!.craftsync/**"])
    assert paths(scan(folder, rules)) == ["a/b"]
    assert paths(look(folder, rules, ["a", "a/.craftsync/y"])) == ["a/b"]


def test_without_rules_only_the_top_craftsync_folder_is_excluded(
    folder: Folder, root: Path
) -> None:
    make(root, ".craftsync/tmp/x", "a/.craftsync/y", ".craftsyncignore")
    assert paths(scan(folder, None)) == [".craftsyncignore", "a/.craftsync/y"]
    assert paths(scan(folder, None, ".craftsync")) == [".craftsync/tmp/x"]


def test_subtree_can_be_scanned_alone(folder: Folder, root: Path) -> None:
    make(root, "a/b/c", "a/b/d/e", "a/bc", "x")
    assert paths(scan(folder, None, "a/b")) == ["a/b/c", "a/b/d/e"]
    assert paths(scan(folder, None, "a", starting="b")) == ["a/b/c", "a/b/d/e", "a/bc"]
    assert paths(scan(folder, None, "a", starting="bc")) == ["a/bc"]
    assert paths(scan(folder, None, "missing")) == []
    assert paths(scan(folder, None, "x")) == []


def test_ignored_folders_are_never_opened(folder: Folder, root: Path) -> None:
    make(root, "a", "b.tmp", "d/.git/config", "d/e/f", "d/e/g.tmp", "n/x")
    (root / ".craftsyncignore").write_text("*.tmp\n")
    (root / "n/.craftsyncignore").write_text("*\n!/.craftsyncignore\n")
    rules = IgnoreRules(folder)
    expected = [".craftsyncignore", "a", "d/e/f", "n/.craftsyncignore"]
    assert list(paths(scan(folder, rules))) == expected
    assert [path for path in paths(scan(folder, None)) if not rules.ignored(path)] == expected
    assert paths(scan(folder, rules, "d/.git")) == []


def test_links_and_special_files_are_skipped_with_a_reason(
    folder: Folder, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(root, "target/file")
    (root / "link").symlink_to("target")
    (root / "dangling").symlink_to("nowhere")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(root)
        server.bind("socket")
    found = list(scan(folder, None))
    assert paths(iter(found)) == ["target/file"]
    assert skipped(iter(found)) == [
        Skipped("dangling", "a symbolic link", subtree=True, by_design=True),
        Skipped("link", "a symbolic link", subtree=True, by_design=True),
        Skipped("pipe", "a named pipe", subtree=True, by_design=True),
        Skipped("socket", "a socket", subtree=True, by_design=True),
    ]


def test_non_utf8_name_is_skipped_under_a_printable_one(folder: Folder, root: Path) -> None:
    (root / "d").mkdir()
    Path(os.fsdecode(os.fsencode(root / "d") + b"/caf\xe9")).write_text("x")
    Path(os.fsdecode(os.fsencode(root) + b"/\xff")).mkdir()
    assert list(scan(folder, None)) == [
        Skipped("\\xff", "the name is not valid UTF-8", subtree=True),
        Skipped("d/caf\\xe9", "the name is not valid UTF-8"),
    ]


def test_only_paths_over_the_length_limit_are_skipped(folder: Folder, root: Path) -> None:
    deep = "/".join(["d" * 200] * 5)
    make(root, f"{deep}/{'f' * 19}", f"{deep}/{'f' * 20}")
    found = list(scan(folder, None))
    assert paths(iter(found)) == [f"{deep}/{'f' * 19}"]
    assert [(entry.path, entry.subtree) for entry in skipped(iter(found))] == [
        (f"{deep}/{'f' * 20}", False)
    ]


def test_tree_deeper_than_the_recursion_limit_is_scanned(folder: Folder, root: Path) -> None:
    path = "d/" * 500 + "f"
    make(root, path)
    assert paths(scan(folder, None)) == [path]


def test_unreadable_folder_is_unknown_and_the_scan_continues(folder: Folder, root: Path) -> None:
    make(root, "a", "closed/x", "unsearchable/x", "z")
    (root / "closed").chmod(0)
    (root / "unsearchable").chmod(0o744)
    with as_nobody():
        found = list(scan(folder, None))
    assert paths(iter(found)) == ["a", "z"]
    assert skipped(iter(found)) == [
        Skipped("closed", "Permission denied", subtree=True, failed=True),
        Skipped("unsearchable/x", "Permission denied", subtree=True, failed=True),
    ]


def test_unreadable_root_raises(folder: Folder, root: Path) -> None:
    root.chmod(0o711)
    with as_nobody(), pytest.raises(RootError):
        list(scan(folder, None))


def test_path_vanishing_during_the_scan_is_unknown_not_absent(folder: Folder, root: Path) -> None:
    make(root, "a", "b", "c/x", "d/x", "e")
    entries = scan(folder, None)
    assert next(entries) == folder.stat("a")
    (root / "b").unlink()
    shutil.rmtree(root / "c")
    shutil.rmtree(root / "d")
    (root / "d").symlink_to("/etc")
    assert list(entries) == [
        Skipped("b", VANISHED, subtree=True),
        Skipped("c", VANISHED, subtree=True),
        Skipped("d", VANISHED, subtree=True),
        folder.stat("e"),
    ]


def test_root_moved_away_during_the_scan_raises(folder: Folder, root: Path) -> None:
    make(root, "a", "b")
    entries = scan(folder, None)
    next(entries)
    root.rename(root.with_name(root.name + "-moved"))
    root.mkdir()
    with pytest.raises(RootError):
        list(entries)
    shutil.rmtree(root.with_name(root.name + "-moved"))


def test_invalid_ignore_file_makes_its_folder_unknown(folder: Folder, root: Path) -> None:
    make(root, "a/x", "b/x")
    (root / "a/.craftsyncignore").write_bytes(b"\xff")
    found = list(scan(folder, IgnoreRules(folder)))
    assert paths(iter(found)) == ["b/x"]
    assert [(entry.path, entry.subtree, entry.failed) for entry in skipped(iter(found))] == [
        ("a", True, True)
    ]


def test_abandoned_scan_closes_its_descriptors(folder: Folder, root: Path) -> None:
    make(root, "a/b/c/d", "a/b/c/e")
    before = len(os.listdir("/proc/self/fd"))
    entries = scan(folder, None)
    next(entries)
    assert len(os.listdir("/proc/self/fd")) > before
    entries.close()  # type: ignore[attr-defined]
    assert len(os.listdir("/proc/self/fd")) == before


def test_huge_folder_is_sorted_by_merging_runs(
    folder: Folder, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "RUN", 7)
    monkeypatch.setattr(files, "_CHUNK", 16)
    make(root, *(f"f{number}" for number in range(40)), "f1.d/x", "f1 /y", "new\nline", "é")
    Path(os.fsdecode(os.fsencode(root) + b"/\xff")).touch()
    found = list(scan(folder, None))
    assert paths(iter(found)) == sorted(paths(iter(found)), key=str.encode)
    assert len(found) == 45
    monkeypatch.undo()
    assert list(scan(folder, None)) == found


# Stat of single paths


@pytest.mark.parametrize(
    "dirty",
    [
        ["a/b"],
        ["a"],
        ["a", "a/b"],
        ["a", "a.txt", "a0", "gone"],
        ["z", "a/b/c", "a"],
        [".craftsync/x"],
    ],
)
def test_stat_of_paths_yields_what_a_scan_yields(
    folder: Folder, root: Path, dirty: list[str]
) -> None:
    make(root, "a/b/c", "a/d", "a.txt", "a0", "z", ".craftsync/x")
    (root / "a/link").symlink_to("d")
    expected = [
        entry
        for entry in scan(folder, None)
        if any(entry.path == path or entry.path.startswith(path + "/") for path in dirty)
    ]
    assert list(look(folder, None, dirty)) == expected


def test_stat_of_paths_applies_ignore_rules(folder: Folder, root: Path) -> None:
    make(root, ".git/config", "a.part", "a", "b/.venv/x", "b/y")
    rules = IgnoreRules(folder)
    assert paths(look(folder, rules, [".git", ".git/config", "a.part", "a", "b"])) == ["a", "b/y"]


def test_stat_behind_a_symlink_reports_the_symlink(folder: Folder, root: Path) -> None:
    make(root, "target/x")
    (root / "link").symlink_to("target")
    (found,) = skipped(look(folder, None, ["link/x"]))
    assert (found.path, found.subtree) == ("link", True)


def test_stat_in_an_unreadable_folder_is_unknown(folder: Folder, root: Path) -> None:
    make(root, "closed/x")
    (root / "closed").chmod(0)
    with as_nobody():
        (found,) = skipped(look(folder, None, ["closed/x"]))
    assert found.failed


segments = st.text(st.sampled_from("ab./- é\n~"), min_size=1, max_size=3).filter(
    lambda name: name not in (".", "..") and "/" not in name
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.lists(segments, min_size=1, max_size=3).map("/".join), max_size=15))
def test_scan_finds_every_file_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, wanted: set[str]
) -> None:
    root = tmp_path_factory.mktemp("tree")
    made = set()
    for path in wanted:
        try:
            make(root, path)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            continue
        made.add(path)
    with Folder.open(root) as folder:
        assert paths(scan(folder, None)) == sorted(made, key=str.encode)
