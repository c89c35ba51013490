"""`DataStore`: the five functions of the platform's data store, over any store.

Names and parameters are those of the Craft AI SDK, so that a program changes one line to use
another store. Sizes are exact bytes. The commands ls, stat, put, get and rm use these functions
too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from secrets import token_hex
from threading import RLock
from typing import Self, TypedDict, Unpack

from craftsync.clock import SystemClock, iso, stamp
from craftsync.config import file as configuration
from craftsync.config import pairs, places
from craftsync.config.options import PairOptions
from craftsync.config.places import Location
from craftsync.core.model import RemoteObject, Skipped
from craftsync.core.paths import is_own, refusal
from craftsync.core.retention import Reserve
from craftsync.engine.identity import read_id
from craftsync.errors import (
    ObjectNotFound,
    PathRefused,
    UsageError,
    builtin_kinds,
)
from craftsync.open_store import open_store, refuse_nothing
from craftsync.state.history import KeptVersion, Outside
from craftsync.state.pair import known_facts, known_places
from craftsync.stores.base import Reader, Store, server_and_location
from craftsync.stores.fileobjects import FileOrPath, source_of, write_to
from craftsync.stores.sources import Counted, CountedReader, OnBytes, kept
from craftsync.stores.trash_copies import left_in_trash

ObjectPath = str | os.PathLike[str]


class ObjectInformation(TypedDict):
    """An object: its path, when it was last written (ISO 8601, UTC), and its size in bytes."""

    path: str
    last_modified: str | None
    size: int


class DeletedObject(TypedDict):
    path: str


class DataStore:
    """The objects of one store, named as on the command line: a URL, a path, or an environment.

    The first call opens the store. A missing folder is created for an upload; any other call then
    raises `StoreMissing`. Replaced and removed objects can be restored: the store keeps them under
    `.craftsync/trash/` or as versions. Use it in a `with` statement, or call `close`.

    The keywords are those of `craftsync.config.options.PairOptions`. A `DataStore` can be pickled,
    used after a fork, and used by many threads. Errors are of a builtin kind too.

    Single objects are no reason to probe a store. If no run has recently found which conditions it
    checks, each write and removal makes a stat just before instead, and overwrites what another
    client writes in between.
    """

    @builtin_kinds()
    def __init__(self, store: str | os.PathLike[str], **where: Unpack[PairOptions]) -> None:
        config = configuration.load(where.get("config"))
        word = places.word_of(store)
        access = pairs.access_of(where)
        location = places.resolve(word, config, access)
        places.refuse_written(location, access)
        self._set_up(word, location, config.reserve, pairs.state_dir_of(where))

    @classmethod
    def at(cls, word: str, location: Location, **where: Unpack[PairOptions]) -> Self:
        """Return the store at a known place; `word` is its name in messages."""
        made = cls.__new__(cls)
        reserve = configuration.load(where.get("config")).reserve
        made._set_up(word, location, reserve, pairs.state_dir_of(where))
        return made

    def _set_up(self, word: str, location: Location, reserve: Reserve, state_dir: Path) -> None:
        self.word = word
        self.location = location
        self._reserve = reserve
        self._state_dir = state_dir
        self._begin()

    def _begin(self) -> None:
        self._exit = ExitStack()
        self._opened: Store | None = None
        self._learned = False

    def __getstate__(self) -> dict[str, object]:
        """Pickle without the connections: a copy in another process opens its own."""
        return {name: vars(self)[name] for name in ("word", "location", "_reserve", "_state_dir")}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        self._begin()

    def __repr__(self) -> str:
        return f"DataStore({self.word!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._opened is not None:
            self.note(())
        self._opened, self._learned = None, False
        self._exit.close()

    def iter_data_store_objects(
        self,
        folder_path: str | os.PathLike[str] | None = None,
        *,
        on_skipped: Callable[[Skipped], object] = lambda skipped: None,
    ) -> Iterator[ObjectInformation]:
        """Yield each object as the store lists it; with `folder_path`, those in that folder and below.

        `on_skipped` is called with the keys that no folder can hold.
        """
        folder = "" if folder_path is None else os.fspath(folder_path).strip("/")
        prefix = "" if folder in ("", ".") else f"{folder}/"
        with builtin_kinds():
            for entry in self.opened().list(prefix):
                if isinstance(entry, Skipped):
                    on_skipped(entry)
                else:
                    yield information_of(entry)

    @builtin_kinds()
    def list_data_store_objects(
        self, folder_path: str | os.PathLike[str] | None = None
    ) -> list[ObjectInformation]:
        return list(self.iter_data_store_objects(folder_path))

    def refuse_nothing(self) -> None:
        """Raise `StoreMissing` if this is an empty folder of a bucket or an environment."""
        refuse_nothing(self.opened(), self.word)

    @builtin_kinds()
    def get_data_store_object_information(
        self, object_path_in_datastore: ObjectPath
    ) -> ObjectInformation:
        """Return the path, time and size of an object. Raises `ObjectNotFound`."""
        found = self.opened().stat(_named(object_path_in_datastore))
        if found is None:
            raise ObjectNotFound(f"{object_path_in_datastore}: object not found.")
        return information_of(found)

    @builtin_kinds()
    def upload_data_store_object(
        self, filepath_or_buffer: FileOrPath, object_path_in_datastore: ObjectPath
    ) -> None:
        """Upload a file, or the content of a binary file object, which needs only `read()`.

        A file object that can seek is read from its start; standard input, and one that cannot
        seek, from its current position. An existing object is replaced. The content is read once
        before it is sent, so a file object that is not a file on disk is first copied to a
        temporary file. Raises `PathBusy` if the file changes while it is read.
        """
        self.upload(filepath_or_buffer, object_path_in_datastore)
        self.opened().barrier()

    def upload(
        self, file: FileOrPath, path_in_datastore: ObjectPath, on_bytes: OnBytes | None = None
    ) -> RemoteObject:
        """Upload a file as `upload_data_store_object` does, but without `barrier`; return the object."""
        path = _named(path_in_datastore)
        if reason := refusal(path):
            raise PathRefused(f"{path} cannot be written: {reason}.")
        with source_of(file) as source:
            if on_bytes is not None:
                source.pace = Counted(on_bytes)
            store, keep = self.opened_to_change(create=True), stamp_now()
            operation = token_hex(16)
            made = store.write(path, source, expect=None, operation=operation, trash_stamp=keep)
            self.note_kept(store, keep, path)
            return made

    @builtin_kinds()
    def download_data_store_object(
        self, object_path_in_datastore: ObjectPath, filepath_or_buffer: FileOrPath
    ) -> None:
        """Download an object into a file, which appears complete or not at all, or a binary file object.

        A file object needs only `write()`. One whose `seekable()` is true is left at its start,
        except a standard stream. Raises `ObjectNotFound`, and `StoreUnavailable` if the content
        ends early.
        """
        self.download(object_path_in_datastore, filepath_or_buffer)

    def download(
        self, path_in_datastore: ObjectPath, file: FileOrPath, on_bytes: OnBytes | None = None
    ) -> int:
        """Download an object as `download_data_store_object` does; return its size in bytes."""
        with self.opened().read(_named(path_in_datastore)) as opened:
            reader: Reader = opened if on_bytes is None else CountedReader(opened, on_bytes)
            write_to(file, reader, self._reserve)
            return reader.object.size

    @builtin_kinds()
    def read_data_store_object(
        self, object_path_in_datastore: ObjectPath, start: int = 0, end: int | None = None
    ) -> bytes:
        """Return the bytes of an object from `start` up to, not including, `end`. Raises `ObjectNotFound`."""
        if end is not None and end <= start:
            return b""
        length = None if end is None else end - start
        path = _named(object_path_in_datastore)
        with self.opened().read(path, offset=start, length=length) as reader:
            return b"".join(reader)

    @builtin_kinds()
    def delete_data_store_object(self, object_path_in_datastore: ObjectPath) -> DeletedObject:
        """Remove an object; succeeds if it does not exist, as in S3."""
        path = _named(object_path_in_datastore)
        if is_own(path):
            raise PathRefused(f"{path} cannot be removed: it is craftsync's own.")
        store, keep = self.opened_to_change(), stamp_now()
        store.delete(path, expect=None, trash_stamp=keep)
        self.note_kept(store, keep, path)
        store.barrier()
        return {"path": path}

    def note_kept(self, store: Store, keep: str, path: str) -> None:
        """Record the version that a change moved to the store's trash, so that retention applies to it."""
        if version := kept(store, keep, path):
            self.note([KeptVersion("store", keep, path, version.size)])

    def note(self, versions: Iterable[KeptVersion]) -> None:
        """Record versions in the store's trash, as `note_kept` does, and those that lost answers left there."""
        with left_in_trash(self.opened()) as copies:
            left = [KeptVersion("store", *copy) for copy in copies]
            self._outside.note([*left, *versions], SystemClock().now_ns())

    def noted(self) -> list[KeptVersion]:
        """Return the versions that this client moved to the store's trash outside runs."""
        return [version for version, _ in self._outside.noted()]

    def forget_kept(self, versions: Iterable[KeptVersion]) -> None:
        """Forget the versions that are no longer in the trash."""
        self._outside.drop(versions)

    def is_linked(self) -> bool:
        """Return whether this client has the state of a folder that is linked to the store."""
        return self._outside.place in known_places(self._state_dir)

    @property
    def _outside(self) -> Outside:
        return Outside(self._state_dir, server_and_location(self.opened()))

    def opened(self, *, create: bool = False) -> Store:
        """Return the open store, for reading (`craftsync.objects`). `close` closes it."""
        with _Opening.lock:
            if self._opened is None:
                store = open_store(self.location, create=create)
                self._opened = self._exit.enter_context(store)
            return self._opened

    def opened_to_change(self, *, create: bool = False) -> Store:
        """Return the open store, for changes: it uses the features that runs have probed, if recent."""
        with _Opening.lock:
            store = self.opened(create=create)
            if not self._learned:
                self._learned = True
                _learn(store, self._state_dir)
            return store


class _Opening:
    """The lock by which only one thread opens a data store. A forked child has a lock of its own."""

    lock = RLock()

    @classmethod
    def renew(cls) -> None:
        cls.lock = RLock()


os.register_at_fork(after_in_child=_Opening.renew)


def _learn(store: Store, state_dir: Path) -> None:
    known = dict(known_facts(state_dir, store.location, now_ns=SystemClock().now_ns()))
    if known and (text := known.get(read_id(store) or "")):
        store.prepare(text)


def information_of(entry: RemoteObject) -> ObjectInformation:
    """Return the path, time and size of an object."""
    return {"path": entry.path, "last_modified": _iso(entry.modified_ns), "size": entry.size}


def _iso(time_ns: int | None) -> str | None:
    return None if time_ns is None else iso(time_ns)


def stamp_now() -> str:
    """Return the trash stamp for a version that is replaced or removed now."""
    return stamp(SystemClock())


def _named(path: ObjectPath) -> str:
    named = os.fspath(path)
    if not named:
        raise UsageError("An object needs a path.", remedy="Give one such as folder/file.csv.")
    return named
