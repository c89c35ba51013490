"""Are these still the source and the target that the state database knows, and two different stores?

A store that craftsync has written to carries a mark with a random id. The
target gets one; the source is left as it is, and has one if it was ever kept
in sync with a folder.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterable, Iterator
from itertools import chain, islice

from craftsync.core.model import ABSENT, RemoteObject
from craftsync.core.paths import is_own
from craftsync.engine.identity import STORE_MARK
from craftsync.errors import (
    ObjectNotFound,
    PathError,
    PreconditionFailed,
    StoreChanged,
    UsageError,
)
from craftsync.migrate.content import Content
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
        ids[1] = _marked(target)
        # A place without a mark has one now, also under its other name.
        ids[0] = _mark_of(source)
    if ids[0] is not None and ids[0] == ids[1]:
        raise UsageError(
            f"{source.location} and {target.location} are the same store ({STORE_MARK}).",
            remedy="If one was copied from the other by another tool, remove the target's mark.",
        )
    if ids[1] is not None:
        state.database.put("target_id", ids[1])


class Apart:
    """Looks out, while both stores are listed, for one that lies in the other.

    The words for the two may not show it: one server under two names, a folder
    that is served, a bind mount. A target is known by its mark, which it has
    before anything is copied, if the source is listed with what nested stores
    keep for themselves; a source, which may have none, by its first objects.
    Both raise `UsageError`.
    """

    def __init__(self, source: Store, target: Store, target_id: str | None) -> None:
        self._source = source
        self._target = target
        self._target_id = target_id

    def listed(
        self, source: Iterable[RemoteObject], target: Iterable[RemoteObject]
    ) -> tuple[Iterator[RemoteObject], Iterator[RemoteObject]]:
        """Return both listings, to be read side by side, the source's without what is craftsync's own."""
        entries = self._without_target(source)
        first = next(entries, None)
        rest = entries if first is None else chain((first,), entries)
        return rest, self._without_source(first, target)

    def _without_target(self, entries: Iterable[RemoteObject]) -> Iterator[RemoteObject]:
        for entry in entries:
            if entry.path.endswith(_MARK_BELOW) and self._is_target(entry):
                raise self._nested("contains", entry.path.removesuffix(_MARK_BELOW))
            if not is_own(entry.path):
                yield entry

    def _is_target(self, mark: RemoteObject) -> bool:
        if self._target_id is None or mark.size != len(self._target_id):
            return False
        with contextlib.suppress(PathError):
            return _mark_of(self._source, mark.path) == self._target_id
        return False

    def _without_source(
        self, first: RemoteObject | None, entries: Iterable[RemoteObject]
    ) -> Iterator[RemoteObject]:
        for entry in entries:
            if first is not None and entry.path.endswith(first.path) and entry[1:4] == first[1:4]:
                where = entry.path.removesuffix(first.path)
                if where.endswith("/") and self._is_source(where):
                    raise self._nested("lies inside", where.removesuffix("/"))
            yield entry

    def _is_source(self, where: str) -> bool:
        """Tell whether the first objects of the source are those that the target shows there."""
        listing = (entry for entry in self._source.list() if isinstance(entry, RemoteObject))
        for entry in islice(listing, _SAMPLES):
            here, there = self._source.stat(entry.path), self._target.stat(where + entry.path)
            if here is None or there is None or here[1:4] != there[1:4]:
                return False
        return True

    def _nested(self, how: str, where: str) -> UsageError:
        return UsageError(
            f"The source {self._source.location} {how} the target {self._target.location}"
            f" (as {where}/).",
            remedy=f"Name two stores that share nothing. If {where}/ is only a copy that another"
            f" tool made, leave it out: --exclude '/{where}/'.",
        )


_SAMPLES = 8
_MARK_BELOW = f"/{STORE_MARK}"


def _confirmed(store: Store, state: MigrationState, name: str) -> str | None:
    found, known = _mark_of(store), state.database.get(f"{name}_id")
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


def _marked(target: Store) -> str:
    mark = uuid.uuid4().hex
    with contextlib.suppress(PreconditionFailed):
        target.write(STORE_MARK, Content(mark.encode()), expect=ABSENT, operation=mark)
    return _mark_of(target) or mark


def _mark_of(store: Store, path: str = STORE_MARK) -> str | None:
    try:
        with store.read(path) as reader:
            return b"".join(reader).decode("ascii", "replace")
    except ObjectNotFound:
        return None
