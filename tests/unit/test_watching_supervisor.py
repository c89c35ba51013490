"""The supervisor notices that file watching has stopped, for any reason."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from craftsync.local.folder import Folder
from craftsync.local.tree import Tree
from craftsync.local.watch import DirtyPaths, Supervisor
from craftsync.local.watch.inotify import CANARY, Inotify
from tests.support.cli import until
from tests.support.clock import FakeClock


class Deaf(Inotify):
    """A reader whose thread runs but receives no event."""

    def _handle(self, watch: int, mask: int, name: bytes) -> None:
        """Ignore the event."""


class Busy(Inotify):
    """A reader that is busy with other events and has not reached the canary yet."""

    def _handle(self, watch: int, mask: int, name: bytes) -> None:
        super()._handle(watch, mask, b"other" if name == CANARY.encode() else name)


class Readers:
    """Makes readers of one kind, and keeps them."""

    def __init__(self, *kinds: type[Inotify] | OSError) -> None:
        self._kinds = list(kinds)
        self.made: list[Inotify] = []

    def __call__(self, tree: Tree, dirty: DirtyPaths, root: str) -> Inotify:
        kind = self._kinds.pop(0) if self._kinds else Inotify
        if isinstance(kind, OSError):
            raise kind
        self.made.append(kind(tree, dirty, root))
        return self.made[-1]


class Watching:
    """A supervisor that checks only when a test calls it."""

    def __init__(self, root: Path, *kinds: type[Inotify] | OSError) -> None:
        self.clock = FakeClock()
        self.folder = Folder.open(root)
        self.dirty = DirtyPaths(self.clock.monotonic)
        self.readers = Readers(*kinds)
        self.supervisor = Supervisor(
            self.folder, self.dirty, self.clock, make_reader=self.readers, every=3600.0
        )
        self.supervisor.start()

    def look(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.supervisor.check()

    @property
    def reason(self) -> str | None:
        return self.supervisor.health.reason

    def canaries(self) -> int:
        return self.readers.made[-1].canaries


MakeWatching = Callable[..., Watching]


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[MakeWatching]:
    made: list[Watching] = []

    def make(*kinds: type[Inotify] | OSError) -> Watching:
        (tmp_path / ".craftsync").mkdir(exist_ok=True)
        made.append(Watching(tmp_path, *kinds))
        return made[-1]

    yield make
    for watching in made:
        watching.supervisor.stop()
        watching.folder.close()


def test_watching_is_healthy_while_canary_events_arrive(watch: MakeWatching) -> None:
    watching = watch()
    for number in range(1, 4):
        watching.look(60)
        until(lambda wanted=number: watching.canaries() == wanted, "the canary")
        watching.look(5)
        assert watching.supervisor.health.healthy
    assert len(watching.readers.made) == 1
    assert len(watching.dirty) == 0


def test_missing_canary_event_is_noticed_within_seconds(
    watch: MakeWatching,
) -> None:
    watching = watch(Deaf)
    watching.look(60)
    assert watching.supervisor.health.healthy
    watching.look(5)
    assert "no events arrive from the kernel" in str(watching.reason)
    watching.look(1)
    assert watching.supervisor.health.healthy
    assert len(watching.readers.made) == 2


def test_watcher_busy_with_other_events_is_not_declared_dead(
    watch: MakeWatching,
) -> None:
    watching = watch(Busy)
    watching.look(60)
    until(lambda: watching.readers.made[0].handled, "the event")
    watching.look(5)
    assert watching.supervisor.health.healthy
    watching.look(5)
    assert not watching.supervisor.health.healthy


def test_inotify_instance_limit_is_reported_with_remedy_and_retried(
    watch: MakeWatching,
) -> None:
    watching = watch(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
    assert "sysctl fs.inotify.max_user_instances" in str(watching.reason)
    watching.look(1)
    assert watching.supervisor.health.healthy


def test_watcher_restart_triggers_a_full_scan(watch: MakeWatching) -> None:
    watching = watch(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
    watching.clock.advance(1)
    assert watching.dirty.take().everything
    watching.supervisor.check()
    watching.clock.advance(1)
    assert watching.dirty.take().everything


def test_watch_restarts_back_off(watch: MakeWatching, tmp_path: Path) -> None:
    watching = watch(*[OSError(errno.EMFILE, "no more")] * 100)
    attempts, at = [], watching.clock.monotonic
    for _ in range(200):
        left = len(watching.readers._kinds)
        watching.look(1)
        if len(watching.readers._kinds) < left:
            attempts.append(at())
    assert attempts == [1, 3, 7, 15, 31, 63, 123, 183]


def test_one_minute_of_watching_resets_the_restart_backoff(watch: MakeWatching) -> None:
    watching = watch(OSError(errno.EMFILE, "no more"), OSError(errno.EMFILE, "no more"), Deaf)
    watching.look(1)
    watching.look(2)
    assert watching.supervisor.health.healthy
    watching.look(61)
    watching.look(5)
    assert not watching.supervisor.health.healthy
    watching.look(1)
    assert watching.supervisor.health.healthy


def test_watching_a_read_only_folder_is_not_declared_dead(
    watch: MakeWatching, tmp_path: Path
) -> None:
    (tmp_path / ".craftsync").mkdir()
    (tmp_path / f".craftsync/{CANARY}").mkdir()
    watching = watch()
    watching.look(60)
    watching.look(5)
    assert watching.supervisor.health.healthy


def test_canary_is_never_written_through_a_symlink(watch: MakeWatching, tmp_path: Path) -> None:
    (tmp_path / ".craftsync").mkdir()
    (tmp_path / f".craftsync/{CANARY}").symlink_to(tmp_path / "elsewhere")
    watching = watch()
    watching.look(60)
    assert not (tmp_path / "elsewhere").exists()
