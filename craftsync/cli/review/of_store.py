"""The trash of a store that no folder is linked to: what it holds, putting that back into the store, and removing it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from tempfile import TemporaryFile
from typing import Any

from craftsync import objects
from craftsync.cli import params as common
from craftsync.clock import SystemClock, stamp
from craftsync.config.addresses import joined
from craftsync.core.model import OWN_FOLDER, RemoteObject
from craftsync.datastore import DataStore
from craftsync.engine.report import sentence
from craftsync.engine.review.trash import Purged, Restored, TrashEntry, Wanted, entries_of_store
from craftsync.errors import CraftsyncError, UsageError
from craftsync.lookup import Lookup
from craftsync.state.history import KeptVersion


def is_meant(flags: Mapping[str, Any]) -> bool:
    """Tell whether a call names a store and no folder."""
    return bool(flags["store"]) and not (flags["root"] or flags["folder"])


@contextmanager
def opened(
    paths: Sequence[str], flags: Mapping[str, Any]
) -> Iterator[tuple[StoreTrash, tuple[str, ...]]]:
    """Open the trash of the store; the paths are from its root, or words for objects in it."""
    word = flags["store"]
    where = {
        name: value for name, value in flags.items() if name not in ("root", "store", "folder")
    }
    with Lookup(common.place_of(where), [word]) as found:
        place = found.place(word, change=True)
        inside = tuple(
            found.place(path, change=True).path if found.names_store(path) else path.strip("/")
            for path in paths
        )
        yield StoreTrash(place.store), inside


class StoreTrash:
    """What one store keeps of what was replaced or deleted in it, whoever did that."""

    def __init__(self, store: DataStore) -> None:
        self._data = store
        self._store = store.opened_to_change()

    def entries(self, wanted: Wanted) -> Iterator[TrashEntry]:
        """Yield what is wanted, the newest first."""
        prefixes = wanted.selection.prefixes() if self._store.features.keeps_versions else []
        return wanted.among(entries_of_store(self._store, prefixes))

    def purgeable(self, older_than_days: float) -> Iterator[TrashEntry]:
        """Yield what this client put there longer ago, by its own record.

        Raises `UsageError` where a folder of this client is linked to the store: its conflicts
        and held deletes may need some of it.
        """
        noted = set(self._data.noted())
        return (entry for entry in self._older(older_than_days) if _version(entry) in noted)

    def purge(self, older_than_days: float) -> Purged:
        """Remove for good what is `purgeable`; others' versions of that age stay."""
        noted, removed = set(self._data.noted()), []
        older = self._older(older_than_days)
        try:
            for entry in older:
                if _version(entry) in noted:
                    self._store.delete(_place_of(entry), expect=None)
                    removed.append(_version(entry))
        finally:
            self._data.forget_kept(removed)
        return Purged(len(removed), len(older) - len(removed))

    def _older(self, days: float) -> list[TrashEntry]:
        if self._data.is_linked():
            raise UsageError(
                f"A folder is linked to {self._store.location}, and may need what is in its trash.",
                remedy="Name the folder: craftsync trash purge --folder NAME,"
                " or --root FOLDER --store STORE. craftsync status lists them.",
            )
        before = stamp(SystemClock(), days_ago=days)
        return [entry for entry in entries_of_store(self._store) if entry.stamp < before]

    def restore(self, wanted: Wanted, *, overwrite: bool, dry_run: bool) -> Iterator[Restored]:
        """Put the newest of each path back, unless a different object is there.

        With `overwrite` such an object is replaced, and kept in its turn. Raises
        `UsageError` for a path of which nothing is kept.
        """
        for entry in wanted.newest(self.entries(wanted)):
            there = self._store.stat(entry.path)
            if there is not None and (left := self._left(entry, there, overwrite=overwrite)):
                yield left
            elif dry_run:
                yield Restored(entry, "planned")
            else:
                yield self._restored(entry, overwrite=overwrite)

    def _left(self, entry: TrashEntry, there: RemoteObject, *, overwrite: bool) -> Restored | None:
        """Return how it ends where the object that is there stays."""
        if there.size == entry.size and self._digest(entry) == self._digest_at(entry.path):
            return Restored(entry, "unchanged", "the same content is there")
        if overwrite:
            return None
        return Restored(entry, "skipped", "a different object is there; --overwrite replaces it")

    def _restored(self, entry: TrashEntry, *, overwrite: bool) -> Restored:
        try:
            if entry.version_id is None:
                place = _place_of(entry)
                objects.copy(self._data, place, self._data, entry.path, overwrite=overwrite)
            else:
                self._write_version(entry, entry.version_id)
        except CraftsyncError as error:
            return Restored(entry, "problem", sentence(error))
        return Restored(entry, "done")

    def _write_version(self, entry: TrashEntry, version_id: str) -> None:
        with TemporaryFile() as content:
            with self._store.read_version(entry.path, version_id) as reader:
                content.writelines(reader)
            self._data.upload_data_store_object(content, entry.path)

    def _digest(self, entry: TrashEntry) -> bytes:
        if entry.version_id is None:
            return self._digest_at(_place_of(entry))
        with self._store.read_version(entry.path, entry.version_id) as reader:
            return _digest_of(reader)

    def _digest_at(self, path: str) -> bytes:
        with self._store.read(path) as reader:
            return _digest_of(reader)


def _version(entry: TrashEntry) -> KeptVersion:
    return KeptVersion(*entry[:4])


def _place_of(entry: TrashEntry) -> str:
    return joined(f"{OWN_FOLDER}/trash/{entry.stamp}", entry.path)


def _digest_of(pieces: Any) -> bytes:
    content = sha256()
    for piece in pieces:
        content.update(piece)
    return content.digest()
