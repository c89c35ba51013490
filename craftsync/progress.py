"""Shows the progress of a run: a bar on a terminal (by rich), a display in a notebook, or regular lines."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from craftsync.clock import SystemClock
from craftsync.engine.report import Event, OnEvent, ProgressEvent
from craftsync.wording import shown, size_shown

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress


class Display(Protocol):
    """Where progress is shown."""

    def show(self, event: ProgressEvent) -> None: ...

    def stop(self) -> None:
        """End the display. A second call does nothing."""
        ...


_one_at_a_time = threading.Lock()
"""Two progress lines on one terminal would garble each other."""


@contextmanager
def showing(
    command: str, on_event: OnEvent | None, waits: Callable[[], str | None], *, wanted: bool
) -> Iterator[OnEvent]:
    """Yield the listener for a run's events: it calls `on_event`, and updates a notebook's or terminal's display.

    Nothing is displayed if output goes to a file or a pipe. Of two runs at once, only the first is
    displayed. While `waits` returns what the run waits for, the display shows that text.
    """
    display = None
    if wanted and _one_at_a_time.acquire(blocking=False):
        try:
            display = _display(command, lambda: wait_shown(waits))
        finally:
            if display is None:
                _one_at_a_time.release()

    def hear(event: Event) -> None:
        if display and isinstance(event, ProgressEvent):
            display.show(event)
        if on_event is not None:
            on_event(event)

    try:
        yield hear
    finally:
        if display:
            display.stop()
            _one_at_a_time.release()


def wait_shown(waits: Callable[[], str | None]) -> str | None:
    """Return what `waits` returns, as text for one line."""
    found = waits()
    return None if found is None else shown(found)


def _display(command: str, waits: Callable[[], str | None]) -> Display | None:
    if is_notebook():
        return NotebookDisplay(command, waits)
    return Bars(waits=waits) if _is_terminal(sys.stdout) and _is_terminal(sys.stderr) else None


def _is_terminal(stream: object) -> bool:
    return bool(getattr(stream, "isatty", lambda: False)())


def is_notebook() -> bool:
    """Return whether this runs in the kernel of a notebook: Jupyter, VS Code, Colab and the like."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


_REFRESH_SECONDS = 0.1
_LOOK_SECONDS = 1.0
"""How often to look whether a command waits for a store."""


class NotebookDisplay:
    """One output of a notebook's cell that follows a run. It needs no widgets, and its last state stays."""

    def __init__(self, command: str, waits: Callable[[], str | None]) -> None:
        from IPython.display import display

        self._command = command
        self._looked: dict[str, int] = {}
        self._event = ProgressEvent("starting")
        self._clock = SystemClock()
        self._next = 0.0
        self._is_over = False
        self._waits = waits
        self._waiting: str | None = None
        self._handle = display(self, display_id=True)  # type: ignore[no-untyped-call]
        self._has_ended = threading.Event()
        self._thread = threading.Thread(target=self._follow_waits, name="waits", daemon=True)
        self._thread.start()

    def _follow_waits(self) -> None:
        while not self._has_ended.wait(_LOOK_SECONDS):
            before, self._waiting = self._waiting, self._waits()
            if self._waiting != before:
                self._handle.update(self)

    def show(self, event: ProgressEvent) -> None:
        self._event = event
        _note_looked(self._looked, event)
        now = self._clock.monotonic()
        if now >= self._next:
            self._next = now + _REFRESH_SECONDS
            self._handle.update(self)

    def stop(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._has_ended.set()
            self._thread.join()
            self._handle.update(self)

    def __repr__(self) -> str:
        event = self._event
        if self._waiting and not self._is_over:
            return f"{self._command}: {self._waiting}"
        if self._looked:
            return f"{self._command}: {_looked_shown(self._looked)}"
        files = _of(str(event.files_done), event.files_total and str(event.files_total))
        size = _of(
            size_shown(event.bytes_done), event.bytes_total and size_shown(event.bytes_total)
        )
        stage = "" if self._is_over else f"{event.stage} "
        return f"{self._command}: {stage}{files} files, {size}"

    def _repr_html_(self) -> str:
        from html import escape  # Loaded only for a notebook.

        total = self._event.bytes_total
        value = f' value="{self._event.bytes_done}" max="{total}"' if total else ""
        bar = "" if self._is_over else f"<progress{value}></progress> "
        return f"{bar}<span>{escape(repr(self))}</span>"


def _of(done: str, total: str | int | None) -> str:
    return f"{done} of {total}" if total else done


def _note_looked(looked: dict[str, int], event: ProgressEvent) -> None:
    """Count the files that each stage before the transfers has found: these stages take turns."""
    if event.files_total is None and event.stage != "transferring":
        looked[event.stage] = event.files_done or looked.get(event.stage, 0)
    else:
        looked.clear()


def _looked_shown(looked: dict[str, int]) -> str:
    return ", ".join(f"{stage} {count} files" for stage, count in looked.items())


_WIDE = 80
"""Columns that the bar, the rate and the remaining time need beside the counts."""


class Bars:
    """One line on stderr that follows the progress events of a run, and then disappears.

    rich is imported only here: that takes a fifth of the time of a small push. `print_above` is
    called with a function that prints a line above the bar, and with `None` when the bar is gone;
    without it, all output of the program is redirected above the bar. While `waits` returns what
    the run waits for, that text replaces the bar.
    """

    def __init__(
        self,
        print_above: Callable[[Callable[[str], None] | None], None] | None = None,
        waits: Callable[[], str | None] = lambda: None,
    ) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            ProgressColumn,
            TaskProgressColumn,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self._console = Console(stderr=True)
        counts = TextColumn("{task.description}"), TextColumn("{task.fields[files]}")
        amounts: tuple[ProgressColumn, ...] = (
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        self._progress = _line(waits)(
            *counts,
            *(amounts if self._console.width >= _WIDE else (TaskProgressColumn(),)),
            console=self._console,
            transient=True,
            # The command line passes each line for this terminal to `_print`.
            redirect_stdout=print_above is None,
            redirect_stderr=print_above is None,
        )
        self._looked: dict[str, int] = {}
        self._task = self._progress.add_task("starting", total=None, files="")
        self._progress.start()
        self._print_above = print_above or _ignore
        self._print_above(self._print)

    def _print(self, line: str) -> None:
        """Print a line above the bar, unwrapped, so that it can be copied."""
        from rich.text import Text

        self._console.print(Text(line), soft_wrap=True)

    def show(self, event: ProgressEvent) -> None:
        _note_looked(self._looked, event)
        if self._looked:
            looked = _looked_shown(self._looked)
            self._progress.update(self._task, description=looked, total=None, files="")
            return
        total = "" if event.files_total is None else f"/{event.files_total}"
        stage = self._hashing(event) if event.stage == "hashing" else event.stage
        self._progress.update(
            self._task,
            description=stage,
            completed=event.bytes_done,
            total=event.bytes_total,
            files=f"{event.files_done}{total} files",
        )

    def _hashing(self, event: ProgressEvent) -> str:
        """Return the number of files hashed so far, which comes before the count of finished files."""
        size = f" ({size_shown(event.bytes_hashed)})" if self._console.width >= _WIDE else ""
        return f"hashing {event.files_hashed} files{size}:"

    def stop(self) -> None:
        self._print_above(None)
        self._progress.stop()


def _line(waits: Callable[[], str | None]) -> type[Progress]:
    """Return a progress line of rich that shows what the run waits for, if it waits."""
    from rich.progress import Progress
    from rich.text import Text

    class Line(Progress):
        def get_renderables(self) -> Iterable[RenderableType]:
            if (waiting := waits()) is not None:
                yield Text(waiting, no_wrap=True, overflow="ellipsis")
            else:
                yield from super().get_renderables()

    return Line


def _ignore(print_line: Callable[[str], None] | None) -> None:
    """Do nothing: output is redirected above the bar."""


def stats_line(event: ProgressEvent, seconds: float) -> str:
    """Return a line with the progress of a run after `seconds`, and the remaining time at that rate."""
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
    """Prints the progress of a run every `every` seconds, also while nothing moves, through the thread-safe `say`."""

    def __init__(self, command: str, every: float, say: Callable[[str], object]) -> None:
        self._command = command
        self._say = say
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
            self._say(f"{self._command}: {line}")


class WaitLines:
    """Prints, while it is open, what a command waits for: once, and again every ten minutes.

    `waits` returns that, or `None`. `say` prints a line, from any thread.
    """

    _LOOK_SECONDS, _AGAIN_SECONDS = _LOOK_SECONDS, 600.0

    def __init__(self, waits: Callable[[], str | None], say: Callable[[str], object]) -> None:
        self._waits = waits
        self._say = say
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._print, name="waits", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _print(self) -> None:
        pause = self._LOOK_SECONDS
        while not self._is_over.wait(pause):
            waiting = self._waits()
            pause = self._LOOK_SECONDS if waiting is None else self._AGAIN_SECONDS
            if waiting is not None:
                self._say(waiting)
