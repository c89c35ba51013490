"""A bucket, or a prefix in one, as a store.

What a write may replace is left to the server where it was found to check it
(`ProbedFacts`), and looked at just before where it was not. This file decides
the order of requests; how each is made is `calls` and `carrier`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from hashlib import md5

from craftsync.clock import Clock, SystemClock
from craftsync.core.model import RemoteObject, Skipped
from craftsync.core.paths import MAX_PATH_BYTES
from craftsync.errors import (
    ObjectNotFound,
    PathObstructed,
    PathRefused,
    StoreError,
    StoreUnavailable,
)
from craftsync.hashing import fed
from craftsync.stores.base import Expect, Source, UploadJournal
from craftsync.stores.retrying import Patience
from craftsync.stores.s3.absence import Absence
from craftsync.stores.s3.calls import Calls
from craftsync.stores.s3.carrier import ObstoreCarrier
from craftsync.stores.s3.displacing import Checks, Displacing, Limits, check
from craftsync.stores.s3.errors import RangeBeyond
from craftsync.stores.s3.facts import ProbedFacts
from craftsync.stores.s3.listing import Listing, Parameters
from craftsync.stores.s3.multipart import Uploads
from craftsync.stores.s3.objects import OPERATION, Condition, notes
from craftsync.stores.s3.probe import probe
from craftsync.stores.s3.reader import ObjectReader
from craftsync.stores.s3.routing import RoutingCarrier
from craftsync.stores.s3.session import open_session
from craftsync.stores.s3.wire import Wire


class S3Store:
    """Keeps `stores.base.Store` for the keys of a bucket that start with `prefix`.

    Credentials, region and endpoint come from the arguments, else from where
    boto3 looks. Making a store sends nothing.

    Where the server does not check a condition (see `learn`), the store looks
    at what is to be replaced just before, and a writer that gets in between is
    overwritten. For a new object, a complete listing that began no more than
    `Limits.fresh_listing_seconds` ago is taken for the look. `transfers` is how
    many connections are kept.
    """

    def __init__(  # noqa: PLR0913 (each stands for itself and has a default)
        self,
        bucket: str,
        prefix: str = "",
        *,
        profile: str | None = None,
        region: str | None = None,
        endpoint_url: str | None = None,
        transfers: int = 16,
        facts: ProbedFacts | None = None,
        clock: Clock | None = None,
        limits: Limits | None = None,
    ) -> None:
        folder = prefix.strip("/")
        self.root = f"{folder}/" if folder else ""
        self.name = folder.rpartition("/")[2] or bucket
        self.location = f"s3://{bucket}/{folder}".rstrip("/")
        self._clock = clock or SystemClock()
        session = open_session(bucket, profile=profile, region=region, endpoint_url=endpoint_url)
        self._wire = Wire(session, self.location, self._clock, keep=transfers)
        self._limits = limits or Limits()
        self.calls = Calls(self._wire, bucket, self.location)
        quick = ObstoreCarrier(session, self.location, self._clock)
        self._carrier = RoutingCarrier(quick, self.calls)
        self._uploads = Uploads(self.calls, self._limits.smallest_part)
        self._absence = Absence(self._all_paths, self._clock, self._limits.fresh_listing_seconds)
        self._displacing = Displacing(
            self.calls,
            self._uploads,
            self._limits,
            key=self._key,
            look=self.stat,
            absence=self._absence,
        )
        self.learn(facts or ProbedFacts())

    def learn(self, facts: ProbedFacts) -> None:
        """Rely on these facts from now on (`probe.probe` finds them)."""
        self.facts = facts
        self.features = facts.features()

    def prepare(self, saved: str | None) -> str | None:
        facts = ProbedFacts.from_json(saved) if saved else None
        if facts is None:
            facts = probe(self)
        self.learn(facts)
        return facts.to_json()

    def list(
        self, prefix: str = "", *, boundaries: Sequence[str] = ()
    ) -> Iterator[RemoteObject | Skipped]:
        began = self._clock.monotonic()
        listing = self._listing()
        yield from listing.entries(prefix, boundaries)
        if not prefix:
            self._absence.listed(began, listing.count)

    def stat(self, path: str) -> RemoteObject | None:
        key = self._key(path)
        found = self._carrier.head(key)
        return found.at(path) if found else None

    @contextmanager
    def read(
        self,
        path: str,
        *,
        expect: RemoteObject | None = None,
        offset: int = 0,
        length: int | None = None,
    ) -> Iterator[ObjectReader]:
        try:
            if length == 0:
                raise RangeBeyond(f"Nothing of {path} was asked for.")
            version = expect.version if expect else None
            with self._carrier.get(self._key(path), version, offset, length) as opened:
                found = opened.found.at(path)
                check(path, found, expect)
                rest = max(found.size - offset, 0)
                wanted = rest if length is None else min(length, rest)
                if (opened.start, opened.length) != (offset, wanted):
                    raise StoreError(f"{self.location} sent other bytes of {path} than asked for.")
                yield ObjectReader(found, opened.chunks, wanted)
        except RangeBeyond:
            current = self.stat(path)
            if current is None:
                raise ObjectNotFound(f"There is no {path} in {self.location}.") from None
            check(path, current, expect)
            yield ObjectReader(current, iter(()), 0)

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
        metadata = notes(source.digest, source.mtime_ns, operation)
        written = RemoteObject(
            path, source.size, None, None, source.digest, source.mtime_ns, operation
        )
        if source.size > self._limits.single_put:
            checks = Checks(
                self.facts.conditional_complete_create, self.facts.conditional_complete_replace
            )
            version = self._uploads.send(
                key, source, metadata, partial(self._prepared, path, expect, keep, checks), journal
            )
            return self._after_completion(written._replace(version=version))
        body = source.read_at(0, source.size)
        source.verify()
        checks = Checks(self.features.conditional_create, self.features.conditional_replace)
        condition = self._prepared(path, expect, keep, checks)
        try:
            version = self._carrier.put(key, body, metadata, condition)
        except StoreUnavailable:
            # Only the first failure says whether the write may have been carried out.
            with suppress(StoreUnavailable):
                self._refuse_if_obstructed(path)
            raise
        self._check_md5(key, body, version)
        return written._replace(version=version or None)

    def delete(self, path: str, *, expect: Expect, keep: str | None = None) -> None:
        keep = None if self.features.keeps_versions else keep
        checked = self.features.conditional_delete and isinstance(expect, RemoteObject)
        current = expect
        if not checked and (keep is not None or expect is not None):
            current = self.stat(path)
            if current is None:
                return
            check(path, current, expect)
        version = current.version if isinstance(current, RemoteObject) else None
        if keep is not None and isinstance(current, RemoteObject):
            try:
                self._displacing.keep(current, keep)
            except ObjectNotFound:
                return
        self.calls.delete(self._key(path), version if self.features.conditional_delete else None)

    def copy(
        self, source: RemoteObject, target: str, *, expect: Expect, operation: str
    ) -> RemoteObject:
        seen = self.calls.look(self._key(source.path))
        if seen is None:
            raise ObjectNotFound(f"There is no {source.path} in {self.location}.")
        found, headers = seen
        current = found.at(source.path)
        check(source.path, current, source)
        metadata = {**found.metadata, OPERATION: operation}
        condition = self._prepared(
            target, expect, None, Checks(self.facts.conditional_copy, replace=False)
        )
        version = self._displacing.copied(
            current, self._key(target), (headers, metadata), condition
        )
        copied = found._replace(version=version or None, metadata=metadata, modified_ns=None)
        return copied.at(target)

    def abort_stale(self, uploads: Iterable[tuple[str, str]]) -> None:
        """Drop uploads in parts that nobody will resume: pairs of path and upload id."""
        for path, upload_id in uploads:
            self.calls.abort_upload(self._key(path), upload_id)

    def barrier(self) -> Mapping[str, RemoteObject]:
        """Return nothing new: what S3 has acknowledged is durable."""
        return {}

    def close(self) -> None:
        self._uploads.close()
        self._wire.close()

    def _listing(self) -> Listing:
        return Listing(
            self._page,
            self.root,
            self.location,
            page=self._limits.page,
            in_order=self.features.sorted_listing,
        )

    def _all_paths(self) -> set[str]:
        return {entry.path for entry in self._listing().entries("")}

    def _page(self, query: Parameters) -> bytes:
        """Fetch a page of a listing.

        A later one is tried again in its place, and only it: a listing of ten
        thousand pages that began anew at each failure would never end.
        """
        if any(name in ("continuation-token", "start-after") for name, _ in query):
            return Patience(self._clock).retried(partial(self.calls.list_page, query))
        return self.calls.list_page(query)

    def _key(self, path: str) -> str:
        key = self.root + path
        try:
            length = len(key.encode())
        except UnicodeEncodeError:
            raise PathRefused(f"The name {path!r} is not valid UTF-8.") from None
        if length > MAX_PATH_BYTES or not path:
            raise PathRefused(f"{path} cannot be a key: {length} bytes, S3 takes 1 to 1024.")
        return key

    def _refuse_if_obstructed(self, path: str) -> None:
        """Raise `PathObstructed` when a store made of folders failed for that reason, which it does not say."""
        if not self.features.folders:
            return
        parts = path.split("/")
        above = ("/".join(parts[:count]) for count in range(1, len(parts)))
        if any(self.stat(folder) for folder in above) or any(True for _ in self.list(path + "/")):
            raise PathObstructed(f"{path} is in the way of a folder, or a folder in its own.")

    def _prepared(self, path: str, expect: Expect, keep: str | None, checks: Checks) -> Condition:
        kept = None if self.features.keeps_versions else keep
        return self._displacing.prepared(path, expect, kept, checks)

    def _after_completion(self, written: RemoteObject) -> RemoteObject:
        """Return what is there after an upload in parts.

        Some servers give the object another version than the completion said
        (rclone), and a resumed upload bears the operation it began with.
        """
        found = self.stat(written.path)
        ours = found is not None and (
            found.version == written.version or found.digest == written.digest
        )
        return found if found is not None and ours else written

    def _check_md5(self, key: str, body: bytes, version: str) -> None:
        """Remove what was just written and raise when the server stored something else."""
        if not self.features.md5_versions or len(version) != 32:
            return
        if fed(md5(usedforsecurity=False), body).hexdigest() != version:
            self.calls.delete(key, version if self.features.conditional_delete else None)
            raise StoreUnavailable(
                f"{self.location} stored other bytes for {key} than were sent.",
                remedy="Check the network and the store: something changes data on its way.",
                ambiguous=False,
            )
