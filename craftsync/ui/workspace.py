"""Shared by all pages: the configuration, the linked folders, the open stores, and threads for blocking calls.

It uses the same functions as the command line; the pages only show the results.
All browsers share one workspace, so they see the same.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from craftsync import linked_folders
from craftsync.config import file as configuration
from craftsync.config import pairs, places
from craftsync.config.options import PairOptions, RunOptions
from craftsync.config.pairs import Pair
from craftsync.config.parsers import user_path
from craftsync.daemon import control, pause
from craftsync.datastore import DataStore
from craftsync.engine.session import Session
from craftsync.errors import CraftsyncError, UsageError
from craftsync.ui.content import Content
from craftsync.ui.guard import Access

T = TypeVar("T")

_AT_ONCE = 16
"""The most blocking calls at the same time."""


@dataclass(slots=True)
class Workspace:
    """The open stores and the access to linked folders. Thread-safe, except `in_thread`."""

    where: PairOptions
    content: Content
    access: Access
    theme: bool | None = None
    """Dark, light, or as the system (`None`)."""
    jobs: list[Any] = field(default_factory=list)
    """Jobs of the pages, finished ones included (`jobs.Job`)."""
    at_work: set[str] = field(default_factory=set)
    """The linked folders (`key_of`) in which a page has started a run that has not ended."""
    plans: dict[str, Path] = field(default_factory=dict)
    """Plan files by their key in the address of a page."""
    _stores: dict[str, DataStore] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    def __post_init__(self) -> None:
        self.content.read, self.content.size = self._read, self._size

    async def _read(self, word: str, path: str, start: int, end: int) -> bytes:
        return await self.in_thread(self.store(word).read_data_store_object, path, start, end)

    async def _size(self, word: str, path: str) -> int:
        found = await self.in_thread(self.store(word).get_data_store_object_information, path)
        return found["size"]

    @property
    def state_dir(self) -> Path:
        return pairs.state_dir_of(self.where)

    @property
    def config_file(self) -> Path:
        named = self.where.get("config")
        return user_path(named) if named else configuration.default_file()

    async def in_thread(self, call: Callable[..., T], *words: Any) -> T:
        """Return the result of a blocking call, without blocking the server.

        The thread does not keep the process alive, so a stop does not wait for a store.
        """
        async with self._turns:
            return await _in_daemon_thread(call, words)

    @property
    def asked(self) -> RunOptions:
        """The options of a run, from the flags of `craftsync ui`."""
        return cast(RunOptions, dict(self.where))

    def config(self) -> configuration.Config:
        """Read the current configuration; raises `ConfigError`."""
        return configuration.load(self.where.get("config"))

    def pairs(self) -> list[Pair]:
        """Return every linked folder: those in the configuration, and those with a state database."""
        return linked_folders.every_known(self.where)

    def pair(self, key: str) -> Pair:
        """Return the linked folder with this key; raises `UsageError`."""
        for one in self.pairs():
            if key_of(one) == key:
                return one
        raise UsageError(
            f"{key} is no longer a linked folder.",
            remedy="The overview lists all linked folders.",
        )

    def stores(self) -> dict[str, str]:
        """Return {STORE: name} of the stores to browse: environments, and stores of linked folders."""
        config = self.config()
        found = {name: name for name in config.environments}
        access = pairs.access_of(self.where)
        with suppress(CraftsyncError):
            known = {str(places.resolve(name, config, access)) for name in found}
            for one in self.pairs():
                address = places.address_of(one.location)
                if address not in known:
                    known.add(address)
                    found[address] = short(address)
        return found

    def store(self, word: str) -> DataStore:
        """Return the store of a word, opened once for all browsers."""
        with self._lock:
            if word not in self._stores:
                self._stores[word] = DataStore(word, **self.where)
            return self._stores[word]

    def forget_stores(self) -> None:
        """Open every store again at its next use, because the configuration has changed."""
        with self._lock:
            self._stores.clear()

    def ask(self, pair: Pair, verb: str, **arguments: Any) -> Any:
        """Send a request to the daemon of a linked folder; return its response, `None` if none runs."""
        return control.ask(self.control_of(pair), verb, **arguments)

    def control_of(self, pair: Pair) -> Path:
        """Return the folder of the control socket of a linked folder, whether or not its daemon runs."""
        return control.folder_of(self.state_dir, *pair.addresses)

    def facts(self, pair: Pair) -> Mapping[str, Any]:
        """Return the status of a linked folder: the fields of `status --json`. Never raises a `CraftsyncError`."""
        kept = None
        try:
            kept = pause.since_shown(self.control_of(pair))
            live: dict[str, Any] | None = self.ask(pair, "status")
            facts = linked_folders.standing(pair, self.state_dir, live)
        except CraftsyncError as error:
            facts = linked_folders.unknown_standing(pair, error)
        return {"paused_since": kept, **facts, "name": name_of(pair)}

    def session(self, pair: Pair, *, reading: bool = False) -> AbstractContextManager[Session]:
        """Open a linked folder; with `reading`, or while a daemon or another run uses it, only its state is read."""
        if reading:
            return linked_folders.open_pair(pair, self.state_dir, reading=True)
        return linked_folders.open_beside(pair, self.state_dir)


def key_of(pair: Pair) -> str:
    """Return the key of a linked folder in the address of a page."""
    return pair.folder or " ".join(pair.addresses)


def name_of(pair: Pair) -> str:
    return pair.folder or pair.root.name or str(pair.root)


def short(address: str) -> str:
    """Return the end of an address, for a narrow list."""
    return address.rstrip("/").rpartition("/")[2] or address


async def _in_daemon_thread(call: Callable[..., T], words: tuple[Any, ...]) -> T:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, error: Exception | None) -> None:
        if ended.done():
            return
        if error is not None:
            ended.set_exception(error)
        else:
            ended.set_result(cast(T, value))

    def work() -> None:
        value, error = None, None
        try:
            value = call(*words)
        except Exception as raised:  # noqa: BLE001 (it is raised where it is awaited)
            error = raised
        with suppress(RuntimeError):  # The loop is closed, so nothing awaits the result.
            loop.call_soon_threadsafe(settle, value, error)

    threading.Thread(target=work, daemon=True).start()
    return await ended
