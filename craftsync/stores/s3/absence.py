"""Tells that nothing is at a path from a listing of a moment ago, where the server checks no condition.

Looking at each new path costs as much as writing it. One page of a listing
shows a thousand paths at once, so a small store is listed again instead; in a
large one each path is looked at.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

from craftsync.blocking import blocking
from craftsync.clock import Clock
from craftsync.forking import in_children

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
        self._unlock()
        in_children(self, Absence._unlock)
        self._began: float | None = None
        self._count = 0
        self._paths: set[str] = set()

    def _unlock(self) -> None:
        self._lock = threading.Lock()

    def listed(self, began: float, count: int) -> None:
        """Note a complete listing begun at that time of the clock, whose reader writes where it showed nothing."""
        with self._lock:
            self._paths, self._count, self._began = set(), count, began

    def is_sure(self, path: str) -> bool:
        """Tell whether nothing is at a path; False when only a look can tell."""
        if self._began is None:
            return False
        if self._is_fresh():
            return path not in self._paths
        return blocking(partial(self._is_sure_after_listing, path))

    def _is_fresh(self) -> bool:
        return self._began is not None and self._clock.monotonic() - self._began <= self._seconds

    def _is_sure_after_listing(self, path: str) -> bool:
        """List again, unless another thread just did or the store is too large for it."""
        with self._lock:
            if not self._is_fresh():
                if self._count > _MOST_PATHS:
                    return False
                now, paths = self._clock.monotonic(), self._list_paths()
                self._paths, self._count, self._began = paths, len(paths), now
            return path not in self._paths
