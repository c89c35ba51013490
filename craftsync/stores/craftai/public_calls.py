"""The SDK's public functions as calls that end in time and fail in craftsync's words.

Each is carried out by one of a few worker processes. What is known to go wrong
inside the functions (craft-ai-sdk 0.74.7) is kept out here: sizes that lose
their last byte get other parts, netrc is out of reach, memory is limited.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

from craftsync.clock import Clock
from craftsync.errors import (
    CraftsyncError,
    Interrupted,
    ListingBroken,
    ObjectNotFound,
    PathRefused,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from craftsync.net.waiting import blocking, in_children
from craftsync.stores.craftai.access import Access
from craftsync.stores.craftai.child_process import CallFailed, ChildProcess
from craftsync.stores.craftai.errors import Answer, about_the_store, refused
from craftsync.stores.craftai.public_sizes import Shown, shown_as, smallest_size

GRANULE = 256 * 1024
"""What part sizes are a multiple of, for GCS's resumable uploads (craft-ai-sdk 0.74.7, sdk.py:134)."""
MOST_PARTS = 10_000
_PATTERN = '"path_to_object"'
"""What a refusal of the name itself speaks of."""


@dataclass(frozen=True, slots=True)
class PublicLimits:
    """How much the public functions are trusted with. Sizes are bytes."""

    slots: int = 2
    """Worker processes, each with one transfer at a time."""
    threshold: int = 100_000_000
    """From this size on the SDK uploads in parts, and what was uploaded is read back."""
    part_size: int = 38 * GRANULE
    largest: int | None = None
    """Larger objects are refused; `None` takes it from the memory that is free."""
    start_seconds: float = 60.0
    call_seconds: float = 60.0
    slowest_bytes_per_second: float = 100_000.0
    """A transfer that is slower on the whole is ended."""


class PublicCalls:
    """The six calls on one environment; all may be made from several threads, and wait for a free slot."""

    def __init__(self, access: Access, limits: PublicLimits, clock: Clock) -> None:
        self.largest = limits.largest or _largest_object(limits.slots)
        self._access = access
        self._limits = limits
        self._clock = clock
        self._closed = self._cancelled = False
        self._start()
        in_children(self, PublicCalls._start)

    def _start(self) -> None:
        """Begin without worker processes: those of a parent are its own, to be used and ended by it alone."""
        self._free = threading.BoundedSemaphore(self._limits.slots)
        self._idle: list[tuple[int, ChildProcess]] = []
        self._busy: set[ChildProcess] = set()
        self._lock = threading.Lock()

    def listing(self) -> list[Shown]:
        """Return every object of the environment, in no order; raises `ListingBroken` unless it was complete."""
        found: dict[str, Shown] = {}
        try:
            with closing(self._call("list")) as batches:
                for entry in chain.from_iterable(batches):
                    if entry[0] in found:
                        # A continuation token that leads back begins the listing anew, for ever.
                        raise ListingBroken(f"The listing names {entry[0]} twice.")
                    found[entry[0]] = shown_as(*entry)
        except ListingBroken:
            raise
        except StoreUnavailable as error:
            raise ListingBroken(
                str(error), remedy=error.remedy, ambiguous=False, retry_after=error.retry_after
            ) from error
        return list(found.values())

    def look(self, key: str) -> Shown | None:
        try:
            found = self._result("look", path=key)
        except ObjectNotFound:
            return None
        return shown_as(key, *found[1:])

    def upload(self, key: str, file: str, size: int) -> None:
        """Upload a file by its name. That it returns proves nothing about what is stored."""
        try:
            self._result("upload", size, ambiguous=True, path=key, file=file)
        except PathRefused as error:
            if size < self._limits.threshold or _PATTERN in str(error):
                raise
            # The SDK ends an upload although a part of it failed (data_store.py:192-200).
            raise StoreUnavailable(f"The upload of {key} failed: {error}") from error

    def download(self, shown: Shown, file: str) -> None:
        """Write an object into a file by its name."""
        self._result("download", self._bound(shown), path=shown.key, file=file)

    def measure(self, shown: Shown) -> tuple[int, bytes]:
        """Return size and digest of an object, by reading it all."""
        size, digest = self._result("measure", self._bound(shown), path=shown.key)
        return size, bytes.fromhex(digest)

    def delete(self, key: str) -> None:
        """Delete an object; one that is not there is a success."""
        with suppress(ObjectNotFound):
            self._result("delete", ambiguous=True, path=key)

    def refuse_if_too_large(self, key: str, size: int) -> None:
        """Raise `StoreFull` for what does not fit the memory a worker process may take."""
        if size > self.largest:
            raise StoreFull(
                f"{key} has {size:,} bytes; through the SDK's public functions, which hold an"
                f" object in memory, at most {self.largest:,} can be carried here.",
                remedy="Use a version of craft-ai-sdk that craftsync is tested on, or more memory.",
            )

    def cancel(self) -> None:
        """End the processes that are at work: the SDK cannot be told to stop."""
        with self._lock:
            self._cancelled = True
            for child in self._busy:
                child.kill()

    def renew(self) -> None:
        self._cancelled = False

    def close(self) -> None:
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            for child in self._busy:
                child.kill()
        for _, child in idle:
            child.end()

    def _bound(self, shown: Shown) -> int:
        size = smallest_size(shown.size)
        self.refuse_if_too_large(shown.key, size)
        return size

    def _result(
        self, function: str, size: int = 0, *, ambiguous: bool = False, **order: str
    ) -> Any:
        """Order a function that has one result, and return it."""
        call = partial(self._call, function, size, ambiguous=ambiguous, **order)
        (result,) = blocking(lambda: list(call()))
        return result

    def _call(
        self, function: str, size: int = 0, *, ambiguous: bool = False, **order: str
    ) -> Generator[Any, None, None]:
        """Order one function and yield its results; a transfer of `size` bytes is given time for them.

        A token that is refused is asked for once more, by a new process.
        """
        seconds = self._limits.call_seconds + size / self._limits.slowest_bytes_per_second
        complete = {"do": function, "seconds": seconds, **order}
        part_size = self._part_size(size if function == "upload" else 0)
        for is_last in (False, True):
            try:
                with self._child(part_size) as child:
                    yield from child.call(complete, ambiguous=ambiguous)
                return
            except CallFailed as error:
                if is_last or not _is_denied(error):
                    path = order.get("path", "")
                    raise _error(error, self._access.location, path, ambiguous) from error

    def _part_size(self, size: int) -> int:
        """Return a part size that this size does not lose its last byte with.

        The SDK forgets the byte it has read ahead when nothing follows it
        (utils/file_utils.py:21-38), which is when one byte is left over.
        """
        part_size = self._limits.part_size
        if size > part_size * MOST_PARTS:
            part_size = -(-size // (MOST_PARTS * GRANULE)) * GRANULE
        while size > part_size and size % part_size == 1:
            part_size += GRANULE
        return part_size

    @contextmanager
    def _child(self, part_size: int) -> Iterator[ChildProcess]:
        """Lend a worker process to one thread."""
        with self._free:
            child = self._taken(part_size)
            with self._lock:
                self._busy.add(child)
            try:
                if self._cancelled:
                    raise Interrupted
                yield child
            except CallFailed as error:
                if _is_denied(error):
                    child.end()
                raise
            except BaseException:
                # An answer still to come would be taken for that to the next order.
                child.end()
                raise
            finally:
                self._give_back(part_size, child)

    def _give_back(self, part_size: int, child: ChildProcess) -> None:
        with self._lock:
            self._busy.discard(child)
            serves_on = child.is_running() and not self._closed
            if serves_on:
                self._idle.append((part_size, child))
        if not serves_on:
            child.end()

    def _taken(self, part_size: int) -> ChildProcess:
        """Return an idle process with this part size, or a new one, if need be in the place of another."""
        with self._lock:
            fitting = [entry for entry in self._idle if entry[0] == part_size]
            full = len(self._idle) + len(self._busy) >= self._limits.slots
            taken = (fitting or (self._idle if full else []))[-1:]
            for entry in taken:
                self._idle.remove(entry)
        for _, child in taken:
            if fitting and child.is_running():
                return child
            child.end()
        return self._started(part_size)

    def _started(self, part_size: int) -> ChildProcess:
        order = {
            "token": self._access.token(),
            "environment_url": self._access.environment_url,
            "control_url": self._access.control_url,
            "memory": 3 * max(self.largest, self._limits.threshold) + (64 << 20),
            "seconds": self._limits.start_seconds,
        }
        try:
            return ChildProcess(order, self._environment(part_size), self._clock)
        except CallFailed as error:
            raise StoreError(
                f"The Craft AI SDK cannot be used: {error}",
                remedy="Install it with: pip install 'craftsync[craft-ai]'",
            ) from error

    def _environment(self, part_size: int) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if name[:9] != "CRAFT_AI_"}
        return {
            **inherited,
            "CRAFT_AI__MULTIPART_THRESHOLD__B": str(self._limits.threshold),
            "CRAFT_AI__MULTIPART_PART_SIZE__B": str(part_size),
            # An entry there would take the place of the token, and spoil signed URLs.
            "NETRC": os.devnull,
        }


def _largest_object(slots: int) -> int:
    """Return how large an object may be so that all slots together take half of the free memory.

    A download holds its object twice (data_store.py:245-250).
    """
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with open("/proc/meminfo") as meminfo:
        for line in meminfo:
            if line.startswith("MemAvailable:"):
                available = int(line.split()[1]) * 1024
    return max(available // 2 // slots // 2, 16 << 20)


def _is_denied(error: CallFailed) -> bool:
    """Tell whether the token was refused; a process of its own asks for another."""
    return error.failure.get("status") == 401


def _error(error: CallFailed, location: str, key: str, ambiguous: bool) -> CraftsyncError:
    """Return what an exception of the SDK means."""
    failure: Mapping[str, Any] = error.failure
    match failure.get("type"):
        case "MemoryError":
            return StoreFull(f"{key} does not fit the memory the SDK may take.")
        case "UnicodeEncodeError":
            return PathRefused(f"The name {key!r} is not valid UTF-8.")
        case "OSError" if failure.get("errno") in (errno.ENOSPC, errno.EDQUOT):
            return StoreFull("There is no room for temporary files.")
    status, name = failure.get("status"), str(failure.get("name") or "")
    if isinstance(status, int) and status >= 400:
        answer = Answer(status, name, str(error), structured=bool(name))
        return refused(answer, location, key) if key else about_the_store(answer, location)
    # No refusal: the network, or the SDK itself over an answer it did not understand.
    return StoreUnavailable(
        f"{location} could not be reached, or was not understood: {failure.get('type')}.",
        remedy="Check the network and the environment's address.",
        ambiguous=ambiguous,
    )
