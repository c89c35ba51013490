"""Selects paths by the user's words (files, folders, globs) and parses times (dates, times, ages).

`trash`, `conflicts` and `deletes` share this, so that a word has the same meaning in all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import NamedTuple

from craftsync.errors import UsageError

_GLOB = re.compile(r"[*?\[]")
_AGE = re.compile(r"(\d{1,6})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_STAMP = re.compile(r"(\d{8}T\d{6})\d{6}Z(?:-\d+)?")
_DAY = len("2026-11-29")


class Selection(NamedTuple):
    """Selects paths; without `words`, all of them.

    A word is a file, a folder with everything below it ("." is the whole), or a glob whose `*` also
    matches slashes.
    """

    words: tuple[str, ...] = ()
    names: frozenset[str] = frozenset()
    """Words that look like a glob but are names (see `by_name`)."""

    def has(self, path: str) -> bool:
        return not self.words or any(
            _is_at(path, word) if word in self.names else matches(path, word) for word in self.words
        )

    def by_name(self, paths: Iterable[str]) -> Selection:
        """Return this selection with globs that exactly name one of these paths, or a folder above it, as names."""
        globs = [word for word in self.words if _GLOB.search(word)]
        if not globs:
            return self
        return self._replace(
            names=frozenset(word for path in paths for word in globs if _is_at(path, word))
        )

    def unmatched(self, paths: Iterable[str]) -> list[str]:
        """Return the words that select none of these paths. Reads only as many paths as it needs."""
        left = list(self.words)
        rest = iter(paths)
        while left and (path := next(rest, None)) is not None:
            left = [word for word in left if not matches(path, word)]
        return left

    def prefixes(self) -> list[str]:
        """Return prefixes of all selected paths, none a prefix of another; "" selects all."""
        found = {"" if word == "." else _GLOB.split(word)[0] for word in self.words or ("",)}
        shortest: list[str] = []
        for prefix in sorted(found):
            if not (shortest and prefix.startswith(shortest[-1])):
                shortest.append(prefix)
        return shortest

    def folders(self) -> list[str]:
        """Return the folders to scan for the selected paths, none inside another ("" is the whole)."""
        found = {prefix.rpartition("/")[0] for prefix in self.prefixes()}
        return [""] if "" in found else sorted(one for one in found if not _is_inside(one, found))


def _is_inside(folder: str, others: set[str]) -> bool:
    parts = folder.split("/")
    return any("/".join(parts[:depth]) in others for depth in range(1, len(parts)))


def matches(path: str, word: str) -> bool:
    """Return whether a word of a `Selection` selects this path."""
    return word in {"", "."} or _is_at(path, word) or fnmatchcase(path, word)


def _is_at(path: str, name: str) -> bool:
    return path == name or path.startswith(f"{name}/")


def in_utc(when: str, now_ns: int) -> str:
    """Return an age (90m, 2h, 3d, 1w), `today` or `yesterday` as a date or time in UTC.

    Any other word is returned unchanged.
    """
    now = datetime.fromtimestamp(now_ns / 1e9, UTC)
    word = when.strip().lower()
    if word in {"today", "yesterday"}:
        return (now - timedelta(days=word == "yesterday")).strftime("%Y-%m-%d")
    if age := _AGE.fullmatch(word):
        then = _before(now, timedelta(**{_UNITS[age[2]]: int(age[1])}))
        return then.replace(tzinfo=None).isoformat(timespec="seconds")
    return when


def _before(now: datetime, age: timedelta) -> datetime:
    try:
        return now - age
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def parse_time(when: str) -> datetime:
    """Parse a date or time in ISO 8601 (UTC without a zone), or the beginning of a trash stamp.

    Raises `UsageError` for any other word.
    """
    if stamp := _STAMP.fullmatch(when):
        when = stamp[1]
    try:
        found = datetime.fromisoformat(when)
    except ValueError:
        raise UsageError(
            f"{when!r} is not a date or time.",
            remedy="Use 2026-11-29, 2026-11-29T14:00 (UTC), yesterday, or an age such as 2h or 3d.",
        ) from None
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def is_day(when: str) -> bool:
    """Return whether a word names a whole day."""
    return len(when) <= _DAY


def parse_time_ns(when: str) -> int:
    """Parse as `parse_time` does; return nanoseconds since the epoch."""
    return (
        round((parse_time(when) - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))
        * 1000
    )
