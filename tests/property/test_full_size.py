"""Unit tests that try something a few hundred times, at the numbers of docs/reliability.md."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import string
import threading
import time
from contextlib import closing, suppress
from hashlib import blake2b
from pathlib import Path

import pytest

from craftsync.engine.content import RootSource
from craftsync.errors import CraftsyncError, PathBusy, PathError
from craftsync.local import exclusive_rename
from craftsync.local.folder import Folder
from craftsync.net.pace import UNPACED, Hashing
from craftsync.stores.directory import DirectoryStore
from tests.support.cli import Craftsync
from tests.support.memory_store import MemoryStore
from tests.support.s3 import fake_s3
from tests.support.world import World
from tests.unit.test_folder_races import race, repeated_in_a_thread

pytestmark = pytest.mark.campaign

KIB = 1 << 10


@pytest.fixture
def craftsync(tmp_path: Path) -> Craftsync:
    return Craftsync(tmp_path)


class Writer:
    """A program that overwrites pieces of a file in place, and records the content after each write."""

    def __init__(self, file: Path, size: int, chance: random.Random) -> None:
        self._chance, self._pause = chance, threading.Event()
        self._content = bytearray(b"a" * size)
        file.write_bytes(self._content)
        self._descriptor = os.open(file, os.O_WRONLY)
        self.contents = {blake2b(self._content).digest()}
        self.writes = 0

    def write(self) -> None:
        size = len(self._content)
        piece = bytes([self._chance.randrange(97, 123)]) * self._chance.randrange(1, size)
        offset = self._chance.randrange(size - len(piece))
        self._content[offset : offset + len(piece)] = piece
        self.contents.add(blake2b(self._content).digest())
        os.pwrite(self._descriptor, piece, offset)
        self.writes += 1
        if self._chance.random() < 0.5:
            self._pause.wait(self._chance.uniform(0, 0.002))

    def close(self) -> None:
        os.close(self._descriptor)


def test_of_ten_thousand_uploads_of_changing_files_none_is_torn(tmp_path: Path) -> None:
    """Each stored object is what the file held after one of the program's writes."""
    store = MemoryStore()
    stored = refused = 0
    writer = Writer(tmp_path / "a", 256 * KIB, random.Random(9))
    with closing(writer), Folder.open(tmp_path) as folder, repeated_in_a_thread(writer.write):
        while stored + refused < 10_000:
            try:
                with folder.open_file("a") as opened:
                    in_writing = opened.may_still_be_written(time.time_ns())
                    source = RootSource(opened, UNPACED, Hashing(), in_writing=in_writing)
                    store.write("a", source, expect=store.stat("a"), operation=str(stored))
            except PathBusy:
                refused += 1
                continue
            stored += 1
            with store.read("a") as reader:
                content = b"".join(reader)
            assert blake2b(content).digest() in writer.contents, "torn"
    print(f"{stored} stored, {refused} refused, {writer.writes} writes")  # noqa: T201


@pytest.mark.parametrize("replacing", [True, False], ids=["replacing", "deleting"])
def test_in_fifty_thousand_races_no_version_of_an_editor_is_lost(
    tmp_path: Path, replacing: bool
) -> None:
    met = saves = 0
    while met < 50_000:
        root = tmp_path / "root"
        root.mkdir()
        # For each further version of a path in a run, the trash tries one name after another.
        round_met, round_saves = race(root, 50 if replacing else 500, replacing=replacing)
        met, saves = met + round_met, saves + round_saves
        shutil.rmtree(root)
    print(f"{met} races with {saves} saves")  # noqa: T201


def test_a_hundred_thousand_swaps_of_a_folder_and_a_link_lead_nowhere(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    for folder_made in (root, outside, root / "d"):
        folder_made.mkdir()
    (outside / "a").write_text("secret")
    (root / "d/other").write_text("so that the folder is not removed as empty")
    (root / "link").symlink_to(outside)
    descriptor = os.open(root, os.O_RDONLY)
    swaps = tries = 0

    def swap() -> None:
        nonlocal swaps
        exclusive_rename.exchange(descriptor, "d", descriptor, "link")
        swaps += 1

    with Folder.open(root) as folder, repeated_in_a_thread(swap):
        while swaps < 100_000 or tries < 20_000:
            tries += 1
            with suppress(PathError), folder.open_file("d/a") as opened:
                assert opened.read_at(0, opened.file.size) != b"secret"
            with suppress(PathError), folder.temporary() as temporary:
                temporary.write_at(0, b"inside")
                file = folder.place(temporary, "d/a", expect=None, mtime_ns=None, trash_stamp=None)
                folder.displace("d/a", file, None)
    os.close(descriptor)
    assert {path.name: path.read_text() for path in outside.iterdir()} == {"a": "secret"}
    print(f"{swaps} swaps, {tries} tries")  # noqa: T201


def test_a_thousand_damaged_databases_delete_and_lose_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, MemoryStore())
    for number in range(30):
        world.write(f"d{number % 3}/{number}", f"content {number}")
    world.run()
    before = world.here()
    (state,) = world.state_dir.rglob("state.db")
    with closing(sqlite3.connect(state)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = state.read_bytes()
    refused = 0
    for seed in range(1000):
        for left in state.parent.glob("state.db*"):
            left.unlink()
        state.write_bytes(_damaged(whole, random.Random(seed)))
        for _ in range(4):
            try:
                report = world.run()
            except CraftsyncError:
                refused += 1
                continue
            assert report.deleted_local + report.deleted_remote == 0, seed
            if report.exit_code == 0:
                break
        else:
            # The damage hit an identity, which the user must confirm.
            state.unlink()
            world.run()
        assert world.here() == before == world.there(), seed
    print(f"1000 damaged databases; {refused} runs refused to work with one")  # noqa: T201


def _damaged(content: bytes, chance: random.Random) -> bytes:
    """Return a database with flipped bits, a zeroed page, or truncated."""
    bad = bytearray(content)
    match chance.randrange(4):
        case 0:
            return bytes(bad[: chance.randrange(len(bad))])
        case 1:
            at = chance.randrange(len(bad) // 512) * 512
            bad[at : at + 512] = bytes(512)
        case _:
            for _ in range(chance.choice((1, 4, 32, 256))):
                bad[chance.randrange(len(bad))] ^= 1 << chance.randrange(8)
    return bytes(bad)


def test_a_thousand_flipped_bits_are_all_found_by_one_scrub(craftsync: Craftsync) -> None:
    names = [f"{number:04}" for number in range(2000)]
    for name in names:
        craftsync.write(f"root/{name}", f"content of {name}")
    assert craftsync("sync", "root", "./store").code == 0
    (state,) = (craftsync.folder / "state/pairs").glob("*/state.db")
    store = DirectoryStore(craftsync.folder / "store")
    chance = random.Random(23)
    hit = {name: chance.choice(("root", "store")) for name in chance.sample(names, 1000)}
    with closing(sqlite3.connect(state)) as database, database:
        for name, side in hit.items():
            _flip(craftsync.folder / side / name, chance)
            # A failing disk changes no ctime, so the state database gets the new one.
            if side == "root":
                told = ("ctime_ns", (craftsync.folder / "root" / name).stat().st_ctime_ns)
            else:
                found = store.stat(name)
                assert found is not None
                told = ("version", found.version)  # type: ignore[assignment]
            database.execute(f"UPDATE baseline SET {told[0]} = ? WHERE path = ?", (told[1], name))
    found_bad = {
        event["path"]: event["reason"]
        for event in craftsync("scrub", "--root", "root", "--store", "./store", "--json").json
        if event["type"] == "problem"
    }
    assert found_bad.keys() == hit.keys()
    sides = {name: "store" if "store" in reason else "root" for name, reason in found_bad.items()}
    assert sides == hit


def _flip(file: Path, chance: random.Random) -> None:
    before, content = file.stat(), bytearray(file.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("seed", range(10))
def test_a_thousand_hostile_keys_are_fetched_or_reported_and_write_nothing_outside(
    craftsync: Craftsync, seed: int
) -> None:
    chance = random.Random(seed)
    keys = {_hostile(chance) for _ in range(1_100)}
    own = {key for key in keys if ".craftsync" in key.split("/")}
    craftsync.write("outside/root/own file")
    outside = craftsync.write("outside/file", "untouched")
    with fake_s3("plain", "bucket") as (server, fake):
        bucket = fake.bucket("bucket")
        for key in keys:
            bucket.put(fake.personality, key, bucket.described(fake.personality, key.encode()))
        craftsync.environment |= server.variables
        run = craftsync("sync", "--json", "outside/root", "s3://bucket")
        assert "Traceback" not in run.err
        told = {event["path"] for event in run.json if event["type"] in ("problem", "skipped")}
        files = craftsync.files("outside/root")
        again = craftsync("sync", "--json", "outside/root", "s3://bucket")
        assert [event for event in again.json if event["type"] == "action"] == []
        held = {key for key, kept in bucket.versions.items() if not kept[-1].deleted}
    assert keys <= held
    assert {key for key in keys - own if files.get(key) != key} <= told
    assert not own & files.keys()
    assert sorted(path.name for path in outside.parent.iterdir()) == ["file", "root"]
    print(f"{len(keys)} keys: {len(files)} fetched, {len(told)} reported")  # noqa: T201


def _hostile(chance: random.Random) -> str:
    """Return a key of up to six parts; some contain .., are too long, or have unusual characters."""
    odd = ("..", ".", "", "/", "...", "~", "-rf", "CON", "a:b", "a\\b", "\x7f", "\n", "%2e%2e")
    own = (".craftsync", ".craftsync/trash", ".craftsync/root-id", ".CRAFTSYNC")
    letters = string.ascii_letters + "éß漢\u0301\u202e\U0001f600 '\"$`\t"

    def part() -> str:
        match chance.randrange(8):
            case 0 | 1:
                return chance.choice(odd)
            case 2:
                return chance.choice(own)
            case 3:
                return chance.choice(letters) * chance.choice((64, 128, 255, 256))
            case _:
                return "".join(chance.choices(letters, k=chance.randrange(1, 12)))

    key = "/".join(part() for _ in range(chance.randrange(1, 7)))
    return key.encode()[:1024].decode(errors="ignore") or "x"
