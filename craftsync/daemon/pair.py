"""One linked folder of the daemon: its thread and its status.

The thread opens the session and makes the runs (`FolderLoop`). Everything else in
this module belongs to the daemon's main thread, except `_listen`, which receives
the events of a run.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from craftsync.clock import Clock, iso
from craftsync.core.timetable import Windows, next_shown
from craftsync.daemon.control import Control, Endpoint, Refused, approval_of, rates_of
from craftsync.daemon.events import EventSource
from craftsync.daemon.hook import Notice
from craftsync.daemon.loop import FolderLoop
from craftsync.daemon.pause import paused_since, set_paused
from craftsync.daemon.schedule import Throttle, WatchSettings
from craftsync.daemon.status import FolderState, Waiting, of_running
from craftsync.engine.report import Event, Issue, IssueEvent, OnEvent, Options, Report
from craftsync.engine.review.deletes import Approval
from craftsync.engine.session import Session
from craftsync.errors import CraftsyncError, Interrupted, LockedError, StateError, exhausted

_AWAY = ("offline", "halted", "stopped")
_RETRY_SECONDS = 60.0
_LOCKED_SECONDS = 5.0
"""The pause between attempts for a folder that another process has locked."""
_SERVED_SECONDS = 0.5
"""The pause between attempts for a folder that another daemon serves: without its socket, ours gets no requests."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Watched:
    """A folder to keep in sync, with its settings.

    `control` is the folder of its socket (`control.folder_of`); `given` is all
    that was configured, to detect changes. `on_event` is called from the
    folder's own thread. `naming` is the flags that name the folder in commands
    to copy, after a space.
    """

    root: str
    store: str
    control: Path
    given: object
    settings: WatchSettings
    options: Options
    open: Callable[[], AbstractContextManager[Session]] = field(compare=False)
    on_event: OnEvent = field(compare=False)
    windows: Windows = field(default_factory=Windows)
    events: EventSource | None = None
    naming: str = ""


class FolderService:
    """Keeps one folder and its store in sync in a thread of its own until `stop`.

    `error` is the error that halted it, expected or not; a halted folder is retried forever.
    """

    def __init__(
        self,
        watched: Watched,
        clock: Clock,
        control: Control,
        notify: Callable[[Notice], None],
        wake: Callable[[], None],
        reload: Callable[[], str],
        is_ending: Callable[[], bool],
    ) -> None:
        """Start the thread; errors halt the folder and are not raised.

        `control` serves the folder's socket. `notify` and `wake` (which requests a
        `tick`) are called from any thread. `reload` returns why it failed or "", and
        `is_ending` whether the process ends with the folders that are stopped.
        """
        self.watched = watched
        self.error: BaseException | None = None
        self.was_open = False
        """Whether folder and state were ever opened."""
        self._endpoint: Endpoint | None = None
        self._control, self._notify = control, notify
        self._clock = clock
        self._wake, self._reload, self._is_ending = wake, reload, is_ending
        self._throttle = Throttle(watched.options)
        self._lock = threading.Lock()
        self._waiting = Waiting()
        self._totals: Counter[str] = Counter()
        self._stop = threading.Event()
        self._opened = threading.Event()
        self._ended = threading.Event()
        self._loop: FolderLoop | None = None
        self._events_failure: Callable[[], str | None] | None = None
        self._last_success_ns: int | None = None
        self._paused_since: int | None = None
        self._is_suspended = False
        self._retry_at = 0.0
        self._last_halt = ""
        self._thread: threading.Thread | None = None
        self._start()

    @property
    def has_begun(self) -> bool:
        """Whether folder and state were opened, or failed to open."""
        return self._opened.is_set() or self._ended.is_set()

    @property
    def is_stopped(self) -> bool:
        """Whether it was stopped; its thread may not have ended yet."""
        return self._stop.is_set()

    @property
    def has_ended(self) -> bool:
        """Whether it was stopped and its thread has ended."""
        return self._stop.is_set() and self._ended.is_set()

    @property
    def is_halted(self) -> bool:
        """Whether an error ended it and it waits for a retry."""
        return self.error is not None and self._ended.is_set()

    @property
    def unready(self) -> str | None:
        """One line on why the folder is not kept in sync; `None` after a run has ended, and while paused."""
        state = self._state()
        if state.state == "paused" or (state.last_report and state.state not in _AWAY):
            return None
        reason = f": {self._reason()}" if self._reason() else ""
        return f"{self.watched.root}: {state.state}{reason}"

    def stop(self) -> None:
        """Request the end; transfers under way are cancelled."""
        self._stop.set()
        if self._loop is not None:
            self._loop.wake()

    def close(self) -> None:
        """Wait for the thread to end, and close the socket."""
        if self._endpoint is not None:
            self._control.remove(self._endpoint.socket)
        if self._thread is not None:
            self._thread.join()
        if self._endpoint is not None:
            self._endpoint.close()

    def tick(self) -> None:
        """Apply pauses and windows, and retry after a halt when due."""
        self._apply_suspension()
        if self.is_halted and not self._stop.is_set() and self._clock.monotonic() >= self._retry_at:
            self._start()

    def answer(self, request: Mapping[str, Any]) -> Any:
        """Carry out one request of the control socket."""
        match request.get("verb"):
            case "status":
                return self.status()
            case "reload":
                return {"pid": os.getpid(), "refused": self._reload()}
            case "pause":
                self._set_paused(True)
            case "resume":
                self._set_paused(False)
            case "stop":
                self.stop()
                return {"pid": os.getpid(), "ends": self._is_ending()}
            case "sync":
                return {"pid": os.getpid(), "requested_at": self._request_full_run()}
            case "bwlimit":
                self._throttle.set(rates_of(request))
            case "approve" | "reject":
                self._resolve_held(Approval(*approval_of(request)))
            case verb:
                raise Refused(f"unknown verb {verb!r}")
        return {"pid": os.getpid()}

    def status(self) -> dict[str, Any]:
        """Return the status: the fields of `status --json`, and more."""
        watched, now_ns = self.watched, self._clock.now_ns()
        with self._lock:
            state, loop = self._state(), self._loop
            waits = state.state in {"watching", "offline"}
            seconds = loop.seconds_to_look() if loop is not None and waits else None
            return of_running(
                {"root": watched.root, "store": watched.store, "mode": watched.options.policy.mode},
                state=state,
                reason=self._reason(),
                waiting=self._waiting,
                totals=self._totals,
                rates=(self._throttle.upload(now_ns), self._throttle.download(now_ns)),
                now_ns=now_ns,
                events=self._events(),
            ) | {
                "next_look": iso(now_ns + int(seconds * 1e9)) if seconds is not None else None,
                "paused_since": self._paused_since and iso(self._paused_since),
                "paused_until": self._paused_until() if state.state == "paused" else None,
            }

    def _events(self) -> dict[str, Any] | None:
        """Return the health of the `events:` queue; `None` if none is in use."""
        if self._events_failure is None or self._ended.is_set():
            return None
        reason = self._events_failure()
        return {"healthy": reason is None, "reason": reason}

    def _state(self) -> FolderState:
        known = self._loop.state if self._loop is not None else FolderState("scanning")
        last_ns = known.last_success_ns or self._last_success_ns
        if self.is_halted or self._stop.is_set():
            # The loop has ended, so its watch health and counts are stale.
            word = "halted" if self.is_halted else "stopped"
            code = getattr(self.error, "exit_code", 1) if self.is_halted else None
            return FolderState(
                word,
                conflicts=known.conflicts,
                last_success_ns=last_ns,
                left_out=known.left_out,
                error_code=code,
            )
        state = "scanning" if known.state == "stopped" else known.state
        if self._is_suspended and state != "transferring":
            state = "paused"
        return replace(known, state=state, last_success_ns=last_ns)

    def _reason(self) -> str | None:
        """Return why nothing is transferred, for the status."""
        if self.is_halted and self.error is not None:
            return _reason_of(self.error)
        if self._paused_since is not None:
            resume = f"craftsync resume{self.watched.naming}"
            return f"paused since {iso(self._paused_since)}: resume with {resume}"
        if self._is_suspended:
            now = self._local_time()
            opens = next_shown(self.watched.windows.next_open(now), now)
            return f"outside its windows, continues {opens}"
        return self._loop.state.reason if self._loop is not None else None

    def _start(self) -> None:
        """Listen on the folder's socket and start the thread; an error halts the folder."""
        self.error = None
        if self._loop is not None:
            self._last_success_ns = self._loop.state.last_success_ns or self._last_success_ns
        self._loop = None
        self._opened.clear()
        self._ended.clear()
        try:
            if self._endpoint is None:
                self._endpoint = Endpoint(self.watched.control)
                self._control.add(self._endpoint.socket, self.answer)
            # Only now: until the socket listens, a command may change the pause without this daemon.
            self._paused_since = paused_since(self.watched.control)
            self._is_suspended = self._should_suspend()
            thread = threading.Thread(target=self._run_thread, name="service")
            thread.start()
            self._thread = thread
        except Exception as error:  # noqa: BLE001 (one folder's trouble is its own)
            self._halt(error)
            self._ended.set()

    def _run_thread(self) -> None:
        """Open the folder and make runs until stopped; any error halts this folder only."""
        try:
            with self.watched.open() as session:
                self._run(session)
        except BaseException as error:  # noqa: BLE001 (one folder's trouble is its own)
            if not (isinstance(error, Interrupted) and self._stop.is_set()):
                self._halt(error)
        finally:
            self._ended.set()
            self._wake()

    def _run(self, session: Session) -> None:
        self._last_success_ns = session.state.database.get_int("last_success_ns")
        options = self._throttle.apply_to(self.watched.options)
        loop = FolderLoop(
            session,
            self.watched.settings,
            options,
            self._listen,
            self._stop,
            waiting=self._waiting,
        )
        loop.on_run = self._run_ended
        with self._lock:
            self._loop = loop
            suspension = self._reason() if self._is_suspended else None
            if suspension:
                loop.pause()
        self.was_open = True
        _log.info("%s: watching; the store is %s", self.watched.root, self.watched.store)
        if suspension:
            _log.info("%s: %s", self.watched.root, suspension)
        self._opened.set()
        self._wake()
        events = self.watched.events
        with (
            events.reporting_to(loop.request_paths)
            if events is not None
            else nullcontext(None) as failure
        ):
            self._events_failure = failure
            if not self._stop.is_set():
                loop.run()

    def _halt(self, error: BaseException) -> None:
        """Halt until the next retry; report the error unless it is the same as the last one."""
        error = exhausted(error) or error
        self._totals["errors"] += 1
        self._retry_at = self._clock.monotonic() + self._pause_after(error)
        self.error = error
        if self._last_halt != str(error):
            self._last_halt = str(error)
            watched, is_expected = self.watched, isinstance(error, CraftsyncError | OSError)
            trace = None if is_expected else error
            _log.error("%s: halted: %s", watched.root, _reason_of(error), exc_info=trace)
            self._notify(Notice("halted", watched.root, watched.store, "", _reason_of(error), 1))

    def _pause_after(self, error: BaseException) -> float:
        """Return the seconds to the next attempt, fewer for a lock, which is cheap to check."""
        if isinstance(error, LockedError):
            return _LOCKED_SECONDS if self._endpoint is not None else _SERVED_SECONDS
        return _RETRY_SECONDS

    def _listen(self, event: Event) -> None:
        if not self._waiting.note_reported(event):
            self.watched.on_event(event)

    def _run_ended(self, report: Report, new: list[IssueEvent]) -> None:
        """Add a run to the totals, and send a notice of new conflicts and held deletes."""
        with self._lock:
            self._last_halt = ""
            for name in ("uploaded", "downloaded", "bytes_uploaded", "bytes_downloaded"):
                self._totals[name] += getattr(report, name)
            self._totals["errors"] += report.problems
        for issue in (Issue.CONFLICT, Issue.HELD):
            these = [event for event in new if event.issue is issue]
            if these:
                root, store = self.watched.root, self.watched.store
                first = these[0]
                self._notify(Notice(issue, root, store, first.path, first.reason, len(these)))
        self._wake()

    def _should_suspend(self) -> bool:
        """Return whether no run may begin: paused by the user, or outside the windows."""
        is_open = self.watched.windows.open_at(self._local_time())
        return self._paused_since is not None or not is_open

    def _paused_until(self) -> str | None:
        """Return when it continues by itself, as an ISO time; `None` if the user paused it."""
        if self._paused_since is not None:
            return None
        opens = self.watched.windows.next_open(self._local_time())
        return iso(int(opens.timestamp()) * 10**9)

    def _local_time(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now_ns() // 10**9)

    def _apply_suspension(self) -> None:
        suspend = self._should_suspend()
        if suspend is self._is_suspended:
            return
        with self._lock:
            self._is_suspended = suspend
            if self._loop is not None:
                (self._loop.pause if suspend else self._loop.resume)()
        _log.info("%s: %s", self.watched.root, self._reason() if suspend else "resumed")

    def _set_paused(self, paused: bool) -> None:
        """Pause or resume, persistently, so that a restart does not undo a pause."""
        try:
            set_paused(self.watched.control, paused=paused)
            self._paused_since = paused_since(self.watched.control)
        except StateError as error:
            raise Refused(str(error).removesuffix(".")) from error
        self._apply_suspension()

    def _request_full_run(self) -> float:
        """Request a full run, and return when; a halted folder is retried."""
        if self._is_suspended:
            raise Refused(f"the folder is {self._reason()}")
        self._retry_at = 0.0
        if self._loop is not None:
            return self._loop.request_full_run()
        # A loop begins with a full run.
        return self._clock.monotonic()

    def _resolve_held(self, approval: Approval) -> None:
        """Carry out a decision on held deletes, in the folder's own thread."""
        if self._loop is None or self.is_halted or self._is_suspended:
            raise Refused(f"the folder is {self._reason() or 'not ready yet'}")
        self._loop.resolve_held(approval)


def _reason_of(error: BaseException) -> str:
    """Return the message and remedy of an error that halted a folder."""
    if not isinstance(error, CraftsyncError | OSError):
        return f"Unexpected error, {type(error).__name__}: {error}. The log has the details; please report it."
    remedy = getattr(error, "remedy", "")
    return f"{str(error).removesuffix('.')}. {remedy}".rstrip()
