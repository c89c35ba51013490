"""An object as S3 describes it, craftsync's own notes in its metadata, and its older versions.

`mtime` is written as rclone writes it (seconds as text, with nanoseconds), so
that the two tools understand each other's objects.
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
"""Of HTTP, those that S3 keeps with an object."""
_DESCRIBING = (*HEADERS, STORAGE_CLASS)
_NO_TYPE = "binary/octet-stream"
"""What S3 says of an object that was given no type."""
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
"""What a write demands of the object that it replaces: a version in the server's form (`Form`), `CREATE` for no object, `None` for anything."""

CREATE = "*"
"""Expects no object (`if-none-match: *`). Never equal to a version: those are ETags."""


class Form(StrEnum):
    """How a server takes a version in a condition, found by trying the right one."""

    QUOTED = "quoted"
    """As RFC 9110 writes an ETag."""
    PLAIN = "plain"
    """Without the quotes; Ceph 16 compares them too, so that no quoted version is ever the right one."""
    NONE = "none"
    """Neither way: the right version is refused as well, so none may be sent."""

    def of(self, version: str | None) -> str | None:
        """Return a version as this server takes it; `None` where nothing is to be sent."""
        if not version or self is Form.NONE:
            return None
        return f'"{version}"' if self is Form.QUOTED else version


class Digests(StrEnum):
    """What the server compares a part with: one digest of it where that is known to be enough."""

    BOTH = "both"
    SHA256 = "sha256"
    MD5 = "md5"


class Found(NamedTuple):
    """An object as a HEAD or GET describes it; `version` is the ETag without its quotes.

    `headers` are those of `HEADERS`, and the storage class if it was reported.
    `md5` and `digest` are checksums that the answer reports of the whole
    content; craftsync's own note of the digest is in `metadata`.
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
        """What belongs to the object as far as this answer tells."""
        return Properties(
            {name: value for name, value in self.headers.items() if name != STORAGE_CLASS},
            {name: value for name, value in self.metadata.items() if name not in _NOTES},
            storage_class=self.headers.get(STORAGE_CLASS),
        )

    def at(self, path: str) -> RemoteObject:
        """Return the description under the name the caller knows the object by."""
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
    """What an upload was answered.

    `md5` is that of the content, where the answer vouches for it;
    `disagrees` when the ETag should be it and is another.
    """

    version: str
    md5: bytes | None = None
    disagrees: bool = False


class Original(NamedTuple):
    """An object to be copied in parts; `bucket` is `None` for the copy's own.

    `match` is the version it has to be of, as the server takes it.
    """

    key: str
    size: int
    match: str | None
    bucket: str | None = None


class Opened(NamedTuple):
    """An object whose bytes are on their way: `length` of them from `start`."""

    found: Found
    start: int
    length: int
    chunks: Iterator[bytes]


class WriteSettings(NamedTuple):
    """What a store gives the objects it writes besides their content; `None` leaves it to the bucket.

    `content_type` is for all of them, by default each gets one by its name.
    `sse` is AES256, aws:kms or aws:kms:dsse, the latter two with `:KEY` if it is not the account's own.
    """

    content_type: str | None = None
    storage_class: str | None = None
    sse: str | None = None

    def encryption(self) -> dict[str, str]:
        """Return the headers that have an object encrypted."""
        if self.sse is None:
            return {}
        algorithms = (*_KMS_ALGORITHMS, "AES256")
        algorithm = next(name for name in algorithms if f"{self.sse}:".startswith(f"{name}:"))
        key = self.sse[len(algorithm) + 1 :]
        return {ENCRYPTION: algorithm} | ({f"{ENCRYPTION}-aws-kms-key-id": key} if key else {})

    def text(self) -> str:
        """Return what tells these settings from others; empty where all is left to the bucket."""
        return " ".join(filter(None, self))


_KMS_ALGORITHMS = ("aws:kms:dsse", "aws:kms")
AS_THE_BUCKET = WriteSettings()


def found_in(headers: Mapping[str, str], size: int, *, md5_etags: bool, whole: bool) -> Found:
    """Read the description of an object of so many bytes from the headers of an answer.

    `md5_etags` tells whether ETags are believed to be MD5s, `whole` whether
    the answer is about all of the object (a checksum may be that of a part).
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
    """Return the MD5 that an answer's ETag is; `None` for one of an upload in parts, or of what is encrypted.

    With SSE-KMS or with a customer's key an ETag is 32 digits as well, and no MD5
    (AWS S3 API reference, "Object").
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
    """Return the SHA-256 of the whole content that an answer reports; that of an upload in parts is another thing."""
    if "x-amz-checksum-sha256" not in headers:
        return None
    try:
        digest = b64decode(headers["x-amz-checksum-sha256"], validate=True)
    except ValueError:
        return None
    return digest if len(digest) == 32 else None


@lru_cache(maxsize=1024)
def _moment(text: str) -> int | None:
    """Read a date of HTTP, which is to the second, as nanoseconds since the epoch; `None` for no date."""
    with suppress(ValueError, OverflowError):
        return time_within(int(parsedate_to_datetime(text).timestamp()) * 10**9)
    return None


def notes(digest: bytes, mtime_ns: int | None, operation: str) -> dict[str, str]:
    """Return the metadata of an object craftsync writes; a digest that is not known yet is left out."""
    metadata = {DIGEST: digest.hex(), OPERATION: operation} if digest else {OPERATION: operation}
    if mtime_ns is not None:
        metadata[MTIME] = mtime_text(mtime_ns)
    return metadata


def with_notes(own: Mapping[str, str], noted: Mapping[str, str]) -> dict[str, str]:
    """Return what an object's owner noted and what craftsync did, which gives way where S3 has no room for both."""
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
    """Return the headers that give properties to a new object, all but its metadata."""
    if properties is None:
        return {}
    more = {TAGS: properties.tags, STORAGE_CLASS: properties.storage_class}
    return {**properties.headers, **{name: value for name, value in more.items() if value}}


def sent_with(
    described: Properties, noted: Mapping[str, str]
) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Return headers and metadata of new content: what it is described by, and craftsync's notes."""
    return headers_of(described), with_notes(described.metadata, noted)


@lru_cache(maxsize=1024)
def _headers_by(settings: WriteSettings, kind: str | None) -> Mapping[str, str]:
    described = Properties({"content-type": kind} if kind else {}, NO_HEADERS)
    return MappingProxyType(headers_of(by_settings(settings, "", described, is_copy=False)))


def headers_of_new(settings: WriteSettings, name: str) -> Mapping[str, str]:
    """Return the headers of an object that replaces none and is a copy of none, by its name and the settings."""
    return _headers_by(settings, type_of(name))


def type_of(name: str) -> str | None:
    """Return the content type that a file's name stands for, the same on every machine; `None` for none.

    A compressed file is what it is, and not what is in it.
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
    # Without the files of the machine, which the constructor reads otherwise, to no use here.
    was_read, mimetypes.inited = mimetypes.inited, True
    try:
        return mimetypes.MimeTypes()
    finally:
        mimetypes.inited = was_read


def inherited(name: str, replaced: Found | None, tags: str = "") -> Properties:
    """Return the properties of an object's new content: those of the object it replaces, and a type by its name.

    The storage class is the store's usual one: it says where the old content lies.
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
    """Return the properties with what the settings say; a copy of another store's object keeps its type, if it has one."""
    own = described.headers.get("content-type")
    kind = own if own and (is_copy or not settings.content_type) else settings.content_type
    kind = kind or type_of(name)
    headers = {**described.headers, "content-type": kind} if kind else described.headers
    storage_class = described.storage_class or settings.storage_class
    return described._replace(headers=headers, storage_class=storage_class)


def meta_headers(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that give an object its metadata."""
    return {_META + name: value for name, value in metadata.items()}


def kept(headers: Mapping[str, str]) -> dict[str, str]:
    """Return those of an answer's headers that S3 keeps with an object, and tags if they were added."""
    return {name: headers[name] for name in (*HEADERS, TAGS) if name in headers}


def mtime_text(mtime_ns: int) -> str:
    """Return nanoseconds since the epoch as rclone writes them: seconds with nine decimals."""
    seconds, fraction = divmod(abs(mtime_ns), 10**9)
    return f"{'-' if mtime_ns < 0 else ''}{seconds}.{fraction:09d}"


def mtime_of(text: str | None) -> int | None:
    """Read seconds with any number of decimals; anything else is not an mtime."""
    whole, _, fraction = (text or "").removeprefix("-").partition(".")
    if not whole.isdecimal() or (fraction and not fraction.isdecimal()):
        return None
    value = int(whole) * 10**9 + int(fraction[:9].ljust(9, "0"))
    return time_within(-value if text and text.startswith("-") else value)


def digest_of(text: str | None) -> bytes | None:
    """Read a SHA-256 in hexadecimal."""
    try:
        digest = bytes.fromhex(text or "")
    except ValueError:
        return None
    return digest if len(digest) == 32 else None


def version_of(etag: str | None) -> str | None:
    """Return an ETag without its quotes: some servers quote it in one answer and not in the next."""
    return etag.strip('"') or None if etag else None


@lru_cache(maxsize=16384)
def modified_ns_of(text: str) -> int:
    """Read a listing's LastModified; raises `ValueError` for anything else."""
    moment = datetime.fromisoformat(text)
    whole = int(moment.replace(microsecond=0).timestamp())
    return time_within(whole * 10**9 + moment.microsecond * 1000)


def begun_ns_of(text: str) -> int | None:
    """Read when an upload began, as a list of uploads has it; `None` for anything but a time."""
    with suppress(ValueError, OverflowError):
        return modified_ns_of(text)
    return None


class ListedVersion(NamedTuple):
    """A version of a key, as the server writes it; a delete marker says that it was deleted then."""

    key: str
    deleted: bool
    version_id: str
    latest: str
    etag: str
    size: str
    modified: str


def text_of(document: str, element: str) -> str:
    """Return the text of the first element of this name; empty where there is none, or it holds elements."""
    text, closed, _ = document.partition(f"<{element}>")[2].partition(f"</{element}>")
    if not closed or "<" in text:
        return ""
    text = text.strip().replace("&quot;", '"').replace("&#34;", '"')  # Those of an ETag.
    if "&" not in text:
        return text
    from html import unescape  # Its table of names takes a millisecond to load.

    return unescape(text)


def content_md5(digest: bytes) -> dict[str, str]:
    """Have the server compare a body; a bucket with object lock takes no other (AWS S3 API reference, "PutObject")."""
    return {"content-md5": b64encode(digest).decode()}


def deletion_of(keys: Iterable[str]) -> bytes:
    """Return the body of the request that removes several objects."""
    from html import escape

    rows = "".join(f"<Object><Key>{escape(key, quote=False)}</Key></Object>" for key in keys)
    return f"<Delete>{rows}</Delete>".encode()


def old_versions(
    pages: Iterable[list[ListedVersion]], root: str, location: str
) -> Iterator[OldVersion]:
    """Yield them as `Store.old_versions` does; `root` is what the store's keys begin with."""
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
    """Finds out when each version went: when the next one of its key, or a delete marker, was made."""

    def __init__(self) -> None:
        self._key, self._newer_ns = "", 0
        self._deleted: dict[str, list[int]] = {}

    def of(self, page: list[ListedVersion]) -> Iterator[tuple[ListedVersion, int]]:
        """Yield the versions of a page that are not current, and when each went.

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
