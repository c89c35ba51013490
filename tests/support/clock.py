"""A clock that moves only when it is told to, or when somebody waits on it."""

from __future__ import annotations

import threading


class FakeClock:
    """Keeps `craftsync.clock.Clock`; waiting takes no time and is written down in `slept`."""

    def __init__(self, now_ns: int = 1_800_000_000_000_000_000) -> None:
        self.slept: list[float] = []
        self._now_ns = now_ns
        self._elapsed = 0.0
        self._suspended = 0.0
        self._lock = threading.Lock()

    def now_ns(self) -> int:
        return self._now_ns

    def monotonic(self) -> float:
        return self._elapsed

    def boottime(self) -> float:
        return self._elapsed + self._suspended

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(seconds)

    def jump(self, seconds: float) -> None:
        """Set the wall clock only, forward or back."""
        with self._lock:
            self._now_ns += round(seconds * 1e9)

    def suspend(self, seconds: float) -> None:
        """Let the machine be suspended, as a laptop that is closed."""
        with self._lock:
            self._suspended += seconds
            self._now_ns += round(seconds * 1e9)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        with self._lock:
            self._elapsed += seconds
            self._now_ns += round(seconds * 1e9)
