"""When a store last answered, for those who show whether it does while somebody still waits for it."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager

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

    def noted(self, *, short: bool) -> AbstractContextManager[None]:
        """Note how an attempt ends; a `short` one takes long only when nobody answers it."""
        return _Attempt(self, short=short)

    def begun(self, attempt: object, *, short: bool) -> None:
        with self._lock:
            now = self._now()
            if not self._asked and self._failure is None:
                self._last = now
            if short:
                self._asked[attempt] = now

    def ended(self, attempt: object, error: BaseException | None) -> None:
        """Note that an attempt was answered, also if with an error; one that was interrupted tells nothing."""
        if isinstance(error, StoreUnavailable):
            self.failed(error, attempt)
            return
        with self._lock:
            self._asked.pop(attempt, None)
            if error is None or isinstance(error, Exception):
                self._failure, self._last = None, self._now()

    def failed(self, error: StoreUnavailable, attempt: object = None) -> None:
        """Note an attempt that got no answer."""
        with self._lock:
            self._asked.pop(attempt, None)
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


class _Attempt:
    """A class, since one is entered for each request and a generator takes three times as long."""

    __slots__ = ("_answers", "_short")

    def __init__(self, answers: Answers, *, short: bool) -> None:
        self._answers = answers
        self._short = short

    def __enter__(self) -> None:
        self._answers.begun(self, short=self._short)

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._answers.ended(self, error)
