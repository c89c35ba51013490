"""`RetryingStore`: wraps any store and retries its transient failures.

A request whose response was lost may have been carried out. Repeating it blindly would make a
conditional write fail because of its own success, and would put the new object into the trash
instead of the old one. So the wrapper checks the store before it repeats such a change;
`trash_copies` finds the copies that this leaves in the trash.

`engine.content.body_of` retries a body that breaks off. The pages of a listing, the probe and
the platform's store use `RetryBudget` themselves.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from hashlib import sha256
from itertools import chain, islice
from typing import Protocol, TypeVar, runtime_checkable

from craftsync.clock import Clock
from craftsync.core.model import ABSENT, RemoteObject, Skipped, Subfolder
from craftsync.errors import (
    CraftsyncError,
    ObjectNotFound,
    PreconditionFailed,
    StoreUnavailable,
    UnknownHost,
)
from craftsync.net.concurrency import Concurrency, concurrency, known_limit
from craftsync.net.waiting import after_fork
from craftsync.stores.base import (
    Expect,
    Features,
    OldVersion,
    Origin,
    Properties,
    Reader,
    Source,
    Store,
    UnfinishedUpload,
    UploadJournal,
    cancel,
    renew,
)
from craftsync.stores.sources import Opening, StoreHealth, delete_singly
from craftsync.stores.trash_copies import TrashCopies

T = TypeVar("T")

ATTEMPTS = 6
DEADLINE_SECONDS = 600.0
FIRST_WAIT_SECONDS = 0.2
LONGEST_WAIT_SECONDS = 30.0


class RetryingStore:
    """A `stores.base.Store` that raises `StoreUnavailable` only after the last attempt; `UnknownHost` at once.

    An operation is tried up to `attempts` times within `deadline_seconds`. Each wait is random
    up to a bound that doubles, so that many clients do not return at once, and never shorter
    than the server's `retry_after`. The bytes of an open `read` are not retried: the caller
    resumes at its offset.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock,
        attempts: int = ATTEMPTS,
        deadline_seconds: float = DEADLINE_SECONDS,
        rng: random.Random | None = None,
    ) -> None:
        self.store = store
        self.name = store.name
        self.location = store.location
        self.health = store.health if isinstance(store, HasHealth) else StoreHealth(clock)
        self._clock = clock
        self._attempts = attempts
        self._deadline_seconds = deadline_seconds
        self._rng = rng or random.Random()
        after_fork(self, RetryingStore._reseed)
        self.trash_copies = TrashCopies(store)

    def _reseed(self) -> None:
        """After a fork: draw other waits than the parent process, and leave its trash copies to it."""
        self.trash_copies.take()
        self._rng.seed()

    @property
    def features(self) -> Features:
        return self.store.features

    def prepare(self, saved: str | None) -> str | None:
        return self._retried(lambda: self.store.prepare(saved), short=False)

    def list(
        self, prefix: str = "", *, boundaries: Sequence[str] = (), nested_own: bool = False
    ) -> Iterator[RemoteObject | Skipped]:
        """List as the store does. A sorted listing that breaks off resumes after its last path."""
        backoff = self._backoff()
        last: str | None = None
        while True:
            before = last
            entries = self.store.list(prefix, boundaries=boundaries, nested_own=nested_own)
            try:
                for entry in entries if before is None else _after(before, entries):
                    last = entry.path
                    yield entry
                with self.health.attempt(short=True):
                    return
            except StoreUnavailable as error:
                if last is not None and not self.features.sorted_listing:
                    raise
                if last != before:
                    backoff = self._backoff()
                self.health.failed(error)
                backoff.wait_after(error)

    def list_folder(self, folder: str = "") -> Iterator[RemoteObject | Subfolder | Skipped]:
        """List as the store does. Only the first page is retried here; the store retries later ones."""

        def begun() -> Iterator[RemoteObject | Subfolder | Skipped]:
            entries = self.store.list_folder(folder)
            return chain(list(islice(entries, 1)), entries)

        yield from self._retried(begun)

    def stat(self, path: str) -> RemoteObject | None:
        return self._retried(lambda: self.store.stat(path))

    def read(
        self,
        path: str,
        *,
        expect: RemoteObject | None = None,
        offset: int = 0,
        length: int | None = None,
    ) -> AbstractContextManager[Reader]:
        return Opening(
            lambda enter: self._retried(
                lambda: enter(self.store.read(path, expect=expect, offset=offset, length=length))
            )
        )

    def properties(self, expect: RemoteObject) -> Properties:
        return self._retried(lambda: self.store.properties(expect))

    def write(
        self,
        path: str,
        source: Source,
        *,
        expect: Expect,
        operation: str,
        trash_stamp: str | None = None,
        journal: UploadJournal | None = None,
        properties: Properties | None = None,
    ) -> RemoteObject:
        write = self.store.write
        if properties is not None:
            write = partial(write, properties=properties)
        return self._made_once(
            *(path, trash_stamp, expect),
            lambda stamp: write(
                path,
                source,
                expect=expect,
                operation=operation,
                trash_stamp=stamp,
                journal=journal,
            ),
            lambda: self._object_we_wrote(path, source, operation, expect),
        )

    def delete(self, path: str, *, expect: Expect, trash_stamp: str | None = None) -> None:
        def attempt(stamp: str | None) -> bool:
            self.store.delete(path, expect=expect, trash_stamp=stamp)
            return True

        self._made_once(
            *(path, trash_stamp, expect),
            attempt,
            lambda: True if self.stat(path) is None else None,
        )

    def delete_each(self, paths: Sequence[str]) -> dict[str, CraftsyncError]:
        """Delete as the store does. Paths that failed transiently are retried one by one."""
        failed = self._retried(lambda: self.store.delete_each(paths), short=False)
        for_now = [path for path, error in failed.items() if isinstance(error, StoreUnavailable)]
        for path in for_now:
            del failed[path]
        return failed | delete_singly(self, for_now)

    def copy(
        self,
        source: RemoteObject,
        target: str,
        *,
        expect: Expect,
        operation: str,
        trash_stamp: str | None = None,
    ) -> RemoteObject:
        copy = self.store.copy
        return self._made_once(
            *(target, trash_stamp, expect),
            lambda stamp: copy(
                source, target, expect=expect, operation=operation, trash_stamp=stamp
            ),
            lambda: self._object_we_wrote(target, source, operation, expect),
        )

    def move(self, source: RemoteObject, target: str, *, operation: str) -> RemoteObject:
        return self._made_once(
            *(target, None, ABSENT),
            lambda _: self.store.move(source, target, operation=operation),
            lambda: self._object_we_wrote(target, source, operation, ABSENT),
        )

    def copy_from(
        self,
        origin: Origin,
        source: RemoteObject,
        *,
        expect: Expect,
        trash_stamp: str | None = None,
        journal: UploadJournal | None = None,
        storage_class: str | None = None,
        target: str | None = None,
    ) -> RemoteObject:
        path = source.path if target is None else target
        return self._made_once(
            *(path, trash_stamp, expect),
            lambda stamp: self.store.copy_from(
                origin,
                source,
                expect=expect,
                trash_stamp=stamp,
                journal=journal,
                storage_class=storage_class,
                target=target,
            ),
            lambda: self._find_copy(source, path),
        )

    def abort_stale(self, uploads: Iterable[tuple[str, str]]) -> None:
        stale = list(uploads)
        self._retried(lambda: self.store.abort_stale(stale), short=False)

    def unfinished_uploads(self, *, most: int, sized: int) -> Sequence[UnfinishedUpload]:
        return self._retried(
            lambda: self.store.unfinished_uploads(most=most, sized=sized), short=False
        )

    def old_versions(self, prefix: str) -> Iterator[OldVersion]:
        return iter(self._retried(lambda: list(self.store.old_versions(prefix)), short=False))

    def read_version(self, path: str, version_id: str) -> AbstractContextManager[Reader]:
        return Opening(
            lambda enter: self._retried(lambda: enter(self.store.read_version(path, version_id)))
        )

    def now_ns(self) -> int:
        return self._retried(lambda: now_by(self.store, self._clock.now_ns()))

    def signed_url(self, path: str, seconds: int | None) -> str:
        return self._retried(lambda: self.store.signed_url(path, seconds))

    def barrier(self) -> Mapping[str, RemoteObject]:
        return self._retried(self.store.barrier, short=False)

    def close(self) -> None:
        self.store.close()

    def cancel(self) -> None:
        cancel(self._clock)
        cancel(self.store)

    def renew(self) -> None:
        renew(self._clock)
        renew(self.store)

    def _backoff(self, began: float | None = None) -> RetryBudget:
        return RetryBudget(self._clock, self._rng, self._attempts, self._deadline_seconds, began)

    def _retried(self, act: Callable[[], T], *, short: bool = True) -> T:
        """Retry an idempotent operation; `short` if it makes one request."""
        began, backoff = self._clock.monotonic(), None
        while True:
            try:
                with self.health.attempt(short=short):
                    return act()
            except StoreUnavailable as error:
                backoff = backoff or self._backoff(began)
                backoff.wait_after(error)

    def _made_once(
        self,
        path: str,
        trash_stamp: str | None,
        expect: Expect,
        attempt: Callable[[str | None], T],
        find_result: Callable[[], T | None],
    ) -> T:
        """Retry a change of `path` that must be made only once, and return its result.

        `attempt` is called with the trash stamp for the version that it replaces or deletes.
        After an ambiguous failure, `find_result` returns the result if the change was made,
        else `None`.
        """
        began, backoff = self._clock.monotonic(), None
        with self.trash_copies.of_change(path, trash_stamp, expect) as copies:
            while True:
                try:
                    with self.health.attempt(short=False):
                        return attempt(copies.free_stamp())
                except StoreUnavailable as error:
                    copies.note(error)
                    if error.ambiguous and (result := find_result()) is not None:
                        return result
                    backoff = backoff or self._backoff(began)
                    backoff.wait_after(error)
                except PreconditionFailed:
                    # An earlier attempt may have arrived late and made the precondition fail.
                    if copies.in_doubt and (result := find_result()) is not None:
                        return result
                    raise

    def _find_copy(self, source: RemoteObject, path: str) -> RemoteObject | None:
        """Return the object at a path if its version proves it a copy of the source, else `None`."""
        found = self.stat(path)
        same = found is not None and (found.size, found.version) == (source.size, source.version)
        return found if same and source.version is not None else None

    def _object_we_wrote(
        self, path: str, written: Source | RemoteObject, operation: str, expect: Expect
    ) -> RemoteObject | None:
        """Return the object at a path if it is the one we tried to write, else `None`.

        The object `expect` is never taken for it, whatever its digest: damaged content keeps the
        digest it was written with. The object is read only if the store keeps no metadata.
        """
        found, digest = self.stat(path), written.digest
        if found is None or found.size != written.size:
            return None
        if found.operation == operation:
            return found
        if not digest or _is_unchanged(found, expect):
            return None
        if found.operation is not None or found.digest is not None:
            return found if found.digest == digest else None
        if self.features.metadata:
            return None
        if found.mtime_ns not in (None, written.mtime_ns):
            return None
        # Another client's object may have the same size and mtime, and some servers keep no mtime.
        return found if self._digest(found) == digest else None

    def _digest(self, found: RemoteObject) -> bytes | None:
        """Return the SHA-256 of an object by reading it, or `None` if it has changed."""
        content = sha256()
        try:
            with self.read(found.path, expect=found) as reader:
                for chunk in reader:
                    content.update(chunk)
        except (ObjectNotFound, PreconditionFailed):
            return None
        return content.digest()


@runtime_checkable
class HasHealth(Protocol):
    """A store that itself records, for each page of a listing, how its request ends."""

    health: StoreHealth


@runtime_checkable
class HasClock(Protocol):
    """A store with a clock of its own."""

    def now_ns(self) -> int:
        """Return the store's time in nanoseconds since the epoch. Raises `StoreError` if it reports none."""
        ...


def now_by(store: Store, here_ns: int) -> int:
    """Return the current time by the clock that stamps a store's objects; `here_ns` is this machine's."""
    return store.now_ns() if isinstance(store, HasClock) else here_ns


class RetryBudget:
    """The number of attempts, and the time, that one operation may take."""

    def __init__(
        self,
        clock: Clock,
        rng: random.Random | None = None,
        attempts: int = ATTEMPTS,
        deadline_seconds: float = DEADLINE_SECONDS,
        began: float | None = None,
    ) -> None:
        """`began` is the start of the first attempt by the monotonic clock, by default now."""
        self._clock = clock
        self._rng = rng or random.Random()
        self._left = attempts - 1
        self._bound = FIRST_WAIT_SECONDS
        self._deadline = (clock.monotonic() if began is None else began) + deadline_seconds

    def wait_after(self, error: StoreUnavailable) -> None:
        """Wait before the next attempt. Raises `error` if no attempt or no time is left.

        An unknown name is not looked up again. A lookup that fails because there is no network
        raises another error, which is retried.
        """
        if isinstance(error, UnknownHost):
            raise error
        wait = max(self._rng.uniform(0.0, self._bound), error.retry_after or 0.0)
        if self._left <= 0 or self._clock.monotonic() + wait > self._deadline:
            raise error
        self._left -= 1
        self._bound = min(2 * self._bound, LONGEST_WAIT_SECONDS)
        self._clock.sleep(wait)

    def retried(self, act: Callable[[], T]) -> T:
        """Retry an idempotent operation."""
        while True:
            try:
                return act()
            except StoreUnavailable as error:
                self.wait_after(error)


def _is_unchanged(found: RemoteObject, expect: Expect) -> bool:
    """Return whether an object is still the version that the change was to replace."""
    if not isinstance(expect, RemoteObject) or found.version != expect.version:
        return False
    return found.version is not None or found.modified_ns == expect.modified_ns


def _after(
    last: str, entries: Iterator[RemoteObject | Skipped]
) -> Iterator[RemoteObject | Skipped]:
    """Yield the entries that sort after a path by UTF-8 bytes. Raw keys may hold lone surrogates."""
    bound = last.encode(errors="surrogateescape")
    return (entry for entry in entries if entry.path.encode(errors="surrogateescape") > bound)


def concurrency_of(
    transfers: int, stores: Sequence[Store], in_turn: Callable[[], int] | None = None
) -> Concurrency:
    """Return the transfer limit for a run between these stores; `transfers` is a number or `AUTO`.

    `in_turn` returns how many transfers may share the run's rate limit; `None` without a limit.
    """
    health = {store.health for store in stores if isinstance(store, RetryingStore)}
    if len(health) == 1:
        (only,) = health
        return concurrency(transfers, _hosts_of(stores), lambda: only.failures, in_turn)
    return concurrency(
        transfers, _hosts_of(stores), lambda: sum([each.failures for each in health]), in_turn
    )


def concurrency_found(stores: Sequence[Store]) -> int | None:
    """Return the measured transfer limit for these stores, or `None` if none was measured."""
    return known_limit(_hosts_of(stores))


def _hosts_of(stores: Sequence[Store]) -> tuple[str, ...]:
    return tuple(sorted({store.features.host for store in stores} - {""}))
