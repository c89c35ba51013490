"""Listings: pages read and checked, several key ranges at once, and whether a path is new.

A page counts only if it is a complete `ListBucketResult`; a truncated page, a web
page or an error with status 200 raises `BrokenPage`. Pages of the usual shape are
split by one regular expression, at a tenth of an XML parser's cost.

S3 lists keys in the byte order of their UTF-8, so ranges are listed in parallel.

Where the server checks no condition, a fresh listing shows that a path is new: a
page covers a thousand paths, a stat one. A single file costs one stat, however
large the store.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, islice, repeat
from operator import lt
from typing import NamedTuple
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from craftsync.clock import Clock
from craftsync.core.model import LIMIT, OWN_FOLDER, RemoteObject, Skipped, Subfolder
from craftsync.core.paths import hidden_in, is_own, is_utf8, level_of, malformed, subfolder
from craftsync.net.waiting import after_fork, blocking
from craftsync.stores.retrying import RetryBudget
from craftsync.stores.s3.errors import broken
from craftsync.stores.s3.objects import modified_ns_of, version_of
from craftsync.stores.s3.parallel_listing import LAST, Share, fetched_ahead
from craftsync.stores.sources import StoreHealth

_PLAIN_ENTRY = re.compile(
    r"<Contents>\s*+<Key>([^<&]*+)</Key>\s*+"
    r"<LastModified>([^<&]*+)</LastModified>\s*+"
    r"<ETag>(?:&quot;|&#34;|\")?+([^<&\"]*+)(?:&quot;|&#34;|\")?+</ETag>\s*+"
    r"(?:<ChecksumAlgorithm>[^<&]*+</ChecksumAlgorithm>\s*+)*+"
    r"(?:<ChecksumType>[^<&]*+</ChecksumType>\s*+)?+"
    r"<Size>(\d++)</Size>\s*+"
    r"(?:<StorageClass>[^<&]*+</StorageClass>\s*+)?+</Contents>\s*+"
)
_FIELDS = 5
"""What splitting by `_PLAIN_ENTRY` leaves per entry: the text before it, and its four groups."""

Columns = list[list[str]]
"""Keys, times, versions and sizes of all entries, as they stand in the page."""

_SUSPICIOUS = ("\0", "//", "/./", "/../", "\n/", "/\n", "\n./", "\n../", "/.\n", "/..\n")


class BrokenPage(ValueError):
    """The bytes are no complete page of a listing; the message says why, as a clause."""


class Page(NamedTuple):
    """The entries of a page in the server's order, by columns; `token` leads on and is `None` at the end."""

    keys: list[str]
    modified: list[str]
    versions: list[str]
    sizes: list[str]
    token: str | None
    folders: tuple[str, ...] = ()
    """What a delimiter grouped, each with it at its end."""

    def first(self, count: int) -> Page:
        """Return the page without the entries after the first `count`."""
        keys, modified, versions, sizes = (column[:count] for column in self[:4])
        return Page(keys, modified, versions, sizes, self.token)


def parse(body: bytes) -> Page:
    """Read a page; raises `BrokenPage` unless it is whole."""
    try:
        columns, rest = _split(body.decode())
        root = ElementTree.fromstring(rest)
    except (ValueError, ElementTree.ParseError) as error:
        raise BrokenPage("a page is not complete XML") from error
    name = _name(root)
    if name != "ListBucketResult":
        raise BrokenPage(f"a page holds <{name}> instead of a listing")
    keys, modified, versions, sizes = columns or _columns(root)
    folders = [_child(child, "Prefix") or "" for child in root if _name(child) == "CommonPrefixes"]
    if _child(root, "EncodingType") == "url":
        keys, folders = _decoded(keys), _decoded(folders)
    return Page(keys, modified, versions, sizes, _token(root), tuple(folders))


def _split(text: str) -> tuple[Columns | None, str]:
    """Return the entries of a plain page and the XML around them, or nothing and all of it."""
    pieces = _PLAIN_ENTRY.split(text)
    around = pieces[0] + pieces[-1]
    if len(pieces) == 1 or any(pieces[_FIELDS:-1:_FIELDS]) or "<Contents" in around:
        return None, text
    return [pieces[group::_FIELDS] for group in range(1, _FIELDS)], around


def _columns(root: ElementTree.Element) -> Columns:
    columns: Columns = [[], [], [], []]
    for contents in root:
        if _name(contents) == "Contents":
            for column, value in zip(columns, _entry(contents), strict=True):
                column.append(value)
    return columns


def _entry(contents: ElementTree.Element) -> tuple[str, str, str, str]:
    key, modified, etag, size = (
        _child(contents, name) for name in ("Key", "LastModified", "ETag", "Size")
    )
    if key is None or modified is None or size is None:
        raise BrokenPage("an entry has no key, time or size")
    return key, modified.strip(), version_of(etag) or "", size.strip()


def _decoded(keys: list[str]) -> list[str]:
    if not any("%" in key or "+" in key for key in keys):
        return keys
    return [unquote_plus(key, errors="surrogateescape") for key in keys]


def _token(root: ElementTree.Element) -> str | None:
    truncated = _child(root, "IsTruncated")
    if truncated not in ("true", "false"):
        raise BrokenPage("a page does not say whether more follow")
    token = _child(root, "NextContinuationToken") if truncated == "true" else None
    if truncated == "true" and not token:
        raise BrokenPage("more pages follow, but without a token for them")
    return token


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _child(parent: ElementTree.Element, name: str) -> str | None:
    for element in parent:
        if _name(element) == name:
            return element.text or ""
    return None


def ascending(keys: Sequence[str]) -> bool:
    """Return whether keys are strictly ascending in the byte order of their UTF-8."""
    if all(map(lt, keys, islice(keys, 1, None))):
        return True
    raw = [key.encode(errors="surrogateescape") for key in keys]
    return all(map(lt, raw, islice(raw, 1, None)))


def entries(
    page: Page, root: str, hidden: Callable[[str], bool], *, raw: bool = False
) -> Iterator[RemoteObject | Skipped]:
    """Yield what a page means under the prefix `root`, but for the `hidden` paths.

    With `raw`, names that no folder can hold are as good as any.

    Raises `BrokenPage` for an entry whose time or size cannot be read.
    """
    paths = [key[len(root) :] for key in page.keys] if root else page.keys
    try:
        fields = zip(
            paths,
            map(int, page.sizes),
            map(modified_ns_of, page.modified),
            (version or None for version in page.versions),
            *repeat(repeat(None), 4),
            strict=False,  # The last four never end.
        )
        found = list(map(RemoteObject._make, fields))
        if "-" in "".join(page.sizes):
            raise ValueError("a size is negative")
    except ValueError as error:
        raise BrokenPage("an entry has an invalid time or size") from error
    if _all_ordinary(paths) and max((item.size for item in found), default=0) < LIMIT:
        return iter(found)
    return (entry for item in found if (entry := _judged(item, hidden, raw)) is not None)


def _all_ordinary(paths: list[str]) -> bool:
    """Tell, in a few passes over the whole page, whether every path may take part as it is."""
    text = "\n".join(["", *paths, ""])
    longest = 255 if text.isascii() else 63
    return (
        text.count("\n") == len(paths) + 1
        and (longest == 255 or is_utf8(text))
        and OWN_FOLDER not in text
        and not any(mark in text for mark in _SUSPICIOUS)
        and max(map(len, paths), default=0) <= longest
    )


def _judged(
    item: RemoteObject, hidden: Callable[[str], bool], raw: bool
) -> RemoteObject | Skipped | None:
    """Return what an entry counts as; the marker of a folder counts as nothing."""
    if hidden(item.path):
        return None
    if raw and item.path and is_utf8(item.path) and item.size < LIMIT:
        return item
    if item.size == 0 and (not item.path or item.path.endswith("/")):
        return None
    if item.size >= LIMIT:
        return Skipped(item.path, f"the server reports a size of {item.size} bytes", failed=True)
    reason = malformed(item.path)
    return item if reason is None else Skipped(item.path, reason)


Parameters = list[tuple[str, str]]
FetchPage = Callable[[Parameters], bytes]
"""Sends one listing request with these parameters."""

EMPTY_PAGES_ALLOWED = 100
"""A server may send empty pages, while it skips deleted versions for instance, but not for ever."""


def patient(fetch: FetchPage, clock: Clock, health: StoreHealth) -> FetchPage:
    """Return what fetches a page and tries a later one again in its place, and only it.

    A listing of ten thousand pages that began anew at each failure would never end.
    `health` records how each attempt ends.
    """

    def attempted(query: Parameters) -> bytes:
        with health.attempt(short=True):
            return fetch(query)

    def fetched(query: Parameters) -> bytes:
        if any(name in ("continuation-token", "start-after") for name, _ in query):
            return RetryBudget(clock).retried(partial(attempted, query))
        return attempted(query)

    return fetched


class Listing:
    """Lists the keys of a bucket below `root`, the prefix that a store keeps its objects under.

    `page` is keys per request; without `in_order` the server promises no order;
    with `raw` keys are taken as they are (see `entries`).
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

        Boundaries only decide which shares are asked for at once; whatever they
        are, every key lies in exactly one share. Without any, shares are cut off
        as pages arrive. A server without an order is listed in one go, and its
        order is passed on.
        """
        own, hidden = is_own(prefix), hidden_in(prefix, nested_own=nested_own)
        cuts = self._cuts(prefix, boundaries) if self._in_order else []
        bounds = zip(["", *cuts], [*cuts, None], strict=True)
        shares = [Share(after, last) for after, last in bounds]
        pages = partial(self._pages, prefix, own=own, cuts=self._in_order and not cuts)
        try:
            for page in fetched_ahead(shares, pages):
                self.count += len(page.keys)
                yield from entries(page, self._root, hidden, raw=self._raw)
        except BrokenPage as error:
            raise broken(self._location, str(error)) from error

    def folder(self, folder: str) -> Iterator[RemoteObject | Subfolder | Skipped]:
        """Yield what is directly in a folder, which the server finds out by itself, or raise `ListingBroken`."""
        prefix = f"{folder}/" if folder else ""
        hidden, seen = hidden_in(prefix), set[str]()
        try:
            for page in self._pages(prefix, Share(), own=True, one_level=True):
                # Some servers know no delimiter, and list everything.
                found = level_of(entries(page, self._root, hidden, raw=self._raw), folder)
                paths = (key[len(self._root) :].removesuffix("/") for key in page.folders)
                for entry in chain(found, (subfolder(path) for path in paths if not hidden(path))):
                    if isinstance(entry, RemoteObject) or entry.path not in seen:
                        yield entry
                    if not isinstance(entry, RemoteObject):
                        seen.add(entry.path)
        except BrokenPage as error:
            raise broken(self._location, str(error)) from error

    def _cuts(self, prefix: str, boundaries: Sequence[str]) -> list[str]:
        """Return the boundaries as keys: those within the prefix, each once and in order."""
        return sorted({self._root + path for path in boundaries if path.startswith(prefix)})

    def _pages(
        self, prefix: str, share: Share, *, own: bool, cuts: bool = False, one_level: bool = False
    ) -> Iterator[Page]:
        """Yield the pages of one share, each checked against the one before; with `cuts`, what is far ahead is cut off."""
        own_folder = f"{self._root}{OWN_FOLDER}/"
        after, token, seen, empty = share.after, None, set[str](), 0
        while True:
            query = self._query(self._root + prefix, after, token)
            page = parse(self._fetch([*query, ("delimiter", "/")] if one_level else query))
            self._check_order(page, after)
            if cuts and page.token is not None:
                # What is passed over tells nothing of what comes behind it.
                share.cut_ahead([key for key in page.keys if own or not key.startswith(own_folder)])
            yield page if share.last is None else _up_to(page, share.last)
            if page.token is None or (page.keys and share.last and page.keys[-1] >= share.last):
                return
            empty = 0 if page.keys or page.folders else empty + 1
            if page.token in seen or empty > EMPTY_PAGES_ALLOWED:
                raise BrokenPage("its pages go round in circles")
            seen.add(page.token)
            token, after = page.token, page.keys[-1] if page.keys else after
            if self._in_order and not own and after.startswith(own_folder):
                # Nobody asked for trash and temporary objects, of which there may be many.
                token, after = None, own_folder + LAST

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


_MOST_PATHS = 20_000
"""A listing of twenty pages is cheaper than a stat of each path that is written while it serves."""
_PAGE = 1000
"""Paths that one request lists."""


class FreshListing:
    """What the last complete listing did not show. May be used from several threads at once.

    A listing serves for `seconds` after its begin: that is how long another
    client's new object may go unseen and be overwritten.
    """

    def __init__(self, list_paths: Callable[[], set[str]], clock: Clock, seconds: float) -> None:
        self._list_paths = list_paths
        self._clock = clock
        self._seconds = seconds
        self._unlock()
        after_fork(self, FreshListing._unlock)
        self._began: float | None = None
        self._count = 0
        self._asked = 0
        """Paths that needed a stat since the listing became too old."""
        self._paths: set[str] = set()

    def _unlock(self) -> None:
        self._lock = threading.Lock()

    def listed(self, began: float, count: int) -> None:
        """Note a complete listing begun at that time of the clock, whose reader writes where it showed nothing."""
        with self._lock:
            self._paths, self._count, self._began, self._asked = set(), count, began, 0

    def is_absent(self, path: str, *, may_list: bool = True) -> bool:
        """Return whether a listing proves that nothing is at this path; False if a stat is needed.

        With `may_list`, one that is too old may be made again, as many paths will need it.
        """
        if self._began is None or is_own(path):
            return False  # A listing leaves out craftsync's own objects.
        if self._is_fresh():
            return path not in self._paths
        return may_list and blocking(partial(self._is_absent_after_listing, path))

    def _is_fresh(self) -> bool:
        return self._began is not None and self._clock.monotonic() - self._began <= self._seconds

    def _is_absent_after_listing(self, path: str) -> bool:
        """List again, unless another thread just did or it costs more than a stat.

        What another thread does at the moment is not waited for: a stat takes one request, a listing many.
        """
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if not self._is_fresh():
                self._asked += 1
                if self._count > _MOST_PATHS or self._asked <= 1 + self._count // _PAGE:
                    return False
                now, paths = self._clock.monotonic(), self._list_paths()
                self._paths, self._count, self._began, self._asked = paths, len(paths), now, 0
            return path not in self._paths
        finally:
            self._lock.release()
