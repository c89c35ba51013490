"""Objects on their way through the SDK's public functions, none of which is believed.

What is sent is a private copy that cannot change any more; what arrived is
compared with what the platform shows, and what was stored likewise, or read
back. Temporary files have no names, so that none is left behind.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedRandom

from craftsync.core.model import RemoteObject
from craftsync.errors import StoreError, StoreUnavailable
from craftsync.net.pace import UNPACED, Attempt, Pace
from craftsync.stores.base import Source
from craftsync.stores.craftai.public_calls import PublicCalls
from craftsync.stores.craftai.public_sizes import KnownSizes, Shown, is_size

BLOCK = 1 << 20


class NotAsShown(StoreUnavailable):
    """What arrived cannot be the object that the platform shows."""


class NotStored(StoreUnavailable):
    """After an upload, something else is there: `found`, or nothing."""

    def __init__(self, message: str, found: Shown | None) -> None:
        super().__init__(
            message, remedy="What is found there is put into the store's trash.", ambiguous=False
        )
        self.found = found


class Transfers:
    """Moves whole objects between temporary files and the store, and learns their sizes on the way.

    Uploads of `threshold` bytes and more are read back.
    """

    def __init__(self, calls: PublicCalls, sizes: KnownSizes, threshold: int) -> None:
        self._calls = calls
        self._sizes = sizes
        self._threshold = threshold

    def exact_size(self, shown: Shown) -> int:
        """Return the size of an object, which may have to be learnt by reading it."""
        size = self._sizes.of(shown)
        if size is None:
            size, _ = self._calls.measure(shown)
            self._arrived(shown, size)
        return size

    def fetch(self, shown: Shown, spool: BufferedRandom) -> tuple[int, bytes]:
        """Download an object into a temporary file; return its size and digest."""
        self._calls.download(shown, _name_for_child(spool))
        size = os.fstat(spool.fileno()).st_size
        self._arrived(shown, size)
        spool.seek(0)
        return size, hashlib.file_digest(spool, "sha256").digest()

    def put(
        self, key: str, spool: BufferedRandom, size: int, digest: bytes, pace: Pace = UNPACED
    ) -> Shown:
        """Upload a temporary file and make sure that the store holds it; raises `NotStored`.

        How far the SDK has come, nobody knows: the bytes keep to `pace` as a whole.
        """
        with Attempt(pace) as attempt:
            attempt.take(size)
            shown = self._put(key, spool, size, digest)
            attempt.count(size)
        return shown

    def _put(self, key: str, spool: BufferedRandom, size: int, digest: bytes) -> Shown:
        before = self._calls.look(key)
        failure: StoreUnavailable | None = None
        try:
            self._calls.upload(key, _name_for_child(spool), size)
        except StoreUnavailable as error:
            if not error.ambiguous:
                raise
            failure = error
        found = self._calls.look(key)
        if failure is not None and found == before:
            raise failure
        in_doubt = failure is not None or size >= self._threshold
        if found is None or not self._holds(found, size, digest if in_doubt else None):
            raise NotStored(f"{key} is not stored as it was uploaded.", found) from failure
        self._sizes.learn(found, size)
        return found

    def _holds(self, found: Shown, size: int, digest: bytes | None) -> bool:
        """Tell whether an object is what was uploaded, with a digest by reading it back."""
        if not is_size(found.size, size):
            return False
        return digest is None or self._calls.measure(found) == (size, digest)

    def _arrived(self, shown: Shown, size: int) -> None:
        """Raise `StoreUnavailable` unless so many bytes can be all of the object, and it is still the same.

        A page of a proxy, a body cut short, or one that was unpacked on its
        way has another size.
        """
        if not is_size(shown.size, size):
            raise NotAsShown(
                f"{shown.key}: {size:,} bytes arrived where the platform shows {shown.size}.",
                remedy="An object stored with a Content-Encoding cannot be read by this version"
                " of the SDK; otherwise something on the way changes data.",
                ambiguous=False,
            )
        if self._calls.look(shown.key) != shown:
            raise StoreUnavailable(f"{shown.key} changed while it was read.", ambiguous=False)
        self._sizes.learn(shown, size)


class SpooledReader:
    """The `Reader` of an object that was downloaded whole; bytes from `offset` up to `end`."""

    def __init__(
        self, described: RemoteObject, spool: BufferedRandom, offset: int, end: int | None
    ) -> None:
        self.object = described
        self._spool = spool
        self._offset = offset
        self._end = described.size if end is None else min(end, described.size)

    def __iter__(self) -> Iterator[bytes]:
        for offset in range(self._offset, self._end, BLOCK):
            block = os.pread(self._spool.fileno(), min(BLOCK, self._end - offset), offset)
            if not block:
                raise StoreError(f"{self.object.path}: the temporary file was cut short.")
            yield block


@contextmanager
def spooled(source: Source) -> Iterator[tuple[BufferedRandom, bytes]]:
    """Copy content into a temporary file, so that it cannot change any more; hand out file and digest."""
    digest = hashlib.sha256()
    with tempfile.TemporaryFile() as spool:
        for offset in range(0, source.size, BLOCK):
            block = source.read_at(offset, min(BLOCK, source.size - offset))
            digest.update(block)
            spool.write(block)
        spool.flush()
        source.verify()
        yield spool, digest.digest()


def _name_for_child(spool: BufferedRandom) -> str:
    """Return a name under which a child process can open a file that has none."""
    return f"/proc/{os.getpid()}/fd/{spool.fileno()}"
