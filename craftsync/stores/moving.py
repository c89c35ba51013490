"""What has moved is removed where it was only once its store has been seen to hold it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress

from craftsync.core.model import RemoteObject
from craftsync.errors import PathBusy
from craftsync.stores.base import Store

Fingerprint = tuple[int, ...]
"""What changes whenever a file does; empty where there is none."""


def check_made(store: Store, made: RemoteObject, origin: str) -> None:
    """Raise `PathBusy` unless a store holds what it acknowledged; `origin`, of which it was made, is to be removed then."""
    found = store.stat(made.path)
    if found is not None and found.size == made.size:
        answers = zip(_evidence(found), _evidence(made), strict=True)
        known = [one == other for one, other in answers if one is not None and other is not None]
        if any(known) or not known:
            return
    raise PathBusy(
        f"{origin} stays: its copy {made.path} is not in the store, or has changed since.",
        remedy="Try again.",
    )


def _evidence(found: RemoteObject) -> tuple[str | bytes | None, ...]:
    return found.version, found.digest, found.operation


def fingerprint(file: str) -> Fingerprint:
    with suppress(OSError):
        status = os.stat(file)
        return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
    return ()


def remove_uploaded(
    store: Store,
    made: Mapping[str, RemoteObject],
    before: Mapping[str, Fingerprint],
    file: str,
    path: str,
) -> int:
    """Remove a file of which `made[path]` was made; return its bytes. Raises `PathBusy` as `check_made`, and where the file has changed."""
    check_made(store, made[path], file)
    if fingerprint(file) != before[file]:
        raise PathBusy(f"{file} has changed since it was uploaded, and stays.", remedy="Try again.")
    os.unlink(file)
    return before[file][0]
