"""What a write or delete displaces: looked at, kept, and then demanded of the server.

Where the server checks a condition, it is left to it; where it does not, the
look just before is all there is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeVar

from craftsync.core.model import OWN_FOLDER, Absent, RemoteObject
from craftsync.errors import (
    NotKept,
    ObjectArchived,
    ObjectNotFound,
    PreconditionFailed,
    RequestDenied,
    StoreError,
    StoreUnavailable,
)
from craftsync.net.waiting import both
from craftsync.stores.base import Expect, Properties
from craftsync.stores.s3.api import Calls
from craftsync.stores.s3.errors import NotSupported, unconfirmed
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
from craftsync.stores.s3.probe import Checks, ProbedFacts

Seen = TypeVar("Seen")

Metadata = tuple[Mapping[str, str], Mapping[str, str]]
"""The headers of a copied object, and the metadata its copy gets."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Where one way of doing things ends and another begins. Sizes are bytes."""

    single_put: int = 16 * MIB
    smallest_part: int = SMALLEST_PART
    """Of an upload in parts; AWS takes no parts under 5 MiB but the last."""
    single_copy: int = 5 * 1024 * MIB
    """CopyObject takes no more (AWS S3 API reference, "CopyObject")."""
    quick_copy: int = 1024 * MIB
    """Of another bucket's object: a larger one is copied in several parts at once, which can be resumed."""
    page: int = 1000
    """Keys asked for at once when listing; S3 never gives more."""
    fresh_listing_seconds: float = 2.0
    """For so long after its begin, a complete listing is taken for a look at where nothing was."""


class Replaced(NamedTuple):
    """What a stat showed in the place of new content; not `is_known` where none was made."""

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
        """Return headers and metadata of new content: of its original, else of what it replaces; settings; notes."""
        if original is None and self.found is None:
            return headers_of_new(settings, path), noted
        described = original or inherited(path, self.found, self.tags)
        described = by_settings(settings, path, described, is_copy=original is not None)
        return sent_with(described, noted)


UNSEEN = Replaced()


class Preconditions:
    """Prepares writes and deletes.

    `key` maps a path to its key, `facts` returns what is known of the server by
    now, `location` names the store in messages.
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
        self._absence = absence
        self._facts = facts

    def prepared(
        self,
        path: str,
        expect: Expect,
        keep: str | None,
        checks: Checks,
        stat: Callable[[str], RemoteObject | None],
    ) -> Condition:
        """Do what comes before a write, and return what the write is to demand.

        `stat` describes what is at the path just now.

        With `keep`, only what was kept may be replaced: should another object
        come in between, the write fails although anything was expected.
        """
        if isinstance(expect, Absent):
            if not (checks.create or self._absence.is_sure(path) or stat(path) is None):
                raise PreconditionFailed(f"{path} already exists in the store.")
            return CREATE if checks.create else None
        current = expect
        # A listing may leave the version out (some servers' do); then a look has to tell it.
        checked = checks.replace and expect is not None and expect.version is not None
        if (expect is None and keep is not None) or (expect is not None and not checked):
            current = stat(path)
            check(path, current, expect)
        if current is None:
            return None
        if keep is not None:
            try:
                self.keep(current, keep)
            except ObjectNotFound as error:
                raise PreconditionFailed(f"{path} is gone.") from error
        return checks.matching(current.version)

    def replaced(self, path: str, expect: Expect) -> Replaced:
        """Stat what new content replaces, for what others gave it: its type, headers, metadata and tags.

        Raises `RequestDenied` for an object that is known to be there and may not be looked at.
        """
        if isinstance(expect, Absent):
            return Replaced()
        key = self._key(path)
        try:
            seen = self._calls.look(key)
        except RequestDenied as error:
            if expect is None:
                # S3 answers 403 for an object that is not there to those who may not list.
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
        self, look: Callable[[], Seen], expect: Expect, keep: str | None
    ) -> tuple[Seen, str | None]:
        """Look at what is to be displaced; return what was seen, and `keep` where it is still to be kept.

        It is kept meanwhile where no look need come before: where the server copies
        only the version that is expected, so that no copy of before is overwritten.
        """
        facts = self._facts()
        is_named = isinstance(expect, RemoteObject) and facts.source_form.of(expect.version)
        if keep is None or facts.keeps_versions or not is_named or not facts.conditional_source:
            return look(), keep
        assert isinstance(expect, RemoteObject)
        seen, is_kept = both(look, partial(self._is_kept, expect, keep))
        return seen, None if is_kept else keep

    def _is_kept(self, current: RemoteObject, keep: str) -> bool:
        try:
            self.keep(current, keep)
        except ObjectNotFound:
            return False
        return True

    def keep(self, current: RemoteObject, keep: str) -> None:
        """Copy an object into the trash; `ObjectNotFound` when it is not there any more, `NotKept` when it is archived."""
        try:
            self.copied(current, self._key(f"{OWN_FOLDER}/trash/{keep}/{current.path}"))
        except ObjectArchived as error:
            raise NotKept(current.path) from error

    def confirm_readable(self, path: str) -> None:
        """Raise `NotKept` if what is at a path is archived, which a large write would else find out at its end."""
        try:
            with self._calls.get(self._key(path), None, 0, 1):
                return
        except ObjectArchived as error:
            raise NotKept(path) from error
        except StoreUnavailable:
            raise
        except StoreError:
            return  # What comes before the write itself says more.

    def copied(
        self,
        source: RemoteObject,
        target: str,
        replace: Metadata | None = None,
        condition: Condition = None,
        storage_class: str | None = None,
    ) -> str:
        """Copy an object to a key and return the new version; without `replace` the metadata stays.

        Where the server cannot do it, the bytes go through here.
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
                *(key, target),
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
        """Look for a copy whose answer names no version."""
        found = self._calls.head(target)
        if found is None or found.size != source.size:
            raise unconfirmed("the store", target, "an ETag")

    def _streamed(
        self, source: RemoteObject, target: str, sent: Metadata, condition: Condition
    ) -> str:
        headers, metadata = sent
        match = self._facts().read_form.of(source.version)
        content = _Held(self._calls, self._key(source.path), source, match)
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
        """Return what a copy that is sent anew gets: headers that S3 keeps, tags, and metadata."""
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


class _Held:
    """An object of the bucket as content for another: keeps `stores.base.Source`. `match` is the version it has to be of."""

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
        """Each part was of the version it had to be of."""


def check(path: str, current: RemoteObject | None, expect: Expect) -> None:
    """Raise `PreconditionFailed` unless a look agrees with what was expected."""
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
        # The time is to the second, so what else both tell has to agree as well.
        told = ((expect.operation, current.operation), (expect.digest, current.digest))
        same = same and not any(one and other and one != other for one, other in told)
    if not same:
        raise PreconditionFailed(f"{path} has changed.")


def _second(found: RemoteObject) -> int | None:
    """Return when an object was modified, to the second: a listing may be finer than a HEAD."""
    return None if found.modified_ns is None else found.modified_ns // 10**9
