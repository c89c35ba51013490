"""What a store can do: probed on first use, saved for a week, and found while its identity is confirmed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future

from craftsync.clock import Clock
from craftsync.engine.identity import (
    StoreIdentity,
    confirm_store,
    find_identity,
    known_identity,
    write_identity,
)
from craftsync.engine.sides import do_nothing
from craftsync.errors import StoreDenied
from craftsync.state.database import Database
from craftsync.state.pair import FACTS_LAST_NS, PairState
from craftsync.stores.base import Store
from craftsync.stores.sources import workers


def confirm_and_probe(store: Store, state: PairState, clock: Clock, *, may_write: bool) -> None:
    """Confirm the store and probe its features; nothing is written unless `may_write`."""
    with confirming_store(store, state, clock, may_write=may_write) as confirm:
        confirm()


@contextlib.contextmanager
def confirming_store(
    store: Store, state: PairState, clock: Clock, *, may_write: bool
) -> Iterator[Callable[[], None]]:
    """Start to confirm the store and to probe its features; yield `confirm`, which raises unless it is the known store.

    Call `confirm` before using the listing. The identity of a distant store is
    read while it is listed, and on first use while it is probed; then it gets an
    identity file under the conditions that it was found to check. A known store
    is confirmed before anything is probed in it.
    """
    database = state.database
    is_known = database.get("store_id") is not None
    is_to_be_tried = may_write and not has_recent_features(database, clock)
    if not store.features.host or (is_known and is_to_be_tried):
        confirm_store(store, state, create=may_write)
        load_features(store, database, clock, may_write=may_write)
        yield do_nothing
        return
    with workers(1, "identity", store) as pool:
        found = pool.submit(find_identity, store, known_identity(database))
        load_features(store, database, clock, may_write=may_write)
        if may_write and not is_known:
            found = pool.submit(_with_identity, store, found)
        yield lambda: confirm_store(store, state, create=False, found=found)


def _with_identity(store: Store, found: Future[StoreIdentity | None]) -> StoreIdentity | None:
    """Return the identity of a store; writes one if it has none and writing is permitted."""
    there = found.result()
    if there is None:
        with contextlib.suppress(StoreDenied):
            written = write_identity(store)
            return None if written is None else StoreIdentity(written)
    return there


def load_features(store: Store, database: Database, clock: Clock, *, may_write: bool) -> str | None:
    """Give a store its features, and return them as text; `None` if unknown.

    Uses the saved ones while they are recent; else the store is probed, if
    `may_write`.
    """
    saved = database.get("facts")
    if may_write and not has_recent_features(database, clock):
        saved = store.prepare(None)
        if saved is not None:
            database.put("facts", saved)
        database.put("facts_at_ns", str(clock.now_ns()))
    elif saved is not None:
        store.prepare(saved)
    return saved


def has_recent_features(database: Database, clock: Clock) -> bool:
    """Return whether the saved features are recent, so that nothing is probed."""
    at = database.get_int("facts_at_ns")
    return at is not None and abs(clock.now_ns() - at) <= FACTS_LAST_NS
