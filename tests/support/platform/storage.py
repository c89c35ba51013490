"""The object store behind the platform: signed URLs, form uploads, parts, ranges.

Like S3 by default; with `gcs` an upload in parts is one resumable session:
strictly in order, 308 until the last part, and no ETag.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import json
import re
import secrets
from email.utils import formatdate
from typing import Any
from urllib.parse import quote, urlencode

from tests.support.platform.bucket import Bucket, Stored, md5_of
from tests.support.platform.faults import xml_refusal
from tests.support.platform.wire import Answer, Request

PLACE = "/bucket"
_SPAN = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class Storage:
    """What the signed URLs lead to. Signatures, policies and expiry are checked as AWS checks them."""

    def __init__(self, bucket: Bucket, *, gcs: bool) -> None:
        self.bucket = bucket
        self.gcs = gcs
        self.url = ""
        self.url_seconds = 900
        self.granule = 256 * 1024
        """What the size of every part but the last must be a multiple of, for GCS."""
        self.lenient = False
        """The end of an upload is accepted with parts missing."""
        self.largest_form = 5 * 1024**3
        self.ranges = True
        self._secret = secrets.token_bytes(32)

    def signed(self, method: str, path: str, **query: str) -> str:
        """Return an address under which this one thing may be done for a while."""
        until = str(int(self.bucket.now) + self.url_seconds)
        query = {**query, "Expires": until}
        query["Signature"] = self._signature(method, path, query)
        return f"{self.url}{PLACE}/{quote(path)}?{urlencode(query)}"

    def form_for(self, path: str) -> dict[str, Any]:
        """Return where and with which fields a form may upload this one object."""
        policy = {"expiration": self.bucket.now + self.url_seconds, "conditions": [{"key": path}]}
        encoded = base64.b64encode(json.dumps(policy).encode()).decode()
        fields = {"key": path, "policy": encoded, "x-signature": self._mac(encoded)}
        return {"signed_url": f"{self.url}{PLACE}", "fields": fields}

    def part_for(self, upload_id: str, number: int, chunk: int, size: int | None) -> dict[str, Any]:
        """Return where a part goes, and for GCS the header that says which bytes it is."""
        path = self.bucket.uploads[upload_id].path
        if not self.gcs:
            url = self.signed("PUT", path, uploadId=upload_id, partNumber=str(number))
            return {"signed_url": url, "headers": {}}
        first = (number - 1) * chunk
        last = (first + chunk if size is None else size) - 1
        span = f"bytes {first}-{last}/{'*' if size is None else size}"
        url = self.signed("PUT", path, uploadId=upload_id)
        return {"signed_url": url, "headers": {"Content-Range": span}}

    def finish(self, upload_id: str, parts: list[dict[str, Any]]) -> str | None:
        """Make the object of its parts; returns why not."""
        upload = self.bucket.uploads[upload_id]
        if self.gcs:
            if not upload.finished:
                return "The upload was never completed"
            del self.bucket.uploads[upload_id]
            return None
        numbers = [int(part["number"]) for part in parts]
        wrong = [
            part["number"]
            for part in parts
            if part.get("metadata") != f'"{upload.parts.get(int(part["number"]), (b"", ""))[1]}"'
        ]
        if (wrong or not numbers or numbers != sorted(set(numbers))) and not self.lenient:
            return f"Parts are missing, out of order or not what was uploaded: {wrong}"
        self.bucket.finish(upload_id, numbers)
        return None

    def endpoint_of(self, request: Request) -> str:
        if request.method == "POST" and request.path == PLACE:
            return "form"
        return {"PUT": "part", "GET": "get"}.get(request.method, "unsigned")

    def handle(self, request: Request) -> Answer:
        if "authorization" in request.headers:
            return xml_refusal(400, "InvalidArgument", "Only one auth mechanism allowed")
        if request.endpoint == "form":
            return self._form(request)
        path = request.path.removeprefix(f"{PLACE}/")
        query = request.query
        signature = query.pop("Signature", "")
        if not hmac.compare_digest(self._signature(request.method, path, query), signature):
            return xml_refusal(403, "SignatureDoesNotMatch", "The signature does not match")
        if int(query["Expires"]) < self.bucket.now:
            return xml_refusal(403, "AccessDenied", "Request has expired")
        return self._part(request) if request.endpoint == "part" else self._get(path, request)

    def _signature(self, method: str, path: str, query: dict[str, str]) -> str:
        return self._mac("\n".join([method, path, urlencode(sorted(query.items()))]))

    def _mac(self, text: str) -> str:
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()

    def _form(self, request: Request) -> Answer:
        if "content-length" not in request.headers:
            return xml_refusal(411, "MissingContentLength")
        fields = _form_fields(request)
        if not fields or fields[-1][0] != "file":
            return xml_refusal(400, "InvalidArgument", "POST requires exactly one file, at its end")
        given = {name: content.decode() for name, content in fields[:-1]}
        policy = given.get("policy", "")
        if not hmac.compare_digest(self._mac(policy), given.get("x-signature", "")):
            return xml_refusal(403, "SignatureDoesNotMatch", "The signature does not match")
        allowed = json.loads(base64.b64decode(policy))
        if allowed["expiration"] < self.bucket.now:
            return xml_refusal(403, "AccessDenied", "Invalid according to Policy: Policy expired.")
        if allowed["conditions"] != [{"key": given.get("key")}]:
            return xml_refusal(403, "AccessDenied", "Invalid according to Policy")
        if len(fields[-1][1]) > self.largest_form:
            return xml_refusal(400, "EntityTooLarge", "Your proposed upload exceeds the maximum")
        stored = self.bucket.put(given["key"], fields[-1][1])
        return Answer(204, headers=(("ETag", f'"{stored.etag}"'),))

    def _part(self, request: Request) -> Answer:
        upload = self.bucket.uploads.get(request.query["uploadId"])
        if upload is None:
            return xml_refusal(404, "NoSuchUpload", "The upload does not exist")
        if self.gcs:
            return self._resumed(request)
        etag = md5_of(request.body)
        upload.parts[int(request.query["partNumber"])] = request.body, etag
        return Answer(200, headers=(("ETag", f'"{etag}"'),))

    def _resumed(self, request: Request) -> Answer:
        """Take the next bytes of a resumable session, which may say where it stands."""
        upload = self.bucket.uploads[request.query["uploadId"]]
        span = _SPAN.fullmatch(request.headers.get("content-range", ""))
        if span is None:
            return xml_refusal(400, "InvalidArgument", "Content-Range is missing or wrong")
        first, last, total = span.groups()
        with self.bucket.lock:
            if first is not None and not upload.finished:
                ends_here = total != "*" and int(last) + 1 == int(total)
                whole = len(request.body) == int(last) + 1 - int(first)
                aligned = ends_here or len(request.body) % self.granule == 0
                if int(first) != len(upload.received) or not whole or not aligned:
                    return xml_refusal(400, "InvalidArgument", "Not the next bytes of this upload")
                upload.received += request.body
            if total == "*" or len(upload.received) < int(total):
                held = len(upload.received)
                return Answer(308, headers=(("Range", f"bytes=0-{held - 1}"),) if held else ())
            if not upload.finished:
                upload.finished = True
                self.bucket.put(upload.path, bytes(upload.received))
        return Answer(200)

    def _get(self, path: str, request: Request) -> Answer:
        stored = self.bucket.objects.get(path)
        if stored is None:
            return xml_refusal(404, "NoSuchKey", "The specified key does not exist.")
        expected = request.headers.get("if-match")
        if expected is not None and expected.strip('"') != stored.etag:
            return xml_refusal(412, "PreconditionFailed", "At least one precondition failed")
        headers = [("Content-Type", "binary/octet-stream"), ("ETag", f'"{stored.etag}"')]
        headers.append(("Accept-Ranges", "bytes"))
        headers.append(("Last-Modified", formatdate(stored.modified, usegmt=True)))
        if stored.encoding is not None:
            headers.append(("Content-Encoding", stored.encoding))
        return self._ranged(stored, request, headers)

    def _ranged(self, stored: Stored, request: Request, headers: list[tuple[str, str]]) -> Answer:
        size = len(stored.content)
        span = _RANGE.fullmatch(request.headers.get("range", ""))
        if span is None or not self.ranges:
            return Answer(200, stored.content, tuple(headers))
        first = int(span[1])
        if first >= size:
            answer = xml_refusal(416, "InvalidRange", "The requested range is not satisfiable")
            return answer._replace(headers=(*answer.headers, ("Content-Range", f"bytes */{size}")))
        last = min(int(span[2]) if span[2] else size - 1, size - 1)
        headers.append(("Content-Range", f"bytes {first}-{last}/{size}"))
        return Answer(206, stored.content[first : last + 1], tuple(headers))


def _form_fields(request: Request) -> list[tuple[str, bytes]]:
    """Return the fields of a form in their order, the file included."""
    boundary = request.headers.get("content-type", "").partition("boundary=")[2].strip('"')
    fields = []
    for piece in request.body.split(b"--" + boundary.encode())[1:-1]:
        head, _, content = piece.partition(b"\r\n\r\n")
        name = re.search(rb'name="([^"]*)"', head)
        fields.append((name[1].decode() if name else "", content.removesuffix(b"\r\n")))
    return fields


def gzipped(content: bytes) -> bytes:
    """Return content as a client stores it that sends it compressed."""
    return gzip.compress(content, mtime=0)
