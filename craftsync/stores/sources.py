"""Content for stores, and helpers shared by them: threads, cleanup after a stop, store health.

A file is read through its open descriptor, never by name, so a file that is
replaced during an upload cannot end up half old and half new.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from hashlib import md5, sha256
from itertools import chain, islice
from types import TracebackType
from typing import Any, TypeVar

from craftsync.clock import Clock
from craftsync.core.model import RemoteObject
from craftsync.core.paths import folders_above, in_trash
from craftsync.errors import (
    CraftsyncError,
    Interrupted,
    PathBusy,
    PathObstructed,
    StoreError,
    StoreUnavailable,
)
from craftsync.hashing import update_in_place
from craftsync.net.pace import PIECE, UNPACED, Pace
from craftsync.net.waiting import after_fork
from craftsync.stores.base import Reader, Store, cancel, renew

_CHUNK = 1024 * 1024

OnBytes = Callable[[int], object]
"""Is called, from any thread, with each number of bytes that has moved; a negative one takes back."""


def check_room(store: Store, path: str, leaving: Container[str] = ()) -> None:
    """Raise `PathObstructed` if a store made of folders has no room for a path, or will not once those `leaving` are gone."""
    if not store.features.folders:
        return
    above = any(folder not in leaving and store.stat(folder) for folder in folders_above(path))
    if above or any(entry.path not in leaving for entry in store.list(f"{path}/")):
        raise PathObstructed(f"{path} cannot be stored: a file and a folder share its path.")


class FileSource:
    """The content of a regular file behind an open descriptor. Implements `base.Source`.

    The constructor reads the file once, for its digest. The caller keeps the
    descriptor open while the source is used, and closes it; its position is
    neither used nor moved.
    """

    pace: Pace = UNPACED

    def __init__(self, descriptor: int, name: str) -> None:
        """`name` is for messages."""
        self._descriptor = descriptor
        self._name = name
        self._fingerprint = _fingerprint(descriptor)
        self.size: int = self._fingerprint[0]
        self.mtime_ns: int | None = self._fingerprint[1]
        self.digest = self._digest()
        self.verify()

    def read_at(self, offset: int, length: int) -> bytes:
        parts = []
        while length and (part := os.pread(self._descriptor, length, offset)):
            parts.append(part)
            offset += len(part)
            length -= len(part)
        if length:
            raise self._changed()
        return b"".join(parts)

    def verify(self) -> None:
        if _fingerprint(self._descriptor) != self._fingerprint:
            raise self._changed()

    def _digest(self) -> bytes:
        digest = sha256()
        for offset in range(0, self.size, _CHUNK):
            digest.update(self.read_at(offset, min(_CHUNK, self.size - offset)))
        return digest.digest()

    def _changed(self) -> PathBusy:
        return PathBusy(f"{self._name} changed while it was read.", remedy="Try again.")


class BytesSource:
    """Bytes in memory as content for a store, sent at `pace`. Implements `base.Source`."""

    def __init__(self, body: bytes, mtime_ns: int | None = None, pace: Pace = UNPACED) -> None:
        self.body = body
        self.pace = pace
        self.size = len(body)
        self.mtime_ns = mtime_ns
        self.digest = update_in_place(sha256(), body).digest()

    @property
    def md5(self) -> str:
        return update_in_place(md5(usedforsecurity=False), self.body).hexdigest()

    def read_at(self, offset: int, length: int) -> bytes:
        return self.body if length == self.size else self.body[offset : offset + length]

    def verify(self) -> None:
        """Bytes in memory do not change."""


class Counted:
    """Keeps `net.pace.Pace`: bytes are counted as they leave, and nothing waits."""

    piece = PIECE

    def __init__(self, on_bytes: OnBytes) -> None:
        self._on_bytes = on_bytes

    def count(self, size: int) -> None:
        self._on_bytes(size)

    def take(self, size: int) -> None:
        """Nothing has to wait."""


class CountedReader:
    """Keeps `stores.base.Reader`: bytes are counted as they come."""

    def __init__(self, reader: Reader, on_bytes: OnBytes) -> None:
        self._reader, self._on_bytes = reader, on_bytes
        self.object, self.properties = reader.object, reader.properties

    def __iter__(self) -> Iterator[bytes | memoryview]:
        for chunk in self._reader:
            self._on_bytes(len(chunk))
            yield chunk


def dated(date: str | None, location: str) -> int:
    """Return when an answer was made, by its date (RFC 9110), in nanoseconds since the epoch."""
    from email.utils import parsedate_to_datetime  # Only a filter by age asks for it.

    with suppress(ValueError, TypeError):
        return int(parsedate_to_datetime(date or "").timestamp()) * 10**9
    raise StoreError(
        f"{location} does not say what time it is: the age of its objects is not known.",
        remedy="Leave out --max-age and --min-age.",
    )


def _fingerprint(descriptor: int) -> tuple[int, int, int]:
    """Return size, mtime and ctime, which change whenever the content does."""
    status = os.fstat(descriptor)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


T = TypeVar("T")

Enter = Callable[[AbstractContextManager[T]], T]
"""Enters a context manager."""


class Opening(AbstractContextManager[T]):
    """A context manager entered by `attempt`, which may retry; exits the last one that was entered."""

    def __init__(self, attempt: Callable[[Enter[T]], T]) -> None:
        self._attempt = attempt

    def __enter__(self) -> T:
        return self._attempt(self._enter)

    def _enter(self, opened: AbstractContextManager[T]) -> T:
        self._opened = opened
        return opened.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return self._opened.__exit__(kind, error, traceback)


_GRACE_SECONDS = 1.0
"""A stop must complete within two seconds."""

Result = TypeVar("Result")


@contextmanager
def workers(count: int, name: str, *stores: object) -> Iterator[ThreadPoolExecutor]:
    """Yield an executor with `count` threads that use `stores`, and shut it down afterwards.

    A stop cancels these stores; otherwise it would wait for one that does not
    respond.
    """
    with ThreadPoolExecutor(count, name) as pool:
        try:
            yield pool
        except KeyboardInterrupt as error:
            with _cancelled(stores, error):
                pool.shutdown(cancel_futures=True)
            raise


Given = TypeVar("Given")
AT_ONCE = 16
"""Objects under way at the same time."""
SMALL_AT_ONCE = 64
"""As `AT_ONCE`, of requests without content, which take no memory and little time."""
BREAKS = (Exception, KeyboardInterrupt)


def at_once(
    given: Iterable[Given], act: Callable[[Given], Result], *stores: object, most: int = AT_ONCE
) -> Iterator[Result]:
    """Yield what `act` returns for each, in their order, with up to `most` of them under way; a stop cancels the stores.

    What raises ends it, once all that was done nevertheless has been yielded.
    """
    rest = iter(given)
    first = list(islice(rest, 2))
    if len(first) == 1:
        # A thread for one object would only be in the way of a stop.
        yield act(first[0])
        return
    waiting = deque[Future[Result]]()
    try:
        with workers(most, "objects", *stores) as pool:
            try:
                for each in chain(first, rest):
                    waiting.append(pool.submit(act, each))
                    if len(waiting) > 2 * most:
                        yield _ended_first(waiting)
                while waiting:
                    yield _ended_first(waiting)
            except KeyboardInterrupt:
                # Most of what is under way ends in a moment, and cut off it might be done all the same.
                wait([left for left in waiting if not left.cancel()], timeout=_GRACE_SECONDS)
                raise
            finally:
                for left in waiting:
                    left.cancel()
    except BREAKS:
        for left in waiting:
            if left.done() and not left.cancelled() and left.exception() is None:
                yield left.result()
        raise


def kept(store: Store, stamp: str, path: str) -> RemoteObject | None:
    """Return the trash's copy of `path` under a stamp; `None` if there is none, or the stat fails.

    Versions that a bucket keeps itself are not in the trash.
    """
    if store.features.keeps_versions:
        return None
    with suppress(CraftsyncError):
        return store.stat(in_trash(stamp, path))
    return None


def delete_singly(store: Store, paths: Iterable[str]) -> dict[str, CraftsyncError]:
    """Do what `Store.delete_each` does with a request for each path, many at once.

    Once the store is unavailable, no more are tried, and all the rest fails with its error.
    """
    unavailable: list[CraftsyncError] = []

    def delete(path: str) -> tuple[str, CraftsyncError | None]:
        if unavailable:
            return path, unavailable[0]
        try:
            store.delete(path, expect=None)
        except CraftsyncError as error:
            if isinstance(error, StoreUnavailable):
                unavailable.append(error)
            return path, error
        return path, None

    ended = at_once(paths, delete, store, most=SMALL_AT_ONCE)
    return {path: error for path, error in ended if error is not None}


class PartPool:
    """Threads that transfer the parts of large objects: one small pool for a store, which bounds the memory.

    A process that is forked off gets threads of its own.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._start()
        after_fork(self, PartPool._start)

    def _start(self) -> None:
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="parts")

    def submit(self, transfer: Callable[..., Result], *arguments: Any) -> Future[Result]:
        return self._pool.submit(transfer, *arguments)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def _ended_first(waiting: deque[Future[Result]]) -> Result:
    result = waiting[0].result()
    waiting.popleft()
    return result


def gathered(futures: Sequence[Future[Result]], *stores: object) -> list[Result]:
    """Return the results of all futures; when it raises, for an error or a stop, all have ended."""
    try:
        return [future.result() for future in futures]
    except BaseException as error:
        for future in futures:
            future.cancel()
        with _cancelled(stores, error):
            wait(futures)
        raise


class Beside:
    """One call, made beside whatever else a store is used for."""

    def __init__(self, store: object) -> None:
        self._store = store
        self._forget()
        after_fork(self, Beside._forget)

    def _forget(self) -> None:
        """Leave it to the parent process, whose thread makes it."""
        self._ending: Callable[[], object] | None = None

    def begin(self, call: Callable[[], object]) -> None:
        pool = ThreadPoolExecutor(1, "beside")
        under_way = pool.submit(call)
        pool.shutdown(wait=False)

        def end() -> None:
            try:
                gathered([under_way], self._store)
            except Interrupted:
                call()

        self._ending = end

    def end(self) -> None:
        """Return once it is made. It is made again if the failure of a run cut it off; a stop leaves it at that."""
        if self._ending is not None:
            with suppress(Interrupted):
                self._ending()


@contextmanager
def briefly(*stores: object) -> Iterator[None]:
    """Limit a block of cleanup after a stop to one second; then the stores are cancelled."""
    timers = [threading.Timer(_GRACE_SECONDS, cancel, [store]) for store in stores]
    for timer in timers:
        timer.start()
    try:
        with suppress(Interrupted):
            yield
    finally:
        for timer in timers:
            timer.cancel()


@contextmanager
def tidied(tidy: Callable[[], object], *stores: object) -> Iterator[None]:
    """Call `tidy` at the end of the block, after a stop within `briefly`."""
    pace: AbstractContextManager[None] = nullcontext()
    try:
        yield
    except KeyboardInterrupt:
        pace = briefly(*stores)
        raise
    finally:
        with pace:
            tidy()


@contextmanager
def _cancelled(stores: Sequence[object], error: BaseException) -> Iterator[None]:
    """Cancel the stores for a block, if `error` is a signal.

    Whoever raised `Interrupted` has cancelled them, and renews them once all threads
    have ended: renewed here, those that still run would continue.
    """
    if isinstance(error, Interrupted) or not isinstance(error, KeyboardInterrupt):
        yield
        return
    for store in stores:
        cancel(store)
    try:
        yield
    finally:
        for store in stores:
            renew(store)


_SOON_SECONDS = 5.0
"""A failure counts once the last response is this old; before, it may be one of many refused requests."""
_SILENT_SECONDS = 45.0
"""A store counts as unreachable when a short request has no response for this long."""


class StoreHealth:
    """Tracks whether a store responds. Thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self.now = clock.monotonic
        self._start()
        after_fork(self, StoreHealth._start)

    def _start(self) -> None:
        self.lock = threading.Lock()
        self.pending: dict[object, float] = {}
        self.failure: str | None = None
        self.failures = 0
        """How many attempts got no response, or were refused."""
        self.last = self.now()

    def attempt(self, *, short: bool) -> AbstractContextManager[None]:
        """Record how an attempt ends; a `short` one takes long only if the store does not respond.

        An error response counts as a response; an interrupted attempt does not count.
        """
        return _Attempt(self, short)

    def failed(self, error: StoreUnavailable, attempt: object = None) -> None:
        """Record an attempt without a response."""
        with self.lock:
            self.pending.pop(attempt, None)
            self.failure = str(error)
            self.failures += 1

    def trouble(self, silent_seconds: float = _SILENT_SECONDS) -> str | None:
        """Return why the store counts as unreachable, `None` while it responds.

        It does too when a short request has had no response for `silent_seconds`.
        """
        with self.lock:
            now = self.now()
            silent = now - self.last
            if self.failure is not None:
                return self.failure if silent >= _SOON_SECONDS else None
            oldest = min(self.pending.values(), default=now)
            if min(silent, now - oldest) >= silent_seconds:
                return "the store does not answer"
        return None


class _Attempt:
    """A class because one is entered for each request and a generator takes three times as long."""

    __slots__ = ("_health", "_short")

    def __init__(self, health: StoreHealth, short: bool) -> None:
        self._health = health
        self._short = short

    def __enter__(self) -> None:
        health = self._health
        with health.lock:
            now = health.now()
            if not health.pending and health.failure is None:
                health.last = now
            if self._short:
                health.pending[self] = now

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        health = self._health
        if isinstance(error, StoreUnavailable):
            health.failed(error, self)
            return
        with health.lock:
            health.pending.pop(self, None)
            if error is None or isinstance(error, Exception):
                health.failure, health.last = None, health.now()
