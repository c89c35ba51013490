"""A file whose name looks like a glob: the exact name is meant, and no other file."""

from __future__ import annotations

import pytest

from tests.support.cli import Craftsync

PAIR = ("--root", "root", "--store", "./store")
NAMES = ("x[1]", "x1")


@pytest.fixture
def synced(craftsync: Craftsync) -> Craftsync:
    """Give a folder in sync that has a file whose name is also a glob for the other one."""
    for name in (*NAMES, "stays"):
        craftsync.write(f"root/{name}", name)
    assert craftsync("sync", "root", "./store").code == 0
    return craftsync


@pytest.mark.parametrize("verb", ["approve", "reject"])
def test_deletes_take_an_exact_name_before_a_glob(synced: Craftsync, verb: str) -> None:
    for name in NAMES:
        (synced.folder / "root" / name).unlink()
    assert synced("sync", "--max-delete", "1", "root", "./store").code == 7
    assert synced("deletes", verb, "x[1]", *PAIR).code == 0
    held = synced("deletes", "list", "--json", *PAIR).json
    assert [one["path"] for one in held] == ["x1"]


def test_conflicts_resolve_takes_an_exact_name_before_a_glob(synced: Craftsync) -> None:
    for name in NAMES:
        synced.write(f"root/{name}", "mine")
        synced.write(f"store/{name}", "theirs")
    assert synced("sync", "root", "./store").code == 4
    assert synced("conflicts", "resolve", "x[1]", "--keep", "remote", *PAIR).code == 0
    left = synced("conflicts", "list", "--json", *PAIR).json
    assert [one["path"] for one in left] == ["x1"]


@pytest.mark.parametrize(("word", "back"), [("x[1]", ["x[1]"]), ("x[12]", ["x1"])])
def test_trash_restore_takes_an_exact_name_before_a_glob(
    synced: Craftsync, word: str, back: list[str]
) -> None:
    for name in NAMES:
        (synced.folder / "root" / name).unlink()
    assert synced("sync", "--force-delete", "root", "./store").code == 0
    assert synced("trash", "restore", word, *PAIR).code == 0
    assert [path for path in synced.files("root") if path != "stays"] == back
