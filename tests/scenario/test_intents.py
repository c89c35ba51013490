"""Writes that began and were not recorded: known by operation id or content, never by size and time."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from craftsync import clock
from craftsync.core.model import RemoteObject
from craftsync.engine import planfile
from craftsync.engine.report import Options
from craftsync.errors import Interrupted
from craftsync.stores.base import Store
from craftsync.stores.directory import DirectoryStore
from tests.support.memory_store import MemoryStore
from tests.support.serial_pool import SerialPool
from tests.support.world import World

AT = 1_000_000_000 * 10**9
CRASHES = 12
"""Four times the intents that may be left of a path."""


class Crash(BaseException):
    """Stands for the end of the process: nothing handles it on the way."""


class Crashing:
    """A store in which the process ends at a write, before it or once it is there."""

    def __init__(self, inner: Store) -> None:
        self._inner = inner
        self.end: type[BaseException] | None = None
        self.after = False
        self.end_copies = False
        self.hidden: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def write(self, path: str, *words: Any, **options: Any) -> RemoteObject:
        armed = self.end is not None and not path.startswith(".craftsync/")
        if armed and not self.after:
            assert self.end is not None
            raise self.end
        written = self._inner.write(path, *words, **options)
        if armed:
            assert self.end is not None
            raise self.end
        return written

    def copy(self, *words: Any, **options: Any) -> RemoteObject:
        copied = self._inner.copy(*words, **options)
        if self.end_copies:
            raise Crash
        return copied

    def move(self, *words: Any, **options: Any) -> RemoteObject:
        moved = self._inner.move(*words, **options)
        if self.end_copies:
            raise Crash
        return moved

    def list(self, prefix: str = "", **options: Any) -> Iterator[Any]:
        """List as a server whose listing ends too early without saying so."""
        for entry in self._inner.list(prefix, **options):
            if entry.path not in self.hidden:
                yield entry


def directory(folder: Path) -> Store:
    return DirectoryStore.create(folder / "store")


def memory(folder: Path) -> Store:
    return MemoryStore("store")


@pytest.fixture(params=[directory, memory])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return World(tmp_path, Crashing(request.param(tmp_path)), make_pool=lambda _: SerialPool())  # type: ignore[arg-type]


@pytest.fixture
def files(tmp_path: Path) -> World:
    """A world whose store is a folder, so that a colleague can give a file any time."""
    store = Crashing(directory(tmp_path))
    return World(tmp_path, store, make_pool=lambda _: SerialPool())  # type: ignore[arg-type]


def crashed(world: World, end: type[BaseException] = Crash, *, after: bool) -> None:
    """Run, and end at the first write."""
    store: Any = world.store
    store.end, store.after = end, after
    with pytest.raises(end):
        world.run()
    store.end = None


def lose_after_an_unrecorded_write(world: World) -> None:
    """Upload `p` in a run that crashes before it records that, and lose the file. `o` is in sync."""
    world.write("o", "other")
    world.run()
    world.write("p", "first")
    crashed(world, after=True)
    world.remove("p")


def dated(file: Path) -> None:
    os.utime(file, ns=(AT, AT))


def stored(world: World, path: str, content: str) -> None:
    """Store a file as a colleague does: with the usual time."""
    file = world.root.parent / "store" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    dated(file)


def contents(world: World) -> set[str]:
    return {*world.here().values(), *world.there().values(), *world.kept()}


def test_an_interrupted_first_sync_leaves_no_different_file_unnoticed(files: World) -> None:
    for path in ("a", "p"):
        dated(files.write(path, "AAAA"))
    stored(files, "p", "BBBB")
    crashed(files, Interrupted, after=False)
    assert files.run().exit_code == 4
    assert {"AAAA", "BBBB"} <= set(files.here().values())
    assert files.here() == files.there()


@pytest.mark.parametrize("mode", ["two-way", "push"])
def test_failed_upload_does_not_claim_an_object_of_equal_size_and_time(
    files: World, mode: str
) -> None:
    dated(files.write("d/p", "AAAA"))
    files.write("o", "other")
    stored(files, "d", "x")
    assert files.run(mode).exit_code != 0
    (files.root.parent / "store/d").unlink()
    stored(files, "d/p", "BBBB")
    report = files.run(mode)
    if mode == "push":
        assert report.exit_code == 0
        assert files.there()["d/p"] == "AAAA"
    else:
        assert report.exit_code == 4
    assert contents(files) >= {"AAAA", "BBBB"}


def test_another_clients_object_replacing_a_lost_upload_is_downloaded(
    files: World,
) -> None:
    files.write("o", "other")
    assert files.run().exit_code == 0
    dated(files.write("p", "AAAA"))
    crashed(files, after=False)
    files.remove("p")
    stored(files, "p", "BBBB")
    assert files.run().exit_code == 0
    assert files.here() == files.there() == {"o": "other", "p": "BBBB"}


def test_a_file_put_back_in_the_store_is_not_deleted_again(files: World) -> None:
    dated(files.write("p", "precious"))
    files.write("o", "other")
    files.run()
    (files.root / "p").chmod(0o600)
    files.take("p")
    assert files.run().exit_code == 0
    assert "p" not in files.here()
    stored(files, "p", "precious")
    assert files.run().exit_code == 0
    assert files.here()["p"] == files.there()["p"] == "precious"


def test_a_file_put_back_after_an_unrecorded_upload_was_deleted_comes_down(files: World) -> None:
    dated(files.write("p", "AAAA"))
    crashed(files, after=True)
    files.remove("p")
    files.take("p")
    files.run()
    stored(files, "p", "AAAA")
    assert files.run().exit_code == 0
    assert files.here() == files.there() == {"p": "AAAA"}


def test_a_write_that_was_not_recorded_is_recognised_after_an_edit(world: World) -> None:
    world.write("p", "first")
    crashed(world, after=True)
    world.write("p", "edited")
    report = world.run()
    assert (report.exit_code, report.conflicts) == (0, 0)
    assert world.here() == world.there() == {"p": "edited"}


def test_unrecorded_write_deleted_locally_is_deleted_in_the_store(
    world: World,
) -> None:
    lose_after_an_unrecorded_write(world)
    assert world.run().exit_code == 0
    assert world.here() == world.there() == {"o": "other"}


def test_file_of_an_unrecorded_write_that_a_restart_took_comes_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk may never have had it: its loss is not a deletion."""
    lose_after_an_unrecorded_write(world)
    monkeypatch.setattr(clock, "boot_id", lambda: "after the restart")
    assert world.run().exit_code == 0
    assert world.here() == world.there() == {"o": "other", "p": "first"}


@pytest.mark.parametrize("after", [True, False])
def test_one_writer_gets_no_conflict_copy_however_often_it_crashes(
    world: World, after: bool
) -> None:
    for number in range(CRASHES):
        world.write("p", f"version {number}")
        crashed(world, after=after)
    assert world.run().exit_code == 0
    assert world.here() == world.there() == {"p": f"version {CRASHES - 1}"}


def test_crashes_before_and_after_the_write_in_turn_make_no_conflict_copy(world: World) -> None:
    for number in range(CRASHES):
        world.write("p", f"version {number}")
        crashed(world, after=number % 3 == 0)
    assert world.run().exit_code == 0
    assert world.here() == world.there() == {"p": f"version {CRASHES - 1}"}


def test_a_rename_that_was_not_recorded_is_recognised_after_an_edit(world: World) -> None:
    world.write("a", "first")
    world.run()
    (world.root / "a").rename(world.root / "z")
    store: Any = world.store
    store.end_copies = True
    with pytest.raises(Crash):
        world.run()
    store.end_copies = False
    world.write("z", "edited")
    report = world.run()
    assert (report.exit_code, report.conflicts) == (0, 0)
    assert world.here() == world.there() == {"z": "edited"}


@pytest.mark.parametrize("left_out", [{"exclude": ("p",)}, {"include": ("*.csv",)}])
def test_intents_of_excluded_paths_are_kept(
    world: World, left_out: dict[str, tuple[str, ...]]
) -> None:
    world.write("p", "first")
    crashed(world, after=True)
    world.write("p", "edited")
    world.run(**left_out)
    report = world.run()
    assert (report.exit_code, report.conflicts) == (0, 0)
    assert world.here() == world.there() == {"p": "edited"}


@pytest.mark.parametrize("mode", ["push", "pull"])
def test_run_of_another_mode_keeps_unrelated_intents(world: World, mode: str) -> None:
    world.write("p", "first")
    crashed(world, after=True)
    world.remove("p")
    if mode == "pull":
        world.write("p", "edited")
    world.run(mode)
    report = world.run()
    assert (report.exit_code, report.conflicts) == (0, 0)
    assert world.here() == world.there()


def test_applying_an_older_plan_keeps_intents(world: World) -> None:
    world.write("p", "first")
    with world.open(read_only=True) as session:
        planned = io.StringIO()
        session.write_plan(Options(), planned)
    crashed(world, after=True)
    world.write("p", "edited")
    with world.open() as session:
        plan = planfile.read(planned.getvalue().splitlines(keepends=True))
        session.apply_plan(plan.actions, Options(policy=plan.policy))
    report = world.run()
    assert (report.exit_code, report.conflicts) == (0, 0)
    assert world.here() == world.there() == {"p": "edited"}


def test_repeated_crashes_leave_few_intents_for_a_path(world: World) -> None:
    for number in range(CRASHES):
        world.write("p", f"version {number}")
        crashed(world, after=number % 2 == 0)
    with world.open() as session:
        found = session.state.database.connection.execute("SELECT count(*) FROM intent")
        assert found.fetchone()[0] <= 3


def test_intent_ends_when_its_path_is_recorded_as_in_sync(world: World) -> None:
    world.write("p", "first")
    crashed(world, after=True)
    world.run()
    with world.open() as session:
        found = session.state.database.connection.execute("SELECT count(*) FROM intent")
        assert found.fetchone()[0] == 0


def test_a_conflict_copy_takes_no_name_that_the_store_has_already(files: World) -> None:
    files.write("p", "agreed")
    files.run()
    files.write("p", "mine")
    stored(files, "p", "theirs")
    stored(files, "p (conflict 2001-09-09 01-46-40 store)", "of another machine")
    assert files.run().exit_code == 4
    assert files.here() == files.there()
    assert set(files.here().values()) == {"mine", "theirs", "of another machine"}


def test_a_conflict_copy_takes_no_name_that_only_the_folder_has_already(files: World) -> None:
    files.write("p", "agreed")
    files.run()
    files.write("p", "mine")
    stored(files, "p", "theirs")
    files.write("p (conflict 2001-09-09 01-46-40 store)", "of a person")
    files.run()
    files.run()
    assert files.here() == files.there()
    assert sorted(files.here().values()) == ["mine", "of a person", "theirs"]


def test_existing_conflict_copy_is_not_stored_twice(files: World) -> None:
    files.write("p", "agreed")
    files.run()
    files.write("p", "mine")
    stored(files, "p", "theirs")
    stored(files, "p (conflict 2001-09-09 01-46-40 store)", "theirs")
    files.run()
    assert files.here() == files.there()
    assert sorted(files.here().values()) == ["mine", "theirs"]


def test_unlisted_path_that_still_exists_is_not_forgotten(world: World) -> None:
    for path in ("p", "q"):
        world.write(path, path)
    world.run()
    world.remove("p")
    store: Any = world.store
    store.hidden = {"p"}
    assert world.run().exit_code == 0
    store.hidden = set()
    assert world.there() == world.here() == {"q": "q"}


def test_renamed_folder_is_a_rename_in_other_clients(
    tmp_path: Path,
) -> None:
    one, two = (World(tmp_path / name, directory(tmp_path)) for name in made(tmp_path, "12"))
    for number in range(40):
        one.write(f"old/{number}", f"content {number}")
    one.run()
    two.run()
    inodes = {path.name: path.stat().st_ino for path in (two.root / "old").iterdir()}
    (one.root / "old").rename(one.root / "new")
    assert one.run().exit_code == 0
    report = two.run()
    assert (report.exit_code, report.held, report.moved) == (0, 0, 40)
    assert {path.name: path.stat().st_ino for path in (two.root / "new").iterdir()} == inodes
    assert one.here() == two.here()


def test_file_of_equal_size_and_time_is_not_a_rename(tmp_path: Path) -> None:
    world = World(tmp_path, directory(tmp_path))
    dated(world.write("a", "AAAA"))
    world.write("o", "other")
    world.run()
    world.take("a")
    stored(world, "b", "BBBB")
    report = world.run()
    assert report.exit_code == 0
    assert world.here() == world.there() == {"b": "BBBB", "o": "other"}
    assert "AAAA" in world.kept()


def made(folder: Path, names: str) -> str:
    for name in names:
        (folder / name).mkdir()
    return names


@pytest.mark.parametrize("seconds", [0, -1, 1])
def test_a_time_of_zero_survives_a_download(tmp_path: Path, seconds: int) -> None:
    one, two = (World(tmp_path / name, directory(tmp_path)) for name in made(tmp_path, "12"))
    os.utime(one.write("p", "x"), (seconds, seconds))
    one.run()
    two.run()
    assert (two.root / "p").stat().st_mtime == seconds
