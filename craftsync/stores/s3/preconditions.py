"""Prepares a write or delete: stats the object it replaces, copies that to the trash, returns the condition.

If the server checks conditions, it decides whether the write may happen. If not, the stat just
before is the only protection."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeVar

from craftsync.core.model import Absent, RemoteObject
from craftsync.core.paths import in_trash
from craftsync.errors import (
    CraftsyncError,
    NotKept,
    ObjectArchived,
    ObjectNotFound,
    PreconditionFailed,
    RequestDenied,
    StoreDenied,
    StoreError,
    StoreMissing,
    StoreUnavailable,
)
from craftsync.net.waiting import both
from craftsync.stores.base import Expect, Properties, Store
from craftsync.stores.s3.errors import NotSupported, Unconfirmed, unconfirmed
from craftsync.stores.s3.facts import Checks, ProbedFacts
from craftsync.stores.s3.listing import FreshListing
from craftsync.stores.s3.multipart import MIB, SMALLEST_PART, Uploads
from craftsync.stores.s3.objects import (
    CREATE,
    STORAGE_CLASS,
    TAGS,
    Condition,
    Found,
    Original,
    WriteSettings,
    by_settings,
    headers_of_new,
    inherited,
    kept,
    sent_with,
)
from craftsync.stores.s3.requests import Calls
from craftsync.stores.sources import delete_singly

Seen = TypeVar("Seen")

Metadata = tuple[Mapping[str, str], Mapping[str, str]]
"""The headers of an object, and its metadata."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits at which one kind of request replaces another. Sizes are bytes."""

    single_put: int = 16 * MIB
    smallest_part: int = SMALLEST_PART
    """The smallest part of an upload. AWS accepts parts under 5 MiB only as the last."""
    single_copy: int = 5 * 1024 * MIB
    """The largest object that CopyObject copies (AWS S3 API reference, "CopyObject")."""
    quick_copy: int = 1024 * MIB
    """A larger object of another bucket is copied in several parts at once, which can be resumed."""
    page: int = 1000
    """Keys per request of a listing; S3 never returns more."""
    fresh_listing_seconds: float = 2.0
    """How long, from its start, a complete listing replaces a stat of a path that it did not show."""


class Replaced(NamedTuple):
    """The object that new content replaces, as a stat found it; not `is_known` without a stat."""

    found: Found | None = None
    tags: str = ""
    is_known: bool = False

    def at(self, path: str) -> RemoteObject | None:
        return self.found.at(path) if self.found else None

    def described(
        self,
        path: str,
        original: Properties | None,
        settings: WriteSettings,
        noted: Mapping[str, str],
    ) -> Metadata:
        """Return the headers and metadata for new content.

        They come from `original`, else from the replaced object, with settings and notes applied.
        """
        if original is None and self.found is None:
            return headers_of_new(settings, path), noted
        described = original or inherited(path, self.found, self.tags)
        described = by_settings(settings, path, described, is_copy=original is not None)
        return sent_with(described, noted)


UNSEEN = Replaced()

_MOST_DELETED = 1000
"""The most objects that one request deletes (AWS S3 API reference, "DeleteObjects")."""


class Preconditions:
    """Prepares writes and deletes.

    `key` maps a path to its key; `facts` returns the facts known now; `location` names the store
    in messages.
    """

    def __init__(
        self,
        calls: Calls,
        uploads: Uploads,
        limits: Limits,
        *,
        location: str,
        key: Callable[[str], str],
        absence: FreshListing,
        facts: Callable[[], ProbedFacts],
    ) -> None:
        self._calls = calls
        self._location = location
        self._uploads = uploads
        self._limits = limits
        self._key = key
        self._fresh_listing = absence
        self._facts = facts

    def prepared(
        self,
        path: str,
        expect: Expect,
        trash_stamp: str | None,
        checks: Checks,
        stat: Callable[[str], RemoteObject | None],
        *,
        may_list: bool = True,
    ) -> Condition:
        """Prepare a write: check the object it replaces, copy it to the trash, return the condition.

        `stat` returns the current object. With `may_list`, a new listing may replace the stat;
        that is no gain for a multipart upload. With `trash_stamp`, only the object that was
        copied may be replaced: if another appears in between, the write fails even if `expect`
        allows anything.
        """
        if isinstance(expect, Absent):
            listed = self._fresh_listing
            absent = checks.create or listed.is_absent(path, may_list=may_list)
            if not (absent or stat(path) is None):
                raise PreconditionFailed(f"{path} already exists in the store.")
            return CREATE if checks.create else None
        current = expect
        # Without a version, as in some servers' listings, a stat is needed.
        checked = checks.replace and expect is not None and expect.version is not None
        if (expect is None and trash_stamp is not None) or (expect is not None and not checked):
            current = stat(path)
            check(path, current, expect)
        if current is None:
            return None
        if trash_stamp is not None:
            try:
                self.copy_to_trash(current, trash_stamp)
            except ObjectNotFound as error:
                raise PreconditionFailed(f"{path} is gone.") from error
        return checks.matching(current.version)

    def replaced(self, path: str, expect: Expect) -> Replaced:
        """Stat the object that new content replaces, to inherit its headers, metadata and tags.

        Raises `RequestDenied` if the object exists but the server denies the stat.
        """
        if isinstance(expect, Absent):
            return Replaced()
        key = self._key(path)
        try:
            seen = self._calls.look(key)
        except RequestDenied as error:
            if expect is None:
                # Without the permission to list, S3 answers 403 for an object that does not exist.
                return Replaced()
            raise RequestDenied(
                f"{path} was not replaced: {self._location} refuses to show its type, headers,"
                " metadata and tags, which would be lost.",
                remedy=f"Allow s3:GetObject for it. ({str(error).removesuffix('.')})",
            ) from error
        if seen is None:
            return Replaced(is_known=True)
        found, headers = seen
        return Replaced(found, self._calls.tags_of(key, headers), is_known=True)

    def looked_and_kept(
        self, look: Callable[[], Seen], expect: Expect, trash_stamp: str | None
    ) -> tuple[Seen, str | None]:
        """Call `look`; return its result, and the trash stamp if the copy to the trash is still to be made.

        If the server checks the version of a copy's source, the copy is made at the same time:
        then it cannot overwrite an earlier copy with a wrong version.
        """
        facts = self._facts()
        is_named = isinstance(expect, RemoteObject) and facts.source_form.of(expect.version)
        if (
            trash_stamp is None
            or facts.keeps_versions
            or not is_named
            or not facts.conditional_source
        ):
            return look(), trash_stamp
        assert isinstance(expect, RemoteObject)
        seen, is_kept = both(look, partial(self._is_kept, expect, trash_stamp))
        return seen, None if is_kept else trash_stamp

    def _is_kept(self, current: RemoteObject, trash_stamp: str) -> bool:
        try:
            self.copy_to_trash(current, trash_stamp)
        except ObjectNotFound:
            return False
        return True

    def copy_to_trash(self, current: RemoteObject, trash_stamp: str) -> None:
        """Copy an object to the trash. Raises `ObjectNotFound` if it is gone, `NotKept` if it is archived."""
        try:
            self.copied(current, self._key(in_trash(trash_stamp, current.path)))
        except ObjectArchived as error:
            raise NotKept(current.path) from error

    def confirm_readable(self, path: str) -> None:
        """Raise `NotKept` if the object is archived, before a large upload that would fail at its end."""
        try:
            with self._calls.get(self._key(path), None, 0, 1):
                return
        except ObjectArchived as error:
            raise NotKept(path) from error
        except StoreUnavailable:
            raise
        except StoreError:
            return  # The checks before the write itself report more.

    def copied(
        self,
        source: RemoteObject,
        target: str,
        replace: Metadata | None = None,
        condition: Condition = None,
        storage_class: str | None = None,
    ) -> str:
        """Copy an object to a key and return the new version. `replace` replaces headers and metadata.

        If the server cannot copy, the bytes pass through this machine.
        """
        try:
            return self._copied_there(source, target, replace, condition, storage_class)
        except NotSupported:
            metadata = self._metadata(source, replace, storage_class)
            return self._streamed(source, target, metadata, condition)

    def _copied_there(
        self,
        source: RemoteObject,
        target: str,
        replace: Metadata | None,
        condition: Condition,
        storage_class: str | None,
    ) -> str:
        key, match = self._key(source.path), self._facts().source_form.of(source.version)
        if source.size <= self._limits.single_copy:
            version = self._calls.copy(
                key,
                target,
                match=match,
                replace=replace,
                condition=condition,
                storage_class=storage_class,
            )
            if not version:
                self._confirm_copy(source, target)
            return version
        metadata = self._metadata(source, replace, storage_class)
        original = Original(key, source.size, match)
        return self._uploads.copy(original, target, metadata, lambda: condition)

    def _confirm_copy(self, source: RemoteObject, target: str) -> None:
        """Stat a copy whose response had no version; raise `Unconfirmed` unless it exists."""
        found = self._calls.head(target)
        if found is None or found.size != source.size:
            raise unconfirmed("the store", target, "an ETag")

    def _streamed(
        self, source: RemoteObject, target: str, sent: Metadata, condition: Condition
    ) -> str:
        headers, metadata = sent
        match = self._facts().read_form.of(source.version)
        content = _ObjectSource(self._calls, self._key(source.path), source, match)
        if source.size > self._limits.single_put:
            described = headers, metadata
            return self._uploads.send(target, content, described, lambda: condition, None).version
        body = content.read_at(0, source.size)
        version = self._calls.put(target, body, metadata, condition, headers).version
        if not version:
            self._confirm_copy(source, target)
        return version

    def _metadata(
        self, source: RemoteObject, replace: Metadata | None, storage_class: str | None
    ) -> Metadata:
        """Return the headers with tags, and the metadata, for a copy that is written anew."""
        chosen = {STORAGE_CLASS: storage_class} if storage_class else {}
        if replace is not None:
            return {**kept(replace[0]), **chosen}, replace[1]
        key = self._key(source.path)
        seen = self._calls.look(key)
        if seen is None:
            raise ObjectNotFound(f"There is no {source.path}.")
        found, headers = seen
        tags = self._calls.tags_of(key, headers)
        own = kept({**headers, TAGS: tags} if tags else headers)
        return {**own, **chosen}, found.metadata


class Deleting:
    """Deletes several objects with one request if the server supports it, else with one request each."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._is_known = True

    def deleted(self, store: Store, paths: Mapping[str, str]) -> dict[str, CraftsyncError]:
        """Delete objects, given as {key: path}; return an error by path for each that failed."""
        is_batch = self._is_known and len(paths) > 1
        together = [key for key in paths if _fits_xml(key)] if is_batch else []
        failed = dict.fromkeys(paths.keys() - set(together))
        for start in range(0, len(together), _MOST_DELETED):
            failed |= self._together(together[start : start + _MOST_DELETED])
        singly = {key for key, error in failed.items() if error is None}
        known = {paths[key]: error for key, error in failed.items() if error is not None}
        return known | delete_singly(store, [path for key, path in paths.items() if key in singly])

    def _together(self, keys: Sequence[str]) -> dict[str, CraftsyncError | None]:
        """Return an error by key for each that failed; `None` for one to be deleted by its own request."""
        try:
            failed = self._calls.delete_many(keys)
        except Unconfirmed:
            pass
        except (StoreUnavailable, StoreMissing):
            raise
        except StoreError as error:
            if isinstance(error, StoreDenied) and not isinstance(error, RequestDenied):
                raise
            self._is_known = False
        else:
            unnamed = [key for key, error in failed.items() if isinstance(error, Unconfirmed)]
            return {**failed, **dict.fromkeys(unnamed)}
        return dict.fromkeys(keys)


def _fits_xml(key: str) -> bool:
    """Return whether a key survives XML: control characters do not."""
    return key.isprintable()


class _ObjectSource:
    """A `stores.base.Source` that reads an object of the bucket; `match` is the version it must have."""

    digest = b""
    mtime_ns: int | None = None

    def __init__(self, calls: Calls, key: str, source: RemoteObject, match: str | None) -> None:
        self._calls = calls
        self._key = key
        self._source = source
        self._match = match
        self.size = source.size

    def read_at(self, offset: int, length: int) -> bytes:
        if not length:
            return b""
        with self._calls.get(self._key, self._match, offset, length) as opened:
            check(self._source.path, opened.found.at(self._source.path), self._source)
            body = b"".join(opened.chunks)
        if (opened.start, len(body)) != (offset, length):
            raise StoreUnavailable(f"{self._source.path} did not arrive as announced.")
        return body

    def verify(self) -> None:
        """Do nothing: every read checked the version."""


def check(path: str, current: RemoteObject | None, expect: Expect) -> None:
    """Raise `PreconditionFailed` unless the current object is the expected one."""
    if expect is None:
        return
    if current is None:
        raise PreconditionFailed(f"{path} is gone.")
    if isinstance(expect, Absent):
        raise PreconditionFailed(f"{path} already exists in the store.")
    if expect.version is not None:
        same = current.version == expect.version
    else:
        same = current.size == expect.size and _second(current) == _second(expect)
        # The time has whole seconds, so all else that both report must agree too.
        pairs = ((expect.operation, current.operation), (expect.digest, current.digest))
        same = same and not any(one and other and one != other for one, other in pairs)
    if not same:
        raise PreconditionFailed(f"{path} has changed.")


def _second(found: RemoteObject) -> int | None:
    """Return when an object was modified, in whole seconds: a listing may be finer than a HEAD."""
    return None if found.modified_ns is None else found.modified_ns // 10**9
