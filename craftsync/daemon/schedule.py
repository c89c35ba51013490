"""How long to wait until the next look at a store or the next try, and how fast transfers may go.

Pure: time and chance are arguments.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace
from random import Random

from craftsync.sync.report import Options, Rate

_QUIETEST = 4.0
_WORTH = 300.0
"""A look that takes a second is worth a wait of so many."""
_JITTER = 0.1
_FIRST_BACKOFF = 1.0
_LONGEST_BACKOFF = 60.0
_FIRST_RETRY = 5.0
_NEVER = float("inf")


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
        """Tell whether another reason, or none, was given since it last went well; once a minute is no news."""
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
        """A pass begins over these paths, or over everything."""
        self._paths = set() if paths is None else self._paths - paths

    def note(self, path: str) -> None:
        self._paths.add(path)

    def plan(self, now: float, longest: float) -> None:
        """A pass has ended: say when to try what is left."""
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
