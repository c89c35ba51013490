"""What a run reports: paths with their reasons, errors as JSON, and nothing that steers a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

import craftsync as api
from craftsync.errors import IncompleteError
from tests.support.cli import Craftsync
from tests.support.terminal import lines_shown, on_a_terminal

CODES = "\x1b]0;title\x07\x1b[2J\x9b31mx\u202e"
STEERING = ("\x1b", "\x07", "\x9b", "\u202e")


def obstructed(folder: Path) -> tuple[Path, Path]:
    """Return a root and a store in which one path cannot be stored: a file is where its folder should be."""
    root, store = folder / "root", folder / "store"
    (root / "folder").mkdir(parents=True)
    store.mkdir()
    (root / "folder" / "the-file").write_text("x")
    (root / "other").write_text("x")
    (store / "folder").write_text("a file")
    return root, store


def test_a_report_names_the_path_that_failed_and_the_reason(tmp_path: Path) -> None:
    root, store = obstructed(tmp_path)
    report = api.push(root, str(store), state_dir=tmp_path / "state")
    (issue,) = report.issues
    assert (issue.path, issue.kind) == ("folder/the-file", "problem")
    assert issue.reason
    assert "folder/the-file" in report._repr_html_()
    with pytest.raises(IncompleteError, match=r"push: 1 failed: folder/the-file \(problem: "):
        report.raise_for_issues()
    compared = api.check(root, str(store), state_dir=tmp_path / "state")
    assert {(path, kind) for path, kind, _ in compared.issues} == {
        ("folder/the-file", "problem"),
        ("folder", "problem"),
    }


def test_a_report_without_issues_raises_nothing(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a").write_text("x")
    report = api.push(tmp_path / "root", str(tmp_path / "store"), state_dir=tmp_path / "state")
    assert report.issues == []
    report.raise_for_issues()


def test_migrate_names_paths_it_could_not_copy(tmp_path: Path) -> None:
    root, store = obstructed(tmp_path)
    report = api.migrate(str(root), str(store), state_dir=tmp_path / "state")
    assert [issue.path for issue in report.issues] == ["folder/the-file"]


def test_at_most_a_thousand_issues_are_kept(tmp_path: Path) -> None:
    root, store = obstructed(tmp_path)
    for number in range(1005):
        (root / "folder" / f"{number}").write_text("x")
    report = api.push(root, str(store), state_dir=tmp_path / "state")
    assert report.problems == 1006
    assert len(report.issues) == 1000


def test_dry_run_is_stated_in_json_and_text(craftsync: Craftsync) -> None:
    craftsync.write("root/a")
    craftsync.write("root/b")
    assert "would upload 2 (14 bytes); " in craftsync("push", "-n", "root", "./store").text
    assert craftsync("push", "-n", "root", "./store", "--json").summary["dry_run"] is True
    assert craftsync("push", "root", "./store", "--json").summary["dry_run"] is False


def test_a_fatal_error_is_a_json_line_before_the_summary(craftsync: Craftsync) -> None:
    run = craftsync("push", "gone", "./store", "--json")
    *_, error, summary = run.json
    assert error["type"] == "error"
    assert "gone" in error["message"]
    assert (error["exit_code"], summary["exit_code"], run.code) == (3, 3, 3)
    assert summary.keys() >= {"dry_run", "uploaded", "problems", "seconds"}


def test_no_control_character_of_a_name_reaches_the_terminal(craftsync: Craftsync) -> None:
    craftsync.write(f"root/{CODES}", "a")
    assert craftsync("sync", "-q", "root", "./store").code == 0
    craftsync.write(f"root/{CODES}", "mine")
    craftsync.write(f"store/{CODES}", "theirs is longer")
    place = ["--root", "root", "--store", "./store"]
    for words in (
        ["sync", "-v", "root", "./store"],
        ["sync", "-v", "root", "./store", "--json"],
        ["check", "root", "./store"],
        ["check", "root", "./store", "--json"],
        ["history", *place],
        ["history", "--json", *place],
        ["conflicts", "list", *place],
        ["trash", "restore", f"nope{CODES}", *place],
        ["why", f"nope{CODES}", *place],
        ["get", "./store", f"nope{CODES}", "-"],
        ["push", f"nope{CODES}", "./store"],
        [f"nope{CODES}"],
        ["push", f"--nope{CODES}"],
    ):
        run = craftsync(*words)
        printed = run.text + run.err
        assert printed, words
        assert not [code for code in STEERING if code in printed], words


def shown_of(craftsync: Craftsync, columns: int, *words: str) -> list[str]:
    """Return the lines a terminal shows after a call."""
    with on_a_terminal(craftsync, columns, *words) as terminal:
        terminal.end()
    return lines_shown(terminal.sent)


@pytest.mark.parametrize("columns", [40, 120])
def test_messages_beside_a_progress_bar_get_lines_of_their_own(
    craftsync: Craftsync, columns: int
) -> None:
    names = [f"a-rather-long-name-of-a-file-{number}" for number in range(3)]
    for name in names:
        craftsync.write(f"root/{name}")
    assert craftsync("push", "-q", "root", "./store").code == 0
    craftsync.write(f"root/{names[1]}", "other content")
    lines = shown_of(craftsync, columns, "check", "root", "./store")
    assert [line for line in lines if "a-rather" in line] == [
        f"* {names[1]}",
    ]
    (craftsync.folder / "root" / "link").symlink_to("nowhere")
    lines = shown_of(craftsync, columns, "push", "-v", "root", "./store")
    assert f"upload {names[1]} (13 bytes, replaces 7 bytes)" in lines
