"""Are these still the source and the target that the state database knows, and two different stores?

A store that craftsync has written to carries a mark with a random id. The
target gets one; the source is left as it is, and has one if it was ever kept
in sync with a folder.
"""

from __future__ import annotations

from craftsync.engine.identity import STORE_MARK, mark_of, write_mark
from craftsync.errors import StoreChanged, UsageError
from craftsync.state.migration import MigrationState
from craftsync.stores.base import Store


def confirm(source: Store, target: Store, state: MigrationState, *, mark: bool) -> None:
    """Check both marks against the database; with `mark`, set the target's on first use.

    Raises `StoreChanged` when a store is not the one it was, and `UsageError`
    when both are the same one under two names.
    """
    ids = [
        _confirmed(store, state, name) for store, name in ((source, "source"), (target, "target"))
    ]
    if ids[1] is None and mark:
        ids[1] = write_mark(target)
        # A place without a mark has one now, also under its other name.
        ids[0] = mark_of(source)
    if ids[0] is not None and ids[0] == ids[1]:
        raise UsageError(
            f"{source.location} and {target.location} are the same store ({STORE_MARK}).",
            remedy="If one was copied from the other by another tool, remove the target's mark.",
        )
    if ids[1] is not None:
        state.database.put("target_id", ids[1])


def _confirmed(store: Store, state: MigrationState, name: str) -> str | None:
    found, known = mark_of(store), state.database.get(f"{name}_id")
    if known is not None and found != known:
        what = "lost its mark" if found is None else "is not the store it was"
        raise StoreChanged(
            f"the {name} {store.location} {what} ({STORE_MARK})",
            remedy="Check bucket, prefix and credentials. If it really is a new store, use"
            " another --state-dir: what is there is then compared anew.",
        )
    if found is not None and known is None:
        state.database.put(f"{name}_id", found)
    return found
