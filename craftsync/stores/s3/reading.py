"""Reads objects: checks that it is the expected version, that all bytes arrive, and their MD5."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from craftsync.core.model import OWN_FOLDER, RemoteObject
from craftsync.errors import (
    ContentDamaged,
    ObjectNotFound,
    PreconditionFailed,
    StoreDenied,
    StoreError,
    StoreUnavailable,
)
from craftsync.hashing import update_in_place
from craftsync.stores.base import Properties
from craftsync.stores.s3.errors import RangeBeyond
from craftsync.stores.s3.facts import ProbedFacts
from craftsync.stores.s3.objects import Found
from craftsync.stores.s3.preconditions import check
from craftsync.stores.s3.requests import Calls


class ObjectReader:
    """A `stores.base.Reader` that raises unless all bytes arrive."""

    def __init__(
        self,
        described: RemoteObject,
        found: Found,
        chunks: Iterator[bytes],
        length: int,
        md5_is_reliable: Callable[[], bool],
    ) -> None:
        """`md5_is_reliable` returns whether this server's ETags really are MD5s. It is called on a mismatch."""
        self.object = described
        self._found = found
        self._chunks = chunks
        self._length = length
        self._md5_is_reliable = md5_is_reliable

    @property
    def properties(self) -> Properties:
        return self._found.properties

    def __iter__(self) -> Iterator[bytes]:
        missing, hashed = self._length, self._md5()
        for chunk in self._chunks:
            missing -= len(chunk)
            if missing < 0:
                break
            if hashed is not None:
                update_in_place(hashed, chunk)
                if not missing:
                    self._compare(hashed.digest())
            yield chunk
        if missing:
            raise StoreUnavailable(
                f"{self.object.path} did not arrive as announced: "
                f"{self._length - missing} of {self._length} bytes came.",
                remedy="Try again later.",
            )

    def _md5(self) -> hashlib._Hash | None:
        """Return a hash to compare at the end; `None` for a part of an object, or if the SHA-256 is known."""
        known = self.object
        whole = self._length == known.size and known.digest is None
        return hashlib.md5(usedforsecurity=False) if whole and known.md5 is not None else None

    def _compare(self, md5: bytes) -> None:
        if md5 != self.object.md5 and self._md5_is_reliable():
            raise ContentDamaged(
                f"{self.object.path}: the content that arrived does not match its MD5 in the store.",
                remedy="Try again. If it happens again, something changes data on its way, or the"
                " object is damaged in the store.",
                arrived=md5,
            )


class Reading:
    """Opens objects of one store for reading."""

    def __init__(
        self,
        calls: Calls,
        location: str,
        facts: Callable[[], ProbedFacts],
        md5_is_reliable: Callable[[], bool],
    ) -> None:
        """`facts` returns the facts known now; `md5_is_reliable` is as for `ObjectReader`."""
        self._calls = calls
        self._location = location
        self._facts = facts
        self._md5_is_reliable = md5_is_reliable

    @contextmanager
    def version(self, path: str, key: str, version_id: str) -> Iterator[ObjectReader]:
        """Open an old version that the bucket keeps."""
        with self._calls.get(key, None, 0, None, version_id) as opened:
            described = opened.found.at(path)
            yield ObjectReader(
                described, opened.found, opened.chunks, described.size, self._md5_is_reliable
            )

    @contextmanager
    def opened(
        self, path: str, key: str, expect: RemoteObject | None, offset: int, length: int | None
    ) -> Iterator[ObjectReader]:
        """Open the object at a key, as `Store.read` does."""
        try:
            if length == 0:
                raise RangeBeyond(f"No byte of {path} was requested.")
            match = self._facts().read_form.of(expect.version if expect else None)
            with self._calls.get(key, match, offset, length) as opened:
                described = opened.found.at(path)
                check(path, described, expect)
                rest = max(described.size - offset, 0)
                wanted = rest if length is None else min(length, rest)
                if (opened.start, opened.length) != (offset, wanted):
                    raise StoreError(f"{self._location} sent other bytes of {path} than requested.")
                yield ObjectReader(
                    described, opened.found, opened.chunks, wanted, self._md5_is_reliable
                )
        except RangeBeyond:
            found = self._calls.head(key)
            if found is None:
                raise ObjectNotFound(f"There is no {path} in {self._location}.") from None
            described = found.at(path)
            check(path, described, expect)
            yield ObjectReader(described, found, iter(()), 0, self._md5_is_reliable)


def is_ours(found: RemoteObject, written: RemoteObject) -> bool:
    """Return whether the object that a stat found is the one just written.

    One match suffices: after a multipart upload some servers give the object another version than
    the completion returned (rclone), and a resumed upload has the operation id it began with.
    """
    return (
        (found.version is not None and found.version == written.version)
        or (found.digest is not None and found.digest == written.digest)
        or (found.operation is not None and found.operation == written.operation)
    )


def holds(calls: Calls, key: str, match: str | None, body: bytes) -> bool:
    """Read back an object whose ETag is not the MD5 of `body`; return whether it holds `body`."""
    try:
        with calls.get(key, match, 0, None) as opened:
            return b"".join(opened.chunks) == body
    except (PreconditionFailed, ObjectNotFound, StoreDenied):
        # It was replaced since, or may not be read: only the ETag suggests damage.
        return True


def gives_md5_etags(calls: Calls, root: str) -> bool:
    """Probe again whether ETags are MD5s. `root` is the prefix of the store's keys.

    If the probe fails, or its object is stored damaged, they still count as MD5s.
    """
    key, body = f"{root}{OWN_FOLDER}/probe/{uuid.uuid4().hex}", b"craftsync"
    try:
        stored = calls.put(key, body, {}, None)
    except StoreError:
        return True
    is_damaged = False
    with suppress(StoreError):
        is_damaged = content_of(calls, key) != body
    with suppress(StoreError):
        calls.delete(key)
    return is_damaged or not stored.disagrees


def content_of(calls: Calls, key: str) -> bytes:
    """Return the content of a small object."""
    with calls.get(key, None, 0, None) as opened:
        return b"".join(opened.chunks)
