"""A switch of the branch in a git work tree: many deletes beside new and changed files."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.cli import Craftsync, until
from tests.support.daemons import running

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
PAIR = ("data", "./store")
FOLDER = ("--root", "data", "--store", "./store")
GONE, NEW, CHANGED, SAME = 80, 40, 150, 70
"""Both branches lack more than a tenth of what the other has, which is more than may go unasked."""


@pytest.fixture
def work_tree(craftsync: Craftsync) -> Craftsync:
    """Give a work tree on the branch `one`, in sync, with a branch `two` to switch to."""
    (craftsync.folder / "data").mkdir()
    git(craftsync, "init", "-q", "-b", "one")
    fill(craftsync, {"gone": GONE, "changed": CHANGED, "same": SAME}, "one")
    commit(craftsync)
    git(craftsync, "checkout", "-q", "-b", "two")
    git(craftsync, "rm", "-qr", "gone")
    fill(craftsync, {"new": NEW, "changed": CHANGED}, "two, and longer")
    commit(craftsync)
    switch(craftsync, "one")
    run = craftsync("sync", "--json", *PAIR)
    assert (run.code, run.summary["uploaded"]) == (0, GONE + CHANGED + SAME)
    return craftsync


def git(craftsync: Craftsync, *words: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "core.hooksPath=/dev/null")
    subprocess.run(
        ["git", "-C", craftsync.folder / "data", *who, *words],
        env={"HOME": str(craftsync.folder), "PATH": "/usr/bin:/bin:/usr/local/bin"},
        check=True,
        timeout=60,
    )


def fill(craftsync: Craftsync, folders: dict[str, int], text: str) -> None:
    for folder, count in folders.items():
        for number in range(count):
            craftsync.write(f"data/{folder}/{number // 50:02}/{number:04}.py", f"{text} {number}")


def commit(craftsync: Craftsync) -> None:
    git(craftsync, "add", ".")
    git(craftsync, "commit", "-qm", "as it is")


def switch(craftsync: Craftsync, branch: str) -> None:
    git(craftsync, "checkout", "-q", branch)


def held(craftsync: Craftsync) -> set[str]:
    rows = craftsync("deletes", "list", "--json", *FOLDER).json
    return {row["path"] for row in rows if row["type"] == "held"}


def below(craftsync: Craftsync, folder: str) -> set[str]:
    return {path for path in files(craftsync, "store") if path.startswith(f"{folder}/")}


def files(craftsync: Craftsync, folder: str) -> dict[str, str]:
    """Return what a side holds of what takes part."""
    top = craftsync.folder / folder
    found = {}
    for above, folders, names in os.walk(top):
        folders[:] = [name for name in folders if name not in (".git", ".craftsync")]
        for file in map(Path(above).joinpath, names):
            found[str(file.relative_to(top))] = file.read_text()
    return found


def test_branch_switch_deletes_are_held_and_released_when_files_return(
    work_tree: Craftsync,
) -> None:
    switch(work_tree, "two")
    run = work_tree("sync", "--json", *PAIR)
    assert (run.code, run.summary["held"], run.summary["uploaded"]) == (7, GONE, NEW + CHANGED)
    assert held(work_tree) == below(work_tree, "gone")
    switch(work_tree, "one")
    run = work_tree("sync", "--json", *PAIR)
    # What the other branch had more of is gone by now, and too much of it to go unasked.
    assert (run.code, run.summary["held"], run.summary["uploaded"]) == (7, NEW, CHANGED)
    assert held(work_tree) == below(work_tree, "new")
    assert work_tree("deletes", "approve", "--all", *FOLDER).code == 0
    assert work_tree("sync", *PAIR).code == 0
    assert files(work_tree, "store") == files(work_tree, "data")


def test_daemon_releases_branch_switch_deletes_when_files_return(
    work_tree: Craftsync,
) -> None:
    with running(work_tree, *PAIR) as daemon:
        daemon.until_state("watching", *PAIR)
        for branch in ("two", "one"):
            switch(work_tree, branch)
            until(lambda: is_settled(work_tree), f"the branch {branch} in the store", 0.2)
            daemon.until_status(
                lambda shown: shown["held"] == len(held(work_tree)),
                "the status that counts what is held",
                *PAIR,
            )
            assert not set(files(work_tree, "data")) & held(work_tree)


def is_settled(craftsync: Craftsync) -> bool:
    """Tell whether the store holds the folder, and besides only what waits for a person."""
    folder, store = files(craftsync, "data"), files(craftsync, "store")
    waiting = held(craftsync)
    return {path: text for path, text in store.items() if path not in waiting} == folder
