"""A listing of many pages: whole, or an error. Nothing about it is taken on trust.

The platform promises no order of its pages and no snapshot. This file knows
requests only as a function that returns the JSON of a page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, NamedTuple

from craftsync.core.model import LIMIT, RemoteObject, Skipped
from craftsync.core.paths import left_out, malformed
from craftsync.errors import StoreDenied, StoreError, StoreUnavailable
from craftsync.stores.craftai.errors import broken
from craftsync.stores.craftai.objects import NoDescription, described

MOST_PAGES = 100_000
EMPTY_PAGES_ALLOWED = 100

FetchPage = Callable[[str | None, str | None], Any]
"""Fetches the page of a folder (or of everything) that a token leads to (or the first)."""


class Page(NamedTuple):
    """The objects of a page under their keys; `token` leads on and is `None` at the end."""

    objects: list[RemoteObject]
    token: str | None


class Listing:
    """Lists the keys of an environment below `root`, which is empty or ends with a slash.

    `count` and `pages` are what the platform has sent so far.
    """

    def __init__(self, fetch: FetchPage, root: str, location: str) -> None:
        self._fetch = fetch
        self._root = root
        self._location = location
        self.count = 0
        self.pages = 0

    def entries(self, prefix: str, *, nested_own: bool = False) -> Iterator[RemoteObject | Skipped]:
        """Yield what is below a prefix, in the platform's order, or raise `ListingBroken`."""
        hidden = left_out(prefix, nested_own=nested_own)
        wanted = self._root + prefix
        for page in self._narrowed(wanted.rpartition("/")[0]):
            for found in page.objects:
                if found.path.startswith(wanted):
                    entry = _judged(found._replace(path=found.path[len(self._root) :]), hidden)
                    if entry is not None:
                        yield entry

    def _narrowed(self, folder: str) -> Iterator[Page]:
        """Yield the pages of a folder, or of everything when that cannot be relied on.

        What `folder_path` means is documented nowhere. It is believed when the
        first page goes below the folder's own level, as craftsync's mark in a
        folder makes it do; a listing of fewer objects than there are would
        look like deletions.
        """
        if folder:
            try:
                pages = self._pages(folder)
                first = next(pages)
            except (StoreUnavailable, StoreDenied):
                raise
            except StoreError:
                pages, first = self._pages(None), Page([], None)
            if any("/" in found.path[len(folder) + 1 :] for found in first.objects):
                yield from chain([first], pages)
                return
        yield from self._pages(None)

    def _pages(self, folder: str | None) -> Iterator[Page]:
        token, seen, empty = None, set[str](), 0
        repeats = _Repeats()
        while True:
            page = self._fetched(folder, token)
            if repeats.found_in(page):
                raise broken(self._location, "a path came twice: objects moved between its pages")
            yield page
            token = page.token
            if token is None:
                return
            empty = 0 if page.objects else empty + 1
            if token in seen or empty > EMPTY_PAGES_ALLOWED or len(seen) >= MOST_PAGES:
                raise broken(self._location, "its pages go round in circles")
            seen.add(token)

    def _fetched(self, folder: str | None, token: str | None) -> Page:
        try:
            page = page_of(self._fetch(folder, token))
        except NoDescription as error:
            raise broken(self._location, str(error)) from error
        self.pages += 1
        self.count += len(page.objects)
        return page


class _Repeats:
    """Finds a path that is listed twice, in little memory while the paths come in order."""

    def __init__(self) -> None:
        self._last: str | None = None
        self._seen: set[int] | None = None

    def found_in(self, page: Page) -> bool:
        """Tell whether the next page repeats a path; in order, that is one not behind those before it."""
        paths = [found.path for found in page.objects]
        if self._seen is None and paths == sorted(set(paths)):
            if paths and self._last is not None and paths[0] <= self._last:
                return True
            self._last = paths[-1] if paths else self._last
            return False
        self._seen = set() if self._seen is None else self._seen
        before = len(self._seen)
        self._seen.update(map(hash, paths))
        return len(self._seen) - before < len(paths)


def page_of(answer: Any) -> Page:
    """Read a page; raises `NoDescription` unless it is one.

    Before version 0.40 of the SDK a listing was one bare array.
    """
    if isinstance(answer, list):
        answer = {"items": answer}
    items = answer.get("items") if isinstance(answer, dict) else None
    if not isinstance(items, list):
        raise NoDescription("a page holds no items")
    token = answer.get("continuation_token")
    if token is not None and (not isinstance(token, str) or not token):
        raise NoDescription("more pages follow, but there is no token for them")
    return Page([described(item) for item in items], token)


def _judged(found: RemoteObject, hidden: Callable[[str], bool]) -> RemoteObject | Skipped | None:
    """Return what an entry counts as; the marker of a folder counts as nothing."""
    if hidden(found.path):
        return None
    if found.size == 0 and (not found.path or found.path.endswith("/")):
        return None
    if found.size >= LIMIT:
        return Skipped(
            found.path, f"the platform reports a size of {found.size} bytes", failed=True
        )
    reason = malformed(found.path)
    return found if reason is None else Skipped(found.path, reason)
