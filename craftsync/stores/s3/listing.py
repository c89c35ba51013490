"""A listing of many pages: several ranges at once, pages ahead of the reader, nothing taken on trust.

S3 lists keys in the byte order of their UTF-8, so the pages after any key can
be asked for without those before it. This file knows requests only as a
function that returns a page's bytes.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from queue import SimpleQueue
from typing import NamedTuple

from craftsync.clock import Clock
from craftsync.core.model import OWN_FOLDER, RemoteObject, Skipped
from craftsync.core.paths import is_own, left_out
from craftsync.errors import Interrupted, StoreUnavailable
from craftsync.forking import in_children
from craftsync.stores.retrying import Patience
from craftsync.stores.s3.errors import broken
from craftsync.stores.s3.page import BrokenPage, Page, ascending, entries, parse

Parameters = list[tuple[str, str]]
FetchPage = Callable[[Parameters], bytes]
"""Sends one listing request with these parameters."""

PAGES_AHEAD = 8
RANGES_AT_ONCE = 4
EMPTY_PAGES_ALLOWED = 100
"""A server may send empty pages, while it skips deleted versions for instance, but not for ever."""

_LAST = "\U0010ffff"
"""Sorts after every other character."""


class Range(NamedTuple):
    """The keys after `after` up to and including `last`; empty and `None` for no bound."""

    after: str = ""
    last: str | None = None


def patient(fetch: FetchPage, clock: Clock) -> FetchPage:
    """Return what fetches a page and tries a later one again in its place, and only it.

    A listing of ten thousand pages that began anew at each failure would never end.
    """

    def fetched(query: Parameters) -> bytes:
        if any(name in ("continuation-token", "start-after") for name, _ in query):
            return Patience(clock).retried(partial(fetch, query))
        return fetch(query)

    return fetched


class Listing:
    """Lists the keys of a bucket below `root`, the prefix that a store keeps its objects under.

    `page` is keys per request; without `in_order` the server promises no order;
    with `raw` keys are taken as they are (see `page.entries`).
    `count` is how many keys the server has named so far.
    """

    def __init__(
        self,
        fetch: FetchPage,
        root: str,
        location: str,
        *,
        page: int,
        in_order: bool,
        raw: bool = False,
    ) -> None:
        self._fetch = fetch
        self._root = root
        self._location = location
        self._page = page
        self._in_order = in_order
        self._raw = raw
        self.count = 0

    def entries(
        self, prefix: str, boundaries: Sequence[str] = (), *, nested_own: bool = False
    ) -> Iterator[RemoteObject | Skipped]:
        """Yield what is below a prefix, in the order of the paths, or raise `ListingBroken`.

        Boundaries only decide which ranges are asked for at once; whatever they
        are, every key lies in exactly one range. A server without an order is
        listed in one go, and its order is passed on.
        """
        own, hidden = is_own(prefix), left_out(prefix, nested_own=nested_own)
        cuts = self._cuts(prefix, boundaries) if self._in_order else []
        bounds = zip(["", *cuts], [*cuts, None], strict=True)
        ranges = [Range(after, last) for after, last in bounds]
        try:
            for page in _fetched_ahead([self._pages(prefix, span, own=own) for span in ranges]):
                self.count += len(page.keys)
                yield from entries(page, self._root, hidden, raw=self._raw)
        except BrokenPage as error:
            raise broken(self._location, str(error)) from error

    def _cuts(self, prefix: str, boundaries: Sequence[str]) -> list[str]:
        """Return the boundaries as keys: those within the prefix, each once and in order."""
        return sorted({self._root + path for path in boundaries if path.startswith(prefix)})

    def _pages(self, prefix: str, span: Range, *, own: bool) -> Iterator[Page]:
        """Yield the pages of one range, each checked against the one before."""
        own_folder = f"{self._root}{OWN_FOLDER}/"
        after, token, seen, empty = span.after, None, set[str](), 0
        while True:
            page = parse(self._fetch(self._query(self._root + prefix, after, token)))
            self._check_order(page, after)
            yield page if span.last is None else _up_to(page, span.last)
            if page.token is None or (page.keys and span.last and page.keys[-1] >= span.last):
                return
            empty = 0 if page.keys else empty + 1
            if page.token in seen or empty > EMPTY_PAGES_ALLOWED:
                raise BrokenPage("its pages go round in circles")
            seen.add(page.token)
            token, after = page.token, page.keys[-1] if page.keys else after
            if self._in_order and not own and after.startswith(own_folder):
                # Nobody asked for trash and temporary objects, of which there may be many.
                token, after = None, own_folder + _LAST

    def _query(self, prefix: str, after: str, token: str | None) -> Parameters:
        query = [("encoding-type", "url"), ("max-keys", str(self._page))]
        if prefix:
            query.append(("prefix", prefix))
        if token is not None:
            query.append(("continuation-token", token))
        elif after:
            query.append(("start-after", after))
        return query

    def _check_order(self, page: Page, after: str) -> None:
        if self._in_order and not ascending([after, *page.keys] if after else page.keys):
            raise BrokenPage("its keys are out of order, or repeat")


def _up_to(page: Page, last: str) -> Page:
    """Return a page without the keys after `last`."""
    if not page.keys or page.keys[-1] <= last:
        return page
    return page.first(sum(key <= last for key in page.keys))


def _fetched_ahead(ranges: Sequence[Iterator[Page]]) -> Iterator[Page]:
    """Yield the pages of all ranges one after the other, while a few ranges are fetched ahead."""
    waiting = deque(ranges)
    active: deque[_Ahead] = deque()
    try:
        while waiting or active:
            while waiting and len(active) < RANGES_AT_ONCE:
                active.append(_Ahead(waiting.popleft()))
            yield from active[0].pages()
            active.popleft()
    finally:
        for ahead in active:
            ahead.stop()


class _Ahead:
    """Fetches the pages of one range in a thread of its own, up to `PAGES_AHEAD` before they are asked for."""

    def __init__(self, pages: Iterator[Page]) -> None:
        self._pages = pages
        self._ready: SimpleQueue[Page | Exception | Interrupted | None] = SimpleQueue()
        self._room = threading.Semaphore(PAGES_AHEAD)
        self._stopped = False
        in_children(self, _Ahead._lose)
        threading.Thread(target=self._run, name="listing", daemon=True).start()

    def pages(self) -> Iterator[Page]:
        while (page := self._ready.get()) is not None:
            if isinstance(page, Exception | Interrupted):
                raise page
            yield page
            self._room.release()

    def _lose(self) -> None:
        """Let the reader know that the thread stayed in the parent process."""
        self._ready = SimpleQueue()
        self._room = threading.Semaphore(PAGES_AHEAD)
        self._ready.put(StoreUnavailable("The listing was begun by a parent process."))

    def stop(self) -> None:
        """Let the thread end after the request it is waiting for, if any."""
        self._stopped = True
        self._room.release()

    def _run(self) -> None:
        try:
            for page in self._pages:
                self._ready.put(page)
                self._room.acquire()
                if self._stopped:
                    return
            self._ready.put(None)
        except (Exception, Interrupted) as error:  # noqa: BLE001 (the reader raises it; this thread has nobody to tell)
            self._ready.put(error)
