"""Which linked folder is meant when a command is given none: that around the current directory first."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from tests.support.cli import Craftsync, until
from tests.support.daemons import running

NOBODY = {
    **{"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"},
    "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
}
"""A server that is not there."""


@pytest.fixture
def linked(craftsync: Craftsync) -> Craftsync:
    """Give a configuration of two folders, and a third that is known by its run alone."""
    craftsync.config.write_text(
        f"environments: {{e: {{store: directory, path: {craftsync.folder}/stores}}}}\n"
        "folders:\n"
        f"  one: {{root: {craftsync.folder}/one, environment: 'e:one'}}\n"
        f"  two: {{root: {craftsync.folder}/two, environment: 'e:two'}}\n"
    )
    for name in ("one", "two", "by-hand"):
        craftsync.write(f"{name}/sub/first")
    for pair in (("one",), ("two",), ("by-hand", "./store")):
        assert craftsync("sync", *pair).code == 0
    return craftsync


def inside(craftsync: Craftsync, folder: str) -> Craftsync:
    """Return what calls the program in a folder of the test."""
    there = Craftsync.__new__(Craftsync)
    there.__dict__ |= {**craftsync.__dict__, "folder": craftsync.folder / folder}
    return there


@pytest.mark.parametrize(("folder", "store"), [("two", "stores/two"), ("by-hand", "store")])
def test_run_inside_a_linked_folder_needs_no_arguments(
    linked: Craftsync, folder: str, store: str
) -> None:
    linked.write(f"{folder}/sub/second", "new")
    here = inside(linked, f"{folder}/sub")
    assert here("push", "-n").lines[0] == "upload sub/second (3 bytes)"
    run = here("sync")
    assert (run.code, run.text.startswith("sync: 1 uploaded")) == (0, True)
    name = "two: " if folder == "two" else ""
    assert run.err == f"{name}~/{folder} ⇄ ~/{store}\n"
    assert here("check", "-v").lines[:2] == ["= sub/first", "= sub/second"]
    assert here("push", "--json").err == ""
    assert set(linked.files(store)) == {"sub/first", "sub/second"}


def test_run_outside_any_folder_lists_the_configured_ones(linked: Craftsync) -> None:
    run = linked("sync")
    assert run.code == 2
    assert "(in the configuration: one, two)" in run.err
    for command in ("trash list", "conflicts list", "deletes list", "history", "sync"):
        run = linked(*command.split())
        assert (run.code, "Give --folder one or --folder two, or --root" in run.err) == (2, True)


def test_root_with_several_known_stores_needs_a_store(linked: Craftsync) -> None:
    assert linked("push", "by-hand", "./other").code == 0
    run = inside(linked, "by-hand")("sync")
    assert run.code == 2
    assert f"{linked.folder}/store" in run.err
    assert f"{linked.folder}/other" in run.err


def test_flags_name_the_folder_of_every_command(linked: Craftsync) -> None:
    place = ("--root", str(linked.folder / "by-hand"), "--store", "./store")
    for command in ("check", "plan", "why sub/first", "trash list", "conflicts list", "push"):
        words = command.split()
        assert linked(*words, *place).code == 0
        run = linked(*words, "--folder", "two")
        assert (run.code, run.err.splitlines()[0]) == (0, "two: ~/two ⇄ ~/stores/two")
    assert linked("status", "--folder", "two").code == 0
    assert linked("sync", "--folder", "two", *place).code == 2
    assert linked("sync", CRAFTSYNC_FOLDER="two").err == "two: ~/two ⇄ ~/stores/two\n"


def test_arguments_override_variables_and_exclude_flags(linked: Craftsync) -> None:
    assert linked("push", "one", "--json", CRAFTSYNC_FOLDER="typo").code == 0
    run = linked("push", "one", "--folder", "two")
    assert (run.code, "by words or by flags" in run.err) == (2, True)


def test_configured_folder_that_was_never_synced_is_found_from_inside(linked: Craftsync) -> None:
    linked.config.write_text(
        linked.config.read_text() + f"  new: {{root: {linked.folder}/new, environment: 'e:new'}}\n"
    )
    linked.write("new/sub/a")
    run = inside(linked, "new/sub")("sync")
    assert (run.code, run.err) == (0, "new: ~/new ⇄ ~/stores/new\n")


def test_root_with_several_configured_stores_needs_a_folder_name(linked: Craftsync) -> None:
    linked.config.write_text(
        linked.config.read_text()
        + f"  again: {{root: {linked.folder}/two, environment: 'e:more'}}\n"
    )
    run = inside(linked, "two")("sync")
    assert run.code == 2
    assert f"two ({linked.folder}/stores/two), again ({linked.folder}/stores/more)" in run.err
    assert "Name one with --folder NAME." in run.err


def test_control_commands_work_from_inside_the_folder(linked: Craftsync) -> None:
    with running(linked, "by-hand", "./store") as daemon:
        daemon.until_state("watching", "by-hand", "./store")
        here = inside(linked, "by-hand")
        assert here("pause").text == f"{linked.folder}/by-hand: paused\n"
        assert here("resume").text == f"{linked.folder}/by-hand: resumed\n"
        assert here("rescan").text == f"{linked.folder}/by-hand: scan started\n"
        run = here("sync")
        assert run.code == 5
        assert "craftsync stop ends it" in run.err
        assert here("stop").text == f"{linked.folder}/by-hand: stopped\n"


def test_control_commands_outside_any_folder_mean_all_configured_ones(linked: Craftsync) -> None:
    with running(linked) as daemon:
        daemon.until_logged("one: watching; the store is ")
        daemon.until_logged("two: watching; the store is ")
        both = [f"{linked.folder}/one", f"{linked.folder}/two"]
        for command, done in (("pause", "paused"), ("resume", "resumed"), ("stop", "stopped")):
            run = linked(command)
            assert (run.code, run.lines) == (0, [f"{root}: {done}" for root in both])
    assert {facts["folder"] for facts in json.loads(linked("status", "--json").out)} == {
        *("one", "two"),
        None,
    }


def test_path_outside_of_the_folder_is_refused(linked: Craftsync) -> None:
    here = inside(linked, "two/sub")
    for command in ("history", "why", "scrub", "trash restore", "conflicts show", "deletes reject"):
        run = here(*command.split(), "../../one-of-none")
        assert (run.code, f"is not in the folder {linked.folder}/two" in run.err) == (2, True)


@pytest.mark.parametrize("variables", [{}, {"NOTIFY_SOCKET": "/nowhere"}], ids=["hand", "service"])
def test_watch_inside_a_folder_watches_only_that_folder(
    linked: Craftsync, variables: dict[str, str]
) -> None:
    with running(inside(linked, "two"), **variables) as daemon:
        daemon.until_logged("two: watching; the store is ")
        if variables:
            daemon.until_logged("one: watching; the store is ")
        assert ("/one: " in daemon.log) == bool(variables)


def test_status_without_arguments_shows_readable_and_unreadable_folders(
    linked: Craftsync,
) -> None:
    for file in (linked.folder / "state/pairs").glob("*/state.db"):
        with closing(sqlite3.connect(file)) as database:
            query = "SELECT value FROM meta WHERE key = 'root'"
            if database.execute(query).fetchone()[0].endswith("two"):
                database.execute("PRAGMA user_version = 999")
    run = linked("status", "--json")
    assert run.code == 7
    shown = {facts["root"].rpartition("/")[2]: facts for facts in json.loads(run.out)}
    assert shown["one"]["last_success"]
    assert "newer" in shown["two"]["reason"]
    assert (shown["two"]["held"], shown["two"]["folder"]) == (None, "two")
    assert "  held: unknown" in linked("status").lines


def test_status_without_arguments_contacts_no_store(linked: Craftsync) -> None:
    assert linked("push", "two", "s3://bucket/first", **NOBODY).code == 5
    run = linked("status")
    assert (run.code, run.err) == (0, "")
    assert "~/two ⇄ s3://bucket/first: stopped" in run.lines
    assert "two: ~/two ⇄ ~/stores/two (two-way): stopped" in run.lines


def test_failed_pull_creates_neither_folder_nor_state(linked: Craftsync) -> None:
    assert linked("pull", "typo", "s3://bucket/typo", **NOBODY).code == 5
    assert not (linked.folder / "typo").exists()
    assert "typo" not in linked("status").text


def test_watch_reports_that_it_has_begun(craftsync: Craftsync) -> None:
    craftsync.write("data/a")
    (craftsync.folder / "store").mkdir()
    with running(craftsync, "data", "./store") as daemon:
        until((craftsync.folder / "store/a").exists, "the first run")
        line = f"{craftsync.folder}/data: watching; the store is {craftsync.folder}/store"
        assert daemon.log.count(line) == 1


@pytest.mark.parametrize(
    ("word", "remedy"),
    [
        ("s3:bucket/x", "Write s3://bucket/x."),
        ("s3:/bucket", "Write s3://bucket."),
        ("bucket", "write ./bucket, for a bucket s3://bucket."),
    ],
)
def test_invalid_store_argument_explains_valid_forms(
    craftsync: Craftsync, word: str, remedy: str
) -> None:
    run = craftsync("ls", word)
    assert (run.code, remedy in run.err) == (2, True), run.err


def test_word_for_an_object_stands_for_its_path_in_the_linked_folder(linked: Craftsync) -> None:
    assert linked("rm", "e:two/sub/first").code == 0
    assert linked("sync", "two").code == 0
    assert not (linked.folder / "two/sub/first").exists()
    for word in ("e:two/sub/first", "./stores/two/sub/first", f"{linked.folder}/stores/two/sub"):
        for command in ("history", "why", "trash list"):
            run = linked(*command.split(), word)
            assert (run.code, run.err) == (0, "two: ~/two ⇄ ~/stores/two\n")
            assert "sub" in run.text
    assert linked("trash", "restore", "e:two/sub/first").code == 0
    for word in ("e:two/sub/first", "./stores/two/sub/first"):
        assert linked("why", word).lines[0] == "sub/first"
    assert linked.files("two") == {"sub/first": "content"}
    assert linked("why", "--folder", "two", "e:two/sub/first").code == 0


def test_word_for_an_object_of_no_linked_folder_names_the_right_command(linked: Craftsync) -> None:
    for words in (("e:elsewhere/x",), ("s3://bucket/x",), ("e:one/x", "--folder", "two")):
        for command in ("history", "why", "trash list", "trash restore"):
            run = linked(*command.split(), *words)
            assert (run.code, f"craftsync stat {words[0]}" in run.err) == (2, True), run.err


@pytest.fixture
def only_one(craftsync: Craftsync) -> Craftsync:
    """Give a configuration of one folder `u` with something in its trash, and the folder `D2` outside of it."""
    craftsync.config.write_text(
        f"environments: {{e: {{store: directory, path: {craftsync.folder}/stores}}}}\n"
        f"folders: {{u: {{root: {craftsync.folder}/u, environment: 'e:u'}}}}\n"
    )
    craftsync.write("u/a")
    craftsync.write("D2/b")
    assert craftsync("sync", "u").code == 0
    craftsync.write("u/a", "edited elsewhere")
    assert craftsync("sync", "u").code == 0
    (craftsync.folder / "u/a").unlink()
    assert craftsync("sync", "u").code == 0
    return craftsync


PURGE = "trash purge -y --older-than 0"
DESTRUCTIVE = {
    "deletes approve --all": (0, "No delete is held."),
    "deletes reject a": (2, "No delete of a is held."),
    "conflicts resolve --all --keep local": (0, "No conflict copy found."),
    "trash restore --all -n": (0, "would restore a of "),
    "trash purge -y -n": (0, ""),
    "trash restore --run 3": (0, "restored a of "),
    PURGE: (0, "2 versions removed"),
    "forget --yes": (0, "history: 3 entries"),
}
"""Commands, with the exit code and a part of the output in `u`. The last of these leave nothing for another."""


def test_destructive_command_elsewhere_needs_the_folder_named(only_one: Craftsync) -> None:
    elsewhere = inside(only_one, "D2")
    kept = only_one("trash", "list", "--json").lines
    for words in DESTRUCTIVE:
        run = elsewhere(*words.split())
        assert (run.code, run.text) == (2, "")
        assert "in no linked folder, and nothing names u: ~/u ⇄ ~/stores/u." in run.err
        assert f"type: craftsync {words} --folder u\n" in run.err
    assert only_one("trash", "list", "--json").lines == kept
    assert len(list((only_one.folder / "state/pairs").iterdir())) == 1


@pytest.mark.parametrize(("folder", "named"), [("D2", " --folder u"), ("u", "")])
def test_destructive_command_acts_on_the_folder_named_or_around(
    only_one: Craftsync, folder: str, named: str
) -> None:
    here = inside(only_one, folder)
    for words, (code, output) in DESTRUCTIVE.items():
        run = here(*f"{words}{named}".split())
        assert (run.code, output in run.text + run.err) == (code, True), (words, run)
        if words == PURGE:
            assert only_one("trash", "list", "--json", "--folder", "u").lines == []
    assert only_one.files("u") == {"a": "edited elsewhere"}
    assert list((only_one.folder / "state/pairs").iterdir()) == []


def test_second_forget_in_an_unconfigured_folder_spares_the_configured_one(
    only_one: Craftsync,
) -> None:
    assert only_one("sync", "D2", "./S2").code == 0
    here = inside(only_one, "D2")
    assert here("forget", "--yes").code == 0
    run = here("forget", "--yes")
    assert (run.code, "--folder u" in run.err) == (2, True)
    assert only_one("history", "--folder", "u").lines


def test_path_in_the_folder_names_it_from_elsewhere(only_one: Craftsync) -> None:
    elsewhere = inside(only_one, "D2")
    assert elsewhere("trash", "restore", "../u/a").code == 0
    assert only_one.files("u") == {"a": "edited elsewhere"}
    for command in ("conflicts resolve --keep local", "deletes reject"):
        run = elsewhere(*command.split(), "../u/a")
        assert (run.code, "nothing names" in run.err) == (2, False)
