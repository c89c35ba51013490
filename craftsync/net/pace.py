"""Rate limits, and counters of the bytes that a run moves and hashes."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Protocol, Self

from craftsync.clock import Clock
from craftsync.errors import Interrupted

PIECE = 256 * 1024
"""Bytes moved and counted at once. With smaller pieces, counting would cost more than sending."""


class Pace(Protocol):
    """A rate limit and a byte counter for transfers. Thread-safe."""

    @property
    def piece(self) -> int:
        """Bytes to move at once: few under a low rate, so that no connection is silent for long."""
        ...

    def take(self, size: int) -> None:
        """Block until `size` more bytes may move."""
        ...

    def count(self, size: int) -> None:
        """Count bytes that have moved. A negative number subtracts the bytes of a failed attempt."""
        ...


class _Unpaced:
    """A pace without limit and counter."""

    piece = PIECE

    def take(self, size: int) -> None:
        pass

    def count(self, size: int) -> None:
        pass


UNPACED: Pace = _Unpaced()


class Attempt:
    """One attempt at a transfer, itself a `Pace`. If its block raises, its bytes are subtracted again."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._lock = threading.Lock()
        self._moved = 0
        self.take = pace.take

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.undo()

    @property
    def piece(self) -> int:
        return self._pace.piece

    def count(self, size: int) -> None:
        if size:
            with self._lock:
                self._moved += size
            self._pace.count(size)

    def undo(self) -> None:
        """Subtract the bytes that this attempt has counted."""
        self.count(-self._moved)

    def pieces(self, content: Iterable[bytes | memoryview]) -> Iterator[memoryview]:
        """Yield content in pieces as the limit allows. Each is counted when the next is requested."""
        for block in content:
            left = memoryview(block)
            while left:
                piece = left[: self.piece]
                self.take(len(piece))
                yield piece
                self.count(len(piece))
                left = left[len(piece) :]


Rate = float | Callable[[int], float | None] | None
"""Bytes per second, or a function that returns them for a time in ns since the epoch; `None` is no limit."""

_MAX_SLEEP = 0.2
"""Seconds between a waiting transfer's checks for a cancel or a changed rate."""
_PIECE_SECONDS = 0.25
"""The longest that one piece may take. Servers close connections that are silent for some twenty seconds."""
_TURN_SECONDS = 5.0
"""The longest that a transfer waits between two of its pieces, while all others send one."""
_MIN_PIECE = 1024
_SMALL = 1 << 20
"""Transfers up to this many bytes never wait behind larger ones."""


def _rate_at(rate: Rate, now_ns: Callable[[], int]) -> float | None:
    return rate(now_ns()) if callable(rate) else rate


def _piece_at(rate: float | None) -> int:
    return PIECE if rate is None else max(_MIN_PIECE, min(PIECE, int(rate * _PIECE_SECONDS)))


def in_turn(rates: Sequence[Rate], now_ns: Callable[[], int]) -> Callable[[], int] | None:
    """Return a function: how many transfers may share the lowest of these rates, so that each soon has a turn.

    `None` if no rate is limited.
    """
    limited = [rate for rate in rates if rate is not None]

    def sharing() -> int:
        now = [rate for one in limited if (rate := _rate_at(one, now_ns)) is not None]
        return min(
            (int(_TURN_SECONDS * rate / _piece_at(rate)) for rate in now), default=sys.maxsize
        )

    return sharing if limited else None


class _Queue:
    """Counts bytes that were queued, and how many of them the rate has let through."""

    def __init__(self) -> None:
        self.queued = 0
        self.sent = 0.0

    @property
    def waiting(self) -> float:
        return self.queued - self.sent


class Limiter:
    """A leaky bucket of `rate` bytes per second; `None` never waits. Implements `Pace`.

    Small transfers (`pace_for`) wait only for each other. While both small and large ones wait,
    each kind gets half of the rate, so that neither times out. A rate that is a function may change
    while transfers wait. `moved` is the number of bytes moved, which may be fewer than were
    allowed. After `cancel`, `take` raises `Interrupted`.
    """

    def __init__(self, rate: Rate, clock: Clock) -> None:
        self._rate = rate
        self._clock = clock
        self._lock = threading.Lock()
        self._small, self._rest = _Queue(), _Queue()
        self._pace_of_small = _SmallPace(self)
        self._advanced_at = clock.monotonic()
        self._cancelled = False
        self.moved = 0

    @property
    def piece(self) -> int:
        return PIECE if self._rate is None else _piece_at(self._rate_now())

    def cancel(self) -> None:
        """Make each transfer raise `Interrupted` at its next piece."""
        self._cancelled = True

    def pace_for(self, size: int) -> Pace:
        """Return the pace for a transfer of `size` bytes."""
        return self._pace_of_small if size <= _SMALL else self

    def take(self, size: int, *, small: bool = False) -> None:
        if self._rate is None and not self._cancelled:
            return  # The usual case, once for each file: skip the lock.
        line = self._small if small else self._rest
        with self._lock:
            self._advance()
            turn, line.queued = line.queued, line.queued + size
        while not self._cancelled and (wait := self._seconds_to_wait(line, turn)) > 0:
            self._clock.sleep(min(wait, _MAX_SLEEP))
        if self._cancelled:
            raise Interrupted

    def count(self, size: int) -> None:
        with self._lock:
            self.moved += size

    def _seconds_to_wait(self, line: _Queue, turn: int) -> float:
        """Return the seconds until every byte queued before `turn` is sent, at the current rate."""
        with self._lock:
            rate = self._advance()
            before = turn - line.sent
            # Less than one byte is a rounding error.
            return 0.0 if rate is None or before < 1 else before / rate

    def _advance(self) -> float | None:
        """Let through what the rate allowed since the last call, and return the current rate."""
        now = self._clock.monotonic()
        rate = self._rate_now()
        seconds, self._advanced_at = now - self._advanced_at, now
        small, rest = self._small, self._rest
        if rate is None:
            small.sent, rest.sent = small.queued, rest.queued
        else:
            left = seconds * rate
            flows = min(small.waiting, max(left / 2, left - rest.waiting))
            small.sent += flows
            rest.sent += min(rest.waiting, left - flows)
        return rate

    def _rate_now(self) -> float | None:
        return _rate_at(self._rate, self._clock.now_ns)


class _SmallPace:
    """The pace of small transfers under a limiter."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self.take = partial(limiter.take, small=True)
        self.count = limiter.count

    @property
    def piece(self) -> int:
        return self._limiter.piece


class Hashing:
    """Counts files and bytes that are read only to hash them. Thread-safe.

    After `cancel`, `read` raises `Interrupted`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self.files = 0
        self.size = 0

    def cancel(self) -> None:
        self._cancelled = True

    def file(self) -> None:
        """Count a file."""
        with self._lock:
            self.files += 1

    def read(self, size: int) -> None:
        """Count bytes."""
        if self._cancelled:
            raise Interrupted
        with self._lock:
            self.size += size


class InterruptibleHashing(Hashing):
    """As `Hashing`, and calls `heed` before each read, which may raise to stop."""

    def __init__(self, heed: Callable[[], None]) -> None:
        super().__init__()
        self._heed = heed

    def read(self, size: int) -> None:
        self._heed()
        super().read(size)
