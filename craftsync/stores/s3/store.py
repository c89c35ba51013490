"""`S3Store`: a bucket, or a prefix in one, as a store.

This module decides which requests are made and in what order; `requests` sends them. If the server
checks conditions (`ProbedFacts`), it decides what a write may replace; if not, a stat just before
does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from functools import partial

from craftsync.clock import Clock, SystemClock
from craftsync.core.model import Absent, RemoteObject, Skipped, Subfolder
from craftsync.errors import CraftsyncError, ObjectNotFound, PathError, StoreUnavailable
from craftsync.stores.base import (
    Expect,
    OldVersion,
    Origin,
    Properties,
    Source,
    UnfinishedUpload,
    UploadJournal,
    cancel,
    key_of,
    pace_of,
    renew,
    written_already,
)
from craftsync.stores.s3.copy import BucketCopy, origin_of
from craftsync.stores.s3.credentials import Session, open_session
from craftsync.stores.s3.errors import stored_otherwise, unconfirmed
from craftsync.stores.s3.facts import Checks, ProbedFacts
from craftsync.stores.s3.listing import AfterEnd, FreshListing, Listing, patient
from craftsync.stores.s3.multipart import Uploads, unfinished
from craftsync.stores.s3.objects import (
    AS_THE_BUCKET,
    OPERATION,
    Condition,
    Stored,
    WriteSettings,
    notes,
    old_versions,
)
from craftsync.stores.s3.preconditions import (
    UNSEEN,
    Deleting,
    Limits,
    Preconditions,
    Replaced,
    check,
)
from craftsync.stores.s3.probe import probe
from craftsync.stores.s3.reading import ObjectReader, Reading, gives_md5_etags, holds, is_ours
from craftsync.stores.s3.requests import Calls
from craftsync.stores.s3.wire import Wire
from craftsync.stores.sources import Beside, StoreHealth, check_room

_PUTS = 3
"""Attempts to put a small object that the server damages."""

_CONNECTIONS = 256
"""The most connections kept: one for each transfer that can be under way."""


class S3Store:
    """A `stores.base.Store` for the keys of a bucket that start with `prefix`.

    Credentials, region and endpoint come from the arguments, else from boto3's sources. The
    constructor sends no request. With `raw_keys`, keys that no folder can hold are objects like
    all others. New objects get the properties in `settings`.

    If the server does not check a condition (see `learn`), the store makes a stat just before it
    replaces an object; another client's write in between is overwritten. For a new object, a
    complete listing that began at most `Limits.fresh_listing_seconds` ago replaces the stat.
    """

    def __init__(  # noqa: PLR0913 (independent settings, each with a default)
        self,
        bucket: str,
        prefix: str = "",
        *,
        profile: str | None = None,
        region: str | None = None,
        endpoint_url: str | None = None,
        request_payer: bool = False,
        facts: ProbedFacts | None = None,
        clock: Clock | None = None,
        limits: Limits | None = None,
        raw_keys: bool = False,
        settings: WriteSettings = AS_THE_BUCKET,
    ) -> None:
        folder = prefix.strip("/")
        self.root = f"{folder}/" if folder else ""
        self.name = folder.rpartition("/")[2] or bucket
        self.location = f"s3://{bucket}/{folder}".rstrip("/")
        self.clock = clock or SystemClock()
        self.health = StoreHealth(self.clock)
        self._raw_keys = raw_keys
        session_of = partial(
            open_session,
            profile=profile,
            region=region,
            endpoint_url=endpoint_url,
            request_payer=request_payer,
        )
        session = session_of(bucket)
        self._origin = origin_of(session, bucket, self.root, profile)
        self._wire = Wire(session, self.location, self.clock, keep=_CONNECTIONS)
        self._limits, self._settings = limits or Limits(), settings
        self._md5_confirmed = False
        self._tidying = Beside(self)
        self.calls = Calls(self._wire, bucket, self.location)
        self.calls.encryption = settings.encryption()
        self._reading = Reading(self.calls, self.location, self._facts, self._md5_is_reliable)
        self._open_for_writing(session_of)
        self.learn(facts or ProbedFacts())

    def _open_for_writing(self, session_of: Callable[[str], Session]) -> None:
        self._deleting = Deleting(self.calls)
        self._uploads = Uploads(self.calls, self._limits.smallest_part, self._wire.host)
        self._bucket_copy = BucketCopy(
            self.calls,
            self._uploads,
            self._limits,
            session_of=session_of,
            clock=self.clock,
            facts=self._facts,
            transfers=_CONNECTIONS,
        )
        self._fresh_listing = FreshListing(
            self._all_paths, self.clock, self._limits.fresh_listing_seconds
        )
        self._preconditions = Preconditions(
            self.calls,
            self._uploads,
            self._limits,
            location=self.location,
            key=self._key,
            absence=self._fresh_listing,
            facts=self._facts,
        )

    def _facts(self) -> ProbedFacts:
        return self.facts

    def learn(self, facts: ProbedFacts) -> None:
        """Use these facts from now on (`probe.probe` finds them)."""
        self.facts = facts
        self._put_checks = facts.put_checks()
        self.calls.md5_etags = facts.md5_versions
        self.calls.names_versions = facts.versions
        self.calls.part_digests = facts.part_digests
        self.features = replace(
            facts.features(),
            raw_keys=self._raw_keys and not facts.folders,
            origin=self._origin,
            properties=True,
            host=self._wire.address,
            lists_uploads=True,
            writes_as=self._settings.text(),
            signed_urls=True,
        )

    def prepare(self, saved: str | None) -> str | None:
        known = ProbedFacts.from_json(saved) if saved else None
        facts = known or probe(self, self._tidying.begin)
        self.learn(facts)
        return facts.to_json()

    def list(
        self, prefix: str = "", *, boundaries: Sequence[str] = (), nested_own: bool = False
    ) -> Iterator[RemoteObject | Skipped]:
        began = self.clock.monotonic()
        listing = self._listing()
        yield from listing.entries(prefix, boundaries, nested_own=nested_own)
        if not prefix:
            self._fresh_listing.listed(began, listing.count, listing.after_end)

    def list_folder(self, folder: str = "") -> Iterator[RemoteObject | Subfolder | Skipped]:
        return self._listing().folder(folder)

    def stat(self, path: str) -> RemoteObject | None:
        key = self._key(path)
        found = self.calls.head(key)
        return found.at(path) if found else None

    def read(
        self,
        path: str,
        *,
        expect: RemoteObject | None = None,
        offset: int = 0,
        length: int | None = None,
    ) -> AbstractContextManager[ObjectReader]:
        return self._reading.opened(path, self._key(path), expect, offset, length)

    def properties(self, expect: RemoteObject) -> Properties:
        key = self._key(expect.path)
        seen = self.calls.look(key)
        if seen is None:
            raise ObjectNotFound(f"There is no {expect.path} in {self.location}.")
        found, headers = seen
        check(expect.path, found.at(expect.path), expect)
        return found.properties._replace(tags=self.calls.tags_of(key, headers))

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
        key = self._key(path)
        new = RemoteObject(path, source.size, None, None, source.digest, source.mtime_ns, operation)
        if source.size > self._limits.single_put:
            return self._write_in_parts(new, source, expect, trash_stamp, journal, properties)
        body = source.read_at(0, source.size)
        source.verify()
        # All is read by now, so this stat also serves as the one just before the write.
        replaced = UNSEEN
        if not properties and not isinstance(expect, Absent):
            look = partial(self._preconditions.replaced, path, expect)
            replaced, trash_stamp = self._preconditions.looked_and_kept(look, expect, trash_stamp)
        headers, metadata = self._described(new, source, replaced, properties)
        condition = self._prepared(path, expect, trash_stamp, self._put_checks, replaced)
        try:
            stored = self._put(key, body, metadata, condition, headers, source)
        except StoreUnavailable:
            # Raise the first failure: only it shows whether the write may have been carried out.
            with suppress(StoreUnavailable):
                check_room(self, path)
            raise
        if not stored.version:
            return self._verified_without_etag(new, body)
        return new._replace(version=stored.version, md5=stored.md5)

    def _write_in_parts(
        self,
        written: RemoteObject,
        source: Source,
        expect: Expect,
        trash_stamp: str | None,
        journal: UploadJournal | None,
        properties: Properties | None,
    ) -> RemoteObject:
        path, checks = written.path, self.facts.completion_checks()
        replaced = Replaced() if properties else self._preconditions.replaced(path, expect)
        described = self._described(written, source, replaced, properties)
        self._confirm_can_be_kept(path, trash_stamp)
        prepared = partial(self._prepared, path, expect, trash_stamp, checks, may_list=False)
        sent = self._uploads.send(self._key(path), source, described, prepared, journal)
        written = written._replace(version=sent.version, digest=source.digest or None)
        is_known = self.facts.completed_versions and sent.is_proven
        return written if is_known else self._after_completion(written)

    def _described(
        self,
        written: RemoteObject,
        source: Source,
        replaced: Replaced,
        properties: Properties | None,
    ) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """Return the headers and the metadata for new content."""
        noted = notes(source.digest, source.mtime_ns, written.operation or "")
        return replaced.described(written.path, properties, self._settings, noted)

    def delete(self, path: str, *, expect: Expect, trash_stamp: str | None = None) -> None:
        trash_stamp = None if self.features.keeps_versions else trash_stamp
        checks = self.facts.delete_checks()
        current = expect if isinstance(expect, RemoteObject) else None
        checked = checks.replace and current is not None and bool(current.version)
        if not checked and (trash_stamp is not None or expect is not None):
            look = partial(self.stat, path)
            current, trash_stamp = self._preconditions.looked_and_kept(look, expect, trash_stamp)
            if current is None:
                return
            check(path, current, expect)
        version = current.version if current is not None else None
        if trash_stamp is not None and current is not None:
            try:
                self._preconditions.copy_to_trash(current, trash_stamp)
            except ObjectNotFound as error:
                if self.stat(path) is None:
                    return
                raise PathError(
                    f"{path} was not deleted: the server could not copy it to the trash, though it is there.",
                    remedy="Run it again. If it happens again, run craftsync doctor.",
                ) from error
        self.calls.delete(self._key(path), checks.matching(version))

    def delete_each(self, paths: Sequence[str]) -> dict[str, CraftsyncError]:
        return self._deleting.deleted(self, {self._key(path): path for path in paths})

    def copy(
        self,
        source: RemoteObject,
        target: str,
        *,
        expect: Expect,
        operation: str,
        trash_stamp: str | None = None,
    ) -> RemoteObject:
        seen = self.calls.look(self._key(source.path))
        if seen is None:
            raise ObjectNotFound(f"There is no {source.path} in {self.location}.")
        found, headers = seen
        current = found.at(source.path)
        check(source.path, current, source)
        metadata = {**found.metadata, OPERATION: operation}
        condition = self._prepared(target, expect, trash_stamp, self.facts.copy_checks())
        version = self._preconditions.copied(
            current, self._key(target), (headers, metadata), condition, self._settings.storage_class
        )
        copied = found._replace(version=version or None, metadata=metadata, modified_ns=None)
        if version:
            return copied.at(target)
        there = self._looked_at(copied.at(target))
        if there.operation not in (None, operation, current.operation):
            raise unconfirmed(self.location, target, "an ETag")
        return there

    def move(self, source: RemoteObject, target: str, *, operation: str) -> RemoteObject:
        raise NotImplementedError(f"{self.name} cannot rename: check its features first")

    def copy_from(
        self,
        origin: Origin,
        source: RemoteObject,
        *,
        expect: Expect,
        trash_stamp: str | None = None,
        journal: UploadJournal | None = None,
        storage_class: str | None = None,
        target: str | None = None,
    ) -> RemoteObject:
        in_parts = source.size > self._limits.quick_copy
        path = source.path if target is None else target
        condition, key = partial(self._prepared, path, expect, trash_stamp), self._key(path)
        chosen = storage_class or self._settings.storage_class
        version = self._bucket_copy.copied(origin, source, key, condition, journal, chosen)
        copied = RemoteObject(path, source.size, None, version or None)
        if version and not in_parts:
            return copied
        return self._after_completion(copied)

    def abort_stale(self, uploads: Iterable[tuple[str, str]]) -> None:
        """Abort multipart uploads that no run will resume, given as (path, upload id)."""
        for path, upload_id in uploads:
            self.calls.abort_upload(self._key(path), upload_id)

    def old_versions(self, prefix: str) -> Iterator[OldVersion]:
        return old_versions(self.calls.list_versions(self.root + prefix), self.root, self.location)

    def read_version(self, path: str, version_id: str) -> AbstractContextManager[ObjectReader]:
        return self._reading.version(path, self._key(path), version_id)

    def unfinished_uploads(self, *, most: int, sized: int) -> Sequence[UnfinishedUpload]:
        self._tidying.end()  # Until then, uploads of the probe would be listed.
        return unfinished(self.calls, self.root, most=most, sized=sized)

    def now_ns(self) -> int:
        return self.calls.now_ns()

    def signed_url(self, path: str, seconds: int | None) -> str:
        return self._wire.signed_url(self._key(path), seconds)

    def barrier(self) -> Mapping[str, RemoteObject]:
        return {}  # S3 acknowledges a write only when it is durable.

    def cancel(self) -> None:
        cancel(self.clock)
        self._wire.host.cancel()
        self._bucket_copy.cancel()

    def renew(self) -> None:
        renew(self.clock)
        self._wire.host.renew()
        self._bucket_copy.renew()

    def close(self) -> None:
        self._tidying.end()
        self._uploads.close()
        self._bucket_copy.close()
        self._wire.close()

    def _listing(self) -> Listing:
        return Listing(
            patient(self.calls.list_page, self.clock, self.health),
            self.root,
            self.location,
            page=self._limits.page,
            in_order=self.features.sorted_listing,
            raw=self._raw_keys,
        )

    def _all_paths(self) -> tuple[set[str], AfterEnd]:
        listing = self._listing()
        return {entry.path for entry in listing.entries("")}, listing.after_end

    def _key(self, path: str) -> str:
        return key_of(self.root, path)

    def _prepared(
        self,
        path: str,
        expect: Expect,
        trash_stamp: str | None,
        checks: Checks,
        replaced: Replaced | None = None,
        may_list: bool = True,
    ) -> Condition:
        """Prepare a write (`Preconditions.prepared`); `replaced` is the result of a stat just before."""
        if self.facts.hides_below and not isinstance(expect, RemoteObject):
            # Otherwise the server would list only one of the two, and the other would look deleted.
            check_room(self, path)
        kept = None if self.features.keeps_versions else trash_stamp
        seen = replaced.at if replaced and replaced.is_known else self.stat
        return self._preconditions.prepared(path, expect, kept, checks, seen, may_list=may_list)

    def _confirm_can_be_kept(self, path: str, trash_stamp: str | None) -> None:
        if trash_stamp is not None and not self.features.keeps_versions:
            self._preconditions.confirm_readable(path)

    def _looked_at(self, written: RemoteObject) -> RemoteObject:
        """Stat the object after a write whose response had no ETag; raise if its size differs."""
        found = self.stat(written.path)
        if found is None or found.size != written.size:
            raise unconfirmed(self.location, written.path, "an ETag")
        return found

    @written_already()
    def _verified_without_etag(self, written: RemoteObject, body: bytes) -> RemoteObject:
        """Return the object after a put without an ETag; raise unless its metadata or content is as written."""
        found = self._looked_at(written)
        if is_ours(found, written):
            return found
        if found.operation is None:
            with self.calls.get(self._key(written.path), None, 0, None) as opened:
                if b"".join(opened.chunks) == body:
                    return found
        raise unconfirmed(self.location, written.path, "an ETag")

    @written_already()
    def _after_completion(self, written: RemoteObject) -> RemoteObject:
        """Return the object after a completion or copy, with the version that a stat finds if it has none."""
        found = self.stat(written.path)
        if found is not None and is_ours(found, written):
            if found.size != written.size:
                raise stored_otherwise(self.location, self._key(written.path))
            return found
        if written.version:
            return written
        if found is None or written.operation is not None or found.size != written.size:
            raise unconfirmed(self.location, written.path, "an ETag")
        return found

    def _put(
        self,
        key: str,
        body: bytes,
        metadata: Mapping[str, str],
        condition: Condition,
        headers: Mapping[str, str],
        source: Source,
    ) -> Stored:
        """Put a small object. A damaged one is replaced, never deleted: other clients would sync the delete."""
        for _ in range(_PUTS):
            stored = self.calls.put(
                key, body, metadata, condition, headers, source.digest, pace_of(source)
            )
            if not stored.disagrees:
                return stored
            with written_already():
                is_intact = holds(self.calls, key, self.facts.read_form.of(stored.version), body)
            if is_intact:
                self.learn(replace(self.facts, md5_versions=False))
                return Stored(stored.version)
            condition = self._put_checks.matching(stored.version)
        raise stored_otherwise(self.location, key)

    def _md5_is_reliable(self) -> bool:
        """Return whether ETags are MD5s. One did not match, so probe again, unless a probe has confirmed it."""
        if self.facts.md5_versions and not self._md5_confirmed:
            if gives_md5_etags(self.calls, self.root):
                self._md5_confirmed = True
            else:
                self.learn(replace(self.facts, md5_versions=False))
        return self.facts.md5_versions
