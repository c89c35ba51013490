"""Server-side copies from another bucket of the same server: no bytes pass through this machine.

A single copy request keeps the object's headers, metadata and tags. A copy in parts keeps none
of them, so they are read from the source and sent with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from craftsync.clock import Clock
from craftsync.core.model import RemoteObject
from craftsync.errors import ObjectNotFound
from craftsync.hashing import is_md5
from craftsync.stores.base import Origin, UploadJournal
from craftsync.stores.s3.credentials import Session
from craftsync.stores.s3.errors import PartsNotCopied
from craftsync.stores.s3.facts import Checks, ProbedFacts
from craftsync.stores.s3.multipart import Uploads
from craftsync.stores.s3.objects import Condition, Original, headers_of
from craftsync.stores.s3.preconditions import Limits, check
from craftsync.stores.s3.requests import Calls
from craftsync.stores.s3.wire import Wire


def origin_of(session: Session, bucket: str, root: str, profile: str | None) -> Origin:
    """Return the origin of a store's objects, by which stores with the same access recognise it."""
    endpoint = session.url.removesuffix(f"/{bucket}").replace(f"//{bucket}.", "//")
    # Do not fetch temporary keys just for this: the same profile has the same access.
    who = f"profile {profile}" if session.refreshable else session.keys().access
    return Origin(endpoint, who, f"{bucket}/{root}")


class BucketCopy:
    """Copies into one bucket. `session_of` returns a session for another; `facts`, the facts known now."""

    def __init__(
        self,
        calls: Calls,
        uploads: Uploads,
        limits: Limits,
        *,
        session_of: Callable[[str], Session],
        clock: Clock,
        facts: Callable[[], ProbedFacts],
        transfers: int,
    ) -> None:
        """`transfers` is the number of connections kept to each other bucket."""
        self._calls = calls
        self._facts = facts
        self._uploads = uploads
        self._limits = limits
        self._session_of = session_of
        self._clock = clock
        self._transfers = transfers
        self._others: dict[str, tuple[Wire, Calls]] = {}
        self._is_cancelled = False

    def copied(
        self,
        origin: Origin,
        source: RemoteObject,
        target: str,
        condition: Callable[[Checks], Condition],
        journal: UploadJournal | None,
        storage_class: str | None,
    ) -> str:
        """Copy an object to a key and return the new version."""
        facts = self._facts()
        bucket, _, root = origin.place.partition("/")
        match = facts.source_form.of(source.version)
        original = Original(root + source.path, source.size, match, bucket)
        is_checked = match is not None and facts.conditional_source
        proves = self._proves(source)
        if not is_checked and not proves:
            self._confirm(original, source)
        if source.size > self._limits.quick_copy:
            try:
                checked = partial(condition, facts.completion_checks())
                return self._copied_in_parts(original, target, checked, journal, storage_class)
            except PartsNotCopied:
                if source.size > self._limits.single_copy:
                    raise
        version = self._calls.copy(
            original.key,
            target,
            match=original.match,
            bucket=original.bucket,
            condition=condition(facts.copy_checks()),
            storage_class=storage_class,
        )
        if not is_checked and proves and version != source.version:
            self._confirm(original, source)
        return version

    def _proves(self, source: RemoteObject) -> bool:
        """Return whether the copy's version will prove its content: both versions are MD5s of it."""
        is_whole = source.size <= self._limits.quick_copy
        return is_whole and self._facts().md5_versions and is_md5(source.version)

    def _confirm(self, original: Original, source: RemoteObject) -> None:
        """Check a source's version by a stat, because the server does not. Raises `PreconditionFailed`."""
        there = self._calls_to(original.bucket or "")
        found = there.head(original.key)
        if found is None:
            raise ObjectNotFound(f"There is no {original.key} in {original.bucket}.")
        check(source.path, found.at(source.path), source)

    def _calls_to(self, bucket: str) -> Calls:
        if bucket not in self._others:
            opened = Wire(self._session_of(bucket), bucket, self._clock, keep=self._transfers)
            # Another task may have added one first; this one has no connection yet.
            self._others.setdefault(bucket, (opened, Calls(opened, bucket, bucket)))
        wire, calls = self._others[bucket]
        if self._is_cancelled:
            wire.host.cancel()
        return calls

    def cancel(self) -> None:
        """End the requests to other buckets, and refuse new ones until `renew`. Thread-safe."""
        self._is_cancelled = True
        for wire, _ in list(self._others.values()):
            wire.host.cancel()

    def renew(self) -> None:
        self._is_cancelled = False
        for wire, _ in list(self._others.values()):
            wire.host.renew()

    def close(self) -> None:
        for wire, _ in self._others.values():
            wire.close()

    def _copied_in_parts(
        self,
        original: Original,
        target: str,
        condition: Callable[[], Condition],
        journal: UploadJournal | None,
        storage_class: str | None,
    ) -> str:
        bucket = original.bucket or ""
        there = self._calls_to(bucket)
        seen = there.look(original.key)
        if seen is None:
            raise ObjectNotFound(f"There is no {original.key} in {bucket}.")
        found, headers = seen
        tags = there.tags_of(original.key, headers)
        properties = found.properties._replace(tags=tags, storage_class=storage_class)
        metadata = headers_of(properties), found.metadata
        return self._uploads.copy(original, target, metadata, condition, journal)
