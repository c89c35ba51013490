"""What a store can do: probed on first use, saved for a week, and found while its identity is confirmed."""

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
    """How far a store is known by now. Each call returns once that much is known, or raises."""

    features: Callable[[], None] = do_nothing
    """What it can do; nothing is planned before."""
    identity: Callable[[], None] = do_nothing
    """That it is the known store, if it is known; nothing follows from its listing before."""
    identity_file: Callable[[], None] = do_nothing
    """That it has an identity file, if it may get one; nothing is recorded or deleted before."""
    listing: Callable[[], Iterable[RemoteObject | Skipped] | None] = do_nothing
    """Returns, once, a complete listing that was begun before all the rest; `None` where none was."""

    def complete(self) -> None:
        self.features()
        self.identity()
        self.identity_file()


CONFIRMED = Confirmation()


@contextlib.contextmanager
def confirming_store(
    store: Store, state: PairState, clock: Clock, *, may_write: bool, lists: bool = False
) -> Iterator[Confirmation]:
    """Start to confirm the store and to probe its features; yield a `Confirmation`, which waits for either.

    The identity of a distant store is read while it is listed. On first contact it
    is also probed, and gets an identity file, under the conditions that it was
    found to check, while the first files are on their way. `lists`: a listing of
    all of it will be wanted. A known store is confirmed before anything is probed in it.
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
    """Probes a new store, lists it and gives it an identity file, each as soon as it can be."""

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
        """Send what depends on no answer: `tries` and `lists` say whether to probe and to list."""
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
        self._found = self._written  # What was found before it was written is out of date.
        self.identity()

    def listing(self) -> Iterable[RemoteObject | Skipped] | None:
        """Return the listing that was begun, once; `None` if the store turned out to sort otherwise."""
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
    """Return the identity of a store; writes one if it has none and writing is permitted."""
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
    """Give a store its features, and return them as text; `None` if unknown.

    Uses the saved ones while they are recent; else the store is probed, if
    `may_write`.
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
    """Return whether the saved features are recent, so that nothing is probed."""
    at = database.get_int("facts_at_ns")
    return at is not None and abs(clock.now_ns() - at) <= FACTS_LAST_NS
