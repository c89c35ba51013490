"""Objects being read: through signed URLs that are kept while they serve, counted and compared.

A body is believed only when the storage sends as many bytes as the platform
said the object has, and when the object bears the time it is expected to bear;
what the storage leaves out comes from the platform. So the page of a proxy, or
an object that was replaced since, never passes for the one expected.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, NamedTuple, Protocol

from craftsync.core.model import RemoteObject
from craftsync.errors import (
    ObjectNotFound,
    PathError,
    PreconditionFailed,
    StoreError,
    StoreUnavailable,
)
from craftsync.net.waiting import after_fork
from craftsync.stores.base import Source
from craftsync.stores.craftai.errors import RangeBeyond, UrlExpired, unintelligible
from craftsync.stores.craftai.listing import check, is_same, same_second
from craftsync.stores.craftai.signed import CHUNK, Body, Receipt

_URLS_KEPT = 64


class Transport(Protocol):
    """What a store needs of an environment: `Storage`, or the SDK in its place."""

    date: str | None
    """When the platform made the last answer, as its header says it; `None` where that is not seen."""

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
    """A signed URL for an object, and the ETag it was found to have when it was compared."""

    url: str
    object: RemoteObject
    etag: str | None = None


class Incoming:
    """Keeps `stores.base.Reader`: hands the bytes on and raises unless all of them came."""

    def __init__(
        self,
        found: RemoteObject,
        chunks: Iterator[bytes],
        length: int,
        *,
        to_end: bool = True,
    ) -> None:
        self.object = found
        self.properties = None
        self._chunks = chunks
        self._length = length
        self._to_end = to_end

    def __iter__(self) -> Iterator[bytes]:
        missing = self._length
        while missing:
            chunk = next(self._chunks, b"")[:missing]
            if not chunk:
                raise self._wrong(f"{self._length - missing} of {self._length} bytes came")
            missing -= len(chunk)
            yield chunk
        if self._to_end and next(self._chunks, b""):
            raise self._wrong(f"more than {self._length} bytes came")

    def arrived(self) -> Incoming:
        """Return the same, with all bytes here."""
        return Incoming(self.object, iter([b"".join(self)]), self._length)

    def _wrong(self, what: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"{self.object.path} did not arrive as announced: {what}.", remedy="Try again later."
        )


class Reading:
    """Opens objects. `key` maps a path to its key, `stat` describes what is at a path."""

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
            to_end = offset + wanted == known.size
            incoming = Incoming(known, _trimmed(body, offset), wanted, to_end=to_end)
            yield incoming.arrived() if wanted <= CHUNK else incoming

    def _found(self, path: str, expect: RemoteObject | None) -> RemoteObject:
        found = self._stat(path)
        if found is None:
            raise ObjectNotFound(f"There is no {path} in {self._location}.")
        check(path, found, expect)
        return found

    @contextmanager
    def _opened(self, known: RemoteObject, offset: int, wanted: int) -> Iterator[Body]:
        """Open a body that was found to be of the known object.

        A kept URL may be refused for whatever has changed since it was signed:
        its time, the key it was signed with, the storage itself. So it is
        replaced once, as is a fresh one that has expired already; only what a
        fresh URL is refused for is the store's.
        """
        signed, is_kept = self._url_of(known)
        try:
            opened = self._asked(signed, offset, wanted)
            body = opened.__enter__()
        except (StoreError, PathError) as error:
            is_expired = isinstance(error, UrlExpired)
            if isinstance(error, StoreUnavailable) and not is_expired:
                raise  # It is busy, or could not be reached: another URL would not have helped.
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
        """Send the request; what a refusal means is found by a stat of the object."""
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
        """Raise unless the body is the known object's."""
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
        """Return a signed URL for an object, and whether it was kept; the parts of one object share it."""
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
        """Get a signed URL for an object that will be read soon. Whoever reads it finds out why there is none."""
        with suppress(StoreError, PathError):
            self._url_of(known)

    def _drop(self, path: str) -> None:
        with self._lock:
            self._urls.pop(path, None)


def _trimmed(body: Body, offset: int) -> Iterator[bytes]:
    """Leave out what a storage without ranges sends before the bytes that were asked for."""
    before = offset - body.start
    for chunk in body.chunks:
        if before >= len(chunk):
            before -= len(chunk)
            continue
        yield chunk[before:] if before else chunk
        before = 0


class StoredSource:
    """An object of the store as content to be written to it again: read in parts, never held as a whole.

    Keeps `stores.base.Source`, but its digest is unknown: nothing the platform
    keeps would bear it.
    """

    digest = b""
    mtime_ns: int | None = None

    def __init__(self, reading: Reading, found: RemoteObject) -> None:
        self._reading = reading
        self._found = found
        self._content: bytes | None = None
        self.size = found.size

    def load(self) -> None:
        """Read a small object now, so that other requests can be made in the same time."""
        if self.size <= CHUNK:
            self._content = self.read_at(0, self.size)

    def read_at(self, offset: int, length: int) -> bytes:
        if self._content is not None:
            return self._content[offset : offset + length]
        with self._reading.open(self._found.path, self._found, offset, length) as incoming:
            return b"".join(incoming)

    def verify(self) -> None:
        """Each read was compared with the object already."""
