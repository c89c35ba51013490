"""A folder that may be read and not written to: what is wrong is said of each path, and nothing else is claimed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli import Craftsync, Run

Bound = Callable[..., Run]


@pytest.fixture
def bound(craftsync: Craftsync) -> Bound:
    """Run the program so that permissions bind it, whoever runs the tests."""
    prefix: list[str] = []
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("needs setpriv to give up the rights of root")
        prefix = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"]

    def run(*words: str) -> Run:
        return craftsync.anew(*words, through=prefix)

    return run


@pytest.fixture
def synced(craftsync: Craftsync) -> Craftsync:
    craftsync.write("root/d/file", "synced")
    assert craftsync("sync", "root", "./store").code == 0
    return craftsync


def read_only(folder: Path) -> None:
    folder.chmod(0o555)


@pytest.mark.parametrize(("edited", "closed"), [("root", "store"), ("store", "root")])
def test_change_denied_by_permissions_is_reported_as_a_problem(
    synced: Craftsync, bound: Bound, edited: str, closed: str
) -> None:
    synced.write(f"{edited}/d/file", "an edit of another size")
    read_only(synced.folder / closed / "d")

    run = bound("sync", "--json", "root", "./store")
    assert (run.code, run.summary["problems"], run.summary["skipped"]) == (1, 1, 0)
    (problem,) = (line for line in run.json if line["type"] == "problem")
    assert problem["path"] == "d/file" and "Permission denied" in problem["reason"]
    assert (synced.folder / closed / "d/file").read_text() == "synced"
    left = synced.folder / closed / ".craftsync/trash"
    assert not [file for file in left.rglob("*") if file.is_file()]

    (synced.folder / closed / "d").chmod(0o755)
    assert bound("sync", "root", "./store").code == 0
    assert (synced.folder / closed / "d/file").read_text() == "an edit of another size"


def test_put_into_a_read_only_folder_is_a_permanent_failure(
    synced: Craftsync, bound: Bound
) -> None:
    read_only(synced.folder / "store/d")
    run = bound("put", "root/d/file", "./store", "d/file")
    assert run.code == 1
    assert "Permission denied" in run.err and "Check the owner" in run.err
