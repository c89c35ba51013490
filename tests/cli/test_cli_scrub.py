"""`scrub`: content that went bad without a change of size or time is found, and repaired from the good side."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from craftsync.stores.directory import DirectoryStore
from tests.support.cli import Craftsync
from tests.support.fake_s3 import Answer, Drop, error, failing, proxied
from tests.support.s3 import fake_s3

GOOD, BAD = "what was synced", "what was syncEd"


@pytest.fixture
def synced(craftsync: Craftsync) -> Craftsync:
    """Three files in sync with a folder."""
    for name in ("a", "d/b", "d/c"):
        craftsync.write(f"root/{name}", GOOD)
        os.utime(craftsync.folder / "root" / name, (1_700_000_000, 1_700_000_000))
    assert craftsync("sync", "root", "./store").code == 0
    return craftsync


def lose_a_bit(craftsync: Craftsync, side: str, path: str) -> None:
    """Damage a file as a failing disk does: to all looks it is the one that was synced.

    A write moves ctime, which a failing disk does not, so the state is told the new one.
    """
    file = craftsync.folder / side / path
    before = file.stat()
    file.write_text(BAD)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    (state,) = (craftsync.folder / "state/pairs").glob("*/state.db")
    changed: tuple[str, object] = ("ctime_ns", file.stat().st_ctime_ns)
    if side == "store":
        found = DirectoryStore(craftsync.folder / "store").stat(path)
        assert found is not None
        changed = ("version", found.version)
    with closing(sqlite3.connect(state)) as database, database:
        column, value = changed
        database.execute(f"UPDATE baseline SET {column} = ? WHERE path = ?", (value, path))


def contents(craftsync: Craftsync, path: str) -> tuple[str, str]:
    return (
        (craftsync.folder / "root" / path).read_text(),
        (craftsync.folder / "store" / path).read_text(),
    )


def kept(craftsync: Craftsync, side: str) -> list[str]:
    trash = craftsync.folder / side / ".craftsync/trash"
    return [file.read_text() for file in trash.rglob("*") if file.is_file()]


def test_intact_content_ends_with_0(synced: Craftsync) -> None:
    run = synced("scrub", "--root", "root", "--store", "./store", "--json")
    assert (run.code, run.summary["unchanged"], run.summary["problems"]) == (0, 3, 0)


@pytest.mark.parametrize("side", ["root", "store"])
def test_scrub_names_the_damaged_side_and_changes_nothing(synced: Craftsync, side: str) -> None:
    lose_a_bit(synced, side, "d/b")
    before = contents(synced, "d/b")

    assert synced("sync", "root", "./store").code == 0
    run = synced("scrub", "--root", "root", "--store", "./store")
    assert run.code == 1
    named = {"root": "folder", "store": "store"}[side]
    assert f"d/b: damaged in the {named}" in run.err
    assert contents(synced, "d/b") == before


@pytest.mark.parametrize("side", ["root", "store"])
def test_repair_takes_the_good_side_and_keeps_the_bad_content(synced: Craftsync, side: str) -> None:
    lose_a_bit(synced, side, "d/b")

    run = synced("scrub", "d", "--repair", "--root", "root", "--store", "./store", "--json")
    assert (run.code, run.summary["repaired"], run.summary["unchanged"]) == (0, 1, 1)
    assert contents(synced, "d/b") == (GOOD, GOOD)
    assert kept(synced, side) == [BAD]
    again = synced("sync", "root", "./store", "--json")
    assert (again.code, again.summary["unchanged"]) == (0, 3)
    assert synced("scrub", "--root", "root", "--store", "./store").code == 0


@pytest.mark.parametrize("path", ["no-such-file", "../store/a", "d/*", "/"])
def test_a_path_of_which_nothing_was_synced_is_refused(synced: Craftsync, path: str) -> None:
    run = synced("scrub", path, "d", "--root", "root", "--store", "./store")
    assert run.code == 2
    assert path.strip("/") in run.err
    assert "synced" in run.err or "is not in the folder" in run.err


def test_scrub_of_a_dot_means_the_whole_folder(synced: Craftsync) -> None:
    lose_a_bit(synced, "root", "a")

    run = synced("scrub", ".", "--repair", "--root", "root", "--store", "./store", "--json")
    assert (run.summary["repaired"], run.summary["unchanged"]) == (1, 2)


def test_scrub_leaves_damage_on_both_sides_alone(synced: Craftsync) -> None:
    for side in ("root", "store"):
        lose_a_bit(synced, side, "a")

    run = synced("scrub", "--repair", "--root", "root", "--store", "./store")
    assert run.code == 1
    assert "a: damaged on both sides" in run.err
    assert "craftsync trash list" in run.err
    assert contents(synced, "a") == (BAD, BAD)


def test_scrub_does_not_count_edits_as_damage(synced: Craftsync) -> None:
    synced.write("root/a", "an edit")
    (synced.folder / "store/d/c").write_text("another edit, longer")

    run = synced("scrub", "--repair", "--root", "root", "--store", "./store")
    assert (run.code, run.err) == (0, "")
    assert contents(synced, "a") == ("an edit", GOOD)
    assert "2 left out (changed since the last sync, or archived)" in run.text


def test_an_archived_object_is_left_out_and_no_damage(craftsync: Craftsync) -> None:
    with fake_s3("plain", "bucket") as (server, fake):
        craftsync.environment |= server.variables
        for name in ("archived", "plain"):
            craftsync.write(f"root/{name}", GOOD)
        assert craftsync("sync", "root", "s3://bucket").code == 0
        fake.bucket("bucket").archive("archived")

        run = craftsync("scrub", "--root", "root", "--store", "s3://bucket")
    assert (run.code, run.err) == (0, "")
    assert "1 intact" in run.text and "1 left out" in run.text


@pytest.mark.parametrize(
    ("faults", "code", "kept"),
    [
        ([Drop()], 0, [BAD, GOOD]),
        ([Drop(delivered=False), error(403, "AccessDenied")], 1, [BAD, BAD]),
    ],
    ids=["repeated", "failed"],
)
def test_retention_removes_what_lost_answers_to_a_repair_left(
    craftsync: Craftsync, faults: list[Drop | Answer], code: int, kept: list[str]
) -> None:
    left = list(faults)
    with (
        fake_s3("no-metadata", "bucket") as (behind, fake),
        proxied(behind, lambda _: None) as (server, proxy),
    ):
        craftsync.environment |= server.variables
        os.utime(craftsync.write("root/a", GOOD), (1_700_000_000, 1_700_000_000))
        assert craftsync("sync", "root", "s3://bucket").code == 0
        stored = fake.bucket("bucket").versions["a"]
        stored[-1] = replace(stored[-1], content=BAD.encode())
        proxy.script = failing("PUT", "bucket/a", left)
        pair = ("--root", "root", "--store", "s3://bucket")
        assert craftsync("scrub", "--repair", *pair).code == code
        assert not left

        def in_trash() -> list[str]:
            bucket = fake.bucket("bucket")
            return sorted(bucket.get(key).content.decode() for key in bucket if "/trash/" in key)

        assert in_trash() == kept
        (status,) = craftsync("status", "--json", "root", "s3://bucket").json
        size = sum(map(len, kept))
        assert (status["trash"]["files"], status["trash"]["bytes"]) == (len(kept), size)
        craftsync.config.write_text("trash: {max_size: 1}\n")
        craftsync("sync", "root", "s3://bucket")
        assert in_trash() == []
