"""The process that keeps folders in sync until stopped: signals, control sockets, systemd, figures.

One loop in the main thread does all of it and never waits for anything but the
next thing to do; each folder has a thread of its own (`pair`). It knows no
configuration file: it is handed a function that reads one, and calls it again
on SIGHUP.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from craftsync.clock import Clock
from craftsync.daemon.control import Control
from craftsync.daemon.hook import Hook
from craftsync.daemon.pair import FolderService, Watched
from craftsync.errors import ConfigError, CraftsyncError, LockedError, UsageError

if TYPE_CHECKING:
    # Loaded when figures are wanted: a server for HTTP is a tenth of what a start costs.
    from craftsync.daemon.metrics import Address, MetricsServer

_TICK_SECONDS = 1.0
_METRICS_SECONDS = 15.0
_HANGING_SECONDS = 60.0
"""A main loop that has not turned for so long hangs; systemd has the same limit (WatchdogSec=)."""
_LONGEST = 2_000
"""Characters of an assignment to systemd."""

_HOPELESS = (UsageError, ConfigError, LockedError)
"""Errors that end a daemon none of whose folders could be opened at the first try."""

_Result = TypeVar("_Result")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Setup:
    """Everything: folders, a file and an address for figures, the words of a command for what a person should know.

    `typed` says that a person named root and store in this call, so that what
    cannot be used at the first try may be mistyped.
    """

    folders: tuple[Watched, ...]
    metrics: Path | None = None
    metrics_addr: Address | None = None
    notify: tuple[str, ...] = ()
    typed: bool = False


OnStatus = Callable[[Sequence[Mapping[str, Any]]], None]
"""Hears how all folders stand, in the fields of `status --json`: once a second, and when a run has ended."""


def watch(
    load: Callable[[], Setup],
    clock: Clock,
    manager: ServiceManager,
    *,
    hangup_ends: bool = False,
    on_status: OnStatus = lambda statuses: None,
) -> int:
    """Keep the folders in sync until SIGTERM, SIGINT or the last one is stopped; returns 0 then.

    `load` says what to do, and again on SIGHUP; what it refuses then leaves
    everything as it was. With `hangup_ends` SIGHUP means the terminal is gone,
    and ends it too. A folder that something is wrong with, foreseen or not,
    halts and is tried again while the others continue. Only when none could be
    opened at the first try, and a person sees the error at once, is the first
    error raised (see `_Daemon._raise_what_ends_it`).
    """
    with _Signals(hangup_ends) as signals:
        daemon = _Daemon(load, clock, manager, signals, on_status)
        try:
            daemon.run()
        finally:
            daemon.close()
    return 0


class _Signals:
    """What signals have asked for so far; a byte arrives in `reader` with each of them, and with `wake`."""

    def __init__(self, hangup_ends: bool) -> None:
        self.stop = False
        self.reload = False
        self.reader, self._writer = socket.socketpair()
        self._hangup_ends = hangup_ends

    def __enter__(self) -> _Signals:
        for end in (self.reader, self._writer):
            end.setblocking(False)
        self._woken = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._previous = {
            number: signal.signal(number, self._note)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
            if self._is_heard(number)
        }
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._woken)
        self.reader.close()
        self._writer.close()

    def wake(self) -> None:
        """Make the loop look at once; any thread may ask for it."""
        with suppress(BlockingIOError):
            self._writer.send(b"\0")

    def _is_heard(self, number: signal.Signals) -> bool:
        """Return whether a signal is for us; nohup and shells' background jobs have some ignored.

        A SIGHUP that only reads the configuration again ends nothing, whoever had it ignored.
        """
        reloads = number == signal.SIGHUP and not self._hangup_ends
        return reloads or signal.getsignal(number) is not signal.SIG_IGN

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP and not self._hangup_ends:
            self.reload = True
        else:
            self.stop = True


class _Daemon:
    """The folders that are wanted, and the services there are."""

    def __init__(
        self,
        load: Callable[[], Setup],
        clock: Clock,
        manager: ServiceManager,
        signals: _Signals,
        on_status: OnStatus,
    ) -> None:
        self._load = load
        self._on_status = on_status
        self._clock = clock
        self._manager = manager
        self._signals = signals
        self._setup = load()
        self._wanted: dict[Path, Watched] = {}
        self._services: dict[Path, FolderService] = {}
        self._hook = Hook(self._setup.notify, clock)
        self._control = Control(clock)
        self._control.wake_by(signals.reader)
        self._status = ""
        self._remark = ""
        self._is_ready = False
        self._has_worked = False
        self._said: dict[FolderService, str] = {}
        self._stopped: set[Path] = set()
        """Folders a person has stopped: they stay so at a reload, until the daemon is started anew."""
        self._metrics_at = 0.0
        self._server: MetricsServer | None = None
        self._server_at = 0.0
        self._server_failure = ""
        self._turned_at = clock.monotonic()

    def run(self) -> None:
        """Go on until nothing is left to be kept in sync."""
        self._wanted = {watched.control: watched for watched in self._setup.folders}
        for watched in self._wanted.values():
            self._start(watched)
        while self._services:
            self._tick()
            self._control.serve(self._patience())

    def close(self) -> None:
        """End what runs still, and let go of everything."""
        for service in self._services.values():
            service.stop()
        for service in self._services.values():
            service.close()
        self._write_metrics()
        self._close_server()
        self._control.close()
        self._hook.close()

    def _tick(self) -> None:
        self._turned_at = self._clock.monotonic()
        if self._signals.stop and self._wanted:
            self._wanted.clear()
            self._manager.tell("STOPPING=1")
        if self._signals.reload:
            self._signals.reload = False
            self._reload()
        for service in self._services.values():
            self._alone(service, service.tick)
        self._hook.tick()
        self._raise_what_ends_it()
        self._reconcile()
        self._report()

    def _patience(self) -> float:
        """Return the seconds to the next look, if nothing happens before."""
        is_waiting = any(service.is_halted for service in self._services.values())
        tick = _TICK_SECONDS / 2 if is_waiting else _TICK_SECONDS
        return min(tick, (self._manager.watchdog_seconds or 2 * _TICK_SECONDS) / 2)

    def _alone(self, service: FolderService, step: Callable[[], _Result]) -> _Result | None:
        """Take a step for one folder; what goes wrong with it ends nothing, and is said once."""
        try:
            return step()
        except Exception as error:  # noqa: BLE001 (it is logged, once)
            if self._said.get(service) != str(error):
                self._said[service] = str(error)
                _log.error("%s: unforeseen error", service.watched.root, exc_info=error)
            return None

    def _raise_what_ends_it(self) -> None:
        """Raise what keeps all folders from being opened at the first try, where time does not help.

        That is a mistyped word, a configuration that cannot be carried out, or
        another daemon. A service manager would only start it anew.
        """
        services = list(self._services.values())
        self._has_worked = self._has_worked or any(service.was_open for service in services)
        if self._manager.is_there or not self._wanted or self._has_worked:
            return
        errors = [service.error for service in services if service.is_halted and service.error]
        if len(errors) < len(services):
            return
        hopeless = [error for error in errors if isinstance(error, _HOPELESS)]
        if self._setup.typed or hopeless:
            raise (hopeless or errors)[0]

    def _reconcile(self) -> None:
        """Bring the services nearer to what is wanted; what takes time is looked at again."""
        for folder, service in list(self._services.items()):
            if service.has_ended:
                self._let_go(folder, service)
            elif self._wanted.get(folder) != service.watched:
                service.stop()
        for folder, watched in self._wanted.items():
            if folder not in self._services:
                self._start(watched)

    def _let_go(self, folder: Path, service: FolderService) -> None:
        if self._wanted.get(folder) == service.watched:
            # It was stopped through its socket, and not to be replaced by another.
            del self._wanted[folder]
            self._stopped.add(folder)
        del self._services[folder]
        self._said.pop(service, None)
        service.close()
        _log.info("%s: stopped", service.watched.root)

    def _start(self, watched: Watched) -> None:
        self._services[watched.control] = FolderService(
            watched,
            self._clock,
            self._control,
            self._hook.tell,
            self._signals.wake,
            self._reload,
        )

    def _reload(self) -> str:
        """Read the configuration again; returns why it is refused, which changes nothing, or "".

        Keepers whose folder is configured as before are not disturbed.
        """
        now_us = int(self._clock.monotonic() * 1e6)
        self._manager.tell("RELOADING=1", f"MONOTONIC_USEC={now_us}")
        try:
            setup = self._load()
        except Exception as error:  # noqa: BLE001 (a file must not end what works)
            refusal = f"{type(error).__name__}: {error}"
            if isinstance(error, CraftsyncError):
                refusal = f"{error} {error.remedy}".rstrip()
            self._remark = f"new configuration refused: {error}"
            _log.error("the new configuration is refused, and the old one kept: %s", error)
        else:
            refusal = self._remark = ""
            self._setup = setup
            named = {watched.control: watched for watched in setup.folders}
            # What the configuration no longer names, and then names again, is new.
            self._stopped &= named.keys()
            self._wanted = {at: named[at] for at in named if at not in self._stopped}
            self._hook.words = setup.notify
            _log.info("the configuration was read again")
        self._manager.tell("READY=1")
        return refusal

    def _report(self) -> None:
        """Tell systemd how it goes, and write the figures when it is time."""
        if not self._is_ready and all(service.has_begun for service in self._services.values()):
            self._is_ready = True
            self._manager.tell("READY=1")
        statuses = self._statuses()
        self._on_status(statuses)
        status = _sentence(statuses, self._remark)
        if status != self._status:
            self._status = status
            self._manager.tell(f"STATUS={status}")
        if self._manager.watchdog_seconds is not None:
            self._manager.tell("WATCHDOG=1")
        if self._clock.monotonic() >= self._metrics_at:
            self._metrics_at = self._clock.monotonic() + _METRICS_SECONDS
            self._write_metrics()
        self._keep_server()

    def _statuses(self) -> list[dict[str, Any]]:
        found = (self._alone(service, service.status) for service in list(self._services.values()))
        return [status for status in found if status is not None]

    def _write_metrics(self) -> None:
        if self._setup.metrics is None:
            return
        from craftsync.daemon import metrics

        try:
            metrics.write(self._setup.metrics, self._statuses())
        except (OSError, ValueError) as error:
            _log.warning("the figures cannot be written to %s: %s", self._setup.metrics, error)

    def _keep_server(self) -> None:
        """Answer at the address that is wanted now; one that is taken is tried again."""
        wanted, now = self._setup.metrics_addr, self._clock.monotonic()
        if self._server is not None and self._server.wanted != wanted:
            self._close_server()
        if self._server is not None or wanted is None or now < self._server_at:
            return
        self._server_at = now + _METRICS_SECONDS
        from craftsync.daemon import metrics

        try:
            health = metrics.Health(self._is_alive, self._unready)
            self._server = metrics.MetricsServer(wanted, self._statuses, health)
        except OSError as error:
            if self._server_failure != str(error):
                _log.warning("metrics cannot be served at %s:%d: %s", *wanted, error)
            self._server_failure = str(error)
        else:
            self._server_failure = ""
            _log.info("metrics: %s", self._server.url)

    def _close_server(self) -> None:
        if self._server is not None:
            self._server.close()
            _log.info("metrics are no longer served: %s", self._server.url)
        self._server, self._server_at = None, 0.0

    def _is_alive(self) -> bool:
        return self._clock.monotonic() - self._turned_at < _HANGING_SECONDS

    def _unready(self) -> list[str]:
        """Return why a folder is not kept in sync now, a line each; any thread may ask."""
        if not self._wanted:
            return ["stopping"]
        return [reason for service in list(self._services.values()) if (reason := service.unready)]


def _sentence(statuses: list[dict[str, Any]], remark: str) -> str:
    """Return in one line what all folders do, and how much waits for a person."""
    states = Counter(str(status["state"]) for status in statuses)
    parts = [f"{count} {state}" for state, count in sorted(states.items())]
    for name, what in (("conflicts", "in conflict"), ("held", "held"), ("problems", "failed")):
        total = sum(status[name] for status in statuses)
        parts += [f"{total} {what}"] if total else []
    reasons = {str(status["reason"]) for status in statuses if status["reason"]}
    return "; ".join(
        [", ".join(parts) or "stopped", *sorted(reasons), *([remark] if remark else [])]
    )


class ServiceManager:
    """What started this process, if it wants to know how it goes (`is_there`): systemd, by sd_notify(3).

    `watchdog_seconds` is how often it wants to be told that all is well before
    it takes the process for hung; `None` when it does not watch.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET")
        self.watchdog_seconds: float | None = None
        # WATCHDOG_PID is there so that a child with the same variables stays silent (sd_watchdog_enabled(3)).
        if self._address and environment.get("WATCHDOG_PID", "") in {"", str(os.getpid())}:
            self.watchdog_seconds = int(environment.get("WATCHDOG_USEC", "0")) / 1e6 or None

    @property
    def is_there(self) -> bool:
        return bool(self._address)

    def tell(self, *assignments: str) -> None:
        """Send assignments such as `READY=1`; nobody waits for whether they arrive.

        An assignment is one line: what a reason contains must not be taken for another.
        """
        if not self._address:
            return
        address = self._address
        if address.startswith("@"):
            address = "\0" + address[1:]
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.setblocking(False)
            line.sendto(b"\n".join(map(_as_line, assignments)), address)


def _as_line(assignment: str) -> bytes:
    plain = "".join(char if char.isprintable() else "?" for char in assignment)
    return plain[:_LONGEST].encode(errors="replace")
