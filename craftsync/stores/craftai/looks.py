"""What a listing of a moment ago says about many paths, so that not each has to be looked at.

The platform checks no condition and answers a write with nothing, so that a
write needs a look before and a look after. One page of a listing shows a
thousand objects at once: a small store is listed instead; in a large one each
path is looked at.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from craftsync.clock import Clock
from craftsync.core.model import RemoteObject
from craftsync.errors import Interrupted, StoreError, StoreUnavailable
from craftsync.net.waiting import blocking, in_children
from craftsync.stores.sources import workers

_MOST_PATHS = 20_000
"""A listing of twenty pages is cheaper than looking at the paths that are written while it serves."""
_LOOKS_PER_PAGE = 8
"""So many single looks cost about as much as a page of a listing."""
_LOOKS_AT_ONCE = 8
_LOOKS_THAT_AGREE = 16
"""So many paths are looked at all the same before a listing is relied on; few files cost little that way."""
_DATES_DIFFER_NS = 2_000_000_000
"""Between the time an answer bears and that of the object it is about, both by the storage's own clock."""


class Listed(NamedTuple):
    """A complete listing; `pages` is how many requests it took."""

    objects: Mapping[str, RemoteObject]
    pages: int


class Written(NamedTuple):
    """A write that was acknowledged, but not looked at: its size, and what its answer said."""

    size: int
    etag: str
    date_ns: int | None


class Looks:
    """Looks at many paths by listing them. May be used from several threads at once.

    A listing serves for `seconds` after its begin: that is how long another
    client's new object may go unseen and be overwritten.
    """

    def __init__(
        self,
        list_all: Callable[[], Listed],
        look: Callable[[str], RemoteObject | None],
        etag: Callable[[str], str | None],
        clock: Clock,
        seconds: float,
        store: object,
    ) -> None:
        """`store` is what is cancelled when a stop comes in the middle of looking."""
        self._store = store
        self._list_all = list_all
        self._look = look
        self._etag = etag
        self._clock = clock
        self._seconds = seconds
        self._unlock()
        in_children(self, Looks._unlock)
        self._began: float | None = None
        self._count = self._pages = self._agreed = 0
        self._paths: set[str] = set()
        self._touched: set[str] = set()
        self._written: dict[str, Written] = {}

    def _unlock(self) -> None:
        self._lock = threading.Lock()
        self._relisting = threading.Lock()
        """Held while the store is listed again; whoever may have to wait for it does so by `blocking`."""

    def listed(self, began: float, count: int, pages: int) -> None:
        """Note a complete listing begun at that time of the clock, whose reader writes where it showed nothing."""
        with self._lock:
            self._began, self._count, self._pages, self._paths = began, count, pages, set()
            self._agreed = 0

    def find(self, path: str) -> RemoteObject | None:
        """Return what is at a path, by a listing of a moment ago where that can be relied on.

        Only then may it be told that nothing is there; what is there is looked
        at. A listing has to agree with the first looks after it: one that lags
        behind is not asked any more.
        """
        if self._shows_nothing_at(path):
            return None
        found = self._look(path)
        with self._lock:
            unseen = found is not None and path not in self._paths
            self._agreed = 0 if unseen else self._agreed + 1
            if unseen:
                self._began = None
        return found

    def _shows_nothing_at(self, path: str) -> bool:
        with self._lock:
            began = self._began
            if began is None or self._agreed < _LOOKS_THAT_AGREE:
                return False
            if self._clock.monotonic() - began <= self._seconds:
                return path not in self._paths
            if self._count > _MOST_PATHS:
                self._began, self._paths = None, set()
                return False
        blocking(partial(self._list_after, began))
        with self._lock:
            return self._began is not None and path not in self._paths

    def touched(self, path: str) -> None:
        """Note that a path is being written to, so that no older listing speaks for it."""
        with self._lock:
            if self._began is not None:
                self._paths.add(path)
                self._touched.add(path)
            self._written.pop(path, None)

    def look_later(self, path: str, written: Written) -> None:
        """Remember a write that `catch_up` is to look at."""
        with self._lock:
            self._written[path] = written

    def catch_up(self) -> dict[str, RemoteObject]:
        """Look at what was written since the last time; return what is there and is what was written.

        A write that cannot be told from another client's, or not looked at at
        all, is left out; nothing is retried.
        """
        with self._lock:
            written, self._written = self._written, {}
        if not written:
            return {}
        try:
            with workers(_LOOKS_AT_ONCE, "look", self._store) as pool:
                found = self._found(written, pool)
                # Handing a path to another thread costs more than this comparison.
                doubtful = [
                    path for path in written if not _is_in_time(found.get(path), written[path])
                ]
                ours = pool.map(
                    lambda path: self._is_ours(found.get(path), written[path]), doubtful
                )
                others = {path for path, own in zip(doubtful, ours, strict=True) if not own}
                return {path: found[path] for path in written if path not in others}
        except (StoreUnavailable, Interrupted):
            return {}

    def _found(
        self, written: Mapping[str, Written], pool: ThreadPoolExecutor
    ) -> Mapping[str, RemoteObject]:
        if self._began is not None and self._pages * _LOOKS_PER_PAGE <= len(written):
            with self._relisting:
                return self._list_again()
        return {found.path: found for found in pool.map(self._look, written) if found}

    def _list_after(self, began: float) -> None:
        """List again, unless that was done since the listing begun at that time."""
        with self._relisting:
            if self._began == began:
                self._list_again()

    def _list_again(self) -> Mapping[str, RemoteObject]:
        began = self._clock.monotonic()
        with self._lock:
            self._touched = set()
        objects, pages = self._list_all()
        with self._lock:
            self._began, self._count, self._pages = began, len(objects), pages
            self._paths = set(objects) | self._touched
        return objects

    def _is_ours(self, found: RemoteObject | None, written: Written) -> bool:
        """Tell whether an object that does not bear the time of a write is the one that was written, by its ETag."""
        if found is None:
            return False
        if found.size != written.size:
            self._refuse_if_damaged(found, written)
            return False
        return self._etag(found.path) == written.etag

    def _refuse_if_damaged(self, found: RemoteObject, written: Written) -> None:
        """Raise when an object of another size is still the one that was written."""
        if self._etag(found.path) == written.etag:
            raise StoreError(
                f"The store acknowledged {written.size} bytes of {found.path} and holds {found.size}.",
                remedy="Report this to the platform: what it says it has taken is not there.",
            )


def _is_in_time(found: RemoteObject | None, written: Written) -> bool:
    """Tell whether an object is the one that was written, and not one that came right after, by its time.

    Another client's of the same size bears a later time than the answer to our
    write, unless it came within two seconds.
    """
    if found is None or found.size != written.size:
        return False
    if found.modified_ns is None or written.date_ns is None:
        return False
    return found.modified_ns <= written.date_ns + _DATES_DIFFER_NS
