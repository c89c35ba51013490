"""How tasks wait (`blocking`, `until_ready`), and what a forked child drops (`after_fork`).

A small transfer waits about a dozen times for a socket or a disk. A thread for each transfer would
spend more time on switching than on work (docs/architecture.md has the figures). So one thread runs
many small tasks, and while one waits, the others run. Make each blocking call through `blocking`;
wait for a socket with `until_ready`, which needs no thread. Never hold a lock around either: the
next task that wants the lock may run in the same thread.

Two processes that share a connection read each other's responses, and a lock that another thread
held at the fork stays locked in the child. An object that keeps connections, locks, threads or
child processes registers with `after_fork`.
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


def after_fork(owner: Owner, start: Callable[[Owner], None]) -> None:
    """Call `start(owner)` in each child process forked while `owner` lives.

    It runs in the child's only thread, before anything else, and must not block. `start` is a plain
    function: a bound method would keep the owner alive.
    """
    _owners[owner] = start


def _start_child() -> None:
    for owner, start in list(_owners.items()):
        start(owner)


os.register_at_fork(after_in_child=_start_child)


T = TypeVar("T")
Other = TypeVar("Other")

CHECK_SECONDS = 1.0
"""The longest single wait: a signal that arrives just before a wait is handled only after it.
Deadlines are checked this often too."""


class Waiter(Protocol):
    """Runs the other tasks of a thread while one of them waits."""

    def wait_for(self, call: Callable[[], T]) -> T:
        """Run a call in another thread, and return its result."""
        ...

    def wait_together(self, call: Callable[[], T]) -> T:
        """Run a call once for all tasks that request it before it starts, and return its result to each."""
        ...

    def wait_for_both(self, first: Callable[[], T], second: Callable[[], Other]) -> tuple[T, Other]:
        """Run two calls at once, and return both results."""
        ...

    def wait_until_ready(self, descriptor: int, events: int, seconds: float) -> bool:
        """Return True once the descriptor is ready, False after `seconds`."""
        ...


class _ThreadState(threading.local):
    waiter: Waiter | None = None

    def forget(self) -> None:
        """Drop the parent process's waiter, whose threads and sockets a child cannot use."""
        self.waiter = None


_thread_state = _ThreadState()
after_fork(_thread_state, _ThreadState.forget)


def blocking(call: Callable[[], T]) -> T:
    """Return the result of a blocking call, or raise its error. It may run in another thread."""
    waiter = _thread_state.waiter
    return call() if waiter is None else waiter.wait_for(call)


def blocking_together(call: Callable[[], T]) -> T:
    """As `blocking`, but tasks that request equal calls before one starts share it, such as a disk flush.

    Bound methods of the same object are equal.
    """
    waiter = _thread_state.waiter
    return call() if waiter is None else waiter.wait_together(call)


def both(first: Callable[[], T], second: Callable[[], Other]) -> tuple[T, Other]:
    """Return the results of two calls. They run at once in a short task, else one after the other.

    If it raises, both have ended; an error of `first` takes precedence.
    """
    waiter = _thread_state.waiter
    return (first(), second()) if waiter is None else waiter.wait_for_both(first, second)


def until_ready(descriptor: int, events: int, seconds: float) -> None:
    """Wait until a descriptor is ready for `events` (as in `select.poll`). Raises `TimeoutError`."""
    waiter = _thread_state.waiter
    wait = is_ready if waiter is None else waiter.wait_until_ready
    if not wait(descriptor, events, seconds):
        raise TimeoutError(f"no data for {seconds:.0f} seconds")


def is_ready(descriptor: int, events: int, seconds: float) -> bool:
    """Return whether a descriptor becomes ready within `seconds`. Blocks the whole thread."""
    poll = select.poll()
    poll.register(descriptor, events)
    end = monotonic() + seconds
    while (left := end - monotonic()) > CHECK_SECONDS:
        if poll.poll(CHECK_SECONDS * 1000):
            return True
    return bool(poll.poll(max(left, 0.0) * 1000))


def set_waiter(waiter: Waiter | None) -> None:
    """Set the waiter of the calling thread. With `None`, waits block the thread."""
    _thread_state.waiter = waiter


Task = TypeVar("Task")


class _Wait(NamedTuple, Generic[Task]):
    task: Task
    deadline: float
    events: int


class Sockets(Generic[Task]):
    """The tasks of one thread that wait for sockets. Only `wake` is thread-safe.

    `due` holds the tasks to resume, each with whether its socket was ready in time. A signal that
    interrupts `ready` loses none of them.
    """

    def __init__(self) -> None:
        self.due = deque[tuple[Task, bool]]()
        self._epoll = select.epoll()
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wakeup, select.EPOLLIN)
        self._waiting: dict[int, _Wait[Task]] = {}
        self._checked_at = monotonic()

    def __len__(self) -> int:
        return len(self._waiting) + len(self.due)

    def add(self, task: Task, descriptor: int, events: int, seconds: float) -> None:
        """Make a task wait up to `seconds` for `events` (as in `select.poll`)."""
        events |= select.EPOLLONESHOT
        self._waiting[descriptor] = _Wait(task, monotonic() + seconds, events)
        try:
            self._epoll.modify(descriptor, events)
        except FileNotFoundError:
            self._epoll.register(descriptor, events)

    def drop(self, descriptor: int) -> None:
        """Forget the task that waits for a descriptor, if any."""
        self._waiting.pop(descriptor, None)

    def wake(self) -> None:
        os.eventfd_write(self._wakeup, 1)

    def ready(self, seconds: float) -> None:
        """Return as soon as a task is due, or after `seconds`."""
        seconds = min(seconds, CHECK_SECONDS) if self._waiting else seconds
        try:
            for descriptor, _ in self._epoll.poll(seconds):
                if descriptor == self._wakeup:
                    os.eventfd_read(self._wakeup)
                elif descriptor in self._waiting:
                    self._end(descriptor, in_time=True)
            self._end_expired()
        except BaseException:
            self._rearm()
            raise

    def close(self) -> None:
        self._epoll.close()
        os.close(self._wakeup)

    def _end(self, descriptor: int, *, in_time: bool) -> None:
        self.due.append((self._waiting[descriptor].task, in_time))
        del self._waiting[descriptor]

    def _end_expired(self) -> None:
        now = monotonic()
        if now - self._checked_at < CHECK_SECONDS:
            return
        self._checked_at = now
        for descriptor in [fd for fd, wait in self._waiting.items() if wait.deadline <= now]:
            self._end(descriptor, in_time=False)

    def _rearm(self) -> None:
        """Re-register waits whose one-shot report a signal may have discarded."""
        due = [task for task, _ in self.due]
        for descriptor, wait in list(self._waiting.items()):
            if any(wait.task is task for task in due):
                del self._waiting[descriptor]
                continue
            with suppress(OSError):  # The descriptor is closed: the deadline ends the wait.
                self._epoll.modify(descriptor, wait.events)
