"""Progress on a terminal: files, bytes, rate and time left. The only importer of rich."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from craftsync.sync.report import ProgressEvent


class Bars:
    """One line on stderr that follows the progress events of a pass and then disappears."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[files]}"),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            # Lines printed meanwhile appear above the bar, unless stdout goes somewhere else.
            redirect_stdout=sys.stdout.isatty(),
        )
        self._task = self._progress.add_task("starting", total=None, files="")
        self._progress.start()

    def show(self, event: ProgressEvent) -> None:
        total = "" if event.files_total is None else f"/{event.files_total}"
        self._progress.update(
            self._task,
            description=event.stage,
            completed=event.bytes_done,
            total=event.bytes_total,
            files=f"{event.files_done}{total} files",
        )

    def stop(self) -> None:
        """Take the line away; a second call does nothing."""
        self._progress.stop()
