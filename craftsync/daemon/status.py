"""The status of a folder in the daemon: its open issues, and the fields of `status --json`."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from typing import Any

from craftsync import __version__
from craftsync.clock import iso
from craftsync.engine.report import (
    ActionEvent,
    DamageEvent,
    Event,
    HeldEvent,
    Issue,
    IssueEvent,
    ProgressEvent,
    Report,
)

_MOST_PATHS = 10_000
"""Further paths are only counted, so that memory does not grow with them."""

_FOR_PEOPLE = (Issue.CONFLICT, Issue.HELD, Issue.PROBLEM)


class Waiting:
    """Open issues of a folder, and the paths that were busy. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._known: dict[str, IssueEvent] = {}
        self._found: dict[str, IssueEvent] = {}
        self._uncounted: Counter[Issue] = Counter()
        self._beyond: Counter[Issue] = Counter()
        self._busy: set[str] = set()
        self._found_busy: set[str] = set()
        self._has_new_held = False
        self._damaged: dict[str, IssueEvent] = {}
        self._excluded: set[str] = set()

    @property
    def busy(self) -> int:
        """The number of paths that changed while a run was about to transfer them; they are retried."""
        with self._lock:
            return len(self._busy)

    @property
    def is_in_sync(self) -> bool:
        """Whether no path is held, failed or busy. Conflicts do not count: both sides hold both versions."""
        with self._lock:
            return not (self.count(Issue.HELD) or self.count(Issue.PROBLEM) or self._busy)

    def note(self, event: Event) -> None:
        """Record one event of the current run."""
        with self._lock:
            if isinstance(event, ActionEvent):
                self._known.pop(event.path, None)
                self._damaged.pop(event.path, None)
                self._busy.discard(event.path)
                self._found_busy.discard(event.path)
            elif isinstance(event, DamageEvent):
                # Runs do not report it again, so it stays until the path is resolved.
                if len(self._damaged) < _MOST_PATHS:
                    self._damaged[event.path] = event
            elif isinstance(event, IssueEvent) and event.issue in _FOR_PEOPLE:
                if event.issue is Issue.HELD and not self._beyond[Issue.HELD]:
                    self._has_new_held |= self._is_new(event.path, event)
                if len(self._found) < _MOST_PATHS:
                    self._found[event.path] = event
                else:
                    self._uncounted[event.issue] += 1
            elif isinstance(event, IssueEvent) and self._is_busy(event):
                self._found_busy.add(event.path)

    def note_reported(self, event: Event) -> bool:
        """Return whether an earlier run reported the same; for held deletes, whether none is new.

        Records that this event is reported now. Reasons are not compared: their
        numbers change with each run.
        """
        with self._lock:
            if isinstance(event, HeldEvent):
                has_new, self._has_new_held = self._has_new_held, False
                return not has_new
            if not isinstance(event, IssueEvent):
                return False
            if event.by_design:
                return self._is_reported_exclusion(event.path)
            if event.issue is Issue.HELD:
                return not self._is_new(event.path, event)
            return self._known.get(event.path) == event

    def _is_busy(self, event: IssueEvent) -> bool:
        return not event.by_design and len(self._found_busy) < _MOST_PATHS

    def _is_reported_exclusion(self, path: str) -> bool:
        """Return whether an excluded path was reported before; beyond a limit, all count as reported."""
        if path in self._excluded or len(self._excluded) >= _MOST_PATHS:
            return True
        self._excluded.add(path)
        return False

    def run_ended(self, paths: Set[str] | None, *, skipped: int = 0) -> list[IssueEvent]:
        """Record the issues of a finished run, and clear earlier ones that it covered but did not find again.

        It covered `paths` and everything below them, or the whole folder. `skipped` is
        the number of busy paths in its report, without paths excluded by design.
        Returns the new issues.
        """
        with self._lock:
            new = [event for path, event in self._found.items() if self._is_new(path, event)]
            if paths is None:
                self._known, self._busy, self._beyond = {}, set(), Counter()
            else:
                for path in [path for path in self._known if _is_covered(path, paths)]:
                    del self._known[path]
                self._busy = {path for path in self._busy if not _is_covered(path, paths)}
            self._known |= self._found
            self._beyond += self._uncounted
            if skipped:
                self._busy |= self._found_busy
            self._found, self._uncounted, self._found_busy = {}, Counter(), set()
        return new

    def failed_at(self, paths: Set[str]) -> set[str]:
        """Return which of these paths, or of those below them, failed or were busy."""
        with self._lock:
            failed = {path for path, event in self._known.items() if event.issue is Issue.PROBLEM}
            return {path for path in failed | self._busy if _is_covered(path, paths)}

    def count(self, issue: Issue) -> int:
        with self._lock:
            known = sum(event.issue is issue for event in self._all().values())
            return self._beyond[issue] + known

    def first(self, most: int) -> list[IssueEvent]:
        """Return the first `most` of them, in order of path."""
        with self._lock:
            found = self._all()
            return [found[path] for path in sorted(found)[:most]]

    def _all(self) -> dict[str, IssueEvent]:
        return {**self._damaged, **self._known} if self._damaged else self._known

    def _is_new(self, path: str, event: IssueEvent) -> bool:
        known = self._known.get(path)
        return known is None or known.issue is not event.issue


def _is_covered(path: str, paths: Set[str]) -> bool:
    return any(place in paths for place in _up_from(path))


def _up_from(path: str) -> Iterator[str]:
    """Yield the path, and each folder above it."""
    while path:
        yield path
        path = path.rpartition("/")[0]


_MOST_WAITING = 100
_TOTALS = ("uploaded", "downloaded", "bytes_uploaded", "bytes_downloaded", "errors")


@dataclass(frozen=True, slots=True)
class FolderState:
    """A snapshot of the state of the loop.

    `state` is a word of `status --json`: `watching`, `scanning`, `transferring`,
    `paused`, `offline`, `halted` or `stopped`; `reason` is why it is offline
    or halted. `pending` counts the paths that wait for a run or a transfer,
    `None` when that is unknown; `conflicts` those with a conflict copy beside
    them. `last_success_ns` is when both sides were last known to be in sync.
    `watch_healthy` is `None` until watching has started.
    """

    state: str = "stopped"
    reason: str | None = None
    pending: int | None = None
    conflicts: int = 0
    last_success_ns: int | None = None
    left_out: Mapping[str, int] | None = None
    """What the last complete run left out (`Report.left_out`), `None` before the first."""
    watch_healthy: bool | None = None
    watch_reason: str | None = None
    next_full_scan: float = 0.0
    """When the next full run is due, on the session's monotonic clock; changes with each full run."""
    full_run_began: float | None = None
    """When the last full run that has ended began, on the session's monotonic clock; `None` before one."""
    transfers_at_once: int | None = None
    """The current limit of concurrent short transfers; `None` if fixed or not measured yet."""
    error_code: int | None = None
    """The exit code of the error that halted it, `None` while it is not halted."""
    progress: ProgressEvent | None = None
    """How far the run under way has come, `None` between runs."""
    last_report: Report | None = None
    """The outcome of the last run that ended."""


_RETRY_MAY_HELP = 5
"""The exit code where another try may help."""
_BY_SERIOUSNESS = (7, 78, 3, 4, 2, 1, 5, 6, 0)


def most_serious(codes: Sequence[int]) -> int:
    """Return the most serious of these exit codes: those that need a person, then failures, then the rest."""
    order = _BY_SERIOUSNESS
    # An unknown code ranks like 1.
    return min(codes, key=lambda code: order.index(code if code in order else 1), default=0)


def exit_code_of(facts: Mapping[str, Any]) -> int:
    """Return the exit code for a status: 0 if no difference is known and a daemon is watching.

    `facts` are the fields of `status --json`.
    """
    if facts["state"] == "halted":
        return facts.get("error_code") or 1
    waiting = (("held", 7), ("conflicts", 4), ("problems", 1), ("busy", 6))
    codes = [code for name, code in waiting if facts.get(name)]
    if facts["state"] == "stopped" and facts.get("reason"):
        codes.append(3)
    if codes:
        return most_serious(codes)
    watches = facts["state"] in ("watching", "scanning")
    return 0 if watches and facts["pending"] == 0 and facts["last_success"] else _RETRY_MAY_HELP


def of_running(
    pair: Mapping[str, str],
    *,
    state: FolderState,
    reason: str | None,
    waiting: Waiting,
    totals: Mapping[str, int],
    rates: tuple[float | None, float | None],
    now_ns: int,
    events: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return the fields for a folder that a daemon watches; they include those of a stopped folder.

    `pair` has root, store and mode; `rates` are bytes per second up and down;
    `events` is the health of the queue of `events:`, `None` without one.
    """
    last_ns = state.last_success_ns
    progress = asdict(state.progress) if state.progress is not None else None
    return {
        "state": state.state,
        "reason": reason,
        **pair,
        "pid": os.getpid(),
        "pending": state.pending,
        **_counts(state, waiting),
        "left_out": state.left_out,
        "error_code": state.error_code,
        "last_success": iso(last_ns) if last_ns else None,
        "last_success_seconds": last_ns / 1e9 if last_ns else None,
        "lag": max(0.0, (now_ns - last_ns) / 1e9) if last_ns else None,
        "watch": {"healthy": state.watch_healthy, "reason": state.watch_reason},
        "events": events,
        "version": __version__,
        "progress": progress,
        "waiting": [event.as_json() for event in waiting.first(_MOST_WAITING)],
        "full_run_began": state.full_run_began,
        "transfers_at_once": state.transfers_at_once,
        "bwlimit": {"upload": rates[0], "download": rates[1]},
        "totals": {name: totals.get(name, 0) for name in _TOTALS},
    }


def _counts(state: FolderState, waiting: Waiting) -> dict[str, int]:
    return {
        # The conflicts of the last runs, or the copies that are not resolved yet.
        "conflicts": max(waiting.count(Issue.CONFLICT), state.conflicts),
        "held": waiting.count(Issue.HELD),
        "problems": waiting.count(Issue.PROBLEM),
        "busy": waiting.busy,
    }
