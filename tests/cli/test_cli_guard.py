"""The guard against mass deletion, through the commands that people type."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cli import Craftsync

FEW = [f"models/{number}" for number in range(12)]


def fill(craftsync: Craftsync, folder: str, names: list[str]) -> None:
    for name in names:
        craftsync.write(f"{folder}/{name}", name)


def test_push_delete_from_an_empty_folder_without_baseline_is_held(
    craftsync: Craftsync,
) -> None:
    fill(craftsync, "store", FEW)
    (craftsync.folder / "data").mkdir()
    run = craftsync("push", "--delete", "data", "./store")
    assert run.code == 7
    assert set(craftsync.files("store")) >= set(FEW)
    assert "12 deletes in the store held: the folder is empty" in run.err
    assert "--force-delete" in run.err


def test_delete_of_a_single_object_by_a_new_folder_is_held(
    craftsync: Craftsync,
) -> None:
    fill(craftsync, "store", FEW[:1])
    (craftsync.folder / "data").mkdir()
    assert craftsync("push", "--delete", "data", "./store").code == 7
    assert set(craftsync.files("store")) >= set(FEW[:1])


def test_guard_treats_a_folder_of_ignored_files_as_empty(craftsync: Craftsync) -> None:
    fill(craftsync, "store", FEW)
    craftsync.write("data/x.tmp")
    run = craftsync("push", "--delete", "--exclude", "*.tmp", "data", "./store")
    assert run.code == 7
    assert set(craftsync.files("store")) >= set(FEW)


def test_guard_treats_a_store_of_ignored_objects_as_empty(craftsync: Craftsync) -> None:
    fill(craftsync, "data", FEW)
    craftsync.write("store/x.tmp")
    run = craftsync("pull", "--delete", "--exclude", "*.tmp", "data", "./store")
    assert run.code == 7
    assert set(craftsync.files("data")) >= set(FEW)


def test_pull_delete_from_an_empty_store_without_baseline_is_held(
    craftsync: Craftsync,
) -> None:
    fill(craftsync, "data", FEW)
    (craftsync.folder / "store").mkdir()
    run = craftsync("pull", "--delete", "data", "./store")
    assert run.code == 7
    assert set(craftsync.files("data")) >= set(FEW)
    assert "12 deletes in the folder held: the store is empty" in run.err


def test_migrate_delete_of_an_empty_source_is_held(craftsync: Craftsync) -> None:
    fill(craftsync, "target", FEW)
    (craftsync.folder / "source").mkdir()
    run = craftsync("migrate", "--delete", "./source", "./target")
    assert run.code == 7
    assert set(craftsync.files("target")) >= set(FEW)
    assert "12 deletes in the target held: the source is empty" in run.err
    assert "deletes list" not in run.err
    assert "12 held" in run.text and "approval" not in run.text
    assert (run.text + run.err).count("--force-delete") == 1
    shown = craftsync("migrate", "--delete", "-n", "./source", "./target")
    assert [line for line in shown.lines if line.startswith("held: ")] == [
        f"held: {path}" for path in sorted(FEW)
    ]
    forced = craftsync("migrate", "--delete", "--force-delete", "-v", "./source", "./target")
    assert sum(line.startswith("delete in the target: ") for line in forced.lines) == len(FEW)


@pytest.mark.parametrize(
    ("command", "source", "target"),
    [("push", "data", "store"), ("pull", "store", "data"), ("migrate", "data", "store")],
)
def test_force_delete_allows_deletes_from_an_empty_side(
    craftsync: Craftsync, command: str, source: str, target: str
) -> None:
    fill(craftsync, target, FEW)
    (craftsync.folder / source).mkdir()
    places = ("./data", "./store") if command == "migrate" else ("data", "./store")
    assert craftsync(command, "--delete", "--force-delete", *places).code == 0
    assert not set(craftsync.files(target)) & set(FEW)


def test_the_only_file_of_a_folder_may_be_deleted(craftsync: Craftsync) -> None:
    craftsync.write("data/only")
    assert craftsync("sync", "data", "./store").code == 0
    (craftsync.folder / "data" / "only").unlink()
    assert craftsync("sync", "data", "./store").code == 0
    assert "only" not in craftsync.files("store")


def test_held_deletes_print_one_line_and_one_json_line_per_path(
    craftsync: Craftsync,
) -> None:
    names = [f"old/{number:02}" for number in range(40)]
    fill(craftsync, "data", names)
    assert craftsync("sync", "data", "./store").code == 0
    for name in names:
        (craftsync.folder / "data" / name).unlink()
    run = craftsync("sync", "data", "./store")
    (line,) = [line for line in run.err.splitlines() if "held" in line]
    assert line == (
        "40 deletes in the store held: the folder is suddenly empty."
        " Review: craftsync deletes list --root data --store ./store"
    )
    lines = craftsync("sync", "--json", "data", "./store").json
    held = [line for line in lines if line["type"] == "held"]
    assert [(row["path"], row["reason"]) for row in held] == [
        (name, "the folder is suddenly empty") for name in names
    ]
    assert (len(lines), lines[-1]["held"]) == (41, 40)


def test_dry_run_does_not_mention_the_deletes_list(craftsync: Craftsync) -> None:
    fill(craftsync, "store", FEW)
    (craftsync.folder / "data").mkdir()
    run = craftsync("push", "-n", "--delete", "data", "./store")
    assert run.code == 7
    assert "deletes list" not in run.err


def test_deletes_are_held_with_a_new_state_folder_too(craftsync: Craftsync, tmp_path: Path) -> None:
    fill(craftsync, "data", FEW)
    assert craftsync("push", "data", "./store").code == 0
    for name in FEW:
        (craftsync.folder / "data" / name).unlink()
    fresh = ("--state-dir", str(tmp_path / "fresh"))
    assert craftsync("push", "--delete", *fresh, "data", "./store").code == 7
    assert set(craftsync.files("store")) >= set(FEW)
