"""Keeps roots and stores in step until stopped: when to make a pass, and over which paths.

Events of the root name dirty paths; timers ask for a listing of the store and
for a full scan, on which alone correctness rests. Each pair has a thread of its
own, which is its session's one control thread.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from craftsync.errors import Interrupted, StoreMissing, StoreUnavailable
from craftsync.local.watch import DirtyPaths, Watcher
from craftsync.sync.report import Event, Issue, IssueEvent, OnEvent, Options
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


@dataclass(frozen=True, slots=True)
class Watched:
    """A pair to be kept in step, and how."""

    session: Session
    settings: WatchSettings
    options: Options


def watch(pairs: Sequence[Watched], on_event: OnEvent) -> int:
    """Make passes until SIGTERM or SIGINT; returns 0 after a clean stop.

    An unreachable store is waited for. Whatever needs a person ends the watch
    of all pairs and is raised. `on_event` is called from each pair's thread.
    """
    stop = threading.Event()
    errors: list[BaseException] = []
    cycles = [_Cycles(pair, on_event, stop) for pair in pairs]
    with _signals(stop):
        threads = [
            threading.Thread(target=cycle.guarded, args=(errors,), name="watch") for cycle in cycles
        ]
        for thread in threads:
            thread.start()
        stop.wait()
        for cycle in cycles:
            cycle.wake()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]
    return 0


class _Cycles:
    """The loop over one pair: wait for a reason, make the smallest pass that answers it."""

    def __init__(self, pair: Watched, on_event: OnEvent, stop: threading.Event) -> None:
        self._session = pair.session
        self._settings = pair.settings
        self._options = pair.options
        self._listener = on_event
        self._stop = stop
        self._dirty = DirtyPaths(pair.session.clock.monotonic)
        self._full_at = 0.0
        self._backoff = 0.0

    def wake(self) -> None:
        """Make the loop look whether it is to stop."""
        self._dirty.wake()

    def guarded(self, errors: list[BaseException]) -> None:
        """Run the loop in this thread; an error is handed over and stops the other pairs."""
        try:
            self._run()
        except Interrupted:
            pass
        except BaseException as error:  # noqa: BLE001 (it is raised again in the main thread)
            errors.append(error)
        finally:
            self._stop.set()

    def _run(self) -> None:
        """Watch before the first scan, so that nothing falls between the two."""
        watcher = Watcher(str(self._session.root.path), self._dirty)
        watcher.start()
        try:
            self._pass(None)
            while not self._stop.is_set():
                self._wait_and_pass()
        finally:
            watcher.stop()

    def _wait_and_pass(self) -> None:
        now = self._session.clock.monotonic
        self._dirty.wait(
            settle=self._settings.settle_seconds,
            longest=_LONGEST_UNREST,
            timeout=max(0.0, self._full_at - now()),
        )
        if self._stop.is_set():
            return
        paths = self._dirty.take()
        if now() >= self._full_at:
            paths = None
        if paths is None or paths:
            self._pass(paths)

    def _pass(self, paths: set[str] | None) -> None:
        """Make one pass; when the store cannot be reached, look at everything again later."""
        try:
            self._session.run("watch", self._options, self._on_event, paths=paths)
        except (StoreUnavailable, StoreMissing) as error:
            self._backoff = min(_LONGEST_BACKOFF, max(1.0, self._backoff * 2))
            self._full_at = self._session.clock.monotonic() + self._backoff
            reason = f"offline, next try in {self._backoff:.0f} s: {error}"
            self._on_event(IssueEvent(Issue.PROBLEM, self._session.store.location, reason))
            return
        self._backoff = 0.0
        if paths is None:
            period = min(self._settings.poll_seconds, self._settings.rescan_seconds)
            self._full_at = self._session.clock.monotonic() + period

    def _on_event(self, event: Event) -> None:
        """Pass an event on, and end the pass that reports it when a stop was asked for."""
        if self._stop.is_set():
            raise Interrupted
        self._listener(event)


@contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """Let SIGTERM and SIGINT ask for a clean stop, and give both back afterwards."""

    def request(number: int, frame: FrameType | None) -> None:
        stop.set()

    numbers = (signal.SIGTERM, signal.SIGINT)
    previous = {number: signal.signal(number, request) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
