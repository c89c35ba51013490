"""`--links follow`: a push reads through symbolic links, and never out of the folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import craftsync as package
from craftsync.core.model import LocalFile, Skipped
from craftsync.errors import PathObstructed, UsageError
from craftsync.local.folder import Folder
from craftsync.local.ignore import IgnoreRules
from craftsync.local.scan import look, scan, scan_aside
from tests.support.cli import Craftsync

STORE = "./store"


@pytest.fixture
def root(craftsync: Craftsync) -> Path:
    """Make a folder with links of every kind, and something outside of it."""
    craftsync.write("outside/secret", "outside")
    craftsync.write("data/models/v1/a", "one")
    craftsync.write("data/models/v2/a", "two")
    craftsync.write("data/models/v2/z.tmp", "left out")
    craftsync.write("data/.env", "token")
    craftsync.write("data/.craftsyncignore", "/models/v2/z.tmp\n")
    data = craftsync.folder / "data"
    (data / "sub").mkdir()
    links = {
        "latest": "models/v2",
        "file": "models/v1/a",
        "sub/up": "../models/v1/a",
        "absolute": str(data / "models/v1"),
        "chain": "latest/a",
        "models/v1/back": "..",
        "here": ".",
        "dangling": "nowhere",
        "circle": "circle",
        "out": "../outside",
        "out-file": str(craftsync.folder / "outside/secret"),
        "out-and-in": "../data/models/v1/a",
        "env": ".env",
        "own": ".craftsync/root-id",
    }
    for name, target in links.items():
        (data / name).symlink_to(target)
    return data


FOLLOWED = {
    "absolute/a": "one",
    "chain": "two",
    "file": "one",
    "latest/a": "two",
    "models/v1/a": "one",
    "models/v2/a": "two",
    "sub/up": "one",
}
NOT_FOLLOWED = {
    *("circle", "dangling", "env", "here", "latest/z.tmp", "out", "out-and-in", "out-file", "own"),
    "models/v1/back",
}


def stored(craftsync: Craftsync) -> dict[str, str]:
    found = craftsync.files("store")
    found.pop(".craftsyncignore", None)
    return found


def push(craftsync: Craftsync, *words: str) -> None:
    run = craftsync("push", "--links", "follow", *words, "data", STORE)
    assert run.code == 0, run.err


def test_push_reads_through_links_and_never_out_of_the_folder(
    craftsync: Craftsync, root: Path
) -> None:
    push(craftsync)
    assert {
        path: one for path, one in stored(craftsync).items() if "/back/" not in path
    } == FOLLOWED
    assert craftsync("push", "--json", "--links", "follow", "data", STORE).summary["uploaded"] == 0
    assert craftsync("check", "--links", "follow", "data", STORE).code == 0
    assert (root / "latest").is_symlink() and (root / "file").is_symlink()


def test_scan_and_single_stats_agree_through_links(craftsync: Craftsync, root: Path) -> None:
    (root / ".craftsync").mkdir()
    (root / ".craftsync/root-id").write_text("me")
    with Folder.open(root) as folder:
        folder.follow_links()
        rules = IgnoreRules(folder)
        found = list(scan(folder, rules))
        paths = [entry.path for entry in found]
        assert paths == sorted(set(paths))
        files = {entry.path: entry for entry in found if isinstance(entry, LocalFile)}
        skipped = {entry.path for entry in found if isinstance(entry, Skipped)}
        assert files.keys() >= FOLLOWED.keys()
        assert NOT_FOLLOWED - skipped <= {"models/v1/back"}
        assert list(scan_aside(folder, include=(), exclude=())) == found
        for path in FOLLOWED:
            assert list(look(folder, rules, [path])) == [files[path]]
        for path in NOT_FOLLOWED - {"models/v1/back"}:
            (entry,) = look(folder, rules, [path])
            assert isinstance(entry, Skipped) and entry.by_design and entry.subtree, path


def test_links_that_change_delete_only_what_is_known_to_be_gone(
    craftsync: Craftsync, root: Path
) -> None:
    push(craftsync)
    before = stored(craftsync)
    for name, target in {"latest": "gone", "file": "../outside/secret", "chain": "chain"}.items():
        (root / name).unlink()
        (root / name).symlink_to(target)
    run = craftsync("push", "--links", "follow", "--delete", "data", STORE)
    assert (run.code, "file: a symbolic link" in run.err) == (6, True)
    assert stored(craftsync) == before
    (root / "latest").unlink()
    (root / "latest").symlink_to("models/v1")
    (root / "sub/up").unlink()
    assert craftsync("push", "--links", "follow", "--delete", "data", STORE).code == 6
    assert "sub/up" not in stored(craftsync)
    assert stored(craftsync)["latest/a"] == "one"
    assert craftsync("push", "--delete", "data", STORE).code == 6
    assert stored(craftsync)["latest/a"] == "one"  # A link that is skipped says nothing.


def test_pull_and_sync_leave_links_alone_that_a_push_followed(
    craftsync: Craftsync, root: Path
) -> None:
    push(craftsync)
    craftsync.write("store/file", "from the store")
    craftsync.write("store/latest/a", "from the store")
    for command in ("pull", "sync"):
        run = craftsync(command, "data", STORE)
        assert (run.code, "stands where the store has files" in run.err) == (6, True), run.err
        assert (root / "file").is_symlink() and (root / "latest").is_symlink()
        assert (root / "models/v1/a").read_text() == "one"
        assert (root / "models/v2/a").read_text() == "two"
    assert stored(craftsync)["file"] == "from the store"


@pytest.mark.parametrize("command", [["pull"], ["sync"], ["plan"], ["watch", "--mode", "push"]])
def test_links_are_followed_by_a_push_only(craftsync: Craftsync, command: list[str]) -> None:
    craftsync.write("data/a")
    run = craftsync(*command, "--links", "follow", "data", STORE)
    assert (run.code, "only for push" in run.err) == (2, True), run.err
    with pytest.raises(UsageError, match="only for push"):
        package.pull(craftsync.folder / "data", STORE, links="follow")


def test_a_plan_remembers_that_links_are_followed(craftsync: Craftsync, root: Path) -> None:
    words = ("--mode", "push", "--links", "follow", "-o", "p", "data", STORE)
    assert craftsync("plan", *words).code == 0
    run = craftsync("apply", "p")
    assert run.code == 0, run.err
    assert stored(craftsync)["latest/a"] == "two"


def test_nothing_is_written_where_links_are_followed(craftsync: Craftsync, root: Path) -> None:
    with Folder.open(root) as folder:
        folder.follow_links()
        file = folder.stat("file")
        assert file is not None
        for act in (
            lambda: folder.displace("file", file, None),
            lambda: folder.move("file", "other", file),
        ):
            with pytest.raises(Exception, match="links are followed"):
                act()
    assert os.readlink(root / "file") == "models/v1/a"


@pytest.mark.parametrize("path", ["latest", "latest/sub"])
def test_a_followed_link_is_in_the_way_of_a_new_file(root: Path, path: str) -> None:
    (root / "models/v2/sub").mkdir()
    with Folder.open(root) as folder:
        folder.follow_links()
        with pytest.raises(PathObstructed, match="behind a symbolic link, or is one"):
            folder.check_place(path)


def test_folders_that_link_to_each_other_are_walked_in_bounds(craftsync: Craftsync) -> None:
    names = [f"f{number}" for number in range(5)]
    for name in names:
        craftsync.write(f"data/{name}/x")
        for other in names:
            if other != name:
                (craftsync.folder / f"data/{name}/{other}").symlink_to(f"../{other}")
    with Folder.open(craftsync.folder / "data") as folder:
        folder.follow_links()
        found = [entry for entry in scan(folder, None) if isinstance(entry, LocalFile)]
    assert len(found) == 5 + 5 * 4 + 5 * 4 * 3 + 5 * 4 * 3 * 2
