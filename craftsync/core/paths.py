"""What a path may look like, and the names craftsync makes up.

Pure text: nothing here asks a disk or a clock.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from craftsync.core.model import OWN_FOLDER

MAX_PATH_BYTES = 1024
"""The longest key S3 holds (AWS S3 user guide, "Naming Amazon S3 objects"); no side goes beyond it."""

MAX_NAME_BYTES = 255
"""NAME_MAX of every common Linux filesystem."""

_LAST_SECOND = 253_402_300_799
"""9999-12-31 23:59:59 UTC: a file may carry a later time, `datetime` cannot."""

_WIDEST = 4
"""Bytes of the widest character in UTF-8."""

_CONFLICT = re.compile(
    r"(?P<stem>.+) \(conflict \d{4}-\d\d-\d\d \d\d-\d\d-\d\d [\w.-]+\)(?P<extension>\.[^.]*)?",
    re.DOTALL,
)

_UNSAFE = re.compile(r"[^\w.-]+")


def is_own(path: str) -> bool:
    """Tell whether a path or prefix lies in craftsync's own folder, of this store or of one nested in it."""
    return OWN_FOLDER in path and f"/{OWN_FOLDER}/" in f"/{path}/"


def left_out(prefix: str, *, nested_own: bool = False) -> Callable[[str], bool]:
    """Return what tells which paths a listing of `prefix` leaves out because they are craftsync's own.

    A prefix that leads into such a folder shows it. `nested_own` shows those
    of nested stores, never that of the listed store itself.
    """
    if is_own(prefix):
        return lambda path: False
    if nested_own:
        return lambda path: path == OWN_FOLDER or path.startswith(f"{OWN_FOLDER}/")
    return is_own


def malformed(path: str) -> str | None:
    """Return why no folder can hold a file at this path, as a clause for people, or `None`.

    A path that passes leads nowhere but downwards: each part is a plain name.
    """
    try:
        length = len(path.encode())
    except UnicodeEncodeError:
        return "the name is not valid UTF-8"
    if "\0" in path:
        return "the name contains a NUL character"
    if length > MAX_PATH_BYTES:
        return f"the path is longer than {MAX_PATH_BYTES} bytes"
    names = path.split("/")
    if "" in names:
        return "a part of the path is empty (it starts or ends with a slash, or has two in a row)"
    if "." in names or ".." in names:
        return 'a part of the path is "." or ".."'
    if length > MAX_NAME_BYTES and any(len(name.encode()) > MAX_NAME_BYTES for name in names):
        return f"a part of the path is longer than {MAX_NAME_BYTES} bytes"
    return None


def refusal(path: str) -> str | None:
    """Return why a path takes no part in a sync, as a clause for people, or `None` if it may."""
    return f"{OWN_FOLDER} is craftsync's own" if is_own(path) else malformed(path)


def folders_above(path: str) -> Iterator[str]:
    """Yield the folders a path lies in, the outermost first."""
    parts = path.split("/")
    return ("/".join(parts[:count]) for count in range(1, len(parts)))


def conflict_name(path: str, when_ns: int, store_name: str) -> str:
    """Return the path beside `path` for a version that lost its place: `name (conflict TIME STORE).ext`.

    The time is UTC, to the second. The last name stays within
    `MAX_NAME_BYTES`, if need be by a shorter stem; the extension is kept.
    """
    folder, name = posixpath.split(path)
    stem, extension = posixpath.splitext(name)
    if len(extension.encode()) > 32:
        stem, extension = name, ""
    second = min(max(when_ns // 1_000_000_000, 0), _LAST_SECOND)
    time = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d %H-%M-%S")
    label = _shortened(_UNSAFE.sub("-", store_name).strip("-") or "store", 40)
    tail = f" (conflict {time} {label}){extension}"
    room = min(MAX_NAME_BYTES, MAX_PATH_BYTES - len(folder.encode()) - 1) - len(tail.encode())
    return posixpath.join(folder, _shortened(stem, max(room, 1)) + tail)


def conflict_original(path: str) -> str | None:
    """Return the path that a conflict copy stands beside, or `None` for any other path.

    Of a name that had to be shortened it is what was left of it (`may_be_shortened`).
    """
    folder, name = posixpath.split(path)
    match = _CONFLICT.fullmatch(name)
    return match and posixpath.join(folder, match["stem"] + (match["extension"] or ""))


def may_be_shortened(copy: str) -> bool:
    """Tell whether the name of a conflict copy is so long that its stem may be a part of the file's only."""
    whole, last = len(copy.encode()), len(posixpath.basename(copy).encode())
    return last > MAX_NAME_BYTES - _WIDEST or whole > MAX_PATH_BYTES - _WIDEST


def settled_name(copy: str) -> str:
    """Return the path for a conflict copy that is to stay: the same, but for the word."""
    return " (".join(copy.rsplit(" (conflict ", 1))


def _shortened(text: str, limit: int) -> str:
    """Cut to at most `limit` bytes of UTF-8, between two characters."""
    return text.encode()[:limit].decode(errors="ignore")
