"""`trash` for folders, globs and several paths, and what git sees of craftsync's own folder."""

from __future__ import annotations

import re
import shutil
import subprocess
from contextlib import closing
from secrets import token_hex

import pytest

from tests.support.cli import Craftsync
from tests.support.servers import S3Server

PAIR = ("--root", "root", "--store", "./store")


@pytest.fixture
def deleted(craftsync: Craftsync) -> Craftsync:
    """A linked folder of which a folder and a file were deleted."""
    for path in ("d/1", "d/e/2", "d/3.csv", "f", "stays"):
        craftsync.write(f"root/{path}", path)
    assert craftsync("sync", "root", "./store").code == 0
    shutil.rmtree(craftsync.folder / "root/d")
    (craftsync.folder / "root/f").unlink()
    assert craftsync("sync", "root", "./store", "--force-delete").code == 0
    return craftsync


def restored(craftsync: Craftsync) -> list[str]:
    return [path for path in craftsync.files("root") if path != "stays"]


@pytest.mark.parametrize(
    ("words", "paths"),
    [
        (["root/d"], ["d/1", "d/3.csv", "d/e/2"]),
        (["root/d/*.csv"], ["d/3.csv"]),
        (["root/f", "root/d/e"], ["d/e/2", "f"]),
        (["--since", "2000-01-01", *PAIR], ["d/1", "d/3.csv", "d/e/2", "f"]),
        (["--since", "2999-01-01", *PAIR], []),
        (["--since", "1h", *PAIR], ["d/1", "d/3.csv", "d/e/2", "f"]),
        (["root/d", "--since", "yesterday"], ["d/1", "d/3.csv", "d/e/2"]),
        (["--all", *PAIR], ["d/1", "d/3.csv", "d/e/2", "f"]),
    ],
)
def test_restore_takes_folders_globs_several_paths_and_a_time(
    deleted: Craftsync, words: list[str], paths: list[str]
) -> None:
    assert deleted("trash", "restore", *words, "-n").code == 0
    assert restored(deleted) == []
    assert deleted("trash", "restore", *words).code == 0
    assert restored(deleted) == paths


def test_restore_lists_unrestored_paths_and_exits_6(deleted: Craftsync) -> None:
    deleted.write("root/d/1", "newer and different")
    run = deleted("trash", "restore", "root/d")
    assert run.code == 6
    assert "not restored: d/1: a different file is there" in run.text
    assert deleted.files("root")["d/1"] == "newer and different"
    assert restored(deleted) == ["d/1", "d/3.csv", "d/e/2"]


def test_restore_and_purge_print_json(deleted: Craftsync) -> None:
    deleted.write("root/d/1", "newer and different")
    deleted.write("root/f", "f")
    run = deleted("trash", "restore", "--all", "--json", *PAIR)
    assert (run.code, run.err, run.summary["command"]) == (6, "", "restore")
    assert (run.summary["skipped"], run.summary["unchanged"], run.summary["exit_code"]) == (1, 1, 6)
    skipped, *restored, _ = run.json
    assert (skipped["type"], skipped["path"]) == ("skipped", "d/1")
    assert "--overwrite" in skipped["reason"]
    assert [(row["action"], row["path"], row["size"], row["status"]) for row in restored] == [
        ("restore", "d/3.csv", 7, "done"),
        ("restore", "d/e/2", 5, "done"),
    ]
    assert deleted("trash", "restore", "root/never", "--json").summary["exit_code"] == 2
    words = ("trash", "purge", "--older-than", "0", "--json", *PAIR)
    planned = deleted(*words, "-n")
    assert [row["status"] for row in planned.json[:-1]] == ["planned"] * 4
    assert (planned.summary["removed"], planned.summary["dry_run"]) == (4, True)
    assert deleted(*words).summary["removed"] == 4


def test_a_path_of_which_nothing_is_kept_restores_nothing(deleted: Craftsync) -> None:
    run = deleted("trash", "restore", "root/d", "root/never")
    assert (run.code, restored(deleted)) == (2, [])
    assert "never" in run.err


def test_trash_list_accepts_paths(deleted: Craftsync) -> None:
    rows = deleted("trash", "list", "root/d/e", "root/f", "--json").json
    assert sorted(row["path"] for row in rows) == ["d/e/2", "f"]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", row["time"]) for row in rows)


def test_purge_dry_run_lists_versions_to_remove(deleted: Craftsync) -> None:
    run = deleted("trash", "purge", "-n", "--older-than", "0", *PAIR)
    assert len(run.lines) == 4
    assert all(line.startswith("would remove ") for line in run.lines)
    assert len(deleted("trash", "list", *PAIR).lines) == 4 + 1


def test_purge_reports_versions_kept_for_a_conflict(deleted: Craftsync) -> None:
    deleted.write("root/stays", "one side")
    deleted.write("store/stays", "the other side")
    assert deleted("sync", "root", "./store").code == 4
    run = deleted("trash", "purge", "--older-than", "0", *PAIR)
    assert run.lines[0] == "4 versions removed"
    assert run.lines[1].startswith("1 stay: a conflict, a held delete or an unfinished run")
    left = deleted("trash", "list", "--json", *PAIR).json
    assert [row["path"] for row in left] == ["stays"]


def test_restore_takes_one_run_back_by_the_number_that_history_shows(deleted: Craftsync) -> None:
    newest = deleted("history", "--limit", "1", *PAIR)
    assert " run 2 sync done: delete in the store: " in newest.text
    (row,) = deleted("history", "--limit", "1", "--json", *PAIR).json
    assert row["run"] == 2
    shown = deleted("trash", "restore", "--run", "2", "-n", *PAIR)
    assert (shown.code, len(shown.lines)) == (0, 4)
    assert all(line.startswith("would restore ") for line in shown.lines)
    assert restored(deleted) == []
    deleted.write("root/d/1", "newer and different")
    run = deleted("trash", "restore", "--run", "2", *PAIR)
    assert run.code == 6
    assert "not restored: d/1: the path exists again in the folder" in run.text
    assert run.lines[-1] == "The next run transfers it to the store."
    assert restored(deleted) == ["d/1", "d/3.csv", "d/e/2", "f"]
    assert deleted("sync", "root", "./store").code == 0
    assert deleted.files("store") == deleted.files("root")


def test_restoring_a_run_names_what_it_does_not_undo(craftsync: Craftsync) -> None:
    for name in ("edited", "gone", "moved"):
        craftsync.write(f"root/{name}", f"old {name}")
    assert craftsync("sync", "root", "./store").code == 0
    craftsync.write("root/edited", "newer")
    (craftsync.folder / "root/gone").unlink()
    (craftsync.folder / "root/moved").rename(craftsync.folder / "root/renamed")
    craftsync.write("root/added", "new")
    assert craftsync("sync", "root", "./store").code == 0
    words = ("trash", "restore", "--run", "2", *PAIR)
    run = craftsync(*words, "-n")
    assert run.code == 0
    assert run.lines[-1] == "not undone: 2 paths that run 2 added or renamed: added, renamed"
    assert "not undone" not in craftsync(*words, "-n", "gone").text
    assert craftsync(*words, "--json").json[-1]["not_undone"] == 2
    assert craftsync.files("root") == {
        **{"added": "new", "edited": "old edited", "gone": "old gone", "renamed": "old moved"}
    }


@pytest.mark.parametrize(
    "words",
    [
        *(["--run", "99"], ["--run", "2", "--all"], ["--run", "2", "--since", "2026"]),
        *(["--all", "root/d"], ["root/d", ""], []),
    ],
)
def test_an_unknown_run_and_unclear_words_are_refused(deleted: Craftsync, words: list[str]) -> None:
    run = deleted("trash", "restore", *words, *PAIR)
    assert (run.code, restored(deleted)) == (2, [])


def test_trash_is_ignored_by_git(deleted: Craftsync) -> None:
    git = shutil.which("git")
    if git is None:
        pytest.skip("git is not installed")
    for words in (["init", "-q"], ["add", "."]):
        subprocess.run([git, "-C", deleted.folder / "root", *words], check=True)
    added = subprocess.run(
        [git, "-C", deleted.folder / "root", "ls-files"], check=True, capture_output=True, text=True
    )
    assert added.stdout.split() == ["stays"]


def test_existing_gitignore_is_not_replaced(deleted: Craftsync) -> None:
    deleted.write("root/.craftsync/.gitignore", "trash/\n")
    assert deleted("sync", "root", "./store").code == 0
    assert (deleted.folder / "root/.craftsync/.gitignore").read_text() == "trash/\n"


def _store_for_trash(craftsync: Craftsync, moto: S3Server, kind: str) -> str:
    if kind == "directory":
        return "./plain"
    bucket = f"trash-{token_hex(6)}"
    moto.make_bucket(bucket)
    craftsync.environment |= moto.variables
    if kind == "versions":
        moto.keep_versions(bucket)
        (craftsync.folder / "empty").mkdir()
        # A run finds out that versions are kept.
        assert craftsync("push", "empty", f"s3://{bucket}").code == 0
    return f"s3://{bucket}"


@pytest.mark.parametrize("kind", ["directory", "s3", "versions"])
def test_removed_objects_come_back_without_a_linked_folder(
    craftsync: Craftsync, moto: S3Server, kind: str
) -> None:
    store = _store_for_trash(craftsync, moto, kind)
    # In a bucket, d/1 is put below, with a type of its own.
    for name in ("d/1", "d/2", "f") if kind == "directory" else ("d/2", "f"):
        craftsync.write(f"filling/{name}", name)
    given = ("--store", store)
    assert craftsync("put", "-r", "filling", f"{store}/", *given).code == 0
    if kind != "directory":
        where = {"Bucket": store.removeprefix("s3://"), "Key": "d/1"}
        with closing(moto.client()) as client:
            client.put_object(**where, Body=b"d/1", ContentType="text/x-mine")
    assert craftsync("rm", "-r", "--yes", f"{store}/d", *given).code == 0
    assert craftsync("rm", f"{store}/f", *given).code == 0
    listed = craftsync("trash", "list", *given, "--json")
    assert sorted(row["path"] for row in listed.json) == ["d/1", "d/2", "f"]
    assert len(craftsync("trash", "list", "d", *given).lines) == 2
    shown = craftsync("trash", "restore", "-n", "d", f"{store}/f", *given)
    assert [line.split(" of ")[0] for line in shown.lines] == [
        *("would restore d/1", "would restore d/2", "would restore f"),
    ]
    craftsync.write("other", "different")
    assert craftsync("put", "other", f"{store}/f", *given).code == 0
    run = craftsync("trash", "restore", "--all", *given)
    assert (run.code, "not restored: f: a different object is there" in run.text) == (6, True)
    assert craftsync("cat", f"{store}/d/2").out == b"d/2"
    if kind != "directory":
        with closing(moto.client()) as client:
            assert client.head_object(**where)["ContentType"] == "text/x-mine"
    assert "already in place: d/1" in craftsync("trash", "restore", "d", *given).text
    assert craftsync("trash", "restore", "f", "--overwrite", *given).code == 0
    assert craftsync("cat", f"{store}/f").out == b"f"
    assert craftsync("trash", "restore", "gone", *given).code == 2


def test_a_path_that_cannot_be_restored_does_not_stop_the_others(craftsync: Craftsync) -> None:
    given = ("--store", "./store")
    for name in ("d/1", "f"):
        craftsync("put", str(craftsync.write(name, name)), f"./store/{name}", *given)
        craftsync("rm", f"./store/{name}", *given)
    (craftsync.folder / "store/d").symlink_to(craftsync.folder / "d")
    run = craftsync("trash", "restore", "--all", *given)
    assert (run.code, craftsync.files("store")["f"]) == (1, "f")
    assert "not restored: d/1: d/1 lies behind the symbolic link d" in run.text


def test_purge_of_a_store_goes_by_name_and_not_by_size(
    craftsync: Craftsync,
) -> None:
    given = ("--store", "./store")
    for content in ("1", "2"):
        craftsync("put", str(craftsync.write("a", content)), "./store/a", *given)
    (record,) = (craftsync.folder / "state/outside").iterdir()
    record.write_text(record.read_text().replace('"a", 1,', '"a", 7,'))
    run = craftsync("trash", "purge", "--older-than", "0", *given)
    assert run.lines == ["1 version removed"]
    assert record.read_text() == ""


def test_purge_of_a_store_removes_only_what_this_client_put_there(craftsync: Craftsync) -> None:
    given = ("--store", "./store")
    others = craftsync.write("store/.craftsync/trash/20250101T000000Z/other")
    for content in ("1", "2"):
        craftsync("put", str(craftsync.write("a", content)), "./store/a", *given)
    craftsync("put", "a", "./store/b", *given)
    craftsync("rm", "./store/b", *given)
    assert craftsync("trash", "purge", *given).lines[0] == "0 versions removed"
    planned = craftsync("trash", "purge", "-n", "--json", "--older-than", "0", *given)
    assert {line["path"] for line in planned.json[:-1]} == {"a", "b"}
    run = craftsync("trash", "purge", "--older-than", "0", *given)
    assert run.lines == [
        "2 versions removed",
        "1 stay: this state folder has no record that craftsync put them there.",
    ]
    assert [entry["path"] for entry in craftsync("trash", "list", "--json", *given).json] == [
        "other"
    ]
    craftsync.write("linked/file")
    assert craftsync("push", "linked", "./store").code == 0
    refused = craftsync("trash", "purge", "--older-than", "0", *given)
    assert (refused.code, "A folder is linked to" in refused.err) == (2, True)
    assert others.exists()
