"""Counts what a run does and tells its listener."""

from __future__ import annotations

from craftsync.clock import Clock
from craftsync.core.model import Kind
from craftsync.engine.report import ActionEvent, Issue, OnEvent, Status
from craftsync.engine.tally import RoundTally
from craftsync.migrate.options import MigrationReport
from craftsync.migrate.outcome import CopyOutcome
from craftsync.net.pace import Limiter


class Tally(RoundTally):
    """Adds one round of a run to its report."""

    def __init__(
        self, report: MigrationReport, on_event: OnEvent, clock: Clock, *, last: bool
    ) -> None:
        super().__init__(report, on_event, clock, last=last)
        self._copies = report
        self._copied = 0
        self._has_removed = False
        self._moving: Limiter | None = None

    def count_bytes(self, moving: Limiter | None) -> None:
        """Take the bytes that moved from here; where none move, from what is done."""
        self._moving = moving

    def _moved(self) -> int:
        return self._copied if self._moving is None else self._moving.moved

    def _is_worth_it(self) -> bool:
        """Deletes come last, and may have cleared the way for what was obstructed."""
        return self._has_removed or super()._is_worth_it()

    def outcome(self, outcome: CopyOutcome) -> None:
        """Count one recorded outcome and pass it on."""
        step, report = outcome.step, self._copies
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
            case Status.SKIPPED:
                final = outcome.final
                self._undone(step.path, Issue.SKIPPED, outcome.reason, outcome.error, final=final)
            case Status.PROBLEM:
                self._undone(step.path, Issue.PROBLEM, outcome.reason, outcome.error, final=True)

    def _count(self, outcome: CopyOutcome) -> None:
        step, report = outcome.step, self._copies
        copied = step.kind is not Kind.DELETE_REMOTE
        report.copied += copied
        report.deleted_remote += not copied
        self._has_removed = self._has_removed or not copied
        report.bytes_copied += outcome.bytes
        action = "copy" if copied else Kind.DELETE_REMOTE
        size = step.source.size if step.source else step.target.size if step.target else 0
        self.event(ActionEvent(action, step.path, size, str(outcome.status), outcome.reason))
