"""The loop of one folder: waits for changes, and makes the smallest run that covers them.

File events name changed paths, a listing of the store finds changed objects,
and a timer starts full runs; correctness depends on the full runs alone. The
loop knows no processes, signals or sockets: they call it from other threads.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Any

from craftsync.clock import Clock
from craftsync.core.conflict_names import conflict_original
from craftsync.daemon.changes import (
    FreshPaths,
    StoreDifferences,
    changed_in_folder,
    changed_in_store,
    with_obstacles,
    with_other_links,
    with_rules_applied,
)
from craftsync.daemon.control import Requests
from craftsync.daemon.schedule import Schedule, WatchSettings
from craftsync.daemon.status import FolderState, Waiting
from craftsync.engine.report import (
    Event,
    Issue,
    IssueEvent,
    OnEvent,
    Options,
    ProgressEvent,
    Report,
)
from craftsync.engine.review.deletes import Approval
from craftsync.engine.run import left_out_before, remember_success
from craftsync.engine.session import Session
from craftsync.errors import (
    CraftsyncError,
    Interrupted,
    StoreError,
    StoreMissing,
    StoreUnavailable,
)
from craftsync.local.folder import Folder
from craftsync.local.watch import DirtyPaths, Supervisor
from craftsync.local.watch.supervisor import NOT_BEGUN, Watch
from craftsync.stores.base import cancel, renew
from craftsync.stores.retrying import RetryingStore, concurrency_found

_log = logging.getLogger(__name__)

_FOREVER = 3600.0
_PURGED_AT_ONCE = 100
"""Trash versions removed at once; nothing else happens for the folder until then."""
_FEW_PATHS = 1_000
_LISTED_AT_ONCE = 100
"""A stat takes one request; a listing takes one request per thousand paths."""


MakeWatch = Callable[[Folder, DirtyPaths, Clock], Watch]

OnRun = Callable[[Report, list[IssueEvent]], None]
"""Called with the report of each run, and the issues that are new."""


def _ignore_run(report: Report, new: list[IssueEvent]) -> None:
    """Do nothing."""


class FolderLoop:
    """Keeps one folder in sync until `stop` is set. `run` belongs to one thread; all else is thread-safe."""

    def __init__(
        self,
        session: Session,
        settings: WatchSettings,
        options: Options,
        on_event: OnEvent,
        stop: threading.Event,
        *,
        random: Random | None = None,
        make_watch: MakeWatch = Supervisor,
        waiting: Waiting | None = None,
    ) -> None:
        """`waiting` collects the paths that are not in sync; if given, it outlives this loop."""
        self.options = options
        """The options of runs; a change takes effect at the next run."""
        self.on_run: OnRun = _ignore_run
        """Called in the loop's thread after each run."""
        self._session = session
        self._listener = on_event
        self._stop = stop
        self._now = session.clock.monotonic
        self._dirty = DirtyPaths(self._now, settings.settle_seconds)
        self._watch = make_watch(session.root, self._dirty, session.clock)
        self._state = FolderState(left_out=left_out_before(session.state.database))
        self.waiting = Waiting() if waiting is None else waiting
        self._in_hand: int | None = None
        """The number of paths left in the current run; `None` if unknown."""
        self._paused = False
        self._schedule = Schedule(settings, session.clock, random or Random())
        self._requests = Requests()
        self._fresh = FreshPaths(session, self._dirty, self._requests, lambda: self.options)
        self._again = True
        self._differences = StoreDifferences()
        self._unreachable: str | None = None
        """Why the store was unreachable, until it answers again: a retry alone is not a recovery."""

    @property
    def state(self) -> FolderState:
        """A snapshot of the state of the loop."""
        state, health = self._or_offline(self._state), self._watch.health
        has_begun = health is not NOT_BEGUN
        return replace(
            state,
            pending=self._pending(state.progress),
            watch_healthy=health.healthy if has_begun else None,
            watch_reason=health.reason if has_begun else None,
            transfers_at_once=concurrency_found([self._session.store]),
        )

    def _or_offline(self, state: FolderState) -> FolderState:
        """Return the state, or an offline one if the store fails while a run is under way."""
        store, trouble = self._session.store, self._unreachable
        if state.state not in ("scanning", "transferring"):
            return state
        if trouble is None and isinstance(store, RetryingStore):
            trouble = store.health.trouble()
        if trouble is None:
            return state
        return replace(state, state="offline", reason=f"offline, still trying: {trouble}")

    def _store_answered(self) -> None:
        if self._unreachable is not None:
            self._unreachable = None
            _log.info("%s: back online", self._session.root.path)

    def _pending(self, progress: ProgressEvent | None) -> int | None:
        in_hand, dirty, left = self._in_hand, self._dirty.counted, self._fresh.counted
        if progress is not None and progress.files_total is not None:
            in_hand = max(0, progress.files_total - progress.files_done)
        elif self._again:
            in_hand = None
        if in_hand is None or dirty is None or left is None:
            return None
        return in_hand + dirty + left

    def wake(self) -> None:
        """Make the loop check `stop`; when it is set, the run under way is cancelled."""
        if self._stop.is_set():
            cancel(self._session.store)
        self._dirty.wake()

    def request_full_run(self) -> float:
        """Request a full run now; one under way does not count.

        Returns the time: the request is carried out once `FolderState.full_run_began` has reached it.
        """
        requested_at = self._now()
        self._again = True
        self._dirty.wake()
        return requested_at

    def request_paths(self, paths: Iterable[str]) -> None:
        """Request a run over these paths now, because they changed in the store."""
        if self._requests.request_paths(paths):
            self._again = True
        self._dirty.wake()

    def resolve_held(self, approval: Approval) -> None:
        """Request that held deletes are carried out or undone now, followed by a full run."""
        self._requests.resolve_held(approval)
        self.request_full_run()

    def pause(self) -> None:
        """Start no runs until `resume`; the run under way is cancelled."""
        self._paused = True
        cancel(self._session.store)
        self._dirty.wake()

    def resume(self) -> None:
        """Continue with a full run."""
        self._paused = False
        self.request_full_run()

    def run(self) -> None:
        """Watch, and start runs until `stop` is set.

        Waits for an unreachable store. Raises errors that need a person.
        """
        # Before the first scan, so that no change is missed between the two.
        self._watch.start()
        try:
            while not self._stop.is_set():
                self.turn()
                self._wait()
            self._set("stopped")
        except Interrupted:
            self._set("stopped")
        except CraftsyncError as error:
            self._set("halted", str(error))
            raise
        finally:
            self._watch.stop()
            remember_success(self._session.state.database, self._state.last_success_ns)

    def turn(self) -> None:
        """Do everything that is due, once."""
        renew(self._session.store)
        # `renew` undoes the cancel of a stop or pause requested before it, so check again.
        if self._stop.is_set():
            raise Interrupted
        if self._paused:
            self._set("paused")
            return
        self._in_hand = None if self._again else self._dirty.counted
        try:
            self._answer()
            self._in_hand = 0
            self._end_retention()
            self._scrub()
        except (StoreUnavailable, StoreMissing) as error:
            self._session.state.database.end_reading()
            self._in_hand = None
            if self._stop.is_set():
                raise Interrupted from error
            if self._paused:
                self._again = True
                self._set("paused")
                return
            self._wait_for_store(error)
            self._end_retention(reachable=False)
        except Interrupted:
            self._session.state.database.end_reading()
            self._in_hand = None
            if self._stop.is_set():
                raise
            self._again = True
            self._set("paused")

    def _end_retention(self, *, reachable: bool = True) -> None:
        """Remove expired versions from the trash, once a day."""
        if self._schedule.take_retention():
            gone = self._session.end_retention(
                self._raise_if_stopped, reachable=reachable, at_most=_PURGED_AT_ONCE
            )
            if gone >= _PURGED_AT_ONCE:
                self._schedule.retention_continues()

    def _scrub(self) -> None:
        """Read a share of both sides, when due, to find damaged content."""
        share = self._schedule.take_scrub_share()
        if share is not None:
            report = self._session.scrub(self._on_event, share=share, heed=self._raise_if_stopped)
            self._set("watching")
            if report.problems:
                self.on_run(report, [])

    def seconds_to_next(self) -> float:
        """Return the seconds until something is due."""
        return self._schedule.seconds_to_next()

    def seconds_to_look(self) -> float:
        """Return the seconds until the loop next checks for changes on its own. Thread-safe."""
        return self._schedule.seconds_to_look()

    def _wait(self) -> None:
        if self._paused:
            self._dirty.wait(_FOREVER)
        elif not self._again and self._fresh.counted == 0:
            self._dirty.wait(self.seconds_to_next())

    def _answer(self) -> None:
        self._requests.carry_out(self._session, self.options, self._on_event)
        if again := self._again:
            self._in_hand = None
            # Only a request that was read is cleared: another thread may set one between the two.
            self._again = False
        everything, left = self._fresh.take_rest()
        dirty = self._dirty.take()
        if again or everything or dirty.everything or self._schedule.scan_is_due:
            self._run_over_everything()
            return
        self._in_hand = len(dirty.paths) + len(left)
        paths = self._requested_paths() | left
        remote = self._list_store() if self._schedule.listing_is_due else set()
        local = with_rules_applied(dirty.paths)
        if local is None or remote is None:
            self._run_over_everything()
        elif local or paths or remote:
            self._run_over_paths(local, paths | remote)

    def _requested_paths(self) -> set[str]:
        """Take the requested paths and those due for a retry."""
        return self._requests.take_paths() | self._schedule.take_retries()

    def _run_over_everything(self) -> None:
        self._requested_paths()
        self._in_hand = None
        self._watch.refresh()
        self._run_once(None)

    def _run_over_paths(self, local: set[str], remote: set[str]) -> None:
        rules = self._session.rules(self.options)
        most = self._most_paths()
        changed = changed_in_folder(self._session, rules, local, most)
        if changed is None:
            self._run_over_everything()
            return
        changed = with_other_links(self._session, changed)
        paths = with_obstacles(self._session, changed | remote | self.waiting.failed_at(local))
        baseline = self._session.state.baseline.count()
        # Only a full run can detect that a side is suddenly empty.
        could_be_all = baseline != 1 and len(paths) >= baseline
        if could_be_all or len(paths) > most:
            self._run_over_everything()
        elif paths:
            self._in_hand = len(paths)
            self._run_once(paths)

    def _most_paths(self) -> int:
        """Return the most paths for a small run; for more, a full scan and listing cost less."""
        return _FEW_PATHS + self._session.state.baseline.count() // _LISTED_AT_ONCE

    def _list_store(self) -> set[str] | None:
        """List the store; return the paths that newly differ from the baseline, `None` for too many."""
        self._set("scanning")
        started = self._now()
        rules, most = self._session.rules(self.options), self._most_paths()
        self._differences, new = changed_in_store(self._session, rules, self._differences, most)
        self._store_answered()
        self._schedule.listed(self._now() - started, changed=new is None or bool(new))
        is_quiet = new == set() and self._watch.health.healthy and not len(self._dirty)
        self._set("watching", last_success_ns=self._success(is_quiet=is_quiet))
        return new

    def _success(self, *, is_quiet: bool) -> int | None:
        """Return when both sides were last in sync (ns since the epoch): now, if nothing is known to differ."""
        is_known = self._state.next_full_scan > 0
        if is_known and is_quiet and self.waiting.is_in_sync:
            return self._session.clock.now_ns()
        return self._state.last_success_ns

    def _run_once(self, paths: set[str] | None) -> None:
        """Run over these paths, or with `None` over everything."""
        self._set("scanning")
        started = self._now()
        self._schedule.run_begins(paths)
        report = self._session.run(
            "watch", self.options, self._on_event, paths=paths, changes=self._fresh
        )
        self._store_answered()
        self._fresh.run_ended()
        if paths is None:
            changed = report.downloaded + report.deleted_local + report.conflicts > 0
            healthy = self._watch.health.healthy
            self._schedule.scanned(self._now() - started, changed=changed, healthy=healthy)
        self._schedule.run_ended()
        self._update_state(report, paths, began=started)

    def _update_state(self, report: Report, paths: set[str] | None, *, began: float) -> None:
        new = self.waiting.run_ended(paths, skipped=report.skipped)
        if paths is None:
            due = self._schedule.scan_at
            self._state = replace(
                self._state,
                next_full_scan=due,
                full_run_began=began,
                left_out=report.left_out,
            )
        # The next run handles changes during a full scan; a small run knows only its own paths.
        is_quiet = self._fresh.counted == 0 and (paths is None or not len(self._dirty))
        is_quiet &= not report.damaged_state
        success = self._success(is_quiet=is_quiet)
        if paths is None or report.conflicts or any(map(conflict_original, paths)):
            conflicts = self._session.state.baseline.conflict_copies()
        else:
            conflicts = self._state.conflicts
        remember_success(self._session.state.database, success)
        self._set("watching", last_report=report, last_success_ns=success, conflicts=conflicts)
        self.on_run(report, new)

    def _wait_for_store(self, error: CraftsyncError) -> None:
        """Schedule a full run for when the store is reachable again."""
        self._unreachable = str(error)
        wait, is_news = self._schedule.store_unreachable(str(error))
        reason = f"offline, next try in {wait:.0f} s: {error}"
        self._set("offline", reason)
        if is_news:
            self._listener(IssueEvent(Issue.PROBLEM, self._session.store.location, reason))

    def _set(self, state: str, reason: str | None = None, **more: Any) -> None:
        self._state = replace(self._state, state=state, reason=reason, progress=None, **more)

    def _raise_if_stopped(self) -> None:
        if self._stop.is_set() or self._paused:
            raise Interrupted

    def _on_event(self, event: Event) -> None:
        """Forward an event; raises `Interrupted` after a stop or pause, to end the run."""
        self._raise_if_stopped()
        if isinstance(event, ProgressEvent):
            moving = bool(event.files_total)
            if moving:
                # The total is known only once the store has been listed, so the store has answered.
                self._store_answered()
                # If the store is unreachable, the run will report it.
                with suppress(StoreError):
                    self._end_retention()
            word = "transferring" if moving else "scanning"
            self._state = replace(self._state, state=word, progress=event)
        elif isinstance(event, IssueEvent) and event.issue is Issue.PROBLEM:
            self._schedule.failed(event.path)
        self.waiting.note(event)
        self._listener(event)
