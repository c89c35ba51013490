"""A Craft AI data store over the platform's own protocol: what is asked in which order.

The platform checks no condition, so what a write or delete may replace is
looked at just before. A complete listing that began no more than
`Limits.fresh_listing_seconds` ago is taken for the look at where nothing was.
There is no copy within the store either: what is to be kept goes through here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from craftsync.clock import Clock
from craftsync.core.model import RemoteObject, Skipped
from craftsync.core.paths import MAX_PATH_BYTES
from craftsync.errors import ObjectNotFound, PathRefused
from craftsync.net.waiting import blocking
from craftsync.stores.base import Expect, Features, Source, UploadJournal
from craftsync.stores.craftai.access import Access
from craftsync.stores.craftai.calls import Calls
from craftsync.stores.craftai.displacing import Displacing
from craftsync.stores.craftai.listing import Listing
from craftsync.stores.craftai.looks import Listed, Looks
from craftsync.stores.craftai.objects import check
from craftsync.stores.craftai.reading import Incoming, Reading
from craftsync.stores.craftai.session import Session
from craftsync.stores.craftai.storage import Storage
from craftsync.stores.craftai.writing import Limits, Writing
from craftsync.stores.retrying import Backoff


class WireStore:
    """Keeps `stores.base.Store` for the keys of an environment that start with `folder`.

    Making one sends nothing.
    """

    def __init__(self, access: Access, folder: str, *, clock: Clock, limits: Limits) -> None:
        folder = folder.strip("/")
        self.root = f"{folder}/" if folder else ""
        self.name = folder.rpartition("/")[2] or access.name
        self.location = f"{access.location}/{folder}".rstrip("/")
        self.features = Features(sorted_listing=False, host=access.environment_url)
        self._clock = clock
        self._limits = limits
        self.session = Session(access, self.location, clock)
        self.calls = Calls(self.session, Storage(self.location), self.location)
        self._reading = Reading(self.calls, self.location, key=self._key, look=self._look)
        self._looks = Looks(
            self._list_all,
            self._look,
            self._etag,
            clock,
            limits.fresh_listing_seconds,
            self.calls,
        )
        self._writing = Writing(
            self.calls, self._reading, self._looks, limits, clock, key=self._key, look=self._look
        )
        self._displacing = Displacing(self._reading, self._writing, self._looks, self._look)

    def prepare(self, saved: str | None) -> str | None:
        return None

    def list(
        self, prefix: str = "", *, boundaries: Sequence[str] = (), nested_own: bool = False
    ) -> Iterator[RemoteObject | Skipped]:
        began = self._clock.monotonic()
        listing = self._listing()
        yield from listing.entries(prefix, nested_own=nested_own)
        if not prefix:
            self._looks.listed(began, listing.count, listing.pages)

    def stat(self, path: str) -> RemoteObject | None:
        found = self._look(path)
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
        keep: str | None = None,
        journal: UploadJournal | None = None,
    ) -> RemoteObject:
        self._key(path)
        if keep is not None and source.size > self._limits.single_post:
            self._displacing.confirm_readable(path)
        before = partial(self._displacing.prepare_write, path, expect, keep)
        return self._writing.write(path, source, operation, before, journal)

    def delete(self, path: str, *, expect: Expect, keep: str | None = None) -> None:
        key = self._key(path)
        if self._displacing.prepare_delete(path, expect, keep):
            self._looks.touched(path)
            self.calls.delete(key)

    def copy(
        self, source: RemoteObject, target: str, *, expect: Expect, operation: str
    ) -> RemoteObject:
        current = self._look(source.path)
        if current is None:
            raise ObjectNotFound(f"There is no {source.path} in {self.location}.")
        check(source.path, current, source)
        self._displacing.prepare_write(target, expect, None)
        return self._displacing.copy(current, target, operation)

    def abort_stale(self, uploads: Iterable[tuple[str, str]]) -> None:
        """Do nothing: the platform offers no way to give an upload up."""

    def barrier(self) -> Mapping[str, RemoteObject]:
        """Look at what was written and not yet looked at; what the platform acknowledged is durable."""
        return blocking(self._looks.catch_up)

    def cancel(self) -> None:
        self.calls.cancel()

    def renew(self) -> None:
        self.calls.renew()

    def close(self) -> None:
        self._writing.close()
        self.calls.close()

    def _listing(self) -> Listing:
        return Listing(self._page, self.root, self.location)

    def _list_all(self) -> Listed:
        listing = self._listing()
        found = {
            entry.path: entry for entry in listing.entries("") if isinstance(entry, RemoteObject)
        }
        return Listed(found, listing.pages)

    def _page(self, folder: str | None, token: str | None) -> Any:
        """Fetch a page of a listing; a later one is tried again in its place, and only it."""
        if token is not None:
            return Backoff(self._clock).retried(partial(self.calls.list_page, folder, token))
        return self.calls.list_page(folder, token)

    def _look(self, path: str) -> RemoteObject | None:
        found = self.calls.look(self._key(path))
        return found and found._replace(path=path)

    def _etag(self, path: str) -> str | None:
        return self.calls.etag(self._key(path))

    def _key(self, path: str) -> str:
        key = self.root + path
        try:
            length = len(key.encode())
        except UnicodeEncodeError:
            raise PathRefused(f"The name {path!r} is not valid UTF-8.") from None
        if length > MAX_PATH_BYTES or not path:
            raise PathRefused(f"{path} cannot be a key: {length} bytes, S3 takes 1 to 1024.")
        if not {".", ".."}.isdisjoint(path.split("/")):
            raise PathRefused(
                f"{path} leads elsewhere as part of a URL: it could not be read again."
            )
        return key
