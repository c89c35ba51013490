"""`Calls`: the S3 requests that craftsync makes, one method for each.

A method sends a request and returns what the response reports, or raises. Keys are complete keys of
the bucket. Nothing is retried here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from hashlib import md5
from http import HTTPStatus

from craftsync.errors import (
    CraftsyncError,
    ObjectNotFound,
    ObjectRefused,
    PreconditionFailed,
)
from craftsync.hashing import update_in_place
from craftsync.net.http import Buffer, Response
from craftsync.net.pace import UNPACED, Attempt, Pace
from craftsync.stores.s3.credentials import BODY_SHA256, UNSIGNED, Query, encoded_path
from craftsync.stores.s3.errors import (
    ChecksumWanted,
    NotSupported,
    PartsNotCopied,
    UploadGone,
    no_s3_server,
    not_deleted,
    unconfirmed,
    unreachable,
)
from craftsync.stores.s3.objects import (
    CREATE,
    NO_HEADERS,
    STORAGE_CLASS,
    Condition,
    Digests,
    Found,
    ListedVersion,
    Opened,
    Original,
    Stored,
    content_md5,
    deletion_of,
    found_in,
    kept,
    md5_of,
    meta_headers,
    text_of,
    version_of,
)
from craftsync.stores.s3.responses import (
    Responses,
    names_no_version,
    next_key_in,
    parts_in,
    tags_in,
    uploads_in,
    versions_in,
)
from craftsync.stores.s3.wire import Wire
from craftsync.stores.sources import dated

_CHUNK = 1024 * 1024


class Calls(Responses):
    """The requests to one bucket. `bucket` is its name, which is part of the source of a copy.

    `part_digests`: what the server checks of a part. Set it, and the attributes of `Responses`, when
    they are known.
    """

    part_digests = Digests.BOTH

    def __init__(self, wire: Wire, bucket: str, location: str) -> None:
        super().__init__(location)
        self._wire = wire
        self._bucket = bucket

    def within(self, seconds: float) -> Calls:
        """Return the same requests, each of which waits at most so long for the server."""
        limited = copy(self)
        limited._wire = self._wire.within(seconds)
        return limited

    def list_page(self, query: Query) -> bytes:
        """Return one page of a listing, as received."""
        try:
            return self._wire.call("GET", query=[("list-type", "2"), *query]).body
        except ObjectNotFound as error:
            raise no_s3_server(f"{self._location} answered 404") from error

    def now_ns(self) -> int:
        """Return the server's time from the date of a response: nanoseconds since the epoch, whole seconds."""
        query = [("list-type", "2"), ("max-keys", "1")]
        return dated(self._wire.call("GET", query=query).headers.get("date"), self._location)

    def versioning(self) -> bool:
        """Return whether the bucket keeps old versions."""
        body = self._wire.call("GET", query=[("versioning", "")]).body.decode(errors="replace")
        return text_of(body, "Status") == "Enabled"

    def put(
        self,
        key: str,
        body: bytes,
        metadata: Mapping[str, str],
        condition: Condition,
        headers: Mapping[str, str] = NO_HEADERS,
        digest: bytes = b"",
        pace: Pace = UNPACED,
    ) -> Stored:
        """Put an object and return the response.

        `headers` are further headers that S3 keeps with it; `digest` is the body's SHA-256, if
        known. The bytes are sent at `pace`. Raises `Unconfirmed` for a success without an ETag,
        which may not come from the store, and `StoreError` if the object was not encrypted as
        requested.
        """
        hashed = update_in_place(md5(usedforsecurity=False), body).digest()
        sent = {**headers, **meta_headers(metadata), **_demand(condition), **content_md5(hashed)}
        if self.encryption:
            sent |= self.encryption
        with Attempt(pace) as attempt:
            try:
                answer = self._wire.call(
                    "PUT", key, headers=sent, body=body, digest=digest, attempt=attempt
                )
            except ObjectNotFound as error:
                if condition is None or condition == CREATE:
                    raise ObjectRefused(
                        f"{self._location} does not accept the name {key!r}.",
                        remedy="Rename it, or leave it out (--exclude).",
                    ) from error
                raise self._unmet(key) from error
            version = self._confirmed(answer.headers.get("etag"), key)
        if self.encryption:
            self._confirm_encrypted(answer.headers)
        told = md5_of(answer.headers) if self.md5_etags else None
        return Stored(version, told, disagrees=told not in (None, hashed))

    def head(self, key: str) -> Found | None:
        """Stat an object; return `None` if it does not exist."""
        seen = self.look(key)
        return seen[0] if seen else None

    def look(self, key: str) -> tuple[Found, Mapping[str, str]] | None:
        """Return an object's description and all its headers, or `None` if it does not exist."""
        try:
            headers = self._wire.call("HEAD", key).headers
        except ObjectNotFound:
            return None
        self._refuse_foreign(headers, key)
        size = int(headers.get("content-length", 0))
        return found_in(headers, size, md5_etags=self.md5_etags, whole=True), headers

    def tags_of(self, key: str, headers: Mapping[str, str]) -> str:
        """Return an object's tags. Requests them only if `headers`, those of its stat, report any."""
        return self.tags(key) if int(headers.get("x-amz-tagging-count", 0)) else ""

    @contextmanager
    def get(
        self,
        key: str,
        match: str | None,
        offset: int,
        length: int | None,
        version_id: str | None = None,
    ) -> Iterator[Opened]:
        """Open an object; `match` is the version that it must have, in the server's form.

        `version_id` selects an old version that the bucket keeps. Reading raises
        `StoreUnavailable` if the connection ends early.
        """
        headers = {} if match is None else {"if-match": match}
        if offset or length is not None:
            last = "" if length is None else offset + length - 1
            headers["range"] = f"bytes={offset}-{last}"
        else:
            headers["x-amz-checksum-mode"] = "ENABLED"
        query = [] if version_id is None else [("versionId", version_id)]
        response = self._wire.open("GET", key, query, headers)
        try:
            yield self._opened(
                response.headers, key, self._chunks(response), ranged="range" in headers
            )
        finally:
            self._wire.host.take_back(response)

    def tags(self, key: str) -> str:
        """Return an object's tags in the form of the header of a new object: `name=value&…`."""
        body = self._wire.call("GET", key, query=[("tagging", "")]).body
        text = self._checked(body, key)
        if "<TagSet" not in text:
            raise unconfirmed(self._location, key, "a set of tags")
        return tags_in(text)

    def delete(self, key: str, condition: Condition = None) -> None:
        """Delete an object; succeeds if it does not exist.

        Only status 204 proves it. A 404 may come from a proxy, so a stat decides. 200 may come
        from a login page or one of a few servers: it raises `Unconfirmed`, and `retrying` makes
        the stat.
        """
        try:
            answer = self._wire.call("DELETE", key, headers=_demand(condition))
        except ObjectNotFound as error:
            if self.head(key) is None:
                return
            raise unconfirmed(self._location, key, "deleting it") from error
        if answer.status != HTTPStatus.NO_CONTENT:
            raise unconfirmed(self._location, key, "status 204")

    def delete_many(self, keys: Sequence[str]) -> dict[str, CraftsyncError]:
        """Delete up to a thousand objects, whatever their version; return the errors by key.

        A key that the response does not name as deleted is `Unconfirmed`.
        """
        body = deletion_of(keys)
        headers = content_md5(md5(body, usedforsecurity=False).digest())
        answer = self._wire.call("POST", query=[("delete", "")], headers=headers, body=body)
        text = answer.body.decode(errors="replace")
        if "<DeleteResult" not in text:
            raise unconfirmed(self._location, f"{len(keys)} objects", "a DeleteResult")
        return not_deleted(text, keys, self._location)

    def copy(
        self,
        source: str,
        target: str,
        *,
        match: str | None,
        bucket: str | None = None,
        replace: tuple[Mapping[str, str], Mapping[str, str]] | None = None,
        condition: Condition = None,
        storage_class: str | None = None,
    ) -> str:
        """Copy an object of at most 5 GiB and return the new version.

        `match` is the version that the source must have, in the server's form; `bucket` is the
        source's, if it is another one. `replace` is the source's headers, and the metadata that
        the copy gets instead of the source's.
        """
        headers = {**self._source(source, match, bucket), **_demand(condition), **self.encryption}
        if storage_class is not None:
            headers[STORAGE_CLASS] = storage_class
        if replace is not None:
            # A copy that replaces the metadata loses these headers unless they are sent with it.
            headers |= {"x-amz-metadata-directive": "REPLACE", **kept(replace[0])}
            headers |= meta_headers(replace[1])
        answer = self._wire.call("PUT", target, headers=headers)
        return self._confirmed(text_of(self._checked(answer.body, target), "ETag"), target)

    def begin_upload(
        self, key: str, metadata: Mapping[str, str], headers: Mapping[str, str]
    ) -> str:
        """Begin a multipart upload and return its id. `headers` are further headers that S3 keeps."""
        sent = {**headers, **meta_headers(metadata), **self.encryption}
        answer = self._wire.call("POST", key, query=[("uploads", "")], headers=sent)
        self._confirm_encrypted(answer.headers)
        upload = text_of(self._checked(answer.body, key), "UploadId")
        if not upload:
            raise unconfirmed(self._location, key, "an upload id")
        return upload

    def upload_part(
        self,
        key: str,
        upload: str,
        number: int,
        body: Buffer,
        pace: Pace = UNPACED,
        hashed: bytes | None = None,
    ) -> str:
        """Send a part at `pace` and return its version, or its MD5 if the response has no version.

        The request has the digests in `part_digests`, or both from the first time that the server
        requires an MD5. `hashed` is the part's MD5, if known.
        """
        digests = self.part_digests
        try:
            return self._upload_part(key, upload, number, body, pace, hashed, digests)
        except ChecksumWanted:
            if digests is Digests.BOTH:
                raise
        self.part_digests = Digests.BOTH
        return self._upload_part(key, upload, number, body, pace, hashed, Digests.BOTH)

    def _upload_part(
        self,
        key: str,
        upload: str,
        number: int,
        body: Buffer,
        pace: Pace,
        hashed: bytes | None,
        digests: Digests,
    ) -> str:
        headers = {BODY_SHA256: UNSIGNED} if digests is Digests.MD5 else {}
        if digests is not Digests.SHA256:
            hashed = hashed or md5(body, usedforsecurity=False).digest()
            headers |= content_md5(hashed)
        with Attempt(pace) as attempt:
            version = self.put_part(key, upload, number, body, headers, attempt)
        return version or (hashed or md5(body, usedforsecurity=False).digest()).hex()

    def put_part(
        self,
        key: str,
        upload: str,
        number: int,
        body: Buffer,
        headers: Mapping[str, str],
        attempt: Attempt | None = None,
    ) -> str:
        """Send a part with these headers and return its version, empty if the response has none."""
        query = _part(upload, number)
        answer = self._wire.call(
            "PUT", key, query=query, headers=headers, body=body, attempt=attempt
        )
        return self._confirmed(answer.headers.get("etag"), key)

    def copy_part(self, key: str, upload: str, number: int, source: Original, span: range) -> str:
        """Fill a part from an object; `span` is the range of its bytes, at least one.

        Raises `PartsNotCopied` if the server does not support such a request, or takes it for the
        upload of an empty part (as rclone 1.75 does).
        """
        headers = self._source(source.key, source.match, source.bucket)
        headers["x-amz-copy-source-range"] = f"bytes={span.start}-{span.stop - 1}"
        version = None
        with suppress(NotSupported):
            answer = self._wire.call("PUT", key, query=_part(upload, number), headers=headers)
            version = version_of(text_of(self._checked(answer.body, key), "ETag"))
        if version is None:
            raise PartsNotCopied(
                f"{self._location} does not copy parts of objects.",
                remedy="Let the bytes go through here: craftsync migrate --stream.",
            )
        return version

    def list_parts(self, key: str, upload: str) -> dict[int, tuple[str, int]]:
        """Return version and size of each part that the server has. Raises `UploadGone`."""
        parts: dict[int, tuple[str, int]] = {}
        marker = "0"
        while True:
            query = [("uploadId", upload), ("part-number-marker", marker)]
            try:
                text = self._wire.call("GET", key, query=query).body.decode(errors="replace")
            except ObjectNotFound as error:  # From Ceph 16.
                raise UploadGone(f"The upload of {key} is gone.", ambiguous=True) from error
            parts |= parts_in(text)
            following = text_of(text, "NextPartNumberMarker")
            if text_of(text, "IsTruncated") != "true" or following in ("", marker):
                return parts
            marker = following

    def complete_upload(
        self, key: str, upload: str, parts: Mapping[int, str], condition: Condition
    ) -> str:
        """Complete an upload and return the object's version, empty if the response has none."""
        rows = "".join(
            f'<Part><PartNumber>{number}</PartNumber><ETag>"{parts[number]}"</ETag></Part>'
            for number in sorted(parts)
        )
        body = f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode()
        query, demand = [("uploadId", upload)], _demand(condition)
        try:
            answer = self._wire.call("POST", key, query=query, headers=demand, body=body)
        except ObjectNotFound as error:
            raise self._unmet(key) from error
        text = self._checked(answer.body, key)
        return "" if names_no_version(text) else self._confirmed(text_of(text, "ETag"), key)

    def list_uploads(self, prefix: str) -> Iterator[tuple[str, str, str]]:
        """Yield key, id and start time, as the server writes it, of each unfinished upload below a prefix."""
        key = upload = ""
        while True:
            query = [("uploads", ""), ("prefix", prefix), ("encoding-type", "url")]
            query += [("key-marker", key), ("upload-id-marker", upload)] if key else []
            text = self._checked(self._wire.call("GET", query=query).body, prefix)
            if "<ListMultipartUploadsResult" not in text:
                raise unconfirmed(self._location, prefix, "a list of uploads")
            yield from uploads_in(text)
            before = key, upload
            key, upload = next_key_in(text), text_of(text, "NextUploadIdMarker")
            if text_of(text, "IsTruncated") != "true" or (key, upload) in (before, ("", "")):
                return

    def list_versions(self, prefix: str) -> Iterator[list[ListedVersion]]:
        """Yield all versions below a prefix, page by page, by key and the newest of each key first.

        Some servers put the delete markers at the end of a page.
        """
        marker: list[tuple[str, str]] = []
        while True:
            query = [("versions", ""), ("prefix", prefix), ("encoding-type", "url"), *marker]
            text = self._checked(self._wire.call("GET", query=query).body, prefix)
            if "<ListVersionsResult" not in text:
                raise unconfirmed(self._location, prefix, "a list of versions")
            yield versions_in(text)
            before, key = marker, next_key_in(text)
            marker = [("key-marker", key)]
            marker += [("version-id-marker", text_of(text, "NextVersionIdMarker"))]
            if text_of(text, "IsTruncated") != "true" or marker == before or not key:
                return

    def abort_upload(self, key: str, upload: str) -> None:
        """Abort an upload and drop its parts; succeeds if it does not exist."""
        with suppress(UploadGone, ObjectNotFound):
            self._wire.call("DELETE", key, query=[("uploadId", upload)])

    def _unmet(self, key: str) -> PreconditionFailed:
        return PreconditionFailed(f"{key} is not in {self._location} any more.")

    def _source(self, key: str, match: str | None, bucket: str | None) -> dict[str, str]:
        condition = {} if match is None else {"x-amz-copy-source-if-match": match}
        return {"x-amz-copy-source": encoded_path(f"/{bucket or self._bucket}/{key}"), **condition}

    def _chunks(self, response: Response) -> Iterator[bytes]:
        try:
            while chunk := response.read(_CHUNK):
                yield chunk
        except OSError as error:
            raise unreachable(self._location, error, self._wire.address, sent=True) from error


def _demand(condition: Condition) -> dict[str, str]:
    if condition is None:
        return {}
    return {"if-none-match": "*"} if condition == CREATE else {"if-match": condition}


def _part(upload: str, number: int) -> list[tuple[str, str]]:
    return [("partNumber", str(number)), ("uploadId", upload)]
