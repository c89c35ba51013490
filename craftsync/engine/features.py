"""Confirms that a store is the known one, and learns what it can do.

Features are probed on first use and saved for a week. Both checks run beside the first listing
and the first transfers; a `Confirmation` waits for each result where it is needed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice

from craftsync.clock import Clock
from craftsync.core.model import RemoteObject, Skipped
from craftsync.engine.identity import (
    StoreIdentity,
    confirm_store,
    find_identity,
    known_identity,
    write_identity,
)
from craftsync.engine.sides import do_nothing
from craftsync.errors import StoreDenied
from craftsync.net.waiting import blocking
from craftsync.state.database import Database
from craftsync.state.pair import FACTS_LAST_NS, PairState
from craftsync.stores.base import Store
from craftsync.stores.sources import workers


def confirm_and_probe(store: Store, state: PairState, clock: Clock, *, may_write: bool) -> None:
    """Confirm the store and probe its features; nothing is written unless `may_write`."""
    with confirming_store(store, state, clock, may_write=may_write) as known:
        known.complete()


@dataclass(frozen=True, slots=True)
class Confirmation:
    """Checks of a store under way. Each call waits for one of them; it returns, or raises if it failed."""

    features: Callable[[], None] = do_nothing
    """Waits for the store's features. Call it before planning."""
    identity: Callable[[], None] = do_nothing
    """Waits until a known store has proved to be the same. Call it before a listing has any effect."""
    identity_file: Callable[[], None] = do_nothing
    """Waits until a new store has an identity file, if one may be written. Call it before recording
    or deleting anything."""
    listing: Callable[[], Iterable[RemoteObject | Skipped] | None] = do_nothing
    """Returns, once, the complete listing that was started first; `None` if none was."""

    def complete(self) -> None:
        self.features()
        self.identity()
        self.identity_file()


CONFIRMED = Confirmation()


@contextlib.contextmanager
def confirming_store(
    store: Store, state: PairState, clock: Clock, *, may_write: bool, lists: bool = False
) -> Iterator[Confirmation]:
    """Start to confirm the store and to probe its features; yield a `Confirmation` of both.

    The identity of a distant store is read while the store is listed. A new store is also
    probed, and gets an identity file while the first files are transferred; the write uses the
    conditions that the probe found to work. A known store is confirmed before it is probed.
    `lists`: the run will list the whole store.
    """
    database = state.database
    is_known = database.get("store_id") is not None
    is_to_be_tried = may_write and not has_recent_features(database, clock)
    if not store.features.host or (is_known and is_to_be_tried):
        confirm_store(store, state, create=may_write)
        load_features(store, database, clock, may_write=may_write)
        yield CONFIRMED
        return
    with workers(4, "identity", store) as pool:
        found = pool.submit(find_identity, store, known_identity(database))
        if not is_to_be_tried:
            load_features(store, database, clock, may_write=False)
        if is_known or not may_write:
            yield Confirmation(identity=partial(_confirm, store, state, found))
            return
        first = _FirstContact(store, state, clock, found)
        first.begin(pool, tries=is_to_be_tried, lists=lists)
        yield Confirmation(first.features, first.identity, first.identity_file, first.listing)
        first.identity_file()


def _confirm(store: Store, state: PairState, found: Future[StoreIdentity | None]) -> None:
    confirm_store(store, state, create=False, found=found)


class _FirstContact:
    """Probes a new store, lists it and writes its identity file, each as early as possible."""

    def __init__(
        self,
        store: Store,
        state: PairState,
        clock: Clock,
        found: Future[StoreIdentity | None],
    ) -> None:
        self._store, self._state, self._clock, self._found = store, state, clock, found
        self._was_sorted = store.features.sorted_listing
        self._listing: Future[Iterator[RemoteObject | Skipped]] | None = None
        self._probed: Future[str | None] | None = None

    def begin(self, pool: ThreadPoolExecutor, *, tries: bool, lists: bool) -> None:
        """Start what depends on no earlier answer: the probe if `tries`, the listing if `lists`."""
        if tries:
            self._probed = pool.submit(self._store.prepare, None)
        if lists:
            self._listing = pool.submit(_begin_listing, self._store)
        self._written = pool.submit(_with_identity, self._store, self._found, self._probed)

    def features(self) -> None:
        probed, self._probed = self._probed, None
        if probed is not None:
            _save_features(probed.result(), self._state.database, self._clock)

    def identity(self) -> None:
        _confirm(self._store, self._state, self._found)

    def identity_file(self) -> None:
        blocking(self._written.exception)
        self._found = self._written  # The identity read before this write is out of date.
        self.identity()

    def listing(self) -> Iterable[RemoteObject | Skipped] | None:
        """Return, once, the listing that was started; `None` if the probe found another sort order."""
        begun, self._listing = self._listing, None
        if begun is None or self._store.features.sorted_listing != self._was_sorted:
            return None
        return begun.result()


def _begin_listing(store: Store) -> Iterator[RemoteObject | Skipped]:
    entries = iter(store.list())
    return chain(list(islice(entries, 1)), entries)


def _with_identity(
    store: Store, found: Future[StoreIdentity | None], probed: Future[str | None] | None
) -> StoreIdentity | None:
    """Return the identity of a store. Writes one if it has none and the store permits it."""
    there = found.result()
    if there is not None:
        return there
    if probed is not None:
        probed.result()
    with contextlib.suppress(StoreDenied):
        written = write_identity(store)
        return None if written is None else StoreIdentity(written)
    return None


def load_features(store: Store, database: Database, clock: Clock, *, may_write: bool) -> str | None:
    """Set the store's features and return them as text, or `None` if they are unknown.

    Recent saved features are used. Otherwise the store is probed if `may_write`; if not, older
    saved ones are used.
    """
    saved = database.get("facts")
    if may_write and not has_recent_features(database, clock):
        saved = store.prepare(None)
        _save_features(saved, database, clock)
    elif saved is not None:
        store.prepare(saved)
    return saved


def _save_features(found: str | None, database: Database, clock: Clock) -> None:
    if found is not None:
        database.put("facts", found)
    database.put("facts_at_ns", str(clock.now_ns()))


def has_recent_features(database: Database, clock: Clock) -> bool:
    """Return whether the saved features are recent enough to need no probe."""
    at = database.get_int("facts_at_ns")
    return at is not None and abs(clock.now_ns() - at) <= FACTS_LAST_NS
