"""`Clock`: the only access to the system's time. Code that reads the time or sleeps gets one as an argument.

Tests pass a clock that they control. Also here: how times are written (`stamp`, `iso`).
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol

from craftsync.errors import Interrupted
from craftsync.net.waiting import CHECK_SECONDS, blocking


class Clock(Protocol):
    """Reads the time and sleeps. Thread-safe."""

    def now_ns(self) -> int:
        """Return nanoseconds since the epoch (UTC). This time may jump in either direction."""
        ...

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start. This time never jumps or goes back."""
        ...

    def boottime(self) -> float:
        """Return seconds as `monotonic` does, but including the time that the machine was suspended."""
        ...

    def sleep(self, seconds: float) -> None:
        """Sleep for `seconds`."""
        ...


class SystemClock:
    """The system's time."""

    # Without wrappers, because each file reads the time a dozen times.
    now_ns = staticmethod(time.time_ns)
    monotonic = staticmethod(time.monotonic)

    def boottime(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def sleep(self, seconds: float) -> None:
        blocking(partial(time.sleep, seconds))  # noqa: TID251 (the one place that may)


class CancellableClock(SystemClock):
    """The system's time. From `cancel` to `renew`, each sleep raises `Interrupted`."""

    def __init__(self) -> None:
        self._cancelled = threading.Event()

    def sleep(self, seconds: float) -> None:
        if blocking(partial(self._is_cancelled_within, seconds)):
            raise Interrupted

    def _is_cancelled_within(self, seconds: float) -> bool:
        end = self.monotonic() + seconds
        while (left := end - self.monotonic()) > CHECK_SECONDS:
            if self._cancelled.wait(CHECK_SECONDS):
                return True
        return self._cancelled.wait(max(left, 0.0))

    def cancel(self) -> None:
        self._cancelled.set()

    def renew(self) -> None:
        self._cancelled.clear()


def boot_id() -> str:
    """Return the id of the boot that `Clock.boottime` counts from; empty if the kernel has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def stamp(clock: Clock, *, days_ago: float = 0) -> str:
    """Return the time (UTC, in microseconds) as text that sorts by age and is a valid file name."""
    return stamp_of(clock.now_ns() - int(days_ago * 86_400e9))


def stamp_of(time_ns: int) -> str:
    """Format nanoseconds since the epoch as `stamp` does."""
    micros = time_ns // 1000
    at = datetime.fromtimestamp(micros // 1_000_000, UTC).replace(microsecond=micros % 1_000_000)
    return at.strftime("%Y%m%dT%H%M%S%fZ")


def iso(time_ns: int) -> str:
    """Format nanoseconds since the epoch as `2026-11-22T10:11:12Z`."""
    return datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
