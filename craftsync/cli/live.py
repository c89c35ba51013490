"""Live displays: `status --watch`, `watch` on a terminal, and `--stats` without a terminal."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from craftsync.cli import log, terminal
from craftsync.cli import params as common
from craftsync.cli.output import say, say_json, which
from craftsync.clock import Clock, SystemClock
from craftsync.config.pairs import Pair
from craftsync.engine.report import Event, OnEvent, ProgressEvent
from craftsync.progress import Bars
from craftsync.wording import size_shown

Facts = Mapping[str, Any]

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

    from craftsync.cli.status import panels

    with Live(panels(look()), auto_refresh=False, screen=False) as live:
        while True:
            live.update(panels(look()), refresh=True)
            sleep(_REFRESH_SECONDS)


def _line_by_line(
    look: Callable[[], Sequence[Facts]], sleep: Callable[[float], None], *, as_json: bool
) -> None:
    from craftsync.cli.status import checked_line

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
    names = ("state", "reason", "pending", "conflicts", "held", "problems", "pid")
    return tuple(facts.get(name) for name in names)


def stats_line(event: ProgressEvent, seconds: float) -> str:
    """Return how far a run has come in `seconds`, and how long the rest takes at that rate."""
    if event.files_total is None:
        return f"{event.stage}: {event.files_done} files so far"
    moved, total = event.bytes_done, event.bytes_total or 0
    parts = [
        f"{event.stage}: {event.files_done} of {event.files_total} files",
        f"{size_shown(moved)} of {size_shown(total)}",
    ]
    if moved and seconds > 0:
        left = (total - moved) * seconds / moved
        parts += [f"{size_shown(int(moved / seconds))}/s", f"{_duration(left)} left"]
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


class StatsLines:
    """Prints on stderr how far a run has come, `every` seconds, also while nothing moves."""

    def __init__(self, command: str, every: float) -> None:
        self._command = command
        self._every = every
        self._event = ProgressEvent("starting")
        self._clock = SystemClock()
        self._moving_since = 0.0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._print, name="stats", daemon=True)
        self._thread.start()

    def show(self, event: ProgressEvent) -> None:
        if event.files_total is None or self._event.files_total is None:
            self._moving_since = self._clock.monotonic()
        self._event = event

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join()

    def _print(self) -> None:
        while not self._is_over.wait(self._every):
            line = stats_line(self._event, self._clock.monotonic() - self._moving_since)
            say(f"{self._command}: {line}", to_stderr=True)


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
        from craftsync.cli.status import is_in_sync

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
    from craftsync.cli.status import headline_of, moving_of

    totals = facts["totals"]
    moved = (
        f"{totals['uploaded']} uploaded ({size_shown(totals['bytes_uploaded'])}), "
        f"{totals['downloaded']} downloaded ({size_shown(totals['bytes_downloaded'])})"
    )
    parts = [facts["state"], headline_of(facts), moving_of(facts), moved]
    return "; ".join(part for part in parts if part)
