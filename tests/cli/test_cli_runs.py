"""`push`, `pull`, `sync`, `check`, `plan` and `apply` against directory stores."""

from __future__ import annotations

import json
import os

import pytest

from tests.support.cli import Craftsync
from tests.support.plans import as_older_versions_wrote_it

SUMMARY = {
    *("type", "command", "uploaded", "downloaded", "deleted_remote", "deleted_local", "moved"),
    *(
        "copied",
        "replaced",
        "adopted",
        "unchanged",
        "repaired",
        "conflicts",
        "held",
        "problems",
        "skipped",
    ),
    *("bytes_uploaded", "bytes_downloaded", "seconds", "dry_run", "exit_code"),
    *("ignored_local", "ignored_remote", "special", "filtered"),
}


def test_a_push_creates_the_store_and_brings_the_files(craftsync: Craftsync) -> None:
    craftsync.write("root/a.txt", "a")
    craftsync.write("root/modèles/b.bin", "b")
    run = craftsync("push", "root", "./store")
    assert (run.code, run.err) == (0, "")
    assert run.text.startswith("push: 2 uploaded (2 bytes); ")
    assert craftsync.files("store") == {"a.txt": "a", "modèles/b.bin": "b"}


def test_a_pull_creates_the_root(craftsync: Craftsync) -> None:
    craftsync.write("store/a.txt", "a")
    assert craftsync("pull", "root", "./store").code == 0
    assert craftsync.files("root") == {"a.txt": "a"}


def test_sync_transfers_both_ways_and_deletes(craftsync: Craftsync) -> None:
    craftsync.write("root/here", "here")
    craftsync.write("store/there", "there")
    assert craftsync("sync", "root", "./store").code == 0
    assert craftsync.files("root") == craftsync.files("store") == {"here": "here", "there": "there"}
    (craftsync.folder / "root" / "there").unlink()
    assert craftsync("sync", "root", "./store").code == 0
    assert craftsync.files("store") == {"here": "here"}


@pytest.mark.parametrize(
    ("command", "missing"),
    [("push", "root"), ("sync", "root"), ("pull", "store"), ("check", "store")],
)
def test_missing_folder_or_store_exits_3(craftsync: Craftsync, command: str, missing: str) -> None:
    craftsync.write("store/a" if missing == "root" else "root/a")
    run = craftsync(command, "root", "./store")
    assert run.code == 3
    assert run.err.startswith("craftsync: ")
    assert not (craftsync.folder / missing).exists()


@pytest.mark.parametrize("command", ["push", "sync"])
def test_run_of_a_missing_folder_creates_no_store(craftsync: Craftsync, command: str) -> None:
    run = craftsync(command, "root", "./new/store")
    assert run.code == 3
    assert "The folder " in run.err and "cannot be used" in run.err
    assert not (craftsync.folder / "new").exists()


def test_known_store_that_vanished_is_not_recreated(craftsync: Craftsync) -> None:
    craftsync.write("root/a")
    assert craftsync("push", "root", "./store").code == 0
    (craftsync.folder / "store").rename(craftsync.folder / "unmounted")
    for words in (["push", "root", "./store"], ["push", "-n", "root", "./store"]):
        assert craftsync(*words).code == 3
        assert not (craftsync.folder / "store").exists()


@pytest.mark.parametrize("flag", ["-n", "--dry-run", "--dryrun"])
def test_dry_run_prints_actions_and_changes_nothing(craftsync: Craftsync, flag: str) -> None:
    craftsync.write("root/a.txt", "a")
    run = craftsync("push", flag, "root", "./store")
    assert run.code == 0
    assert run.lines[0] == "upload a.txt (1 byte)"
    assert run.lines[1].startswith("push (dry run, nothing was changed): would upload 1 (1 byte); ")
    assert sorted(path.name for path in (craftsync.folder / "root").iterdir()) == ["a.txt"]
    assert not (craftsync.folder / "store").exists()
    planned = craftsync("push", flag, "root", "./store", "--json").json[0]
    assert planned == {
        **{"type": "action", "action": "upload", "path": "a.txt", "size": 1, "status": "planned"}
    }


def test_dry_pull_into_a_missing_folder_creates_nothing(craftsync: Craftsync) -> None:
    craftsync.write("store/a.txt", "a")
    assert craftsync("pull", "-n", "root", "./store").lines[0] == "download a.txt (1 byte)"
    assert not (craftsync.folder / "root").exists()
    assert not (craftsync.folder / "store" / ".craftsync").exists()


def test_json_is_one_object_a_line_and_the_summary_last(craftsync: Craftsync) -> None:
    craftsync.write("root/été.txt", "12345")
    run = craftsync("push", "root", "./store", "--json")
    action, summary = run.json
    assert action == {
        **{"type": "action", "action": "upload", "path": "été.txt", "size": 5, "status": "done"}
    }
    assert "été" in run.text
    assert summary.keys() == SUMMARY
    assert summary["command"] == "push"
    assert (summary["uploaded"], summary["bytes_uploaded"], summary["exit_code"]) == (1, 5, 0)


def test_failed_run_still_ends_its_json_with_a_summary(
    craftsync: Craftsync,
) -> None:
    craftsync.write("root/a")
    run = craftsync("pull", "root", "./store", "--json")
    assert run.code == run.summary["exit_code"] == 3
    assert run.err.startswith("craftsync: ")


def test_quiet_prints_nothing_and_verbose_each_action(craftsync: Craftsync) -> None:
    craftsync.write("root/a", "a")
    assert craftsync("push", "-q", "root", "./store").out == b""
    craftsync.write("root/b", "b")
    assert craftsync("push", "-v", "root", "./store").lines[0] == "upload b (1 byte)"


def test_push_delete_mirrors_up_to_the_delete_limit(craftsync: Craftsync) -> None:
    for name in "abcdef":
        craftsync.write(f"root/{name}", name)
    craftsync("push", "root", "./store")
    for name in "abc":
        (craftsync.folder / "root" / name).unlink()
    assert craftsync("push", "root", "./store").code == 0
    assert len(craftsync.files("store")) == 6
    held = craftsync("push", "--delete", "--max-delete", "2", "root", "./store", "--json")
    assert (held.code, held.summary["held"]) == (7, 3)
    assert len(craftsync.files("store")) == 6
    forced = craftsync("push", "--delete", "--max-delete", "2", "--force-delete", "root", "./store")
    assert forced.code == 0
    assert sorted(craftsync.files("store")) == ["d", "e", "f"]


def test_conflict_exits_4_until_it_is_resolved(craftsync: Craftsync) -> None:
    craftsync.write("root/a", "base")
    craftsync("sync", "root", "./store")
    craftsync.write("root/a", "here")
    craftsync.write("store/a", "there!")
    run = craftsync("sync", "root", "./store", "--json")
    assert (run.code, run.summary["conflicts"]) == (4, 1)
    assert sorted(craftsync.files("root").values()) == ["here", "there!"]
    where = ("--root", "root", "--store", "./store")
    assert craftsync("conflicts", "resolve", "a", "--keep", "local", *where).code == 0
    assert craftsync("sync", "root", "./store").code == 0
    craftsync.write("root/a", "here again")
    craftsync.write("store/a", "there again!")
    assert craftsync("sync", "--conflict", "local", "root", "./store").code == 0
    assert craftsync.files("store")["a"] == "here again"


def test_patterns_select_synced_files(craftsync: Craftsync) -> None:
    for path in ("a.csv", "b.tmp", "cache/c.csv", "d.log"):
        craftsync.write(f"root/{path}")
    craftsync.write("patterns", "# not these\ncache/\n")
    words = ["--exclude", "*.tmp", "--exclude-from", "patterns"]
    craftsync("push", *words, "root", "./store")
    assert sorted(craftsync.files("store")) == ["a.csv", "d.log"]
    craftsync("push", "--include", "*.log", "root", "./other")
    assert sorted(craftsync.files("other")) == ["d.log"]


def test_nested_root_keeps_its_identity_and_trash(
    craftsync: Craftsync,
) -> None:
    craftsync.write("root/inner/b", "b")
    assert craftsync("sync", "root/inner", "./inner-store").code == 0
    assert craftsync("sync", "root", "./store").code == 0
    assert not (craftsync.folder / "store/inner/.craftsync").exists()
    craftsync.write("store/inner/.craftsync/root-id", "another")
    mark = (craftsync.folder / "root/inner/.craftsync/root-id").read_text()
    assert craftsync("pull", "--conflict", "remote", "--delete", "root", "./store").code == 0
    assert (craftsync.folder / "root/inner/.craftsync/root-id").read_text() == mark


def test_configured_folder_name_is_enough_for_a_run(craftsync: Craftsync) -> None:
    craftsync.config.write_text(
        "environments: {archive: {store: directory, path: archive}}\n"
        "folders:\n"
        "  datasets: {root: root, environment: 'archive:datasets', exclude: ['*.tmp']}\n"
    )
    craftsync.write("root/a.csv")
    craftsync.write("root/b.tmp")
    assert craftsync("sync").code == 0
    assert craftsync("sync", "datasets").code == 0
    assert sorted(craftsync.files("archive")) == ["datasets/a.csv"]


def test_check_compares_content_and_changes_nothing(craftsync: Craftsync) -> None:
    craftsync.write("root/same", "same")
    craftsync.write("store/same", "same")
    craftsync.write("root/differs", "root!")
    craftsync.write("store/differs", "store")
    craftsync.write("root/here")
    craftsync.write("store/there")
    run = craftsync("check", "root", "./store")
    assert run.code != 0
    assert sorted(run.lines[:-1]) == ["* differs", "+ here", "- there"]
    assert run.lines[-1].startswith("check: 1 unchanged, 3 not equal; ")
    assert craftsync.files("root")["differs"] == "root!"
    lines = craftsync("check", "root", "./store", "--json").json
    assert {"type": "check", "symbol": "*", "path": "differs"} in lines
    assert "same" not in {line.get("path") for line in lines}
    assert craftsync("check", "-v", "root", "./store").lines[2] == "= same"
    every = craftsync("check", "-v", "root", "./store", "--json").json
    assert {"type": "check", "symbol": "=", "path": "same"} in every


def test_check_of_two_equal_sides_ends_with_0(craftsync: Craftsync) -> None:
    craftsync.write("root/a")
    craftsync("push", "root", "./store")
    run = craftsync("check", "root", "./store")
    assert (run.code, len(run.lines)) == (0, 1)
    assert run.lines[0].startswith("check: 1 unchanged; ")


def test_a_plan_is_written_reviewed_and_applied(craftsync: Craftsync) -> None:
    craftsync.write("root/a", "a")
    craftsync("push", "root", "./store")
    craftsync.write("root/b", "b")
    (craftsync.folder / "root" / "a").unlink()
    planned = craftsync("plan", "--mode", "push", "--delete", "root", "./store", "-o", "the.plan")
    assert (planned.code, planned.out) == (0, b"")
    assert craftsync.files("store") == {"a": "a"}
    steps = [json.loads(line) for line in (craftsync.folder / "the.plan").read_text().splitlines()]
    assert sorted(step["path"] for step in steps[1:]) == ["a", "b"]
    craftsync.write("root/later", "later")
    assert craftsync("apply", "the.plan").code == 0
    assert craftsync.files("store") == {"b": "b"}


def test_apply_dry_run_shows_the_plan_in_words(craftsync: Craftsync) -> None:
    for name in ("a", "b", "c"):
        craftsync.write(f"root/{name}", f"content of {name}")
    craftsync("sync", "root", "./store")
    (craftsync.folder / "root/a").unlink()
    (craftsync.folder / "root/b").rename(craftsync.folder / "root/moved")
    craftsync.write("root/c", "one")
    craftsync.write("store/c", "two!")
    craftsync.write("store/d", "from the store")
    craftsync("plan", "root", "./store", "-o", "the.plan")
    run = craftsync("apply", "-n", "the.plan")
    assert sorted(run.lines[:-1]) == [
        "delete in the store: a (12 bytes): the file was deleted in the folder",
        "download d (14 bytes): the object is new in the store",
        "keep both versions, if they differ: c: both sides changed",
        "move in the store: b → moved: renamed from b",
    ]
    assert run.lines[-1].startswith("apply (dry run, nothing was changed): would download 1 ")
    as_json = craftsync("apply", "-n", "the.plan", "--json")
    assert {row["status"] for row in as_json.json if row["type"] == "action"} == {"planned"}
    assert (as_json.code, as_json.summary["conflicts"], as_json.summary["dry_run"]) == (4, 1, True)
    assert set(craftsync.files("store")) == {"a", "b", "c", "d"}
    assert craftsync("apply", "the.plan").code == 4
    assert set(craftsync.files("root")) >= {"c", "d", "moved"}


def test_plan_for_a_missing_store_applies_to_it_later(
    craftsync: Craftsync,
) -> None:
    craftsync.write("root/a", "a")
    plan = craftsync("plan", "root", "./store")
    assert plan.code == 0
    assert not (craftsync.folder / "store").exists()
    assert craftsync("apply", "-", stdin=plan.out).code == 0
    assert craftsync.files("store") == {"a": "a"}


def test_outdated_plan_step_is_skipped(craftsync: Craftsync) -> None:
    craftsync.write("root/a", "a")
    craftsync("plan", "root", "./store", "-o", "the.plan")
    craftsync.write("root/a", "changed since")
    run = craftsync("apply", "the.plan", "--json")
    assert run.code == 6
    assert run.summary["skipped"] == 1
    assert craftsync.files("store") == {}


def plan_a_rename_and_sync_it(craftsync: Craftsync) -> None:
    """Write `the.plan`, which renames `old` to `new` in the store, and then sync the same rename."""
    craftsync.write("root/old", "content")
    craftsync.write("root/other", "other")
    craftsync("sync", "root", "./store")
    (craftsync.folder / "root/old").rename(craftsync.folder / "root/new")
    craftsync("plan", "root", "./store", "-o", "the.plan")
    assert "move-remote" in (craftsync.folder / "the.plan").read_text()
    craftsync("sync", "root", "./store")


def test_outdated_move_of_a_plan_is_skipped(craftsync: Craftsync) -> None:
    """The same rename has been brought to the store, and undone there, since the plan was written."""
    plan_a_rename_and_sync_it(craftsync)
    (craftsync.folder / "store/new").unlink()
    run = craftsync("apply", "the.plan", "--json")
    assert (run.code, run.summary["skipped"]) == (6, 1), run.err
    assert craftsync.files("root") == {"new": "content", "other": "other"}


def test_outdated_move_of_a_plan_does_not_undo_a_later_delete(craftsync: Craftsync) -> None:
    """The same rename has been synced since the plan was written; then another client deletes the object."""
    plan_a_rename_and_sync_it(craftsync)
    assert craftsync("apply", "the.plan", "--json").summary["skipped"] == 1
    (craftsync.folder / "store/new").unlink()
    run = craftsync("sync", "root", "./store", "--json")
    assert (run.code, run.summary["deleted_local"]) == (0, 1), run.err
    assert craftsync.files("root") == craftsync.files("store") == {"other": "other"}


def test_rename_onto_an_object_in_an_old_plan_is_skipped(craftsync: Craftsync) -> None:
    craftsync.write("root/old", "mine")
    craftsync("sync", "root", "./store")
    (craftsync.folder / "root/old").rename(craftsync.folder / "root/new")
    craftsync.write("store/new", "another client's")
    plan = as_older_versions_wrote_it(
        craftsync("plan", "--mode", "push", "--delete", "root", "./store")
    )
    run = craftsync("apply", "-", "--json", stdin=plan)
    assert (run.code, run.summary["skipped"]) == (6, 1), run.err
    assert craftsync.files("store") == {"old": "mine", "new": "another client's"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"local": ["large", 1, 2, 3]}, "not a number"),
        ({"local": None}, "lacks what was seen"),
        ({"action": "move-remote"}, "takes no part"),
        ({"source": "b"}, "no source"),
        ({"path": ".craftsync/root-id"}, "craftsync's own"),
        ({"path": "../a"}, "takes no part"),
        ({}, "more than once"),
    ],
)
def test_plan_craftsync_could_not_have_written_is_rejected(
    craftsync: Craftsync, changed: dict[str, object], said: str
) -> None:
    craftsync.write("root/a", "a")
    craftsync("plan", "root", "./store", "-o", "the.plan")
    header, step = (craftsync.folder / "the.plan").read_text().splitlines()
    wrong = json.dumps(json.loads(step) | changed)
    run = craftsync("apply", "-", stdin=f"{header}\n{step}\n{wrong}\n".encode())
    assert run.code == 2
    assert said in run.err
    assert craftsync.files("store") == {}


def test_file_that_is_not_a_plan_is_rejected(craftsync: Craftsync) -> None:
    craftsync.write("not.a.plan", "hello\n")
    run = craftsync("apply", "not.a.plan")
    assert run.code == 2
    assert "plan" in run.err


def test_file_that_is_a_folder_on_the_other_side_gets_a_remedy(
    craftsync: Craftsync,
) -> None:
    craftsync.write("root/models", "a file")
    craftsync.write("store/models/final", "in a folder")
    run = craftsync("sync", "root", "./store")
    assert run.code == 1
    assert run.err.count("One side has a file there, the other a folder: rename one of them.") == 2
    assert craftsync.files("root") == {"models": "a file"}
    assert craftsync.files("store") == {"models/final": "in a folder"}
    (craftsync.folder / "root/models").rename(craftsync.folder / "root/notes")
    assert craftsync("sync", "root", "./store").code == 0
    both = {"notes": "a file", "models/final": "in a folder"}
    assert craftsync.files("root") == craftsync.files("store") == both


def test_plan_writes_through_a_pipe_and_a_link(craftsync: Craftsync) -> None:
    craftsync.write("root/a")
    pipe, link = craftsync.folder / "pipe", craftsync.folder / "link"
    os.mkfifo(pipe)
    link.symlink_to("plans/the.plan")
    craftsync.write("plans/the.plan", "old")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert craftsync("plan", "root", "./store", "-o", "pipe").code == 0
        assert b'"a"' in os.read(reader, 1 << 16)
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    assert craftsync("plan", "root", "./store", "-o", "link").code == 0
    assert link.is_symlink()
    assert '"a"' in craftsync.files("plans")["the.plan"]


def test_plan_refuses_a_file_inside_what_it_is_about(craftsync: Craftsync) -> None:
    craftsync.write("root/a", "mine")
    craftsync.write("store/b", "mine")
    for file in ("root/a", "root/new", "store/b"):
        run = craftsync("plan", "root", "./store", "-o", file)
        assert run.code == 2
        assert f"{file} is inside " in run.err
    assert craftsync.files("root") == {"a": "mine"}
