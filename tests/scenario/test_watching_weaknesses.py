"""The ways in which watchdog 7.1 loses sight of a folder, each with what craftsync does instead.

The numbers are those of the study of watchdog that the design rests on.
Everything here happens to real folders under the real kernel.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from craftsync.local.folder import Folder
from craftsync.local.watch.inotify import Inotify
from tests.support.cli import until
from tests.support.watching import Heard, Hearing, StoppedClock, hearing

pytestmark = pytest.mark.on_disk

NOBODY = 65534
PROJECT = Path(__file__).parents[2]


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root/.craftsync").mkdir(parents=True)
    return tmp_path / "root"


@pytest.fixture
def ears(root: Path, clock: StoppedClock) -> Iterator[Hearing]:
    with hearing(root, clock) as found:
        yield found


class Stalled(Heard):
    """Somebody who does not listen until told to, so that the kernel's queue fills up."""

    def __init__(self, clock: StoppedClock) -> None:
        super().__init__(clock.monotonic)
        self.listens = Event()
        self.listens.set()

    def change(self, path: str) -> None:
        self.listens.wait()
        super().change(path)


def test_w01_event_overflow_triggers_a_full_scan_and_watching_continues(
    root: Path, clock: StoppedClock
) -> None:
    dirty = Stalled(clock)
    with hearing(root, clock, dirty) as ears:
        dirty.listens.clear()
        queue = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
        (root / "new").mkdir()
        # Two events each, and whoever reads may have taken many before it stalls.
        for number in range(queue):
            (root / f"{number}").touch()
        (root / "late").mkdir()
        dirty.listens.set()
        until(lambda: dirty.overflows, "the overflow")
        ears.refresh()
        ears.heard()
        (root / "late/file").touch()
        assert ears.heard() == {"late/file"}
        assert (dirty.overflows, ears.health.healthy) == (1, True)


def in_namespace(script: str, *words: str) -> str:
    """Run a script as root of a namespace of its own; return what it prints."""
    command = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", script]
    done = subprocess.run(
        [*command, *words], cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False
    )
    if "unshare failed" in done.stderr or "Operation not permitted" in done.stderr:
        pytest.skip("this kernel lets no user make a namespace")
    assert done.returncode == 0, done.stderr
    return done.stdout


LIMITED = """
import sys
from pathlib import Path
from tests.support.watching import StoppedClock, hearing
limit, root, clock = Path("/proc/sys/user/max_inotify_watches"), Path(sys.argv[1]), StoppedClock()
limit.write_text("30")
with hearing(root, clock) as ears:
    print(ears.health)
    limit.write_text("1000")
    clock.advance(60)
    ears.check()
    print(ears.health)
    (root / "59/file").touch()
    print(ears.heard())
"""


def test_w02_watch_limit_is_reported_with_remedy_and_retried(root: Path) -> None:
    for number in range(60):
        (root / str(number)).mkdir()
    limited, lifted, heard = in_namespace(LIMITED, str(root)).splitlines()
    assert "healthy=False" in limited
    assert "29 folders are watched" in limited
    assert "sysctl fs.inotify.max_user_watches" in limited
    assert "healthy=True" in lifted
    assert heard == "{'59/file'}"


def test_w03_folder_replaced_by_another_is_handled(
    ears: Hearing, root: Path, tmp_path: Path
) -> None:
    (root / "p").mkdir()
    (root / "p").rename(tmp_path / "out")
    (root / "p").mkdir()
    (root / "p").rmdir()
    (tmp_path / "out").rmdir()
    assert ears.heard() == {"p"}
    (root / "after").touch()
    assert ears.heard() == {"after"}
    ears.check()
    assert ears.health.healthy


def test_w04_unreadable_folder_is_watched_once_readable(
    clock: StoppedClock,
) -> None:
    place = Path(tempfile.mkdtemp())
    try:
        place.chmod(0o777)
        for name in ("one", "two"):
            (place / name).mkdir(mode=0o700)
            (place / name).chmod(0)
        if os.geteuid() == 0:
            os.seteuid(NOBODY)
        with hearing(place, clock) as ears:
            os.seteuid(os.getuid())
            for name in ("one", "two"):
                (place / name).chmod(0o755)
            assert ears.heard() == {"one", "two"}
            (place / "one/file").touch()
            assert ears.heard() == {"one/file"}
    finally:
        os.seteuid(os.getuid())
        shutil.rmtree(place)


def test_w05_events_of_a_moved_folder_never_use_its_old_name(
    ears: Hearing, root: Path, tmp_path: Path, clock: StoppedClock
) -> None:
    (root / "p/q").mkdir(parents=True)
    (root / "p").rename(tmp_path / "out")
    ears.heard()
    (tmp_path / "out/phantom").touch()
    (tmp_path / "out/q/phantom").touch()
    assert ears.heard() == set()
    clock.advance(2)
    ears.check()
    (tmp_path / "out").rename(root / "back")
    ears.heard()
    (root / "back/q/file").touch()
    assert ears.heard() == {"back/q/file"}


class Deafened(Inotify):
    """A reader that misses what happens while it is deaf, as in an overflow; sentinels get through."""

    deaf = Event()

    def _handle(self, watch: int, mask: int, name: bytes) -> None:
        if name.endswith(b".sentinel") or not self.deaf.is_set():
            super()._handle(watch, mask, name)


def test_w05_unnoticed_folder_move_is_corrected_by_the_next_scan(
    root: Path, tmp_path: Path, clock: StoppedClock
) -> None:
    (root / "p/q").mkdir(parents=True)
    (root / "stays").mkdir()
    deaf = Deafened.deaf
    with hearing(root, clock, make_reader=Deafened) as ears:
        deaf.set()
        (root / "p").rename(tmp_path / "out")
        (root / "stays").rename(root / "moved")
        (root / "unheard").touch()
        assert ears.heard() == set()
        deaf.clear()
        ears.refresh()
        (tmp_path / "out/q/phantom").touch()
        (root / "moved/file").touch()
        assert ears.heard() == {"moved/file"}


def test_w05_folder_moved_away_and_back_stays_watched(
    ears: Hearing, root: Path, tmp_path: Path, clock: StoppedClock
) -> None:
    (root / "p/q").mkdir(parents=True)
    ears.heard()
    (root / "p").rename(tmp_path / "out")
    (tmp_path / "out").rename(root / "p")
    ears.heard()
    ears.check()
    (root / "p/q/file").touch()
    assert ears.heard() == {"p/q/file"}


@pytest.mark.parametrize("again", [True, False])
def test_w06_removed_root_is_noticed_at_the_next_check(
    ears: Hearing, root: Path, *, again: bool
) -> None:
    shutil.rmtree(root)
    if again:
        root.mkdir()
    ears.check()
    assert ears.dirty.overflows
    assert not ears.health.healthy
    assert str(root) in str(ears.health.reason)


def test_w07_a_root_that_was_moved_is_noticed_by_its_own_event(
    ears: Hearing, root: Path, tmp_path: Path
) -> None:
    root.rename(tmp_path / "elsewhere")
    until(lambda: ears.dirty.overflows, "the event")
    ears.check()
    assert not ears.health.healthy


UNMOUNTED = """
import subprocess, sys
from pathlib import Path
from tests.support.watching import StoppedClock, hearing
root = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "craftsync", root], check=True)
(root / ".craftsync").mkdir()
with hearing(root, StoppedClock()) as ears:
    print(ears.health)
    subprocess.run(["umount", "--lazy", root], check=True)
    ears.check()
    print(ears.health, ears.dirty.overflows)
"""


def test_w08_unmounted_root_is_noticed_at_the_next_check(root: Path) -> None:
    before, after = in_namespace(UNMOUNTED, str(root)).splitlines()
    assert "healthy=True" in before
    assert "healthy=False" in after
    assert "was moved, replaced or mounted over" in after
    assert not after.endswith(" 0")


class Failing(Heard):
    """Somebody whose first answer to an event is an exception."""

    fails = True

    def change(self, path: str) -> None:
        if self.fails:
            raise ZeroDivisionError
        super().change(path)


def test_w09_a_reader_that_died_is_noticed_and_replaced(root: Path, clock: StoppedClock) -> None:
    dirty = Failing(clock.monotonic)
    with hearing(root, clock, dirty) as ears:
        (root / "deadly").touch()
        until(lambda: dirty.overflows, "the end of the reader")
        ears.check()
        assert "ZeroDivisionError" in str(ears.health.reason)
        dirty.fails = False
        ears.check()
        assert not ears.health.healthy
        clock.advance(1)
        ears.check()
        assert ears.health.healthy
        (root / "a").touch()
        assert ears.heard() == {"a"}


def test_w10_a_moved_folder_brings_all_its_watches_along(ears: Hearing, root: Path) -> None:
    for number in range(300):
        (root / f"old/{number}").mkdir(parents=True)
    ears.heard()
    (root / "old").rename(root / "new")
    (root / "new/299/file").touch()
    assert ears.heard() == {"old", "new", "new/299/file"}


def test_w11_a_thousand_writes_to_a_file_are_one_dirty_path(
    ears: Hearing, root: Path, clock: StoppedClock
) -> None:
    with (root / "a").open("w") as file:
        for _ in range(1_000):
            file.write("x")
            file.flush()
    ears.catch_up()
    clock.advance(1)
    assert ears.dirty.take().paths == {"a", "1.sentinel"}


def test_w12_reading_files_causes_no_events(ears: Hearing, root: Path) -> None:
    for number in range(100):
        (root / f"{number}").write_text("content")
    ears.heard()
    assert [path.read_text() for path in root.glob("*[0-9]")] == ["content"] * 100
    list(root.rglob("*"))
    assert ears.heard() == set()


@pytest.mark.parametrize(
    "touch", [lambda path: os.utime(path, (1, 1)), lambda path: path.chmod(0o600)]
)
def test_w13_time_and_permission_changes_are_reported(
    ears: Hearing, root: Path, touch: object
) -> None:
    (root / "a").touch()
    ears.heard()
    touch(root / "a")  # type: ignore[operator]
    assert ears.heard() == {"a"}


def test_w14_beginning_to_watch_many_folders_does_not_overflow_the_queue(
    root: Path, clock: StoppedClock
) -> None:
    for number in range(5_000):
        (root / f"{number // 100}/{number}").mkdir(parents=True)
    with hearing(root, clock) as ears:
        assert ears.heard() == set()
        (root / "49/4999/file").touch()
        assert ears.heard() == {"49/4999/file"}
        assert ears.dirty.overflows == 0


def descriptors() -> set[str]:
    """Return the open descriptors, but for the one that lists them."""
    return {
        name for name in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{name}")
    }


def test_w15_watching_leaks_no_descriptors(root: Path, clock: StoppedClock) -> None:
    before = descriptors()
    for _ in range(20):
        with hearing(root, clock):
            pass
    with Folder.open(root) as folder:
        never_begun = Inotify(folder.tree, Heard(clock.monotonic), str(root))
        inherited = [name for name in descriptors() - before if os.get_inheritable(int(name))]
        never_begun.close()
    assert inherited == []
    assert descriptors() == before


def test_w16_tree_moved_in_at_once_is_reported_and_watched(
    ears: Hearing, root: Path, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    for number in range(50):
        (tree / f"{number}/inner").mkdir(parents=True)
        (tree / f"{number}/inner/file").touch()
    shutil.copytree(tree, root / "copied")
    tree.rename(root / "moved in")
    heard = ears.heard()
    assert {"copied", "moved in"} <= heard
    for folder in ("copied", "moved in"):
        (root / folder / "49/inner/file").write_text("new")
    assert ears.heard() == {"copied/49/inner/file", "moved in/49/inner/file"}


def test_w17_no_symbolic_link_is_followed(ears: Hearing, root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside/inner").mkdir(parents=True)
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "circle").symlink_to(root)
    assert ears.heard() == {"link", "circle"}
    (tmp_path / "outside/file").touch()
    (tmp_path / "outside/inner/file").touch()
    assert ears.heard() == set()
    (root / "a").touch()
    assert ears.heard() == {"a"}
