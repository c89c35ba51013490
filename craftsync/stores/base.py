"""The contract of every store, checked by one test suite.

A store guarantees: `write` is atomic (a reader sees the old or the new object,
never a part); what was written can be read and listed at once; a `list` that
returns normally was complete.

Errors are craftsync's own (`craftsync.errors`). Stores do not retry: they raise
`StoreUnavailable`, and `retrying.RetryingStore` wraps any store. All methods may
be called from several threads. Differences between stores are facts in
`Features`, never type checks. Properties (content type, metadata, tags) are an
addition for callers that copy objects between stores.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from craftsync.core.model import OWN_FOLDER, Absent, RemoteObject, Skipped, Subfolder
from craftsync.core.paths import MAX_PATH_BYTES, level_of
from craftsync.errors import CraftsyncError, PathRefused, StoreUnavailable
from craftsync.net.pace import UNPACED, Pace

Expect = RemoteObject | Absent | None
"""What a write or delete may replace: this very object, nothing, or anything (`None`)."""


class Origin(NamedTuple):
    """Where one store's objects are for others: those of the same server and account can copy them.

    `place` is how that server knows the store; places begin with those they lie in.
    """

    server: str
    account: str
    place: str

    def is_near(self, other: Origin) -> bool:
        return (self.server, self.account) == (other.server, other.account)

    def overlaps(self, other: Origin) -> bool:
        """Tell whether one store is the other, or a part of it."""
        nested = self.place.startswith(other.place) or other.place.startswith(self.place)
        return self.server == other.server and nested


@dataclass(frozen=True, slots=True)
class Features:
    """What a store can do, found by probing where a server may pretend.

    Without a `conditional_*` fact the store looks just before it acts instead,
    which leaves a window as long as one request; `status` and `doctor` say so.
    """

    conditional_create: bool = False
    """A write that expects nothing fails when something is there."""
    conditional_replace: bool = False
    """A write that expects a version fails when another is there."""
    conditional_delete: bool = False
    """A delete that expects a version fails when another is there."""
    sorted_listing: bool = True
    """`list` yields paths in the byte order of their UTF-8."""
    metadata: bool = False
    """`stat` gives back the digest, mtime and operation id of the write."""
    versions: bool = True
    """Objects have a version. Without it, a change that keeps size and time of modification goes unseen."""
    md5_versions: bool = False
    """A version of 32 hex digits is the MD5 of the content."""
    server_side_copy: bool = False
    """`copy` moves no bytes through this machine."""
    conditional_source: bool = False
    """A copy of another store's object fails when that is another version; without it, there is a stat before each."""
    ranges: bool = True
    """`read` can start anywhere, so large objects are fetched in parallel and resumed."""
    keeps_versions: bool = False
    """The store itself keeps what is overwritten or deleted (bucket versioning). `old_versions` and `read_version` work."""
    folders: bool = False
    """A name cannot be an object and a folder at once."""
    max_path_bytes: int = 1024
    raw_keys: bool = False
    """Every key is an object, also one that no folder can hold, such as `a//b`; none is `Skipped` for its name."""
    origin: Origin | None = None
    """What `copy_from` needs to be near to."""
    properties: bool = False
    """Objects have `Properties`."""
    host: str = ""
    """What its requests go to over a network; empty for a store on disk."""
    lists_uploads: bool = False
    """`unfinished_uploads` works."""
    writes_as: str = ""
    """What new objects get by the settings of this store; an upload begun under others is not resumed."""
    cheap_stats: bool = False
    """To stat an object takes fewer requests than to read it."""
    signed_urls: bool = False
    """`signed_url` works."""


class Source(Protocol):
    """Content to be written: of known size and digest, readable in any order and more than once."""

    size: int
    mtime_ns: int | None

    @property
    def digest(self) -> bytes:
        """The SHA-256 of the content; a source may read all of it when it is first asked.

        Empty while it is not known: a source that is read only once tells it
        after the last byte.
        """
        ...

    def read_at(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset`; raises `PathBusy` if they are not there any more."""
        ...

    def verify(self) -> None:
        """Raise `PathBusy` if the content may have changed since it was opened.

        A store calls this after the last byte was read and before the object
        becomes visible, so that a torn object never exists.
        """
        ...


class PacedSource(Protocol):
    """A source whose bytes keep to a rate and are counted: as they leave, and not as they are read."""

    pace: Pace


def pace_of(source: Source) -> Pace:
    """Return what a store keeps to while it sends this content."""
    # Asking for the protocol takes twenty times as long, for each file.
    pace: Pace = getattr(source, "pace", UNPACED)
    return pace


class Reader(Protocol):
    """An object being read: its description, and its bytes in order.

    Iterating may raise `StoreUnavailable`; the number of bytes is checked, so
    a body that ends early is an error and never a short result. A whole object
    that has no `digest` is compared with its `md5`, where there is one, before
    the last bytes are handed on: `ContentDamaged`.
    """

    object: RemoteObject

    @property
    def properties(self) -> Properties | None:
        """What the answer tells of them, which is all but tags and storage class; `None` without `Features.properties`."""
        ...

    def __iter__(self) -> Iterator[bytes | memoryview]: ...


class UploadJournal(Protocol):
    """Remembers a large upload under way so that a restart goes on with it.

    All four calls are made from worker threads and return at once; a journal
    that forgets costs repeated work, never correctness.
    """

    def resume(self) -> tuple[str, int, dict[int, str]] | None:
        """Return (upload id, part size in bytes, {part number: version}) of an unfinished upload of this very content."""
        ...

    def begin(self, upload_id: str, part_size: int) -> None: ...

    def part_done(self, number: int, version: str) -> None: ...

    def end(self) -> None:
        """Forget the upload: it has become an object."""
        ...


@runtime_checkable
class Cancellable(Protocol):
    """A store, or what it consists of, whose waits a stop can end; both may be called from any thread."""

    def cancel(self) -> None:
        """End what is under way soon, with `StoreUnavailable` or `Interrupted`, and refuse more until `renew`."""
        ...

    def renew(self) -> None:
        """Work again."""
        ...


@contextmanager
def written_already() -> Iterator[None]:
    """Make a failure ambiguous that comes once a write has succeeded: if it were repeated, it would meet itself."""
    try:
        yield
    except StoreUnavailable as error:
        error.ambiguous = True
        raise


def cancel(part: object) -> None:
    """End the waits of a store, if it can wait long."""
    if isinstance(part, Cancellable):
        part.cancel()


def renew(part: object) -> None:
    if isinstance(part, Cancellable):
        part.renew()


@runtime_checkable
class HasClock(Protocol):
    """A store whose times are not this machine's."""

    def now_ns(self) -> int:
        """Return what time it is by the store's own clock; raises `StoreError` where it does not say."""
        ...


def now_by(store: Store, here_ns: int) -> int:
    """Return what time it is by the clock that a store's times are from; `here_ns` is this machine's."""
    return store.now_ns() if isinstance(store, HasClock) else here_ns


class Properties(NamedTuple):
    """What belongs to an object besides its content; all names are lower-case.

    `headers` are those of HTTP, such as content-type; `metadata` is what the
    object's owner noted there, without craftsync's notes; `tags` are written
    `name=value&…`, percent-encoded. Without a `storage_class` it is the store's
    usual one, or nobody has asked.
    """

    headers: Mapping[str, str]
    metadata: Mapping[str, str]
    tags: str = ""
    storage_class: str | None = None


class UnfinishedUpload(NamedTuple):
    """An upload in parts that was begun and neither completed nor aborted, by whomever.

    `begun_ns` is by the store's clock. `size` is the bytes of its parts so far; both are `None` where not known.
    """

    path: str
    begun_ns: int | None
    size: int | None


class OldVersion(NamedTuple):
    """A version of an object that is not the current one: it was replaced or deleted at `gone_ns`.

    Both times are by the store's clock. `version` is the token that the object had.
    """

    path: str
    version_id: str
    version: str | None
    size: int
    modified_ns: int
    gone_ns: int


class Store(Protocol):
    """A place that holds objects under paths."""

    name: str
    """Short, for people and for names of conflict copies: a bucket, a folder, an environment."""
    location: str
    """The full address, as the command line would take it."""

    @property
    def features(self) -> Features: ...

    def prepare(self, saved: str | None) -> str | None:
        """Find out what the store really does, by trying; `features` tells it from then on.

        Returns what was found, as text to be handed in as `saved` next time,
        which spares the trying; `None` when there is nothing to find out. A
        store that may not be written to stays with the most careful features.
        """
        ...

    def list(
        self, prefix: str = "", *, boundaries: Sequence[str] = (), nested_own: bool = False
    ) -> Iterator[RemoteObject | Skipped]:
        """Yield every object whose path starts with `prefix`; `.craftsync/` is left out at any depth.

        (`prefix` may lead into craftsync's own folder; then it is listed.)
        Complete, or raises `ListingBroken`. A key that no folder can hold is
        yielded as `Skipped` under its raw key. `boundaries` are paths in order
        that cut the listing into shares of like size; a store may use them to
        list several at once, and ignores them otherwise. `nested_own` lists what
        stores nested in this one keep for themselves as well.
        """
        ...

    def list_folder(self, folder: str = "") -> Iterator[RemoteObject | Subfolder | Skipped]:
        """Yield what is directly in a folder ("" is the whole store), and not what is below its subfolders.

        As cheap as the store can make it; complete, or raises `ListingBroken`,
        and craftsync's own is left out, as in `list`. A folder that is not there
        has nothing in it. What all objects below a subfolder are is not known.
        """
        ...

    def stat(self, path: str) -> RemoteObject | None:
        """Look directly at one path; `None` when nothing is there."""
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

        Raises `ObjectNotFound`, or `PreconditionFailed` when it is not the one
        expected. `Reader.object` describes the whole object even for a part.
        """
        ...

    def write(
        self,
        path: str,
        source: Source,
        *,
        expect: Expect,
        operation: str,
        keep: str | None = None,
        journal: UploadJournal | None = None,
        properties: Properties | None = None,
    ) -> RemoteObject:
        """Put the content at `path` and return what the store now holds there.

        The bytes keep to `pace_of` the source, and count there once the other
        side has taken them. Raises `PreconditionFailed` and changes nothing
        when the store does not hold what was expected. With `keep`, the object
        that is replaced stays to be had under `.craftsync/trash/<keep>/<path>`
        (or as a version, if the store keeps those); `NotKept` when it is
        archived, so that no copy can be made. `operation` is a unique id that
        ends up in the object's metadata, so that a write whose answer was lost
        can be recognised. The object gets the `properties`, where the store has
        `Features.properties`. `PathRefused` for a name this store cannot hold,
        `PathObstructed` for a folder in the way.
        """
        ...

    def delete(self, path: str, *, expect: Expect, keep: str | None = None) -> None:
        """Remove an object; one that is not there is a success. `keep` as in `write`."""
        ...

    def copy(
        self,
        source: RemoteObject,
        target: str,
        *,
        expect: Expect,
        operation: str,
        keep: str | None = None,
    ) -> RemoteObject:
        """Copy an object within the store, metadata included, and return the new one.

        `keep` is as in `write`. Raises `ObjectNotFound` or `PreconditionFailed` when the source is not
        the one given, or the target not what was expected.
        """
        ...

    def copy_from(
        self,
        origin: Origin,
        source: RemoteObject,
        *,
        expect: Expect,
        keep: str | None = None,
        journal: UploadJournal | None = None,
        storage_class: str | None = None,
        target: str | None = None,
    ) -> RemoteObject:
        """Copy an object of a store near `Features.origin` to `target` in this one, all that belongs to it included.

        Without a `target` it is the same path as in the other store.

        Content type, metadata and tags stay as they are, so the copy bears no
        operation id. Its storage class is the one given, or the store's usual one.
        Raises `ObjectNotFound` or `PreconditionFailed` when the source is not the
        one given, or the target not what was expected.
        """
        ...

    def properties(self, expect: RemoteObject) -> Properties:
        """Ask for all properties of an object (`Features.properties`), with a request of its own, or two where there are tags.

        Raises `ObjectNotFound`, or `PreconditionFailed` when it is not the one
        expected.
        """
        ...

    def old_versions(self, prefix: str) -> Iterator[OldVersion]:
        """Yield the replaced and deleted versions (`Features.keeps_versions`) of the objects whose paths start with `prefix`, in order of path, the newest first.

        What a folder cannot hold, and craftsync's own, is left out. Raises
        `StoreError` where the server does not list them, or refuses to.
        """
        ...

    def read_version(self, path: str, version_id: str) -> AbstractContextManager[Reader]:
        """Open a version for reading; raises `ObjectNotFound` when it is gone."""
        ...

    def unfinished_uploads(self, *, most: int, sized: int) -> Sequence[UnfinishedUpload]:
        """Return up to `most` unfinished uploads (`Features.lists_uploads`) in the order of their paths, and ask for the size of the first `sized`.

        Nothing in the list proves whose they are: it is for reports only. Raises
        `StoreError` where the server does not list them, or refuses to.
        """
        ...

    def signed_url(self, path: str, seconds: int | None) -> str:
        """Return a URL that reads an object without a login for so many seconds (`Features.signed_urls`).

        `None` is the store's usual time. Raises `UsageError` for a time it cannot give.
        """
        ...

    def abort_stale(self, uploads: Iterable[tuple[str, str]]) -> None:
        """Drop unfinished uploads that nobody will resume: pairs of path and upload id, as journals know them."""
        ...

    def barrier(self) -> Mapping[str, RemoteObject]:
        """Return once everything written so far survives a power cut.

        A store whose `write` left version and time open returns what it has
        found since, by path; a path that could not be told apart is left out.
        """
        ...

    def close(self) -> None: ...


class OnlyContent:
    """The part of `Store` that needs a feature, for stores that have none of these features."""

    name: str

    def list_folder(self: Store, folder: str = "") -> Iterator[RemoteObject | Subfolder | Skipped]:
        return level_of(self.list(f"{folder}/" if folder else ""), folder)

    def copy_from(self, *_: object, **__: object) -> RemoteObject:
        raise self._lacking("copies nothing of other stores")

    def properties(self, expect: RemoteObject) -> Properties:
        raise self._lacking("keeps no properties")

    def old_versions(self, prefix: str) -> Iterator[OldVersion]:
        raise self._lacking("keeps no versions")

    def read_version(self, path: str, version_id: str) -> AbstractContextManager[Reader]:
        raise self._lacking("keeps no versions")

    def unfinished_uploads(self, *, most: int, sized: int) -> Sequence[UnfinishedUpload]:
        raise self._lacking("lists no uploads")

    def signed_url(self, path: str, seconds: int | None) -> str:
        raise self._lacking("signs no URLs")

    def _lacking(self, what: str) -> NotImplementedError:
        return NotImplementedError(f"{self.name} {what}: ask its features first")


def kept(store: Store, stamp: str, path: str) -> RemoteObject | None:
    """Return what the trash holds of `path` under a stamp; `None` if a change that was to keep it met nothing.

    A bucket's own versions are not in the trash. A store that cannot tell now is
    no error: the change itself was made.
    """
    if store.features.keeps_versions:
        return None
    with suppress(CraftsyncError):
        return store.stat(f"{OWN_FOLDER}/trash/{stamp}/{path}")
    return None


def key_of(root: str, path: str) -> str:
    """Return the key of a path below the prefix `root`; raises `PathRefused` for what S3 takes as no key."""
    key = root + path
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        raise PathRefused(f"The name {path!r} is not valid UTF-8.") from None
    if length > MAX_PATH_BYTES or not path:
        raise PathRefused(f"{path} cannot be a key: {length} bytes, S3 takes 1 to 1024.")
    return key
