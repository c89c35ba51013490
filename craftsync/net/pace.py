"""How fast a run transfers: rate limits, bytes counted as they move, and concurrency.

Concurrency adapts to the host. With 30 ms between client and store, 16 transfers
leave both sides idle; beside the store, 100 only wait for each other. The number
doubles while more transfers finish per second and the client has time left,
grows slowly after that, and halves when the store refuses requests.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from time import monotonic
from typing import Protocol, Self

from craftsync import limits
from craftsync.clock import Clock
from craftsync.errors import Interrupted
from craftsync.net.waiting import after_fork

PIECE = 256 * 1024
"""Bytes moved and counted at once; with smaller pieces the bookkeeping costs more than the sending."""


class Pace(Protocol):
    """A rate limit and a byte counter for transfers. Thread-safe."""

    @property
    def piece(self) -> int:
        """Bytes to move at once: few under a low rate, so that no connection falls silent for long."""
        ...

    def take(self, size: int) -> None:
        """Block until `size` more bytes may move."""
        ...

    def count(self, size: int) -> None:
        """Count bytes that have moved; a negative number subtracts those of a failed attempt."""
        ...


class _Unpaced:
    """No limit and no counter."""

    piece = PIECE

    def take(self, size: int) -> None:
        pass

    def count(self, size: int) -> None:
        pass


UNPACED: Pace = _Unpaced()


class Attempt:
    """One attempt at a transfer, itself a `Pace`: its bytes are subtracted when it fails.

    It fails when its `with` block raises, or by `undo`.
    """

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
        """Subtract what this attempt counted."""
        self.count(-self._moved)

    def pieces(self, content: Iterable[bytes]) -> Iterator[memoryview]:
        """Yield content in pieces as the limit allows; each is counted when the next is requested."""
        for block in content:
            left = memoryview(block)
            while left:
                piece = left[: self.piece]
                self.take(len(piece))
                yield piece
                self.count(len(piece))
                left = left[len(piece) :]


Rate = float | Callable[[int], float | None] | None
"""Bytes per second, or a function that returns them for a time (nanoseconds since the epoch); `None` is no limit."""

_MAX_SLEEP = 0.2
"""Seconds between a waiting transfer's checks for a cancel or a changed rate."""
_PIECE_SECONDS = 0.25
"""The longest one piece may take: servers close connections that are silent for some twenty seconds."""
_MIN_PIECE = 1024
_SMALL = 1 << 20
"""Transfers up to this many bytes never wait behind larger ones."""


class _Queue:
    """Bytes queued so far, and how many of them were allowed through."""

    def __init__(self) -> None:
        self.queued = 0
        self.sent = 0.0

    @property
    def waiting(self) -> float:
        return self.queued - self.sent


class Limiter:
    """A leaky bucket over `rate` bytes per second; `None` never waits. Implements `Pace`.

    Small transfers (`pace_for`) wait only for each other. While small and large
    ones wait, each kind gets half of the rate, so that neither times out.

    A rate that is a function may change while transfers wait. `moved` is the
    number of bytes moved, which may be fewer than were allowed. After `cancel`,
    `take` raises `Interrupted`.
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
        rate = None if self._rate is None else self._rate_now()
        if rate is None:
            return PIECE
        return max(_MIN_PIECE, min(PIECE, int(rate * _PIECE_SECONDS)))

    def cancel(self) -> None:
        """Make each transfer raise `Interrupted` at its next piece."""
        self._cancelled = True

    def pace_for(self, size: int) -> Pace:
        """Return the pace for a transfer of `size` bytes."""
        return self._pace_of_small if size <= _SMALL else self

    def take(self, size: int, *, small: bool = False) -> None:
        if self._rate is None and not self._cancelled:
            return  # The common case, once for each file: skip the lock.
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
        """Return the seconds until every byte queued before this one is sent, at the current rate."""
        with self._lock:
            rate = self._advance()
            before = turn - line.sent
            # Less than a byte is a rounding error.
            return 0.0 if rate is None or before < 1 else before / rate

    def _advance(self) -> float | None:
        """Send what the rate allowed since the last call, and return the current rate."""
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
        return self._rate(self._clock.now_ns()) if callable(self._rate) else self._rate


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
    """Also calls `heed` before each read, which may raise to stop."""

    def __init__(self, heed: Callable[[], None]) -> None:
        super().__init__()
        self._heed = heed

    def read(self, size: int) -> None:
        self._heed()
        super().read(size)


AUTO = 0
"""Adapt the number of transfers to the store."""
FIRST = 16
"""The number before anything was measured, and the fixed number for stores without a network."""
MOST = 256
_MIN = 4
_MIN_SAMPLE_SECONDS = 0.05
"""Shorter samples are noise."""
_PROBE_SECONDS = 5.0
_MAX_PROBE_SECONDS = 60.0
_FIRST_FACTOR, _FIRST_MIN_GAIN = 2.0, 1.15
"""Doubling must raise the rate at least this much to be kept."""
_PROBE_FACTOR, _PROBE_MIN_GAIN = 1.25, 1.05
_BUSY_SHARE = 0.1
"""A client that is idle less than this share of the time gains nothing from more transfers."""


class Concurrency(Protocol):
    """Limits how many transfers one pool runs at once, from the measurements that the pool reports."""

    workers: int
    """Threads for long transfers."""

    @property
    def limit(self) -> int:
        """How many short transfers may be under way now."""
        ...

    def ended(self, *, more: bool) -> None:
        """Record that a short transfer ended; `more` is whether others are queued."""
        ...

    def waited(self, seconds: float) -> None:
        """Record seconds in which all transfers waited for the store."""
        ...

    def close(self) -> None:
        """Return this pool's share to the others."""
        ...


class Fixed:
    """Always the same number."""

    def __init__(self, limit: int) -> None:
        self.limit = self.workers = limit

    def ended(self, *, more: bool) -> None:
        pass

    def waited(self, seconds: float) -> None:
        pass

    def close(self) -> None:
        pass


class Adaptive:
    """Finds the best number of transfers for all pools that use the same hosts. Thread-safe.

    `most` returns the upper bound, which changes with the free file descriptors.
    """

    def __init__(self, now: Callable[[], float], most: Callable[[], int]) -> None:
        self._now = now
        self._most = most
        self._limit = FIRST
        self._pools = 0
        self._before_raise: tuple[int, float] | None = None
        """The limit before the last raise, and its transfers per second, which the raise must exceed."""
        self._factor, self._min_gain = _FIRST_FACTOR, _FIRST_MIN_GAIN
        self._probe_after = _PROBE_SECONDS
        self._probe_at = 0.0
        self._was_throttled = False
        self._lacked_work = False
        self._unlock()
        after_fork(self, Adaptive._unlock)
        self.share = FIRST
        """The limit of one pool."""
        self._warming_up = True
        self._start_sample()

    def _unlock(self) -> None:
        self._lock = threading.Lock()

    def join(self) -> None:
        with self._lock:
            self._pools += 1
            self._divide()

    def leave(self) -> None:
        with self._lock:
            self._pools -= 1
            self._divide()

    @property
    def limit(self) -> int:
        most = self._most()
        return self._limit if self._limit <= most else max(1, most)

    def _divide(self) -> int:
        """Update `share`, which pools read several times per transfer, and return the limit."""
        limit = self.limit
        self.share = limit if self._pools <= 1 else -(-limit // self._pools)
        return limit

    def ended(self, *, more: bool) -> None:
        with self._lock:
            self._lacked_work = self._lacked_work or not more
            self._count += 1
            if self._count < self._limit and self._count % FIRST:
                return  # Recomputing the bound for each transfer would cost too much.
            if self._count < self._divide():
                return
            seconds = self._now() - self._began
            if self._warming_up:
                # Transfers that ended until now began under another limit, or had to connect first.
                self._warming_up = False
                self._start_sample()
            elif seconds >= _MIN_SAMPLE_SECONDS:
                rate, idle = self._count / seconds, self._idle / (seconds * max(self._pools, 1))
                if not self._lacked_work:
                    self._adjust(rate, idle)
                self._was_throttled = False
                self._start_sample()

    def waited(self, seconds: float) -> None:
        with self._lock:
            self._idle += seconds

    def throttled(self) -> None:
        """Halve the limit, once per sample however many requests were refused."""
        with self._lock:
            if not self._was_throttled:
                self._was_throttled = True
                self._set(max(_MIN, self.limit // 2))
                self._hold()

    def _start_sample(self) -> None:
        self._began, self._count, self._idle, self._lacked_work = self._now(), 0, 0.0, False

    def _set(self, limit: int) -> None:
        self._limit = limit
        self._divide()
        self._warming_up = True
        self._start_sample()

    def _adjust(self, rate: float, idle: float) -> None:
        """Set the limit from a sample: transfers per second, and the idle share of the time."""
        if self._before_raise is None:
            if self._now() < self._probe_at:
                return
        elif rate < self._before_raise[1] * self._min_gain:
            self._set(self._before_raise[0])
            self._hold()
            return
        else:
            self._probe_after = _PROBE_SECONDS
        if idle < _BUSY_SHARE or self.limit >= self._most():
            self._hold()
            return
        self._before_raise = self.limit, rate
        self._set(min(int(self.limit * self._factor) + 1, self._most()))

    def _hold(self) -> None:
        """Keep the limit for a while, longer after each raise that gained nothing."""
        self._before_raise, self._factor, self._min_gain = None, _PROBE_FACTOR, _PROBE_MIN_GAIN
        self._probe_at = self._now() + self._probe_after
        self._probe_after = min(2 * self._probe_after, _MAX_PROBE_SECONDS)


class Shared:
    """One pool's share of an `Adaptive` limit."""

    workers = FIRST

    def __init__(self, adaptive: Adaptive, refusals: Callable[[], int]) -> None:
        """`refusals` returns how many requests the stores of this pool refused or left unanswered so far."""
        self._adaptive = adaptive
        self._refusals = refusals
        self._refused = refusals()
        adaptive.join()

    @property
    def limit(self) -> int:
        return self._adaptive.share

    def ended(self, *, more: bool) -> None:
        if (refused := self._refusals()) != self._refused:
            self._refused = refused
            self._adaptive.throttled()
        self._adaptive.ended(more=more)

    def waited(self, seconds: float) -> None:
        self._adaptive.waited(seconds)

    def close(self) -> None:
        self._adaptive.leave()


_adaptive: dict[tuple[str, ...], Adaptive] = {}
"""By hosts; kept for the process, so that a run starts from what earlier runs learned."""


def concurrency(transfers: int, hosts: tuple[str, ...], failures: Callable[[], int]) -> Concurrency:
    """Return a fixed limit of `transfers`, or for `AUTO` the adaptive one that all runs to these hosts share.

    `failures` returns how many requests of the run were refused so far.
    """
    if transfers != AUTO or not hosts:
        return Fixed(transfers or FIRST)
    adaptive = _adaptive.get(hosts) or _adaptive.setdefault(
        hosts, Adaptive(monotonic, _transfer_limit)
    )
    return Shared(adaptive, failures)


def known_limit(hosts: tuple[str, ...]) -> int | None:
    """Return the adaptive limit for these hosts; `None` when none was measured."""
    adaptive = _adaptive.get(hosts)
    return None if adaptive is None else adaptive.limit


def _transfer_limit() -> int:
    return limits.steps_at_once(MOST)
