"""Listings in pages, without listing the store anew for each page.

A listing that goes on stays open for a while. One that was closed meanwhile,
or whose page is asked for again, is begun anew and followed to where it was.
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
"""How many objects a page has, as in S3."""

MOST_OPEN = 8
"""How many listings stay open: each may hold the names of a whole folder."""

REST_SECONDS = 60.0
"""How long one may rest between two pages."""


class _Open(NamedTuple):
    """A listing whose page ended with `last`; `following` was taken from it to see that it goes on."""

    prefix: str
    last: str
    following: RemoteObject
    rest: Iterator[RemoteObject]
    touched: float


class Page(NamedTuple):
    """Some objects, and the token that leads to the next ones; `None` after the last."""

    objects: list[RemoteObject]
    token: str | None


class Listings:
    """Pages through a store. All methods may be called from several threads, and block."""

    def __init__(self, store: Store, clock: Clock, *, page_size: int = PAGE) -> None:
        self._store = store
        self._clock = clock
        self._page_size = page_size
        self._lock = threading.Lock()
        self._open: dict[str, _Open] = {}

    def page(self, prefix: str, token: str | None) -> Page:
        """Return the first page below a prefix, or the one a token leads to.

        Keys that no folder can hold are left out. Raises `ListingBroken` when
        something could not be read: a page without it would pass for complete.
        """
        first, rest = ([], self._begun(prefix)) if token is None else self._resumed(prefix, token)
        page = first + list(islice(rest, self._page_size - len(first)))
        following = next(rest, None)
        if following is None:
            return Page(page, None)
        now = self._clock.monotonic()
        return Page(page, self._kept(_Open(prefix, page[-1].path, following, rest, now)))

    def close_resting(self) -> None:
        """Forget the listings nobody went on with."""
        oldest = self._clock.monotonic() - REST_SECONDS
        with self._lock:
            self._open = {key: one for key, one in self._open.items() if one.touched >= oldest}

    def _begun(self, prefix: str) -> Iterator[RemoteObject]:
        # Who is served may keep a store in a folder of this one, with a trash of its own.
        for entry in self._store.list(prefix, nested_own=True):
            if not isinstance(entry, Skipped):
                yield entry
            elif entry.failed:
                raise ListingBroken(f"{entry.path} cannot be listed: {entry.reason}.")

    def _resumed(
        self, prefix: str, token: str
    ) -> tuple[list[RemoteObject], Iterator[RemoteObject]]:
        """Return what was taken from the listing already, and the rest of it."""
        key, last = _read(token)
        with self._lock:
            found = self._open.pop(key, None)
        if found is not None and (found.prefix, found.last) == (prefix, last):
            return [found.following], found.rest
        if not self._store.features.sorted_listing:
            raise Refused(
                400, "InvalidToken", "The listing has rested for too long; begin it anew."
            )
        bound = last.encode()
        return [], (entry for entry in self._begun(prefix) if entry.path.encode() > bound)

    def _kept(self, listing: _Open) -> str:
        key = token_hex(8)
        self.close_resting()
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
