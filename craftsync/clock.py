"""Time as an argument: what asks for the time or waits is handed a `Clock`.

So a test can stop time, turn it or take the waiting away. This is the only
file that knows how the machine tells the time.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol

from craftsync.errors import Interrupted
from craftsync.net.waiting import LOOK_SECONDS, blocking


class Clock(Protocol):
    """Four ways to meet time; all may be called from several threads."""

    def now_ns(self) -> int:
        """Return nanoseconds since the epoch (UTC). It may jump, in either direction."""
        ...

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start. It never jumps and never goes back."""
        ...

    def boottime(self) -> float:
        """Return seconds as `monotonic` does, those included in which the machine was suspended."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return once that many seconds have passed."""
        ...


class SystemClock:
    """The machine's own time."""

    # Not wrapped: each file takes a dozen looks at the time.
    now_ns = staticmethod(time.time_ns)
    monotonic = staticmethod(time.monotonic)

    def boottime(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def sleep(self, seconds: float) -> None:
        blocking(partial(time.sleep, seconds))  # noqa: TID251 (the one place that may)


class CancellableClock(SystemClock):
    """The machine's time, whose sleepers a stop wakes: from `cancel` to `renew` each sleep ends with `Interrupted`."""

    def __init__(self) -> None:
        self._cancelled = threading.Event()

    def sleep(self, seconds: float) -> None:
        if blocking(partial(self._is_cancelled_within, seconds)):
            raise Interrupted

    def _is_cancelled_within(self, seconds: float) -> bool:
        end = self.monotonic() + seconds
        while (left := end - self.monotonic()) > LOOK_SECONDS:
            if self._cancelled.wait(LOOK_SECONDS):
                return True
        return self._cancelled.wait(max(left, 0.0))

    def cancel(self) -> None:
        self._cancelled.set()

    def renew(self) -> None:
        self._cancelled.clear()


def boot_id() -> str:
    """Name the boot that `Clock.boottime` counts from; empty where the kernel does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def stamp(clock: Clock, *, days_ago: float = 0) -> str:
    """Name a moment so that names sort by age and fit a file name: UTC, to the microsecond."""
    return stamp_of(clock.now_ns() - int(days_ago * 86_400e9))


def stamp_of(moment_ns: int) -> str:
    """Name a moment (nanoseconds since the epoch) as `stamp` does."""
    micros = moment_ns // 1000
    moment = datetime.fromtimestamp(micros // 1_000_000, UTC).replace(
        microsecond=micros % 1_000_000
    )
    return moment.strftime("%Y%m%dT%H%M%S%fZ")


def iso(moment_ns: int) -> str:
    """Write nanoseconds since the epoch as `2026-11-22T10:11:12Z`."""
    return datetime.fromtimestamp(moment_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
