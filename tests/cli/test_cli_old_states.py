"""State databases that 0.1.0 wrote: a later craftsync goes on with them, and knows what was deleted and held.

`tests/support/states` holds them as SQL: a folder and a store of the thirty
files that `_thirty` makes, in sync; the same after 25 were deleted in the
store, which holds their deletes; and a finished migration.
"""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.cli import Craftsync

STATES = Path(__file__).parents[1] / "support/states"
WRITTEN = datetime(2026, 1, 2, 3, 4, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("side", ["root", "store"])
def test_deletes_since_an_older_version_ran_stay_deleted(craftsync: Craftsync, side: str) -> None:
    _thirty(craftsync, "root", "store")
    _restore(craftsync, "in-sync")
    (craftsync.folder / side / "f07.txt").unlink()

    assert craftsync("sync", "./root", "./store").code == 0
    for each in ("root", "store"):
        names = [path.name for path in (craftsync.folder / each).glob("*.txt")]
        assert sorted(names) == [f"f{n:02}.txt" for n in range(1, 31) if n != 7]


def test_deletes_held_by_an_older_version_can_be_approved(
    craftsync: Craftsync,
) -> None:
    _thirty(craftsync, "root", "store")
    _restore(craftsync, "held")
    for number in range(1, 26):
        (craftsync.folder / f"store/f{number:02}.txt").unlink()

    listed = craftsync("deletes", "list", "--root", "./root", "--store", "./store")
    assert "f25.txt" in listed.text
    assert craftsync("sync", "./root", "./store").code == 7
    assert len(list((craftsync.folder / "root").glob("*.txt"))) == 30
    assert (
        craftsync("deletes", "approve", "--all", "--root", "./root", "--store", "./store").code == 0
    )
    assert len(list((craftsync.folder / "root").glob("*.txt"))) == 5


def test_migration_of_an_older_version_is_resumed(craftsync: Craftsync) -> None:
    _thirty(craftsync, "root", "target")
    _restore(craftsync, "migration")
    craftsync.write("root/new.txt", "new")

    run = craftsync("migrate", "./root", "./target", "--json")
    assert (run.code, run.summary["problems"]) == (0, 0)
    assert (craftsync.folder / "target/new.txt").read_text() == "new"
    assert not list((craftsync.folder / "target").rglob("*conflict*"))


def test_the_database_of_an_older_version_is_kept_beside_the_new_one(craftsync: Craftsync) -> None:
    _thirty(craftsync, "root", "store")
    file = _restore(craftsync, "in-sync")
    before = _baseline(file)

    assert craftsync("sync", "./root", "./store").code == 0
    (kept,) = file.parent.glob("state.db.schema-*")
    assert kept.name == "state.db.schema-4"
    assert _baseline(kept) == before


def _thirty(craftsync: Craftsync, *folders: str) -> None:
    for folder in folders:
        for number in range(1, 31):
            craftsync.write(f"{folder}/f{number:02}.txt", f"content {number:02}\n")
            moment = WRITTEN + number + 10
            os.utime(craftsync.folder / folder / f"f{number:02}.txt", (moment, moment))


def _restore(craftsync: Craftsync, name: str) -> Path:
    """Put the state where 0.1.0 kept it, and the identities it knows into both sides; return the database."""
    sql = (STATES / f"0.1.0-{name}.sql").read_text().replace("@FOLDER@", str(craftsync.folder))
    kind, other = ("migrations", "target") if name == "migration" else ("pairs", "store")
    addresses = f"{craftsync.folder}/root\0{craftsync.folder}/{other}"
    if kind == "migrations":
        addresses += "\0"
    folder = hashlib.sha256(addresses.encode()).hexdigest()[:24]
    file = craftsync.folder / "state" / kind / folder / "state.db"
    file.parent.mkdir(parents=True)
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(sql)
    for mark, side in (("root_id", "root"), ("store_id", "store"), ("target_id", "target")):
        if found := re.search(rf"VALUES\('{mark}','(\w+)'\)", sql):
            word = "root-id" if mark == "root_id" else "store-id"
            craftsync.write(f"{side}/.craftsync/{word}", found[1])
    return file


def _baseline(file: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute("SELECT path, digest FROM baseline ORDER BY path").fetchall()
