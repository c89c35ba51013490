"""`history`, `why`, `trash` and `status`: what is remembered, told without a daemon."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.cli import Craftsync


@pytest.fixture
def in_step(craftsync: Craftsync) -> Craftsync:
    """A root and a store after one run."""
    craftsync.write("root/a.csv", "one")
    craftsync.write("root/sub/b.csv", "two")
    assert craftsync("sync", "root", "./store").code == 0
    return craftsync


def test_history_lists_newest_first(in_step: Craftsync) -> None:
    in_step.write("root/a.csv", "changed")
    in_step("push", "root", "./store")
    newest, *older = in_step("history", "--root", "root", "--store", "./store", "--json").json
    assert (newest["command"], newest["action"], newest["path"]) == ("push", "upload", "a.csv")
    assert {row["path"] for row in older} == {"a.csv", "sub/b.csv"}


def test_history_of_a_path_finds_its_linked_folder(in_step: Craftsync) -> None:
    run = in_step("history", "root/sub/b.csv", "--json")
    assert [row["path"] for row in run.json] == ["sub/b.csv"]
    assert "sync done: upload sub/b.csv" in in_step("history", "root/sub/b.csv").text


@pytest.mark.parametrize("folder", ["root/sub", "root/sub/", "root", "root/."])
def test_history_of_a_folder_lists_only_files_below_it(in_step: Craftsync, folder: str) -> None:
    in_step.write("root/sub.csv")
    in_step.write("root/sub0/c.csv")
    in_step("push", "root", "./store")
    shown = {row["path"] for row in in_step("history", folder, "--json").json}
    everything = {"a.csv", "sub/b.csv", "sub.csv", "sub0/c.csv"}
    assert shown == ({"sub/b.csv"} if "sub" in folder else everything)


def test_history_asks_neither_the_store_nor_the_folder(craftsync: Craftsync) -> None:
    craftsync.write("root/a")
    bucket, nowhere = "s3://bucket/prefix", {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}
    assert craftsync("push", "root", bucket, **nowhere, **keys).code == 5
    run = craftsync("history", "--root", "root", "--store", bucket)
    assert (run.code, run.err) == (0, "Nothing is recorded.\n")
    assert craftsync("push", "root", "./store").code == 0
    for side in ("root", "store"):
        (craftsync.folder / side).rename(craftsync.folder / f"{side}-away")
    run = craftsync("history", "--root", "root", "--store", "./store")
    assert (run.code, "push done: upload a" in run.text) == (0, True)


@pytest.mark.parametrize("path", ["a\udcff", "never.csv", "never/"])
def test_history_reports_a_path_without_records(in_step: Craftsync, path: str) -> None:
    run = in_step("history", "--root", "root", "--store", "./store", path)
    assert (run.code, run.text) == (0, "")
    assert run.err.startswith("Nothing is recorded for ")


@pytest.mark.parametrize("path", ["root/sub", "root", "root/gone"])
def test_why_of_a_folder_exits_2_and_names_the_folder_command(
    in_step: Craftsync, path: str
) -> None:
    in_step.write("store/gone/c.csv")
    run = in_step("why", path)
    assert (run.code, run.out) == (2, b"")
    assert " is a folder." in run.err
    assert "craftsync history" in run.err


def test_why_of_a_path_outside_the_folder_ends_with_2(in_step: Craftsync) -> None:
    run = in_step("why", "--root", "root", "--store", "./store", "../elsewhere")
    assert (run.code, run.out) == (2, b"")
    assert "../elsewhere is not in the folder" in run.err


def test_why_reports_a_link_as_one_and_not_as_absent(in_step: Craftsync) -> None:
    (in_step.folder / "root/a.csv").unlink()
    (in_step.folder / "root/a.csv").symlink_to("sub/b.csv")
    run = in_step("why", "root/a.csv")
    assert run.code == 0
    assert run.lines[1] == "  folder: a.csv is a symbolic link"
    assert run.lines[2].startswith("  store: 3 bytes, modified ")


def test_why_of_a_craftsync_path_has_nothing_to_do(
    in_step: Craftsync,
) -> None:
    run = in_step("why", "root/.craftsync/root-id")
    assert run.lines[1:] == ["  nothing to do: .craftsync is craftsync's own"]


def test_why_names_both_sides_and_the_rule(in_step: Craftsync) -> None:
    in_step.write("root/a.csv", "changed here")
    run = in_step("why", "root/a.csv")
    assert run.code == 0
    assert run.lines[0] == "a.csv"
    assert run.lines[1].startswith("  folder: 12 bytes, modified ")
    assert run.lines[2].startswith("  store: 3 bytes, modified ")
    assert run.lines[4].startswith("  upload: ")
    (in_step.folder / "root/sub/b.csv").unlink()
    gone = in_step("why", "root/sub/b.csv")
    assert gone.lines[4].startswith("  delete in the store: ")
    (told,) = in_step("why", "root/a.csv", "--json").json
    assert (told["path"], told["decision"], told["root"]["size"]) == ("a.csv", "upload", 12)
    assert told["rule"]


def test_why_names_the_file_and_key_of_a_pattern_in_the_configuration(
    craftsync: Craftsync,
) -> None:
    craftsync.config.write_text(
        f"environments: {{store: {{store: directory, path: {craftsync.folder}/store}}}}\n"
        f"folders: {{data: {{root: {craftsync.folder}/data, environment: store,"
        " exclude: ['*.tmp']}}\n"
    )
    craftsync.write("data/x.tmp")
    craftsync.write("data/a")
    assert craftsync("sync").code == 0
    said = craftsync("why", "--folder", "data", "x.tmp").text
    assert f"*.tmp (folders.data.exclude in {craftsync.config})" in said


def test_why_names_a_conflict_and_how_to_settle_it(in_step: Craftsync) -> None:
    in_step.write("root/a.csv", "mine, and longer")
    in_step.write("store/a.csv", "theirs")
    pair = ("--root", "root", "--store", "./store")
    said = in_step("why", "a.csv", *pair).text
    assert "compare the contents; if they differ, keep both" in said
    assert in_step("sync", "root", "./store").code == 4
    (copy,) = (path for path in in_step.files("root") if "conflict" in path)
    for path in ("a.csv", copy):
        said = in_step("why", path, *pair).text
        assert f"in conflict: a.csv has the folder's version, {copy} the store's" in said
        assert "craftsync conflicts resolve a.csv --root root --store ./store --keep " in said


def test_why_names_the_pattern_that_leaves_a_path_out(in_step: Craftsync) -> None:
    in_step.write("root/.craftsyncignore", "*.tmp\n")
    in_step.write("root/x.tmp")
    assert "*.tmp" in in_step("why", "root/x.tmp").text


def test_deleted_file_can_be_listed_and_restored(in_step: Craftsync) -> None:
    (in_step.folder / "store" / "a.csv").unlink()
    assert in_step("sync", "root", "./store").code == 0
    assert not (in_step.folder / "root" / "a.csv").exists()
    pair = ["--root", "root", "--store", "./store"]
    (entry,) = in_step("trash", "list", *pair, "--json").json
    assert (entry["path"], entry["side"], entry["size"]) == ("a.csv", "root", 3)
    restored = in_step("trash", "restore", "root/a.csv")
    assert restored.code == 0
    assert restored.text.startswith("restored a.csv ")
    assert in_step.files("root")["a.csv"] == "one"


def test_purge_keeps_recent_versions_by_default(in_step: Craftsync) -> None:
    (in_step.folder / "root" / "a.csv").unlink()
    in_step("sync", "root", "./store")
    pair = ["--root", "root", "--store", "./store"]
    assert in_step("trash", "purge", *pair).text == "0 versions removed\n"
    assert len(in_step("trash", "list", *pair).lines) == 1 + 1
    assert in_step("trash", "purge", "--older-than", "0", *pair).text == "1 version removed\n"
    assert in_step("trash", "list", *pair).text == "The trash is empty.\n"


def test_restoring_a_never_kept_path_exits_2(in_step: Craftsync) -> None:
    run = in_step("trash", "restore", "root/never.csv")
    assert run.code == 2
    assert "never.csv" in run.err


STATUS = {
    *("state", "root", "store", "mode", "pid", "pending", "conflicts", "held", "problems"),
    *("last_success", "watch", "version"),
}


def test_status_json_of_one_folder_is_one_object(in_step: Craftsync) -> None:
    (facts,) = in_step("status", "root", "./store", "--json").json
    assert facts.keys() >= STATUS
    assert (facts["state"], facts["pid"]) == ("stopped", None)
    assert facts["root"] == str((in_step.folder / "root").resolve())
    assert facts["last_success"]
    assert in_step("status", "root", "./store").code == 0


def test_status_json_without_arguments_is_a_list(in_step: Craftsync) -> None:
    (in_step.folder / "other").mkdir()
    in_step.config.write_text(
        "environments: {archive: {store: directory, path: store}}\n"
        "folders:\n"
        "  one: {root: root, environment: archive}\n"
        "  two: {root: other, environment: archive}\n"
    )
    listed = json.loads(in_step("status", "--json").out)
    assert [Path(facts["root"]).name for facts in listed] == ["root", "other"]


def test_commands_that_only_read_create_no_state(craftsync: Craftsync) -> None:
    craftsync.write("root/a")
    (craftsync.folder / "store").mkdir()
    pair = ["--root", "root", "--store", "./store"]
    for words in (["history", *pair], ["why", "a", *pair], ["trash", "list", *pair]):
        assert craftsync(*words).code == 0
    assert craftsync("status", "root", "./store").code == 0
    assert [path.name for path in (craftsync.folder / "root").iterdir()] == ["a"]
    assert not list((craftsync.folder / "store").iterdir())
    assert not (craftsync.folder / "state").exists()


def test_status_history_and_why_do_not_change_the_state(
    craftsync: Craftsync,
) -> None:
    craftsync.write("data/a")
    pair = ("--root", "data", "--store", "./store")
    assert craftsync("sync", "data", "./store").code == 0
    (folder,) = (craftsync.folder / "state" / "pairs").iterdir()
    before = contents(folder)
    for words in (
        ("status", "data", "./store"),
        ("status",),
        ("history", *pair),
        ("why", "a", *pair),
        ("deletes", "list", *pair),
    ):
        run = craftsync(*words)
        assert (words, run.code) == (words, 0), run.err
        assert contents(folder) == before


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}
