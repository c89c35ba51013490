"""`-n`: what would be done, in words and in JSON, with what is replaced told from what is new."""

from __future__ import annotations

import json

import pytest

from tests.support.cli import Craftsync


@pytest.fixture
def sides(craftsync: Craftsync) -> Craftsync:
    """A folder and a store that differ in one file; each has one that the other has not."""
    craftsync.write("root/same", "longer than that")
    craftsync.write("root/mine", "m")
    craftsync.write("store/same", "short")
    craftsync.write("store/theirs", "t")
    return craftsync


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (
            ("push", "root", "./store"),
            ["upload mine (1 byte)", "upload same (16 bytes, replaces 5 bytes)"],
        ),
        (
            ("pull", "root", "./store"),
            ["download same (5 bytes, replaces 16 bytes)", "download theirs (1 byte)"],
        ),
        (
            ("migrate", "./root", "./store"),
            ["copy mine (1 byte)", "copy same (16 bytes, replaces 5 bytes)"],
        ),
        (
            ("put", "root/mine", "root/same", "./store/", "--store", "./store"),
            [
                "upload root/mine → ./store/mine (1 byte)",
                "upload root/same → ./store/same (16 bytes, replaces 5 bytes)",
            ],
        ),
        (
            ("get", "./store/same", "./store/theirs", "root"),
            [
                "download ./store/same → root/same (5 bytes, replaces 16 bytes)",
                "download ./store/theirs → root/theirs (1 byte)",
            ],
        ),
        (
            ("cp", "-r", "file://{}/root/", "./store", "--store", "./store", "--store", "./root"),
            [
                "copy {}/root/mine → ./store/mine (1 byte)",
                "copy {}/root/same → ./store/same (16 bytes, replaces 5 bytes)",
            ],
        ),
        (
            ("mv", "./store/theirs", "./store/same", "--store", "./store"),
            ["move ./store/theirs → ./store/same (1 byte, replaces 5 bytes)"],
        ),
    ],
    ids=lambda given: given[0] if isinstance(given, tuple) else "",
)
def test_dry_run_says_what_is_replaced(
    sides: Craftsync, words: tuple[str, ...], lines: list[str]
) -> None:
    here = str(sides.folder)
    words = tuple(word.replace("{}", here) for word in words)
    run = sides(*words, "-n")
    assert run.code == 0, run.err
    shown = [line for line in run.lines if line.split()[0] in {words[0], *VERBS}]
    assert shown[: len(lines)] == [line.replace("{}", here) for line in lines]
    assert "1 of them replacing another version" in run.text
    as_json = sides(*words, "-n", "--json")
    replaced = [line.get("replaces") for line in as_json.json if line["type"] == "action"]
    assert [size for size in replaced if size is not None] == [5 if "5 bytes)" in lines[-1] else 16]
    assert as_json.summary["replaced"] == 1


VERBS = {"upload", "download", "copy", "move"}


def test_plan_shown_in_words_says_what_is_replaced(sides: Craftsync) -> None:
    assert sides("plan", "--mode", "push", "root", "./store", "-o", "the.plan").code == 0
    run = sides("apply", "-n", "the.plan")
    assert any(line.startswith("upload same (16 bytes, replaces 5 bytes): ") for line in run.lines)
    assert "replaces" not in next(line for line in run.lines if line.startswith("upload mine"))


def test_run_counts_in_json_what_it_replaced(sides: Craftsync) -> None:
    run = sides("push", "root", "./store", "--json")
    assert run.summary["replaced"] == 1
    assert json.loads(run.lines[-1])["uploaded"] == 2


@pytest.mark.parametrize("command", ["put", "cp"])
def test_dry_run_with_standard_streams_writes_nothing(sides: Craftsync, command: str) -> None:
    put = sides(command, "-n", "-", "./store/new", "--store", "./store", stdin=b"piped\n")
    assert (put.code, put.lines[0]) == (0, "upload - → ./store/new (6 bytes)")
    assert not (sides.folder / "store/new").exists()
    get = sides(
        "get" if command == "put" else "cp", "-n", "./store/same", "-", "--store", "./store"
    )
    assert (get.code, get.lines[0]) == (0, "download ./store/same → - (5 bytes)")
