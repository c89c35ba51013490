"""How many short transfers are under way at once: as many as the way to the store is worth.

With 30 ms between client and store, sixteen at a time leave both of them idle;
beside it, a hundred would only wait for each other. So the number is found out
while transfers run. It doubles as long as more of them end a second and the
client has time left. Later a few more are tried now and then. A store that
turns requests away gets half as many.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Protocol

from craftsync import descriptors
from craftsync.forking import in_children
from craftsync.stores.base import Store
from craftsync.stores.retrying import RetryingStore

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


def between(transfers: int, stores: Sequence[Store]) -> Concurrency:
    """Return how many transfers these stores are to have under way: a number of them, or `AUTO`."""
    hosts = _hosts_of(stores)
    if transfers != AUTO or not hosts:
        return Fixed(transfers or FIRST)
    adaptive = _adaptive.get(hosts) or _adaptive.setdefault(hosts, Adaptive(monotonic, _most))
    answers = [store.answers for store in stores if isinstance(store, RetryingStore)]
    return Shared(adaptive, lambda: sum([each.failures for each in answers]))


def at_once(stores: Sequence[Store]) -> int | None:
    """Return the number that was found out for these stores; `None` where none was."""
    adaptive = _adaptive.get(_hosts_of(stores))
    return None if adaptive is None else adaptive.limit


def _hosts_of(stores: Sequence[Store]) -> tuple[str, ...]:
    return tuple(sorted({store.features.host for store in stores} - {""}))


def _most() -> int:
    return descriptors.steps_at_once(MOST)
