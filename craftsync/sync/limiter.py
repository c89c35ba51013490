"""Keeps transfers under a rate, for all workers together, and counts what has moved and what was hashed."""

from __future__ import annotations

import threading

from craftsync.clock import Clock
from craftsync.errors import Interrupted
from craftsync.pace import PIECE
from craftsync.sync.report import Rate

_LONGEST_SLEEP = 0.2
"""Seconds after which a waiting transfer looks whether it was cancelled, or the rate has changed."""
_PIECE_SECONDS = 0.25
"""What moves at once takes no longer: servers hang up on connections that are silent for some twenty seconds."""
_SMALLEST_PIECE = 1024


class Limiter:
    """A leaky bucket over `rate` bytes per second; `None` never waits. Keeps `pace.Pace`.

    A rate that is a function is asked again and again, so it may change while
    transfers wait. `moved` counts the bytes that have moved, which may be fewer
    than were let through. After `cancel` every transfer that asks for more ends
    with `Interrupted`.
    """

    def __init__(self, rate: Rate, clock: Clock) -> None:
        self._rate = rate
        self._clock = clock
        self._lock = threading.Lock()
        self._taken = 0
        self._flowed = 0.0
        self._flowed_at = clock.monotonic()
        self._cancelled = False
        self.moved = 0

    @property
    def piece(self) -> int:
        rate = self._rate_now()
        if rate is None:
            return PIECE
        return max(_SMALLEST_PIECE, min(PIECE, int(rate * _PIECE_SECONDS)))

    def cancel(self) -> None:
        """End the transfers under way at their next bytes."""
        self._cancelled = True

    def take(self, size: int) -> None:
        """Return when `size` more bytes may move."""
        with self._lock:
            self._flow()
            turn, self._taken = self._taken, self._taken + size
        while not self._cancelled and (wait := self._wait(turn)) > 0:
            self._clock.sleep(min(wait, _LONGEST_SLEEP))
        if self._cancelled:
            raise Interrupted

    def count(self, size: int) -> None:
        with self._lock:
            self.moved += size

    def _wait(self, turn: int) -> float:
        """Return the seconds until everything before this byte has flowed, at the rate of now."""
        with self._lock:
            rate = self._flow()
            # Less than a byte is rounding, and could be too short to wait for.
            return 0.0 if rate is None or turn - self._flowed < 1 else (turn - self._flowed) / rate

    def _flow(self) -> float | None:
        """Let flow what the rate allows since the last look, and return the rate."""
        now = self._clock.monotonic()
        rate = self._rate_now()
        seconds, self._flowed_at = now - self._flowed_at, now
        self._flowed = (
            self._taken if rate is None else min(self._taken, self._flowed + seconds * rate)
        )
        return rate

    def _rate_now(self) -> float | None:
        return self._rate(self._clock.now_ns()) if callable(self._rate) else self._rate


class Hashing:
    """Counts what is read to find out a content and not to move it; `size` is bytes.

    After `cancel` whoever reads on ends with `Interrupted`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self.files = 0
        self.size = 0

    def cancel(self) -> None:
        self._cancelled = True

    def file(self) -> None:
        """Count a file whose content is looked into."""
        with self._lock:
            self.files += 1

    def read(self, size: int) -> None:
        """Count bytes that were read."""
        if self._cancelled:
            raise Interrupted
        with self._lock:
            self.size += size
