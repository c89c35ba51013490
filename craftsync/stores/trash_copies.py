"""Finds the trash copies that failed or repeated changes leave in a store, so that they are recorded.

A change keeps the version it replaces or deletes under the caller's trash stamp, and the caller
records that copy for retention. But after an ambiguous failure the next attempt may keep a copy
under another stamp, and a change that fails leaves its copy behind. Only the code here knows
those copies; a caller that records them takes them from `left_in_trash`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, count
from types import TracebackType
from typing import NamedTuple, Protocol, runtime_checkable

from craftsync.core.model import RemoteObject
from craftsync.core.paths import in_trash
from craftsync.errors import CraftsyncError, StoreUnavailable
from craftsync.stores.base import Expect, Store

_SECOND = 10**9


class TrashCopy(NamedTuple):
    """A copy of an earlier version of `path`. `size` is in bytes."""

    stamp: str
    path: str
    size: int


class MovedToTrash(StoreUnavailable):
    """A write stored something else than was sent. It is in the trash now, as `copy`."""

    def __init__(self, message: str, copy: TrashCopy, *, ambiguous: bool = False) -> None:
        remedy = "Check the network and the store: something changes data on its way."
        super().__init__(message, remedy=remedy, ambiguous=ambiguous)
        self.copy = copy


class TrashCopies:
    """Finds the trash copies that the callers of changes do not know of. Thread-safe."""

    def __init__(self, store: Store) -> None:
        """`store` must not retry: a copy whose stat fails is simply not found."""
        self._store = store
        self._uncertain = set[tuple[str, str]]()
        """Stamps and paths of copies whose originals a delayed request may still replace."""
        self._left = deque[TrashCopy]()

    def of_change(self, path: str, stamp: str | None, expect: Expect) -> ChangeCopies:
        """Return the copies of one change, for a `with` statement around its attempts."""
        return ChangeCopies(self, path, stamp, expect)

    def take(self) -> list[TrashCopy]:
        """Return, once, all copies found since the last call."""
        taken = []
        with suppress(IndexError):
            while True:
                taken.append(self._left.popleft())
        return taken

    def give_back(self, copies: Iterable[TrashCopy]) -> None:
        """Accept copies, such as those that `take` returned, and return them at the next `take`."""
        self._left.extend(copies)

    def free_stamp(self, path: str, stamp: str, expect: Expect) -> str:
        """Return the first name that is free, or that holds a copy of the current object.

        An object younger than `expect` was written since: damaged content has the version and
        the digest of what replaces it, so a copy of it may look like one of the current object.
        """
        if self._store.features.keeps_versions:
            return stamp
        current = self._store.stat(path)

        def is_free(name: str) -> bool:
            kept = self._store.stat(in_trash(name, path))
            if kept is None or current is None:
                return kept is None
            return _is_copy(kept, current) and not _is_younger(current, expect)

        return next(filter(is_free, _names(stamp)))

    def is_uncertain(self, path: str, stamp: str) -> bool:
        """Return whether a delayed request may still replace the original of this copy."""
        return (stamp, path) in self._uncertain

    def succeeded(self, path: str, stamp: str) -> None:
        """Keep all copies of a change that used more than one stamp for `take`."""
        if not self._store.features.keeps_versions:
            self._left.extend(self._found(path, stamp))

    def failed(self, path: str, stamp: str, *, in_doubt: bool) -> None:
        """Remove the copy if its original is certainly still in place; otherwise keep it for `take`.

        The copy may belong to an earlier change of the same run, so it is removed only if it
        matches the original. Copies `in_doubt` are never removed.
        """
        if self._store.features.keeps_versions:
            return
        if in_doubt:
            self._uncertain.add((stamp, path))
        if self.is_uncertain(path, stamp):
            self._left.extend(self._found(path, stamp))
        elif (kept := self._store.stat(in_trash(stamp, path))) is not None:
            with suppress(CraftsyncError):
                if self._removed(kept, path):
                    return
            self._left.append(TrashCopy(stamp, path, kept.size))

    def _removed(self, kept: RemoteObject, path: str) -> bool:
        original = self._store.stat(path)
        if original is None or not _is_copy(kept, original):
            return False
        self._store.delete(kept.path, expect=kept)
        return True

    def _found(self, path: str, stamp: str) -> Iterator[TrashCopy]:
        for name in _names(stamp):
            kept = self._store.stat(in_trash(name, path))
            if kept is None:
                return
            yield TrashCopy(name, path, kept.size)


@runtime_checkable
class LeavesCopies(Protocol):
    """A store whose changes may leave trash copies that their callers do not know of."""

    trash_copies: TrashCopies


@contextmanager
def left_in_trash(store: Store) -> Iterator[list[TrashCopy]]:
    """Yield the trash copies that changes left besides those that their callers record.

    The block records them. Each is yielded once, or again if the block raised.
    """
    if not isinstance(store, LeavesCopies):
        yield []
        return
    copies = store.trash_copies.take()
    try:
        yield copies
    except BaseException:
        store.trash_copies.give_back(copies)
        raise


class ChangeCopies:
    """The trash copies of one change. Each of its attempts keeps its copy under `free_stamp`."""

    __slots__ = ("_copies", "_expect", "_path", "_stamp", "_took_another", "in_doubt")

    def __init__(self, copies: TrashCopies, path: str, stamp: str | None, expect: Expect) -> None:
        self._copies = copies
        self._expect = expect
        self._path = path
        self._stamp = stamp
        self.in_doubt = False
        """Whether an attempt had an ambiguous failure."""
        self._took_another = False

    def free_stamp(self) -> str | None:
        """Return the trash stamp for the next attempt.

        After an ambiguous failure, of this change or an earlier one, the current object may already
        be the new one. Kept under the same stamp, it would overwrite the copy of the old one.
        """
        path, stamp = self._path, self._stamp
        if stamp is None or not (self.in_doubt or self._copies.is_uncertain(path, stamp)):
            return stamp
        free = self._copies.free_stamp(path, stamp, self._expect)
        self._took_another = self._took_another or free != stamp
        return free

    def note(self, error: StoreUnavailable) -> None:
        """Note the failure of an attempt: whether it is ambiguous, and what it moved to the trash."""
        self.in_doubt = self.in_doubt or error.ambiguous
        if isinstance(error, MovedToTrash):
            self._copies.give_back([error.copy])

    def __enter__(self) -> ChangeCopies:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._stamp is None:
            return
        with suppress(CraftsyncError):
            if isinstance(error, CraftsyncError):
                self._copies.failed(self._path, self._stamp, in_doubt=self.in_doubt)
            elif error is None and self._took_another:
                self._copies.succeeded(self._path, self._stamp)


def _names(stamp: str) -> Iterator[str]:
    return chain([stamp], (f"{stamp}-{number}" for number in count(2)))


def _is_younger(current: RemoteObject, expect: Expect) -> bool:
    """Return whether an object was written after the expected one. Stats may have whole seconds only."""
    if not isinstance(expect, RemoteObject):
        return False
    now, then = current.modified_ns, expect.modified_ns
    if now is None or then is None:
        return False
    unit = 1 if now % _SECOND and then % _SECOND else _SECOND
    return now // unit > then // unit


def _is_copy(kept: RemoteObject, original: RemoteObject) -> bool:
    """Return whether both certainly have the same content: by operation id, digest or version."""
    pairs = zip(
        (kept.operation, kept.digest, kept.version),
        (original.operation, original.digest, original.version),
        strict=True,
    )
    return kept.size == original.size and any(a is not None and a == b for a, b in pairs)
