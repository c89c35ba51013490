"""A fake S3: requests in, answers out, one at a time under a lock. Speaks HTTP's words and opens no socket.

`FakeS3.handle` takes a request as `fake_s3.Request` and returns a
`fake_s3.Answer`, or a `fake_s3.Drop` where a script wants the connection
closed; `serving` puts it behind a real HTTP server.
"""

from __future__ import annotations

import binascii
import random
import re
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import formatdate
from functools import lru_cache
from hashlib import md5, sha1, sha256
from html import escape, unescape
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from tests.support.fake_s3 import Answer, Drop, Request, Script
from tests.support.s3.bucket import Bucket, Refusal, Stored
from tests.support.s3.personality import PLAIN, Personality
from tests.support.s3.signatures import check_signature

DOMAIN = "s3.test"
"""A host `BUCKET.s3.test` names a bucket; any other takes it from the path."""

_NOBODY = "0" * 32
"""The ETag that no object has."""
_PORTAL = Answer(200, b"<html>Please log in.</html>", (("Content-Type", "text/html"),))
_TRAILER = b"\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"

KEPT_HEADERS = (
    *("content-type", "content-encoding", "content-language"),
    *("content-disposition", "cache-control", "expires"),
)
_META = "x-amz-meta-"
_ENCODED = "<EncodingType>url</EncodingType>"
_ETAG = re.compile(r"<ETag>(?:&quot;|&#34;|\")?([^<&\"]*)")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)$")


@dataclass
class FakeS3:
    """One server. `buckets` may be looked into and changed by a test while no request is under way."""

    personality: Personality = PLAIN
    keys: tuple[str, str] | None = None
    """The access key and its secret that a request has to be signed with; any will do without."""
    clock: Callable[[], int] = time.time_ns
    script: Script | None = None
    """What happens to a request instead, as for `fake_s3.Proxy`."""
    buckets: dict[str, Bucket] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)
    """Keys for which every request is answered 403."""
    requests: list[Request] = field(default_factory=list)
    most_listed: int = 1000
    """Entries of one page, of whatever is listed."""

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._rng = random.Random(self.personality.seed)
        self._listed: dict[str, Bucket] = {}
        self._changed: set[tuple[str, ...]] = set()

    def bucket(self, name: str) -> Bucket:
        """Return a bucket, made if it is not there."""
        return self.buckets.setdefault(name, Bucket(self.clock))

    def handle(self, request: Request) -> Answer | Drop:
        with self._lock:
            self.requests.append(request)
            step = self.script(request) if self.script else None
            if isinstance(step, Answer):
                return step
            if isinstance(step, Drop) and not step.delivered:
                return step
            answer = self._answered(request)
            if isinstance(step, Drop) or self._is_lost(request, answer):
                return Drop()
            return step(answer) if step else answer

    def _is_lost(self, request: Request, answer: Answer) -> bool:
        """Tell whether this is an answer that does not arrive."""
        if request.method in ("GET", "HEAD") or answer.status >= 300:
            return False
        change = request.method, Call.of(request).key, *sorted(request.query)
        is_first = change not in self._changed
        self._changed.add(change)
        return is_first and self.personality.loses_answers

    def _answered(self, request: Request) -> Answer:
        if self.personality.is_portal:
            return _PORTAL
        call = Call.of(request)
        try:
            self._admit(call, request)
            answer = self._of_bucket(call) if not call.key else self._of_key(call)
        except Refusal as refusal:
            answer = _error(refusal)
        if self.personality.encryption and answer.status < 300 and call.key:
            kms = ("x-amz-server-side-encryption", self.personality.encryption)
            told = {name.lower() for name, _ in answer.headers}
            if kms[0] not in told and call.method in ("PUT", "POST"):
                return answer._replace(headers=(*answer.headers, kms))
        return answer

    def _admit(self, call: Call, request: Request) -> None:
        """Refuse what never reaches an object."""
        mine = self.personality
        if mine.slow_down and self._rng.random() < mine.slow_down:
            raise Refusal(503, "SlowDown", "Please reduce your request rate.")
        if mine.virtual_hosts_only and not call.virtual:
            raise Refusal(
                403, "SecondLevelDomainForbidden", "Please use virtual hosted style to access."
            )
        if self.keys is not None:
            check_signature(request, call.path, *self.keys)
        if mine.requester_pays and call.headers.get("x-amz-request-payer") != "requester":
            raise Refusal(403, "AccessDenied", "Access Denied")
        if call.key in self.denied:
            raise Refusal(403, "AccessDenied", "Access Denied")
        conditional = call.headers.keys() & {"if-match", "if-none-match"}
        if not mine.knows_conditions and conditional and call.method != "GET":
            raise Refusal(501, "NotImplemented", "A header implies what is not implemented.")

    def _of_bucket(self, call: Call) -> Answer:
        if call.method == "PUT" and not call.query:
            self.bucket(call.bucket)
            return Answer(200)
        bucket = self._existing(call)
        if call.method == "HEAD":
            return Answer(200)
        if call.method == "POST" and "delete" in call.query:
            return self._delete_many(bucket, call)
        if call.method != "GET":
            raise Refusal(405, "MethodNotAllowed")
        if "versioning" in call.query:
            status = "<Status>Enabled</Status>" if self.personality.versioned else ""
            return _xml(f"<VersioningConfiguration>{status}</VersioningConfiguration>")
        if "uploads" in call.query:
            return _uploads_page(bucket, call.query, self.most_listed)
        if "versions" in call.query:
            return self._versions_page(bucket, call.query)
        if "location" in call.query:
            return _xml("<LocationConstraint></LocationConstraint>")
        return self._listing(bucket, call)

    def _existing(self, call: Call) -> Bucket:
        if call.bucket not in self.buckets:
            raise Refusal(404, "NoSuchBucket", "The specified bucket does not exist")
        return self.buckets[call.bucket]

    def _listing(self, bucket: Bucket, call: Call) -> Answer:
        query = call.query
        prefix = query.get("prefix", "")
        if self.personality.listing_lags:
            bucket, self._listed[prefix] = self._listed.get(prefix, bucket), bucket.copy()
        after = query.get("continuation-token", query.get("start-after", ""))
        most = min(int(query.get("max-keys", "1000")), self.most_listed)
        order = _utf16 if self.personality.utf16_order else _utf8
        names = sorted((key for key in bucket if key.startswith(prefix)), key=order)
        if not self.personality.repeats_pages:
            names = [key for key in names if not after or order(key) > order(after)]
        if self.personality.hides_below:
            names = [key for key in names if not _is_below(key, bucket)]
        encode = quote if query.get("encoding-type") == "url" else escape
        if query.get("delimiter") and self.personality.groups:
            names = _grouped(names, prefix, query["delimiter"], after)
        rows = "".join(
            self._row(encode(key), bucket.get(key)) if key in bucket else _group(encode(key))
            for key in names[:most]
        )
        token = names[most - 1] if len(names) > most else None
        if self.personality.cuts_listings:
            token = None
        more = f"<NextContinuationToken>{escape(token)}</NextContinuationToken>" if token else ""
        return _xml(
            f"<ListBucketResult><Name>{call.bucket}</Name><KeyCount>{len(names[:most])}</KeyCount>"
            f"<IsTruncated>{str(bool(token)).lower()}</IsTruncated>"
            f"{_ENCODED if encode is quote else ''}{more}{rows}</ListBucketResult>"
        )

    def _row(self, key: str, stored: Stored) -> str:
        return (
            f"<Contents><Key>{key}</Key><LastModified>{_moment(stored.modified_ns)}</LastModified>"
            f"{self._told_etag(stored.etag)}<Size>{len(stored.content)}</Size>"
            f"<StorageClass>{stored.storage_class}</StorageClass></Contents>"
        )

    def _versions_page(self, bucket: Bucket, query: Mapping[str, str]) -> Answer:
        encode = quote if query.get("encoding-type") == "url" else escape
        rows = [
            (key, stored.version, self._version_row(encode(key), stored, latest=not number))
            for key in sorted(bucket.versions, key=_utf8)
            if key.startswith(query.get("prefix", ""))
            for number, stored in enumerate(reversed(bucket.versions[key]))
        ]
        if marker := query.get("key-marker"):
            last = marker, query.get("version-id-marker", "")
            rows = rows[[row[:2] for row in rows].index(last) + 1 :]
        more = len(rows) > self.most_listed
        key, version, _ = rows[self.most_listed - 1] if more else ("", "", "")
        return _xml(
            f"<ListVersionsResult>{_ENCODED if encode is quote else ''}"
            f"<IsTruncated>{str(more).lower()}</IsTruncated>"
            f"<NextKeyMarker>{encode(key)}</NextKeyMarker>"
            f"<NextVersionIdMarker>{version}</NextVersionIdMarker>"
            f"{''.join(row for *_, row in rows[: self.most_listed])}</ListVersionsResult>"
        )

    def _version_row(self, key: str, stored: Stored, *, latest: bool) -> str:
        about = (
            f"<Key>{key}</Key><VersionId>{stored.version}</VersionId>"
            f"<IsLatest>{str(latest).lower()}</IsLatest>"
            f"<LastModified>{_moment(stored.modified_ns)}</LastModified>"
        )
        if stored.deleted:
            return f"<DeleteMarker>{about}</DeleteMarker>"
        size = f"<Size>{len(stored.content)}</Size>"
        return f"<Version>{about}{self._told_etag(stored.etag)}{size}</Version>"

    def _delete_many(self, bucket: Bucket, call: Call) -> Answer:
        self._check_digests(call, required=True)
        text, answers = call.body.decode(), []
        for row in re.findall(r"<Object>(.*?)</Object>", text, re.DOTALL):
            key = unescape(_text(row, "Key"))
            named = f"<Key>{escape(key, quote=False)}</Key>"
            if key in self.denied:
                answers.append(f"<Error>{named}<Code>AccessDenied</Code></Error>")
                continue
            bucket.delete(self.personality, key, _text(row, "VersionId") or None)
            answers.append(f"<Deleted>{named}</Deleted>")
        return _xml(f"<DeleteResult>{''.join(answers)}</DeleteResult>")

    def _of_key(self, call: Call) -> Answer:
        bucket = self._existing(call)
        if len(call.key.encode(errors="surrogateescape")) > 1024:
            raise Refusal(400, "KeyTooLongError")
        if "tagging" in call.query:
            return self._tagging(bucket, call)
        if "uploadId" in call.query or "uploads" in call.query:
            return self._of_upload(bucket, call)
        if call.method in ("GET", "HEAD"):
            return self._get(bucket, call)
        if call.method == "PUT":
            return self._put(bucket, call)
        if call.method == "DELETE":
            if "delete" in self.personality.conditions and "if-match" in call.headers:
                self._check("delete", call.headers, bucket.current(call.key))
            bucket.delete(self.personality, call.key, call.query.get("versionId"))
            return Answer(204)
        raise Refusal(405, "MethodNotAllowed")

    def _get(self, bucket: Bucket, call: Call) -> Answer:
        stored = bucket.get(call.key, call.query.get("versionId"))
        self._check("get", call.headers, stored)
        if call.method == "GET" and stored.archived:
            raise Refusal(403, "InvalidObjectState", "The object's storage class forbids it.")
        headers = self._headers(stored)
        size = len(stored.content)
        if call.method == "HEAD":
            return Answer(200, b"", (*headers, ("Content-Length", str(size))))
        span = _RANGE.match(call.headers.get("range", "")) if self.personality.ranges else None
        if span is None:
            return Answer(200, stored.content, headers)
        start, end = int(span[1]), min(int(span[2] or size - 1), size - 1)
        if start >= size:
            raise Refusal(416, "InvalidRange")
        headers = (*headers, ("Content-Range", f"bytes {start}-{end}/{size}"))
        return Answer(206, stored.content[start : end + 1], headers)

    def _put(self, bucket: Bucket, call: Call) -> Answer:
        if "x-amz-copy-source" in call.headers:
            return self._copy(bucket, call)
        self._check_digests(call, required=self._wants_checksums)
        self._check("put", call.headers, bucket.current(call.key))
        content = self._received(call.body)
        stored = bucket.described(self.personality, content, self._about(call))
        if not self._loses(call.key):
            bucket.put(self.personality, call.key, stored)
        if self.personality.wrong_put_etag:
            stored = replace(stored, etag=_NOBODY)
        return Answer(200, b"", self._version_headers(stored))

    def _received(self, body: bytes) -> bytes:
        return body + _TRAILER if self.personality.stores_trailers else body

    def _loses(self, key: str) -> bool:
        return bool(self.personality.loses_writes) and self.personality.loses_writes in key

    def _copy(self, bucket: Bucket, call: Call) -> Answer:
        if not self.personality.copies:
            raise Refusal(501, "NotImplemented")
        source = self._source(call)
        if len(source.content) > self.personality.single_copy:
            raise Refusal(400, "InvalidRequest", "The copy source is larger than allowed.")
        self._check("copy", call.headers, bucket.current(call.key))
        asked = call.headers.get("x-amz-server-side-encryption")
        about = replace(source, encryption=asked, storage_class=self._storage_class(call))
        if call.headers.get("x-amz-metadata-directive") == "REPLACE":
            about = self._about(call)
            if call.headers.get("x-amz-tagging-directive") != "REPLACE":
                about = replace(about, tags=source.tags)
        stored = bucket.described(self.personality, source.content, about)
        bucket.put(self.personality, call.key, stored)
        return _copied("CopyObjectResult", self._told_etag(stored.etag))

    def _source(self, call: Call) -> Stored:
        """Return what a copy copies, its conditions checked."""
        text, _, query = call.headers["x-amz-copy-source"].partition("?")
        name, _, key = unquote(text, errors="surrogateescape").lstrip("/").partition("/")
        if name not in self.buckets:
            raise Refusal(404, "NoSuchBucket")
        source = self.buckets[name].get(key, dict(parse_qsl(query)).get("versionId"))
        version = call.headers.get("x-amz-copy-source-if-match")
        self._check("copy-source", {} if version is None else {"if-match": version}, source)
        if source.archived:
            raise Refusal(403, "ObjectNotInActiveTierError")
        return source

    def _of_upload(self, bucket: Bucket, call: Call) -> Answer:
        if "uploads" in call.query:
            upload = bucket.begin(call.key, self._about(call))
            asked = call.headers.get("x-amz-server-side-encryption")
            begun = _xml(
                f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId>"
                "</InitiateMultipartUploadResult>"
            )
            told = (("x-amz-server-side-encryption", asked),) if asked else ()
            return begun._replace(headers=(*begun.headers, *told))
        name = call.query["uploadId"]
        ceph = call.method in ("GET", "DELETE") and not self.personality.names_gone_uploads
        upload = bucket.upload(call.key, name, "NoSuchKey" if ceph else "NoSuchUpload")
        if call.method == "PUT":
            return self._put_part(bucket, call)
        if call.method == "GET":
            return _parts_page(upload.parts)
        if call.method == "DELETE":
            del bucket.uploads[name]
            return Answer(204)
        named = [
            (int(_text(part, "PartNumber")), unescape((_ETAG.search(part) or [part, ""])[1]))
            for part in re.findall(r"<Part>(.*?)</Part>", call.body.decode(), re.DOTALL)
        ]
        self._check("complete", call.headers, bucket.current(call.key))
        stored = bucket.assembled(self.personality, upload, named)
        if not self._loses(call.key):
            bucket.put(self.personality, call.key, stored)
        if self.personality.wrong_put_etag:
            stored = replace(stored, etag=_NOBODY)
        del bucket.uploads[name]
        etag = self._told_etag(stored.etag) if self.personality.completion_etag else "<ETag></ETag>"
        return _copied("CompleteMultipartUploadResult", etag)

    def _put_part(self, bucket: Bucket, call: Call) -> Answer:
        upload = bucket.upload(call.key, call.query["uploadId"])
        number = int(call.query["partNumber"])
        content, is_copy = call.body, "x-amz-copy-source" in call.headers
        if is_copy and self.personality.part_copy == "no":
            raise Refusal(501, "NotImplemented", "A header implies what is not implemented.")
        if is_copy and self.personality.part_copy == "yes":
            content = self._source(call).content
            span = _RANGE.match(call.headers.get("x-amz-copy-source-range", ""))
            if span is not None:
                content = content[int(span[1]) : int(span[2]) + 1]
            etag = bucket.part(self.personality, upload, number, content)
            return _copied("CopyPartResult", self._told_etag(etag))
        self._check_digests(call, required=self._wants_checksums)
        etag = bucket.part(self.personality, upload, number, self._received(content))
        return Answer(200, b"", self._etag_header(etag))

    def _tagging(self, bucket: Bucket, call: Call) -> Answer:
        stored = bucket.get(call.key)
        if call.method != "GET":
            raise Refusal(405, "MethodNotAllowed")
        rows = "".join(
            f"<Tag><Key>{escape(name)}</Key><Value>{escape(value)}</Value></Tag>"
            for name, value in parse_qsl(stored.tags, keep_blank_values=True)
        )
        return _xml(f"<Tagging><TagSet>{rows}</TagSet></Tagging>")

    def _about(self, call: Call) -> Stored:
        """Return what a request says of the object it makes, besides its content."""
        metadata = {
            name.removeprefix(_META): value
            for name, value in call.headers.items()
            if name.startswith(_META)
        }
        if sum(len(name) + len(value) for name, value in metadata.items()) > 2048:
            raise Refusal(400, "MetadataTooLarge")
        return Stored(
            *(b"", "", 0, ""),
            headers={name: call.headers[name] for name in KEPT_HEADERS if name in call.headers},
            metadata=metadata if self.personality.metadata else {},
            tags=call.headers.get("x-amz-tagging", ""),
            storage_class=self._storage_class(call),
            encryption=call.headers.get("x-amz-server-side-encryption"),
        )

    def _storage_class(self, call: Call) -> str:
        return call.headers.get("x-amz-storage-class", "STANDARD")

    def _headers(self, stored: Stored) -> tuple[tuple[str, str], ...]:
        told = [("Last-Modified", formatdate(stored.modified_ns // 10**9, usegmt=True))]
        told += self._version_headers(stored)
        told += {"content-type": "binary/octet-stream", **stored.headers}.items()
        told += ((_META + name, value) for name, value in stored.metadata.items())
        if stored.tags:
            told.append(("x-amz-tagging-count", str(len(parse_qsl(stored.tags)))))
        if stored.storage_class != "STANDARD":
            told.append(("x-amz-storage-class", stored.storage_class))
        return tuple(told)

    def _version_headers(self, stored: Stored) -> tuple[tuple[str, str], ...]:
        told = list(self._etag_header(stored.etag))
        if stored.encryption:
            told.append(("x-amz-server-side-encryption", stored.encryption))
        if self.personality.versioned:
            told.append(("x-amz-version-id", stored.version))
        return tuple(told)

    def _etag_header(self, etag: str) -> tuple[tuple[str, str], ...]:
        return () if self.personality.etags == "none" else (("ETag", f'"{etag}"'),)

    def _told_etag(self, etag: str) -> str:
        return "" if self.personality.etags == "none" else f"<ETag>&quot;{etag}&quot;</ETag>"

    def _check(self, request: str, headers: Mapping[str, str], current: Stored | None) -> None:
        """Refuse what a condition forbids, as far as the personality honours it."""
        mine = self.personality
        if request not in mine.conditions:
            return
        if headers.get("if-none-match") == "*" and current is not None:
            raise Refusal(412, "PreconditionFailed")
        wanted = headers.get("if-match")
        if wanted is None:
            return
        if mine.refuses_versions:
            raise Refusal(412, "PreconditionFailed")
        if current is None:
            raise Refusal(404, "NoSuchKey")
        tag = wanted if request in mine.unquoted_only else wanted.strip('"')
        if tag not in ("*", current.etag):
            raise Refusal(412, "PreconditionFailed")

    @property
    def _wants_checksums(self) -> bool:
        return self.personality.object_lock or self.personality.wants_checksums

    def _check_digests(self, call: Call, *, required: bool) -> None:
        """Refuse a body that is not what its checksums say, or that has none where one is needed."""
        told = {name: value for name, value in call.headers.items() if name in _DIGESTS}
        others = any(
            name.startswith("x-amz-checksum-") and name not in _DIGESTS for name in call.headers
        )
        if required and not told and not others:
            raise Refusal(
                400,
                "InvalidRequest",
                "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests "
                "with Object Lock parameters",
            )
        for name, value in told.items():
            if b64decode(value) != _DIGESTS[name](call.body):
                raise Refusal(400, "BadDigest")
        sha = call.headers.get("x-amz-content-sha256", "")
        if len(sha) == 64 and sha != sha256(call.body).hexdigest():
            raise Refusal(400, "XAmzContentSHA256Mismatch")


_DIGESTS: dict[str, Callable[[bytes], bytes]] = {
    "content-md5": lambda body: md5(body, usedforsecurity=False).digest(),
    "x-amz-checksum-crc32": lambda body: binascii.crc32(body).to_bytes(4, "big"),
    "x-amz-checksum-sha1": lambda body: sha1(body, usedforsecurity=False).digest(),
    "x-amz-checksum-sha256": lambda body: sha256(body).digest(),
}


@dataclass(frozen=True, slots=True)
class Call:
    """A request as S3 reads it. Header names are lower-case, `path` is what was signed."""

    method: str
    path: str
    bucket: str
    key: str
    virtual: bool
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @classmethod
    def of(cls, request: Request) -> Call:
        """Read a request; its target may be absolute, as a proxy gets it."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        path, bucket, key, virtual, query = _aim(request.target, headers.get("host", ""))
        return cls(request.method, path, bucket, key, virtual, dict(query), headers, request.body)


@lru_cache(4096)
def _aim(target: str, host: str) -> tuple[str, str, str, bool, tuple[tuple[str, str], ...]]:
    """Return path, bucket, key, whether the bucket is part of the host, and the query of a request."""
    if target.startswith("http://"):
        target = "/" + target.removeprefix("http://").partition("/")[2]
    path, _, query = target.partition("?")
    host = urlsplit(f"//{host}").hostname or ""
    virtual = host.endswith(f".{DOMAIN}")
    plain = unquote(path, errors="surrogateescape").removeprefix("/")
    bucket, _, key = plain.partition("/")
    if virtual:
        bucket, key = host.removesuffix(f".{DOMAIN}"), plain
    return path, bucket, key, virtual, tuple(parse_qsl(query, keep_blank_values=True))


def _error(refusal: Refusal) -> Answer:
    body = f"<Error><Code>{refusal.code}</Code><Message>{escape(refusal.message)}</Message></Error>"
    return Answer(refusal.status, body.encode(), (("Content-Type", "application/xml"),))


def _xml(body: str) -> Answer:
    return Answer(
        200,
        f'<?xml version="1.0" encoding="UTF-8"?>\n{body}'.encode(),
        (("Content-Type", "application/xml"),),
    )


def _copied(element: str, etag: str) -> Answer:
    return _xml(f"<{element}>{etag}</{element}>")


def _moment(time_ns: int) -> str:
    return f"{datetime.fromtimestamp(time_ns // 10**9, UTC):%Y-%m-%dT%H:%M:%S}.000Z"


def _parts_page(parts: Mapping[int, tuple[bytes, str]]) -> Answer:
    rows = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>&quot;{etag}&quot;</ETag>"
        f"<Size>{len(content)}</Size></Part>"
        for number, (content, etag) in sorted(parts.items())
    )
    return _xml(f"<ListPartsResult><IsTruncated>false</IsTruncated>{rows}</ListPartsResult>")


def _uploads_page(bucket: Bucket, query: Mapping[str, str], most: int) -> Answer:
    most = min(int(query.get("max-uploads", "1000")), most)
    found = sorted((upload.key, name) for name, upload in bucket.uploads.items())
    found = [one for one in found if one[0].startswith(query.get("prefix", ""))]
    after = (query.get("key-marker", ""), query.get("upload-id-marker", ""))
    found = [one for one in found if one > after]
    encode = quote if query.get("encoding-type") == "url" else escape
    rows = "".join(
        f"<Upload><Key>{encode(key)}</Key><UploadId>{name}</UploadId>"
        f"<Initiated>{_moment(bucket.uploads[name].initiated_ns)}</Initiated></Upload>"
        for key, name in found[:most]
    )
    more = len(found) > most
    key, name = found[most - 1] if more else ("", "")
    return _xml(
        f"<ListMultipartUploadsResult>{_ENCODED if encode is quote else ''}"
        f"<IsTruncated>{str(more).lower()}</IsTruncated>"
        f"<NextKeyMarker>{encode(key)}</NextKeyMarker>"
        f"<NextUploadIdMarker>{name}</NextUploadIdMarker>{rows}</ListMultipartUploadsResult>"
    )


def _text(document: str, element: str) -> str:
    match = re.search(rf"<{element}>\s*([^<]*?)\s*</{element}>", document)
    return match.group(1) if match else ""


def _is_below(key: str, bucket: Bucket) -> bool:
    parts = key.split("/")
    return any("/".join(parts[:length]) in bucket for length in range(1, len(parts)))


def _utf8(key: str) -> bytes:
    return key.encode(errors="surrogateescape")


def _grouped(names: list[str], prefix: str, delimiter: str, after: str) -> list[str]:
    """Return the names with those that have the delimiter behind the prefix cut off there."""
    cut = []
    for name in names:
        head, found, _ = name[len(prefix) :].partition(delimiter)
        cut.append(prefix + head + found)
    return [name for name in dict.fromkeys(cut) if name != after]


def _group(key: str) -> str:
    return f"<CommonPrefixes><Prefix>{key}</Prefix></CommonPrefixes>"


def _utf16(key: str) -> bytes:
    return key.encode("utf-16-be", errors="surrogatepass")
