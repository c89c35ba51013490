"""Parsers for values of flags, variables and the configuration.

The caller turns a `BadWord` into an error that also names the source of the value.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from craftsync.core.guard import DeleteLimit
from craftsync.core.retention import Reserve
from craftsync.core.timetable import Timetable, Windows, parse_timetable, parse_window
from craftsync.errors import UsageError

Word = TypeVar("Word", bound=StrEnum)

_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_RATE = r"(?i)(\d+(?:\.\d+)?)([KMG]?)"
_SIZE = r"(?i)(\d+(?:\.\d+)?)([KMGT]?)B?"
_DURATION = r"(?a)(?:(?:\d{1,9}(?:\.\d+)?|\.\d+)\s*[smhdw]\s*)+"
_AMOUNT = r"(?a)([\d.]+)\s*([smhdw])"
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_ADDRESS = r"(?:(?:\[(?P<ipv6>[0-9a-fA-F:.]+)\]|(?P<host>[\w.-]*)):)?(?P<port>\d{1,5})"
_CONTENT_TYPE = r"(?a)[\w.+-]+/[\w.+*-]+(?:\s*;\s*[ -:<-~]+=[ -~]+)?"
_STORAGE_CLASS = r"[A-Z][A-Z0-9_-]{0,63}"
_SSE = r"(?a)AES256|aws:kms(?::dsse)?(?::[\w:/-]+)?"
_SHARE = r"(\d+(?:\.\d+)?)\s*%"


_MOST_BYTES = 2**63 - 1
_MOST_SECONDS = 100 * 365 * 86_400
"""100 years: a thread can wait that long, and 63 bits can hold a date so far ahead in nanoseconds."""
_MOST_DIGITS = 18
"""The limit for whole numbers; Python refuses to parse very long ones."""


_NO_HOME = "starts with the home folder of an unknown user", "Write the path in full."


class BadWord(ValueError):
    """An invalid value; `remedy` gives valid examples."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.remedy = remedy


class Rates(NamedTuple):
    """Bytes per second; `None` for no limit."""

    upload: float | None
    download: float | None


@dataclass(frozen=True, slots=True)
class RateByTime:
    """The rate of one direction by time (nanoseconds since the epoch), from a timetable."""

    timetable: Timetable[Rates]
    direction: Literal["upload", "download"]

    def __call__(self, now_ns: int) -> float | None:
        rates = self.timetable.at(datetime.fromtimestamp(now_ns // 10**9))
        return rates.upload if self.direction == "upload" else rates.download


def choice_of(kind: type[Word], what: str) -> Callable[[object], Word]:
    """Return a parser for the values of an enumeration; `what` is the noun for its message."""

    def parse(word: object) -> Word:
        if isinstance(word, str) and word in set(kind):
            return kind(word)
        raise BadWord(f"is not a {what}", f"Use one of {', '.join(kind)}.")

    return parse


def parse_max_delete(word: object) -> DeleteLimit:
    """Parse `5` as five files and "10%" as a tenth of the known files."""
    text = str(word).strip()
    is_number = text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
    if is_number and not isinstance(word, bool):
        return DeleteLimit(files=int(text), share=0.0)
    share = re.fullmatch(_SHARE, text)
    if share and float(share[1]) <= 100:
        return DeleteLimit(files=0, share=float(share[1]) / 100)
    raise BadWord(
        "is not a limit of deletes", "Use a number of files such as 50, or a share such as 10%."
    )


def parse_scrub(word: object) -> float:
    """Parse "1%" or "1% a day" as a share (0 to 1) of all bytes read each day, "off" as 0."""
    text = str(word).strip().lower().removesuffix("a day").strip()
    if text == "off" or word is False:
        return 0.0
    share = re.fullmatch(_SHARE, text)
    if share and 0 < float(share[1]) <= 100:
        return float(share[1]) / 100
    raise BadWord("is not a share", "Use a share of all bytes such as 1%, read each day, or off.")


def parse_reserve(word: object) -> Reserve:
    """Parse "1%" as a share of the disk, "5G" as bytes, and "off" as nothing."""
    text = str(word).strip()
    if text.lower() == "off":
        return Reserve(share=0.0)
    share, size = re.fullmatch(_SHARE, text), re.fullmatch(_SIZE, text)
    if share and float(share[1]) <= 90:
        return Reserve(share=float(share[1]) / 100)
    if size and not isinstance(word, bool):
        return Reserve(share=0.0, size=_bytes_of(size))
    raise BadWord(
        "is not an amount of free space",
        "Use a share of the disk up to 90% such as 1%, a size such as 5G, or off.",
    )


def parse_keep(word: object) -> int | None:
    """Parse "30d" as nanoseconds, and "forever" as `None`; h, d and w are hours, days and weeks."""
    text = str(word).strip().lower()
    if text == "forever":
        return None
    seconds = _seconds_in(text)
    # `m` could mean months, and a wrong duration destroys data.
    if seconds is not None and 0 < seconds <= _MOST_SECONDS and not set(text) & set("sm"):
        return int(seconds * 1e9)
    raise BadWord(
        "is not a duration", "Use a duration such as 30d or 12h, up to 100 years, or forever."
    )


def parse_max_size(word: object) -> int | None:
    """Parse "10GB" as bytes, and "off" as `None`."""
    text = str(word).strip()
    if text.lower() == "off":
        return None
    size = re.fullmatch(_SIZE, text)
    if size and not isinstance(word, bool):
        return _bytes_of(size)
    raise BadWord("is not a size", "Use a size such as 10GB or 500M, or off.")


def parse_size(word: object) -> int:
    """Parse "10M" as bytes; K, M, G and T are powers of 1024."""
    size = re.fullmatch(_SIZE, str(word).strip())
    if size and not isinstance(word, bool):
        return _bytes_of(size)
    raise BadWord("is not a size", "Use bytes, or a number with K, M, G or T such as 10M.")


def parse_age(word: object) -> int:
    """Parse "7d" or "1h30m" as nanoseconds; s, m, h, d and w are seconds to weeks."""
    seconds = _seconds_in(str(word))
    if seconds is not None and seconds <= _MOST_SECONDS:
        return int(seconds * 1e9)
    raise BadWord(
        "is not an age",
        "Use a number with s, m, h, d or w such as 7d or 1h30m, up to 100 years.",
    )


def _seconds_in(text: str) -> float | None:
    """Return a duration such as "7d" or "1h30m" as seconds; `None` if it is not one."""
    text = text.strip().lower()
    if not re.fullmatch(_DURATION, text):
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in re.findall(_AMOUNT, text))


def _bytes_of(size: re.Match[str]) -> int:
    found = float(size[1]) * _UNITS[size[2].upper()]
    if found <= _MOST_BYTES:
        return int(found)
    raise BadWord("is larger than any file", "Use a size below 8 million T, such as 10M.")


def parse_content_type(word: object) -> str | None:
    """Parse a type such as text/csv; "auto", which derives it from each object's name, is `None`."""
    text = str(word).strip()
    if text == "auto":
        return None
    if re.fullmatch(_CONTENT_TYPE, text):
        return text
    raise BadWord("is not a content type", "Use a type such as text/csv, or auto.")


def parse_storage_class(word: object) -> str:
    """Parse the name of a storage class; servers may have their own."""
    if isinstance(word, str) and re.fullmatch(_STORAGE_CLASS, word):
        return word
    raise BadWord("is not a storage class", "Use a name such as STANDARD_IA.")


def parse_sse(word: object) -> str:
    """Parse a server-side encryption: AES256, aws:kms or aws:kms:dsse, the last two optionally with a key."""
    if isinstance(word, str) and re.fullmatch(_SSE, word):
        return word
    raise BadWord(
        "is not an encryption", "Use AES256, aws:kms, or aws:kms:KEY with a key's id or ARN."
    )


def parse_bwlimit(word: object) -> Rates | Timetable[Rates]:
    """Parse "10M" as a limit both ways, "10M:2M" as upload and download limits, or a timetable of them."""
    try:
        words = str(word)
        return parse_timetable(words, parse_rates) if "," in words else parse_rates(words)
    except BadWord:
        raise
    except ValueError as error:
        raise BadWord(
            str(error), "Write it as in 08:00,1M 19:00,off or Mon-08:00,1M:2M."
        ) from error


def parse_rates(word: str) -> Rates:
    """Parse "10M" as a limit both ways, and "10M:2M" as upload and download limits, in bytes per second."""
    up, colon, down = word.partition(":")
    return Rates(_parse_rate(up), _parse_rate(down if colon else up))


def parse_windows(value: object) -> Windows:
    """Parse a list of windows such as "22:00-06:00" and "Sat-Sun 00:00-24:00"."""
    try:
        if isinstance(value, list) and value:
            return Windows(tuple(span for word in value for span in parse_window(str(word))))
        problem = "is not a list of windows"
    except ValueError as error:
        problem = str(error)
    raise BadWord(problem, 'Use a list such as ["22:00-06:00", "Sat-Sun 00:00-24:00"].')


def _parse_rate(word: str) -> float | None:
    if word.strip().lower() in {"off", "0"}:
        return None
    rate = re.fullmatch(_RATE, word.strip())
    if rate and 0 < float(rate[1]) <= _MOST_BYTES:
        return float(rate[1]) * _UNITS[rate[2].upper()]
    raise BadWord(
        "is not a rate in bytes per second",
        "Use a number with K, M or G such as 10M, two of them for up and down such as 10M:2M, or off.",
    )


def parse_transfers(word: object) -> int:
    """Parse the number of simultaneous transfers: 1 to 256, or `auto`, which is 0."""
    if word == "auto":
        return 0
    is_text = isinstance(word, str) and word.isdecimal() and len(word) <= _MOST_DIGITS
    number = int(str(word)) if is_text else word
    if isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= 256:
        return number
    raise BadWord("is not a number of transfers", "Use a whole number from 1 to 256, or auto.")


def parse_seconds(word: object) -> float:
    """Parse a positive time as seconds: "90", "90s", "1.5m" or "1h30m"."""
    text = str(word)
    seconds = _seconds_in(text)
    if seconds is None and not isinstance(word, bool):
        with suppress(ValueError):
            seconds = float(text)
    if seconds is not None and 0 < seconds <= _MOST_SECONDS:
        return seconds
    raise BadWord(
        "is not a time",
        "Use a number of seconds greater than 0, or a time such as 5m, up to 100 years.",
    )


def parse_address(word: object) -> tuple[str, int]:
    """Parse `9469`, `:9469`, `127.0.0.1:9469` or `[::1]:9469` as (host, port); the default host is 127.0.0.1."""
    found = re.fullmatch(_ADDRESS, str(word))
    if found is None or int(found["port"]) > 65535:
        raise BadWord("is not an address", "Use PORT or HOST:PORT, such as 9469 or 0.0.0.0:9469.")
    return (found["ipv6"] or found["host"] or "127.0.0.1"), int(found["port"])


def text(value: Any) -> str:
    if isinstance(value, str) and value.strip():
        return value
    raise BadWord("is not a text", "Write a text, in quotes if it looks like a number.")


def url(value: Any) -> str:
    if isinstance(value, str) and re.match(r"https?://[^/]", value):
        return value
    raise BadWord("is not an address", "Use a URL that starts with https:// or http://.")


def boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise BadWord("is neither true nor false", "Use true or false.")


def path(value: Any) -> Path:
    try:
        return Path(text(value)).expanduser()
    except RuntimeError as error:
        raise BadWord(*_NO_HOME) from error


def user_path(word: str | os.PathLike[str]) -> Path:
    """Return a typed path with `~` expanded; raises `UsageError` for none, or the home of an unknown user."""
    if not os.fspath(word):
        raise UsageError("The path is empty.", remedy="For the current directory write a dot.")
    try:
        return Path(word).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{word} {_NO_HOME[0]}.", remedy=_NO_HOME[1]) from error


def patterns(value: Any) -> tuple[str, ...]:
    if isinstance(value, list | tuple) and all(isinstance(pattern, str) for pattern in value):
        return tuple(value)
    problem = (
        "one pattern, not a list of them" if isinstance(value, str) else "not a list of patterns"
    )
    raise BadWord(f"is {problem}", 'Use a list such as ["*.tmp", "cache/"].')


def argv(value: Any) -> tuple[str, ...]:
    if isinstance(value, list) and value and all(isinstance(word, str) for word in value):
        return tuple(value)
    raise BadWord(
        "is not a command", 'Use a list of words, such as ["/usr/local/bin/tell-me", "--now"].'
    )
