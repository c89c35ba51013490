"""Progress on a terminal: files, bytes, rate and time left. The only importer of rich."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from craftsync.cli import terminal
from craftsync.cli.output import size_shown
from craftsync.sync.report import ProgressEvent

_WIDE = 80
"""Columns that bar, rate and time left need beside the counts."""


class Bars:
    """One line on stderr that follows the progress events of a run and then disappears."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        counts = TextColumn("{task.description}"), TextColumn("{task.fields[files]}")
        amounts: tuple[ProgressColumn, ...] = (
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        self._progress = Progress(
            *counts,
            *(amounts if self._console.width >= _WIDE else (TaskProgressColumn(),)),
            console=self._console,
            transient=True,
            # All lines come through `terminal`, which hands those for this terminal to `_print`.
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._looked: dict[str, int] = {}
        """How many files each stage of looking has met, for they take turns."""
        self._task = self._progress.add_task("starting", total=None, files="")
        self._progress.start()
        terminal.print_above(self._print)

    def _print(self, line: str) -> None:
        """Print a line above the bar, unwrapped, so that it can be copied."""
        self._console.print(Text(line), soft_wrap=True)

    def show(self, event: ProgressEvent) -> None:
        if event.files_total is None and event.stage != "transferring":
            self._looked[event.stage] = event.files_done or self._looked.get(event.stage, 0)
            looked = ", ".join(f"{stage} {count} files" for stage, count in self._looked.items())
            self._progress.update(self._task, description=looked, total=None, files="")
            return
        self._looked.clear()
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
        """Return what was hashed so far; of the files that follow it, some wait for that."""
        size = f" ({size_shown(event.bytes_hashed)})" if self._console.width >= _WIDE else ""
        return f"hashing {event.files_hashed} files{size}:"

    def stop(self) -> None:
        """Take the line away; a second call does nothing."""
        terminal.print_above(None)
        self._progress.stop()
