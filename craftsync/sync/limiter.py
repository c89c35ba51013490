"""Keeps transfers under a rate, for all workers together."""

from __future__ import annotations

import threading

from craftsync.clock import Clock
from craftsync.errors import Interrupted

_LONGEST_SLEEP = 0.2
"""Seconds after which a waiting transfer looks whether it was cancelled."""


class Limiter:
    """A leaky bucket over `rate` bytes per second; `None` never waits.

    `moved` counts the bytes let through. After `cancel` every transfer that
    asks for more ends with `Interrupted`.
    """

    def __init__(self, rate: float | None, clock: Clock) -> None:
        self._rate = rate
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at = 0.0
        self._cancelled = False
        self.moved = 0

    def cancel(self) -> None:
        """End the transfers under way at their next bytes."""
        self._cancelled = True

    def take(self, size: int) -> None:
        """Return when `size` more bytes may move."""
        begin = self._reserve(size)
        while begin and not self._cancelled and (wait := begin - self._clock.monotonic()) > 0:
            self._clock.sleep(min(wait, _LONGEST_SLEEP))
        if self._cancelled:
            raise Interrupted

    def _reserve(self, size: int) -> float:
        with self._lock:
            self.moved += size
            if self._rate is None:
                return 0.0
            begin = max(self._clock.monotonic(), self._free_at)
            self._free_at = begin + size / self._rate
            return begin
