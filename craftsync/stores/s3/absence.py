"""Tells that nothing is at a path from a listing of a moment ago, where the server checks no condition.

A stat of each new path costs as much as writing it. One page of a listing
shows a thousand paths at once, so where many new paths come, a store is listed
again instead: once as many stats were needed as the listing has pages. A single
saved file costs one stat, however large the store.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

from craftsync.blocking import blocking
from craftsync.clock import Clock
from craftsync.forking import in_children

_MOST_PATHS = 20_000
"""A listing of twenty pages is cheaper than a stat of each path that is written while it serves."""
_PAGE = 1000
"""Paths that one request lists."""


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
        self._asked = 0
        """Paths that needed a stat since the listing became too old."""
        self._paths: set[str] = set()

    def _unlock(self) -> None:
        self._lock = threading.Lock()

    def listed(self, began: float, count: int) -> None:
        """Note a complete listing begun at that time of the clock, whose reader writes where it showed nothing."""
        with self._lock:
            self._paths, self._count, self._began, self._asked = set(), count, began, 0

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
        """List again, unless another thread just did or it costs more than a stat."""
        with self._lock:
            if not self._is_fresh():
                self._asked += 1
                if self._count > _MOST_PATHS or self._asked <= 1 + self._count // _PAGE:
                    return False
                now, paths = self._clock.monotonic(), self._list_paths()
                self._paths, self._count, self._began, self._asked = paths, len(paths), now, 0
            return path not in self._paths
