"""Bytes on their way into the store, and what is there afterwards.

The platform answers a write with nothing. What proves that the bytes arrived is
the storage's checksum where it gives one, and reading them again where it gives
one that cannot be explained. A look tells the version; it may come later, for
many writes at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import md5, sha256
from typing import NamedTuple

from craftsync.clock import Clock, stamp
from craftsync.core.model import OWN_FOLDER, RemoteObject
from craftsync.core.paths import is_own
from craftsync.errors import StoreUnavailable
from craftsync.net.pace import Attempt
from craftsync.stores.base import Source, UploadJournal, pace_of, written_already
from craftsync.stores.craftai.calls import Calls
from craftsync.stores.craftai.looks import Looks, Written
from craftsync.stores.craftai.multipart import MIB, PART_SIZE, Order, Uploads
from craftsync.stores.craftai.reading import Reading, StoredSource
from craftsync.stores.craftai.storage import Receipt


@dataclass(frozen=True, slots=True)
class Limits:
    """Where one way of doing things ends and another begins. Sizes are bytes."""

    single_post: int = 16 * MIB
    """The largest object that is uploaded by one form; the platform's own SDK goes up to 100 MB."""
    smallest_part: int = PART_SIZE
    fresh_listing_seconds: float = 2.0
    """For so long after its begin, a complete listing is taken for a look at where nothing was."""
    looks_later: bool = True
    """Leave the look after a write to `barrier` where the storage's checksum proves the content."""


Before = Callable[[], RemoteObject | None]


class Claim(NamedTuple):
    """A write whose answer was lost, and the ETag by which its object is known for ours."""

    size: int
    etag: str
    digest: bytes
    mtime_ns: int | None
    operation: str


class Writing:
    """Writes objects. `key` maps a path to its key, `look` describes what is at a path."""

    def __init__(
        self,
        calls: Calls,
        reading: Reading,
        looks: Looks,
        limits: Limits,
        clock: Clock,
        *,
        key: Callable[[str], str],
        look: Callable[[str], RemoteObject | None],
    ) -> None:
        self._clock = clock
        self._calls = calls
        self._reading = reading
        self._looks = looks
        self._limits = limits
        self._key = key
        self._look = look
        self._uploads = Uploads(calls, limits.smallest_part)
        self._claims: dict[str, Claim] = {}

    def write(
        self,
        path: str,
        source: Source,
        operation: str,
        before: Before,
        journal: UploadJournal | None = None,
    ) -> RemoteObject:
        """Put content at a path and return what is there, without version and time while nobody looked.

        `before` is called as late as can be before the object becomes visible,
        and returns what is displaced, if it looked.
        """
        displaced: RemoteObject | None = None

        def look_before() -> None:
            nonlocal displaced
            displaced = before()
            self._looks.touched(path)

        large = source.size > self._limits.single_post
        receipt = (
            self._sent_in_parts(path, source, operation, look_before, journal)
            if large
            else self._sent_whole(path, source, operation, look_before)
        )
        self._claims.pop(path, None)
        written = RemoteObject(path, source.size, None, None)
        if is_own(path) and receipt.intact:
            return written  # Of craftsync's own objects nobody compares the versions.
        if self._limits.looks_later and not large and receipt.etag and receipt.intact is not False:
            self._looks.look_later(path, Written(source.size, receipt.etag, receipt.date_ns))
            return written
        return self._looked_at(written, source, receipt, displaced)

    def recognised(self, found: RemoteObject) -> RemoteObject:
        """Complete what a look found when it is the outcome of a write whose answer was lost."""
        claim = self._claims.get(found.path)
        if claim is None or claim.size != found.size:
            return found
        if self._calls.etag(self._key(found.path)) != claim.etag:
            return found
        return found._replace(
            digest=claim.digest, mtime_ns=claim.mtime_ns, operation=claim.operation
        )

    def close(self) -> None:
        self._uploads.close()

    def _sent_whole(
        self, path: str, source: Source, operation: str, before: Callable[[], object]
    ) -> Receipt:
        before()
        try:
            return self._calls.put(self._key(path), source)
        except StoreUnavailable as error:
            if error.ambiguous:
                content = md5(source.read_at(0, source.size), usedforsecurity=False)
                self._claim(path, source, operation, f'"{content.hexdigest()}"')
            raise

    def _sent_in_parts(
        self,
        path: str,
        source: Source,
        operation: str,
        before: Callable[[], object],
        journal: UploadJournal | None,
    ) -> Receipt:
        def in_doubt(etag: str | None) -> None:
            if etag is not None:
                self._claim(path, source, operation, etag)

        attempt = Attempt(pace_of(source))
        order = Order(self._key(path), source, before, in_doubt, attempt, journal)
        upload = self._uploads.send(order)
        return Receipt(upload.etag(), None, None if upload.proven or upload.in_order else False)

    def _claim(self, path: str, source: Source, operation: str, etag: str) -> None:
        self._claims[path] = Claim(source.size, etag, source.digest, source.mtime_ns, operation)

    def _looked_at(
        self,
        written: RemoteObject,
        source: Source,
        receipt: Receipt,
        displaced: RemoteObject | None,
    ) -> RemoteObject:
        """Look at what is there after a write and return it if it is what was written.

        What another client put there right after stays theirs: then the write
        is returned as one that nobody looked at. An answer that tells nothing
        of the object may have come from anybody, and what was displaced may
        still be there.
        """
        with written_already():
            found = self._look(written.path)
        still = displaced is not None and receipt.etag is None and found == displaced
        if found is None or found.size != source.size or still:
            if receipt.intact:
                return written
            raise StoreUnavailable(
                f"{written.path} is not in the store as it was sent.",
                remedy="Another client may have written it, or the store lost bytes.",
                ambiguous=True,
            )
        if receipt.intact is False:
            self._read_back(found, source)
        return found

    def _read_back(self, found: RemoteObject, source: Source) -> None:
        """Compare the content with what was sent, where the storage's checksum is not the one it should be."""
        digest = sha256()
        with written_already(), self._reading.open(found.path, found, 0, None) as incoming:
            for chunk in incoming:
                digest.update(chunk)
        if source.digest and digest.digest() != source.digest:
            self._set_aside(found)
            raise StoreUnavailable(
                f"{found.path} was stored as something else than was sent, and is in the trash now.",
                remedy="Check the network and the store: something changes data on its way.",
                ambiguous=False,
            )

    def _set_aside(self, found: RemoteObject) -> None:
        """Move an object to the trash: it may be damaged, or another client's that came in between."""
        kept = f"{OWN_FOLDER}/trash/{stamp(self._clock)}/{found.path}"
        self.write(kept, StoredSource(self._reading, found), kept, before=lambda: None)
        self._calls.delete(self._key(found.path))
