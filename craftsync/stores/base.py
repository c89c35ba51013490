"""The contract that every store fulfils (`Store`), checked by one test suite for all.

A store guarantees: `write` is atomic (a reader sees the old or the new object, never a part of
one); a written object can be read and listed at once; a `list` that ends without an error was
complete.

All methods are thread-safe and raise only the errors of `craftsync.errors`. Stores do not
retry: they raise `StoreUnavailable`, and `retrying.RetryingStore` wraps any store. Callers
check `Features`, never the type of a store. Properties (content type, metadata, tags) are for
callers that copy objects between stores.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from craftsync.core.model import Absent, RemoteObject, Skipped, Subfolder
from craftsync.core.paths import MAX_PATH_BYTES, level_of
from craftsync.errors import CraftsyncError, PathRefused, StoreUnavailable
from craftsync.net.pace import UNPACED, Pace

Expect = RemoteObject | Absent | None
"""What a write or delete may replace: only this object, nothing (`ABSENT`), or anything (`None`)."""


class Origin(NamedTuple):
    """Where a store's objects are on their server, for server-side copies within one account.

    `place` is the store's address on the server; the place of a nested store starts with that
    of the outer one.
    """

    server: str
    account: str
    place: str

    def is_near(self, other: Origin) -> bool:
        return (self.server, self.account) == (other.server, other.account)

    def overlaps(self, other: Origin) -> bool:
        """Return whether the stores are the same, or one contains the other."""
        nested = self.place.startswith(other.place) or other.place.startswith(self.place)
        return self.server == other.server and nested


@dataclass(frozen=True, slots=True)
class Features:
    """What a store can do. Where a server may claim more than it does, the store probes it.

    Without a `conditional_*` feature the store makes a stat just before the change instead,
    which leaves a race of one request; `status` and `doctor` report that.
    """

    conditional_create: bool = False
    """A write with `expect=ABSENT` fails when an object exists."""
    conditional_replace: bool = False
    """A write that expects a version fails when the object has another one."""
    conditional_delete: bool = False
    """A delete that expects a version fails when the object has another one."""
    sorted_listing: bool = True
    """`list` yields paths in the byte order of their UTF-8."""
    metadata: bool = False
    """`stat` returns the digest, mtime and operation id that were written with the object."""
    versions: bool = True
    """Objects have a version. Without one, a change that keeps size and time is not noticed."""
    md5_versions: bool = False
    """A version of 32 hex digits is the MD5 of the content."""
    server_side_copy: bool = False
    """`copy` transfers no bytes through this machine."""
    renames: bool = False
    """`move` works: one step instead of a copy and a delete."""
    conditional_source: bool = False
    """`copy_from` fails if the source has another version. Without this, a stat precedes each copy."""
    ranges: bool = True
    """`read` can start at any offset, so large objects are downloaded in parallel and resumed."""
    keeps_versions: bool = False
    """The store keeps replaced and deleted versions itself (bucket versioning); `old_versions` and `read_version` work."""
    folders: bool = False
    """A name cannot be both an object and a folder."""
    max_path_bytes: int = 1024
    raw_keys: bool = False
    """Every key is an object, even an invalid path such as `a//b`; no name is `Skipped`."""
    origin: Origin | None = None
    """`copy_from` works from stores near this origin."""
    properties: bool = False
    """Objects have `Properties`."""
    host: str = ""
    """The host that receives the requests; empty for a store on disk."""
    lists_uploads: bool = False
    """`unfinished_uploads` works."""
    writes_as: str = ""
    """The settings for new objects. An upload begun with other settings is not resumed."""
    cheap_stats: bool = False
    """A stat takes fewer requests than a read."""
    signed_urls: bool = False
    """`signed_url` works."""


class Source(Protocol):
    """Content to write: of known size, readable in any order and more than once."""

    size: int
    mtime_ns: int | None

    @property
    def digest(self) -> bytes:
        """The SHA-256 of the content; computing it may read all of the content.

        Empty while unknown: a source that can be read only once knows it after the last byte.
        """
        ...

    def read_at(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset`. Raises `PathBusy` if the source has become shorter."""
        ...

    def verify(self) -> None:
        """Raise `PathBusy` if the content may have changed since the source was opened.

        A store calls this after reading the last byte and before the object becomes visible, so
        that no object mixes two versions.
        """
        ...


def pace_of(source: Source) -> Pace:
    """Return the source's `pace`, which limits how fast a store sends it, or `UNPACED`."""
    # isinstance with a protocol takes twenty times as long, for each file.
    pace: Pace = getattr(source, "pace", UNPACED)
    return pace


class Reader(Protocol):
    """An open object: its description, and its bytes in order.

    Iterating may raise `StoreUnavailable`, also for a body that ends early. A whole object without
    a `digest` is compared with its `md5`, if it has one, before its last bytes are returned; a
    mismatch raises `ContentDamaged`.
    """

    object: RemoteObject

    @property
    def properties(self) -> Properties | None:
        """The properties in the response, without tags and storage class. `None` without the feature."""
        ...

    def __iter__(self) -> Iterator[bytes | memoryview]: ...


class UploadJournal(Protocol):
    """Records the progress of a large upload, so that a later run can resume it.

    Worker threads call all methods, which return at once. Losing a journal costs repeated work,
    never correctness.
    """

    def resume(self) -> tuple[str, int, dict[int, str]] | None:
        """Return an unfinished upload of this content, if any.

        A tuple: upload id, part size in bytes, {part number: version}.
        """
        ...

    def begin(self, upload_id: str, part_size: int) -> None: ...

    def part_done(self, number: int, version: str) -> None: ...

    def end(self) -> None:
        """Forget the upload: it is complete."""
        ...


@runtime_checkable
class Cancellable(Protocol):
    """A store, or a part of one, whose waits a stop can end. Thread-safe."""

    def cancel(self) -> None:
        """Make calls under way raise `StoreUnavailable` or `Interrupted` soon; refuse new calls until `renew`."""
        ...

    def renew(self) -> None:
        """Accept calls again after `cancel`."""
        ...


@contextmanager
def written_already() -> Iterator[None]:
    """Mark a failure in the block as ambiguous: the write before it succeeded, so a retry finds its result."""
    try:
        yield
    except StoreUnavailable as error:
        error.ambiguous = True
        raise


def cancel(part: object) -> None:
    """Cancel a store, if it is `Cancellable`."""
    if isinstance(part, Cancellable):
        part.cancel()


def renew(part: object) -> None:
    if isinstance(part, Cancellable):
        part.renew()


class Properties(NamedTuple):
    """An object's properties other than its content. All names are lower-case.

    `headers` are HTTP headers such as content-type. `metadata` is the user's, without
    craftsync's own. `tags` have the form `name=value&…`, percent-encoded. A `storage_class` of
    `None` is the store's default, or was not requested.
    """

    headers: Mapping[str, str]
    metadata: Mapping[str, str]
    tags: str = ""
    storage_class: str | None = None


class UnfinishedUpload(NamedTuple):
    """A multipart upload, by any client, that was neither completed nor aborted.

    `begun_ns` is by the store's clock, `size` the bytes uploaded so far; each is `None` if unknown.
    """

    path: str
    begun_ns: int | None
    size: int | None


class OldVersion(NamedTuple):
    """An earlier version of an object, replaced or deleted at `gone_ns`.

    Both times are by the store's clock. `version` is the object's version token at that time.
    """

    path: str
    version_id: str
    version: str | None
    size: int
    modified_ns: int
    gone_ns: int


class Store(Protocol):
    """Holds objects under paths."""

    name: str
    """A short name for messages and conflict copies: that of the bucket, folder or environment."""
    location: str
    """The full address, as on the command line."""

    @property
    def features(self) -> Features: ...

    def prepare(self, saved: str | None) -> str | None:
        """Probe the store's features; `features` is accurate afterwards.

        Returns the result as text; passing it as `saved` next time skips the probe. `None` if
        nothing needs probing. A store that permits no writes keeps the most careful features.
        """
        ...

    def list(
        self, prefix: str = "", *, boundaries: Sequence[str] = (), nested_own: bool = False
    ) -> Iterator[RemoteObject | Skipped]:
        """Yield every object whose path starts with `prefix`, without `.craftsync/` at any depth.

        A `prefix` inside `.craftsync/` lists that. Raises `ListingBroken` if the listing is not
        complete. A key that is not a valid path is yielded as `Skipped`, with the raw key as its
        path. `boundaries` are sorted paths that divide the listing into equal shares, which the
        store may list in parallel. With `nested_own`, the `.craftsync/` of stores nested in this
        one are listed too.
        """
        ...

    def list_folder(self, folder: str = "") -> Iterator[RemoteObject | Subfolder | Skipped]:
        """Yield the objects and subfolders directly in a folder ("" is the whole store).

        Complete and without `.craftsync/`, as `list`, but cheaper if the store supports it. A
        missing folder is empty.
        """
        ...

    def stat(self, path: str) -> RemoteObject | None:
        """Return the object at a path, or `None` if it does not exist."""
        ...

    def read(
        self,
        path: str,
        *,
        expect: RemoteObject | None = None,
        offset: int = 0,
        length: int | None = None,
    ) -> AbstractContextManager[Reader]:
        """Open an object, or `length` bytes of it from `offset`, for reading.

        Raises `ObjectNotFound`, or `PreconditionFailed` if the object is not `expect`.
        `Reader.object` describes the whole object, also when only a part is read.
        """
        ...

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
        """Write the content to `path` and return the new object.

        Bytes are sent and counted at the pace of the source (`pace_of`). With `trash_stamp`,
        the replaced object is kept as `.craftsync/trash/<trash_stamp>/<path>`, or as a version
        if the store keeps versions. `operation` is a unique id, stored in the object's metadata
        to recognise a write whose response was lost. `properties` need `Features.properties`.

        Raises `PreconditionFailed`, and changes nothing, if the store does not hold `expect`;
        `NotKept` if the replaced object is archived and cannot be copied; `PathRefused` for a
        name that the store cannot hold; `PathObstructed` if a folder is in the way.
        """
        ...

    def delete(self, path: str, *, expect: Expect, trash_stamp: str | None = None) -> None:
        """Delete an object, if it exists. `expect` and `trash_stamp` as in `write`."""
        ...

    def delete_each(self, paths: Sequence[str]) -> dict[str, CraftsyncError]:
        """Delete objects for good, whatever their version; return an error for each that failed.

        An absent object counts as deleted. Raises an error that concerns the whole store.
        """
        ...

    def copy(
        self,
        source: RemoteObject,
        target: str,
        *,
        expect: Expect,
        operation: str,
        trash_stamp: str | None = None,
    ) -> RemoteObject:
        """Copy an object within the store, with its metadata, and return the new one.

        `trash_stamp` as in `write`. Raises `ObjectNotFound` or `PreconditionFailed` if `source`
        has changed or the target is not `expect`.
        """
        ...

    def move(self, source: RemoteObject, target: str, *, operation: str) -> RemoteObject:
        """Rename an object (`Features.renames`) and return it under its new path.

        Raises `PreconditionFailed` if `source` has changed or is gone, or if `target` exists.
        """
        ...

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
        """Copy an object from a store near `Features.origin` to `target` (default: the same path) here.

        Content type, metadata and tags are copied, so the copy has no operation id. Its storage
        class is `storage_class`, or the store's default. Raises `ObjectNotFound` or
        `PreconditionFailed` if `source` has changed or the target is not `expect`.
        """
        ...

    def properties(self, expect: RemoteObject) -> Properties:
        """Return all properties of an object (`Features.properties`); takes one request, two if it has tags.

        Raises `ObjectNotFound`, or `PreconditionFailed` if the object is not `expect`.
        """
        ...

    def old_versions(self, prefix: str) -> Iterator[OldVersion]:
        """Yield replaced and deleted versions (`Features.keeps_versions`) by path, the newest first.

        Only paths that start with `prefix`, without invalid paths and `.craftsync/`. Raises
        `StoreError` if the server cannot list them.
        """
        ...

    def read_version(self, path: str, version_id: str) -> AbstractContextManager[Reader]:
        """Open an old version for reading. Raises `ObjectNotFound` if it no longer exists."""
        ...

    def unfinished_uploads(self, *, most: int, sized: int) -> Sequence[UnfinishedUpload]:
        """Return up to `most` unfinished uploads by path (`Features.lists_uploads`).

        The first `sized` have their sizes. They may belong to other programs, so use them for
        reports only. Raises `StoreError` if the server cannot list them.
        """
        ...

    def signed_url(self, path: str, seconds: int | None) -> str:
        """Return a URL that reads an object without a login for `seconds` (`Features.signed_urls`).

        `None` is the store's default time. Raises `UsageError` for a time that it does not support.
        """
        ...

    def abort_stale(self, uploads: Iterable[tuple[str, str]]) -> None:
        """Abort unfinished uploads that no run will resume, given as (path, upload id) from journals."""
        ...

    def barrier(self) -> Mapping[str, RemoteObject]:
        """Return once everything written so far survives a power cut.

        If `write` returned objects without version and time, return the complete objects by
        path, as far as the store knows them.
        """
        ...

    def close(self) -> None: ...


class OnlyContent:
    """Mixin for stores without extra features: implements the methods of `Store` that need one."""

    name: str

    def list_folder(self: Store, folder: str = "") -> Iterator[RemoteObject | Subfolder | Skipped]:
        return level_of(self.list(f"{folder}/" if folder else ""), folder)

    def delete_each(self: Store, paths: Sequence[str]) -> dict[str, CraftsyncError]:
        failed: dict[str, CraftsyncError] = {}
        for path in paths:
            try:
                self.delete(path, expect=None)
            except CraftsyncError as error:
                failed[path] = error
        return failed

    def move(self, source: RemoteObject, target: str, *, operation: str) -> RemoteObject:
        raise self._lacking("cannot rename")

    def copy_from(self, *_: object, **__: object) -> RemoteObject:
        raise self._lacking("cannot copy from other stores")

    def properties(self, expect: RemoteObject) -> Properties:
        raise self._lacking("has no properties")

    def old_versions(self, prefix: str) -> Iterator[OldVersion]:
        raise self._lacking("keeps no versions")

    def read_version(self, path: str, version_id: str) -> AbstractContextManager[Reader]:
        raise self._lacking("keeps no versions")

    def unfinished_uploads(self, *, most: int, sized: int) -> Sequence[UnfinishedUpload]:
        raise self._lacking("lists no uploads")

    def signed_url(self, path: str, seconds: int | None) -> str:
        raise self._lacking("signs no URLs")

    def _lacking(self, what: str) -> NotImplementedError:
        return NotImplementedError(f"{self.name} {what}: check its features first")


def key_of(root: str, path: str) -> str:
    """Return the key of a path below the prefix `root`; raises `PathRefused` for an invalid S3 key."""
    key = root + path
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        raise PathRefused(f"The name {path!r} is not valid UTF-8.") from None
    if length > MAX_PATH_BYTES or not path:
        raise PathRefused(f"{path} cannot be a key: {length} bytes, S3 allows 1 to 1024.")
    return key


def server_and_location(store: Store) -> str:
    """Return text that identifies a store: its location, and its server if the store has an `Origin`."""
    origin = store.features.origin
    return f"{origin.server} {store.location}" if origin else store.location
