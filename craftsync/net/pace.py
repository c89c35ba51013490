"""How fast a run transfers: rate limits, bytes counted as they move, and concurrency.

Concurrency adapts to the host. With 30 ms between client and store, 16 transfers
leave both sides idle; beside the store, 100 only wait for each other. The number
doubles while more transfers finish per second and the client has time left,
grows slowly after that, and halves when the store refuses requests.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import Protocol, Self

from craftsync import limits
from craftsync.clock import Clock
from craftsync.errors import Interrupted
from craftsync.net.waiting import in_children

PIECE = 256 * 1024
"""Bytes that are moved at once and counted together; with fewer, asking for them costs more than sending them."""


class Pace(Protocol):
    """What moving bytes have to keep to, and where they are counted; used from several threads at once."""

    @property
    def piece(self) -> int:
        """How many bytes to move at once, so that no connection is silent for long under a low rate."""
        ...

    def take(self, size: int) -> None:
        """Return when so many more bytes may move."""
        ...

    def count(self, size: int) -> None:
        """Count bytes that have moved; a negative number takes back those of a try that failed."""
        ...


class _Unpaced:
    """No rate, and nobody who counts."""

    piece = PIECE

    def take(self, size: int) -> None:
        """Nothing has to wait."""

    def count(self, size: int) -> None:
        """Nobody wants to know."""


UNPACED: Pace = _Unpaced()


class Attempt:
    """One try to move bytes at a pace, itself a `Pace`: once it has failed, its bytes do not count any more.

    That is when a `with` ends with an error, or at `undo`.
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
        """Take back what was counted."""
        self.count(-self._moved)

    def pieces(self, content: Iterable[bytes]) -> Iterator[memoryview]:
        """Yield content piece by piece: each when it may move, and counted when the next one is asked for."""
        for block in content:
            left = memoryview(block)
            while left:
                piece = left[: self.piece]
                self.take(len(piece))
                yield piece
                self.count(len(piece))
                left = left[len(piece) :]


Rate = float | Callable[[int], float | None] | None
"""Bytes per second, or a function that tells them at a time (nanoseconds since the epoch); `None` is no limit."""

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


AUTO = 0
"""As many transfers as the way to the store is worth."""
FIRST = 16
"""How many there are before anything is known, and always where nothing is far away."""
MOST = 256
_LEAST = 4
_SHORTEST_LOOK_SECONDS = 0.05
"""What is measured in less is chance."""
_PROBE_SECONDS = 5.0
_LONGEST_PROBE_SECONDS = 60.0
_DOUBLED, _WORTH_DOUBLING = 2.0, 1.15
"""So much more has to end when twice as much is under way."""
_PROBED, _WORTH_PROBING = 1.25, 1.05
_BUSY_SHARE = 0.1
"""A client that waits for no more than this share of the time has no use for more transfers."""


class Concurrency(Protocol):
    """Says how many transfers one pool may have under way, and hears from it how they go."""

    workers: int
    """Threads for long transfers."""

    @property
    def limit(self) -> int:
        """How many short transfers may be under way now."""
        ...

    def ended(self, *, more: bool) -> None:
        """Note that a short transfer has ended; `more` says that others wait for their turn."""
        ...

    def waited(self, seconds: float) -> None:
        """Note that nothing happened for so long, because all transfers waited for the store."""
        ...

    def close(self) -> None:
        """Leave what the pool had to others."""
        ...


class Fixed:
    """Always the same number."""

    def __init__(self, limit: int) -> None:
        self.limit = self.workers = limit

    def ended(self, *, more: bool) -> None:
        """The number stays."""

    def waited(self, seconds: float) -> None:
        """The number stays."""

    def close(self) -> None:
        """Nobody else has a part in it."""


class Adaptive:
    """Finds out a number for all pools that work with the same hosts, in whatever thread each runs.

    `most` bounds the number, and may change, as the descriptors that are left do.
    """

    def __init__(self, now: Callable[[], float], most: Callable[[], int]) -> None:
        self._now = now
        self._most = most
        self._limit = FIRST
        self._pools = 0
        self._better_than: tuple[int, float] | None = None
        """The number before, and its transfers a second, which the number of now has to exceed."""
        self._factor, self._worth = _DOUBLED, _WORTH_DOUBLING
        self._probe_after = _PROBE_SECONDS
        self._probe_at = 0.0
        self._turned_away = False
        self._short_of_work = False
        self._unlock()
        in_children(self, Adaptive._unlock)
        self.share = FIRST
        """The part of one pool."""
        self._settling = True
        self._measure()

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
        """Work out the number, and the part of one pool, which asks for it several times for each transfer."""
        limit = self.limit
        self.share = limit if self._pools <= 1 else -(-limit // self._pools)
        return limit

    def ended(self, *, more: bool) -> None:
        with self._lock:
            self._short_of_work = self._short_of_work or not more
            self._count += 1
            if self._count < self._limit and self._count % FIRST:
                return  # Looking at the bound on the number each time would cost more than it tells.
            if self._count < self._divide():
                return
            seconds = self._now() - self._began
            if self._settling:
                # What ended until now was begun under another number, or had to connect first.
                self._settling = False
                self._measure()
            elif seconds >= _SHORTEST_LOOK_SECONDS:
                rate, idle = self._count / seconds, self._idle / (seconds * max(self._pools, 1))
                if not self._short_of_work:
                    self._judge(rate, idle)
                self._turned_away = False
                self._measure()

    def waited(self, seconds: float) -> None:
        with self._lock:
            self._idle += seconds

    def turned_away(self) -> None:
        """Halve the number, once for all requests that are turned away together."""
        with self._lock:
            if not self._turned_away:
                self._turned_away = True
                self._set(max(_LEAST, self.limit // 2))
                self._hold()

    def _measure(self) -> None:
        self._began, self._count, self._idle, self._short_of_work = self._now(), 0, 0.0, False

    def _set(self, limit: int) -> None:
        self._limit = limit
        self._divide()
        self._settling = True
        self._measure()

    def _judge(self, rate: float, idle: float) -> None:
        """Decide on the number, now that so many transfers end a second and so much of the time was idle."""
        if self._better_than is None:
            if self._now() < self._probe_at:
                return
        elif rate < self._better_than[1] * self._worth:
            self._set(self._better_than[0])
            self._hold()
            return
        else:
            self._probe_after = _PROBE_SECONDS
        if idle < _BUSY_SHARE or self.limit >= self._most():
            self._hold()
            return
        self._better_than = self.limit, rate
        self._set(min(int(self.limit * self._factor) + 1, self._most()))

    def _hold(self) -> None:
        """Stay with the number for a while, longer each time that more were tried in vain."""
        self._better_than, self._factor, self._worth = None, _PROBED, _WORTH_PROBING
        self._probe_at = self._now() + self._probe_after
        self._probe_after = min(2 * self._probe_after, _LONGEST_PROBE_SECONDS)


class Shared:
    """One pool's part of what is found out for all that work with the same hosts."""

    workers = FIRST

    def __init__(self, adaptive: Adaptive, refusals: Callable[[], int]) -> None:
        """`refusals` counts the requests that the stores of this pool did not answer, or turned away."""
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
            self._adaptive.turned_away()
        self._adaptive.ended(more=more)

    def waited(self, seconds: float) -> None:
        self._adaptive.waited(seconds)

    def close(self) -> None:
        self._adaptive.leave()


_adaptive: dict[tuple[str, ...], Adaptive] = {}
"""By hosts; they are few, and a run begins with what the one before it has learned."""


def concurrency(transfers: int, hosts: tuple[str, ...], failures: Callable[[], int]) -> Concurrency:
    """Return how many transfers may be under way to these hosts: a number of them, or `AUTO`.

    All runs of a process share what is found out about the same hosts;
    `failures` counts the requests of one run that were turned away.
    """
    if transfers != AUTO or not hosts:
        return Fixed(transfers or FIRST)
    adaptive = _adaptive.get(hosts) or _adaptive.setdefault(hosts, Adaptive(monotonic, _most))
    return Shared(adaptive, failures)


def limit_found(hosts: tuple[str, ...]) -> int | None:
    """Return the number that was found out for these hosts; `None` where none was."""
    adaptive = _adaptive.get(hosts)
    return None if adaptive is None else adaptive.limit


def _most() -> int:
    return limits.steps_at_once(MOST)
