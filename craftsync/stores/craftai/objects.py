"""An object as the platform describes it, and whether it is still the one that was expected.

The platform gives a size and a time and nothing else: no ETag, no checksum, no
metadata. So the time is the version. It is compared for equality only, never
with a clock of this machine; two writes of one size within its resolution (a
second, on S3) look the same.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from craftsync.core.model import Absent, RemoteObject, time_within
from craftsync.errors import PreconditionFailed
from craftsync.stores.base import Expect

_SECOND = 1_000_000_000


class NoDescription(ValueError):
    """What the platform sent describes no object; the message says why, as a clause."""


def described(entry: Any, path: str | None = None) -> RemoteObject:
    """Read an object from the platform's JSON, under its own key or under the path it was asked for by."""
    if not isinstance(entry, dict):
        raise NoDescription("an entry is no object")
    key, size, modified = (entry.get(name) for name in ("path", "size", "last_modified"))
    if not isinstance(key, str) or not isinstance(modified, str):
        raise NoDescription("an entry has no path or no time")
    modified_ns, version = moment_of(modified)
    return RemoteObject(key if path is None else path, _bytes(size), modified_ns, version)


def _bytes(size: object) -> int:
    """Return a size; the SDK's public functions round it to a text, which proves nothing."""
    if isinstance(size, bool) or not isinstance(size, int | float) or size < 0 or size != int(size):
        raise NoDescription("an entry has no size in bytes")
    return int(size)


@lru_cache(maxsize=16384)
def moment_of(text: str) -> tuple[int | None, str]:
    """Return a time of the platform in nanoseconds, and the token that stands for it.

    A time without a zone is UTC (platform documentation, "Follow an
    execution"). One that cannot be read is a token all the same.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None, text
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    whole = int(moment.replace(microsecond=0).timestamp())
    nanoseconds = time_within(whole * _SECOND + moment.microsecond * 1000)
    return nanoseconds, f"t{nanoseconds}"


def is_same(found: RemoteObject, expected: RemoteObject) -> bool:
    """Tell whether a look found the object that was expected, as far as the platform can tell."""
    if found.size != expected.size:
        return False
    one, other = found.modified_ns, expected.modified_ns
    if one is None or other is None:
        return found.version is not None and found.version == expected.version
    # A listing and a look may tell the same time more and less finely.
    return one == other or (
        (one % _SECOND == 0 or other % _SECOND == 0) and same_second(one, other)
    )


def same_second(one_ns: int | None, other_ns: int | None) -> bool:
    """Tell whether two times agree to the second, which is all that HTTP tells."""
    return one_ns is not None and other_ns is not None and one_ns // _SECOND == other_ns // _SECOND


def check(path: str, found: RemoteObject | None, expect: Expect) -> None:
    """Raise `PreconditionFailed` unless a look agrees with what was expected."""
    if expect is None:
        return
    if isinstance(expect, Absent):
        if found is not None:
            raise PreconditionFailed(f"{path} already exists in the store.")
    elif found is None:
        raise PreconditionFailed(f"{path} is gone.")
    elif not is_same(found, expect):
        raise PreconditionFailed(f"{path} has changed.")
