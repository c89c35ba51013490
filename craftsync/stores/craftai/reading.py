"""Reads objects through signed URLs, which are kept while they work.

A body is accepted only if its size is the one that the platform reported, and its time the expected
one. What the storage does not report comes from the platform. So a proxy's page, or an object that
was replaced since, is never taken for the expected object. A whole body is compared with its MD5, if
the storage reports one. An ETag that looks like an MD5 counts once this storage has proven that its
ETags are MD5s.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from hashlib import md5, sha256
from typing import Any, NamedTuple, Protocol

from craftsync.core.model import RemoteObject
from craftsync.errors import (
    ContentDamaged,
    ObjectNotFound,
    PathError,
    PreconditionFailed,
    StoreError,
    StoreUnavailable,
)
from craftsync.hashing import update_in_place
from craftsync.net.waiting import after_fork
from craftsync.stores.base import Source
from craftsync.stores.craftai.errors import RangeBeyond, UrlExpired, unintelligible
from craftsync.stores.craftai.listing import check, is_same, same_second
from craftsync.stores.craftai.signed import CHUNK, Body, Receipt, ReportedMd5

_URLS_KEPT = 64
_LARGEST_READ_AGAIN = 16 * CHUNK
"""Bytes of the largest object that is read again to find out whether ETags are MD5s. That read counts
in no progress and keeps to no rate."""


class Transport(Protocol):
    """What the store needs of an environment: implemented by `Storage`, and by `Sdk`."""

    date: str | None
    """The Date header of the platform's last response; `None` if it is not visible."""

    def list_page(self, folder: str | None, token: str | None) -> Any: ...
    def stat(self, key: str) -> RemoteObject | None: ...
    def delete(self, key: str) -> None: ...
    def download_url(self, key: str) -> str: ...
    def put(self, key: str, source: Source, before: Callable[[], object]) -> Receipt: ...
    def get(
        self, url: str, key: str, *, etag: str | None, offset: int, length: int | None
    ) -> AbstractContextManager[Body]: ...
    def etag(self, key: str) -> str | None: ...
    def cancel(self) -> None: ...
    def renew(self) -> None: ...
    def close(self) -> None: ...


class SignedUrl(NamedTuple):
    """A signed URL for an object, and the ETag that its body had when it was compared."""

    url: str
    object: RemoteObject
    etag: str | None = None


class Incoming:
    """A `stores.base.Reader` that raises unless exactly the expected bytes arrive."""

    def __init__(
        self,
        found: RemoteObject,
        chunks: Iterator[bytes],
        length: int,
        *,
        to_end: bool = True,
        verify: Callable[[bytes], None] | None = None,
    ) -> None:
        """`verify` is called with the MD5 of all bytes before the last ones are returned."""
        self.object = found
        self.properties = None
        self.reported: ReportedMd5 | None = None
        self._chunks = chunks
        self._length = length
        self._to_end = to_end
        self._verify = verify

    def __iter__(self) -> Iterator[bytes]:
        missing, hashed = self._length, md5(usedforsecurity=False)
        while missing:
            chunk = next(self._chunks, b"")[:missing]
            if not chunk:
                raise self._wrong(f"{self._length - missing} of {self._length} bytes came")
            missing -= len(chunk)
            if self._verify is not None:
                update_in_place(hashed, chunk)
                if not missing:
                    self._verify(hashed.digest())
            yield chunk
        if self._to_end and next(self._chunks, b""):
            raise self._wrong(f"more than {self._length} bytes came")

    def arrived(self) -> Incoming:
        """Read all bytes now, and return this reader with them."""
        self._chunks, self._verify = iter([b"".join(self)]), None
        return self

    def _wrong(self, what: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"{self.object.path} did not arrive as announced: {what}.", remedy="Try again later."
        )


class Reading:
    """Opens objects. `key` maps a path to its key; `stat` returns the object at a path."""

    def __init__(
        self,
        transport: Transport,
        location: str,
        *,
        key: Callable[[str], str],
        stat: Callable[[str], RemoteObject | None],
    ) -> None:
        self._transport = transport
        self._location = location
        self._key = key
        self._stat = stat
        self._etags_are_md5s: bool | None = None
        """Whether ETags that look like MD5s are MD5s; `None` while this is unknown."""
        self._start()
        after_fork(self, Reading._start)

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._urls: dict[str, SignedUrl] = {}

    @contextmanager
    def open(
        self, path: str, expect: RemoteObject | None, offset: int, length: int | None
    ) -> Iterator[Incoming]:
        """Open an object or a part of it, as `Store.read` does."""
        known = expect
        if known is None or (known.version is None and known.modified_ns is None):
            known = self._found(path, expect)
        rest = max(known.size - offset, 0)
        wanted = rest if length is None else min(length, rest)
        if wanted == 0:
            yield Incoming(self._found(path, known), iter(()), 0)
            return
        with self._opened(known, offset, wanted) as body:
            reported = self._judged(body.md5)
            is_compared = wanted == known.size and known.digest is None
            incoming = Incoming(
                known._replace(md5=reported.value if reported and reported.is_certain else None),
                _trimmed(body, offset),
                wanted,
                to_end=offset + wanted == known.size,
                verify=partial(self.verify, known, reported) if reported and is_compared else None,
            )
            incoming.reported = reported
            yield incoming.arrived() if wanted <= CHUNK else incoming

    def etags_are_proven(self) -> None:
        """Note that the ETag of an upload, of at least one byte, was the MD5 of its bytes."""
        self._etags_are_md5s = True

    def holds(self, found: RemoteObject, digest: bytes) -> bool:
        """Return whether an object has this SHA-256. It was just uploaded, and its ETag is not its MD5.

        If it has, this storage's ETags are not MD5s.
        """
        arrived = sha256()
        with self.open(found.path, found._replace(digest=digest), 0, None) as incoming:
            for chunk in incoming:
                arrived.update(chunk)
        if arrived.digest() != digest:
            return False
        self._etags_are_md5s = False
        return True

    def _judged(self, reported: ReportedMd5 | None) -> ReportedMd5 | None:
        """Return a reported MD5 with what is known about ETags; `None` if it is not an MD5."""
        if reported is None or reported.is_certain or self._etags_are_md5s is None:
            return reported
        return reported._replace(is_certain=True) if self._etags_are_md5s else None

    def verify(self, known: RemoteObject, reported: ReportedMd5, arrived: bytes) -> None:
        """Raise `ContentDamaged` unless the MD5 of the bytes that arrived is the object's.

        Nobody promises that an ETag is an MD5. The first match, of an object that is not empty,
        proves it for this storage.
        """
        if arrived == reported.value:
            if not reported.is_certain:
                self._etags_are_md5s = True
        elif reported.is_certain or self._is_damage(known, reported, arrived):
            raise ContentDamaged(
                f"{known.path}: the content that arrived does not match its MD5 in the store.",
                remedy="Try again. If it happens again, something changes data on its way, or the"
                " object is damaged in the store.",
                arrived=arrived,
            )

    def _is_damage(self, known: RemoteObject, reported: ReportedMd5, arrived: bytes) -> bool:
        """Return whether the bytes that arrived are wrong, though their ETag may not be an MD5.

        While that is unknown, the object is read again, unless it is large. Other bytes show that
        one arrival was damaged; the same bytes show that this storage's ETags are not MD5s.
        """
        if self._etags_are_md5s is None and known.size <= _LARGEST_READ_AGAIN:
            again = md5(usedforsecurity=False)
            with self._opened(known, 0, known.size) as second:
                for chunk in Incoming(known, _trimmed(second, 0), known.size):
                    update_in_place(again, chunk)
            if again.digest() == reported.value:
                self._etags_are_md5s = True
            if again.digest() != arrived:
                return True
            # Another read may have proven meanwhile that they are.
            self._etags_are_md5s = self._etags_are_md5s or False
        return bool(self._etags_are_md5s)

    def _found(self, path: str, expect: RemoteObject | None) -> RemoteObject:
        found = self._stat(path)
        if found is None:
            raise ObjectNotFound(f"There is no {path} in {self._location}.")
        check(path, found, expect)
        return found

    @contextmanager
    def _opened(self, known: RemoteObject, offset: int, wanted: int) -> Iterator[Body]:
        """Open the body of the known object, and check that it is this object's.

        A kept URL may be refused because it has expired, or because its signing key or the storage
        has changed. So it is replaced once, as is a fresh URL that has already expired. Only the
        refusal of a fresh URL is the store's error.
        """
        signed, is_kept = self._url_of(known)
        try:
            opened = self._asked(signed, offset, wanted)
            body = opened.__enter__()
        except (StoreError, PathError) as error:
            is_expired = isinstance(error, UrlExpired)
            if isinstance(error, StoreUnavailable) and not is_expired:
                raise  # The storage is busy or unreachable: another URL would not help.
            self._drop(known.path)
            if not is_kept and not is_expired:
                raise
            signed, _ = self._url_of(known)
            opened = self._asked(signed, offset, wanted)
            body = opened.__enter__()
        try:
            self._compare(signed, body, offset, wanted)
            yield body
        finally:
            opened.__exit__(None, None, None)

    @contextmanager
    def _asked(self, signed: SignedUrl, offset: int, wanted: int) -> Iterator[Body]:
        """Send the request. After a refusal, a stat finds whether the object has changed."""
        known = signed.object
        length = None if offset + wanted == known.size else wanted
        try:
            with self._transport.get(
                signed.url, self._key(known.path), etag=signed.etag, offset=offset, length=length
            ) as body:
                yield body
        except (ObjectNotFound, PreconditionFailed, RangeBeyond) as error:
            self._drop(known.path)
            self._found(known.path, known)
            raise StoreUnavailable(
                f"{self._location} shows {known.path} and does not give it out.", ambiguous=False
            ) from error

    def _compare(self, signed: SignedUrl, body: Body, offset: int, wanted: int) -> None:
        """Raise unless the body is that of the known object."""
        known = signed.object
        part = body.start == offset and body.length in (None, wanted)
        whole = body.start == 0 and body.length in (None, known.size)
        if body.size not in (None, known.size) or not (part or whole):
            self._drop(known.path)
            self._found(known.path, known)
            raise unintelligible(self._location, f"part of {known.path}")
        if signed.etag is not None and body.etag == signed.etag:
            return
        if not same_second(body.modified_ns, known.modified_ns):
            self._drop(known.path)
            self._found(known.path, known)
        with self._lock:
            self._urls[known.path] = signed._replace(etag=body.etag)

    def _url_of(self, known: RemoteObject) -> tuple[SignedUrl, bool]:
        """Return a signed URL for an object, and whether it was kept. All parts of an object share it."""
        with self._lock:
            signed = self._urls.get(known.path)
        if signed is not None and is_same(signed.object, known):
            return signed._replace(object=known), True
        signed = SignedUrl(self._transport.download_url(self._key(known.path)), known)
        with self._lock:
            while len(self._urls) >= _URLS_KEPT:
                del self._urls[next(iter(self._urls))]
            self._urls[known.path] = signed
        return signed, False

    def sign(self, known: RemoteObject) -> None:
        """Get a signed URL for an object that will be read soon. Ignores errors: the read will raise them."""
        with suppress(StoreError, PathError):
            self._url_of(known)

    def _drop(self, path: str) -> None:
        with self._lock:
            self._urls.pop(path, None)


def _trimmed(body: Body, offset: int) -> Iterator[bytes]:
    """Drop the bytes that a storage without ranges sends before the requested ones."""
    before = offset - body.start
    for chunk in body.chunks:
        if before >= len(chunk):
            before -= len(chunk)
            continue
        yield chunk[before:] if before else chunk
        before = 0


class StoredSource:
    """An object of the store as the content of a write to it: read in parts, never whole in memory.

    A `stores.base.Source` without a digest: the platform has no place to keep one. What is read in
    order is hashed, and compared with the MD5 that the storage reports.
    """

    digest = b""
    mtime_ns: int | None = None

    def __init__(self, reading: Reading, found: RemoteObject) -> None:
        self._reading = reading
        self._found = found
        self._content: bytes | None = None
        self._reported: ReportedMd5 | None = None
        self._hashed, self._end = md5(usedforsecurity=False), 0
        self.size = found.size

    def load(self) -> None:
        """Read a small object now, while other requests are under way."""
        if self.size <= CHUNK:
            self._content = self.read_at(0, self.size)

    def read_at(self, offset: int, length: int) -> bytes:
        if self._content is not None:
            return self._content[offset : offset + length]
        with self._reading.open(self._found.path, self._found, offset, length) as incoming:
            content = b"".join(incoming)
        if offset == 0:
            self._hashed, self._end = md5(usedforsecurity=False), 0
        if offset == self._end:
            update_in_place(self._hashed, content)
            self._end += length
        self._reported = incoming.reported
        return content

    def verify(self) -> None:
        """Raise `ContentDamaged` if the content, read in order, does not match its MD5."""
        if self._reported is not None and self._end == self.size:
            self._reading.verify(self._found, self._reported, self._hashed.digest())
