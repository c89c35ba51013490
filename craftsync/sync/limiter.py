"""Keeps transfers under a rate, for all workers together."""

from __future__ import annotations

import threading

from craftsync.clock import Clock


class Limiter:
    """A leaky bucket over `rate` bytes per second; `None` never waits. `moved` counts the bytes let through."""

    def __init__(self, rate: float | None, clock: Clock) -> None:
        self._rate = rate
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at = 0.0
        self.moved = 0

    def take(self, size: int) -> None:
        """Return when `size` more bytes may move."""
        with self._lock:
            self.moved += size
            if self._rate is None:
                return
            now = self._clock.monotonic()
            begin = max(now, self._free_at)
            self._free_at = begin + size / self._rate
        if begin > now:
            self._clock.sleep(begin - now)
