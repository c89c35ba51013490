"""An environment's data store through the SDK's public functions only.

The fallback for a version of the SDK whose inside is not the one craftsync
knows. The functions are slow and lose data (they ignore failed parts, forget
last bytes, round sizes, know no timeout), so nothing they say about a write is
believed: everything goes through worker processes, and what counts is looked
at or read back. What that costs is said once, in `LIMITS`.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from craftsync.clock import Clock, SystemClock, stamp
from craftsync.core.model import ABSENT, OWN_FOLDER, RemoteObject, Skipped
from craftsync.core.paths import MAX_PATH_BYTES, is_own, left_out, malformed
from craftsync.errors import ObjectNotFound, PathRefused, PreconditionFailed, StoreFull
from craftsync.stores.base import Expect, Features, Source, UploadJournal, pace_of
from craftsync.stores.craftai.access import Access
from craftsync.stores.craftai.objects import is_same
from craftsync.stores.craftai.public_calls import PublicCalls, PublicLimits
from craftsync.stores.craftai.public_sizes import (
    KnownSizes,
    Shown,
    cache_file,
    exact_size,
    is_size,
)
from craftsync.stores.craftai.public_transfers import (
    NotAsShown,
    NotStored,
    SpooledReader,
    Transfers,
    spooled,
)

LIMITS = (
    "{location} is used through the SDK's public functions only: {slots} transfers at once, no"
    " resuming, objects up to {largest:,} bytes, a whole listing and whole objects in memory."
    " Sizes are shown rounded, so an object that is new to this machine is read once to learn"
    " its size, and a change that keeps the rounded size within one tick of the platform's clock"
    " goes unseen. Uploads from {threshold:,} bytes on are read back."
)

logger = logging.getLogger(__name__)


class PublicStore:
    """Keeps `stores.base.Store` for the objects of an environment below `folder`.

    Nothing is conditional: what is to be replaced or deleted is looked at just
    before. Making a store sends nothing; it says its limits as a warning.
    `sizes` is the file exact sizes are remembered in (see `KnownSizes`).
    """

    def __init__(
        self,
        access: Access,
        folder: str = "",
        *,
        limits: PublicLimits | None = None,
        clock: Clock | None = None,
        sizes: Path | None = None,
    ) -> None:
        folder = folder.strip("/")
        self.root = f"{folder}/" if folder else ""
        self.name = folder.rpartition("/")[2] or access.name
        self.location = f"{access.location}/{folder}".rstrip("/")
        self.features = Features(ranges=False)
        self._clock = clock or SystemClock()
        limits = limits or PublicLimits()
        self._calls = PublicCalls(access, limits, self._clock)
        self._sizes = KnownSizes(sizes or cache_file(access.location))
        self._transfers = Transfers(self._calls, self._sizes, limits.threshold)
        said = LIMITS.format(
            location=self.location,
            slots=limits.slots,
            largest=self._calls.largest,
            threshold=limits.threshold,
        )
        logger.warning(said)

    def prepare(self, saved: str | None) -> str | None:
        return None

    def list(
        self, prefix: str = "", *, boundaries: Sequence[str] = (), nested_own: bool = False
    ) -> Iterator[RemoteObject | Skipped]:
        """List as the contract says; the whole environment is asked for, for nobody says what a folder means to it."""
        hidden = left_out(prefix, nested_own=nested_own)
        listed = self._calls.listing()
        self._sizes.keep_only({shown.key for shown in listed})
        wanted = [shown for shown in listed if shown.key.startswith(self.root + prefix)]
        for shown in sorted(wanted, key=_byte_order):
            path = shown.key.removeprefix(self.root)
            marks_folder = path.endswith("/") and exact_size(shown.size) == 0
            if marks_folder or hidden(path):
                continue
            if reason := malformed(path):
                yield Skipped(path, reason)
            else:
                entry = self._listed(path, shown)
                if entry is not None:
                    yield entry

    def stat(self, path: str) -> RemoteObject | None:
        shown = self._calls.look(self._key(path))
        return None if shown is None else self._described(path, shown)

    @contextmanager
    def read(
        self,
        path: str,
        *,
        expect: RemoteObject | None = None,
        offset: int = 0,
        length: int | None = None,
    ) -> Iterator[SpooledReader]:
        shown = self._calls.look(self._key(path))
        if shown is None:
            raise ObjectNotFound(f"There is no {path} in {self.location}.")
        _check(path, shown, expect)
        with tempfile.TemporaryFile() as spool:
            self._transfers.fetch(shown, spool)
            end = None if length is None else offset + length
            yield SpooledReader(self._described(path, shown), spool, offset, end)

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
        key = self._key(path)
        self._calls.refuse_if_too_large(path, source.size)
        with spooled(source) as (spool, digest):
            current = self._expected(path, expect)
            if current is not None and keep is not None:
                self._keep(path, current, keep)
                self._expected(path, current)
            try:
                shown = self._transfers.put(key, spool, source.size, digest, pace_of(source))
            except NotStored as error:
                self._set_aside(path, error.found)
                raise
        return self._described(path, shown)

    def delete(self, path: str, *, expect: Expect, keep: str | None = None) -> None:
        current = self._calls.look(self._key(path))
        if current is None:
            return
        _check(path, current, expect)
        if keep is not None:
            self._keep(path, current, keep)
            self._expected(path, current)
        self._calls.delete(current.key)

    def copy(
        self, source: RemoteObject, target: str, *, expect: Expect, operation: str
    ) -> RemoteObject:
        """Copy by way of this machine."""
        key = self._key(target)
        shown = self._calls.look(self._key(source.path))
        if shown is None:
            raise ObjectNotFound(f"There is no {source.path} in {self.location}.")
        _check(source.path, shown, source)
        with tempfile.TemporaryFile() as spool:
            size, digest = self._transfers.fetch(shown, spool)
            self._expected(target, expect)
            copied = self._transfers.put(key, spool, size, digest)
        return self._described(target, copied)

    def abort_stale(self, uploads: Iterable[tuple[str, str]]) -> None:
        """Do nothing: the functions know no way to drop an upload, and none is resumed."""

    def barrier(self) -> dict[str, RemoteObject]:
        """Return nothing new: what the platform shows after a write is stored."""
        return {}

    def cancel(self) -> None:
        self._calls.cancel()

    def renew(self) -> None:
        self._calls.renew()

    def close(self) -> None:
        self._calls.close()
        self._sizes.save()

    def _key(self, path: str) -> str:
        key = self.root + path
        try:
            length = len(key.encode())
        except UnicodeEncodeError:
            raise PathRefused(f"The name {path!r} is not valid UTF-8.") from None
        if not path or length > MAX_PATH_BYTES:
            raise PathRefused(f"{path} cannot be a key: {length} bytes, 1 to 1024 are taken.")
        if not {".", ".."}.isdisjoint(key.split("/")):
            # Such an object can be uploaded and never be downloaded: URLs do without these parts.
            raise PathRefused(f'{path} cannot be a key: a part of it is "." or "..".')
        return key

    def _listed(self, path: str, shown: Shown) -> RemoteObject | Skipped | None:
        try:
            return self._described(path, shown)
        except (StoreFull, NotAsShown) as error:
            return Skipped(path, str(error), failed=True)
        except ObjectNotFound:
            return None

    def _described(self, path: str, shown: Shown) -> RemoteObject:
        size = self._transfers.exact_size(shown)
        return RemoteObject(path, size, shown.modified_ns, shown.version)

    def _expected(self, path: str, expect: Expect | Shown) -> Shown | None:
        """Look at what is to be replaced; raises `PreconditionFailed` if it is not what was expected."""
        current = self._calls.look(self._key(path))
        _check(path, current, expect)
        return current

    def _set_aside(self, path: str, found: Shown | None) -> None:
        """Move a damaged upload into the trash, where nobody takes it for the file.

        Into the trash because it could also be what another client wrote since.
        """
        if found is None or is_own(path):
            return
        self._keep(path, found, stamp(self._clock))
        if self._calls.look(found.key) == found:
            self._calls.delete(found.key)

    def _keep(self, path: str, current: Shown, keep: str) -> None:
        """Copy an object into the trash."""
        key = self._key(f"{OWN_FOLDER}/trash/{keep}/{path}")
        with tempfile.TemporaryFile() as spool:
            try:
                size, digest = self._transfers.fetch(current, spool)
            except ObjectNotFound as error:
                raise PreconditionFailed(f"{path} is gone.") from error
            self._transfers.put(key, spool, size, digest)


def _check(path: str, current: Shown | None, expect: Expect | Shown) -> None:
    """Raise `PreconditionFailed` unless a look agrees with what was expected."""
    if expect is None:
        return
    if expect is ABSENT:
        if current is not None:
            raise PreconditionFailed(f"{path} already exists in the store.")
        return
    if current is None:
        raise PreconditionFailed(f"{path} is gone.")
    if isinstance(expect, Shown):
        same = current == expect
    else:
        seen = RemoteObject(path, expect.size, current.modified_ns, current.version)
        same = is_size(current.size, expect.size) and is_same(seen, expect)
    if not same:
        raise PreconditionFailed(f"{path} has changed.")


def _byte_order(shown: Shown) -> bytes:
    return shown.key.encode(errors="surrogatepass")
