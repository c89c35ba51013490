"""Tells that nothing is at a path from a listing of a moment ago, where the server checks no condition.

Looking at each new path costs as much as writing it. One page of a listing
shows a thousand paths at once, so a small store is listed again instead; in a
large one each path is looked at.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from craftsync.clock import Clock

_MOST_PATHS = 20_000
"""A listing of twenty pages is cheaper than looking at the paths that are written while it serves."""


class Absence:
    """What the last complete listing did not show. May be used from several threads at once.

    A listing serves for `seconds` after its begin: that is how long another
    client's new object may go unseen and be overwritten.
    """

    def __init__(self, list_paths: Callable[[], set[str]], clock: Clock, seconds: float) -> None:
        self._list_paths = list_paths
        self._clock = clock
        self._seconds = seconds
        self._lock = threading.Lock()
        self._began: float | None = None
        self._count = 0
        self._paths: set[str] = set()

    def listed(self, began: float, count: int) -> None:
        """Note a complete listing begun at that time of the clock, whose reader writes where it showed nothing."""
        with self._lock:
            self._began, self._count, self._paths = began, count, set()

    def is_sure(self, path: str) -> bool:
        """Tell whether nothing is at a path; False when only a look can tell."""
        with self._lock:
            if self._began is None:
                return False
            now = self._clock.monotonic()
            if now - self._began > self._seconds:
                if self._count > _MOST_PATHS:
                    return False
                self._began, self._paths = now, self._list_paths()
                self._count = len(self._paths)
            return path not in self._paths
