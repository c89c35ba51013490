"""What all stores share: sources of content, worker threads, cleanup after a stop, store health.

A file is read through its open descriptor, never by name, so an upload cannot mix the content of
a file with that of one that replaces it.
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
"""Called, from any thread, with the number of bytes just moved; a negative number takes bytes back."""


def check_room(store: Store, path: str, leaving: Container[str] = ()) -> None:
    """Raise `PathObstructed` if another object obstructs a path in a store made of folders.

    Objects at the paths `leaving` count as gone.
    """
    if not store.features.folders:
        return
    above = any(folder not in leaving and store.stat(folder) for folder in folders_above(path))
    if above or any(entry.path not in leaving for entry in store.list(f"{path}/")):
        raise PathObstructed(f"{path} cannot be stored: a file and a folder share its path.")


class FileSource:
    """The content of a regular file, read through an open descriptor. Implements `base.Source`.

    The constructor reads the whole file to compute its digest. The caller keeps the descriptor
    open while the source is used, and closes it. Its position is neither used nor moved.
    """

    pace: Pace = UNPACED

    def __init__(self, descriptor: int, name: str) -> None:
        """`name` is the file's name in messages."""
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
    """Bytes in memory as content to write, sent at `pace`. Implements `base.Source`."""

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
        """Do nothing: bytes in memory do not change."""


class Counted:
    """A `net.pace.Pace` that counts bytes as they are sent, and limits nothing."""

    piece = PIECE

    def __init__(self, on_bytes: OnBytes) -> None:
        self._on_bytes = on_bytes

    def count(self, size: int) -> None:
        self._on_bytes(size)

    def take(self, size: int) -> None:
        """Do nothing: no rate limit."""


class CountedReader:
    """A `stores.base.Reader` that counts bytes as they arrive."""

    def __init__(self, reader: Reader, on_bytes: OnBytes) -> None:
        self._reader, self._on_bytes = reader, on_bytes
        self.object, self.properties = reader.object, reader.properties

    def __iter__(self) -> Iterator[bytes | memoryview]:
        for chunk in self._reader:
            self._on_bytes(len(chunk))
            yield chunk


def dated(date: str | None, location: str) -> int:
    """Return the time in a Date header (RFC 9110), in nanoseconds since the epoch.

    Raises `StoreError` if it is missing or invalid; `location` names the store in the message.
    """
    from email.utils import parsedate_to_datetime  # Only a filter by age needs it.

    with suppress(ValueError, TypeError):
        return int(parsedate_to_datetime(date or "").timestamp()) * 10**9
    raise StoreError(
        f"{location} does not say what time it is: the age of its objects is not known.",
        remedy="Leave out --max-age and --min-age.",
    )


def _fingerprint(descriptor: int) -> tuple[int, int, int]:
    """Return size, mtime and ctime: at least one changes whenever the content does."""
    status = os.fstat(descriptor)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


T = TypeVar("T")

Enter = Callable[[AbstractContextManager[T]], T]
"""Enters a context manager."""


class Opening(AbstractContextManager[T]):
    """A context manager that `attempt` enters, with retries. On exit it exits the one entered last."""

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
"""Seconds of cleanup after a stop, which must complete within two."""

Result = TypeVar("Result")


@contextmanager
def workers(count: int, name: str, *stores: object) -> Iterator[ThreadPoolExecutor]:
    """Yield an executor with `count` threads that use `stores`, and shut it down afterwards.

    A stop cancels these stores; otherwise it would wait for one that does not respond.
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
"""The most objects transferred at once."""
SMALL_AT_ONCE = 64
"""As `AT_ONCE`, for requests without content, which take no memory and little time."""
BREAKS = (Exception, KeyboardInterrupt)


def at_once(
    given: Iterable[Given], act: Callable[[Given], Result], *stores: object, most: int = AT_ONCE
) -> Iterator[Result]:
    """Yield the results of `act` in the order of `given`, with up to `most` calls at once.

    A stop cancels `stores`. After an error no further call is made, and the error is raised
    once the results of all calls that succeeded have been yielded.
    """
    rest = iter(given)
    first = list(islice(rest, 2))
    if len(first) == 1:
        # For a single object a thread would only delay a stop.
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
                # Most calls end within a moment. The effect of one that is cut off is unknown.
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
    """Return the trash copy of `path` under a stamp; `None` if it does not exist or its stat fails.

    Versions that a bucket keeps itself are not in the trash.
    """
    if store.features.keeps_versions:
        return None
    with suppress(CraftsyncError):
        return store.stat(in_trash(stamp, path))
    return None


def delete_singly(store: Store, paths: Iterable[str]) -> dict[str, CraftsyncError]:
    """Implement `Store.delete_each` with one request for each path, many at once.

    After a `StoreUnavailable`, no further path is tried, and all of them get that error.
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
    """Threads that transfer the parts of large objects: one small pool for each store limits the memory.

    A forked process gets threads of its own.
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
    """Return the results of all futures. If it raises, all of them have ended before."""
    try:
        return [future.result() for future in futures]
    except BaseException as error:
        for future in futures:
            future.cancel()
        with _cancelled(stores, error):
            wait(futures)
        raise


class Beside:
    """One call to a store, made in a thread of its own while the store is used for other work."""

    def __init__(self, store: object) -> None:
        self._store = store
        self._forget()
        after_fork(self, Beside._forget)

    def _forget(self) -> None:
        """After a fork: leave the call to the parent process, whose thread makes it."""
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
        """Return once the call has ended. If a failure of the run cut it off, make it again; a stop ends it."""
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
    """Call `tidy` at the end of the block; after a stop, within the time of `briefly`."""
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
    """Cancel the stores for the block, if `error` is a signal.

    Not after `Interrupted`: the code that raised it has cancelled them, and renews them once all
    threads have ended. Renewed here, threads that still run would continue.
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
"""A failure counts once the last response is this old. Before, the store may just be refusing some requests."""
_SILENT_SECONDS = 45.0
"""A store counts as unreachable once a short request has had no response for this long."""


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
        """Record how an attempt ends. A `short` one takes long only if the store does not respond.

        An error response is a response. An interrupted attempt does not count.
        """
        return _Attempt(self, short)

    def failed(self, error: StoreUnavailable, attempt: object = None) -> None:
        """Record an attempt without a response."""
        with self.lock:
            self.pending.pop(attempt, None)
            self.failure = str(error)
            self.failures += 1

    def trouble(self, silent_seconds: float = _SILENT_SECONDS) -> str | None:
        """Return why the store counts as unreachable, or `None` while it responds.

        It counts as unreachable after a failure, or once a short request has had no response
        for `silent_seconds`.
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
    """A class, because each request enters one and a generator takes three times as long."""

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
