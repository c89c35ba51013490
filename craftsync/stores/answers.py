"""When a store last answered, for those who show whether it does while somebody still waits for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from craftsync.clock import Clock
from craftsync.errors import StoreUnavailable
from craftsync.forking import in_children

_SOON_SECONDS = 5.0
"""So long after the last answer a failure is more than one of many requests turned away."""
_SILENT_SECONDS = 45.0
"""So long a short question stays unanswered by a store that is not there."""


class Answers:
    """Notes how attempts end. Any thread may call it."""

    def __init__(self, clock: Clock) -> None:
        self._now = clock.monotonic
        self._start()
        in_children(self, Answers._start)

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._asked: dict[object, float] = {}
        self._failure: str | None = None
        self.failures = 0
        """How many attempts got no answer, or were turned away."""
        self._last = self._now()

    @contextmanager
    def noted(self, *, short: bool) -> Iterator[None]:
        """Note how an attempt ends; a `short` one takes long only when nobody answers it."""
        token = object()
        with self._lock:
            if not self._asked and self._failure is None:
                self._last = self._now()
            if short:
                self._asked[token] = self._now()
        try:
            yield
        except StoreUnavailable as error:
            self.failed(error)
            raise
        except Exception:
            self._came()
            raise
        else:
            self._came()
        finally:
            with self._lock:
                self._asked.pop(token, None)

    def failed(self, error: StoreUnavailable) -> None:
        """Note an attempt that got no answer."""
        with self._lock:
            self._failure = str(error)
            self.failures += 1

    def trouble(self) -> str | None:
        """Return why the store counts as away: it has failed, or was silent, ever since its last answer."""
        with self._lock:
            now = self._now()
            silent = now - self._last
            if self._failure is not None:
                return self._failure if silent >= _SOON_SECONDS else None
            oldest = min(self._asked.values(), default=now)
            if min(silent, now - oldest) >= _SILENT_SECONDS:
                return "the store does not answer"
        return None

    def _came(self) -> None:
        with self._lock:
            self._failure, self._last = None, self._now()
