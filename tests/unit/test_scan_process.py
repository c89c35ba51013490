"""A scan in another process yields the same, or raises."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from craftsync.errors import RootError
from craftsync.local import scan as scan_process
from craftsync.local.folder import Folder
from craftsync.local.ignore import IgnoredCounter, IgnoreRules
from craftsync.local.scan import scan, scan_aside


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that a child sends in three batches."""
    root = tmp_path_factory.mktemp("root")
    for number in range(7):
        (root / f"d{number}").mkdir()
    for number in range(5000):
        (root / f"d{number % 7}" / f"é{number}").touch()
    (root / "link").symlink_to("d0")
    (root / "left out.tmp").touch()
    return root


def test_scan_in_child_process_yields_the_same(root: Path) -> None:
    with Folder.open(root) as folder:
        rules = IgnoreRules(folder, exclude=["*.tmp"])
        aside = IgnoredCounter()
        found = list(scan_aside(folder, include=(), exclude=["*.tmp"], counter=aside))
        assert found == list(scan(folder, rules))
        assert aside == rules.counter == IgnoredCounter(1)


def test_child_scan_raises_like_a_scan_when_the_root_vanishes(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with Folder.open(root) as folder:
        root.rename(root.with_name("elsewhere"))
        with pytest.raises(RootError):
            list(scan_aside(folder, include=(), exclude=()))


def test_dead_scan_child_is_not_the_end_of_the_scan(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Folder.open(root) as folder:
        monkeypatch.setattr(scan_process.sys, "executable", "/bin/false")
        with pytest.raises(RootError, match="ended early"):
            list(scan_aside(folder, include=(), exclude=()))


def _children() -> set[int]:
    tasks = Path("/proc/self/task").glob("*/children")
    return {int(pid) for task in tasks for pid in task.read_text().split()}


def test_scan_child_ignores_signals_meant_for_the_process_group(
    root: Path,
) -> None:
    others = _children()
    with Folder.open(root) as folder:
        entries = scan_aside(folder, include=(), exclude=())
        first = next(entries)
        (child,) = _children() - others
        assert os.getpgid(child) != os.getpgid(0)
        os.kill(child, signal.SIGTERM)
        assert [first, *entries] == list(scan(folder, IgnoreRules(folder)))


def test_abandoned_child_scan_leaves_no_process(root: Path) -> None:
    with Folder.open(root) as folder:
        entries = scan_aside(folder, include=(), exclude=())
        next(entries)
        entries.close()  # Under `filterwarnings = error` a child that still runs fails the test.
