"""Live displays: `status --watch`, and what `watch` shows on a terminal."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, Self

from craftsync.cli import log, terminal
from craftsync.cli import params as common
from craftsync.cli.output import say, say_json, which
from craftsync.cli.status_view import (
    Facts,
    checked_line,
    headline_of,
    is_in_sync,
    moving_of,
    panels,
)
from craftsync.clock import Clock, SystemClock
from craftsync.config.pairs import Pair
from craftsync.engine.report import Event, OnEvent, ProgressEvent
from craftsync.progress import Bars
from craftsync.wording import size_shown

_log = logging.getLogger(__name__)

_REFRESH_SECONDS = 0.5


def follow(look: Callable[[], Sequence[Facts]], *, as_json: bool) -> int:
    """Show the status of folders until Ctrl-C: redrawn on a terminal, elsewhere a line for each change."""
    clock = SystemClock()
    try:
        if sys.stdout.isatty() and not as_json:
            _in_place(look, clock.sleep)
        else:
            _line_by_line(look, clock.sleep, as_json=as_json)
    except KeyboardInterrupt:
        return 0
    return 0


def _in_place(look: Callable[[], Sequence[Facts]], sleep: Callable[[float], None]) -> None:
    from rich.live import Live

    with Live(panels(look()), auto_refresh=False, screen=False) as live:
        while True:
            live.update(panels(look()), refresh=True)
            sleep(_REFRESH_SECONDS)


def _line_by_line(
    look: Callable[[], Sequence[Facts]], sleep: Callable[[float], None], *, as_json: bool
) -> None:
    before: dict[tuple[str, str], tuple[Any, ...]] = {}
    while True:
        for facts in look():
            folder, now = (facts["root"], facts["store"]), _what_matters(facts)
            if before.get(folder) == now:
                continue
            before[folder] = now
            if as_json:
                say_json(facts)
            else:
                say(checked_line(facts))
            sys.stdout.flush()
        sleep(_REFRESH_SECONDS)


def _what_matters(facts: Facts) -> tuple[Any, ...]:
    """Return the fields whose change is worth a new line."""
    names = ("state", "reason", "pending", "conflicts", "held", "problems", "pid", "paused_since")
    return tuple(facts.get(name) for name in names)


class WatchView:
    """What a person sees of a daemon in the foreground.

    On a terminal it names each linked folder at once, says when it gets in sync,
    and shows a bar while something moves. Elsewhere it logs figures every so
    many seconds, if that is asked for. `show` is called in the main thread, the
    listeners in those of the folders.
    """

    def __init__(self, clock: Clock, *, every: float | None, on_terminal: bool) -> None:
        self._clock = clock
        self._every = None if on_terminal else every
        self._next = clock.monotonic() + (every or 0.0)
        self._on_terminal = on_terminal
        self._lock = threading.Lock()
        self._bars: Bars | None = None
        self._names: dict[str, str] = {}
        self._in_sync: set[str] = set()
        self._settled: set[str] = set()
        """Folders that were in sync once: their scans are no longer shown."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._move(None)

    def listener(self, pair: Pair) -> OnEvent:
        """Return what writes the events of a linked folder to the log, and shows its progress."""
        root = str(pair.root)
        if self._on_terminal and root not in self._names:
            say(which(pair), to_stderr=True)
        self._names[root] = pair.folder or root
        words = [pair.folder] if pair.folder else pair.addresses
        to_log = log.listener(root, naming=common.naming(words))

        def listen(event: Event) -> None:
            if not isinstance(event, ProgressEvent):
                to_log(event)
            elif self._on_terminal and (event.files_total or root not in self._settled):
                self._move(event)

        return listen

    def show(self, statuses: Sequence[Facts]) -> None:
        """Show the status of all folders."""
        if self._on_terminal:
            if not any(facts["progress"] for facts in statuses):
                self._move(None)
            for facts in statuses:
                self._tell(facts)
        elif self._every is not None and self._clock.monotonic() >= self._next:
            self._next = self._clock.monotonic() + self._every
            for facts in statuses:
                _log.info("%s: %s", facts["root"], _figures(facts))

    def _tell(self, facts: Facts) -> None:
        """Log that a folder is in sync, if it was not before, or this was unknown."""
        root = facts["root"]
        if not is_in_sync(facts):
            self._in_sync.discard(root)
        elif root not in self._in_sync:
            self._in_sync.add(root)
            self._settled.add(root)
            _log.info("%s: in sync", self._names.get(root, root))

    def _move(self, event: ProgressEvent | None) -> None:
        """Show a bar with this progress, or none."""
        with self._lock:
            if event is not None:
                self._bars = self._bars or Bars(terminal.print_above)
                self._bars.show(event)
            elif self._bars is not None:
                self._bars.stop()
                self._bars = None


def _figures(facts: Facts) -> str:
    """Return the status of a folder in one line, with what it has transferred since the daemon started."""
    totals = facts["totals"]
    moved = (
        f"{totals['uploaded']} uploaded ({size_shown(totals['bytes_uploaded'])}), "
        f"{totals['downloaded']} downloaded ({size_shown(totals['bytes_downloaded'])})"
    )
    parts = [facts["state"], headline_of(facts), moving_of(facts), moved]
    return "; ".join(part for part in parts if part)
