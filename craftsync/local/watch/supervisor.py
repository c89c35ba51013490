"""`Supervisor`: restarts the watching of a folder when it stops, and reports whether events are reliable.

Watching can stop silently: the reading thread dies, the kernel's limit is reached, the folder is
moved, replaced or unmounted. A check every second detects most of that; a canary, a file of our own
that is touched from time to time, detects the rest. Watching is then restarted, with growing
pauses.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Lock
from typing import Protocol

from craftsync.clock import Clock
from craftsync.core.model import OWN_FOLDER
from craftsync.errors import RootError
from craftsync.local.folder import Folder
from craftsync.local.tree import Tree
from craftsync.local.watch.dirty import DirtyPaths
from craftsync.local.watch.inotify import CANARY, Inotify

_CHECK_SECONDS = 1.0
_CANARY_SECONDS = 60.0
_CANARY_TIMEOUT = 5.0
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
"""The longest pause between restarts. After working for this long, pauses start again from the first."""
_CANARY_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Health:
    """Whether events are reliable; if not, `reason` is the cause and the remedy."""

    healthy: bool
    reason: str | None = None


NOT_BEGUN = Health(False, "it has not begun")


class Watch(Protocol):
    """Records dirty paths of a folder from `start` to `stop`."""

    @property
    def health(self) -> Health: ...

    def start(self) -> None: ...

    def refresh(self) -> None:
        """Watch new folders whose events were missed. Called before each full scan."""
        ...

    def stop(self) -> None: ...


MakeReader = Callable[[Tree, DirtyPaths, str], Inotify]


class Supervisor:
    """Watches a folder through a reader that it replaces when it fails. Implements `Watch`."""

    def __init__(
        self,
        root: Folder,
        dirty: DirtyPaths,
        clock: Clock,
        *,
        make_reader: MakeReader = Inotify,
        every: float = _CHECK_SECONDS,
    ) -> None:
        """`every` is the number of seconds between health checks."""
        self._root = root
        self._dirty = dirty
        self._clock = clock
        self._make_reader = make_reader
        self._every = every
        self._reader: Inotify | None = None
        self._guard = Lock()
        self._stopped = Event()
        self._thread: threading.Thread | None = None
        self._health = NOT_BEGUN
        self._pause = _FIRST_PAUSE / 2
        self._retry_at = 0.0
        self._calm_at = float("inf")
        self._canary = _Canary(root.tree, clock)

    @property
    def health(self) -> Health:
        return self._health

    def start(self) -> None:
        """Start watching, and a thread that checks its health."""
        with self._guard:
            self._begin()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop watching. May be called twice."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
        with self._guard:
            self._end()

    def refresh(self) -> None:
        with self._guard:
            if self._reader is not None:
                self._reader.cover()

    def check(self) -> None:
        """Check once: stop a reader that failed, start a reader that is due."""
        with self._guard:
            if self._reader is None:
                self._begin_when_due()
            elif trouble := self._trouble(self._reader):
                self._end()
                self._later(trouble)
            else:
                self._reader.drop_lost()
                self._retry_exhausted(self._reader)

    def _run(self) -> None:
        while not self._stopped.wait(self._every):
            try:
                self.check()
            except Exception as error:  # noqa: BLE001 (the supervisor itself must not die silently)
                self._health = Health(False, f"the supervisor failed: {error}")

    def _begin_when_due(self) -> None:
        if self._clock.monotonic() < self._retry_at:
            return
        self._begin()
        # All events until now were missed.
        self._dirty.everything()

    def _begin(self) -> None:
        try:
            self._root.ensure_same()
            reader = self._make_reader(self._root.tree, self._dirty, str(self._root.path))
        except (OSError, RootError) as error:
            self._later(_advice(error))
            return
        self._reader = reader
        reader.start()
        reader.cover()
        self._canary.begin()
        self._judge(reader)

    def _judge(self, reader: Inotify) -> None:
        """Set the health from a working reader."""
        if reader.exhausted:
            self._health = Health(False, _too_few_watches(len(reader)))
            self._retry_at = self._clock.monotonic() + _LONGEST_PAUSE
        else:
            self._health = Health(True)
            self._calm_at = self._clock.monotonic() + _LONGEST_PAUSE

    def _end(self) -> None:
        if self._reader is not None:
            self._reader.close()
        self._reader = None

    def _later(self, reason: str) -> None:
        """Schedule a restart, and report everything as dirty."""
        now = self._clock.monotonic()
        calm = now >= self._calm_at
        self._pause = _FIRST_PAUSE if calm else min(_LONGEST_PAUSE, self._pause * 2)
        self._calm_at = float("inf")
        self._retry_at = now + self._pause
        self._health = Health(False, reason)
        self._dirty.everything()

    def _trouble(self, reader: Inotify) -> str | None:
        """Return why the reader is no longer reliable, or `None` while it is."""
        try:
            self._root.ensure_same()
        except RootError as error:
            return str(error)
        if reader.was_moved:
            return f"the folder {self._root.path} was moved, removed or unmounted"
        if reader.failure or not reader.is_alive():
            return f"File watching stopped: {reader.failure or 'its thread has ended'}."
        if not self._canary.is_alive(reader):
            return "File watching stopped: no events arrive from the kernel."
        return None

    def _retry_exhausted(self, reader: Inotify) -> None:
        if reader.exhausted and self._clock.monotonic() >= self._retry_at:
            self._retry_at = self._clock.monotonic() + _LONGEST_PAUSE
            reader.cover()
        if reader.exhausted == self._health.healthy:
            self._judge(reader)
            self._dirty.everything()


class _Canary:
    """A file of our own, touched from time to time to check whether its event arrives."""

    def __init__(self, tree: Tree, clock: Clock) -> None:
        self._tree = tree
        self._clock = clock
        self._touched_at = 0.0
        self._counts_before: tuple[int, int] | None = None

    def begin(self) -> None:
        """Reset for a new reader."""
        self._counts_before = None
        self._touched_at = self._clock.monotonic() - _CANARY_SECONDS

    def is_alive(self, reader: Inotify) -> bool:
        """Touch the canary if due; return False once its event is overdue."""
        now = self._clock.monotonic()
        if self._counts_before is not None:
            canaries, handled = self._counts_before
            if reader.canaries != canaries:
                self._counts_before = None
            elif now - self._touched_at >= _CANARY_TIMEOUT:
                # A reader that has handled other events since is busy, not dead.
                self._counts_before = (canaries, reader.handled)
                self._touched_at = now
                return reader.handled != handled
        elif reader.watches_canary and now - self._touched_at >= _CANARY_SECONDS:
            self._counts_before = (reader.canaries, reader.handled)
            self._touched_at = now
            if not self._touch():
                self._counts_before = None
        return True

    def _touch(self) -> bool:
        """Touch the canary; return False if it cannot be written, so that no event is expected."""
        try:
            with self._tree.parent(f"{OWN_FOLDER}/{CANARY}", make=True) as (folder, name):
                descriptor = os.open(name, _CANARY_FLAGS, 0o600, dir_fd=folder)
            try:
                os.utime(descriptor)
            finally:
                os.close(descriptor)
        except OSError:
            return False
        return True


def _advice(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.EMFILE:
        return (
            "the kernel allows no more inotify instances; raise the limit with"
            " sysctl fs.inotify.max_user_instances=512"
        )
    return str(error)


def _too_few_watches(watched: int) -> str:
    return (
        f"the kernel allows no more inotify watches: {watched} folders are watched, the others are"
        " not; raise the limit with sysctl fs.inotify.max_user_watches=1048576"
    )
