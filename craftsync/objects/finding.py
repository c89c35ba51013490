"""Lists the folders of a store, finds objects, and makes signed URLs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

from craftsync.core.model import RemoteObject, Skipped, Subfolder
from craftsync.datastore import DataStore, ObjectInformation, information_of
from craftsync.errors import (
    ObjectNotFound,
    UsageError,
    builtin_kinds,
)

OnSkipped = Callable[[Skipped], object]


class Entry(NamedTuple):
    """An object or a folder directly in a folder; for a folder, size and time are unknown.

    `size` is in bytes, `last_modified` is ISO 8601 in UTC; `path` is relative to the store, without a trailing slash.
    """

    path: str
    size: int | None
    last_modified: str | None
    is_folder: bool


def listing(
    store: DataStore, folder: str = "", *, on_skipped: OnSkipped = lambda skipped: None
) -> Iterator[Entry]:
    """Yield the entries directly in a folder ("" is the whole store), in the store's order.

    A bucket needs one request per thousand entries, however many objects are below the folders. A
    missing folder is empty. `on_skipped` is called for each key that no folder can hold.
    """
    with builtin_kinds():
        for entry in store.opened().list_folder(folder.strip("/")):
            if isinstance(entry, Skipped):
                on_skipped(entry)
            elif isinstance(entry, Subfolder):
                yield Entry(entry.path, None, None, True)
            else:
                yield Entry(entry.path, entry.size, information_of(entry)["last_modified"], False)


@dataclass(frozen=True, slots=True)
class ObjectFilter:
    """Which objects to find: sizes in bytes, both inclusive; times in nanoseconds since the epoch, UTC."""

    name: str | None = None
    """A pattern with `*`, `?` and `[…]` for the last part of the path."""
    min_size: int = 0
    max_size: int | None = None
    since_ns: int | None = None
    """The earliest time of the last change, by the store's clock."""

    def __call__(self, found: RemoteObject) -> bool:
        if found.size < self.min_size or (self.max_size is not None and found.size > self.max_size):
            return False
        if self.since_ns is not None and (found.modified_ns or 0) < self.since_ns:
            return False
        return self.name is None or fnmatchcase(found.path.rpartition("/")[2], self.name)


def find(
    store: DataStore,
    folder: str = "",
    wanted: ObjectFilter = ObjectFilter(),
    *,
    on_skipped: OnSkipped = lambda skipped: None,
) -> Iterator[ObjectInformation]:
    """Yield the wanted objects below a folder, in the store's order."""
    return map(information_of, below(store, folder, wanted, on_skipped=on_skipped))


def below(
    store: DataStore,
    folder: str = "",
    wanted: ObjectFilter = ObjectFilter(),
    *,
    on_skipped: OnSkipped = lambda skipped: None,
) -> Iterator[RemoteObject]:
    """Yield the same objects as `find`, as the store lists them."""
    folder = folder.strip("/")
    with builtin_kinds():
        for entry in store.opened().list(f"{folder}/" if folder else ""):
            if isinstance(entry, Skipped):
                on_skipped(entry)
            elif wanted(entry):
                yield entry


@builtin_kinds()
def signed_url(store: DataStore, path: str, seconds: int | None = None) -> str:
    """Return a URL that lets anyone read an object for `seconds`, by default an hour; the platform sets its own time.

    Raises `ObjectNotFound`, and `UsageError` if the store has no signed URLs.
    """
    opened = store.opened()
    if not opened.features.signed_urls:
        raise UsageError(
            f"{store.word} is a folder on this machine: its objects have no URL.",
            remedy="Copy the object to a bucket or an environment first, or run craftsync serve.",
        )
    if opened.stat(path) is None:
        raise ObjectNotFound(f"{path}: object not found.")
    return opened.signed_url(path, seconds)
