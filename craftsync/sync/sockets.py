"""One place to wait for many sockets at once."""

from __future__ import annotations

import os
import select
from collections import deque
from contextlib import suppress
from time import monotonic
from typing import Generic, NamedTuple, TypeVar

from craftsync.blocking import LOOK_SECONDS

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
