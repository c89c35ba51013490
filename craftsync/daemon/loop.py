"""The loop over one folder: waits for a reason, and makes the smallest run that answers it.

Events of the root name dirty paths, a listing of the store names what changed
there, and a timer asks for a look at everything, on which alone correctness
rests. Knows nothing of processes, signals or sockets: those who do call it
from their own threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Any

from craftsync.clock import Clock
from craftsync.core.conflicts import conflict_original
from craftsync.daemon.changes import (
    Differing,
    FreshPaths,
    changed_here,
    changed_there,
    with_obstacles,
    with_other_links,
    with_rules_applied,
)
from craftsync.daemon.control import Requests
from craftsync.daemon.schedule import Schedule, WatchSettings
from craftsync.daemon.status import FolderState, Waiting
from craftsync.engine import inspect
from craftsync.engine.report import (
    Event,
    Issue,
    IssueEvent,
    OnEvent,
    Options,
    ProgressEvent,
    Report,
)
from craftsync.engine.review import Approval
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

_FOREVER = 3600.0
_PURGED_AT_ONCE = 100
"""Versions that go while nothing else is done for the folder."""
_FEW_PATHS = 1_000
_LISTED_AT_ONCE = 100
"""Looking at one path is one request, a listing is one for a thousand of them."""


MakeWatch = Callable[[Folder, DirtyPaths, Clock], Watch]

OnRun = Callable[[Report, list[IssueEvent]], None]
"""Hears of each run that ended, and of the issues that were not there before."""


def _ignore_run(report: Report, new: list[IssueEvent]) -> None:
    """Take no notice of a run."""


class FolderLoop:
    """Keeps one folder in sync until `stop` is set. `run` belongs to one thread, all else to any."""

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
        """`waiting` takes in what is not in sync; it outlives this loop where somebody hands it over."""
        self.options = options
        """What runs are made with; a change counts from the next run on."""
        self.on_run: OnRun = _ignore_run
        """Called in the loop's own thread when a run has ended."""
        self._session = session
        self._listener = on_event
        self._stop = stop
        self._now = session.clock.monotonic
        self._dirty = DirtyPaths(self._now, settings.settle_seconds)
        self._watch = make_watch(session.root, self._dirty, session.clock)
        self._state = FolderState()
        self.waiting = Waiting() if waiting is None else waiting
        self._in_hand: int | None = None
        """Paths taken up and not yet done with; `None` while nobody knows how many there are."""
        self._paused = False
        self._schedule = Schedule(settings, session.clock, random or Random())
        self._requests = Requests()
        self._fresh = FreshPaths(session, self._dirty, self._requests, lambda: self.options)
        self._again = True
        self._differing = Differing()

    @property
    def state(self) -> FolderState:
        """What it is doing now; a value that does not change any more."""
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
        """Return the state of a run under way as offline while the store fails, although it is still tried."""
        store = self._session.store
        if state.state in ("scanning", "transferring") and isinstance(store, RetryingStore):
            trouble = store.answers.trouble()
            if trouble is not None:
                return replace(state, state="offline", reason=f"offline, still trying: {trouble}")
        return state

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
        """Make the loop look whether it is to stop; a run under way ends if it is."""
        if self._stop.is_set():
            cancel(self._session.store)
        self._dirty.wake()

    def look_again(self) -> None:
        """Ask for a run over everything, now; one under way does not count."""
        self._again = True
        self._dirty.wake()

    def look_at(self, paths: Iterable[str]) -> None:
        """Ask for a run over these paths, now: somebody says that they changed in the store."""
        if self._requests.look_at(paths):
            self._again = True
        self._dirty.wake()

    def judge(self, verdict: Approval) -> None:
        """Ask that held deletes be carried out or undone, now, and for a look at everything after it."""
        self._requests.judge(verdict)
        self.look_again()

    def pause(self) -> None:
        """Start no runs until `resume`; one under way ends as if it were stopped."""
        self._paused = True
        cancel(self._session.store)
        self._dirty.wake()

    def resume(self) -> None:
        """Go on, with a run over everything."""
        self._paused = False
        self.look_again()

    def run(self) -> None:
        """Watch, and start runs until `stop` is set.

        An unreachable store is waited for. Whatever needs a person is raised.
        """
        # Before the first scan, so that nothing falls between the two.
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
            inspect.remember_success(self._session.state.database, self._state.last_success_ns)

    def turn(self) -> None:
        """Do what is due by now; nothing, if nothing is."""
        renew(self._session.store)
        # Whoever asked for a stop or a pause before that has to be heard here.
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
            self._in_hand = None
            if self._stop.is_set():
                raise
            self._again = True
            self._set("paused")

    def _end_retention(self, *, reachable: bool = True) -> None:
        """Remove what the trash is no longer to keep, if that was not done for a day."""
        if self._schedule.retention_is_due():
            gone = self._session.end_retention(
                self._heed, reachable=reachable, at_most=_PURGED_AT_ONCE
            )
            if gone >= _PURGED_AT_ONCE:
                self._schedule.retention_continues()

    def _scrub(self) -> None:
        """Read a little of both sides, if that is due, to find content that went bad by itself."""
        share = self._schedule.scrub_share()
        if share is not None:
            report = self._session.scrub(self._on_event, share=share, heed=self._heed)
            self._set("watching")
            if report.problems:
                self.on_run(report, [])

    def seconds_to_next(self) -> float:
        """Return the seconds until something is due by the clock."""
        return self._schedule.seconds_to_next()

    def _wait(self) -> None:
        if self._paused:
            self._dirty.wait(_FOREVER)
        elif not self._again and self._fresh.counted == 0:
            self._dirty.wait(self.seconds_to_next())

    def _answer(self) -> None:
        self._requests.carry_out(self._session, self.options, self._on_event)
        again, self._again = self._again, False
        everything, left = self._fresh.left()
        dirty = self._dirty.take()
        if again or everything or dirty.everything or self._schedule.scan_is_due:
            self._look_at_everything()
            return
        self._in_hand = len(dirty.paths) + len(left)
        paths = self._asked_for() | left
        there = self._new_there() if self._schedule.listing_is_due else set()
        here = with_rules_applied(dirty.paths)
        if here is None or there is None:
            self._look_at_everything()
        elif here or paths or there:
            self._look_at_some(here, paths | there)

    def _asked_for(self) -> set[str]:
        """Take the paths somebody named, and those that are to be tried again."""
        return self._requests.paths() | self._schedule.retries()

    def _look_at_everything(self) -> None:
        self._asked_for()
        self._in_hand = None
        self._watch.refresh()
        self._pass(None)

    def _look_at_some(self, here: set[str], there: set[str]) -> None:
        rules = self._session.rules(self.options)
        most = self._most_paths()
        changed = changed_here(self._session, rules, here, most)
        if changed is None:
            self._look_at_everything()
            return
        changed = with_other_links(self._session, changed)
        paths = with_obstacles(self._session, changed | there | self.waiting.failed_at(here))
        baseline = self._session.state.baseline.count()
        # Only a look at everything can tell that a side is suddenly empty.
        could_be_all = len(paths) >= baseline != 1
        if could_be_all or len(paths) > most:
            self._look_at_everything()
        elif paths:
            self._in_hand = len(paths)
            self._pass(paths)

    def _most_paths(self) -> int:
        """Return how many paths are looked at one by one; for more a scan and a list cost less."""
        return _FEW_PATHS + self._session.state.baseline.count() // _LISTED_AT_ONCE

    def _new_there(self) -> set[str] | None:
        """List the store; return what differs from the baseline and did not before; `None` is too much."""
        self._set("scanning")
        started = self._now()
        rules, most = self._session.rules(self.options), self._most_paths()
        self._differing, new = changed_there(self._session, rules, self._differing, most)
        self._schedule.listed(self._now() - started, changed=new is None or bool(new))
        is_quiet = new == set() and self._watch.health.healthy and not len(self._dirty)
        self._set("watching", last_success_ns=self._success(is_quiet=is_quiet))
        return new

    def _success(self, *, is_quiet: bool) -> int | None:
        """Return when both sides were last known to be in sync: now, when nothing is known to differ."""
        is_known = self._state.next_full_scan > 0
        if is_known and is_quiet and self.waiting.is_empty:
            return self._session.clock.now_ns()
        return self._state.last_success_ns

    def _pass(self, paths: set[str] | None) -> None:
        """Make one run over these paths, or over everything."""
        self._set("scanning")
        started = self._now()
        self._schedule.run_begins(paths)
        report = self._session.run(
            "watch", self.options, self._on_event, paths=paths, changes=self._fresh
        )
        self._fresh.run_ended()
        if paths is None:
            changed = report.downloaded + report.deleted_local + report.conflicts > 0
            healthy = self._watch.health.healthy
            self._schedule.scanned(self._now() - started, changed=changed, healthy=healthy)
        self._schedule.run_ended()
        self._take_in(report, paths)

    def _take_in(self, report: Report, paths: set[str] | None) -> None:
        """Learn from a run that has ended how the folder stands."""
        new = self.waiting.run_ended(paths, skipped=report.skipped)
        if paths is None:
            self._state = replace(self._state, next_full_scan=self._schedule.scan_at)
        # What changes while everything is scanned is the next run's; a smaller run knows of nothing else.
        is_quiet = self._fresh.counted == 0 and (paths is None or not len(self._dirty))
        is_quiet &= not report.damaged_state
        success = self._success(is_quiet=is_quiet)
        if paths is None or report.conflicts or any(map(conflict_original, paths)):
            conflicts = self._session.state.baseline.conflict_copies()
        else:
            conflicts = self._state.conflicts
        inspect.remember_success(self._session.state.database, success)
        self._set("watching", last_report=report, last_success_ns=success, conflicts=conflicts)
        self.on_run(report, new)

    def _wait_for_store(self, error: CraftsyncError) -> None:
        """Look at everything once the store can be reached again."""
        wait, is_news = self._schedule.store_is_away(str(error))
        reason = f"offline, next try in {wait:.0f} s: {error}"
        self._set("offline", reason)
        if is_news:
            self._listener(IssueEvent(Issue.PROBLEM, self._session.store.location, reason))

    def _set(self, state: str, reason: str | None = None, **more: Any) -> None:
        self._state = replace(self._state, state=state, reason=reason, progress=None, **more)

    def _heed(self) -> None:
        if self._stop.is_set() or self._paused:
            raise Interrupted

    def _on_event(self, event: Event) -> None:
        """Pass an event on, and end the run that reports it when a stop or a pause was asked for."""
        self._heed()
        if isinstance(event, ProgressEvent):
            moving = bool(event.files_total)
            if moving:
                # A store that cannot be reached now is the run's to find out.
                with suppress(StoreError):
                    self._end_retention()
            word = "transferring" if moving else "scanning"
            self._state = replace(self._state, state=word, progress=event)
        elif isinstance(event, IssueEvent) and event.issue is Issue.PROBLEM:
            self._schedule.failed(event.path)
        self.waiting.note(event)
        self._listener(event)
