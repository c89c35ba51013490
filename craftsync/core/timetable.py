"""Weekly timetables: rates that change with the hour, and windows when transfers may run.

Both are written as text (`08:00,1M 19:00,off`, `Sat-Sun 22:00-06:00`) and read into minutes since
Monday 00:00, local time. The caller passes the current time. Parsing raises `ValueError` with
a clause to which the caller adds the subject.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

T = TypeVar("T")

_DAY = 24 * 60
_WEEK = 7 * _DAY
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_ENTRY = r"(?:(?P<day>\w{3})-)?(?P<time>\d\d?:\d\d),(?P<value>\S+)"
_SPAN = r"(?:(?P<first>\w{3})(?:-(?P<last>\w{3}))?\s+)?(?P<start>\d\d?:\d\d)-(?P<end>\d\d?:\d\d)"


def minute_of_week(moment: datetime) -> int:
    return moment.weekday() * _DAY + moment.hour * 60 + moment.minute


@dataclass(frozen=True, slots=True)
class Timetable(Generic[T]):
    """Values, each valid from its minute of the week; before the first entry the last one is valid."""

    entries: tuple[tuple[int, T], ...]

    def at(self, moment: datetime) -> T:
        minute = minute_of_week(moment)
        begun = [value for start, value in self.entries if start <= minute]
        return begun[-1] if begun else self.entries[-1][1]


@dataclass(frozen=True, slots=True)
class Windows:
    """The open spans of the week as (start, length) in minutes; without spans it is always open."""

    spans: tuple[tuple[int, int], ...] = ()

    def open_at(self, moment: datetime) -> bool:
        minute = minute_of_week(moment)
        return not self.spans or any(
            (minute - start) % _WEEK < length for start, length in self.spans
        )

    def next_open(self, moment: datetime) -> datetime:
        """Return when it is open from: `moment` itself, or the start of the next window."""
        if self.open_at(moment):
            return moment
        wait = min((start - minute_of_week(moment)) % _WEEK for start, _ in self.spans)
        return moment.replace(second=0, microsecond=0) + timedelta(minutes=wait)


def next_shown(then: datetime, now: datetime) -> str:
    """Return a time of the coming week for people: "at 22:00", or "on Sat at 22:00" if it is a day away."""
    at = f"at {then:%H:%M}"
    day = _DAYS[then.weekday()].capitalize()
    return at if then - now < timedelta(days=1) else f"on {day} {at}"


def parse_timetable(words: str, parse_value: Callable[[str], T]) -> Timetable[T]:
    """Read `08:00,1M 19:00,off` or `Mon-08:00,1M Fri-19:00,off`, as rclone writes it.

    An entry without a day applies to every day.
    """
    entries: dict[int, T] = {}
    for word in words.split():
        found = re.fullmatch(_ENTRY, word)
        if found is None:
            raise ValueError(f"has the invalid entry {word!r} (expected TIME,RATE)")
        value = parse_value(found["value"])
        days = range(7) if found["day"] is None else [_day(found["day"])]
        entries |= {day * _DAY + _minute(found["time"], 23 * 60 + 59): value for day in days}
    if not entries:
        raise ValueError("has no entries")
    return Timetable(tuple(sorted(entries.items(), key=lambda entry: entry[0])))


def parse_window(words: str) -> tuple[tuple[int, int], ...]:
    """Read `22:00-06:00`, `Sat 00:00-24:00` or `Mon-Fri 12:00-14:00` as spans of the week.

    A span whose end is not after its start ends on the next day.
    """
    found = re.fullmatch(_SPAN, words.strip())
    if found is None:
        raise ValueError("is not a window")
    start, end = _minute(found["start"], _DAY - 1), _minute(found["end"], _DAY)
    length = (end - start) % _DAY or _DAY
    first = 0 if found["first"] is None else _day(found["first"])
    last = _day(found["last"] or found["first"]) if found["first"] else 6
    return tuple(((first + n) % 7 * _DAY + start, length) for n in range((last - first) % 7 + 1))


def _day(word: str) -> int:
    if word.lower() not in _DAYS:
        raise ValueError(f"has the invalid day {word!r}")
    return _DAYS.index(word.lower())


def _minute(word: str, latest: int) -> int:
    hour, minute = map(int, word.split(":"))
    if minute > 59 or hour * 60 + minute > latest:
        raise ValueError(f"has the invalid time {word!r}")
    return hour * 60 + minute
