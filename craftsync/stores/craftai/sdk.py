"""`transport: sdk`: uses the five public functions of the platform's SDK instead of its API.

It is the fallback for the day that the API takes a form unknown to `platform`; the store above it
is the same. The functions are slow and lose data (they ignore failed parts, drop last bytes, round
sizes, have no timeout). So no write of theirs is trusted: each is checked by a stat or read back.
`LIMITS` is the warning about what that costs.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from craftsync.clock import Clock
from craftsync.core.model import RemoteObject
from craftsync.errors import (
    CraftsyncError,
    Interrupted,
    ObjectNotFound,
    PathRefused,
    StoreFull,
    StoreUnavailable,
    UsageError,
)
from craftsync.install_hint import install_command
from craftsync.net.pace import Attempt
from craftsync.net.waiting import CHECK_SECONDS, after_fork, blocking
from craftsync.stores.base import Source, pace_of, written_already
from craftsync.stores.craftai.errors import Answer, about_the_store, broken, refused
from craftsync.stores.craftai.listing import described, moment_of
from craftsync.stores.craftai.platform import Access
from craftsync.stores.craftai.signed import Body, Receipt
from craftsync.stores.craftai.sizes import KnownSizes, Shown, is_size, shown_as, smallest_size

LIMITS = (
    "%s is used through the SDK's public functions (transport: sdk): %s transfers at once, no"
    " resuming, objects up to %s bytes, a whole listing and whole objects in memory. Sizes are"
    " shown rounded, so an object that is new to this machine is read once to learn its size, and"
    " a change that keeps the rounded size within one tick of the platform's clock goes unseen."
    " Uploads from %s bytes on are read back."
)
OLDEST_TESTED, NEWEST_TESTED = (0, 50), (0, 74)
_MOST_THREADS = 64
"""Includes threads that still wait for a response after their caller has given up."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SdkLimits:
    """Limits for the public functions. Sizes are bytes."""

    slots: int = 2
    threshold: int = 100_000_000
    """From this size on, the SDK uploads in parts, and the object is read back."""
    largest: int | None = None
    """Larger objects are refused; `None` derives it from the free memory."""
    call_seconds: float = 60.0
    slowest_bytes_per_second: float = 100_000.0
    """A transfer whose average is slower is abandoned."""


class NotAsShown(StoreUnavailable):
    """The received bytes cannot be the object that the platform shows."""


class _Content:
    """Bytes as a file for the SDK to read, until the caller has given up.

    It has no name, because the SDK would send one. The last byte is never returned alone: the SDK
    drops a byte that it has read ahead (0.74.7, utils/file_utils.py:21-38).
    """

    def __init__(self, content: bytes, is_left: Callable[[], bool]) -> None:
        self._content, self._is_left, self._at = content, is_left, 0

    def read(self, size: int = -1) -> bytes:
        if self._is_left():
            raise Interrupted
        left = len(self._content) - self._at
        if size < 0 or (size > 1 and left == size + 1):
            size = left
        start, self._at = self._at, self._at + min(size, left)
        return self._content[start : self._at]

    def seek(self, offset: int) -> int:
        self._at = offset
        return offset


class _Threads:
    """Calls the SDK, each time in a thread, so that every call ends within its time.

    A waiting thread cannot be ended. One that takes too long is abandoned; until it ends, no other
    call may change the object that it changes.
    """

    def __init__(self, make: Callable[[], Any], slots: int, clock: Clock) -> None:
        """`make` returns an instance of the SDK. Each thread at work has its own: they are not thread-safe."""
        self._make, self._count, self._clock = make, slots, clock
        self._cancelled = False
        self._start()
        after_fork(self, _Threads._start)

    def _start(self) -> None:
        self._slots = threading.BoundedSemaphore(self._count)
        self._lock = threading.Lock()
        self.idle: list[Any] = []
        self._running: dict[threading.Thread, str] = {}
        self._awaited = set[Future[Any]]()

    def call(self, act: Callable[..., Any], seconds: float, changed: str) -> Any:
        """Return the result of `act`, called with the SDK and a function that returns whether it was abandoned.

        `changed` is the key that it changes, or "". Raises `StoreUnavailable` after `seconds`.
        """
        result: Future[Any] = Future()
        thread = threading.Thread(target=self._carry_out, args=(act, result), daemon=True)
        while not self._slots.acquire(timeout=CHECK_SECONDS):
            """Short waits, so that a signal is handled between them."""
        self._awaited.add(result)
        try:
            self._begin(thread, changed)
            end = self._clock.monotonic() + seconds
            while not result.done() and (left := end - self._clock.monotonic()) > 0:
                wait([result], min(left, CHECK_SECONDS))
            late = f"The platform did not answer the SDK within {seconds:.0f} s."
            _fail(result, StoreUnavailable(late, ambiguous=bool(changed)))
            return result.result()
        finally:
            self._awaited.discard(result)
            _fail(result, Interrupted())
            self._end(thread)
            self._slots.release()

    def _end(self, thread: threading.Thread) -> None:
        """Make an abandoned thread end when it returns from its wait, whatever the SDK would do next."""
        with self._lock:  # Without the lock, the thread's id could be another thread's by now.
            if thread in self._running and thread.is_alive():
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit)
                )

    def cancel(self) -> None:
        self._cancelled = True
        for result in list(self._awaited):
            _fail(result, Interrupted())

    def renew(self) -> None:
        self._cancelled = False

    def _begin(self, thread: threading.Thread, changed: str) -> None:
        with self._lock:
            if self._cancelled:
                raise Interrupted
            for each in [each for each in self._running if not each.is_alive()]:
                del self._running[each]
            if changed and changed in self._running.values():
                raise StoreUnavailable(
                    f"An earlier change of {changed} has not ended.", ambiguous=False
                )
            if len(self._running) >= _MOST_THREADS:
                raise StoreUnavailable(
                    f"{_MOST_THREADS} calls of the SDK wait for an answer.",
                    remedy="Check the network; stop craftsync and start it again.",
                    ambiguous=False,
                )
            thread.start()
            self._running[thread] = changed

    def _carry_out(self, act: Callable[..., Any], result: Future[Any]) -> None:
        with suppress(SystemExit):
            try:
                with self._lock:
                    sdk = self.idle.pop() if self.idle else None
                sdk = sdk or self._make()
                settle: Callable[[], None] = partial(result.set_result, act(sdk, result.done))
                self.idle.append(sdk)
            except (Exception, Interrupted) as error:  # noqa: BLE001 (the caller raises it)
                settle = partial(result.set_exception, error)
            with self._lock:
                self._running.pop(threading.current_thread(), None)
            with suppress(InvalidStateError):
                settle()


def _fail(result: Future[Any], error: BaseException) -> None:
    """End a call with an error, unless it has ended."""
    with suppress(InvalidStateError):
        result.set_exception(error)


class Sdk:
    """Implements `Transport` over the SDK's public functions; each object is sent and fetched as a whole.

    The constructor sends no request, and logs the limits as a warning.
    """

    date: str | None = None

    def __init__(self, access: Access, clock: Clock, limits: SdkLimits | None = None) -> None:
        """Raises `UsageError` if the SDK is not installed or there is no token."""
        limits = limits or SdkLimits()
        self._access, self._limits = access, limits
        self._largest = limits.largest or _largest_object(limits.slots)
        self._threads = _Threads(_maker(access), limits.slots, clock)
        self._sizes = KnownSizes(access.location)
        place, numbers = access.location, (self._largest, limits.threshold)
        _log.warning(LIMITS, place, limits.slots, *(f"{number:,}" for number in numbers))

    def list_page(self, folder: str | None, token: str | None) -> Any:
        """Return the whole environment as one page: what a folder means to the SDK is undocumented."""

        def listed(sdk: Any, _: object) -> dict[str, Shown]:
            found: dict[str, Shown] = {}
            # In older versions this function never ends if a token leads back.
            for entry in getattr(sdk, "iter_data_store_objects", sdk.list_data_store_objects)():
                if entry["path"] in found:
                    raise broken(self._access.location, "its pages go round in circles")
                found[entry["path"]] = shown_as(entry["path"], entry)
            return found

        shown = self._call(listed, "")
        self._sizes.keep_only(shown.keys())
        return {"items": list(filter(None, map(self._entry, shown.values())))}

    def stat(self, key: str) -> RemoteObject | None:
        shown = self._look(key)
        entry = None if shown is None else self._entry(shown)
        return None if entry is None else described(entry, key)

    def delete(self, key: str) -> None:
        """Delete an object; succeeds if it does not exist."""
        with suppress(ObjectNotFound):
            self._call(lambda sdk, _: sdk.delete_data_store_object(key), key, changes=True)

    def download_url(self, key: str) -> str:
        """Return an empty URL: the SDK gets its own."""
        return ""

    def put(self, key: str, source: Source, before: Callable[[], object]) -> Receipt:
        """Upload an object, after `before` has returned. Not `intact` if the store then holds another.

        The SDK reports no progress, so the pace counts the object as a whole.
        """
        before()
        self._refuse_if_too_large(key, source.size)
        content = source.read_at(0, source.size)
        source.verify()
        with Attempt(pace_of(source)) as attempt:
            attempt.take(source.size)
            self._upload(key, content)
            attempt.count(source.size)
        with written_already():
            is_stored = self._holds(key, content)
        digest = hashlib.sha256(content).digest()
        return Receipt(None, None, None if is_stored else False, digest=digest)

    def _upload(self, key: str, content: bytes) -> None:
        def act(sdk: Any, is_left: Callable[[], bool]) -> None:
            sdk.upload_data_store_object(_Content(content, is_left), key)

        try:
            self._call(act, key, len(content), changes=True)
        except PathRefused as error:
            if len(content) < self._limits.threshold or '"path_to_object"' in str(error):
                raise
            # The SDK completes an upload even if a part failed (data_store.py:192-200).
            raise StoreUnavailable(f"The upload of {key} failed: {error}") from error

    def _holds(self, key: str, content: bytes) -> bool:
        """Return whether the store holds the uploaded object, as far as is visible. Reads back one sent in parts."""
        shown, size = self._look(key), len(content)
        if shown is None or not is_size(shown.size, size):
            return False
        if size >= self._limits.threshold:
            return self._fetched(shown) == content
        self._sizes.learn(shown, size)
        return True

    @contextmanager
    def get(
        self, url: str, key: str, *, etag: str | None, offset: int, length: int | None
    ) -> Iterator[Body]:
        """Fetch an object, always as a whole."""
        shown = self._look(key)
        if shown is None:
            raise ObjectNotFound(f"There is no {key} in {self._access.location}.")
        content = self._fetched(shown)
        modified_ns = moment_of(shown.modified)[0]
        yield Body(0, len(content), len(content), None, modified_ns, iter([content]))

    def etag(self, key: str) -> str | None:
        """Return the MD5 of an object, by reading it."""
        shown = self._look(key)
        if shown is None:
            return None
        return f'"{hashlib.md5(self._fetched(shown), usedforsecurity=False).hexdigest()}"'

    def cancel(self) -> None:
        self._threads.cancel()

    def renew(self) -> None:
        self._threads.renew()

    def close(self) -> None:
        self._sizes.save()

    def _look(self, key: str) -> Shown | None:
        try:
            found: Shown = self._call(
                lambda sdk, _: shown_as(key, sdk.get_data_store_object_information(key)), key
            )
        except ObjectNotFound:
            return None
        return found

    def _entry(self, shown: Shown) -> dict[str, object] | None:
        """Return an object in the form of the platform's API; `None` if it is gone.

        Finding the exact size may need a read of the object. If it cannot be read, its size is the
        smallest that it may have.
        """
        size = self._sizes.of(shown)
        if size is None:
            try:
                size = len(self._fetched(shown))
            except ObjectNotFound:
                return None
            except (StoreFull, NotAsShown):
                size = smallest_size(shown.size)
        return {"path": shown.key, "last_modified": shown.modified, "size": size}

    def _fetched(self, shown: Shown) -> bytes:
        """Return an object's content. Raises if its size is not the shown one, as that of a proxy's page."""
        self._refuse_if_too_large(shown.key, smallest_size(shown.size))
        received = BytesIO()
        self._call(
            lambda sdk, _: sdk.download_data_store_object(shown.key, received),
            *(shown.key, smallest_size(shown.size)),
        )
        content = received.getvalue()
        if not is_size(shown.size, len(content)):
            raise NotAsShown(
                f"{shown.key}: {len(content):,} bytes arrived where the platform shows {shown.size}.",
                remedy="An object stored with a Content-Encoding cannot be read by this version"
                " of the SDK; otherwise something on the way changes data.",
                ambiguous=False,
            )
        if self._look(shown.key) != shown:
            raise StoreUnavailable(f"{shown.key} changed while it was read.", ambiguous=False)
        self._sizes.learn(shown, len(content))
        return content

    def _refuse_if_too_large(self, key: str, size: int) -> None:
        if size > self._largest:
            raise StoreFull(
                f"{key} has {size:,} bytes; through the SDK's public functions, which hold an"
                f" object in memory, at most {self._largest:,} can be carried here.",
                remedy="Use transport: api if `craftsync doctor` finds it well, or more memory.",
            )

    def _call(
        self, act: Callable[..., Any], key: str, size: int = 0, *, changes: bool = False
    ) -> Any:
        """Call the SDK in a thread. If the token was refused, call it again with new instances, once."""
        seconds = self._limits.call_seconds + size / self._limits.slowest_bytes_per_second
        call = partial(self._threads.call, act, seconds, key if changes else "")
        try:
            try:
                return blocking(call)
            except Exception as error:
                if getattr(error, "status_code", None) != 401:
                    raise
                self._threads.idle.clear()
                return blocking(call)
        except CraftsyncError:
            raise
        except Exception as error:
            raise _translated(error, self._access.location, key, changes) from error


def _maker(access: Access) -> Callable[[], Any]:
    """Return a function that makes instances of the SDK."""
    try:
        with warnings.catch_warnings():  # Importing it sets a filter for the whole process.
            from craft_ai_sdk import CraftAiSdk
    except ImportError as error:
        raise UsageError(
            "transport: sdk needs the platform's SDK, which is not installed.",
            remedy=f"Install it with: {install_command('sdk')}",
        ) from error
    from requests.utils import get_netrc_auth

    for url in (access.environment_url, access.control_url):
        if get_netrc_auth(url):
            raise UsageError(
                f"The SDK would send the login in .netrc for {url} in the place of the token.",
                remedy="Take that entry out, or set NETRC=/dev/null.",
            )
    access.token()
    make: Callable[..., Any] = CraftAiSdk
    return lambda: make(
        sdk_token=access.token(),
        environment_url=access.environment_url,
        control_url=access.control_url,
        verbose_log=False,
    )


def _largest_object(slots: int) -> int:
    """Return the size of object at which all slots together take half of the free memory.

    A transfer holds its object twice (data_store.py:245-250).
    """
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
    return max(available // 2 // slots // 2, 16 << 20)


def _translated(error: Exception, location: str, key: str, changes: bool) -> CraftsyncError:
    """Return craftsync's error for an exception of the SDK."""
    if isinstance(error, MemoryError):
        return StoreFull(f"{key} does not fit the memory.")
    status, name = getattr(error, "status_code", None), str(getattr(error, "name", None) or "")
    if isinstance(status, int) and status >= 400:
        message = " ".join(str(getattr(error, "message", "")).split())[:300].rstrip(".")
        answer = Answer(status, name, message, structured=bool(name))
        return refused(answer, location, key) if key else about_the_store(answer, location)
    # Not an error response: the network failed, or the SDK could not read the response.
    return StoreUnavailable(
        f"{location} could not be reached, or was not understood: {type(error).__name__}.",
        remedy="Check the network and the environment's address.",
        ambiguous=changes,
    )
