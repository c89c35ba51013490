"""Watching a root in a test: what the kernel tells is waited for, time passes only when told to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any, Generic, TypeVar

from craftsync.clock import Clock
from craftsync.core.model import RemoteObject
from craftsync.daemon.loop import FolderLoop
from craftsync.daemon.schedule import WatchSettings
from craftsync.engine.report import Event, Options, Report
from craftsync.engine.session import Session
from craftsync.errors import StoreUnavailable
from craftsync.local.folder import Folder
from craftsync.local.watch import Dirty, DirtyPaths, Health, Supervisor
from craftsync.local.watch.inotify import Inotify
from tests.support.cli import until
from tests.support.clock import FakeClock
from tests.support.memory_store import MemoryStore
from tests.support.world import World

SENTINELS = "*.sentinel"
SETTLED = 2.0
"""Seconds after which edits and deletions have come to rest."""


class StoppedClock(FakeClock):
    """Intervals pass only when told to, while the date is the one files get."""

    def now_ns(self) -> int:
        return time.time_ns()


class Heard(DirtyPaths):
    """Dirty paths that also remember everything they were ever told, and may pass it on."""

    def __init__(self, monotonic: Callable[[], float], inner: DirtyPaths | None = None) -> None:
        super().__init__(monotonic)
        self._inner = DirtyPaths(monotonic) if inner is None else inner
        self.paths: set[str] = set()
        self.overflows = 0

    def change(self, path: str) -> None:
        self._inner.change(path)
        self.paths.add(path)

    def delete(self, path: str) -> None:
        self._inner.delete(path)
        self.paths.add(path)

    def depart(self, path: str) -> None:
        self._inner.depart(path)
        self.paths.add(path)

    def everything(self) -> None:
        self._inner.everything()
        self.overflows += 1

    def take(self) -> Dirty:
        return self._inner.take()


class NoWatch:
    """Keeps `Watch` and notices nothing: a test says itself what is dirty, or nobody does."""

    def __init__(self, root: Folder, dirty: DirtyPaths, clock: Clock) -> None:
        self.dirty = dirty
        self.health = Health(True)
        self.refreshed = 0

    def start(self) -> None:
        """Nothing is watched."""

    def refresh(self) -> None:
        self.refreshed += 1

    def stop(self) -> None:
        """Nothing was watched."""


class Hearing:
    """A supervisor at work on a root, and what it has told; nothing but the test looks after it.

    Keeps `Watch`, so that a test can watch through it.
    """

    def __init__(
        self,
        root: Folder,
        dirty: DirtyPaths,
        clock: Clock,
        make_reader: type[Inotify] = Inotify,
    ) -> None:
        self.root = Path(root.path)
        self.dirty = dirty if isinstance(dirty, Heard) else Heard(clock.monotonic, dirty)
        self.supervisor = Supervisor(root, self.dirty, clock, make_reader=make_reader, every=3600.0)
        self.start, self.stop = self.supervisor.start, self.supervisor.stop
        self.refresh, self.check = self.supervisor.refresh, self.supervisor.check
        self._sentinels = 0

    @property
    def health(self) -> Health:
        return self.supervisor.health

    def catch_up(self) -> None:
        """Return once everything that happened before has been heard."""
        self._sentinels += 1
        name = f"{self._sentinels}.sentinel"
        (self.root / name).touch()
        until(lambda: name in self.dirty.paths, "the events")

    def heard(self) -> set[str]:
        """Return the paths that were told of since the last call, sentinels left out."""
        self.catch_up()
        paths = {path for path in self.dirty.paths if not path.endswith(".sentinel")}
        self.dirty.paths.clear()
        return paths


@contextmanager
def hearing(
    root: Path,
    clock: Clock,
    dirty: Heard | None = None,
    make_reader: type[Inotify] = Inotify,
) -> Iterator[Hearing]:
    """Watch a root until the end of the block."""
    with Folder.open(root) as folder:
        dirty = Heard(clock.monotonic) if dirty is None else dirty
        found = Hearing(folder, dirty, clock, make_reader)
        found.start()
        try:
            yield found
        finally:
            found.stop()


AnyWatch = TypeVar("AnyWatch", NoWatch, Hearing)


class Kept(Generic[AnyWatch]):
    """A world that is kept in sync by `FolderLoop`, one turn at a time."""

    def __init__(
        self,
        session: Session,
        options: Options,
        settings: WatchSettings,
        clock: StoppedClock,
        make_watch: Callable[[Folder, DirtyPaths, Clock], AnyWatch],
    ) -> None:
        self.clock = clock
        self.session = session
        self.passes: list[set[str] | None] = []
        self.events: list[Event] = []
        self.listen: Callable[[Event], object] | None = None
        self.stop = threading.Event()
        self.watch: AnyWatch
        self._make_watch = make_watch
        self._session_run = session.run
        session.run = self._counted  # type: ignore[method-assign]
        self.loop = FolderLoop(
            session,
            settings,
            options,
            self._hear,
            self.stop,
            random=Random(1),
            make_watch=self._watch,
        )

    def _watch(self, root: Folder, dirty: DirtyPaths, clock: Clock) -> AnyWatch:
        self.watch = self._make_watch(root, dirty, clock)
        return self.watch

    def _hear(self, event: Event) -> None:
        self.events.append(event)
        if self.listen is not None:
            self.listen(event)

    def _counted(self, *words: Any, paths: Any = None, **options: Any) -> Report:
        self.passes.append(None if paths is None else set(paths))
        return self._session_run(*words, paths=paths, **options)

    @property
    def full_passes(self) -> int:
        return sum(paths is None for paths in self.passes)

    def turn(self, seconds: float = SETTLED) -> None:
        """Let time pass, and let it do what is due then."""
        self.clock.advance(seconds)
        self.loop.turn()


class OutOfReach(MemoryStore):
    """A store that can be out of reach."""

    reachable = True

    def list(self, *words: Any, **options: Any) -> Any:
        self.reach()
        return super().list(*words, **options)

    def stat(self, path: str) -> RemoteObject | None:
        self.reach()
        return super().stat(path)

    def read(self, *words: Any, **options: Any) -> Any:
        self.reach()
        return super().read(*words, **options)

    def reach(self) -> None:
        """Raise unless a request arrives."""
        if not self.reachable:
            raise StoreUnavailable("the network is down", ambiguous=False)


@contextmanager
def kept(
    world: World,
    make_watch: Callable[[Folder, DirtyPaths, Clock], AnyWatch],
    *,
    options: Options | None = None,
    settings: WatchSettings | None = None,
    clock: StoppedClock | None = None,
) -> Iterator[Kept[AnyWatch]]:
    """Keep a world in sync after a first full run, which `passes` and `events` do not show."""
    clock = clock or StoppedClock()
    options = options or Options(transfers=4, exclude=(SENTINELS,))
    with world.open(clock=clock) as session:
        found = Kept(session, options, settings or WatchSettings(), clock, make_watch)
        found.watch.start()
        try:
            found.turn(0)
            found.passes.clear()
            found.events.clear()
            yield found
        finally:
            found.watch.stop()
