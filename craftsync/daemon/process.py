"""The process that keeps folders in sync until stopped: signals, control sockets, systemd, metrics.

One loop in the main thread does all of this, and blocks on nothing else. Each
folder has a thread of its own (`pair`). A function reads the configuration; on
SIGHUP the loop calls it again.
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
    # Imported when needed: an HTTP server is a tenth of the start-up time.
    from craftsync.daemon.health import Address, Endpoint

_TICK_SECONDS = 1.0
_METRICS_SECONDS = 15.0
_HANGING_SECONDS = 60.0
"""A main loop that has not run for this long is hung; systemd has the same limit (WatchdogSec=)."""
_LONGEST = 2_000
"""The most characters of one assignment to systemd."""

_FATAL = (UsageError, ConfigError, LockedError)
"""Errors that end the daemon when no folder could be opened at the first attempt."""

_Result = TypeVar("_Result")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Setup:
    """The configuration of the daemon: folders, file and address for metrics, notify command.

    `typed` is whether folder and store come from the command line, so that a
    failure at the first attempt may be a typing error.
    """

    folders: tuple[Watched, ...]
    metrics: Path | None = None
    metrics_addr: Address | None = None
    notify: tuple[str, ...] = ()
    typed: bool = False


OnStatus = Callable[[Sequence[Mapping[str, Any]]], None]
"""Called with the status of all folders (the fields of `status --json`) once a second and after each run."""


def watch(
    load: Callable[[], Setup],
    clock: Clock,
    manager: ServiceManager,
    *,
    hangup_ends: bool = False,
    on_status: OnStatus = lambda statuses: None,
) -> int:
    """Keep the folders in sync until SIGTERM, SIGINT or the last one is stopped; returns 0.

    `load` reads the configuration, again on SIGHUP; if that fails the old one
    stays. With `hangup_ends`, SIGHUP means that the terminal was closed, and
    ends the daemon. A folder with an error halts and is retried while the others
    continue. An error is raised only when no folder could be opened at the first
    attempt (see `_Daemon._raise_what_ends_it`).
    """
    with _Signals(hangup_ends) as signals:
        daemon = _Daemon(load, clock, manager, signals, on_status)
        try:
            daemon.run()
        finally:
            daemon.close()
    return 0


class _Signals:
    """Handles signals: sets `stop` or `reload`, and sends a byte to `reader`, as `wake` does."""

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
            if self._handles(number)
        }
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._woken)
        self.reader.close()
        self._writer.close()

    def wake(self) -> None:
        """Make the main loop run at once. Thread-safe."""
        with suppress(BlockingIOError):
            self._writer.send(b"\0")

    def _handles(self, number: signal.Signals) -> bool:
        """Return whether to handle a signal: not if nohup or a shell made this process ignore it.

        A SIGHUP that only reloads the configuration is always handled.
        """
        reloads = number == signal.SIGHUP and not self._hangup_ends
        return reloads or signal.getsignal(number) is not signal.SIG_IGN

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP and not self._hangup_ends:
            self.reload = True
        else:
            self.stop = True


class _Daemon:
    """Starts and stops folder services to match the configuration."""

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
        self._logged: dict[FolderService, str] = {}
        self._stopped: set[Path] = set()
        """Folders the user has stopped; they stay stopped until the daemon restarts."""
        self._metrics_at = 0.0
        self._server: Endpoint | None = None
        self._server_at = 0.0
        self._server_failure = ""
        self._turned_at = clock.monotonic()

    def run(self) -> None:
        """Run until no folder is left to keep in sync."""
        self._wanted = {watched.control: watched for watched in self._setup.folders}
        for watched in self._wanted.values():
            self._start(watched)
        while self._services:
            self._tick()
            self._control.serve(self._tick_seconds())

    def close(self) -> None:
        """Stop all services and close everything."""
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
            self._manager.notify("STOPPING=1")
        if self._signals.reload:
            self._signals.reload = False
            self._reload()
        for service in self._services.values():
            self._guarded(service, service.tick)
        self._hook.tick()
        self._raise_what_ends_it()
        self._reconcile()
        self._report()

    def _tick_seconds(self) -> float:
        """Return the longest seconds to the next tick."""
        is_waiting = any(service.is_halted for service in self._services.values())
        tick = _TICK_SECONDS / 2 if is_waiting else _TICK_SECONDS
        return min(tick, (self._manager.watchdog_seconds or 2 * _TICK_SECONDS) / 2)

    def _guarded(self, service: FolderService, step: Callable[[], _Result]) -> _Result | None:
        """Call `step` for one folder; an error is logged, once, and returns `None`."""
        try:
            return step()
        except Exception as error:  # noqa: BLE001 (it is logged, once)
            if self._logged.get(service) != str(error):
                self._logged[service] = str(error)
                _log.error("%s: unexpected error", service.watched.root, exc_info=error)
            return None

    def _raise_what_ends_it(self) -> None:
        """Raise an error if no folder could be opened at the first attempt and retrying does not help.

        Examples are a typing error, an invalid configuration and another daemon.
        A service manager would only restart the daemon, so under one, raise nothing.
        """
        services = list(self._services.values())
        self._has_worked = self._has_worked or any(service.was_open for service in services)
        if self._manager.is_there or not self._wanted or self._has_worked:
            return
        errors = [service.error for service in services if service.is_halted and service.error]
        if len(errors) < len(services):
            return
        fatal = [error for error in errors if isinstance(error, _FATAL)]
        if self._setup.typed or fatal:
            raise (fatal or errors)[0]

    def _reconcile(self) -> None:
        """Start and stop services to match the configuration; a stop completes at a later call."""
        for folder, service in list(self._services.items()):
            if service.has_ended:
                self._remove(folder, service)
            elif self._wanted.get(folder) != service.watched:
                service.stop()
        for folder, watched in self._wanted.items():
            if folder not in self._services:
                self._start(watched)

    def _remove(self, folder: Path, service: FolderService) -> None:
        if self._wanted.get(folder) == service.watched:
            # Stopped by a request through its socket: do not start it again.
            del self._wanted[folder]
            self._stopped.add(folder)
        del self._services[folder]
        self._logged.pop(service, None)
        service.close()
        _log.info("%s: stopped", service.watched.root)

    def _start(self, watched: Watched) -> None:
        self._services[watched.control] = FolderService(
            watched,
            self._clock,
            self._control,
            self._hook.notify,
            self._signals.wake,
            self._reload,
            self._is_ending,
        )

    def _is_ending(self) -> bool:
        """Return whether no folder is left that is to be kept in sync: each was stopped by a request."""
        return all(
            (service := self._services.get(folder)) is not None
            and service.is_stopped
            and service.watched == watched
            for folder, watched in self._wanted.items()
        )

    def _reload(self) -> str:
        """Read the configuration again; returns "" or why it is refused, which changes nothing.

        Services with an unchanged configuration continue.
        """
        now_us = int(self._clock.monotonic() * 1e6)
        self._manager.notify("RELOADING=1", f"MONOTONIC_USEC={now_us}")
        try:
            setup = self._load()
        except Exception as error:  # noqa: BLE001 (an invalid file must not end the daemon)
            refusal = f"{type(error).__name__}: {error}"
            if isinstance(error, CraftsyncError):
                refusal = f"{error} {error.remedy}".rstrip()
            self._remark = f"new configuration refused: {error}"
            _log.error("the new configuration is refused, the old one stays: %s", error)
        else:
            refusal = self._remark = ""
            self._setup = setup
            named = {watched.control: watched for watched in setup.folders}
            # A stopped folder that was removed from the configuration may be added again.
            self._stopped &= named.keys()
            self._wanted = {at: named[at] for at in named if at not in self._stopped}
            self._hook.words = setup.notify
            _log.info("the configuration was read again")
        self._manager.notify("READY=1")
        return refusal

    def _report(self) -> None:
        """Report the status to systemd, and write the metrics when due."""
        if not self._is_ready and all(service.has_begun for service in self._services.values()):
            self._is_ready = True
            self._manager.notify("READY=1")
        statuses = self._statuses()
        self._on_status(statuses)
        status = _summary(statuses, self._remark)
        if status != self._status:
            self._status = status
            self._manager.notify(f"STATUS={status}")
        if self._manager.watchdog_seconds is not None:
            self._manager.notify("WATCHDOG=1")
        if self._clock.monotonic() >= self._metrics_at:
            self._metrics_at = self._clock.monotonic() + _METRICS_SECONDS
            self._write_metrics()
        self._keep_server()

    def _statuses(self) -> list[dict[str, Any]]:
        found = (
            self._guarded(service, service.status) for service in list(self._services.values())
        )
        return [status for status in found if status is not None]

    def _write_metrics(self) -> None:
        if self._setup.metrics is None:
            return
        from craftsync.daemon import metrics

        try:
            metrics.write(self._setup.metrics, self._statuses())
        except (OSError, ValueError) as error:
            _log.warning("cannot write metrics to %s: %s", self._setup.metrics, error)

    def _keep_server(self) -> None:
        """Serve metrics at the configured address; retries while the address is in use."""
        wanted, now = self._setup.metrics_addr, self._clock.monotonic()
        if self._server is not None and self._server.wanted != wanted:
            self._close_server()
        if self._server is not None or wanted is None or now < self._server_at:
            return
        self._server_at = now + _METRICS_SECONDS
        from craftsync.daemon import health

        try:
            checks = health.Health(self._is_alive, self._unready)
            self._server = health.Endpoint(wanted, self._statuses, checks)
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
        """Return why folders are not kept in sync, one line each. Thread-safe."""
        if not self._wanted:
            return ["stopping"]
        return [reason for service in list(self._services.values()) if (reason := service.unready)]


def _summary(statuses: list[dict[str, Any]], remark: str) -> str:
    """Return one line with the states of all folders and the numbers of open issues."""
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
    """Notifies systemd by sd_notify(3), if it started this process (`is_there`).

    `watchdog_seconds` is how often systemd must be notified before it considers
    the process hung; `None` without a watchdog.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET")
        self.watchdog_seconds: float | None = None
        # WATCHDOG_PID keeps child processes with the same environment from notifying (sd_watchdog_enabled(3)).
        if self._address and environment.get("WATCHDOG_PID", "") in {"", str(os.getpid())}:
            self.watchdog_seconds = int(environment.get("WATCHDOG_USEC", "0")) / 1e6 or None

    @property
    def is_there(self) -> bool:
        return bool(self._address)

    def notify(self, *assignments: str) -> None:
        """Send assignments such as `READY=1`, one line each; errors are ignored."""
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
