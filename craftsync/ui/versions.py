"""Bring back what was deleted in a bucket that keeps versions instead of a trash."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from secrets import token_hex
from tempfile import TemporaryFile

from craftsync.core.model import ABSENT
from craftsync.datastore import DataStore
from craftsync.errors import CraftsyncError, ObjectNotFound
from craftsync.objects import Outcome
from craftsync.stores.sources import FileSource


def brought_back(store: DataStore, paths: Iterable[str]) -> Iterator[Outcome]:
    """Write the newest version of each deleted object again; nothing that is there by now is replaced."""
    for path in paths:
        try:
            yield Outcome(path, path, _brought_back(store, path))
        except CraftsyncError as error:
            yield Outcome(path, path, 0, error)
    store.opened().barrier()


def _brought_back(store: DataStore, path: str) -> int:
    opened = store.opened_to_change()
    versions = (old for old in opened.old_versions(path) if old.path == path)
    newest = next(versions, None)
    if newest is None:
        raise ObjectNotFound(f"{path}: the bucket has no version of it.")
    with opened.read_version(path, newest.version_id) as reader, TemporaryFile() as copy:
        for piece in reader:
            copy.write(piece)
        copy.flush()
        source = FileSource(copy.fileno(), path)
        opened.write(
            path, source, expect=ABSENT, operation=token_hex(16), properties=reader.properties
        )
        return source.size
