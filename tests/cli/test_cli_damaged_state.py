"""Bits that flipped in the state database or an identity file: never a traceback, never a loss."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.cli import Craftsync, Run

HELD = "path, kind, mode, reason, since_ns, limit_files, limit_share"
FILES = {f"some-file-name-{number}": f"content {number}" for number in range(4)}


@pytest.fixture
def synced(craftsync: Craftsync) -> Craftsync:
    for name, content in FILES.items():
        craftsync.write(f"root/{name}", content)
    assert craftsync("sync", "root", "./store").code == 0
    return craftsync


def state_of(craftsync: Craftsync) -> Path:
    (found,) = (craftsync.folder / "state").rglob("state.db")
    return found


def flip(file: Path, text: bytes, offset: int, bit: int) -> None:
    """Flip one bit of every place where a text stands in a file."""
    content, at = bytearray(file.read_bytes()), -1
    while (at := content.find(text, at + 1)) >= 0:
        content[at + offset] ^= bit
    file.write_bytes(content)


def kept(craftsync: Craftsync) -> None:
    """Both sides still hold every content."""
    for side in ("root", "store"):
        assert set(FILES.values()) <= set(craftsync.files(side).values()), side


def healed(craftsync: Craftsync) -> Run:
    """Run three times: one finds the damage, one begins anew and reports it, the last is in sync."""
    first, second, third = (craftsync("sync", "root", "./store") for _ in range(3))
    assert "Traceback" not in first.err + second.err
    assert third.code == 0, third.err
    return first


def test_non_utf8_path_in_the_state_is_damage_and_heals(
    synced: Craftsync,
) -> None:
    flip(state_of(synced), b"some-file-name-3", 2, 0x80)  # Still the last one.
    first = healed(synced)
    assert first.code == 7
    assert "is damaged" in first.err
    kept(synced)
    assert list(state_of(synced).parent.glob("state.db.damaged-*"))


@pytest.mark.parametrize("command", ["status", "history", "why", "plan"])
def test_a_command_that_only_reads_names_the_damage(synced: Craftsync, command: str) -> None:
    flip(state_of(synced), b"some-file-name-1", 2, 0x80)
    words = {
        "status": ("status", "root", "./store"),
        "history": ("history", "--root", "root", "--store", "./store"),
        "why": ("why", "--root", "root", "--store", "./store", "some-file-name-1"),
        "plan": ("plan", "root", "./store"),
    }
    run = synced(*words[command])
    assert "Traceback" not in run.err
    kept(synced)


def change(craftsync: Craftsync, statement: str) -> None:
    with closing(sqlite3.connect(state_of(craftsync))) as database, database:
        database.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        f"INSERT INTO held ({HELD}) VALUES ('x', 'delete-lokal', 'two-way', 'r', 0, 1, 1)",
        f"INSERT INTO held ({HELD}) VALUES ('x', 'delete-local', 'tvo-way', 'r', 0, 1, 1)",
        "INSERT INTO plan (stage, kind, path, rule) VALUES (1, 'uploae', 'x', 'r')",
        "UPDATE meta SET value = '17:' WHERE key = 'last_success_ns'",
        "UPDATE meta SET value = '17:' WHERE key = 'facts_at_ns'",
        "UPDATE meta SET value = 'x' WHERE key = 'last_problems'",
    ],
)
def test_invalid_value_in_the_state_is_damage(synced: Craftsync, statement: str) -> None:
    change(synced, statement)
    healed(synced)
    run = synced("status", "root", "./store")
    assert "Traceback" not in run.err
    kept(synced)


def test_random_flipped_bits_lose_nothing(synced: Craftsync) -> None:
    rng = random.Random(7)
    file = state_of(synced)
    for _ in range(12):
        content = bytearray(file.read_bytes())
        for _ in range(rng.choice((1, 4, 32))):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        file.write_bytes(content)
        for suffix in ("-wal", "-shm"):
            file.with_name(file.name + suffix).unlink(missing_ok=True)
        run = synced("sync", "root", "./store")
        assert "Traceback" not in run.err, run.err
        kept(synced)
        if run.code == 3:  # The damage hit an identity, which a person has to confirm.
            file.unlink()


def test_an_identity_file_that_is_not_utf8_is_another_identity(synced: Craftsync) -> None:
    (synced.folder / "root/.craftsync/root-id").write_bytes(b"\xff\xfe not text")
    run = synced("sync", "root", "./store")
    assert run.code == 3
    assert "Traceback" not in run.err
    assert "root-id" in run.err
    kept(synced)


def test_synced_paths_out_of_order_are_damage_and_heal(synced: Craftsync) -> None:
    with closing(sqlite3.connect(state_of(synced))) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        query = "SELECT (rootpage - 1) * page_size FROM sqlite_schema, pragma_page_size"
        (start,) = database.execute(f"{query} WHERE name = 'baseline'").fetchone()
    content = bytearray(state_of(synced).read_bytes())
    first, second = (slice(start + at, start + at + 2) for at in (8, 10))  # Where two rows are.
    content[first], content[second] = content[second], content[first]
    state_of(synced).write_bytes(content)
    run = healed(synced)
    assert (run.code, "was damaged" in run.err) == (7, True)
    kept(synced)
