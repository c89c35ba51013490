"""Decides how many transfers run at once, by measuring them (`transfers: auto`).

At 80 ms from the store, 64 transfers leave both sides idle; close to the store, more than 64 only
wait for each other. So a run starts with 64. While that speeds transfers up and leaves the client
idle time, each transfer that ends lets two begin, which doubles the number in each round trip.
After that the number grows slowly. It halves when the store refuses requests.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from craftsync import limits
from craftsync.net.waiting import after_fork

AUTO = 0
"""Adapt the number of transfers to the store."""
FIRST = 16
"""The number for stores without a network and for long transfers, and the least under a rate limit."""
START = 64
"""The number before anything is measured. Close to the store it stays."""
MOST = 256
_MIN = 4
_MIN_SAMPLE_SECONDS = 0.05
"""Shorter samples are only noise."""
_PROBE_SECONDS = 5.0
_MAX_PROBE_SECONDS = 60.0
_DOUBLING_MIN_GAIN = 1.15
"""A doubling must raise the rate at least this much to be kept."""
_PROBE_FACTOR, _PROBE_MIN_GAIN = 1.25, 1.05
_BUSY_SHARE = 0.1
"""A client that is idle for less than this share of the time gains nothing from more transfers."""


class Concurrency(Protocol):
    """Limits how many transfers one pool runs at once, from the measurements that the pool reports."""

    workers: int
    """Threads for long transfers."""

    @property
    def limit(self) -> int:
        """The number of short transfers that may be under way now."""
        ...

    def ended(self, *, more: bool) -> None:
        """Record that a short transfer ended. `more`: others are queued."""
        ...

    def waited(self, seconds: float) -> None:
        """Record seconds during which all transfers waited for the store."""
        ...

    def close(self) -> None:
        """Give this pool's share back to the others."""
        ...


class Fixed:
    """A constant limit."""

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
        self._limit = START
        self._pools = 0
        self._round = START
        """While the limit doubles: the limit at the start of a round, which lasts for as many transfers."""
        self._is_doubling = True
        self._before_raise: tuple[int, float] | None = None
        """The limit before the last raise, and its transfers per second, which the new limit must exceed."""
        self._probe_after = _PROBE_SECONDS
        self._probe_at = 0.0
        self._was_throttled = False
        self._lacked_work = False
        self._unlock()
        after_fork(self, Adaptive._unlock)
        self.share = START
        """The limit of one pool."""
        self._warming_up = True
        self._start_sample()

    def _unlock(self) -> None:
        self._lock = threading.Lock()

    def join(self) -> None:
        with self._lock:
            self._pools += 1
            if self._pools == 1:
                self._start_sample()  # The time since the last run must not count.
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
            if self._is_doubling:
                self._double(more=more)
                return
            if self._count < self._limit and self._count % FIRST:
                return  # Computing the bound for each transfer would cost too much.
            if self._count < self._divide():
                return
            seconds = self._now() - self._began
            if self._warming_up:
                # The transfers that ended so far began under another limit, or had to connect.
                self._warming_up = False
                self._start_sample()
            elif seconds >= _MIN_SAMPLE_SECONDS:
                rate, idle = self._count / seconds, self._idle / (seconds * max(self._pools, 1))
                if not self._lacked_work:
                    self._adjust(rate, idle)
                self._was_throttled = False
                self._start_sample()

    def _double(self, *, more: bool) -> None:
        """Raise the limit by one for a transfer that ended, until a whole round shows that it gains nothing."""
        most = self._most()
        if more and self._limit < most:
            self._limit += 1
            self._divide()
        if self._count < self._round:
            return
        seconds, round_, before = self._now() - self._began, self._round, self._before_raise
        self._round, self._before_raise = self._limit, None
        if self._lacked_work or seconds <= 0:
            self._start_sample()
            return
        rate, idle = self._count / seconds, self._idle / (seconds * max(self._pools, 1))
        if before is not None and rate < before[1] * _DOUBLING_MIN_GAIN:
            self._set(before[0])
            self._hold()
        elif before is None and idle < _BUSY_SHARE:
            self._set(round_)
            self._hold()
        elif self._limit >= most:
            self._hold()
        else:
            self._before_raise = round_, rate
        self._was_throttled = False
        self._start_sample()

    def waited(self, seconds: float) -> None:
        with self._lock:
            self._idle += seconds

    def throttled(self) -> None:
        """Halve the limit, at most once per sample, however many requests were refused."""
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
        elif rate < self._before_raise[1] * _PROBE_MIN_GAIN:
            self._set(self._before_raise[0])
            self._hold()
            return
        else:
            self._probe_after = _PROBE_SECONDS
        if idle < _BUSY_SHARE or self.limit >= self._most():
            self._hold()
            return
        self._before_raise = self.limit, rate
        self._set(min(int(self.limit * _PROBE_FACTOR) + 1, self._most()))

    def _hold(self) -> None:
        """Keep the limit for a while, longer after each raise that gained nothing."""
        self._is_doubling, self._before_raise = False, None
        self._probe_at = self._now() + self._probe_after
        self._probe_after = min(2 * self._probe_after, _MAX_PROBE_SECONDS)


class Shared:
    """One pool's share of an `Adaptive` limit."""

    workers = FIRST

    def __init__(
        self,
        adaptive: Adaptive,
        refusals: Callable[[], int],
        in_turn: Callable[[], int] | None = None,
    ) -> None:
        """`refusals` returns how many requests the stores of this pool have refused or not
        answered. `in_turn` returns how many transfers may share the rate limit; `None` without
        one."""
        self._adaptive = adaptive
        self._in_turn = in_turn
        self._refusals = refusals
        self._refused = refusals()
        adaptive.join()

    @property
    def limit(self) -> int:
        share = self._adaptive.share
        return share if self._in_turn is None else min(share, max(FIRST, self._in_turn()))

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
"""The limits by hosts, kept for the process, so that a run starts from what earlier runs measured."""


def concurrency(
    transfers: int,
    hosts: tuple[str, ...],
    failures: Callable[[], int],
    in_turn: Callable[[], int] | None = None,
) -> Concurrency:
    """Return a fixed limit of `transfers`, or for `AUTO` the adaptive limit that all runs to these hosts share.

    `failures` returns how many requests of the run have failed so far. `in_turn` returns how many
    transfers may share the rate limit; `None` without one.
    """
    if transfers != AUTO or not hosts:
        return Fixed(transfers or FIRST)
    adaptive = _adaptive.get(hosts) or _adaptive.setdefault(
        hosts, Adaptive(monotonic, _transfer_limit)
    )
    return Shared(adaptive, failures, in_turn)


def known_limit(hosts: tuple[str, ...]) -> int | None:
    """Return the adaptive limit for these hosts, or `None` if none was measured."""
    adaptive = _adaptive.get(hosts)
    return None if adaptive is None else adaptive.limit


def _transfer_limit() -> int:
    return limits.steps_at_once(MOST)
