"""An S3 bucket with any number of objects, all alike, that costs nothing to list.

It answers list requests of both kinds (`marker`, and `list-type=2` with
`continuation-token` or `start-after`), `prefix`, `max-keys` and
`encoding-type=url`; GET and HEAD of objects; and it keeps in memory, with
`If-Match` and `If-None-Match`, what is written under keys that sort before all
the others, as `.craftsync/...` does. Signatures are not checked. What it does
not know it refuses with 501 instead of guessing.
"""

from __future__ import annotations

import bisect
import hashlib
import sys
from collections.abc import Callable, Sequence
from email.utils import formatdate
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import overload
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from benchmarks.workloads import CONTENT, MODIFIED, listed_name

LAST_MODIFIED = "2026-01-02T00:00:00.000Z"
LAST_MODIFIED_SECONDS = MODIFIED + 24 * 3600
NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
PRECONDITION_FAILED = b"<Error><Code>PreconditionFailed</Code><Message>Changed</Message></Error>"
PAGES = "/-/pages"
"""Not S3: answers how many pages were listed since the start."""
LIST_PARAMETERS = {
    *("list-type", "marker", "continuation-token", "start-after", "prefix", "max-keys"),
    *("encoding-type", "fetch-owner", "delimiter", "x-id"),
}


class Names(Sequence[str]):
    """The names of the fixed objects in order, computed when asked for."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [listed_name(number) for number in range(*index.indices(self._count))]
        return listed_name(index)

    def holds(self, key: str) -> bool:
        index = bisect.bisect_left(self, key)
        return index < self._count and listed_name(index) == key


class Bucket:
    """The fixed objects, those that were written, and how many pages were listed.

    Methods are called with `lock` held.
    """

    def __init__(self, count: int) -> None:
        self.names = Names(count)
        self.written: dict[str, bytes] = {}
        self.pages = 0
        self.lock = Lock()

    def content(self, key: str) -> bytes | None:
        if key in self.written:
            return self.written[key]
        return CONTENT if self.names.holds(key) else None

    def page(
        self, prefix: str, after: str, limit: int, encode: Callable[[str], str]
    ) -> tuple[bytes, str]:
        """Return the entries of one page as XML, and the last key of it if more follow, else ""."""
        self.pages += 1
        own = sorted(key for key in self.written if key.startswith(prefix) and key > after)
        first = max(bisect.bisect_right(self.names, after), bisect.bisect_left(self.names, prefix))
        end = bisect.bisect_left(self.names, prefix + "\U0010ffff")
        shown = own[:limit]
        last = min(end, first + limit - len(shown))
        body = b"".join(_entry(encode(key), self.written[key]) for key in shown)
        body += _fixed_entries(first, max(first, last))
        if len(own) <= limit and last == end:
            return body, ""
        return body, listed_name(last - 1) if last > first else shown[-1]


def _etag(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


FIXED_ETAG = _etag(CONTENT)


def _entry(key: str, content: bytes) -> bytes:
    return (
        f"<Contents><Key>{key}</Key><LastModified>{LAST_MODIFIED}</LastModified>"
        f"<ETag>&quot;{_etag(content)}&quot;</ETag><Size>{len(content)}</Size>"
        f"<StorageClass>STANDARD</StorageClass></Contents>"
    ).encode()


@lru_cache(maxsize=2048)
def _fixed_entries(first: int, last: int) -> bytes:
    return "".join(
        f"<Contents><Key>{listed_name(index)}</Key><LastModified>{LAST_MODIFIED}</LastModified>"
        f"<ETag>&quot;{FIXED_ETAG}&quot;</ETag><Size>{len(CONTENT)}</Size>"
        f"<StorageClass>STANDARD</StorageClass></Contents>"
        for index in range(first, last)
    ).encode()


class Handler(BaseHTTPRequestHandler):
    """One connection. The path is /bucket or /bucket/key."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    bucket: Bucket

    def do_GET(self) -> None:
        name, key, query = self._target()
        if self.path == PAGES:
            self._send(200, str(self.bucket.pages).encode())
        elif key:
            self._object(key)
        elif "versioning" in query:
            self._send(200, f'<VersioningConfiguration xmlns="{NAMESPACE}"/>'.encode())
        elif set(query) <= LIST_PARAMETERS and not query.get("delimiter"):
            self._list(name, query)
        else:
            self._send(501)

    def do_HEAD(self) -> None:
        _, key, _ = self._target()
        if key:
            self._object(key)
        else:
            self._send(200)

    def do_PUT(self) -> None:
        _, key, query = self._target()
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not key:
            self._send(200)
        elif self._unknown_write(key, query):
            self._send(501)
        else:
            self._write(key, body)

    def do_DELETE(self) -> None:
        _, key, _ = self._target()
        with self.bucket.lock:
            refused = self._refused(key)
            if not refused:
                self.bucket.written.pop(key, None)
        if refused:
            self._send(412, PRECONDITION_FAILED)
        else:
            self._send(204)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._send(501)

    def _target(self) -> tuple[str, str, dict[str, str]]:
        parts = urlsplit(self.path)
        name, _, key = unquote(parts.path).lstrip("/").partition("/")
        return name, key, dict(parse_qsl(parts.query, keep_blank_values=True))

    def _list(self, name: str, query: dict[str, str]) -> None:
        second = query.get("list-type") == "2"
        after = query.get("marker", "")
        if second:
            after = query.get("continuation-token") or query.get("start-after", "")
        limit = min(1000, int(query.get("max-keys", "1000")))
        prefix = query.get("prefix", "")
        encoded = query.get("encoding-type") == "url"
        encode: Callable[[str], str] = quote if encoded else escape
        with self.bucket.lock:
            entries, last = self.bucket.page(prefix, after, limit, encode)
        tag = "NextContinuationToken" if second else "NextMarker"
        head = (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="{NAMESPACE}">'
            f"<Name>{escape(name)}</Name><Prefix>{encode(prefix)}</Prefix>"
            f"<MaxKeys>{limit}</MaxKeys>"
            + ("<EncodingType>url</EncodingType>" if encoded else "")
            + f"<IsTruncated>{'true' if last else 'false'}</IsTruncated>"
            + (f"<{tag}>{escape(last)}</{tag}>" if last else "")
        )
        self._send(200, head.encode() + entries + b"</ListBucketResult>")

    def _object(self, key: str) -> None:
        with self.bucket.lock:
            content = self.bucket.content(key)
        if content is None:
            self._send(404, b"<Error><Code>NoSuchKey</Code><Message>No such key</Message></Error>")
        else:
            self._send(200, content, etag=_etag(content))

    def _unknown_write(self, key: str, query: dict[str, str]) -> bool:
        return bool(
            query.keys() - {"x-id"}
            or "x-amz-copy-source" in self.headers
            or "aws-chunked" in self.headers.get("Content-Encoding", "")
            or key >= self.bucket.names[0]
        )

    def _write(self, key: str, body: bytes) -> None:
        with self.bucket.lock:
            refused = self._refused(key)
            if not refused:
                self.bucket.written[key] = body
        if refused:
            self._send(412, PRECONDITION_FAILED)
        else:
            self._send(200, etag=_etag(body))

    def _refused(self, key: str) -> bool:
        """Say whether the request's conditions forbid to change the object."""
        content = self.bucket.content(key)
        expected = self.headers.get("If-Match")
        if expected is not None and (content is None or expected.strip('"') != _etag(content)):
            return True
        return self.headers.get("If-None-Match") == "*" and content is not None

    def _send(self, status: int, body: bytes = b"", *, etag: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if etag:
            self.send_header("ETag", f'"{etag}"')
            self.send_header("Last-Modified", formatdate(LAST_MODIFIED_SECONDS, usegmt=True))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        if args[1:2] == ("501",):
            super().log_message(format, *args)


def main(count: int, port: int) -> None:
    Handler.bucket = Bucket(count)
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
