"""Listings in pages, without listing the store again for each page.

An unfinished listing stays open for a while. If it was closed, or a page is
requested again, the store is listed again and entries before the page are skipped.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from itertools import islice
from secrets import token_hex
from typing import NamedTuple

from craftsync.clock import Clock
from craftsync.core.model import RemoteObject, Skipped
from craftsync.errors import ListingBroken
from craftsync.serve.errors import Refused
from craftsync.stores.base import Store

PAGE = 1000
"""Objects per page, as in S3."""

MOST_OPEN = 8
"""Most open listings: each may hold the names of a whole folder."""

IDLE_SECONDS = 60.0
"""How long a listing stays open between two pages."""


class _Open(NamedTuple):
    """A listing whose page ended with `last`; `following` is the next entry, read ahead to know that there is one."""

    prefix: str
    last: str
    following: RemoteObject
    rest: Iterator[RemoteObject]
    touched: float


class Page(NamedTuple):
    """Some objects, and the token of the next page; `None` after the last."""

    objects: list[RemoteObject]
    token: str | None


class Listings:
    """Lists a store in pages. Thread-safe; all methods block."""

    def __init__(self, store: Store, clock: Clock, *, page_size: int = PAGE) -> None:
        self._store = store
        self._clock = clock
        self._page_size = page_size
        self._lock = threading.Lock()
        self._open: dict[str, _Open] = {}

    def page(self, prefix: str, token: str | None) -> Page:
        """Return the first page below a prefix, or the page of a token.

        Keys that are no valid paths are left out. Raises `ListingBroken` when
        something is unreadable, because the page would look complete.
        """
        first, rest = ([], self._listing(prefix)) if token is None else self._resumed(prefix, token)
        page = first + list(islice(rest, self._page_size - len(first)))
        following = next(rest, None)
        if following is None:
            return Page(page, None)
        now = self._clock.monotonic()
        return Page(page, self._keep_open(_Open(prefix, page[-1].path, following, rest, now)))

    def close_idle(self) -> None:
        """Close listings that were not continued in time."""
        oldest = self._clock.monotonic() - IDLE_SECONDS
        with self._lock:
            self._open = {key: one for key, one in self._open.items() if one.touched >= oldest}

    def _listing(self, prefix: str) -> Iterator[RemoteObject]:
        # A client may use a folder of this store as a store, with a trash of its own.
        for entry in self._store.list(prefix, nested_own=True):
            if not isinstance(entry, Skipped):
                yield entry
            elif entry.failed:
                raise ListingBroken(f"{entry.path} cannot be listed: {entry.reason}.")

    def _resumed(
        self, prefix: str, token: str
    ) -> tuple[list[RemoteObject], Iterator[RemoteObject]]:
        """Return the entries read ahead, and the rest of the listing."""
        key, last = _read(token)
        with self._lock:
            found = self._open.pop(key, None)
        if found is not None and (found.prefix, found.last) == (prefix, last):
            return [found.following], found.rest
        if not self._store.features.sorted_listing:
            raise Refused(400, "InvalidToken", "The continuation_token has expired; list again.")
        bound = last.encode()
        return [], (entry for entry in self._listing(prefix) if entry.path.encode() > bound)

    def _keep_open(self, listing: _Open) -> str:
        key = token_hex(8)
        self.close_idle()
        with self._lock:
            if len(self._open) >= MOST_OPEN:
                del self._open[next(iter(self._open))]
            self._open[key] = listing
        return _token(key, listing.last)


def _token(key: str, last: str) -> str:
    return base64.urlsafe_b64encode(f"{key}:{last}".encode()).decode()


def _read(token: str) -> tuple[str, str]:
    try:
        key, colon, last = base64.urlsafe_b64decode(token.encode()).decode().partition(":")
    except ValueError:
        colon = ""
    if not colon:
        raise Refused(400, "InvalidToken", "The continuation_token is not one of this server.")
    return key, last
