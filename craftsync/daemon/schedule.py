"""When what is due in a folder, how long to wait until the next try, and how fast transfers may go.

Pure: the clock and chance are arguments.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace
from random import Random

from craftsync.clock import Clock
from craftsync.engine.report import Options
from craftsync.net.pace import Rate

_QUIETEST = 4.0
_WORTH = 300.0
"""A look that takes a second is worth a wait of so many."""
_JITTER = 0.1
_FIRST_BACKOFF = 1.0
_LONGEST_BACKOFF = 60.0
_FIRST_RETRY = 5.0
_NEVER = float("inf")
_UNWATCHED_SECONDS = 5.0
"""Between full scans while the watching cannot be relied on …"""
_UNWATCHED_SHARE = 20
"""… or so many times what such a scan takes, whichever is longer."""
_RETENTION_SECONDS = 86_400.0
"""Between two looks at what the trash is no longer to keep …"""
_MORE_SECONDS = 60.0
"""… and until more of it goes, where there was too much for one."""
_DAY_SECONDS = 86_400.0
_SCRUB_SECONDS = 900.0
"""A day's share is read in many small pieces, between which changes are carried out."""


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """Seconds of quiet before a change is acted on, between listings, and between full scans.

    `scrub_share` of all bytes, from 0 to 1, are read each day to find damage.
    """

    settle_seconds: float = 0.5
    poll_seconds: float = 30.0
    rescan_seconds: float = 600.0
    scrub_share: float = 0.0


class Cadence:
    """Seconds between looks at a store: `base` after a change, up to four times that while it is quiet.

    While it is quiet the looks take no more than a third of a percent of the
    time either, unless that would make them rarer than every `longest` seconds.
    A tenth either way is left to chance, or everybody who started at the same
    hour would ask at the same second.
    """

    def __init__(self, base: float, longest: float, random: Random) -> None:
        self._base = base
        self._longest = longest
        self._random = random
        self._interval = base
        self._cost = 0.0

    def took(self, seconds: float) -> None:
        """Learn what a look takes."""
        self._cost = seconds

    def next(self, *, changed: bool) -> float:
        """Return the seconds until the next look, after one that met a change or none."""
        wait = self._base if changed else self._interval
        self._interval = min(self._base * _QUIETEST, wait * 2)
        if not changed:
            wait = max(wait, min(self._longest, self._cost * _WORTH))
        return wait * self._random.uniform(1 - _JITTER, 1 + _JITTER)


class Backoff:
    """Seconds until something that failed is tried again: they double, with chance, up to a bound."""

    def __init__(self, random: Random, *, first: float = _FIRST_BACKOFF) -> None:
        self._random = random
        self._first = first
        self._wait = 0.0
        self._reason = ""

    def is_new(self, reason: str) -> bool:
        """Return whether another reason, or none, was given since it last went well; once a minute is no news."""
        known, self._reason = self._reason, reason
        return reason != known

    def next(self, longest: float = _LONGEST_BACKOFF) -> float:
        self._wait = min(longest, max(self._first, self._wait * 2))
        return self._wait * self._random.uniform(0.5, 1.0)

    def reset(self) -> None:
        self._wait, self._reason = 0.0, ""


class Retries:
    """Paths that could not be handled, and when they are tried again: ever more rarely."""

    def __init__(self, random: Random) -> None:
        self._backoff = Backoff(random, first=_FIRST_RETRY)
        self._paths: set[str] = set()
        self.at = _NEVER
        """When the next attempt is due, on the clock that `plan` is asked with."""

    def forget(self, paths: Set[str] | None) -> None:
        """A run begins over these paths, or over everything."""
        self._paths = set() if paths is None else self._paths - paths

    def note(self, path: str) -> None:
        self._paths.add(path)

    def plan(self, now: float, longest: float) -> None:
        """A run has ended: say when to try what is left."""
        if not self._paths:
            self._backoff.reset()
            self.at = _NEVER
        elif self.at == _NEVER:
            self.at = now + self._backoff.next(longest)

    def take(self, now: float) -> set[str]:
        """Return what is to be tried by now."""
        if now < self.at:
            return set()
        self.at = _NEVER
        return set(self._paths)


class Schedule:
    """When what is due in one folder: scans, listings, retries, retention and scrubs."""

    def __init__(self, settings: WatchSettings, clock: Clock, random: Random) -> None:
        self._settings = settings
        self._clock = clock
        self._now = clock.monotonic
        self._cadence = Cadence(settings.poll_seconds, settings.rescan_seconds, random)
        self._offline = Backoff(random)
        self._retries = Retries(random)
        self.scan_at = 0.0
        """When everything is scanned next, on the monotonic clock."""
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

    def listed(self, took: float, *, changed: bool) -> None:
        """The store was listed, which took so many seconds, and something had changed there or not."""
        self._cadence.took(took)
        self._listing_at = self._now() + self._cadence.next(changed=changed)

    def scanned(self, took: float, *, changed: bool, healthy: bool) -> None:
        """A run over everything has ended; `healthy` says whether file watching can be relied on."""
        period = self._settings.rescan_seconds
        if not healthy:
            period = min(period, max(_UNWATCHED_SECONDS, took * _UNWATCHED_SHARE))
        self.scan_at = self._now() + period
        self._listing_at = self._now() + self._cadence.next(changed=changed)
        self._retention_at = self._clock.boottime() + _RETENTION_SECONDS

    def run_begins(self, paths: Set[str] | None) -> None:
        """A run over these paths, or over everything, begins: what of them failed before is forgotten."""
        self._retries.forget(paths)

    def failed(self, path: str) -> None:
        """The run under way could not handle a path."""
        self._retries.note(path)

    def run_ended(self) -> None:
        """A run has ended, and so the store can be reached."""
        self._retries.plan(self._now(), self._settings.rescan_seconds)
        self._offline.reset()

    def retries(self) -> set[str]:
        """Take the paths that are to be tried again by now."""
        return self._retries.take(self._now())

    def store_is_away(self, reason: str) -> tuple[float, bool]:
        """The store cannot be reached. Return the seconds to the next scan, and whether the reason is a new one."""
        wait = self._offline.next()
        self.scan_at, self._listing_at = self._now() + wait, _NEVER
        return wait, self._offline.is_new(reason)

    def retention_is_due(self) -> bool:
        """Return whether the trash is to be looked at; the next time is a day later.

        By the clock that goes on while the machine is suspended, as the age of a version does.
        """
        now = self._clock.boottime()
        is_due = now >= self._retention_at
        if is_due:
            self._retention_at = now + _RETENTION_SECONDS
        return is_due

    def retention_continues(self) -> None:
        """More was to go from the trash than went at once."""
        self._retention_at = self._clock.boottime() + _MORE_SECONDS

    def scrub_share(self) -> float | None:
        """Return the share of all bytes that is to be read now, `None` while none is."""
        if self._now() < self._scrub_at:
            return None
        self._scrub_at = self._now() + _SCRUB_SECONDS
        return self._settings.scrub_share * _SCRUB_SECONDS / _DAY_SECONDS


class Throttle:
    """What the options say, until `set` says otherwise. Any thread may call it."""

    def __init__(self, options: Options) -> None:
        self._configured: tuple[Rate, Rate] = (options.upload_rate, options.download_rate)
        self._rates = self._configured

    def set(self, rates: tuple[float | None, float | None] | None) -> None:
        """Allow so many bytes per second up and down from now on; `None` among them is no limit.

        `None` instead of them goes back to what the options say.
        """
        self._rates = self._configured if rates is None else rates

    def upload(self, now_ns: int) -> float | None:
        return _at(self._rates[0], now_ns)

    def download(self, now_ns: int) -> float | None:
        return _at(self._rates[1], now_ns)

    def over(self, options: Options) -> Options:
        """Return these options with rates that follow this throttle."""
        return replace(options, upload_rate=self.upload, download_rate=self.download)


def _at(rate: Rate, now_ns: int) -> float | None:
    return rate(now_ns) if callable(rate) else rate
