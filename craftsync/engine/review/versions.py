"""The kept versions of both sides: lists them, selects some by path and time, reads one.

Both trashes have one layout: `.craftsync/trash/<stamp>/<path>`; the stamp is the start of the run
in UTC. A bucket may keep versions of its own instead.
"""

from __future__ import annotations

import heapq
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from hashlib import sha256
from itertools import chain
from typing import NamedTuple

from craftsync.clock import iso, stamp_of
from craftsync.core.model import Skipped, mtime_of
from craftsync.core.paths import TRASH, in_trash
from craftsync.engine.review.selection import Selection, is_day, parse_time, parse_time_ns
from craftsync.errors import ObjectNotFound, UsageError
from craftsync.local import linux
from craftsync.local import trash as local_trash
from craftsync.local.folder import Folder
from craftsync.local.temporary import Temporary, copy_content
from craftsync.state.history import KeptVersion
from craftsync.stores.base import Reader, Store

_BEGINNING = re.compile(r"\d{8}T\d*Z?")
"""The beginning of a stamp."""
_STAMP = re.compile(r"(\d{8}T\d{12}Z)(?:-(\d+))?")
"""A whole stamp. That of a second version of a path in one run ends with `-2`."""
_SEE_LIST = "`craftsync trash list` shows what can be restored."


NOT_KEPT = "nowhere"
"""The side of a version that nothing keeps."""

NoteKept = Callable[[list[KeptVersion]], None]
"""Called with versions that were moved to the trash."""


class TrashEntry(NamedTuple):
    """One kept version. `side` is "root" or "store"; `size` is in bytes.

    With `version_id`, it is not in the trash but a version of the bucket, and the stamp is the time
    when it was replaced or deleted there.
    """

    side: str
    stamp: str
    path: str
    size: int
    version_id: str | None = None

    @property
    def kept(self) -> KeptVersion:
        """This version in the form of the records."""
        return KeptVersion(*self[:4])


def entries(
    root: Folder, store: Store, in_bucket: Iterable[TrashEntry] = ()
) -> Iterator[TrashEntry]:
    """Yield all kept versions of both sides, newest first. `in_bucket` are those of a bucket's versioning."""
    local = sorted(in_root(root), key=_age, reverse=True)
    remote = sorted(chain(in_store(store), in_bucket), key=_age, reverse=True)
    return heapq.merge(local, remote, key=_age, reverse=True)


def entries_of_store(store: Store, prefixes: Iterable[str] = ()) -> list[TrashEntry]:
    """Return a store's kept versions, newest first: its trash, and the bucket's own below the prefixes."""
    versions = (entry for prefix in prefixes for entry in bucket_versions(store, prefix))
    return sorted(chain(in_store(store), versions), key=_age, reverse=True)


def bucket_versions(store: Store, prefix: str) -> Iterator[TrashEntry]:
    """Yield the versions in a bucket with versioning, of paths that start with `prefix`.

    The newest of each path comes first. Raises `StoreError` if the server cannot list them.
    """
    for old in store.old_versions(prefix):
        yield TrashEntry("store", stamp_of(old.gone_ns), old.path, old.size, old.version_id)


def why_not_kept(store: Store, path: str) -> str:
    """Return why no version is found that a run replaced."""
    if store.features.keeps_versions:
        return f"its version is not found. {in_versions(store, path)}"
    return "no version of it was kept (trash: store in the configuration)"


def version_of(store: Store, path: str, size: int, version: str | None) -> TrashEntry | None:
    """Return the newest earlier version of an object with this size, and with this token if given.

    Raises `StoreError` if the server cannot list versions.
    """
    for old in store.old_versions(path):
        if (old.path, old.size) == (path, size) and version in (None, old.version):
            return TrashEntry("store", stamp_of(old.gone_ns), path, size, old.version_id)
    return None


def _age(entry: TrashEntry) -> tuple[str, int, str]:
    return *_order(entry.stamp), entry.path


def _order(stamp: str) -> tuple[str, int]:
    """Return the sort key of a stamp by age: `-10` comes after `-2`."""
    match = _STAMP.fullmatch(stamp)
    return (match[1], int(match[2] or 1)) if match else (stamp, 1)


def in_root(root: Folder) -> Iterator[TrashEntry]:
    """Yield the versions in the folder's trash, unsorted."""
    for stamp, file in local_trash.entries(root):
        yield TrashEntry("root", stamp, file.path, file.size)


def in_store(store: Store) -> Iterator[TrashEntry]:
    """Yield the versions in the store's trash, unsorted."""
    for found in store.list(TRASH):
        if not isinstance(found, Skipped):
            stamp, _, path = found.path.removeprefix(TRASH).partition("/")
            yield TrashEntry("store", stamp, path, found.size)


class Wanted(NamedTuple):
    """Selects kept versions by path (`Selection`) and by time.

    `since` and `at` are the first and the last time: a stamp, the beginning of one, or a date or
    time in ISO 8601 (UTC).
    """

    paths: tuple[str, ...] = ()
    since: str | None = None
    at: str | None = None

    @property
    def selection(self) -> Selection:
        return Selection(self.paths)

    def among(self, kept_versions: Iterable[TrashEntry]) -> Iterator[TrashEntry]:
        """Yield the selected versions, in the given order."""
        since = _order(_stamp_of(self.since)) if self.since else ("", 0)
        at = _stamp_of(self.at) if self.at else ""
        for entry in kept_versions:
            in_time = _order(entry.stamp) >= since and (not at or _is_until(entry.stamp, at))
            if in_time and self.has(entry.path):
                yield entry

    def has(self, path: str) -> bool:
        """Return whether a path is selected, regardless of time."""
        return self.selection.has(path)

    def newest(
        self,
        kept_versions: Iterable[TrashEntry],
        remedy: Callable[[str], str | None] = lambda _: None,
    ) -> list[TrashEntry]:
        """Return the newest version of each selected path, sorted by path. The input is newest first.

        If a path was a file and a folder at different times, only the newer one counts. Raises
        `UsageError`, with `remedy`, for a path without kept versions.
        """
        found: dict[str, TrashEntry] = {}
        for entry in self.among(kept_versions):
            found.setdefault(entry.path, entry)
        for path in self.selection.unmatched(found):
            raise UsageError(
                f"Nothing is kept of {path}"
                + (f" since {self.since}" if self.since else "")
                + (f" from {self.at} or before" if self.at else "")
                + ".",
                remedy=remedy(path) or _SEE_LIST,
            )
        exact = self.selection.by_name(found)
        meant = (entry for path, entry in found.items() if exact.has(path))
        return sorted(_fitting(meant), key=lambda entry: entry.path)


def _fitting(newest_first: Iterable[TrashEntry]) -> Iterator[TrashEntry]:
    """Drop files whose path is a newer folder, and paths below a newer file."""
    files: set[str] = set()
    folders: set[str] = set()
    for entry in newest_first:
        parts = entry.path.split("/")
        above = {"/".join(parts[:depth]) for depth in range(1, len(parts))}
        if entry.path not in folders and not above & files:
            files.add(entry.path)
            folders |= above
            yield entry


def _is_until(stamp: str, at: str) -> bool:
    """Return whether a stamp is not later than `at`, a stamp or the beginning of one."""
    return _order(stamp) <= _order(at) if _STAMP.fullmatch(at) else stamp[: len(at)] <= at


def in_versions(store: Store, path: str) -> str:
    """Return the commands that list and fetch a bucket's versions, of one object or, without path, of all."""
    bucket, _, folder = store.location.removeprefix("s3://").partition("/")
    key = "/".join(part for part in (folder, path) if part)
    of = f"--bucket {shlex.quote(bucket)}"
    known = f" --prefix {shlex.quote(key)}" if key else ""
    name = shlex.quote(key) if path else "KEY"
    return (
        f"The bucket keeps versions in place of the trash, and they cannot be listed from here."
        f" List them with `aws s3api"
        f" list-object-versions {of}{known}`, get one with `aws s3api get-object {of}"
        f" --key {name} --version-id ID FILE`."
    )


def _stamp_of(at: str) -> str:
    """Return the stamp, or the beginning of a stamp, for a stamp, a day or a time in ISO 8601."""
    if _STAMP.fullmatch(at):
        return at
    if _BEGINNING.fullmatch(at):
        return at.rstrip("Z")
    utc = parse_time(at)
    return utc.strftime("%Y%m%d" if is_day(at) else "%Y%m%dT%H%M%S")


def time_of(stamp: str) -> str | None:
    """Return the time of a stamp in ISO 8601, or `None` if the name is not a stamp."""
    try:
        return iso(parse_time_ns(stamp))
    except UsageError:
        # Another program may have put a folder into the trash.
        return None


class Attributes(NamedTuple):
    """The attributes that are restored with the content: mtime in ns, permission bits; `None` if unknown."""

    mtime_ns: int | None
    mode: int | None = None


def fetch(root: Folder, store: Store, entry: TrashEntry, temporary: Temporary) -> Attributes:
    """Write a kept version into a temporary file. Raises `PathBusy` or `ObjectNotFound` if it is gone."""
    if entry.side == "root":
        return _from_root(root, entry, temporary)
    return _from_store(store, entry, temporary)


def _from_root(root: Folder, entry: TrashEntry, temporary: Temporary) -> Attributes:
    with local_trash.open_trashed(root, entry.stamp, entry.path) as file:
        copy_content(file, temporary)
        return Attributes(file.file.mtime_ns, linux.fstat(file.fileno()).st_mode & 0o777)


def _from_store(store: Store, entry: TrashEntry, temporary: Temporary) -> Attributes:
    temporary.claim(entry.size)
    offset = 0
    with opened(store, entry) as reader:
        for chunk in reader:
            temporary.write_at(offset, chunk)
            offset += len(chunk)
        return Attributes(mtime_of(reader.object))


def digest(root: Folder, store: Store, entry: TrashEntry) -> bytes:
    """Return the SHA-256 of a kept version, by reading it."""
    if entry.side == "root":
        with local_trash.open_trashed(root, entry.stamp, entry.path) as file:
            return file.digest()
    return digest_of(opened(store, entry))


def digest_of(opening: AbstractContextManager[Reader]) -> bytes:
    """Return the SHA-256 of an object or a version, given as an unopened reader."""
    content = sha256()
    with opening as reader:
        for chunk in reader:
            content.update(chunk)
    return content.digest()


@contextmanager
def opened(store: Store, entry: TrashEntry) -> Iterator[Reader]:
    """Open a version that the store keeps. Raises `ObjectNotFound` if it is gone."""
    try:
        if entry.version_id is None:
            opening = store.read(place_of(entry))
        else:
            opening = store.read_version(entry.path, entry.version_id)
        with opening as reader:
            yield reader
    except ObjectNotFound as error:
        raise ObjectNotFound(f"{entry.path}: the kept version was removed since.") from error


def place_of(entry: TrashEntry | KeptVersion) -> str:
    """Return the path of a version in the trash of a store."""
    return in_trash(entry.stamp, entry.path)
