"""Calls that wait: for the network, a disk's flush, or for time to pass.

A small transfer is one wait among a dozen short system calls, and a thread for
each transfer spends more on handing the interpreter over than on all of them
(`sync.pool` has the figures). So one thread runs many small tasks, and while
one of them waits the others go on. Whoever makes a call that waits makes it
through `blocking`; where nobody takes care of waits, that is a plain call.

No lock may be held around `blocking`: the next task to ask for it may be in
the same thread, and would wait for itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Waiter(Protocol):
    """Makes a call elsewhere and lets other tasks of this thread go on until it returns."""

    def wait_for(self, call: Callable[[], T]) -> T: ...


class _Here(threading.local):
    waiter: Waiter | None = None


_here = _Here()


def blocking(call: Callable[[], T]) -> T:
    """Return what `call` returns, or raise what it raises; it may run in another thread."""
    waiter = _here.waiter
    return call() if waiter is None else waiter.wait_for(call)


def wait_through(waiter: Waiter | None) -> None:
    """Hand the waits of the calling thread to `waiter` from now on, or to nobody."""
    _here.waiter = waiter
