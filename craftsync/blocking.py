"""Calls that wait: for the network, a disk's flush, or for time to pass.

A small transfer is one wait among a dozen short system calls, and a thread for
each transfer spends more on handing the interpreter over than on all of them
(`sync.pool` has the figures). So one thread runs many small tasks, and while
one of them waits the others go on. Whoever makes a call that waits makes it
through `blocking`; where nobody takes care of waits, that is a plain call.

A wait for a socket needs no thread at all: `until_ready`.

No lock may be held around either: the next task to ask for it may be in the
same thread, and would wait for itself.
"""

from __future__ import annotations

import select
import threading
from collections.abc import Callable
from time import monotonic
from typing import Protocol, TypeVar

from craftsync.forking import in_children

T = TypeVar("T")

LOOK_SECONDS = 1.0
"""The longest wait in one call: a signal that comes right before one is heard only after it.

So often it is also looked whether a wait has lasted too long."""


class Waiter(Protocol):
    """Lets other tasks of this thread go on while one of them waits."""

    def wait_for(self, call: Callable[[], T]) -> T:
        """Make a call elsewhere, and return what it returns."""
        ...

    def wait_together(self, call: Callable[[], T]) -> T:
        """Make a call once for all tasks that ask for it before it begins, and return what it returns."""
        ...

    def wait_until_ready(self, descriptor: int, events: int, seconds: float) -> bool:
        """Return once the descriptor is ready; False when the time was up before."""
        ...


class _Here(threading.local):
    waiter: Waiter | None = None

    def forget(self) -> None:
        """Leave the waits to nobody, for the waiter of a parent process has threads and sockets of its own."""
        self.waiter = None


_here = _Here()
in_children(_here, _Here.forget)


def blocking(call: Callable[[], T]) -> T:
    """Return what `call` returns, or raise what it raises; it may run in another thread."""
    waiter = _here.waiter
    return call() if waiter is None else waiter.wait_for(call)


def blocking_together(call: Callable[[], T]) -> T:
    """As `blocking`, for a call that does the work of all who ask for it before it begins.

    Such as a flush of a disk. Equal calls are the same one, as those of a method of one object are.
    """
    waiter = _here.waiter
    return call() if waiter is None else waiter.wait_together(call)


def until_ready(descriptor: int, events: int, seconds: float) -> None:
    """Wait until a descriptor is ready for `events`, those of `select.poll`; raises `TimeoutError`."""
    waiter = _here.waiter
    wait = is_ready if waiter is None else waiter.wait_until_ready
    if not wait(descriptor, events, seconds):
        raise TimeoutError(f"nothing came for {seconds:.0f} seconds")


def is_ready(descriptor: int, events: int, seconds: float) -> bool:
    """Tell whether a descriptor becomes ready within so many seconds, holding up the whole thread."""
    poll = select.poll()
    poll.register(descriptor, events)
    end = monotonic() + seconds
    while (left := end - monotonic()) > LOOK_SECONDS:
        if poll.poll(LOOK_SECONDS * 1000):
            return True
    return bool(poll.poll(max(left, 0.0) * 1000))


def wait_through(waiter: Waiter | None) -> None:
    """Hand the waits of the calling thread to `waiter` from now on, or to nobody."""
    _here.waiter = waiter
