"""The S3 requests that craftsync makes, one method each.

A method sends one request and returns the answer. Keys are complete keys of the
bucket. Nothing is retried here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import md5
from http import HTTPStatus
from urllib.parse import unquote_plus, urlencode

from craftsync.errors import (
    CraftsyncError,
    ObjectNotFound,
    ObjectRefused,
    PreconditionFailed,
    StoreError,
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
    answer_of,
    no_s3_server,
    not_deleted,
    not_encrypted,
    refused,
    unconfirmed,
    unreachable,
)
from craftsync.stores.s3.objects import (
    CREATE,
    ENCRYPTION,
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
from craftsync.stores.s3.wire import Wire
from craftsync.stores.sources import dated

_CHUNK = 1024 * 1024
_COMPLETED_UNNAMED = r"(?s)<CompleteMultipartUploadResult\b.*<ETag>\s*</ETag>"
"""What Ceph 16 answers: the object is there, and a stat tells its version."""
_VERSION = r"(?s)<(Version|DeleteMarker)>(.*?)</\1>"
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class Calls:
    """One bucket's requests. `bucket` is its name, which the source of a copy has to mention.

    `md5_etags` tells whether ETags are believed to be MD5s, `names_versions`
    whether a write that is answered without an ETag is a failure; else its
    version is empty, and the caller proves it. Set these and `part_digests` when known.
    `encryption` is the headers that have every new object encrypted, copies as well.
    """

    encryption: Mapping[str, str] = NO_HEADERS
    md5_etags = False
    names_versions = True
    part_digests = Digests.BOTH

    def __init__(self, wire: Wire, bucket: str, location: str) -> None:
        self._wire = wire
        self._bucket = bucket
        self._location = location

    def list_page(self, query: Query) -> bytes:
        """Return one page of a listing, as it came."""
        try:
            return self._wire.call("GET", query=[("list-type", "2"), *query]).body
        except ObjectNotFound as error:
            raise no_s3_server(f"{self._location} answered 404") from error

    def now_ns(self) -> int:
        """Return what time it is there, to the second, as an answer is dated."""
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
        """Store an object and return what was answered.

        `headers` are what else S3 is to keep with it, `digest` is the SHA-256
        of the body, if that is known. Its bytes keep to `pace`. Raises `StoreUnavailable` for a success
        without an ETag: something else than the store may have answered, and `NotEncrypted`.
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
        """Stat an object; `None` when there is none."""
        seen = self.look(key)
        return seen[0] if seen else None

    def look(self, key: str) -> tuple[Found, Mapping[str, str]] | None:
        """Return an object's description and all its headers, `None` when there is none."""
        try:
            headers = self._wire.call("HEAD", key).headers
        except ObjectNotFound:
            return None
        self._refuse_foreign(headers, key)
        size = int(headers.get("content-length", 0))
        return found_in(headers, size, md5_etags=self.md5_etags, whole=True), headers

    def tags_of(self, key: str, headers: Mapping[str, str]) -> str:
        """Return the tags of an object, requested only if `headers`, of its stat, count any."""
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
        """Open an object; `match` is the version it has to be of, as the server takes it.

        With `version_id`, that of the versions the bucket keeps is opened.
        A reader that meets the end of the connection gets `StoreUnavailable`.
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
            yield self._opened(response, key, "range" in headers)
        finally:
            self._wire.host.take_back(response)

    def tags(self, key: str) -> str:
        """Return an object's tags as the header of a new object takes them: `name=value&…`."""
        body = self._wire.call("GET", key, query=[("tagging", "")]).body
        text = self._checked(body, key)
        if "<TagSet" not in text:
            raise unconfirmed(self._location, key, "a set of tags")
        tags = re.findall(r"<Tag>(.*?)</Tag>", text, re.DOTALL)
        return urlencode([(text_of(tag, "Key"), text_of(tag, "Value")) for tag in tags])

    def delete(self, key: str, condition: Condition = None) -> None:
        """Remove an object; one that is not there is a success.

        Only 204 says that the server did it: a login page comes with 200, and so does the
        answer of a few servers, for which a stat settles it. A proxy answers 404, too.
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
        """Remove up to a thousand objects, whatever they are, and return why some were not, by key.

        A key that the answer does not name as removed is `Unconfirmed`.
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

        `match` is the version the source has to be of, as the server takes
        it, `bucket` where it is if not in this one. `replace` is the source's headers and the metadata the copy
        gets instead of the source's own.
        """
        headers = {**self._source(source, match, bucket), **_demand(condition), **self.encryption}
        if storage_class is not None:
            headers[STORAGE_CLASS] = storage_class
        if replace is not None:
            # A copy that replaces the metadata loses these unless they are sent along.
            headers |= {"x-amz-metadata-directive": "REPLACE", **kept(replace[0])}
            headers |= meta_headers(replace[1])
        answer = self._wire.call("PUT", target, headers=headers)
        return self._confirmed(text_of(self._checked(answer.body, target), "ETag"), target)

    def begin_upload(
        self, key: str, metadata: Mapping[str, str], headers: Mapping[str, str]
    ) -> str:
        """Begin an upload in parts and return its id. `headers` are what else S3 is to keep with the object."""
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
        """Send a part, the bytes of which keep to `pace`, and return its version; where none is named, its MD5.

        The server compares the body with what `part_digests` says, and with both
        digests from the first time on that it asks for an MD5, which is `hashed`
        where that is known.
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
        """Send a part with these headers and return its version, which is empty where none is named."""
        query = _part(upload, number)
        answer = self._wire.call(
            "PUT", key, query=query, headers=headers, body=body, attempt=attempt
        )
        return self._confirmed(answer.headers.get("etag"), key)

    def copy_part(self, key: str, upload: str, number: int, source: Original, span: range) -> str:
        """Fill a part from an object; `span` is the bytes of it, of which there is at least one.

        Raises `PartsNotCopied` for a server that does not know such a request,
        or took it for the upload of an empty part (rclone 1.75 does).
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
        """Return version and size of each part that arrived; `UploadGone` for no such upload."""
        parts: dict[int, tuple[str, int]] = {}
        marker = "0"
        while True:
            query = [("uploadId", upload), ("part-number-marker", marker)]
            try:
                text = self._wire.call("GET", key, query=query).body.decode(errors="replace")
            except ObjectNotFound as error:  # What Ceph 16 answers.
                raise UploadGone(f"The upload of {key} is gone.", ambiguous=True) from error
            for part in re.findall(r"<Part>(.*?)</Part>", text, re.DOTALL):
                version = version_of(text_of(part, "ETag")) or ""
                parts[int(text_of(part, "PartNumber"))] = version, int(text_of(part, "Size"))
            following = text_of(text, "NextPartNumberMarker")
            if text_of(text, "IsTruncated") != "true" or following in ("", marker):
                return parts
            marker = following

    def complete_upload(
        self, key: str, upload: str, parts: Mapping[int, str], condition: Condition
    ) -> str:
        """Turn the parts into an object and return its version, which is empty where the answer leaves it out."""
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
        if re.search(_COMPLETED_UNNAMED, text):
            return ""
        return self._confirmed(text_of(text, "ETag"), key)

    def list_uploads(self, prefix: str) -> Iterator[tuple[str, str, str]]:
        """Yield key, id and time of the begin, as the server writes it, of the unfinished uploads below a prefix."""
        key = upload = ""
        while True:
            query = [("uploads", ""), ("prefix", prefix), ("encoding-type", "url")]
            query += [("key-marker", key), ("upload-id-marker", upload)] if key else []
            text = self._checked(self._wire.call("GET", query=query).body, prefix)
            if "<ListMultipartUploadsResult" not in text:
                raise unconfirmed(self._location, prefix, "a list of uploads")
            plain = unquote_plus if text_of(text, "EncodingType") == "url" else str
            for row in re.findall(r"<Upload>(.*?)</Upload>", text, re.DOTALL):
                yield (
                    plain(text_of(row, "Key")),
                    text_of(row, "UploadId"),
                    text_of(row, "Initiated"),
                )
            before = key, upload
            key, upload = plain(text_of(text, "NextKeyMarker")), text_of(text, "NextUploadIdMarker")
            if text_of(text, "IsTruncated") != "true" or (key, upload) in (before, ("", "")):
                return

    def list_versions(self, prefix: str) -> Iterator[list[ListedVersion]]:
        """Yield all versions below a prefix, page by page, in order of key and the newest of each key first.

        Some servers put the delete markers of a page at its end.
        """
        marker: list[tuple[str, str]] = []
        while True:
            query = [("versions", ""), ("prefix", prefix), ("encoding-type", "url"), *marker]
            text = self._checked(self._wire.call("GET", query=query).body, prefix)
            if "<ListVersionsResult" not in text:
                raise unconfirmed(self._location, prefix, "a list of versions")
            plain = unquote_plus if text_of(text, "EncodingType") == "url" else str
            names = ("VersionId", "IsLatest", "ETag", "Size", "LastModified")
            yield [
                ListedVersion(
                    plain(text_of(row, "Key")),
                    kind == "DeleteMarker",
                    *(text_of(row, name) for name in names),
                )
                for kind, row in re.findall(_VERSION, text)
            ]
            before, key = marker, plain(text_of(text, "NextKeyMarker"))
            marker = [("key-marker", key)]
            marker += [("version-id-marker", text_of(text, "NextVersionIdMarker"))]
            if text_of(text, "IsTruncated") != "true" or marker == before or not key:
                return

    def abort_upload(self, key: str, upload: str) -> None:
        """Drop an upload and its parts; one that is not there is a success."""
        try:
            self._wire.call("DELETE", key, query=[("uploadId", upload)])
        except (UploadGone, ObjectNotFound):
            return

    def _unmet(self, key: str) -> PreconditionFailed:
        return PreconditionFailed(f"{key} is not in {self._location} any more.")

    def _confirmed(self, etag: str | None, key: str) -> str:
        """Return the version an answer names; without one, nobody knows that it is the store's answer."""
        version = version_of(etag)
        if version is None and self.names_versions:
            raise unconfirmed(self._location, key, "an ETag")
        return version or ""

    def _confirm_encrypted(self, headers: Mapping[str, str]) -> None:
        """Raise unless an answer names the encryption that was asked for: some servers take the headers and ignore them."""
        asked = self.encryption.get(ENCRYPTION)
        if asked not in (None, headers.get(ENCRYPTION)):
            raise not_encrypted(self._location, asked)

    def _refuse_foreign(self, headers: Mapping[str, str], key: str) -> None:
        """Raise for an object that has neither an ETag nor a date: a login page is answered so."""
        if "etag" not in headers and "last-modified" not in headers:
            raise unconfirmed(self._location, key, "an ETag or a date")

    def _source(self, key: str, match: str | None, bucket: str | None) -> dict[str, str]:
        headers = {"x-amz-copy-source": encoded_path(f"/{bucket or self._bucket}/{key}")}
        if match is not None:
            headers["x-amz-copy-source-if-match"] = match
        return headers

    def _checked(self, body: bytes, key: str) -> str:
        """Return the body as text; S3 reports some failures after it has said 200."""
        text = body.decode(errors="replace")
        if "<Error>" in text:
            raise refused(answer_of(500, text), self._location, key)
        return text

    def _opened(self, response: Response, key: str, ranged: bool) -> Opened:
        headers = response.headers
        self._refuse_foreign(headers, key)
        length = int(headers.get("content-length", 0))
        span = _RANGE.match(headers.get("content-range", ""))
        if span is None and ranged:
            raise StoreError(
                f"{self._location} ignored the requested range of {key}.",
                remedy="Run craftsync doctor.",
            )
        start, size = (int(span[1]), int(span[3])) if span else (0, length)
        found = found_in(headers, size, md5_etags=self.md5_etags, whole=span is None)
        return Opened(found, start, length, self._chunks(response))

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
