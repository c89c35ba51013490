"""Long work that continues when the page is closed: its progress and its result.

Every browser sees the same jobs. They end with the server; transfers under way
resume in the next run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from nicegui import background_tasks, ui

from craftsync.engine.report import Event, IssueEvent, OnEvent, ProgressEvent, Report
from craftsync.errors import CraftsyncError
from craftsync.ui import page
from craftsync.ui.workspace import Workspace
from craftsync.wording import size_shown

_MOST_ISSUES = 200
_EVERY_SECONDS = 0.5


class Stopped(CraftsyncError):
    """The user stopped a job."""


@dataclass(slots=True, eq=False)
class Job:
    """One piece of long work. `place` is the address of the page that shows it."""

    title: str
    place: str
    event: ProgressEvent | None = None
    issues: list[IssueEvent] = field(default_factory=list)
    report: Report | None = None
    error: CraftsyncError | None = None
    asked_to_stop: bool = False

    @property
    def is_over(self) -> bool:
        return self.report is not None or self.error is not None

    def hear(self, event: Event) -> None:
        """Record an event of the run; raises `Stopped` after a request to stop."""
        if self.asked_to_stop:
            raise Stopped("Stopped. What was done is kept; run it again to continue.")
        if isinstance(event, ProgressEvent):
            self.event = event
        elif isinstance(event, IssueEvent) and len(self.issues) < _MOST_ISSUES:
            self.issues.append(event)


def begin(workspace: Workspace, title: str, place: str, work: Callable[[OnEvent], Report]) -> Job:
    """Start a job in a thread; one at a time on each page."""
    for job in running(workspace, place):
        if not job.is_over:
            raise CraftsyncError(f"{job.title} is under way.", remedy="Wait for it, or stop it.")
    job = Job(title, place)
    workspace.jobs[:] = [one for one in workspace.jobs if one.place != place]
    workspace.jobs.append(job)

    async def carry_out() -> None:
        try:
            job.report = await workspace.in_thread(work, job.hear)
        except CraftsyncError as error:
            job.error = error
        except OSError as error:
            job.error = CraftsyncError(f"{error.strerror or error}")

    background_tasks.create(carry_out())
    return job


def running(workspace: Workspace, place: str) -> list[Job]:
    """Return the jobs of a page, finished ones included."""
    return [job for job in workspace.jobs if job.place == place]


class Board:
    """Shows the job of a page, and updates in every browser."""

    def __init__(
        self, workspace: Workspace, place: str, on_end: Callable[[Job], None] = lambda job: None
    ) -> None:
        self._workspace, self._place, self._on_end = workspace, place, on_end
        self._card, self._state = page.Part(), page.Part()
        self.show()
        ui.timer(_EVERY_SECONDS, self.show)

    def show(self) -> None:
        job = next(iter(running(self._workspace, self._place)), None)
        # The stop button is not rebuilt while the figures change.
        self._card.show(job and (job, job.is_over, job.asked_to_stop), lambda: self._build(job))
        if job is not None and not job.is_over:
            self._state.show((job, job.event, len(job.issues)), lambda: self._under_way(job))

    def _build(self, job: Job | None) -> None:
        if job is None:
            return
        with ui.element("section").classes("card") as card:
            card.props["aria-label"] = job.title
            with ui.element("div").classes("line"):
                page.text(job.title, tag="h2")
                if not job.is_over:
                    page.text("stopping" if job.asked_to_stop else "running", "tag")
                    ui.space()
                    ui.button("Stop", on_click=lambda: self._stop(job)).props("outline dense")
            if job.error is not None:
                page.failure(job.error)
            elif job.report is not None:
                page.text(summary(job.report), "ok" if job.report.exit_code == 0 else "warn")
                self._on_end(job)
            self._state = page.Part()
            if job.is_over:
                _issues(job)

    def _under_way(self, job: Job) -> None:
        if job.event is not None:
            _progress(job.event)
        _issues(job)

    def _stop(self, job: Job) -> None:
        job.asked_to_stop = True
        self.show()


def _issues(job: Job) -> None:
    if job.issues:
        rows = [(one.path, str(one.issue), one.reason) for one in job.issues]
        page.table(("Path", "What", "Why"), rows)


def _progress(event: ProgressEvent) -> None:
    if not event.files_total:
        page.text(f"{event.stage}: {event.files_done:,}", "muted num")
        return
    total = event.bytes_total or 0
    share = event.bytes_done / total if total else event.files_done / event.files_total
    bar = ui.linear_progress(min(share, 1.0), show_value=False, size="6px")
    bar.props('instant-feedback aria-label="Progress"')
    page.text(
        f"{event.files_done:,} of {event.files_total:,} files,"
        f" {size_shown(event.bytes_done)} of {size_shown(total)}",
        "muted",
    )


def summary(report: Report) -> str:
    """Return a sentence with what a run did, or would do."""
    moved = {
        "uploaded": report.uploaded,
        "downloaded": report.downloaded,
        "copied": report.copied,
        "moved": report.moved,
        "deleted in the store": report.deleted_remote,
        "deleted in the folder": report.deleted_local,
        "in conflict": report.conflicts,
        "held": report.held,
        "skipped": report.skipped,
        "problems": report.problems,
    }
    done = ", ".join(f"{count:,} {name}" for name, count in moved.items() if count)
    size = report.bytes_uploaded + report.bytes_downloaded + getattr(report, "bytes_copied", 0)
    if not done:
        return "Nothing to do: both sides hold the same."
    would = "Would do: " if report.dry_run else ""
    return f"{would}{done}" + (f" ({size_shown(size)})" if size else "")
