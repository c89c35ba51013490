"""Content for a store, and what the work with stores shares: threads, opening with retries, counts.

A file is read through its open descriptor, never by name, so a file that is
replaced during an upload cannot end up half old and half new.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from email.utils import parsedate_to_datetime
from hashlib import md5, sha256
from types import TracebackType
from typing import TypeVar

from craftsync.clock import Clock
from craftsync.errors import Interrupted, PathBusy, StoreError, StoreUnavailable
from craftsync.hashing import update_in_place
from craftsync.net.pace import PIECE, UNPACED, Pace
from craftsync.net.waiting import after_fork
from craftsync.stores.base import Reader, cancel, renew

_CHUNK = 1024 * 1024

OnBytes = Callable[[int], object]
"""Is called, from any thread, with each number of bytes that has moved; a negative one takes back."""


class FileSource:
    """The content of a regular file behind an open descriptor, as `base.Source` asks for it.

    Making one reads the file once, for its digest. The descriptor stays the
    caller's: it must be open for as long as the source is used, and its own
    position is neither used nor moved.
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
    """Bytes in memory as content for a store; they leave at `pace`."""

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
    with suppress(ValueError, TypeError):
        return int(parsedate_to_datetime(date or "").timestamp()) * 10**9
    raise StoreError(
        f"{location} does not say what time it is: the age of its objects is not known.",
        remedy="Leave out --max-age and --min-age.",
    )


def _fingerprint(descriptor: int) -> tuple[int, int, int]:
    """Return size, mtime and ctime: while all three stay, so does the content."""
    status = os.fstat(descriptor)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


T = TypeVar("T")

Enter = Callable[[AbstractContextManager[T]], T]
"""Enters a context; what was entered last is left in the end."""


class Opening(AbstractContextManager[T]):
    """Enters what `attempt` enters, with the means it is given, and leaves it at the end."""

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
"""A stop is to be through within two seconds."""

Result = TypeVar("Result")


@contextmanager
def workers(count: int, name: str, *stores: object) -> Iterator[ThreadPoolExecutor]:
    """Lend `count` threads that work on `stores`, all of them ended afterwards.

    A stop that passes through cancels what they wait for in these stores;
    without that it would wait for a store that is silent.
    """
    with ThreadPoolExecutor(count, name) as pool:
        try:
            yield pool
        except KeyboardInterrupt:
            with _cancelled(stores):
                pool.shutdown(cancel_futures=True)
            raise


def gathered(futures: Sequence[Future[Result]], *stores: object) -> list[Result]:
    """Return what the futures return; when one fails or a stop comes, none is under way any more once this raises."""
    try:
        return [future.result() for future in futures]
    except BaseException as error:
        for future in futures:
            future.cancel()
        # Whoever raised Interrupted has cancelled the stores, and renews them.
        stopped = isinstance(error, KeyboardInterrupt) and not isinstance(error, Interrupted)
        with _cancelled(stores if stopped else ()):
            wait(futures)
        raise


@contextmanager
def briefly(*stores: object) -> Iterator[None]:
    """Give what is tidied up after a stop a second; then the stores are cancelled, and it ends there."""
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
    """Call `tidy` at the end of the block, and after a stop as `briefly` says."""
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
def _cancelled(stores: Sequence[object]) -> Iterator[None]:
    for store in stores:
        cancel(store)
    try:
        yield
    finally:
        for store in stores:
            renew(store)


_SOON_SECONDS = 5.0
"""So long after the last answer a failure is more than one of many requests turned away."""
_SILENT_SECONDS = 45.0
"""So long a short question stays unanswered by a store that is not there."""


class Answers:
    """Notes how attempts end. Any thread may call it."""

    def __init__(self, clock: Clock) -> None:
        self.now = clock.monotonic
        self._start()
        after_fork(self, Answers._start)

    def _start(self) -> None:
        self.lock = threading.Lock()
        self.asked: dict[object, float] = {}
        self.failure: str | None = None
        self.failures = 0
        """How many attempts got no answer, or were turned away."""
        self.last = self.now()

    def noted(self, *, short: bool) -> AbstractContextManager[None]:
        """Note how an attempt ends; a `short` one takes long only when nobody answers it.

        That it was answered counts also if with an error; one that was interrupted tells nothing.
        """
        return _Attempt(self, short)

    def failed(self, error: StoreUnavailable, attempt: object = None) -> None:
        """Note an attempt that got no answer."""
        with self.lock:
            self.asked.pop(attempt, None)
            self.failure = str(error)
            self.failures += 1

    def trouble(self) -> str | None:
        """Return why the store counts as away: it has failed, or was silent, ever since its last answer."""
        with self.lock:
            now = self.now()
            silent = now - self.last
            if self.failure is not None:
                return self.failure if silent >= _SOON_SECONDS else None
            oldest = min(self.asked.values(), default=now)
            if min(silent, now - oldest) >= _SILENT_SECONDS:
                return "the store does not answer"
        return None


class _Attempt:
    """A class, since one is entered for each request and a generator takes three times as long."""

    __slots__ = ("_answers", "_short")

    def __init__(self, answers: Answers, short: bool) -> None:
        self._answers = answers
        self._short = short

    def __enter__(self) -> None:
        answers = self._answers
        with answers.lock:
            now = answers.now()
            if not answers.asked and answers.failure is None:
                answers.last = now
            if self._short:
                answers.asked[self] = now

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        answers = self._answers
        if isinstance(error, StoreUnavailable):
            answers.failed(error, self)
            return
        with answers.lock:
            answers.asked.pop(self, None)
            if error is None or isinstance(error, Exception):
                answers.failure, answers.last = None, answers.now()
