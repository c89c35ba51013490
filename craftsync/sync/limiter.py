"""Keeps transfers under a rate, for all workers together, and counts what has moved and what was hashed."""

from __future__ import annotations

import threading
from collections.abc import Callable

from craftsync.clock import Clock
from craftsync.errors import Interrupted
from craftsync.pace import PIECE, Pace
from craftsync.sync.report import Rate

_LONGEST_SLEEP = 0.2
"""Seconds after which a waiting transfer looks whether it was cancelled, or the rate has changed."""
_PIECE_SECONDS = 0.25
"""What moves at once takes no longer: servers hang up on connections that are silent for some twenty seconds."""
_SMALLEST_PIECE = 1024
_SMALL = 1 << 20
"""Bytes up to which a transfer waits behind none that is larger."""


class _Line:
    """Bytes that wait for each other: `taken` may move or wait for it, of which `flowed` are through."""

    def __init__(self) -> None:
        self.taken = 0
        self.flowed = 0.0

    @property
    def waiting(self) -> float:
        return self.taken - self.flowed


class Limiter:
    """A leaky bucket over `rate` bytes per second; `None` never waits. Keeps `pace.Pace`.

    Small transfers (`pace_for`) wait only for each other. While they and larger
    ones wait, both have half of the rate: none is silent until it is cut off.

    A rate that is a function is asked again and again, so it may change while
    transfers wait. `moved` counts the bytes that have moved, which may be fewer
    than were let through. After `cancel` every transfer that asks for more ends
    with `Interrupted`.
    """

    def __init__(self, rate: Rate, clock: Clock) -> None:
        self._rate = rate
        self._clock = clock
        self._lock = threading.Lock()
        self._small, self._rest = _Line(), _Line()
        self._pace_of_small = _SmallPace(self)
        self._flowed_at = clock.monotonic()
        self._cancelled = False
        self.moved = 0

    @property
    def piece(self) -> int:
        rate = None if self._rate is None else self._rate_now()
        if rate is None:
            return PIECE
        return max(_SMALLEST_PIECE, min(PIECE, int(rate * _PIECE_SECONDS)))

    def cancel(self) -> None:
        """End the transfers under way at their next bytes."""
        self._cancelled = True

    def pace_for(self, size: int) -> Pace:
        """Return what a transfer of so many bytes has to keep to."""
        return self._pace_of_small if size <= _SMALL else self

    def take(self, size: int, *, small: bool = False) -> None:
        """Return when `size` more bytes may move."""
        if self._rate is None and not self._cancelled:
            return  # Nothing to keep books of, and each file asks.
        line = self._small if small else self._rest
        with self._lock:
            self._flow()
            turn, line.taken = line.taken, line.taken + size
        while not self._cancelled and (wait := self._wait(line, turn)) > 0:
            self._clock.sleep(min(wait, _LONGEST_SLEEP))
        if self._cancelled:
            raise Interrupted

    def count(self, size: int) -> None:
        with self._lock:
            self.moved += size

    def _wait(self, line: _Line, turn: int) -> float:
        """Return the seconds until everything before this byte has flowed, at the rate of now."""
        with self._lock:
            rate = self._flow()
            before = turn - line.flowed
            # Less than a byte is rounding, and could be too short to wait for.
            return 0.0 if rate is None or before < 1 else before / rate

    def _flow(self) -> float | None:
        """Let flow what the rate allows since the last look, and return the rate."""
        now = self._clock.monotonic()
        rate = self._rate_now()
        seconds, self._flowed_at = now - self._flowed_at, now
        small, rest = self._small, self._rest
        if rate is None:
            small.flowed, rest.flowed = small.taken, rest.taken
        else:
            left = seconds * rate
            flows = min(small.waiting, max(left / 2, left - rest.waiting))
            small.flowed += flows
            rest.flowed += min(rest.waiting, left - flows)
        return rate

    def _rate_now(self) -> float | None:
        return self._rate(self._clock.now_ns()) if callable(self._rate) else self._rate


class _SmallPace:
    """What small transfers keep to at a limiter."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter

    @property
    def piece(self) -> int:
        return self._limiter.piece

    def take(self, size: int) -> None:
        self._limiter.take(size, small=True)

    def count(self, size: int) -> None:
        self._limiter.count(size)


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


class Heedful(Hashing):
    """Calls `heed` whenever bytes were read; it may raise to stop."""

    def __init__(self, heed: Callable[[], None]) -> None:
        super().__init__()
        self._heed = heed

    def read(self, size: int) -> None:
        self._heed()
        super().read(size)
