"""Waits that a stop can end, and what a forked child must drop.

A small transfer waits about a dozen times for a socket or a disk. One thread
for each transfer would spend more time switching threads than working
(docs/architecture.md has the figures), so one thread runs many small tasks, and
while one waits the others run. A call that waits is made through `blocking`; a
wait for a socket uses `until_ready` and needs no thread. Never hold a lock
around either: the next task that wants the lock may run in the same thread.

Two processes on one connection read each other's answers, and a lock held by
another thread at the fork stays locked in the child. Whoever keeps connections,
locks, threads or child processes registers with `in_children`.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, Generic, NamedTuple, Protocol, TypeVar
from weakref import WeakKeyDictionary

Owner = TypeVar("Owner")

_owners: WeakKeyDictionary[Any, Callable[[Any], None]] = WeakKeyDictionary()


def in_children(owner: Owner, start: Callable[[Owner], None]) -> None:
    """Call `start(owner)` in each child that is forked while `owner` lives.

    It runs in the only thread of the child, before anything else, and must not
    wait. `start` is a function of the class, because a bound method would keep
    the owner alive.
    """
    _owners[owner] = start


def _start_child() -> None:
    for owner, start in list(_owners.items()):
        start(owner)


os.register_at_fork(after_in_child=_start_child)


T = TypeVar("T")
Other = TypeVar("Other")

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

    def wait_for_both(self, first: Callable[[], T], second: Callable[[], Other]) -> tuple[T, Other]:
        """Make two calls at once, and return what both return."""
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


def both(first: Callable[[], T], second: Callable[[], Other]) -> tuple[T, Other]:
    """Return what two calls return: a task that shares its thread makes them at once, any other one after the other.

    Neither is under way any more once this raises, what `first` raised before what `second` did.
    """
    waiter = _here.waiter
    return (first(), second()) if waiter is None else waiter.wait_for_both(first, second)


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


Task = TypeVar("Task")


class _Wait(NamedTuple, Generic[Task]):
    task: Task
    deadline: float
    events: int


class Sockets(Generic[Task]):
    """The tasks that wait, each for a socket of its own. Belongs to one thread, which any other may `wake`.

    `due` are those that may go on, each with whether its socket was ready in
    time. A signal that ends `ready` loses none of them.
    """

    def __init__(self) -> None:
        self.due = deque[tuple[Task, bool]]()
        self._epoll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._bell, select.EPOLLIN)
        self._waiting: dict[int, _Wait[Task]] = {}
        self._looked_at = monotonic()

    def __len__(self) -> int:
        return len(self._waiting) + len(self.due)

    def add(self, task: Task, descriptor: int, events: int, seconds: float) -> None:
        """Have a task wait for what `select.poll` calls `events`."""
        events |= select.EPOLLONESHOT
        self._waiting[descriptor] = _Wait(task, monotonic() + seconds, events)
        try:
            self._epoll.modify(descriptor, events)
        except FileNotFoundError:
            self._epoll.register(descriptor, events)

    def drop(self, descriptor: int) -> None:
        """Let nobody wait for a descriptor any more; one that nobody waits for is left as it is."""
        self._waiting.pop(descriptor, None)

    def wake(self) -> None:
        os.eventfd_write(self._bell, 1)

    def ready(self, seconds: float) -> None:
        """Return as soon as a task is due, or after so many seconds."""
        seconds = min(seconds, LOOK_SECONDS) if self._waiting else seconds
        try:
            for descriptor, _ in self._epoll.poll(seconds):
                if descriptor == self._bell:
                    os.eventfd_read(self._bell)
                elif descriptor in self._waiting:
                    self._end(descriptor, in_time=True)
            self._end_late()
        except BaseException:
            self._arm_again()
            raise

    def close(self) -> None:
        self._epoll.close()
        os.close(self._bell)

    def _end(self, descriptor: int, *, in_time: bool) -> None:
        self.due.append((self._waiting[descriptor].task, in_time))
        del self._waiting[descriptor]

    def _end_late(self) -> None:
        now = monotonic()
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        for descriptor in [fd for fd, wait in self._waiting.items() if wait.deadline <= now]:
            self._end(descriptor, in_time=False)

    def _arm_again(self) -> None:
        """Have the kernel report again what a signal kept from being heard: it does so once for each wait."""
        due = [task for task, _ in self.due]
        for descriptor, wait in list(self._waiting.items()):
            if any(wait.task is task for task in due):
                del self._waiting[descriptor]
                continue
            with suppress(OSError):  # One that is closed by now is ended by its deadline.
                self._epoll.modify(descriptor, wait.events)
