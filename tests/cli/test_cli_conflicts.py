"""`craftsync conflicts`: which files have two versions, what differs, and which of them stays."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from craftsync.core.conflict_names import conflict_name, conflict_original
from tests.support.cli import Craftsync, until
from tests.support.daemons import running

PAIR = ("--root", "root", "--store", "./store")


@pytest.fixture
def split(craftsync: Craftsync) -> Craftsync:
    """Give a root in which `sub/a.txt` was changed here and there, both versions kept."""
    disagree(craftsync, "sub/a.txt", "one\nhere\n", "one\nthere\n")
    return craftsync


def disagree(craftsync: Craftsync, name: str, here: str, there: str) -> None:
    craftsync.write(f"root/{name}", "at first")
    assert craftsync("sync", "root", "./store").code == 0
    craftsync.write(f"root/{name}", here)
    craftsync.write(f"store/{name}", there)
    assert craftsync("sync", "root", "./store").code == 4


def copy_of(craftsync: Craftsync, name: str = "sub/a.txt") -> str:
    (found,) = (
        row["remote"]["path"]
        for row in craftsync("conflicts", "list", "--json", *PAIR).json
        if row["path"] == name
    )
    return str(found)


def trashed(craftsync: Craftsync) -> set[str]:
    trash = craftsync.folder / "root/.craftsync/trash"
    return {file.read_text() for file in trash.rglob("*") if file.is_file()}


def settled(craftsync: Craftsync, expected: dict[str, str]) -> None:
    """Check that the next run brings this to both sides, and that nothing is in conflict any more."""
    assert craftsync("sync", "root", "./store").code == 0
    assert craftsync.files("root") == craftsync.files("store") == expected
    assert craftsync("conflicts", "list", *PAIR).text == "No conflict copy found.\n"
    assert json.loads(craftsync("status", "--json", "root", "./store").out)["conflicts"] == 0


def test_a_conflict_is_listed_with_both_versions(split: Craftsync) -> None:
    (found,) = split("conflicts", "list", "--json", *PAIR).json
    assert (found["type"], found["path"]) == ("conflict", "sub/a.txt")
    assert (found["local"]["size"], found["remote"]["size"]) == (9, 10)
    assert found["remote"]["path"].startswith("sub/a (conflict 20")
    assert found["local"]["modified"].endswith("Z")
    lines = split("conflicts", "list", *PAIR).lines
    assert lines[0] == "sub/a.txt"
    assert lines[1].startswith("  local   9 bytes, modified ")
    assert found["remote"]["path"] in lines[2]


@pytest.mark.parametrize("by", ["the file", "the copy"])
def test_conflicts_show_diffs_short_texts(split: Craftsync, by: str) -> None:
    path = "sub/a.txt" if by == "the file" else copy_of(split)
    run = split("conflicts", "show", path, *PAIR)
    assert run.code == 0
    assert run.lines[-3:] == [" one", "-here", "+there"]
    assert "SHA-256 " in run.lines[1]
    (found,) = split("conflicts", "show", path, *PAIR, "--json").json
    assert len(found["local"]["sha256"]) == 64
    assert found["diff"][-2:] == ["-here", "+there"]


def test_conflicts_show_of_binary_files_has_no_diff(craftsync: Craftsync) -> None:
    disagree(craftsync, "b", "\0here", "\0there!")
    (found,) = craftsync("conflicts", "show", "b", *PAIR, "--json").json
    assert found["diff"] is None
    assert len(craftsync("conflicts", "show", "b", *PAIR).lines) == 3


def test_conflicts_show_escapes_control_characters(craftsync: Craftsync) -> None:
    disagree(craftsync, "t", "a\tb\n", "a\t\x1b[2J\n")
    assert "+a\t\\x1b[2J" in craftsync("conflicts", "show", "t", *PAIR).lines


def test_resolve_with_local_keeps_the_other_version_restorable(split: Craftsync) -> None:
    run = split("conflicts", "resolve", "sub/a.txt", "--keep", "local", *PAIR)
    assert (run.code, run.lines[0]) == (0, "kept: sub/a.txt")
    assert trashed(split) >= {"one\nthere\n"}
    settled(split, {"sub/a.txt": "one\nhere\n"})


def test_resolve_with_remote_keeps_the_local_version_restorable(
    split: Craftsync,
) -> None:
    assert split("conflicts", "resolve", "root/sub/a.txt", "--keep", "remote").code == 0
    assert trashed(split) >= {"one\nhere\n"}
    settled(split, {"sub/a.txt": "one\nthere\n"})


def test_resolve_with_both_keeps_two_files(split: Craftsync) -> None:
    copy = copy_of(split)
    assert split("conflicts", "resolve", "sub/a.txt", "--keep", "both", *PAIR).code == 0
    plain = copy.replace("(conflict ", "(")
    settled(split, {plain: "one\nthere\n", "sub/a.txt": "one\nhere\n"})


def test_resolve_with_both_takes_another_name_beside_other_files(split: Craftsync) -> None:
    plain = copy_of(split).replace("(conflict ", "(")
    second, third = (plain.replace(")", f" {number})") for number in (2, 3))
    split.write(f"root/{plain}", "in the way")
    split.write(f"root/{second}/a folder", "in the way, too")
    words = "conflicts", "resolve", "sub/a.txt", "--keep", "both", *PAIR
    for run in (split(*words, "-n"), split(*words)):
        assert (run.code, third in run.text) == (0, True)
    settled(
        split,
        {
            plain: "in the way",
            f"{second}/a folder": "in the way, too",
            third: "one\nthere\n",
            "sub/a.txt": "one\nhere\n",
        },
    )


def test_resolve_with_both_ends_a_copy_that_was_kept_before(split: Craftsync) -> None:
    copy = copy_of(split)
    plain = copy.replace("(conflict ", "(")
    split.write(f"root/{plain}", "one\nthere\n")
    assert split("conflicts", "resolve", "sub/a.txt", "--keep", "both", *PAIR).code == 0
    assert trashed(split) >= {"one\nthere\n"}
    settled(split, {plain: "one\nthere\n", "sub/a.txt": "one\nhere\n"})


def test_resolve_with_several_copies_needs_one_named(split: Craftsync) -> None:
    first = copy_of(split)
    second = "sub/a (conflict 2030-01-01 00-00-00 store).txt"
    split.write(f"root/{second}", "third")
    run = split("conflicts", "resolve", "sub/a.txt", "--keep", "remote", *PAIR)
    assert (run.code, second in run.text, first in run.text) == (6, True, True)
    assert split("conflicts", "resolve", second, "--keep", "remote", *PAIR).code == 0
    assert split("conflicts", "resolve", "sub/a.txt", "--keep", "local", *PAIR).code == 0
    settled(split, {"sub/a.txt": "third"})


def test_conflict_copy_can_replace_a_deleted_file(split: Craftsync) -> None:
    (split.folder / "root/sub/a.txt").unlink()
    assert "deleted since" in split("conflicts", "list", *PAIR).text
    assert split("conflicts", "resolve", "sub/a.txt", "--keep", "remote", *PAIR).code == 0
    settled(split, {"sub/a.txt": "one\nthere\n"})


def test_conflict_with_shortened_name_finds_its_file(craftsync: Craftsync) -> None:
    name = "é" * 120 + ".csv"
    disagree(craftsync, name, "here", "there")
    assert craftsync("conflicts", "resolve", f"root/{name}", "--keep", "remote").code == 0
    settled(craftsync, {name: "there"})


@pytest.mark.parametrize("words", [["sub"], ["./sub/"], ["root"], ["--all"], ["sub/*.txt"]])
def test_conflicts_of_folders_and_globs_are_resolved_at_once(
    split: Craftsync, words: list[str]
) -> None:
    disagree_as_well(split, "sub/b.txt")
    before = split.files("root")
    planned = split("conflicts", "resolve", *words, "--keep", "remote", "-n", *PAIR)
    assert (planned.code, planned.lines) == (
        0,
        ["would keep the store's version: sub/a.txt", "would keep the store's version: sub/b.txt"],
    )
    assert split.files("root") == before
    run = split("conflicts", "resolve", *words, "--keep", "remote", "--json", *PAIR)
    assert (run.code, run.summary["command"], run.summary["problems"]) == (0, "resolve", 0)
    assert [(row["path"], row["status"], row["stays"]) for row in run.json[:-1]] == [
        ("sub/a.txt", "done", ["sub/a.txt"]),
        ("sub/b.txt", "done", ["sub/b.txt"]),
    ]
    settled(split, {"sub/a.txt": "one\nthere\n", "sub/b.txt": "there"})


def test_keep_newer_takes_the_version_modified_last(split: Craftsync) -> None:
    disagree_as_well(split, "sub/b.txt")
    disagree_as_well(split, "sub/c.txt")
    for name, age in (("sub/a.txt", 1000), (copy_of(split, "sub/b.txt"), 1000)):
        os.utime(split.folder / "root" / name, (age, age))
    tied = copy_of(split, "sub/c.txt")
    for name in ("sub/c.txt", tied):
        os.utime(split.folder / "root" / name, (1000, 1000))
    run = split("conflicts", "resolve", "--all", "--keep", "newer", *PAIR)
    assert run.code == 6
    assert "not resolved: sub/c.txt: no version is newer than all others" in run.text
    assert split.files("root") == {
        "sub/a.txt": "one\nthere\n",
        "sub/b.txt": "here",
        "sub/c.txt": "here",
        tied: "there",
    }
    assert trashed(split) >= {"one\nhere\n", "there"}


def test_conflicts_since_a_time_are_listed_and_resolved(split: Craftsync) -> None:
    for since, code in (("1h", 4), ("today", 4), ("2999-01-01", 0)):
        assert split("conflicts", "list", "--since", since, *PAIR).code == code
    words = ("conflicts", "resolve", "--keep", "local", *PAIR)
    assert split(*words, "--since", "2999-01-01").text == "No conflict copy found.\n"
    assert split(*words, "--since", "soon").code == 2
    assert split(*words, "--since", "1d", "sub").code == 0
    settled(split, {"sub/a.txt": "one\nhere\n"})


def test_resolve_rejects_a_path_without_conflict(split: Craftsync) -> None:
    run = split("conflicts", "resolve", "sub", "*.csv", "--keep", "local", *PAIR)
    assert (run.code, "No conflict copy of *.csv" in run.err) == (2, True)
    assert len(split.files("root")) == 2
    for words in (("sub", "--all"), ()):
        assert split("conflicts", "resolve", *words, "--keep", "local", *PAIR).code == 2


def disagree_as_well(craftsync: Craftsync, name: str) -> None:
    craftsync.write(f"root/{name}", "here")
    craftsync.write(f"store/{name}", "there")
    assert craftsync("sync", "root", "./store").code == 4


def test_conflicts_show_without_a_conflict_is_an_error(split: Craftsync) -> None:
    for words in (("show", "nothing"), ("resolve", "nothing", "--keep", "local")):
        run = split("conflicts", *words, *PAIR)
        assert (run.code, "No conflict copy of nothing" in run.err) == (2, True)
    assert split("conflicts", "resolve", "sub/a.txt", *PAIR).code == 2


def test_running_daemon_syncs_a_resolved_conflict(
    split: Craftsync,
) -> None:
    with running(split, "root", "./store") as daemon:
        daemon.until_state("watching", "root", "./store")
        facts = daemon.status("root", "./store")
        assert facts["conflicts"] == 1
        (command,) = facts["next"]
        assert command.startswith("craftsync conflicts list --root ")
        assert split("conflicts", "resolve", "sub/a.txt", "--keep", "remote", *PAIR).code == 0
        until(
            lambda: split.files("store") == {"sub/a.txt": "one\nthere\n"}, "the store to be settled"
        )
        daemon.until_status(
            lambda shown: shown["conflicts"] == 0, "no conflict any more", "root", "./store"
        )


@pytest.mark.parametrize("path", ["a.csv", "d/a.tar.gz", ".env", "LICENCE", "été (2).txt", "a b/c"])
@pytest.mark.parametrize("store", ["dev", "my/bucket: x", "été 2", "///"])
def test_original_path_is_read_from_a_conflict_copy_name(path: str, store: str) -> None:
    copy = conflict_name(path, 1_790_000_000 * 10**9, store)
    assert conflict_original(copy) == path
    assert conflict_original(path) is None
    assert conflict_original(str(Path(copy).with_name("a (conflict).txt"))) is None


def test_every_command_exits_with_4_as_long_as_a_conflict_waits(craftsync: Craftsync) -> None:
    craftsync.write("root/a", "local")
    craftsync.write("store/a", "in the store")
    craftsync.write("root/b", "equal")
    pair = ("root", "./store")
    assert craftsync("sync", *pair).code == 4
    for command in ("sync", "push", "pull", "check"):
        run = craftsync(command, "--json", *pair)
        assert (command, run.code) == (command, 4)
        assert (run.summary["conflicts"], run.summary["exit_code"]) == (1, 4)
    assert craftsync("sync", "-n", *pair).code == 4
    see = "See craftsync conflicts list --root root --store ./store"
    assert see in craftsync("push", *pair).err.splitlines()
    root = str(craftsync.folder / "root")
    where = ("--root", root, "--store", "./store")
    assert craftsync("conflicts", "list", *where).code == 4
    assert craftsync("conflicts", "list", "--json", *where).code == 4
    # Both sides hold both versions: that is a success.
    assert '"last_success": "2' in craftsync("status", "--json", *pair).text
    assert craftsync("conflicts", "resolve", "a", "--keep", "local", *where).code == 0
    assert craftsync("conflicts", "list", *where).code == 0
    for command in ("push", "sync", "pull", "check"):
        assert (command, craftsync(command, *pair).code) == (command, 0)
