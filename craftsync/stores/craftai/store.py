"""`CraftAiStore`: the data store of a Craft AI environment. This module decides the order of requests.

The platform checks no conditions, copies nothing, and returns no version after a write. So:

- The object that a write or delete replaces gets a stat just before. A version to be kept is read and
  written again into the trash before its original is changed.
- For a new path, a complete listing that began at most `Limits.fresh_listing_seconds` ago replaces the
  stat.
- The storage's checksum proves that an upload arrived. If it reports an unexpected one, the object is
  read back.
- A stat after the write finds the version. It may come later, for many writes at once (`barrier`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from hashlib import md5
from typing import Any, NoReturn

from craftsync.clock import Clock, SystemClock, stamp
from craftsync.core.model import Absent, RemoteObject, Skipped
from craftsync.core.paths import in_trash, is_own
from craftsync.errors import (
    CraftsyncError,
    NotKept,
    ObjectArchived,
    ObjectNotFound,
    PathRefused,
    PreconditionFailed,
    StoreUnavailable,
    UsageError,
)
from craftsync.net.pace import Attempt
from craftsync.net.waiting import blocking, both
from craftsync.stores.base import (
    Expect,
    Features,
    OnlyContent,
    Properties,
    Source,
    UploadJournal,
    cancel,
    key_of,
    pace_of,
    renew,
    written_already,
)
from craftsync.stores.craftai.errors import not_as_sent
from craftsync.stores.craftai.listing import BatchedStats, Listed, Listing, Written, check
from craftsync.stores.craftai.multipart import MIB, PART_SIZE, Order, Uploads
from craftsync.stores.craftai.platform import Access
from craftsync.stores.craftai.reading import Incoming, Reading, StoredSource, Transport
from craftsync.stores.craftai.signed import PendingWrite, Receipt, Storage
from craftsync.stores.retrying import RetryBudget
from craftsync.stores.sources import StoreHealth, dated, delete_singly
from craftsync.stores.trash_copies import MovedToTrash, TrashCopy


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits at which one kind of request replaces another. Sizes are bytes."""

    single_post: int = 16 * MIB
    """The largest object uploaded with one form. The platform's SDK goes up to 100 MB."""
    smallest_part: int = PART_SIZE
    fresh_listing_seconds: float = 2.0
    """How long, from its start, a complete listing replaces a stat of a path that it did not show."""
    stats_later: bool = True
    """Whether to leave the stat after a write to `barrier`, if the storage's checksum proves the content."""


Before = Callable[[], RemoteObject | None]


class Writing:
    """Writes objects. `key` maps a path to its key; `stat` returns the object at a path.

    Without `uploads`, each object is sent as a whole.
    """

    def __init__(
        self,
        transport: Transport,
        uploads: Uploads | None,
        reading: Reading,
        stats: BatchedStats,
        limits: Limits,
        clock: Clock,
        *,
        key: Callable[[str], str],
        stat: Callable[[str], RemoteObject | None],
    ) -> None:
        self._clock = clock
        self._transport = transport
        self._uploads = uploads
        self._reading = reading
        self._stats = stats
        self._limits = limits
        self._key = key
        self._stat = stat
        self._pending: dict[str, PendingWrite] = {}

    def write(
        self,
        path: str,
        source: Source,
        operation: str,
        before: Before,
        journal: UploadJournal | None = None,
    ) -> RemoteObject:
        """Write content to a path and return the object, without version and time if no stat was made.

        `before` is called as late as possible before the object becomes visible. It returns the
        replaced object, if it made a stat.
        """
        replaced: RemoteObject | None = None

        def stat_before() -> None:
            nonlocal replaced
            replaced = before()
            self._stats.touched(path)

        large = self._uploads is not None and source.size > self._limits.single_post
        receipt = (
            self._sent_in_parts(path, source, operation, stat_before, journal)
            if large
            else self._sent_whole(path, source, operation, stat_before)
        )
        self._pending.pop(path, None)
        if receipt.intact and source.size:
            self._reading.etags_are_proven()
        written = RemoteObject(path, source.size, None, None)
        if is_own(path) and receipt.intact:
            return written  # The versions of craftsync's own objects are never compared.
        if self._limits.stats_later and not large and receipt.etag and receipt.intact is not False:
            self._stats.stat_later(path, Written(source.size, receipt.etag, receipt.date_ns))
            return written
        return self._confirmed(written, source, receipt, replaced)

    def recognised(self, found: RemoteObject) -> RemoteObject:
        """Return the object that a stat found, completed if a write whose response was lost made it."""
        pending = self._pending.get(found.path)
        if pending is None or pending.size != found.size:
            return found
        if self._transport.etag(self._key(found.path)) != pending.etag:
            return found
        return found._replace(
            digest=pending.digest, mtime_ns=pending.mtime_ns, operation=pending.operation
        )

    def close(self) -> None:
        if self._uploads is not None:
            self._uploads.close()

    def _sent_whole(
        self, path: str, source: Source, operation: str, before: Callable[[], object]
    ) -> Receipt:
        is_sent = False

        def before_sending() -> None:
            nonlocal is_sent
            before()
            is_sent = True

        try:
            return self._transport.put(self._key(path), source, before_sending)
        except StoreUnavailable as error:
            if error.ambiguous and is_sent:
                content = md5(source.read_at(0, source.size), usedforsecurity=False)
                self._in_doubt(path, source, operation, f'"{content.hexdigest()}"')
            raise

    def _sent_in_parts(
        self,
        path: str,
        source: Source,
        operation: str,
        before: Callable[[], object],
        journal: UploadJournal | None,
    ) -> Receipt:
        in_doubt = partial(self._in_doubt, path, source, operation)
        attempt = Attempt(pace_of(source))
        order = Order(self._key(path), source, before, in_doubt, attempt, journal)
        assert self._uploads is not None
        upload = self._uploads.send(order)
        return Receipt(upload.etag(), None, None if upload.proven or upload.in_order else False)

    def _in_doubt(self, path: str, source: Source, operation: str, etag: str | None) -> None:
        if etag is not None:
            self._pending[path] = PendingWrite(
                source.size, etag, source.digest, source.mtime_ns, operation
            )

    def _confirmed(
        self,
        written: RemoteObject,
        source: Source,
        receipt: Receipt,
        replaced: RemoteObject | None,
    ) -> RemoteObject:
        """Stat the path after a write, and return the object if it is the one written.

        If another client has replaced it since, return it without version and time. A response
        without an ETag may not come from the store: then the replaced object may still be in place,
        and this raises.
        """
        with written_already():
            found = self._stat(written.path)
        still = replaced is not None and receipt.etag is None and found == replaced
        if found is None or still or (found.size != source.size and receipt.intact is not False):
            if receipt.intact:
                return written
            raise not_as_sent(written.path)
        if receipt.intact is False:
            self._read_back(found, receipt, receipt.digest or source.digest)
        return found

    def _read_back(self, found: RemoteObject, receipt: Receipt, expected: bytes) -> None:
        """Read the object back, because its checksum is wrong; move it to the trash if its content is too.

        An object whose ETag is not the one in the response is another client's: it stays, and this
        raises. The storage reports no such ETag for an upload in parts, nor the SDK for any.
        """
        with written_already():
            is_right = self._reading.holds(found, expected)
        if is_right or not expected:
            return
        with written_already():
            etag = receipt.etag and self._transport.etag(self._key(found.path))
        if etag and etag != receipt.etag:
            raise not_as_sent(found.path)
        self._set_aside(found)

    def _set_aside(self, found: RemoteObject) -> NoReturn:
        """Move an object that is damaged to the trash; raise `MovedToTrash`."""
        copy = TrashCopy(stamp(self._clock), found.path, found.size)
        kept = in_trash(copy.stamp, copy.path)
        self.write(kept, StoredSource(self._reading, found), kept, before=lambda: None)
        message = (
            f"{found.path} was stored as something else than was sent, and is in the trash now."
        )
        try:
            self._transport.delete(self._key(found.path))
        except StoreUnavailable as error:
            message = f"{message} It was not removed from its place. ({error})"
            raise MovedToTrash(message, copy, ambiguous=error.ambiguous) from error
        raise MovedToTrash(message, copy)


class CraftAiStore(OnlyContent):
    """A `stores.base.Store` for the keys of an environment that start with `folder`.

    Raises `UsageError` if there is no token. The constructor sends no request.
    """

    def __init__(
        self,
        access: Access,
        folder: str = "",
        *,
        clock: Clock | None = None,
        limits: Limits | None = None,
        sdk: Transport | None = None,
    ) -> None:
        """`sdk`, if given, replaces the platform's API."""
        folder = folder.strip("/")
        self._root = f"{folder}/" if folder else ""
        self.name = folder.rpartition("/")[2] or access.name
        self.location = f"{access.location}/{folder}".rstrip("/")
        self.features = Features(
            sorted_listing=False,
            ranges=sdk is None,
            host=access.environment_url,
            cheap_stats=sdk is None,
            signed_urls=True,
        )
        self._clock = clock = clock or SystemClock()
        self.health = StoreHealth(clock)
        self._limits = limits = limits or Limits()
        uploads = None
        if sdk is None:
            sdk = storage = Storage(access, self.location, clock)
            uploads = Uploads(storage, limits.smallest_part)
        self._transport = transport = sdk
        self._reading = Reading(transport, self.location, key=self._key, stat=self._stat)
        self._stats = BatchedStats(
            *(self._list_all, self._stat, self._etag, clock),
            *(limits.fresh_listing_seconds, self),
        )
        self._writing = Writing(
            *(transport, uploads, self._reading, self._stats, limits, clock),
            key=self._key,
            stat=self._stat,
        )

    def now_ns(self) -> int:
        self._transport.list_page(self._root.rstrip("/") or None, None)
        return dated(self._transport.date, self.location)

    def prepare(self, saved: str | None) -> str | None:
        """Return `None`: there is nothing to probe, because every response is checked when it is used."""
        return None

    def list(
        self, prefix: str = "", *, boundaries: Sequence[str] = (), nested_own: bool = False
    ) -> Iterator[RemoteObject | Skipped]:
        began = self._clock.monotonic()
        listing = self._listing()
        yield from listing.entries(prefix, nested_own=nested_own)
        if not prefix:
            self._stats.listed(began, listing.count, listing.pages)

    def stat(self, path: str) -> RemoteObject | None:
        found = self._stat(path)
        return found and self._writing.recognised(found)

    @contextmanager
    def read(
        self,
        path: str,
        *,
        expect: RemoteObject | None = None,
        offset: int = 0,
        length: int | None = None,
    ) -> Iterator[Incoming]:
        with self._reading.open(path, expect, offset, length) as incoming:
            yield incoming

    def write(
        self,
        path: str,
        source: Source,
        *,
        expect: Expect,
        operation: str,
        trash_stamp: str | None = None,
        journal: UploadJournal | None = None,
        properties: Properties | None = None,
    ) -> RemoteObject:
        self._key(path)
        if trash_stamp is not None and source.size > self._limits.single_post:
            self._confirm_readable(path)
        before = partial(self._before_write, path, expect, trash_stamp)
        return self._writing.write(path, source, operation, before, journal)

    def delete(self, path: str, *, expect: Expect, trash_stamp: str | None = None) -> None:
        key = self._key(path)
        if self._before_delete(path, expect, trash_stamp):
            self._stats.touched(path)
            self._transport.delete(key)

    def delete_each(self, paths: Sequence[str]) -> dict[str, CraftsyncError]:
        return delete_singly(self, paths)

    def copy(
        self,
        source: RemoteObject,
        target: str,
        *,
        expect: Expect,
        operation: str,
        trash_stamp: str | None = None,
    ) -> RemoteObject:
        current = self._stat(source.path)
        if current is None:
            raise ObjectNotFound(f"There is no {source.path} in {self.location}.")
        check(source.path, current, source)
        self._before_write(target, expect, trash_stamp)
        return self._copied(current, target, operation)

    def signed_url(self, path: str, seconds: int | None) -> str:
        if seconds is not None:
            raise UsageError(
                "How long a URL of an environment lasts, the platform decides.",
                remedy="Leave --expires out.",
            )
        return self._transport.download_url(self._key(path))

    def abort_stale(self, uploads: Iterable[tuple[str, str]]) -> None:
        """Do nothing: the platform cannot abort an upload."""

    def barrier(self) -> Mapping[str, RemoteObject]:
        """Stat the objects written without a stat. They are durable already: the platform acknowledged them."""
        return blocking(self._stats.catch_up)

    def cancel(self) -> None:
        cancel(self._clock)
        self._transport.cancel()

    def renew(self) -> None:
        renew(self._clock)
        self._transport.renew()

    def close(self) -> None:
        self._writing.close()
        self._transport.close()

    def _listing(self) -> Listing:
        return Listing(self._page, self._root, self.location)

    def _list_all(self) -> Listed:
        listing = self._listing()
        found = {
            entry.path: entry for entry in listing.entries("") if isinstance(entry, RemoteObject)
        }
        return Listed(found, listing.pages)

    def _page(self, folder: str | None, token: str | None) -> Any:
        """Fetch a page of a listing. Any page but the first is retried by itself."""
        if token is not None:
            return RetryBudget(self._clock).retried(partial(self._try_page, folder, token))
        return self._try_page(folder, token)

    def _try_page(self, folder: str | None, token: str | None) -> Any:
        with self.health.attempt(short=True):
            return self._transport.list_page(folder, token)

    def _stat(self, path: str) -> RemoteObject | None:
        found = self._transport.stat(self._key(path))
        return found and found._replace(path=path)

    def _etag(self, path: str) -> str | None:
        return self._transport.etag(self._key(path))

    def _key(self, path: str) -> str:
        key = key_of(self._root, path)
        if not {".", ".."}.isdisjoint(path.split("/")):
            raise PathRefused(
                f"{path} leads elsewhere as part of a URL: it could not be read again."
            )
        return key

    def _before_write(
        self, path: str, expect: Expect, trash_stamp: str | None
    ) -> RemoteObject | None:
        """Prepare a write: check and keep the object it replaces; return that, if a stat was made.

        Raises `PreconditionFailed` if the store does not hold `expect`.
        """
        if isinstance(expect, Absent):
            check(path, self._stats.find(path), expect)
            return None
        if expect is None and trash_stamp is None:
            return None
        current = self._stat_and_sign(path, expect, trash_stamp)
        check(path, current, expect)
        if current is not None and trash_stamp is not None and not self._keep(current, trash_stamp):
            raise PreconditionFailed(f"{path} is gone.")
        return current

    def _stat_and_sign(
        self, path: str, expect: Expect, trash_stamp: str | None
    ) -> RemoteObject | None:
        """Stat a path. If its version is to be kept, get the signed URL to read it from at the same time."""
        if trash_stamp is None or not isinstance(expect, RemoteObject):
            return self._stat(path)
        return both(partial(self._stat, path), partial(self._reading.sign, expect))[0]

    def _before_delete(self, path: str, expect: Expect, trash_stamp: str | None) -> bool:
        """Prepare a delete: check and keep the object; return whether it exists."""
        if expect is None and trash_stamp is None:
            return True
        current = self._stat_and_sign(path, expect, trash_stamp)
        if current is None:
            return False
        check(path, current, expect)
        return trash_stamp is None or self._keep(current, trash_stamp)

    def _copied(self, source: RemoteObject, target: str, operation: str) -> RemoteObject:
        """Write the content of an object to another path, with at most a few parts in memory."""
        content = StoredSource(self._reading, source)
        before = content.load if source.size <= self._limits.single_post else lambda: None
        return self._writing.write(target, content, operation, before)

    def _confirm_readable(self, path: str) -> None:
        """Raise `NotKept` if the object is archived, before a large upload that would fail at its end."""
        with suppress(ObjectNotFound):
            try:
                with self._reading.open(path, None, 0, 1):
                    return
            except ObjectArchived as error:
                raise NotKept(path) from error

    def _keep(self, current: RemoteObject, trash_stamp: str) -> bool:
        """Copy an object to the trash; return False if it is gone."""
        target = in_trash(trash_stamp, current.path)
        try:
            self._copied(current, target, operation=trash_stamp)
        except ObjectNotFound:
            return False
        except ObjectArchived as error:
            raise NotKept(current.path) from error
        return True
