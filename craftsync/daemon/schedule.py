"""When scans, listings, retries and cleanups of a folder are due, and the rate limits of transfers.

Pure: clock and random numbers are arguments.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace
from random import Random

from craftsync.clock import Clock
from craftsync.engine.report import Options
from craftsync.net.pace import Rate

_MAX_FACTOR = 4.0
_WAIT_PER_SECOND = 300.0
"""Seconds between listings for each second that a listing takes."""
_JITTER = 0.1
_FIRST_BACKOFF = 1.0
_MAX_BACKOFF = 60.0
_FIRST_RETRY = 5.0
_NEVER = float("inf")
_UNWATCHED_SECONDS = 5.0
"""Shortest time between full scans while file watching is unreliable."""
_UNWATCHED_SHARE = 20
"""While file watching is unreliable, full scans are at least this many times their duration apart."""
_RETENTION_SECONDS = 86_400.0
"""The time between two removals of expired trash."""
_MORE_SECONDS = 60.0
"""The time to the next removal if there was too much for one."""
_DAY_SECONDS = 86_400.0
_SCRUB_SECONDS = 900.0
"""The time between the small parts of a day's scrub."""


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """Seconds without a change before a path is synced, between listings, and between full scans.

    `scrub_share` is the share of all bytes (0 to 1) read each day to find damage.
    """

    settle_seconds: float = 0.5
    poll_seconds: float = 30.0
    rescan_seconds: float = 600.0
    scrub_share: float = 0.0


class Cadence:
    """Seconds between listings: `base` after a change, up to four times that without one.

    Without changes, slow listings are further apart, so that they take at most a
    third of a percent of the time, but never more than `longest` seconds. A jitter
    of 10 % keeps many clients from listing in the same second.
    """

    def __init__(self, base: float, longest: float, random: Random) -> None:
        self._base = base
        self._longest = longest
        self._random = random
        self._interval = base
        self._cost = 0.0

    def record_duration(self, seconds: float) -> None:
        """Record how long a listing took."""
        self._cost = seconds

    def next(self, *, changed: bool) -> float:
        """Return the seconds until the next listing, after one with or without a change."""
        wait = self._base if changed else self._interval
        self._interval = min(self._base * _MAX_FACTOR, wait * 2)
        if not changed:
            wait = max(wait, min(self._longest, self._cost * _WAIT_PER_SECOND))
        return wait * self._random.uniform(1 - _JITTER, 1 + _JITTER)


class Backoff:
    """Seconds until the next attempt after a failure: doubled each time up to a bound, with jitter."""

    def __init__(self, random: Random, *, first: float = _FIRST_BACKOFF) -> None:
        self._random = random
        self._first = first
        self._wait = 0.0
        self._reason = ""

    def is_new(self, reason: str) -> bool:
        """Return whether the reason differs from that of the last failure since the last success."""
        known, self._reason = self._reason, reason
        return reason != known

    def next(self, longest: float = _MAX_BACKOFF) -> float:
        self._wait = min(longest, max(self._first, self._wait * 2))
        return self._wait * self._random.uniform(0.5, 1.0)

    def reset(self) -> None:
        self._wait, self._reason = 0.0, ""


class Retries:
    """Failed paths, and when to retry them, with growing pauses."""

    def __init__(self, random: Random) -> None:
        self._backoff = Backoff(random, first=_FIRST_RETRY)
        self._paths: set[str] = set()
        self.at = _NEVER
        """When the next attempt is due, on the clock passed to `plan`."""

    def forget(self, paths: Set[str] | None) -> None:
        """Drop these paths, or all, because a run over them begins."""
        self._paths = set() if paths is None else self._paths - paths

    def note(self, path: str) -> None:
        self._paths.add(path)

    def plan(self, now: float, longest: float) -> None:
        """Schedule the next attempt after a run."""
        if not self._paths:
            self._backoff.reset()
            self.at = _NEVER
        elif self.at == _NEVER:
            self.at = now + self._backoff.next(longest)

    def take(self, now: float) -> set[str]:
        """Return the paths due for a retry."""
        if now < self.at:
            return set()
        self.at = _NEVER
        return set(self._paths)


class Schedule:
    """When scans, listings, retries, retention and scrubs of one folder are due."""

    def __init__(self, settings: WatchSettings, clock: Clock, random: Random) -> None:
        self._settings = settings
        self._clock = clock
        self._now = clock.monotonic
        self._cadence = Cadence(settings.poll_seconds, settings.rescan_seconds, random)
        self._offline = Backoff(random)
        self._retries = Retries(random)
        self.scan_at = 0.0
        """When the next full scan is due, on the monotonic clock."""
        self._listing_at = self._retention_at = 0.0
        self._scrub_at = self._now() + _SCRUB_SECONDS if settings.scrub_share else _NEVER

    @property
    def scan_is_due(self) -> bool:
        return self._now() >= self.scan_at

    @property
    def listing_is_due(self) -> bool:
        return self._now() >= self._listing_at

    def seconds_to_next(self) -> float:
        """Return the seconds until something is due."""
        due = min(self.scan_at, self._listing_at, self._retries.at, self._scrub_at) - self._now()
        return max(0.0, min(due, self._retention_at - self._clock.boottime()))

    def seconds_to_look(self) -> float:
        """Return the seconds until the store is listed, the folder scanned, or a failed path retried."""
        return max(0.0, min(self.scan_at, self._listing_at, self._retries.at) - self._now())

    def listed(self, seconds: float, *, changed: bool) -> None:
        """Record a listing that took `seconds`, and whether it found a change."""
        self._cadence.record_duration(seconds)
        self._listing_at = self._now() + self._cadence.next(changed=changed)

    def scanned(self, seconds: float, *, changed: bool, healthy: bool) -> None:
        """Record a full run that took `seconds`; `healthy` is whether file watching is reliable."""
        period = self._settings.rescan_seconds
        if not healthy:
            period = min(period, max(_UNWATCHED_SECONDS, seconds * _UNWATCHED_SHARE))
        self.scan_at = self._now() + period
        self._listing_at = self._now() + self._cadence.next(changed=changed)
        self._retention_at = self._clock.boottime() + _RETENTION_SECONDS

    def run_begins(self, paths: Set[str] | None) -> None:
        """Record that a run over these paths, or all, begins; drop their earlier failures."""
        self._retries.forget(paths)

    def failed(self, path: str) -> None:
        """Record a path that failed in this run."""
        self._retries.note(path)

    def run_ended(self) -> None:
        """Record the end of a run, which means that the store is reachable."""
        self._retries.plan(self._now(), self._settings.rescan_seconds)
        self._offline.reset()

    def take_retries(self) -> set[str]:
        """Take the paths due for a retry."""
        return self._retries.take(self._now())

    def store_unreachable(self, reason: str) -> tuple[float, bool]:
        """Record that the store is unreachable; return the seconds to the next attempt, and whether the reason is new."""
        wait = self._offline.next()
        self.scan_at, self._listing_at = self._now() + wait, _NEVER
        return wait, self._offline.is_new(reason)

    def take_retention(self) -> bool:
        """Return whether expired trash is due to be removed; if so, schedule the next removal in a day.

        Uses the clock that continues during suspend, as the age of a version does.
        """
        now = self._clock.boottime()
        is_due = now >= self._retention_at
        if is_due:
            self._retention_at = now + _RETENTION_SECONDS
        return is_due

    def retention_continues(self) -> None:
        """Record that there was more expired trash than was removed at once."""
        self._retention_at = self._clock.boottime() + _MORE_SECONDS

    def take_scrub_share(self) -> float | None:
        """Return the share of all bytes to read now, and schedule the next share; `None` if not due."""
        if self._now() < self._scrub_at:
            return None
        self._scrub_at = self._now() + _SCRUB_SECONDS
        return self._settings.scrub_share * _SCRUB_SECONDS / _DAY_SECONDS


class Throttle:
    """The current transfer rates: those of the options, until `set` overrides them. Thread-safe."""

    def __init__(self, options: Options) -> None:
        self._configured: tuple[Rate, Rate] = (options.upload_rate, options.download_rate)
        self._rates = self._configured

    def set(self, rates: tuple[float | None, float | None] | None) -> None:
        """Set (upload, download) in bytes per second, each `None` for no limit.

        `None` instead restores the rates of the options.
        """
        self._rates = self._configured if rates is None else rates

    def upload(self, now_ns: int) -> float | None:
        return _rate_at(self._rates[0], now_ns)

    def download(self, now_ns: int) -> float | None:
        return _rate_at(self._rates[1], now_ns)

    def apply_to(self, options: Options) -> Options:
        """Return the options with rates that follow this throttle."""
        return replace(options, upload_rate=self.upload, download_rate=self.download)


def _rate_at(rate: Rate, now_ns: int) -> float | None:
    return rate(now_ns) if callable(rate) else rate
