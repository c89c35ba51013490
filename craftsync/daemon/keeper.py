"""One pair of the daemon: its thread, and the one place that knows how it stands.

The thread opens the session and makes the passes (`Cycles`); everything else
here belongs to the daemon's main thread, but for `_listen`, which the events of
a pass arrive at.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

from craftsync.clock import Clock
from craftsync.daemon import status
from craftsync.daemon.control import Refused
from craftsync.daemon.cycles import Cycles, CycleState
from craftsync.daemon.endpoint import Endpoint
from craftsync.daemon.hook import Notice
from craftsync.daemon.requests import verdict_of
from craftsync.daemon.setup import Watched
from craftsync.daemon.throttle import Throttle
from craftsync.daemon.waiting import Waiting
from craftsync.errors import CraftsyncError, Interrupted
from craftsync.sync.held import Verdict
from craftsync.sync.report import Event, Issue, IssueEvent, Report
from craftsync.sync.session import Session

_PAUSED = "paused"
"""The file beside the pair's socket that is there while a person wants no transfers."""
_RETRY_SECONDS = 60.0

_log = logging.getLogger(__name__)


class Keeper:
    """Keeps one pair in step in a thread of its own until `stop`.

    `defect` is an error nobody foresaw, `error` one that needs a person or
    time; with either the thread has ended.
    """

    def __init__(
        self,
        watched: Watched,
        clock: Clock,
        tell: Callable[[Notice], None],
        wake: Callable[[], None],
    ) -> None:
        """Raises `LockedError` when another process keeps the pair.

        `tell` gets what a person should know; `wake` asks for a `tick`. Both
        are called from the keeper's thread too.
        """
        self.watched = watched
        self.error: CraftsyncError | OSError | None = None
        self.defect: BaseException | None = None
        self.endpoint = Endpoint(watched.control)
        self._clock = clock
        self._tell = tell
        self._wake = wake
        self._throttle = Throttle(watched.options)
        self._lock = threading.Lock()
        self._waiting = Waiting()
        self._totals: Counter[str] = Counter()
        self._report: Report | None = None
        self._full_at = 0.0
        self._stop = threading.Event()
        self._opened = threading.Event()
        self._ended = threading.Event()
        self._cycles: Cycles | None = None
        self._last_success_ns: int | None = None
        self._paused = (watched.control / _PAUSED).exists()
        self._held = self._must_hold()
        self._retry_at = 0.0
        self._halted_by = ""
        self._thread = self._started()

    @property
    def has_begun(self) -> bool:
        """Whether root and state could be opened, or it is known that they cannot."""
        return self._opened.is_set() or self._ended.is_set()

    @property
    def has_ended(self) -> bool:
        """Whether it was asked to stop and has."""
        return self._stop.is_set() and self._ended.is_set()

    @property
    def is_halted(self) -> bool:
        """Whether it ended by an error and waits to be tried again."""
        return self.error is not None and self._ended.is_set()

    def stop(self) -> None:
        """Ask it to end; transfers under way are given up at once."""
        self._stop.set()
        if self._cycles is not None:
            self._cycles.wake()

    def close(self) -> None:
        """Wait for its end and let go of its socket."""
        self._thread.join()
        self.endpoint.close()

    def tick(self) -> None:
        """Do what is due: take in ended passes, keep to windows and pauses, try again after a halt."""
        self._take_report()
        self._hold_or_go_on()
        if self.is_halted and not self._stop.is_set() and self._clock.monotonic() >= self._retry_at:
            self._thread = self._started()

    def answer(self, request: Mapping[str, Any]) -> Any:
        """Carry out one verb of the control socket."""
        match request.get("verb"):
            case "status":
                return self.status()
            case "pause":
                self._set_paused(True)
            case "resume":
                self._set_paused(False)
            case "stop":
                self.stop()
            case "sync":
                self._look_again()
            case "bwlimit":
                self._throttle.obey(request)
            case "approve" | "reject":
                self._judge(verdict_of(request))
            case verb:
                raise Refused(f"there is no verb {verb!r}")
        return {"pid": os.getpid()}

    def status(self) -> dict[str, Any]:
        """Return how the pair stands: the fields of `status --json`, and more."""
        self._take_report()
        watched, now_ns = self.watched, self._clock.now_ns()
        with self._lock:
            return status.of_running(
                {"root": watched.root, "store": watched.store, "mode": watched.options.policy.mode},
                state=self._state(),
                reason=self._reason(),
                waiting=self._waiting,
                totals=self._totals,
                rates=(self._throttle.upload(now_ns), self._throttle.download(now_ns)),
                now_ns=now_ns,
            )

    def _state(self) -> CycleState:
        known = self._cycles.state if self._cycles is not None else CycleState("scanning")
        state = "scanning" if known.state == "stopped" else known.state
        if self.is_halted:
            state = "halted"
        elif self._stop.is_set():
            state = "stopped"
        elif self._held and state != "transferring":
            state = "paused"
        last_ns = known.last_success_ns or self._last_success_ns
        return replace(known, state=state, last_success_ns=last_ns)

    def _reason(self) -> str | None:
        """Return why nothing moves, as words for people."""
        if self.is_halted and self.error is not None:
            remedy = getattr(self.error, "remedy", "")
            return f"{str(self.error).removesuffix('.')}. {remedy}".rstrip()
        if self._paused:
            return "paused on request; craftsync resume goes on"
        if self._held:
            return "outside its windows"
        return self._cycles.state.reason if self._cycles is not None else None

    def _started(self) -> threading.Thread:
        self.error = None
        if self._cycles is not None:
            self._last_success_ns = self._cycles.state.last_success_ns or self._last_success_ns
        self._cycles = None
        self._opened.clear()
        self._ended.clear()
        thread = threading.Thread(target=self._keep, name="keeper")
        thread.start()
        return thread

    def _keep(self) -> None:
        """Open the pair and make passes until asked to stop; an error is left for the main thread."""
        try:
            with self.watched.open() as session:
                self._run(session)
        except Interrupted:
            pass
        except (CraftsyncError, OSError) as error:
            self._halt(error)
        except BaseException as error:  # noqa: BLE001 (it is raised again in the main thread)
            self.defect = error
        finally:
            self._ended.set()
            self._wake()

    def _run(self, session: Session) -> None:
        last = session.state.database.get("last_success_ns")
        self._last_success_ns = int(last) if last else None
        options = self._throttle.over(self.watched.options)
        cycles = Cycles(session, self.watched.settings, options, self._listen, self._stop)
        with self._lock:
            self._cycles = cycles
            if self._held:
                cycles.pause()
        self._opened.set()
        self._wake()
        events = self.watched.events
        with events.told_to(cycles.look_at) if events is not None else nullcontext():
            if not self._stop.is_set():
                cycles.run()

    def _halt(self, error: CraftsyncError | OSError) -> None:
        """Wait before the next try; what was said of the last one already is not said again."""
        self._totals["errors"] += 1
        self._retry_at = self._clock.monotonic() + _RETRY_SECONDS
        self.error = error
        if self._halted_by != str(error):
            self._halted_by = str(error)
            watched = self.watched
            _log.error("%s: halted: %s", watched.root, error)
            self._tell(Notice("halted", watched.root, watched.store, "", str(error), 1))

    def _listen(self, event: Event) -> None:
        self._take_report()
        with self._lock:
            if not isinstance(event, IssueEvent) or event.path != self.watched.store:
                # That the store cannot be reached is its state, and none of its paths.
                self._waiting.note(event)
            is_old = self._waiting.knows(event)
        if not is_old:
            self.watched.on_event(event)

    def _take_report(self) -> None:
        """Take in the pass that has ended since the last look, if one has."""
        with self._lock:
            state = self._cycles.state if self._cycles is not None else None
            if state is None or state.last_report is None or state.last_report is self._report:
                return
            complete, self._full_at = state.next_full_scan != self._full_at, state.next_full_scan
            self._report = report = state.last_report
            self._halted_by = ""
            for name in ("uploaded", "downloaded", "bytes_uploaded", "bytes_downloaded"):
                self._totals[name] += getattr(report, name)
            self._totals["errors"] += report.problems
            new = self._waiting.pass_ended(complete=complete)
        for issue in (Issue.CONFLICT, Issue.HELD):
            these = [event for event in new if event.issue is issue]
            if these:
                root, store = self.watched.root, self.watched.store
                first = these[0]
                self._tell(Notice(issue, root, store, first.path, first.reason, len(these)))

    def _must_hold(self) -> bool:
        now = datetime.fromtimestamp(self._clock.now_ns() // 10**9)
        return self._paused or not self.watched.windows.open_at(now)

    def _hold_or_go_on(self) -> None:
        hold = self._must_hold()
        if hold is self._held:
            return
        with self._lock:
            self._held = hold
            if self._cycles is not None:
                (self._cycles.pause if hold else self._cycles.resume)()
        _log.info("%s: %s", self.watched.root, self._reason() if hold else "goes on")

    def _set_paused(self, paused: bool) -> None:
        """Hold all transfers, or none, and remember it: a restart nobody asked for must not undo it."""
        file = self.watched.control / _PAUSED
        try:
            if paused:
                file.touch()
            else:
                with suppress(FileNotFoundError):
                    file.unlink()
        except OSError as error:
            raise Refused(f"it could not be remembered: {error.strerror}") from error
        self._paused = paused
        self._hold_or_go_on()

    def _look_again(self) -> None:
        """Ask for a pass over everything; a pair that has halted is tried again."""
        if self._held:
            raise Refused(f"it is {self._reason()}")
        self._retry_at = 0.0
        if self._cycles is not None:
            self._cycles.look_again()

    def _judge(self, verdict: Verdict) -> None:
        """Do with held deletes what a person said, in the pair's own thread."""
        if self._cycles is None or self.is_halted or self._held:
            raise Refused(f"it is {self._reason() or 'not ready yet'}")
        self._cycles.judge(verdict)
