"""Counts what a run does, and reports it to the caller as events and in the `Report`.

Also here: `Journal`, through which a worker records the parts of an upload.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, TextIO

from craftsync.clock import Clock
from craftsync.core.guard import DeleteLimit
from craftsync.core.model import DELETES
from craftsync.engine import planfile
from craftsync.engine.planner import Planned
from craftsync.engine.report import (
    COPIES,
    REVIEW,
    ActionEvent,
    Event,
    HeldEvent,
    Issue,
    IssueEvent,
    OnEvent,
    Outcome,
    ProgressEvent,
    Report,
    Status,
)
from craftsync.engine.sides import Note
from craftsync.errors import PathObstructed
from craftsync.net.pace import Hashing, Limiter
from craftsync.net.tasks import Pool
from craftsync.state.held import Deleted, Events
from craftsync.state.plan import Totals
from craftsync.state.transfers import SavedUpload, Transfers

_TICK_SECONDS = 0.1
_STAGE_SECONDS = 1.0
"""While bytes move, the stage stays `transferring`; after this long without, hashing is shown."""


class Tally:
    """Adds one attempt of a run to its report.

    A skipped step is kept for the next attempt. In the `last` attempt it is reported.
    """

    def __init__(self, report: Report, on_event: OnEvent, clock: Clock, *, last: bool) -> None:
        self._again: list[str] = []
        self._obstructed: list[tuple[str, Issue, str]] = []
        self._report = report
        self._on_event = on_event
        self._clock = clock
        self._last = last
        self._totals = Totals(0, 0)
        self._done = 0
        self._hashing = Hashing()
        self._stage = "transferring"
        self._seen = 0, 0
        self._limiters: tuple[Limiter, ...] = ()
        self._bytes = 0
        self._ticked_at = self._moved_at = clock.monotonic()

    def event(self, event: Event) -> None:
        self._report.note(event)
        self._on_event(event)

    def planned(self, planned: Planned, totals: Totals) -> None:
        report = self._report
        report.unchanged += planned.unchanged
        report.skipped += planned.skipped
        report.special += planned.special
        report.ignored_local += planned.ignored_local
        report.ignored_remote += planned.ignored_remote
        report.filtered += planned.filtered
        report.problems += planned.problems
        report.held += planned.held
        self._totals = totals
        self._progress()

    def use_hashing(self, hashing: Hashing) -> None:
        """Take the progress of hashing from this counter."""
        self._hashing = hashing

    def ended(self) -> None:
        """Report the progress a last time, after all steps have ended."""
        self._progress()

    def add_totals(self, added: Totals) -> None:
        """Count the steps that were added during the run."""
        self._totals = Totals(self._totals.files + added.files, self._totals.bytes + added.bytes)

    def use_limiters(self, *limiters: Limiter) -> None:
        """Take the number of moved bytes from these. Without limiters, the outcomes count."""
        self._limiters = limiters

    def _moved(self) -> int:
        """Return the bytes that this attempt has moved so far."""
        if not self._limiters:
            return self._bytes
        return sum(limiter.moved for limiter in self._limiters)

    def outcome(self, outcome: Outcome) -> None:
        """Count one recorded outcome and pass it on."""
        action, report = outcome.action, self._report
        self._done += 1
        self._bytes += outcome.bytes
        report.on_synced(outcome.rows)
        match outcome.status:
            case Status.DONE | Status.PLANNED:
                size, replaces = action.size, action.replaced_size
                is_planned = outcome.status is Status.PLANNED and action.kind in COPIES
                moved = size if is_planned else outcome.bytes
                word, status = report.count(action.kind, moved), str(outcome.status)
                report.replaced += replaces is not None
                self.event(ActionEvent(word, action.path, size, status, action.rule, replaces))
            case Status.UNCHANGED:
                report.adopted += bool(outcome.rows) and action.baseline is None
                report.unchanged += bool(outcome.rows) and action.baseline is not None
            case Status.CONFLICT:
                report.conflicts += 1
                report.bytes_uploaded += outcome.bytes
                self.event(IssueEvent(Issue.CONFLICT, action.path, outcome.reason))
            case Status.HELD:
                report.held += 1
                self.event(IssueEvent(Issue.HELD, action.path, outcome.reason))
                self.event(HeldEvent(1, "store", outcome.reason, REVIEW, action.path))
            case Status.SKIPPED:
                self._undone(action.path, Issue.SKIPPED, outcome)
                if action.source is not None and not self._last:
                    self._again.append(action.source)
            case Status.PROBLEM:
                self._undone(action.path, Issue.PROBLEM, outcome)

    def tick(self) -> None:
        now = self._clock.monotonic()
        if now - self._ticked_at >= _TICK_SECONDS:
            self._ticked_at = now
            self._progress()

    def finish(self) -> list[str]:
        """Return the paths to try again. If no step was skipped, report the obstructed paths and return none.

        Otherwise obstructed paths are tried again too: the next attempt may remove the obstacle.
        """
        if not self._again:
            for path, issue, reason in self._obstructed:
                self._tell(path, issue, reason)
            return []
        return self._again + [path for path, _, _ in self._obstructed]

    def _progress(self) -> None:
        moved, hashing, totals = self._moved(), self._hashing, self._totals
        stage, hashed = self._stage_of(moved, hashing.size), (hashing.files, hashing.size)
        self.event(ProgressEvent(stage, self._done, totals.files, moved, totals.bytes, *hashed))

    def _stage_of(self, moved: int, hashed: int) -> str:
        """Return the stage to show: `transferring` while bytes move, else the one that progresses."""
        seen, self._seen = self._seen, (moved, hashed)
        now = self._clock.monotonic()
        if moved != seen[0]:
            self._stage, self._moved_at = "transferring", now
        elif hashed != seen[1] and (not moved or now - self._moved_at >= _STAGE_SECONDS):
            self._stage = "hashing"
        return self._stage

    def _undone(self, path: str, issue: Issue, outcome: Outcome) -> None:
        """Report a step that changed nothing, or keep it for the next attempt if it may succeed then."""
        if isinstance(outcome.error, PathObstructed) and not self._last:
            self._obstructed.append((path, issue, outcome.reason))
        elif issue is Issue.PROBLEM or outcome.final or self._last:
            self._tell(path, issue, outcome.reason)
        else:
            self._again.append(path)

    def _tell(self, path: str, issue: Issue, reason: str) -> None:
        self._report.problems += issue is Issue.PROBLEM
        self._report.skipped += issue is Issue.SKIPPED
        self.event(IssueEvent(issue, path, reason))


class PlanWriter(Tally):
    """A `Tally` that also writes each planned action to a plan file."""

    def __init__(self, report: Report, on_event: OnEvent, clock: Clock, out: TextIO) -> None:
        super().__init__(report, on_event, clock, last=True)
        self._out = out

    def outcome(self, outcome: Outcome) -> None:
        if outcome.status in (Status.PLANNED, Status.CONFLICT):
            planfile.write_action(self._out, outcome.action)
        super().outcome(outcome)


class Journal:
    """The `stores.base.UploadJournal` of one upload: workers call it, the control thread writes.

    `identity` distinguishes this content from others at the same path: its digest, or a substitute.
    """

    def __init__(
        self,
        transfers: Transfers,
        pool: Pool[Any],
        path: str,
        identity: bytes,
        saved: SavedUpload | None,
    ) -> None:
        self._transfers = transfers
        self._pool = pool
        self._path = path
        self._identity = identity
        self._saved = saved

    def resume(self) -> tuple[str, int, dict[int, str]] | None:
        """Return the unfinished upload of this content, if any; this process may have begun it."""
        saved = self._saved
        return None if saved is None else (saved.upload_id, saved.part_size, dict(saved.parts))

    def begin(self, upload_id: str, part_size: int) -> None:
        self._saved = SavedUpload(upload_id, self._identity, part_size, {})
        begin = self._transfers.begin_upload
        self._pool.post(Note(partial(begin, self._path, self._identity, upload_id, part_size)))

    def part_done(self, number: int, version: str) -> None:
        assert self._saved is not None
        self._saved.parts[number] = version
        upload_id = self._saved.upload_id
        self._pool.post(Note(partial(self._transfers.upload_part, upload_id, number, version)))

    def end(self) -> None:
        if self._saved is not None:
            ended = [self._saved.upload_id]
            self._saved = None
            self._pool.post(Note(partial(self._transfers.forget_uploads, ended)))


def note_deletes(
    events: Events, finished: Iterable[Outcome], limit: DeleteLimit, trash_stamp: str, now_ns: int
) -> None:
    """Count unapproved deletes, and the new paths that offset them. `trash_stamp`: their trash folder."""
    done = [one for one in finished if one.status is not Status.PLANNED]
    events.make_up(sum(1 for one in done if one.rows and one.action.baseline is None))
    events.add(
        (
            Deleted(one.action.kind, one.action.path, one.action.size, now_ns, trash_stamp)
            for one in done
            if one.action.kind in DELETES and one.status is Status.DONE
        ),
        limit,
    )
