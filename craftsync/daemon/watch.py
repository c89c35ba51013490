"""Keeps root and store in step until stopped: when to make a pass, and over which paths.

Events of the root name dirty paths; timers ask for a listing of the store and
for a full scan, on which alone correctness rests.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from craftsync.errors import ListingBroken, StoreUnavailable
from craftsync.local.watch import DirtyPaths, Watcher
from craftsync.sync.report import Issue, IssueEvent, OnEvent, Options
from craftsync.sync.session import Session

_LONGEST_UNREST = 30.0
"""Seconds after which a path that never rests is looked at all the same."""
_LONGEST_BACKOFF = 60.0


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """Seconds of quiet before a change is acted on, between listings, and between full scans."""

    settle_seconds: float = 0.5
    poll_seconds: float = 30.0
    rescan_seconds: float = 600.0


class Stop:
    """A request to end, made by a signal handler."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.requested = False
        self._wake = wake

    def request(self, number: int = 0, frame: FrameType | None = None) -> None:
        self.requested = True
        self._wake()


def watch(
    session: Session,
    settings: WatchSettings,
    options: Options,
    on_event: OnEvent,
    *,
    on_ready: Callable[[], None] = lambda: None,
) -> int:
    """Make passes until SIGTERM or SIGINT; returns 0 after a clean stop.

    The observer starts before the first scan, so that nothing falls between
    the two. `on_ready` is called once both sides are in step for the first
    time. Raises what needs a person; an unreachable store is waited for.
    """
    dirty = DirtyPaths(session.clock.monotonic)
    watcher = Watcher(str(session.root.path), dirty)
    stop = Stop(dirty.wake)
    with _signals(stop):
        watcher.start()
        try:
            _Cycles(session, settings, options, on_event, dirty).run(stop, on_ready)
        finally:
            watcher.stop()
    return 0


class _Cycles:
    """The loop: wait for a reason, make the smallest pass that answers it."""

    def __init__(
        self,
        session: Session,
        settings: WatchSettings,
        options: Options,
        on_event: OnEvent,
        dirty: DirtyPaths,
    ) -> None:
        self._session = session
        self._settings = settings
        self._options = options
        self._on_event = on_event
        self._dirty = dirty
        self._full_at = 0.0
        self._backoff = 0.0

    def run(self, stop: Stop, on_ready: Callable[[], None]) -> None:
        self._pass(None)
        on_ready()
        while not stop.requested:
            self._dirty.wait(
                settle=self._settings.settle_seconds,
                longest=_LONGEST_UNREST,
                timeout=max(0.0, self._full_at - self._session.clock.monotonic()),
            )
            if stop.requested:
                return
            paths = self._dirty.take()
            if self._session.clock.monotonic() >= self._full_at:
                paths = None
            if paths is None or paths:
                self._pass(paths)

    def _pass(self, paths: set[str] | None) -> None:
        """Make one pass; when the store cannot be reached, look at everything again later."""
        try:
            self._session.run("watch", self._options, self._on_event, paths=paths)
        except (StoreUnavailable, ListingBroken) as error:
            self._backoff = min(_LONGEST_BACKOFF, max(1.0, self._backoff * 2))
            self._full_at = self._session.clock.monotonic() + self._backoff
            reason = f"offline, next try in {self._backoff:.0f} s: {error}"
            self._on_event(IssueEvent(Issue.PROBLEM, self._session.store.location, reason))
            return
        self._backoff = 0.0
        if paths is None:
            period = min(self._settings.poll_seconds, self._settings.rescan_seconds)
            self._full_at = self._session.clock.monotonic() + period


@contextmanager
def _signals(stop: Stop) -> Iterator[None]:
    """Let SIGTERM and SIGINT ask for a clean stop, and give both back afterwards."""
    previous = {
        number: signal.signal(number, stop.request) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
