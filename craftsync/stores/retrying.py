"""Wraps any store and retries its transient failures.

A body that breaks off is retried by `engine.content` and `migrate.stream`;
listings, the probe and the platform's store use `RetryBudget` themselves.

A request whose answer was lost may have been carried out. Repeating it blindly
would make a conditional write fail because of its own success, and would put
the new object into the trash in place of the old one; so it is settled by
looking first. A replacement or delete that failed for good takes back what it
kept in the trash, or each later run would leave one more copy there. Knows
nothing of what kind of store it wraps.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from hashlib import sha256
from itertools import chain, islice
from typing import TypeVar

from craftsync.clock import Clock
from craftsync.core.model import OWN_FOLDER, RemoteObject, Skipped, Subfolder
from craftsync.errors import CraftsyncError, ObjectNotFound, PreconditionFailed, StoreUnavailable
from craftsync.net.pace import Concurrency, concurrency, known_limit
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
    now_by,
    renew,
)
from craftsync.stores.sources import Answers, Opening

T = TypeVar("T")

ATTEMPTS = 6
DEADLINE_SECONDS = 600.0
FIRST_WAIT_SECONDS = 0.2
LONGEST_WAIT_SECONDS = 30.0


class RetryingStore:
    """Keeps the contract of `stores.base.Store` and raises `StoreUnavailable` only after the last attempt.

    An operation is tried `attempts` times within `deadline_seconds`. The waits
    between are random up to a bound that doubles (so that many clients do not
    come back at once), and no shorter than the server asks for. The bytes of
    an open `read` are not retried: the caller goes on from where it stopped.
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
        self.answers = Answers(clock)
        self._clock = clock
        self._attempts = attempts
        self._deadline_seconds = deadline_seconds
        self._rng = rng or random.Random()
        after_fork(self, RetryingStore._differ)
        self._doubtful = set[str]()
        """Kept copies whose originals may yet be replaced by a request that is late on its way."""

    def _differ(self) -> None:
        """Wait for other lengths of time than a parent process, so as not to come back together with it."""
        self._rng.seed()

    @property
    def features(self) -> Features:
        return self.store.features

    def prepare(self, saved: str | None) -> str | None:
        return self._retried(lambda: self.store.prepare(saved))

    def list(
        self, prefix: str = "", *, boundaries: Sequence[str] = (), nested_own: bool = False
    ) -> Iterator[RemoteObject | Skipped]:
        """List as the store does; a listing in order that breaks off goes on where it was."""
        backoff = self._backoff()
        last: str | None = None
        while True:
            before = last
            entries = self.store.list(prefix, boundaries=boundaries, nested_own=nested_own)
            try:
                for entry in entries if before is None else _after(before, entries):
                    last = entry.path
                    yield entry
                with self.answers.noted(short=True):
                    return
            except StoreUnavailable as error:
                if last is not None and not self.features.sorted_listing:
                    raise
                if last != before:
                    backoff = self._backoff()
                self.answers.failed(error)
                backoff.wait_after(error)

    def list_folder(self, folder: str = "") -> Iterator[RemoteObject | Subfolder | Skipped]:
        """List as the store does, which tries a later page again by itself."""

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
        keep: str | None = None,
        journal: UploadJournal | None = None,
        properties: Properties | None = None,
    ) -> RemoteObject:
        write = self.store.write
        if properties is not None:
            write = partial(write, properties=properties)
        return self._settled(
            lambda: write(
                path, source, expect=expect, operation=operation, keep=keep, journal=journal
            ),
            lambda: self._own(path, source.size, source.digest, source.mtime_ns, operation),
            partial(self._take_back, path, keep),
        )

    def delete(self, path: str, *, expect: Expect, keep: str | None = None) -> None:
        def act() -> bool:
            self.store.delete(path, expect=expect, keep=keep)
            return True

        self._settled(
            act,
            lambda: True if self.stat(path) is None else None,
            partial(self._take_back, path, keep),
        )

    def copy(
        self,
        source: RemoteObject,
        target: str,
        *,
        expect: Expect,
        operation: str,
        keep: str | None = None,
    ) -> RemoteObject:
        copy = self.store.copy
        return self._settled(
            lambda: copy(source, target, expect=expect, operation=operation, keep=keep),
            lambda: self._own(target, source.size, source.digest, source.mtime_ns, operation),
            partial(self._take_back, target, keep),
        )

    def copy_from(
        self,
        origin: Origin,
        source: RemoteObject,
        *,
        expect: Expect,
        keep: str | None = None,
        journal: UploadJournal | None = None,
        storage_class: str | None = None,
        target: str | None = None,
    ) -> RemoteObject:
        path = source.path if target is None else target
        return self._settled(
            lambda: self.store.copy_from(
                origin,
                source,
                expect=expect,
                keep=keep,
                journal=journal,
                storage_class=storage_class,
                target=target,
            ),
            lambda: self._copied(source, path),
            partial(self._take_back, path, keep),
        )

    def abort_stale(self, uploads: Iterable[tuple[str, str]]) -> None:
        stale = list(uploads)
        self._retried(lambda: self.store.abort_stale(stale))

    def unfinished_uploads(self, *, most: int, sized: int) -> Sequence[UnfinishedUpload]:
        return self._retried(lambda: self.store.unfinished_uploads(most=most, sized=sized))

    def old_versions(self, prefix: str) -> Iterator[OldVersion]:
        return iter(self._retried(lambda: list(self.store.old_versions(prefix))))

    def read_version(self, path: str, version_id: str) -> AbstractContextManager[Reader]:
        return Opening(
            lambda enter: self._retried(lambda: enter(self.store.read_version(path, version_id)))
        )

    def now_ns(self) -> int:
        return self._retried(lambda: now_by(self.store, self._clock.now_ns()))

    def signed_url(self, path: str, seconds: int | None) -> str:
        return self._retried(lambda: self.store.signed_url(path, seconds))

    def barrier(self) -> Mapping[str, RemoteObject]:
        return self._retried(self.store.barrier)

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

    def _retried(self, act: Callable[[], T]) -> T:
        began, backoff = self._clock.monotonic(), None
        while True:
            try:
                with self.answers.noted(short=True):
                    return act()
            except StoreUnavailable as error:
                backoff = backoff or self._backoff(began)
                backoff.wait_after(error)

    def _settled(
        self, act: Callable[[], T], done: Callable[[], T | None], undo: Callable[[bool], None]
    ) -> T:
        """Do what may be done only once.

        `done` looks whether it was, and returns what it left behind; `undo` is
        called when it failed, with whether it may have been done nevertheless.
        """
        began, backoff = self._clock.monotonic(), None
        in_doubt = False
        try:
            while True:
                try:
                    with self.answers.noted(short=False):
                        return act()
                except StoreUnavailable as error:
                    in_doubt = in_doubt or error.ambiguous
                    if error.ambiguous and (left := done()) is not None:
                        return left
                    backoff = backoff or self._backoff(began)
                    backoff.wait_after(error)
                except PreconditionFailed:
                    # It may be the first attempt, late on its way, that stands in the way of this one.
                    if in_doubt and (left := done()) is not None:
                        return left
                    raise
        except CraftsyncError:
            with suppress(CraftsyncError):
                undo(in_doubt)
            raise

    def _take_back(self, path: str, keep: str | None, in_doubt: bool) -> None:
        """Remove a kept copy whose original is still in its place, and will not be replaced any more.

        Only evidence counts: the copy may be of something that an earlier
        change of the same run displaced.
        """
        if keep is None or self.features.keeps_versions:
            return
        copy = f"{OWN_FOLDER}/trash/{keep}/{path}"
        if in_doubt:
            self._doubtful.add(copy)
        if copy in self._doubtful:
            return
        kept = self.store.stat(copy)
        original = self.store.stat(path) if kept else None
        if kept and original and _is_copy(kept, original):
            self.store.delete(kept.path, expect=kept)

    def _copied(self, source: RemoteObject, path: str) -> RemoteObject | None:
        """Return the object at a path if its version proves it to be a copy of the source."""
        found = self.stat(path)
        same = found is not None and (found.size, found.version) == (source.size, source.version)
        return found if same and source.version is not None else None

    def _own(
        self, path: str, size: int, digest: bytes | None, mtime_ns: int | None, operation: str
    ) -> RemoteObject | None:
        """Return the object at a path if it is the one that was to be put there."""
        found = self.stat(path)
        if found is None or found.size != size:
            return None
        if found.operation is not None or found.digest is not None:
            same_content = digest is not None and found.digest == digest
            return found if found.operation == operation or same_content else None
        if not digest or mtime_ns is None or found.mtime_ns != mtime_ns:
            return None
        # Another's object may have its size and its time, too.
        return found if self._digest(found) == digest else None

    def _digest(self, found: RemoteObject) -> bytes | None:
        """Return the SHA-256 of an object by reading it; `None` where it is another by now."""
        content = sha256()
        try:
            with self.read(found.path, expect=found) as reader:
                for chunk in reader:
                    content.update(chunk)
        except (ObjectNotFound, PreconditionFailed):
            return None
        return content.digest()


class RetryBudget:
    """How often and how long one operation is tried; the defaults are everybody's."""

    def __init__(
        self,
        clock: Clock,
        rng: random.Random | None = None,
        attempts: int = ATTEMPTS,
        deadline_seconds: float = DEADLINE_SECONDS,
        began: float | None = None,
    ) -> None:
        """`began` is when the first try did, by the clock, if that is not now."""
        self._clock = clock
        self._rng = rng or random.Random()
        self._left = attempts - 1
        self._bound = FIRST_WAIT_SECONDS
        self._deadline = (clock.monotonic() if began is None else began) + deadline_seconds

    def wait_after(self, error: StoreUnavailable) -> None:
        """Wait for the next attempt, or raise the error when there is none."""
        wait = max(self._rng.uniform(0.0, self._bound), error.retry_after or 0.0)
        if self._left <= 0 or self._clock.monotonic() + wait > self._deadline:
            raise error
        self._left -= 1
        self._bound = min(2 * self._bound, LONGEST_WAIT_SECONDS)
        self._clock.sleep(wait)

    def retried(self, act: Callable[[], T]) -> T:
        """Do what does no harm when it is done twice."""
        while True:
            try:
                return act()
            except StoreUnavailable as error:
                self.wait_after(error)


def _is_copy(kept: RemoteObject, original: RemoteObject) -> bool:
    """Tell whether one is certainly a copy of the other: of the same write, the same digest or the same version."""
    pairs = zip(
        (kept.operation, kept.digest, kept.version),
        (original.operation, original.digest, original.version),
        strict=True,
    )
    return kept.size == original.size and any(a is not None and a == b for a, b in pairs)


def _after(
    last: str, entries: Iterator[RemoteObject | Skipped]
) -> Iterator[RemoteObject | Skipped]:
    """Pass on what comes after a path in the byte order of UTF-8; a raw key may hold what UTF-8 cannot."""
    bound = last.encode(errors="surrogateescape")
    return (entry for entry in entries if entry.path.encode(errors="surrogateescape") > bound)


def concurrency_of(transfers: int, stores: Sequence[Store]) -> Concurrency:
    """Return how many transfers these stores may have under way: a number of them, or `AUTO`."""
    answers = {store.answers for store in stores if isinstance(store, RetryingStore)}
    if len(answers) == 1:
        (only,) = answers
        return concurrency(transfers, _hosts_of(stores), lambda: only.failures)
    return concurrency(
        transfers, _hosts_of(stores), lambda: sum([each.failures for each in answers])
    )


def concurrency_found(stores: Sequence[Store]) -> int | None:
    """Return the number that was found out for these stores; `None` where none was."""
    return known_limit(_hosts_of(stores))


def _hosts_of(stores: Sequence[Store]) -> tuple[str, ...]:
    return tuple(sorted({store.features.host for store in stores} - {""}))
