"""Reads the platform's descriptions and listings; replaces many stats by one recent listing.

The platform reports an object's size and time and nothing else: no ETag, no checksum, no metadata.
So the time is the version. It is compared for equality only, never with this machine's clock; two
writes of the same size within its resolution (a second, on S3) look equal. The pages of a listing
have no guaranteed order and are no snapshot, so each listing is checked: it is complete, or it
raises.

The requests themselves are functions passed in.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import lru_cache, partial
from itertools import chain
from typing import Any, NamedTuple

from craftsync.clock import Clock
from craftsync.core.model import LIMIT, Absent, RemoteObject, Skipped, time_within
from craftsync.core.paths import hidden_in, is_own, malformed
from craftsync.errors import (
    Interrupted,
    PreconditionFailed,
    StoreDenied,
    StoreError,
    StoreUnavailable,
)
from craftsync.net.waiting import after_fork, blocking, blocking_together
from craftsync.stores.base import Expect
from craftsync.stores.craftai.errors import broken
from craftsync.stores.sources import workers

_SECOND = 1_000_000_000

MOST_PAGES = 100_000
EMPTY_PAGES_ALLOWED = 100

_MOST_PATHS = 20_000
"""A listing of up to twenty pages costs less than a stat of each path written while it is fresh."""
_STATS_PER_PAGE = 8
"""This many stats cost about as much as one page of a listing."""
_STATS_AT_ONCE = 8
_STATS_THAT_AGREE = 16
"""This many stats must agree with a listing before it replaces others. A few files cost little this way."""
_LONGEST_WAIT_SECONDS = 1.0
"""A path waits at most this long for the stats under way, and then gets its own."""
_DATES_DIFFER_NS = 2_000_000_000
"""The most that an object's time may be later than the response to its write, both by the storage's clock."""

FetchPage = Callable[[str | None, str | None], Any]
"""Fetches a page, given a folder (`None`: everything) and a token (`None`: the first page)."""


class InvalidDescription(ValueError):
    """The platform's JSON does not describe an object. The message is a clause with the reason."""


def described(entry: Any, path: str | None = None) -> RemoteObject:
    """Parse an object from the platform's JSON; its path is `path`, by default its key."""
    if not isinstance(entry, dict):
        raise InvalidDescription("an entry is not an object")
    key, size, modified = (entry.get(name) for name in ("path", "size", "last_modified"))
    if not isinstance(key, str) or not isinstance(modified, str):
        raise InvalidDescription("an entry has no path or no time")
    modified_ns, version = moment_of(modified)
    return RemoteObject(key if path is None else path, _bytes(size), modified_ns, version)


def _bytes(size: object) -> int:
    """Return a size in bytes. Raises for the rounded text that the SDK's public functions return."""
    if isinstance(size, bool) or not isinstance(size, int | float) or size < 0 or size != int(size):
        raise InvalidDescription("an entry has no size in bytes")
    return int(size)


@lru_cache(maxsize=16384)
def moment_of(text: str) -> tuple[int | None, str]:
    """Return a time of the platform in nanoseconds since the epoch, and the version made of it.

    A time without a zone is UTC (platform documentation, "Follow an execution"). If the text is not
    a time, it is itself the version.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None, text
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    whole = int(moment.replace(microsecond=0).timestamp())
    nanoseconds = time_within(whole * _SECOND + moment.microsecond * 1000)
    return nanoseconds, f"t{nanoseconds}"


def is_same(found: RemoteObject, expected: RemoteObject) -> bool:
    """Return whether a stat found the expected object, as far as size and time show."""
    if found.size != expected.size:
        return False
    one, other = found.modified_ns, expected.modified_ns
    if one is None or other is None:
        return found.version is not None and found.version == expected.version
    # A listing and a stat may report the same time with different precision.
    return one == other or (
        (one % _SECOND == 0 or other % _SECOND == 0) and same_second(one, other)
    )


def same_second(one_ns: int | None, other_ns: int | None) -> bool:
    """Return whether two times agree to the second, the precision of HTTP dates."""
    return one_ns is not None and other_ns is not None and one_ns // _SECOND == other_ns // _SECOND


def check(path: str, found: RemoteObject | None, expect: Expect) -> None:
    """Raise `PreconditionFailed` unless a stat found the expected object."""
    if expect is None:
        return
    if isinstance(expect, Absent):
        if found is not None:
            raise PreconditionFailed(f"{path} already exists in the store.")
    elif found is None:
        raise PreconditionFailed(f"{path} is gone.")
    elif not is_same(found, expect):
        raise PreconditionFailed(f"{path} has changed.")


class Page(NamedTuple):
    """The objects of a page, with their keys as paths. `token` requests the next page; `None` at the end."""

    objects: list[RemoteObject]
    token: str | None


class Listing:
    """Lists the keys of an environment below `root`, which is empty or ends with a slash.

    `count` and `pages` are the numbers of objects and pages received so far.
    """

    def __init__(self, fetch: FetchPage, root: str, location: str) -> None:
        self._fetch = fetch
        self._root = root
        self._location = location
        self.count = 0
        self.pages = 0

    def entries(self, prefix: str, *, nested_own: bool = False) -> Iterator[RemoteObject | Skipped]:
        """Yield the entries below a prefix, in the platform's order. Raises `ListingBroken`."""
        hidden = hidden_in(prefix, nested_own=nested_own)
        wanted = self._root + prefix
        for page in self._narrowed(wanted.rpartition("/")[0]):
            for found in page.objects:
                if found.path.startswith(wanted):
                    entry = _judged(found._replace(path=found.path[len(self._root) :]), hidden)
                    if entry is not None:
                        yield entry

    def _narrowed(self, folder: str) -> Iterator[Page]:
        """Yield the pages of a folder, or of everything if the platform's meaning of folders is uncertain.

        `folder_path` is undocumented. It is used only if the first page contains objects in
        subfolders, as a folder with craftsync's identity file has: a listing without them would
        look like deletes.
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
        except InvalidDescription as error:
            raise broken(self._location, str(error)) from error
        self.pages += 1
        self.count += len(page.objects)
        return page


class _Repeats:
    """Finds a path that is listed twice; needs little memory while the paths are sorted."""

    def __init__(self) -> None:
        self._last: str | None = None
        self._seen: set[int] | None = None

    def found_in(self, page: Page) -> bool:
        """Return whether the next page repeats a path, or breaks the order of sorted pages."""
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
    """Parse a page. Raises `InvalidDescription` if it is not one.

    Before version 0.40 of the SDK, a listing was a plain array.
    """
    if isinstance(answer, list):
        answer = {"items": answer}
    items = answer.get("items") if isinstance(answer, dict) else None
    if not isinstance(items, list):
        raise InvalidDescription("a page holds no items")
    token = answer.get("continuation_token")
    if token is not None and (not isinstance(token, str) or not token):
        raise InvalidDescription("more pages follow, but there is no token for them")
    return Page([described(item) for item in items], token)


def _judged(found: RemoteObject, hidden: Callable[[str], bool]) -> RemoteObject | Skipped | None:
    """Return an entry as an object or as skipped; `None` if it is hidden or the marker of a folder."""
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


class Listed(NamedTuple):
    """A complete listing; `pages` is the number of its requests."""

    objects: Mapping[str, RemoteObject]
    pages: int


class Written(NamedTuple):
    """An acknowledged write that no stat has confirmed yet: its size, and ETag and date of the response."""

    size: int
    etag: str
    date_ns: int | None


class BatchedStats:
    """Replaces the stats of many paths by one recent listing. Thread-safe.

    A listing is used for `seconds` after its start. For that long, another client's new object may
    go unnoticed and be overwritten.
    """

    def __init__(
        self,
        list_all: Callable[[], Listed],
        stat: Callable[[str], RemoteObject | None],
        etag: Callable[[str], str | None],
        clock: Clock,
        seconds: float,
        store: object,
    ) -> None:
        """A stop cancels `store`."""
        self._store = store
        self._list_all = list_all
        self._stat = stat
        self._etag = etag
        self._clock = clock
        self._seconds = seconds
        self._unlock()
        after_fork(self, BatchedStats._unlock)
        self._began: float | None = None
        self._count = self._pages = self._agreed = 0
        self._paths: set[str] = set()
        self._touched: set[str] = set()
        self._written: dict[str, Written] = {}

    def _unlock(self) -> None:
        self._lock = threading.Lock()
        self._answered = threading.Condition(self._lock)
        self._asking = 0
        """Stats under way, whose results will be compared with the listing."""
        self._relisting = threading.Lock()
        """Held while the store is listed again. Wait for it only through `blocking`."""

    def listed(self, began: float, count: int, pages: int) -> None:
        """Note a complete listing begun at that monotonic time. Its paths are not kept: the caller
        expects no object only at paths that it did not show."""
        with self._lock:
            self._began, self._count, self._pages, self._paths = began, count, pages, set()
            self._agreed = 0

    def find(self, path: str) -> RemoteObject | None:
        """Return the object at a path by a stat, or `None`, which a recent listing may also prove.

        A listing only ever proves absence, and is trusted once it has agreed with the first stats
        after it. One that lags behind is no longer used.
        """
        if is_own(path):
            return self._stat(path)  # A listing leaves out craftsync's own objects.
        if self._shows_nothing_at(path):
            return None
        if not self._begins_stat():
            blocking_together(self._wait_for_stats)
            if self._shows_nothing_at(path):
                return None
            self._begins_stat(anyway=True)
        return self._compared(path)

    def _begins_stat(self, *, anyway: bool = False) -> bool:
        """Count one more stat under way and return True; False if enough are to judge the listing."""
        with self._lock:
            will_agree = self._asking + self._agreed
            is_judged = self._began is not None and will_agree >= _STATS_THAT_AGREE > self._agreed
            if is_judged and not anyway:
                return False
            self._asking += 1
            return True

    def _wait_for_stats(self) -> None:
        with self._answered:
            self._answered.wait_for(lambda: not self._asking, timeout=_LONGEST_WAIT_SECONDS)

    def _compared(self, path: str) -> RemoteObject | None:
        """Stat a path, and compare the result with the listing."""
        found, is_known = None, False
        try:
            found = self._stat(path)
            is_known = True
        finally:
            with self._answered:
                self._asking -= 1
                unseen = found is not None and path not in self._paths
                self._agreed = 0 if unseen else self._agreed + is_known
                if unseen:
                    self._began = None
                if not self._asking:
                    self._answered.notify_all()
        return found

    def _shows_nothing_at(self, path: str) -> bool:
        with self._lock:
            began = self._began
            if began is None or self._agreed < _STATS_THAT_AGREE:
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
        """Note that a path is being written, so that no older listing proves it absent."""
        with self._lock:
            if self._began is not None:
                self._paths.add(path)
                self._touched.add(path)
            self._written.pop(path, None)

    def stat_later(self, path: str, written: Written) -> None:
        """Note a write for `catch_up` to confirm."""
        with self._lock:
            self._written[path] = written

    def catch_up(self) -> dict[str, RemoteObject]:
        """Stat the paths written since the last call; return the objects proved to be the written ones.

        A write without a stat, or whose object may be another client's, is left out. Retries
        nothing.
        """
        with self._lock:
            written, self._written = self._written, {}
        if not written:
            return {}
        try:
            with workers(_STATS_AT_ONCE, "stat", self._store) as pool:
                found = self._found(written, pool)
                # This comparison costs less than handing the path to another thread.
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
        if self._began is not None and self._pages * _STATS_PER_PAGE <= len(written):
            with self._relisting:
                return self._list_again()
        return {found.path: found for found in pool.map(self._stat, written) if found}

    def _list_after(self, began: float) -> None:
        """List again, unless another listing was made after the one begun at `began`."""
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
        """Return, by its ETag, whether an object is the written one although its time does not prove it."""
        if found is None:
            return False
        if found.size != written.size:
            self._refuse_if_damaged(found, written)
            return False
        return self._etag(found.path) == written.etag

    def _refuse_if_damaged(self, found: RemoteObject, written: Written) -> None:
        """Raise if an object of another size has the ETag of the written one."""
        if self._etag(found.path) == written.etag:
            raise StoreError(
                f"The store acknowledged {written.size} bytes of {found.path} and holds {found.size}.",
                remedy="Report this to the platform: what it says it has taken is not there.",
            )


def _is_in_time(found: RemoteObject | None, written: Written) -> bool:
    """Return whether an object's time proves that it is the written one.

    Another client's object of the same size has a later time than the response to our write, unless
    it was written within two seconds.
    """
    if found is None or found.size != written.size:
        return False
    if found.modified_ns is None or written.date_ns is None:
        return False
    return found.modified_ns <= written.date_ns + _DATES_DIFFER_NS
