"""Counts what a run does and tells its listener."""

from __future__ import annotations

from craftsync.clock import Clock
from craftsync.core.model import Kind
from craftsync.migrate.options import MigrationReport
from craftsync.migrate.outcome import CopyOutcome
from craftsync.migrate.planner import Planned
from craftsync.state.plan import Totals
from craftsync.sync.limiter import Limiter
from craftsync.sync.outcome import Status
from craftsync.sync.report import ActionEvent, Issue, IssueEvent, OnEvent, ProgressEvent

_TICK_SECONDS = 0.1


class Tally:
    """Adds one round of a run to its report.

    Steps that were skipped and may succeed later are kept in `again` for the
    next round; in the `last` round they are reported instead.
    """

    def __init__(
        self, report: MigrationReport, on_event: OnEvent, clock: Clock, *, last: bool
    ) -> None:
        self.again: list[str] = []
        self.event = on_event
        self._report = report
        self._clock = clock
        self._last = last
        self._totals = Totals(0, 0)
        self._done = 0
        self._copied = 0
        self._moving: Limiter | None = None
        self._ticked_at = clock.monotonic()

    def planned(self, planned: Planned, totals: Totals) -> None:
        report = self._report
        report.unchanged += planned.unchanged
        report.skipped += planned.skipped
        report.problems += planned.problems
        report.held += planned.held
        self._totals = totals
        self._progress()

    def count_bytes(self, moving: Limiter | None) -> None:
        """Take the bytes that moved from here; where none move, from what is done."""
        self._moving = moving

    def tick(self) -> None:
        now = self._clock.monotonic()
        if now - self._ticked_at >= _TICK_SECONDS:
            self._ticked_at = now
            self._progress()

    def _progress(self) -> None:
        moved = self._copied if self._moving is None else self._moving.moved
        self.event(
            ProgressEvent("transferring", self._done, self._totals.files, moved, self._totals.bytes)
        )

    def outcome(self, outcome: CopyOutcome) -> None:
        """Count one recorded outcome and pass it on."""
        step, report = outcome.step, self._report
        self._done += step.kind is not Kind.FORGET
        self._copied += outcome.bytes
        if outcome.row is not None:
            how = str(outcome.row.verified)
            report.verified[how] = report.verified.get(how, 0) + 1
        match outcome.status:
            case Status.DONE | Status.PLANNED:
                self._count(outcome)
            case Status.UNCHANGED if outcome.row is not None:
                report.adopted += step.kind is not Kind.ADOPT
            case Status.SKIPPED if not (self._last or outcome.final):
                self.again.append(step.path)
            case Status.SKIPPED:
                report.skipped += 1
                self.event(IssueEvent(Issue.SKIPPED, step.path, outcome.reason))
            case Status.PROBLEM:
                report.problems += 1
                self.event(IssueEvent(Issue.PROBLEM, step.path, outcome.reason))

    def _count(self, outcome: CopyOutcome) -> None:
        step, report = outcome.step, self._report
        copied = step.kind is not Kind.DELETE_REMOTE
        report.copied += copied
        report.deleted_remote += not copied
        report.bytes_copied += outcome.bytes
        action = "copy" if copied else Kind.DELETE_REMOTE
        size = step.source.size if step.source else step.target.size if step.target else 0
        self.event(ActionEvent(action, step.path, size, str(outcome.status), outcome.reason))
