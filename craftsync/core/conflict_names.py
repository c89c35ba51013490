"""The names of conflict copies, `name (conflict TIME STORE).ext`: how to make and to recognise one."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from datetime import UTC, datetime

from craftsync.core.paths import MAX_NAME_BYTES, MAX_PATH_BYTES

_LAST_SECOND = 253_402_300_799
"""9999-12-31 23:59:59 UTC, the last second that `datetime` can hold. A file may have a later time."""

_WIDEST = 4
"""Bytes of the widest character in UTF-8."""

_TIME = "%Y-%m-%d %H-%M-%S"
"""The time in a name."""
_DIGIT = "[0-9]"
_ANY_TIME = "0000-00-00 00-00-00".replace("0", _DIGIT)
"""Matches such a time, both as a regular expression and as a GLOB of SQLite."""
_WORD = " (conflict "
"""The word in the name of every conflict copy."""

_CONFLICT = rf"(?s)(?P<stem>.+){re.escape(_WORD)}{_ANY_TIME} [\w.-]+\)(?P<extension>\.[^.]*)?"
CONFLICT_GLOB = f"*{_WORD}{_ANY_TIME} *)*"
"""For SQLite: matches every path that `conflict_original` recognises, and few others."""

_MOST_NAMES = 99
"""The most new paths to try for one copy."""

_UNSAFE = r"[^\w.-]+"


def conflict_name(path: str, when_ns: int, store_name: str) -> str:
    """Return the path of a conflict copy beside `path`: `name (conflict TIME STORE).ext`.

    TIME is UTC, to the second. If the file name would be longer than `MAX_NAME_BYTES`, its stem
    is shortened; an extension of up to 32 bytes is kept.
    """
    folder, name = posixpath.split(path)
    stem, extension = posixpath.splitext(name)
    if len(extension.encode()) > 32:
        stem, extension = name, ""
    second = min(max(when_ns // 1_000_000_000, 0), _LAST_SECOND)
    time = datetime.fromtimestamp(second, UTC).strftime(_TIME)
    label = _shortened(re.sub(_UNSAFE, "-", store_name).strip("-") or "store", 40)
    tail = f"{_WORD}{time} {label}){extension}"
    room = min(MAX_NAME_BYTES, MAX_PATH_BYTES - len(folder.encode()) - 1) - len(tail.encode())
    return posixpath.join(folder, _shortened(stem, max(room, 1)) + tail)


def conflict_original(path: str) -> str | None:
    """Return the path whose conflict copy this is, or `None` if it is not a conflict copy.

    If the copy's name was shortened, so is the path returned (`may_be_shortened`).
    """
    folder, name = posixpath.split(path)
    match = re.fullmatch(_CONFLICT, name)
    return match and posixpath.join(folder, match["stem"] + (match["extension"] or ""))


def may_be_shortened(copy: str) -> bool:
    """Return whether a conflict copy's name is so long that the stem in it may have been shortened."""
    whole, last = len(copy.encode()), len(posixpath.basename(copy).encode())
    return last > MAX_NAME_BYTES - _WIDEST or whole > MAX_PATH_BYTES - _WIDEST


def settled_names(copy: str) -> Iterator[str]:
    """Yield new paths for a conflict copy that the user keeps: without the word `conflict`.

    The first is `name (TIME STORE).ext`, then come `name (TIME STORE 2).ext` and further numbers.
    They are no longer than the copy's name.
    """
    before, after = copy.rsplit(_WORD, 1)
    label, end, extension = after.partition(")")
    yield f"{before} ({label}{end}{extension}"
    for number in range(2, _MOST_NAMES + 1):
        yield f"{before} ({label} {number}{end}{extension}"


def _shortened(text: str, limit: int) -> str:
    """Cut to at most `limit` bytes of UTF-8, between two characters."""
    return text.encode()[:limit].decode(errors="ignore")
