"""The tables of a new state database."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

from craftsync.state.database import Database, _schema_steps


def schema(connection: sqlite3.Connection) -> dict[str, object]:
    """Return all that SQLite knows of tables, indexes and triggers, however their SQL is written."""
    found: dict[str, object] = {}
    rows = connection.execute("SELECT type, name, sql FROM sqlite_schema").fetchall()
    for kind, name, sql in rows:
        if kind == "table":
            pragmas = ("table_list", "table_xinfo", "index_list", "foreign_key_list")
            found[name] = [sorted(connection.execute(f"PRAGMA {it}({name})")) for it in pragmas]
        else:
            words = None if sql is None else " ".join(re.sub("--.*", "", sql).split())
            found[name] = kind, words, connection.execute(f"PRAGMA index_xinfo({name})").fetchall()
    return found


def test_new_database_is_as_all_steps_make_it(tmp_path: Path) -> None:
    steps = _schema_steps()
    with (
        closing(Database.open(tmp_path / "state.db")) as database,
        closing(sqlite3.connect(":memory:")) as upgraded,
    ):
        for number in sorted(steps):
            upgraded.executescript(steps[number])
        assert schema(database.connection) == schema(upgraded)
        assert database.connection.execute("SELECT * FROM kept_total").fetchall() == [(0, 0)]
        assert database.connection.execute("PRAGMA user_version").fetchone() == (max(steps),)
