"""Everything craftsync displaced or deleted, on either side, and how to get it back.

Both trashes have one layout: `.craftsync/trash/<stamp>/<path>`, where the stamp
is the moment of the pass in UTC.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from craftsync.core.model import OWN_FOLDER, LocalFile, Skipped, mtime_of
from craftsync.errors import ObjectNotFound, PathObstructed, UsageError
from craftsync.local import trash as kept
from craftsync.local.folder import Folder
from craftsync.local.temporary import Temporary, copy_content
from craftsync.stores.base import Store

_PREFIX = f"{OWN_FOLDER}/trash/"
_STAMP = re.compile(r"\d{8}T\d*Z?")


class TrashEntry(NamedTuple):
    """One kept version. `side` is "root" or "store"; `size` is bytes."""

    side: str
    stamp: str
    path: str
    size: int


def entries(root: Folder, store: Store) -> Iterator[TrashEntry]:
    """Yield all kept versions of both sides, newest first."""
    here = sorted(_in_root(root), key=_age, reverse=True)
    there = sorted(_in_store(store), key=_age, reverse=True)
    return heapq.merge(here, there, key=_age, reverse=True)


def _age(entry: TrashEntry) -> tuple[str, str]:
    return entry.stamp, entry.path


def _in_root(root: Folder) -> Iterator[TrashEntry]:
    for stamp, file in kept.entries(root):
        yield TrashEntry("root", stamp, file.path, file.size)


def _in_store(store: Store) -> Iterator[TrashEntry]:
    for found in store.list(_PREFIX):
        if not isinstance(found, Skipped):
            stamp, _, path = found.path.removeprefix(_PREFIX).partition("/")
            yield TrashEntry("store", stamp, path, found.size)


def restore(root: Folder, store: Store, path: str, at: str | None, *, keep: str) -> TrashEntry:
    """Put the newest kept version of `path`, or the newest not after `at`, back into the root.

    `at` is the beginning of a stamp, or a moment in ISO 8601 (UTC). What the
    root holds at the path is kept in its turn. Raises `UsageError` when there
    is no such version.
    """
    limit = _stamp_of(at) if at else None
    for entry in entries(root, store):
        if entry.path == path and (limit is None or entry.stamp[: len(limit)] <= limit):
            _put_back(root, store, entry, keep)
            return entry
    raise UsageError(
        f"nothing is kept of {path}" + (f" from {at} or before" if at else ""),
        remedy="`craftsync trash list` shows what can be restored.",
    )


def _stamp_of(at: str) -> str:
    """Return the beginning of a stamp for a stamp, a day, or a moment in ISO 8601."""
    if _STAMP.fullmatch(at):
        return at.rstrip("Z")
    try:
        moment = datetime.fromisoformat(at)
    except ValueError:
        raise UsageError(
            f"{at!r} is no moment", remedy="Write it as 2026-11-22 or 2026-11-22T14:59:37."
        ) from None
    if len(at) <= len("2026-11-22"):
        return moment.strftime("%Y%m%d")
    utc = moment.astimezone(UTC) if moment.tzinfo else moment
    return utc.strftime("%Y%m%dT%H%M%S")


def _put_back(root: Folder, store: Store, entry: TrashEntry, keep: str) -> None:
    temporary = root.temporary()
    try:
        mtime_ns = fetch(root, store, entry, temporary)
        root.sync()
        root.place(
            temporary,
            entry.path,
            expect=_expected(root, entry.path),
            mtime_ns=mtime_ns,
            keep=keep,
        )
        root.sync()
    finally:
        temporary.discard()


def fetch(root: Folder, store: Store, entry: TrashEntry, temporary: Temporary) -> int | None:
    """Write a kept version into a temporary file; return its mtime. Raises `UsageError` when it is gone."""
    if entry.side == "root":
        return _from_root(root, entry, temporary)
    return _from_store(store, entry, temporary)


def _expected(root: Folder, path: str) -> LocalFile | None:
    try:
        return root.stat(path)
    except PathObstructed:
        return None


def _from_root(root: Folder, entry: TrashEntry, temporary: Temporary) -> int | None:
    with kept.open_trashed(root, entry.stamp, entry.path) as file:
        copy_content(file, temporary)
        return file.file.mtime_ns


def _from_store(store: Store, entry: TrashEntry, temporary: Temporary) -> int | None:
    temporary.claim(entry.size)
    offset = 0
    try:
        with store.read(f"{_PREFIX}{entry.stamp}/{entry.path}") as reader:
            for chunk in reader:
                temporary.write_at(offset, chunk)
                offset += len(chunk)
            return mtime_of(reader.object)
    except ObjectNotFound as error:
        raise UsageError(f"{entry.path}: the kept version is gone meanwhile") from error


def purge(root: Folder, store: Store, before: str) -> int:
    """Remove what was kept before the stamp `before`, on both sides; return how many versions went."""
    gone = sum(stamp < before for stamp, _ in kept.entries(root))
    kept.purge(root, before)
    for found in store.list(_PREFIX):
        if isinstance(found, Skipped):
            continue
        if found.path.removeprefix(_PREFIX).partition("/")[0] < before:
            store.delete(found.path, expect=None)
            gone += 1
    return gone
