"""Tells which paths of the root may have changed. Hints only: they never decide anything.

The one file that knows watchdog. Opened and closed-without-write events are
filtered out, or craftsync's own hashing would wake it for ever.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileAttribEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from craftsync.core.model import OWN_FOLDER

_EVENTS: list[type[FileSystemEvent]] = [
    FileAttribEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
]
_MOST_PATHS = 100_000
"""More dirty paths than this are cheaper to find by a scan than to remember."""


class DirtyPaths:
    """A bounded set of paths that may have changed; past the bound it means everything.

    Any thread may add; one thread waits and takes.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._paths: set[str] = set()
        self._everything = False
        self._first_at = 0.0
        self._last_at = 0.0
        self._woken = False

    def add(self, path: str) -> None:
        with self._changed:
            now = self._monotonic()
            if not self._paths and not self._everything:
                self._first_at = now
            self._last_at = now
            if len(self._paths) >= _MOST_PATHS:
                self._everything = True
                self._paths.clear()
            elif not self._everything:
                self._paths.add(path)
            self._changed.notify()

    def wake(self) -> None:
        """Make `wait` return now."""
        with self._changed:
            self._woken = True
            self._changed.notify()

    def wait(self, *, settle: float, longest: float, timeout: float) -> None:
        """Return once paths have been quiet for `settle` seconds, or dirty for `longest`.

        Also returns after `timeout` seconds, and after `wake`.
        """
        with self._changed:
            end = self._monotonic() + timeout
            while not self._woken:
                now = self._monotonic()
                due = end
                if self._paths or self._everything:
                    due = min(end, self._last_at + settle, self._first_at + longest)
                if due <= now:
                    return
                self._changed.wait(due - now)
            self._woken = False

    def take(self) -> set[str] | None:
        """Return the paths collected since the last call; `None` means everything."""
        with self._changed:
            paths, everything = self._paths, self._everything
            self._paths, self._everything = set(), False
            return None if everything else paths


class Watcher:
    """Watches a root and marks dirty paths until stopped."""

    def __init__(self, root: str, dirty: DirtyPaths) -> None:
        self._observer = Observer()
        self._observer.schedule(_Marker(root, dirty), root, recursive=True, event_filter=_EVENTS)

    def start(self) -> None:
        """Begin to watch; raises OSError when the kernel allows no more watches."""
        self._observer.start()

    @property
    def is_alive(self) -> bool:
        return self._observer.is_alive()

    def stop(self) -> None:
        if self._observer.is_alive():
            self._observer.stop()
            self._observer.join()


class _Marker(FileSystemEventHandler):
    """Turns events into relative paths. Both ends of a move are dirty; a folder means all below it."""

    def __init__(self, root: str, dirty: DirtyPaths) -> None:
        self._prefix = root.rstrip("/") + "/"
        self._dirty = dirty

    def on_any_event(self, event: FileSystemEvent) -> None:
        for path in (event.src_path, event.dest_path):
            self._mark(os.fsdecode(path))

    def _mark(self, path: str) -> None:
        if not path.startswith(self._prefix):
            return
        relative = path[len(self._prefix) :]
        if relative and relative.partition("/")[0] != OWN_FOLDER:
            self._dirty.add(relative)
