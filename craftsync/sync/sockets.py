"""One place to wait for many sockets at once."""

from __future__ import annotations

import os
import select
from time import monotonic
from typing import Generic, TypeVar

_LOOK_SECONDS = 1.0
"""How often it is looked whether a wait has lasted too long."""

Task = TypeVar("Task")


class Sockets(Generic[Task]):
    """The tasks that wait, each for a socket of its own. Belongs to one thread, which any other may `wake`."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._bell, select.EPOLLIN)
        self._waiting: dict[int, tuple[Task, float]] = {}
        self._looked_at = monotonic()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, task: Task, descriptor: int, events: int, seconds: float) -> None:
        """Have a task wait for what `select.poll` calls `events`."""
        self._waiting[descriptor] = task, monotonic() + seconds
        try:
            self._epoll.modify(descriptor, events | select.EPOLLONESHOT)
        except FileNotFoundError:
            self._epoll.register(descriptor, events | select.EPOLLONESHOT)

    def drop(self, descriptor: int) -> None:
        """Let nobody wait for a descriptor any more; one that nobody waits for is left as it is."""
        self._waiting.pop(descriptor, None)

    def wake(self) -> None:
        os.eventfd_write(self._bell, 1)

    def ready(self, seconds: float) -> list[tuple[Task, bool]]:
        """Return, as soon as there are any, the tasks that may go on, and those whose time is up with False."""
        seconds = min(seconds, _LOOK_SECONDS) if self._waiting else seconds
        found = []
        for descriptor, _ in self._epoll.poll(seconds):
            if descriptor == self._bell:
                os.eventfd_read(self._bell)
            elif descriptor in self._waiting:
                found.append((self._waiting.pop(descriptor)[0], True))
        return found + self._late()

    def close(self) -> None:
        self._epoll.close()
        os.close(self._bell)

    def _late(self) -> list[tuple[Task, bool]]:
        now = monotonic()
        if now - self._looked_at < _LOOK_SECONDS:
            return []
        self._looked_at = now
        late = [fd for fd, (_, deadline) in self._waiting.items() if deadline <= now]
        return [(self._waiting.pop(descriptor)[0], False) for descriptor in late]
