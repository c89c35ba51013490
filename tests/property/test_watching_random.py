"""Any changes of a folder, with any part of the events: the result equals that of one full run.

Random operations with the real kernel, seeded; a random share of the kernel's
events is dropped. The ordinary run is a short one; the marker
`campaign` makes a million operations.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from craftsync.clock import Clock
from craftsync.engine.report import Options
from craftsync.local.folder import Folder
from craftsync.local.watch import DirtyPaths
from craftsync.stores.directory import DirectoryStore
from tests.support.memory_store import MemoryStore
from tests.support.watching import SENTINELS, Heard, Hearing, kept
from tests.support.world import World

NAMES = [f"{letter}{number}" for letter in "abcd" for number in range(6)]


class Lossy(Heard):
    """Receives every event, drops some, and sometimes invents one."""

    def __init__(self, inner: DirtyPaths, clock: Clock, random: Random, loss: float) -> None:
        super().__init__(clock.monotonic, inner)
        self._random = random
        self._loss = loss

    def _drops(self) -> bool:
        return self._random.random() < self._loss

    def change(self, path: str) -> None:
        if self._drops():
            self.paths.add(path)
        else:
            super().change(path)

    def delete(self, path: str) -> None:
        if self._drops():
            self.paths.add(path)
        else:
            super().delete(path)

    def depart(self, path: str) -> None:
        if self._drops():
            super().delete(f"{path}/phantom")
        else:
            super().depart(path)


class RandomChanges:
    """Random operations on a folder."""

    def __init__(self, root: Path, random: Random) -> None:
        self._root = root
        self._random = random
        self._count = 0
        self._operations = [
            *[self.write] * 6,
            *[self.edit_secretly] * 2,
            *[self.replace] * 2,
            *[self.append] * 2,
            *[self.rename] * 4,
            *[self.delete] * 3,
            self.delete_folder,
            self.swap,
        ]

    def perform(self) -> None:
        """Carry out one operation that is possible."""
        while True:
            try:
                self._random.choice(self._operations)()
            except OSError:
                continue
            return

    def _path(self) -> Path:
        depth = self._random.choice((1, 1, 2, 2, 3))
        return self._root.joinpath(*self._random.choices(NAMES, k=depth))

    def _content(self) -> str:
        self._count += 1
        return f"version {self._count:08}"

    def write(self) -> None:
        path = self._path()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._content())

    def edit_secretly(self) -> None:
        """Edit a file and keep its size and times."""
        path = self._path()
        before = path.stat()
        with path.open("r+") as file:
            file.write(self._content())
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def replace(self) -> None:
        path = self._path()
        beside = path.with_name("temporary")
        beside.write_text(self._content())
        beside.replace(path)

    def append(self) -> None:
        with self._path().open("a") as file:
            file.write(self._content())

    def rename(self) -> None:
        self._path().rename(self._path())

    def delete(self) -> None:
        self._path().unlink()

    def delete_folder(self) -> None:
        shutil.rmtree(self._path())

    def swap(self) -> None:
        """Replace a file by a folder, or a folder by a file."""
        path = self._path()
        if path.is_dir():
            shutil.rmtree(path)
            path.write_text(self._content())
        else:
            path.unlink()
            path.mkdir()
            (path / "inner").write_text(self._content())


def without_sentinels(files: dict[str, str]) -> dict[str, str]:
    return {path: content for path, content in files.items() if not path.endswith(".sentinel")}


def check_random_changes(folder: Path, seed: int, operations: int, loss: float) -> None:
    """Change a folder at random, keep it in sync by events, and compare the result with one full run."""
    random = Random(seed)
    world = World(folder, MemoryStore())
    changes = RandomChanges(world.root, random)
    changes.write()

    def lossy(root: Folder, dirty: DirtyPaths, clock: Clock) -> Hearing:
        return Hearing(root, Lossy(dirty, clock, random, loss), clock)

    options = Options(transfers=4, exclude=(SENTINELS,), force_delete=True)
    make_watch: Callable[[Folder, DirtyPaths, Clock], Hearing] = lossy
    with kept(world, make_watch, options=options) as at_work:
        left = operations
        while left > 0:
            at_once = min(left, random.choice((1, 5, 20, 100, 400)))
            for _ in range(at_once):
                changes.perform()
            left -= at_once
            at_work.watch.check()
            at_work.turn(random.choice((0.1, 0.6, 2.0, 31.0)))
        at_work.watch.catch_up()
        if not loss:
            # No event was dropped, so nothing is left for the full scan.
            at_work.turn()
            assert without_sentinels(world.there()) == without_sentinels(world.here())
        at_work.turn(600)
        assert at_work.watch.health.healthy
        small = [paths for paths in at_work.passes if paths is not None]
    if loss < 1:
        assert small
    for sentinel in world.root.glob(SENTINELS):
        sentinel.unlink()
    here = world.here()
    assert (world.there(), len(here) > 0) == (here, True)
    assert after_one_run(folder, world) == here


def after_one_run(folder: Path, world: World) -> dict[str, str]:
    """Return what an empty store holds after one run over a copy of the folder."""
    once = World(folder, DirectoryStore.create(folder / "another"))
    once.state_dir = folder / "another state"
    shutil.copytree(world.root, folder / "copy", ignore=shutil.ignore_patterns(".craftsync"))
    once.root = folder / "copy"
    once.run()
    return once.there()


@pytest.mark.parametrize("loss", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("seed", [1, 2])
def test_result_equals_one_run_for_any_dropped_events(
    tmp_path: Path, seed: int, loss: float
) -> None:
    check_random_changes(tmp_path, seed, operations=400, loss=loss)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(100))
def test_a_million_random_operations_end_like_one_run(tmp_path: Path, seed: int) -> None:
    check_random_changes(tmp_path, 1_000 + seed, operations=10_000, loss=seed % 10 / 10)
