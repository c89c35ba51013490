"""Objects as S3 describes them: headers, metadata, checksums, old versions, as values.

craftsync writes its own notes (digest, operation id, mtime) into an object's metadata. `mtime` is
written as rclone writes it, seconds as text with nine decimals, so that each reads the other's.
"""

from __future__ import annotations

import mimetypes
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from functools import lru_cache
from posixpath import splitext
from types import MappingProxyType
from typing import NamedTuple

from craftsync.core.model import RemoteObject, time_within
from craftsync.core.paths import is_own, malformed
from craftsync.hashing import is_md5
from craftsync.stores.base import OldVersion, Properties
from craftsync.stores.s3.errors import broken

DIGEST, OPERATION, MTIME = "craftsync-sha256", "craftsync-operation", "mtime"
_META = "x-amz-meta-"
_NOTES = {DIGEST, OPERATION, MTIME}
TAGS, STORAGE_CLASS = "x-amz-tagging", "x-amz-storage-class"
HEADERS = (
    *("content-type", "content-encoding", "content-language"),
    *("content-disposition", "cache-control", "expires"),
)
"""The HTTP headers that S3 keeps with an object."""
_DESCRIBING = (*HEADERS, STORAGE_CLASS)
_NO_TYPE = "binary/octet-stream"
"""The content type that S3 reports for an object written without one."""
_PACKED = {
    "gzip": "application/gzip",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
    "compress": "application/x-compress",
}
_MOST_METADATA = 2048
"""Bytes of all names and values together (AWS S3 user guide, "Working with object metadata")."""
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
ENCRYPTION = "x-amz-server-side-encryption"

Condition = str | None
"""What a write may replace: a version (in the server's `Form`), no object (`CREATE`), anything (`None`)."""

CREATE = "*"
"""Expects no object (`if-none-match: *`). Never equals a version: versions are ETags."""


class Form(StrEnum):
    """The form in which a server accepts a version in a condition, found by trying the right one."""

    QUOTED = "quoted"
    """As RFC 9110 writes an ETag."""
    PLAIN = "plain"
    """Without quotes: Ceph 16 compares the quotes too, so a quoted version never matches."""
    NONE = "none"
    """In neither form: the server refuses the right version too, so no condition may be sent."""

    def of(self, version: str | None) -> str | None:
        """Return a version in this form, or `None` if no condition may be sent."""
        if not version or self is Form.NONE:
            return None
        return f'"{version}"' if self is Form.QUOTED else version


class Digests(StrEnum):
    """The digests to send with a part: a single one if the server is known to check it."""

    BOTH = "both"
    SHA256 = "sha256"
    MD5 = "md5"


class Found(NamedTuple):
    """An object as a HEAD or GET describes it; `version` is the ETag without its quotes.

    `headers` are those in `HEADERS`, and the storage class if it was reported. `md5` and `digest`
    are the server's checksums of the whole content; craftsync's own note of the digest is in
    `metadata`.
    """

    size: int
    modified_ns: int | None
    version: str | None
    metadata: Mapping[str, str]
    headers: Mapping[str, str] = NO_HEADERS
    md5: bytes | None = None
    digest: bytes | None = None

    @property
    def properties(self) -> Properties:
        """The properties of the object in this response."""
        return Properties(
            {name: value for name, value in self.headers.items() if name != STORAGE_CLASS},
            {name: value for name, value in self.metadata.items() if name not in _NOTES},
            storage_class=self.headers.get(STORAGE_CLASS),
        )

    def at(self, path: str) -> RemoteObject:
        """Return the object under the caller's path."""
        return RemoteObject(
            path,
            self.size,
            self.modified_ns,
            self.version,
            digest_of(self.metadata.get(DIGEST)) or self.digest,
            mtime_of(self.metadata.get(MTIME)),
            self.metadata.get(OPERATION),
            self.md5,
        )


class Stored(NamedTuple):
    """The response to an upload.

    `md5` is the content's, if the ETag is one. `disagrees`: the ETag is an MD5, but not the
    content's.
    """

    version: str
    md5: bytes | None = None
    disagrees: bool = False


class Original(NamedTuple):
    """The source of a copy in parts; `bucket` is `None` if it is the target's.

    `match` is the version that it must have, in the server's form.
    """

    key: str
    size: int
    match: str | None
    bucket: str | None = None


class Opened(NamedTuple):
    """An object being read: `length` bytes from `start`, as `chunks`."""

    found: Found
    start: int
    length: int
    chunks: Iterator[bytes]


class WriteSettings(NamedTuple):
    """The user's settings for the objects that a store writes; `None` leaves it to the bucket.

    `content_type` applies to all objects; by default each gets one by its name. `sse` is AES256,
    aws:kms or aws:kms:dsse, the last two with `:KEY` unless the key is the account's own.
    """

    content_type: str | None = None
    storage_class: str | None = None
    sse: str | None = None

    def encryption(self) -> dict[str, str]:
        """Return the headers that request encryption."""
        if self.sse is None:
            return {}
        algorithms = (*_KMS_ALGORITHMS, "AES256")
        algorithm = next(name for name in algorithms if f"{self.sse}:".startswith(f"{name}:"))
        key = self.sse[len(algorithm) + 1 :]
        return {ENCRYPTION: algorithm} | ({f"{ENCRYPTION}-aws-kms-key-id": key} if key else {})

    def text(self) -> str:
        """Return text that identifies these settings; empty if all of them are left to the bucket."""
        return " ".join(filter(None, self))


_KMS_ALGORITHMS = ("aws:kms:dsse", "aws:kms")
AS_THE_BUCKET = WriteSettings()


def found_in(headers: Mapping[str, str], size: int, *, md5_etags: bool, whole: bool) -> Found:
    """Return the description of an object of `size` bytes, from the headers of a response.

    `md5_etags`: this server's ETags are MD5s, as far as known. `whole`: the response describes
    the whole object; otherwise its checksum may be that of a part.
    """
    modified = headers.get("last-modified")
    modified_ns = _moment(modified) if modified else None
    metadata = {
        name.removeprefix(_META): value for name, value in headers.items() if name.startswith(_META)
    }
    told = {name: headers[name] for name in _DESCRIBING if name in headers}
    md5 = md5_of(headers) if md5_etags else None
    digest = _sha256_of(headers) if whole else None
    return Found(size, modified_ns, version_of(headers.get("etag")), metadata, told, md5, digest)


def md5_of(headers: Mapping[str, str]) -> bytes | None:
    """Return the MD5 in a response's ETag; `None` for a multipart upload or an encrypted object.

    With SSE-KMS or a customer's key the ETag has 32 digits too, but is not an MD5 (AWS S3 API
    reference, "Object").
    """
    for name in headers:
        if "server-side-encryption" not in name:
            continue
        if name.endswith("server-side-encryption") and headers[name] != "AES256":
            return None
        if name.endswith("server-side-encryption-customer-algorithm"):
            return None
    version = version_of(headers.get("etag")) or ""
    return bytes.fromhex(version) if is_md5(version) else None


def _sha256_of(headers: Mapping[str, str]) -> bytes | None:
    """Return the SHA-256 that a response reports; `None` for a multipart upload, whose checksum is another."""
    if "x-amz-checksum-sha256" not in headers:
        return None
    try:
        digest = b64decode(headers["x-amz-checksum-sha256"], validate=True)
    except ValueError:
        return None
    return digest if len(digest) == 32 else None


@lru_cache(maxsize=1024)
def _moment(text: str) -> int | None:
    """Return an HTTP date, which has whole seconds, in nanoseconds since the epoch; `None` if invalid."""
    with suppress(ValueError, OverflowError):
        return time_within(int(parsedate_to_datetime(text).timestamp()) * 10**9)
    return None


def notes(digest: bytes, mtime_ns: int | None, operation: str) -> dict[str, str]:
    """Return craftsync's notes for a new object's metadata. An unknown (empty) digest is left out."""
    metadata = {DIGEST: digest.hex(), OPERATION: operation} if digest else {OPERATION: operation}
    if mtime_ns is not None:
        metadata[MTIME] = mtime_text(mtime_ns)
    return metadata


def with_notes(own: Mapping[str, str], noted: Mapping[str, str]) -> dict[str, str]:
    """Return the user's metadata with craftsync's notes, or as many of the notes as S3 has room for."""
    if not own:
        return dict(noted)
    mtime = {MTIME: noted[MTIME]} if MTIME in noted else {}
    for more in (noted, mtime):
        both = {**own, **more}
        size = sum(len(name) + len(value.encode()) for name, value in both.items())
        if size <= _MOST_METADATA:
            return both
    return dict(own)


def headers_of(properties: Properties | None) -> dict[str, str]:
    """Return the headers that set a new object's properties, except its metadata."""
    if properties is None:
        return {}
    more = {TAGS: properties.tags, STORAGE_CLASS: properties.storage_class}
    return {**properties.headers, **{name: value for name, value in more.items() if value}}


def sent_with(
    described: Properties, noted: Mapping[str, str]
) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Return the headers and the metadata for a write: its properties, with craftsync's notes."""
    return headers_of(described), with_notes(described.metadata, noted)


@lru_cache(maxsize=1024)
def _headers_by(settings: WriteSettings, kind: str | None) -> Mapping[str, str]:
    described = Properties({"content-type": kind} if kind else {}, NO_HEADERS)
    return MappingProxyType(headers_of(by_settings(settings, "", described, is_copy=False)))


def headers_of_new(settings: WriteSettings, name: str) -> Mapping[str, str]:
    """Return the headers of an entirely new object, by its name and the settings."""
    return _headers_by(settings, type_of(name))


def type_of(name: str) -> str | None:
    """Return the content type for a file name, the same on every machine, or `None`.

    A compressed file gets the type of its compression, not of its content.
    """
    last = name[name.rfind("/") + 1 :]
    dot = last.find(".")
    if dot < 0:
        return None
    return _type_by(f"name{last[dot:]}" if dot else last)


@lru_cache(maxsize=1024)
def _type_by(name: str) -> str | None:
    stem, last = splitext(name)
    suffixes = splitext(stem)[1] + last
    kind, packed = _types().guess_type(f"name{suffixes}")
    return _PACKED.get(packed) if packed else kind


@lru_cache(maxsize=1)
def _types() -> mimetypes.MimeTypes:
    # Prevent the constructor from reading this machine's type files.
    was_read, mimetypes.inited = mimetypes.inited, True
    try:
        return mimetypes.MimeTypes()
    finally:
        mimetypes.inited = was_read


def inherited(name: str, replaced: Found | None, tags: str = "") -> Properties:
    """Return the properties for new content: those of the object it replaces, and a type by its name.

    The storage class is not inherited: it concerns where the old content is stored.
    """
    headers, own = {}, NO_HEADERS
    if replaced is not None:
        headers, own = dict(replaced.properties.headers), replaced.properties.metadata
    if headers.get("content-type", _NO_TYPE) == _NO_TYPE and (kind := type_of(name)):
        headers["content-type"] = kind
    return Properties(headers, own, tags)


def by_settings(
    settings: WriteSettings, name: str, described: Properties, *, is_copy: bool
) -> Properties:
    """Return the properties with the settings applied. A copy from another store keeps its own type, if any."""
    own = described.headers.get("content-type")
    kind = own if own and (is_copy or not settings.content_type) else settings.content_type
    kind = kind or type_of(name)
    headers = {**described.headers, "content-type": kind} if kind else described.headers
    storage_class = described.storage_class or settings.storage_class
    return described._replace(headers=headers, storage_class=storage_class)


def meta_headers(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that set an object's metadata."""
    return {_META + name: value for name, value in metadata.items()}


def kept(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a response that S3 keeps with an object, and tags if they were added."""
    return {name: headers[name] for name in (*HEADERS, TAGS) if name in headers}


def mtime_text(mtime_ns: int) -> str:
    """Return nanoseconds since the epoch as rclone writes them: seconds with nine decimals."""
    seconds, fraction = divmod(abs(mtime_ns), 10**9)
    return f"{'-' if mtime_ns < 0 else ''}{seconds}.{fraction:09d}"


def mtime_of(text: str | None) -> int | None:
    """Parse seconds with any number of decimals; `None` for anything else."""
    whole, _, fraction = (text or "").removeprefix("-").partition(".")
    if not whole.isdecimal() or (fraction and not fraction.isdecimal()):
        return None
    value = int(whole) * 10**9 + int(fraction[:9].ljust(9, "0"))
    return time_within(-value if text and text.startswith("-") else value)


def digest_of(text: str | None) -> bytes | None:
    """Parse a SHA-256 in hexadecimal; `None` for anything else."""
    try:
        digest = bytes.fromhex(text or "")
    except ValueError:
        return None
    return digest if len(digest) == 32 else None


def version_of(etag: str | None) -> str | None:
    """Return an ETag without its quotes: some servers quote it in some responses only."""
    return etag.strip('"') or None if etag else None


@lru_cache(maxsize=16384)
def modified_ns_of(text: str) -> int:
    """Parse a listing's LastModified; raises `ValueError` for anything else."""
    moment = datetime.fromisoformat(text)
    whole = int(moment.replace(microsecond=0).timestamp())
    return time_within(whole * 10**9 + moment.microsecond * 1000)


def begun_ns_of(text: str) -> int | None:
    """Parse the time in a list of uploads; `None` for anything else."""
    with suppress(ValueError, OverflowError):
        return modified_ns_of(text)
    return None


class ListedVersion(NamedTuple):
    """A version of a key, as text in the server's form. `deleted`: a delete marker, made at that time."""

    key: str
    deleted: bool
    version_id: str
    latest: str
    etag: str
    size: str
    modified: str


def text_of(document: str, element: str) -> str:
    """Return the text of the first element of this name; empty if it is missing or contains elements."""
    text, closed, _ = document.partition(f"<{element}>")[2].partition(f"</{element}>")
    if not closed or "<" in text:
        return ""
    text = text.strip().replace("&quot;", '"').replace("&#34;", '"')  # The quotes of an ETag.
    if "&" not in text:
        return text
    from html import unescape  # Its table of names takes a millisecond to load.

    return unescape(text)


def content_md5(digest: bytes) -> dict[str, str]:
    """Return the header by which the server checks a body; object lock requires it (AWS S3 API, "PutObject")."""
    return {"content-md5": b64encode(digest).decode()}


def deletion_of(keys: Iterable[str]) -> bytes:
    """Return the body of a request that deletes several objects."""
    from html import escape

    rows = "".join(f"<Object><Key>{escape(key, quote=False)}</Key></Object>" for key in keys)
    return f"<Delete>{rows}</Delete>".encode()


def old_versions(
    pages: Iterable[list[ListedVersion]], root: str, location: str
) -> Iterator[OldVersion]:
    """Yield old versions as `Store.old_versions` does; `root` is the prefix of the store's keys."""
    pairing = _Pairing()
    try:
        for page in pages:
            for listed, gone_ns in pairing.of(page):
                path = listed.key[len(root) :]
                if not is_own(path) and malformed(path) is None:
                    yield OldVersion(
                        path,
                        listed.version_id,
                        version_of(listed.etag),
                        int(listed.size),
                        modified_ns_of(listed.modified),
                        gone_ns,
                    )
    except ValueError as error:
        raise broken(location, "a version has an invalid time or size") from error


class _Pairing:
    """Finds when each version was replaced or deleted: when its key got the next version or a delete marker."""

    def __init__(self) -> None:
        self._key, self._newer_ns = "", 0
        self._deleted: dict[str, list[int]] = {}

    def of(self, page: list[ListedVersion]) -> Iterator[tuple[ListedVersion, int]]:
        """Yield the versions of a page that are not current, each with the time it was replaced or deleted.

        Raises `ValueError` for an invalid time.
        """
        self._deleted = {self._key: self._deleted.get(self._key, [])}
        for listed in page:
            if listed.deleted:
                self._deleted.setdefault(listed.key, []).append(modified_ns_of(listed.modified))
        for listed in page:
            if not listed.deleted:
                modified_ns = modified_ns_of(listed.modified)
                newer = [self._newer_ns] if listed.key == self._key else []
                deleted = [ns for ns in self._deleted.get(listed.key, []) if ns >= modified_ns]
                self._key, self._newer_ns = listed.key, modified_ns
                if listed.latest != "true":
                    yield listed, min([*newer, *deleted], default=modified_ns)
