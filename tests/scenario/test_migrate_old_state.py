"""A migration that an earlier version began, and was killed in, is continued by this one."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from importlib.resources import files
from pathlib import Path

from craftsync.core.guard import DeleteLimit
from craftsync.core.model import BaselineRow
from craftsync.state.migration import MigrationState
from craftsync.stores.base import Store
from tests.support.memory_store import MemoryStore
from tests.support.moving import Moving, held

LAST_OLD_SCHEMA = 16
"""The last one in which a migration had tables of its own."""


def test_a_migration_of_an_older_version_is_continued_after_a_kill(tmp_path: Path) -> None:
    moving = begun(tmp_path)
    moving.put(moving.source, "c", "not copied yet")
    as_an_older_version_left_it(moving, "INSERT INTO copy_step VALUES " + upload("c", 14))
    report = moving.run()
    assert (report.copied, report.unchanged, report.adopted, report.exit_code) == (1, 2, 0, 0)
    assert held(moving.target) == held(moving.source)
    assert report.manifest is not None
    assert len(Path(report.manifest).read_text().splitlines()) == 3


def test_deletes_an_older_version_was_killed_in_count_with_the_next(tmp_path: Path) -> None:
    moving = begun(tmp_path)
    moving.put(moving.target, "extra", "only there")
    as_an_older_version_left_it(
        moving,
        "INSERT INTO copy_step VALUES (2,'delete-remote','gone','',NULL,NULL,NULL,4,1,'v',0)",
        "INSERT INTO meta VALUES ('trash_stamp', '20260101T000000Z')",
    )
    report = moving.run(delete=True, delete_limit=DeleteLimit(files=1, share=0.0))
    assert (report.held, report.deleted_remote) == (1, 0)
    assert "extra" in held(moving.target)


def test_database_of_an_older_migration_is_kept_beside_the_new_one(tmp_path: Path) -> None:
    moving = begun(tmp_path)
    as_an_older_version_left_it(moving)
    moving.run()
    kept = tmp_path / "state" / f"state.db.schema-{LAST_OLD_SCHEMA}"
    with closing(sqlite3.connect(kept)) as old:
        assert old.execute("SELECT count(*) FROM copied").fetchone() == (2,)


def begun(folder: Path) -> Moving:
    """Return a migration that has copied two objects."""
    source: Store = MemoryStore("source")
    moving = Moving(folder, source, MemoryStore("target"))
    for path in ("a", "b"):
        moving.put(source, path, path)
    assert moving.run().copied == 2
    return moving


def as_an_older_version_left_it(moving: Moving, *statements: str) -> None:
    """Replace the state by what an older version would have there, and what it left when it was killed."""
    folder = moving.folder / "state"
    state = MigrationState.open(folder)
    rows, meta = (
        list(state.baseline.rows()),
        state.database.connection.execute("SELECT * FROM meta"),
    )
    facts = meta.fetchall()
    state.close()
    for file in folder.glob("state.db*"):
        file.unlink()
    with closing(sqlite3.connect(folder / "state.db")) as old:
        for script in sorted((files("craftsync.state") / "schema").iterdir(), key=str):
            if script.name.endswith(".sql") and int(script.name[:3]) <= LAST_OLD_SCHEMA:
                old.executescript(script.read_text())
        old.executemany("INSERT INTO copied VALUES (?,?,?,?,?,?,?,?)", map(copied, rows))
        old.executemany("INSERT OR REPLACE INTO meta VALUES (?,?)", facts)
        for statement in statements:
            old.execute(statement)
        old.execute(f"PRAGMA user_version = {LAST_OLD_SCHEMA}")
        old.commit()


def copied(row: BaselineRow) -> tuple[object, ...]:
    """Return a row as the table of an older version had it."""
    there = (row.modified_ns, row.version)
    return (row.path, row.size, row.mtime_ns, row.inode, *there, row.digest, row.verified)


def upload(path: str, size: int) -> str:
    return f"(1,'upload','{path}','',{size},1,'v',NULL,NULL,NULL,0)"
