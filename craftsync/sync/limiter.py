"""Keeps transfers under a rate, for all workers together."""

from __future__ import annotations

import threading

from craftsync.clock import Clock
from craftsync.errors import Interrupted
from craftsync.sync.report import Rate

_LONGEST_SLEEP = 0.2
"""Seconds after which a waiting transfer looks whether it was cancelled, or the rate has changed."""


class Limiter:
    """A leaky bucket over `rate` bytes per second; `None` never waits.

    A rate that is a function is asked again and again, so it may change while
    transfers wait. `moved` counts the bytes let through. After `cancel` every
    transfer that asks for more ends with `Interrupted`.
    """

    def __init__(self, rate: Rate, clock: Clock) -> None:
        self._rate = rate
        self._clock = clock
        self._lock = threading.Lock()
        self._flowed = 0.0
        self._flowed_at = clock.monotonic()
        self._cancelled = False
        self.moved = 0

    def cancel(self) -> None:
        """End the transfers under way at their next bytes."""
        self._cancelled = True

    def take(self, size: int) -> None:
        """Return when `size` more bytes may move."""
        with self._lock:
            self._flow()
            turn, self.moved = self.moved, self.moved + size
        while not self._cancelled and (wait := self._wait(turn)) > 0:
            self._clock.sleep(min(wait, _LONGEST_SLEEP))
        if self._cancelled:
            raise Interrupted

    def _wait(self, turn: int) -> float:
        """Return the seconds until everything before this byte has flowed, at the rate of now."""
        with self._lock:
            rate = self._flow()
            # Less than a byte is rounding, and could be too short to wait for.
            return 0.0 if rate is None or turn - self._flowed < 1 else (turn - self._flowed) / rate

    def _flow(self) -> float | None:
        """Let flow what the rate allows since the last look, and return the rate."""
        now = self._clock.monotonic()
        rate = self._rate(self._clock.now_ns()) if callable(self._rate) else self._rate
        seconds, self._flowed_at = now - self._flowed_at, now
        self._flowed = (
            self.moved if rate is None else min(self.moved, self._flowed + seconds * rate)
        )
        return rate
