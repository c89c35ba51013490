"""Lists a bucket: parses and checks the pages, and fetches several shares of the keys at once.

A page counts only if it is a complete `ListBucketResult`; a truncated page, a web page or an error
with status 200 raises `BrokenPage`. One regular expression splits pages of the usual shape, at a
tenth of an XML parser's cost. S3 lists keys in the byte order of their UTF-8, so shares can be
listed in parallel (`parallel_listing`).

Also here: `FreshListing`. If the server checks no condition, a fresh listing proves that a path is
new: one page covers a thousand paths, a stat covers one. A server may say too early that a listing
is complete, so one more request confirms its end first (`Listing.after_end`). A single new file
costs one request, however large the store.
"""

from __future__ import annotations

import re
import threading
from collections import deque
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
from craftsync.net.waiting import after_fork, blocking, blocking_together
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
"""Splitting by `_PLAIN_ENTRY` yields this many texts per entry: the text before it, and four groups."""

Columns = list[list[str]]
"""The keys, times, versions and sizes of all entries, as the page has them."""

_SUSPICIOUS = ("\0", "//", "/./", "/../", "\n/", "/\n", "\n./", "\n../", "/.\n", "/..\n")


class BrokenPage(ValueError):
    """The bytes are not a complete page of a listing. The message is a clause with the reason."""


class Page(NamedTuple):
    """The entries of a page in the server's order, by columns.

    `token` requests the next page; it is `None` on the last one.
    """

    keys: list[str]
    modified: list[str]
    versions: list[str]
    sizes: list[str]
    token: str | None
    folders: tuple[str, ...] = ()
    """The prefixes that a delimiter grouped, each ending with it."""

    def first(self, count: int) -> Page:
        """Return the page without the entries after the first `count`."""
        keys, modified, versions, sizes = (column[:count] for column in self[:4])
        return Page(keys, modified, versions, sizes, self.token)


def parse(body: bytes) -> Page:
    """Parse a page. Raises `BrokenPage` unless it is complete."""
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
    """Return the entries of a page and the XML around them; `None` and the page if its shape is unusual."""
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
    """Yield the entries of a page below the prefix `root`, except `hidden` paths.

    With `raw`, a name that no folder can hold is an object like all others. Raises `BrokenPage`
    for an entry with an invalid time or size.
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
    """Return whether every path of a page may take part; checks the page as a whole, which is fast."""
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
    """Return an entry as an object or as skipped; `None` if it is hidden or the marker of a folder."""
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
"""A server may send empty pages, such as while it skips deleted versions, but not for ever."""


def patient(fetch: FetchPage, clock: Clock, health: StoreHealth) -> FetchPage:
    """Return a function that fetches a page, and retries any page but the first by itself.

    A listing of ten thousand pages that restarted after each failure would never end. `health`
    records how each attempt ends.
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
    """Lists the keys of a bucket below `root`, the prefix of the store's objects.

    `page` is the number of keys per request. `in_order`: the server lists in byte order. `raw`:
    invalid names are objects too (see `entries`). `count` is the number of keys listed so far. An
    object serves for one listing.
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
        self._own_folder = f"{root}{OWN_FOLDER}/"
        self._ends: list[str] = []
        """The keys after which the server said that there are no more, one for each share."""
        self.count = 0

    def entries(
        self, prefix: str, boundaries: Sequence[str] = (), *, nested_own: bool = False
    ) -> Iterator[RemoteObject | Skipped]:
        """Yield the entries below a prefix, in the order of their paths. Raises `ListingBroken`.

        `boundaries` only decide which shares are fetched at once: every key lies in exactly one
        share. Without boundaries, shares are split off as pages arrive. If the server lists in no
        order, the listing is one share, in the server's order.
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

    def after_end(self) -> set[str] | None:
        """Return the paths after the key where the server ended the listing; `None` if there may be more.

        Leaves out craftsync's own keys. Sends one request. Call it at the end of `entries("")`.
        """
        after = min(self._ends)
        if after.startswith(self._own_folder):
            after = self._own_folder + LAST
        try:
            page = parse(self._fetch(self._query(self._root, after, None)))
        except BrokenPage:
            return None
        if page.token is not None or len(page.keys) >= self._page:
            return None  # A full page may hide what comes after it.
        others = (key for key in page.keys if not key.startswith(self._own_folder))
        return {key[len(self._root) :] for key in others}

    def folder(self, folder: str) -> Iterator[RemoteObject | Subfolder | Skipped]:
        """Yield the entries directly in a folder, as the server groups them. Raises `ListingBroken`."""
        prefix = f"{folder}/" if folder else ""
        hidden, seen = hidden_in(prefix), set[str]()
        try:
            for page in self._pages(prefix, Share(), own=True, one_level=True):
                # Some servers ignore the delimiter, and list everything.
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
        """Yield the pages of one share, each checked against the one before.

        With `cuts`, split off the keys far ahead as a further share.
        """
        own_folder = self._own_folder
        after, token, seen, empty = share.after, None, set[str](), 0
        while True:
            query = self._query(self._root + prefix, after, token)
            page = parse(self._fetch([*query, ("delimiter", "/")] if one_level else query))
            self._check_order(page, after)
            if cuts and page.token is not None:
                # craftsync's own keys, which are skipped, say nothing about the keys after them.
                share.cut_ahead([key for key in page.keys if own or not key.startswith(own_folder)])
            yield page if share.last is None else _up_to(page, share.last)
            if page.keys and share.last and page.keys[-1] >= share.last:
                return
            if page.token is None:
                self._ends.append(page.keys[-1] if page.keys else after)
                return
            empty = 0 if page.keys or page.folders else empty + 1
            if page.token in seen or empty > EMPTY_PAGES_ALLOWED:
                raise BrokenPage("its pages go round in circles")
            seen.add(page.token)
            token, after = page.token, page.keys[-1] if page.keys else after
            if self._in_order and not own and after.startswith(own_folder):
                # Skip trash and temporary objects, which may be many.
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
"""A listing of up to twenty pages costs less than a stat of each path written while it is fresh."""
_PAGE = 1000
"""Paths that one request lists."""


AfterEnd = Callable[[], set[str] | None]
"""Returns the paths after the end of a listing, as `Listing.after_end` does."""


class _Listed(NamedTuple):
    """A listing of so many keys, begun at that monotonic time. `after_end` is `None` once confirmed."""

    began: float
    keys: int
    paths: set[str]
    after_end: AfterEnd | None


class FreshListing:
    """Proves, by the last complete listing, that paths are new. Thread-safe.

    A listing proves this for `seconds` after its start. For that long, another client's new
    object may go unnoticed and be overwritten.

    Its end is confirmed when a new path needs it. If anything follows but what this client wrote
    since, the listing is not used any more.
    """

    def __init__(
        self, list_paths: Callable[[], tuple[set[str], AfterEnd]], clock: Clock, seconds: float
    ) -> None:
        self._list_paths = list_paths
        self._clock = clock
        self._seconds = seconds
        self._unlock()
        after_fork(self, FreshListing._unlock)
        self._last: _Listed | None = None
        """`None` without a listing, or if it proved incomplete. Any thread may replace it: read it once."""
        self._asked = 0
        """Paths that needed a stat since the listing became too old."""
        self._answered = deque[str](maxlen=_PAGE)
        """The last paths that `is_absent` answered for: this client may have written them since."""

    def _unlock(self) -> None:
        self._lock = threading.Lock()

    def listed(self, began: float, count: int, after_end: AfterEnd) -> None:
        """Note a listing of `count` keys, begun at that monotonic time. Its paths are not kept: the
        caller expects no object only at paths that it did not show."""
        with self._lock:
            self._last, self._asked = _Listed(began, count, set(), after_end), 0

    def is_absent(self, path: str, *, may_list: bool = True) -> bool:
        """Return whether a listing proves that this path does not exist; False if a stat is needed.

        With `may_list`, a listing that is too old may be repeated, because many paths will need it.
        """
        if is_own(path):
            return False  # A listing leaves out craftsync's own objects.
        is_absent = self._is_proven_absent(path, may_list)
        self._answered.append(path)
        return is_absent

    def _is_proven_absent(self, path: str, may_list: bool) -> bool:
        last = self._last
        if last is None:
            return False
        if not self._is_fresh(last):
            return may_list and blocking(partial(self._is_absent_after_listing, path))
        if last.after_end is not None:
            last = blocking_together(self._confirmed_last)
        return self._shows_absent(last, path)

    def _is_fresh(self, listed: _Listed) -> bool:
        return self._clock.monotonic() - listed.began <= self._seconds

    def _shows_absent(self, listed: _Listed | None, path: str) -> bool:
        # It may have become too old while its end was confirmed.
        return listed is not None and self._is_fresh(listed) and path not in listed.paths

    def _confirmed_last(self) -> _Listed | None:
        with self._lock:
            if self._last is not None:
                self._last = self._confirmed(self._last)
            return self._last

    def _confirmed(self, listed: _Listed) -> _Listed | None:
        """Return the listing with its end confirmed; `None` if it is incomplete."""
        if listed.after_end is None:
            return listed
        late = listed.after_end()
        if late is None or not late.issubset(tuple(self._answered)):
            return None
        return listed._replace(paths=listed.paths | late, after_end=None)

    def _is_absent_after_listing(self, path: str) -> bool:
        """List again, unless that costs more than the stats it saves; return whether the path is absent.

        Does not wait for a listing of another thread: a stat takes one request, a listing many.
        """
        if not self._lock.acquire(blocking=False):
            return False
        try:
            last = self._last
            if last is not None and not self._is_fresh(last):
                self._asked += 1
                if last.keys > _MOST_PATHS or self._asked <= 1 + last.keys // _PAGE:
                    return False
                began, (paths, after_end) = self._clock.monotonic(), self._list_paths()
                last, self._asked = _Listed(began, len(paths), paths, after_end), 0
            if last is not None:
                self._last = last = self._confirmed(last)
            return self._shows_absent(last, path)
        finally:
            self._lock.release()
