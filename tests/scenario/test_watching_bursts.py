"""Many changes at once: nothing is missed, and everything is looked at no more than twice for it.

With watchdog's own observer, 20,000 files made within a second overflow the
kernel's queue three times, and most of them are never told of.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from craftsync.clock import Clock
from craftsync.daemon.loop import FolderLoop
from craftsync.daemon.schedule import WatchSettings
from craftsync.engine.report import Options
from craftsync.local.folder import Folder
from craftsync.local.watch import DirtyPaths
from craftsync.stores.directory import DirectoryStore
from tests.support.cli import until
from tests.support.memory_store import MemoryStore
from tests.support.watching import SENTINELS, Heard, Hearing, kept
from tests.support.world import World

BURST = """
import os, sys
os.chdir(sys.argv[1])
for number in range(int(sys.argv[2])):
    folder = f"{number % 50:02}"
    if number < 50:
        os.mkdir(folder)
    descriptor = os.open(f"{folder}/{number}", os.O_CREAT | os.O_WRONLY)
    os.write(descriptor, b"content")
    os.close(descriptor)
"""


class Running:
    """The loop at work in a thread of its own, in real time."""

    def __init__(self, world: World, stop: threading.Event) -> None:
        self.full_passes = 0
        self.loop: FolderLoop | None = None
        self._world = world
        self._stop = stop

    def run(self) -> None:
        with self._world.open() as session:
            make_pass = session.run

            def counted(*words: Any, paths: Any = None, **options: Any) -> Any:
                self.full_passes += paths is None
                return make_pass(*words, paths=paths, **options)

            session.run = counted  # type: ignore[method-assign]
            self.loop = FolderLoop(
                session, WatchSettings(), Options(), lambda event: None, self._stop
            )
            self.loop.run()

    @property
    def has_begun(self) -> bool:
        return self.loop is not None and self.loop.state.last_report is not None


@contextmanager
def running(world: World) -> Iterator[Running]:
    stop = threading.Event()
    found = Running(world, stop)
    thread = threading.Thread(target=found.run)
    thread.start()
    try:
        until(lambda: found.has_begun, "the first run")
        yield found
    finally:
        stop.set()
        if found.loop is not None:
            found.loop.wake()
        thread.join(60)


@pytest.mark.parametrize("files", [2_000, pytest.param(20_000, marks=pytest.mark.campaign)])
def test_burst_of_files_is_synced_with_at_most_two_full_scans(tmp_path: Path, files: int) -> None:
    world = World(tmp_path, DirectoryStore.create(tmp_path / "store"))
    with running(world) as running_loop:
        running_loop.full_passes = 0
        subprocess.run([sys.executable, "-c", BURST, str(world.root), str(files)], check=True)

        def arrived() -> bool:
            # Counting costs more than asking, and takes the time from the loop.
            at_rest = running_loop.loop is not None and running_loop.loop.state.pending == 0
            return at_rest and sum(1 for _ in (tmp_path / "store").glob("[0-9]*/*")) == files

        until(arrived, "every file")
        assert running_loop.full_passes <= 2
        assert running_loop.loop is not None
        assert running_loop.loop.state.watch_healthy
        (world.root / "07/late").write_text("late")
        until(lambda: (tmp_path / "store/07/late").exists(), "a file after the burst")
        assert running_loop.full_passes <= 2


def test_event_overflow_costs_one_full_scan_and_no_file(tmp_path: Path) -> None:
    world = World(tmp_path, MemoryStore())
    listens = threading.Event()
    listens.set()

    class Stalled(Heard):
        def change(self, path: str) -> None:
            listens.wait()
            super().change(path)

    def stalled(root: Folder, dirty: DirtyPaths, clock: Clock) -> Hearing:
        return Hearing(root, Stalled(clock.monotonic, dirty), clock)

    queue = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    with kept(world, stalled, options=Options(exclude=(SENTINELS,))) as at_work:
        listens.clear()
        with (world.root / "one").open("w") as one, (world.root / "two").open("w") as two:
            for _ in range(queue):
                for file in (one, two):
                    # In turn, or the kernel would take equal events together.
                    file.write("x")
                    file.flush()
        for number in range(300):
            world.write(f"{number % 30}/{number}", f"content {number}")
        listens.set()
        until(lambda: at_work.watch.dirty.overflows, "the overflow")
        at_work.turn()
        assert at_work.full_passes == 1
        assert len(world.there()) == 302
        at_work.watch.dirty.paths.clear()
        world.write("29/late", "made in a folder whose own making was never told of")
        at_work.watch.catch_up()
        at_work.turn()
        assert "29/late" in world.there()
        assert at_work.full_passes == 1
