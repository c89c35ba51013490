"""Shares one slow flush among all threads that ask for one at the same time."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable

from craftsync.forking import in_children


class _Round:
    """One run of the flush; it covers whoever joined before it began."""

    def __init__(self) -> None:
        self.done = False
        self.error: OSError | None = OSError(errno.EIO, "the flush was interrupted")


class SyncGroup:
    """Group commit: the first caller leads, who comes while it flushes shares the next round."""

    def __init__(self, flush: Callable[[], None]) -> None:
        """`flush` makes durable all that was written before it began; it raises `OSError`."""
        self._flush = flush
        self._start()
        in_children(self, SyncGroup._start)

    def _start(self) -> None:
        self._condition = threading.Condition()
        self._running = False
        self._next = _Round()

    def sync(self) -> None:
        """Return after a flush that began after this call; raises the `OSError` it ended with."""
        with self._condition:
            mine = self._next
            while not mine.done:
                if self._running:
                    self._condition.wait()
                else:
                    self._lead(mine)
        if mine.error is not None:
            raise OSError(mine.error.errno, os.strerror(mine.error.errno or errno.EIO))

    def _lead(self, mine: _Round) -> None:
        """Run the flush with the condition released, so that others can join the next round."""
        self._running, self._next = True, _Round()
        self._condition.release()
        try:
            self._flush()
            mine.error = None
        except OSError as error:
            mine.error = error
        finally:
            self._condition.acquire()
            mine.done, self._running = True, False
            self._condition.notify_all()
