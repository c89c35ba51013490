"""`Storage`: sends the bytes of objects to signed URLs, fetches them from there, and hashes them.

A signed URL grants access to one object. A request to it has no token, no login of `~/.netrc` and
no headers but its own; its redirects are not followed; and it never appears in a message.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from functools import partial
from hashlib import md5
from itertools import chain
from typing import Any, NamedTuple
from uuid import uuid4

from craftsync.clock import Clock
from craftsync.core.model import time_within
from craftsync.net.http import Buffer, Response
from craftsync.net.pace import Attempt, Pace
from craftsync.net.waiting import both
from craftsync.stores.base import Source, pace_of
from craftsync.stores.craftai.errors import (
    RangeBeyond,
    UrlExpired,
    refused,
    storage_answer,
    unintelligible,
    unreachable,
)
from craftsync.stores.craftai.platform import Access, Connections, Part, Platform

CHUNK = 1024 * 1024

_RESUME_INCOMPLETE = 308
"""The status of Google Cloud Storage for every part but the last
(https://cloud.google.com/storage/docs/performing-resumable-uploads)."""

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_MD5 = re.compile(r'"?([0-9a-f]{32})"?')


def form(boundary: str, fields: Mapping[str, str]) -> tuple[bytes, bytes]:
    """Return the bytes of the form before and after the file, which gets a name without meaning."""
    head = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    head.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    )
    return "".join(head).encode(), f"\r\n--{boundary}--\r\n".encode()


def _quoted(name: str) -> str:
    return name.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "").replace("\n", "")


class Content:
    """A span of a source's bytes, hashed as it is read.

    They are sent at `pace`. `held`: the last bytes are held back until the source is verified.
    `before` is the hash of the bytes before the span; `running` continues it.
    """

    def __init__(
        self, source: Source, span: range, pace: Pace, before: Any = None, *, held: bool = False
    ) -> None:
        self.held = held
        self.running: Any = before.copy() if before is not None else None
        self.length = len(span)
        self.pace = pace
        self._source = source
        self._span = span
        self._md5 = md5(usedforsecurity=False)

    def __iter__(self) -> Iterator[bytes]:
        if self.held and not self._span:
            self._source.verify()
        for offset in range(self._span.start, self._span.stop, CHUNK):
            chunk = self._source.read_at(offset, min(CHUNK, self._span.stop - offset))
            self._md5.update(chunk)
            if self.running is not None:
                self.running.update(chunk)
            if self.held and offset + len(chunk) == self._span.stop:
                self._source.verify()
            yield chunk

    def md5(self) -> str:
        """Return the MD5 of the bytes read so far."""
        return self._md5.hexdigest()


class Receipt(NamedTuple):
    """The storage's response to an upload. `etag` is verbatim; `date_ns` is by the storage's clock.

    `intact`: whether its checksum matches the bytes sent; `None` if it reports none. `complete`:
    false while a resumable upload needs more parts. `digest`: the SHA-256 of the bytes sent, if
    computed.
    """

    etag: str | None
    date_ns: int | None
    intact: bool | None
    complete: bool = True
    digest: bytes = b""


class PendingWrite(NamedTuple):
    """A write whose response was lost, with the ETag by which its object is recognised."""

    size: int
    etag: str
    digest: bytes
    mtime_ns: int | None
    operation: str


class ReportedMd5(NamedTuple):
    """What a response reports as the MD5 of a whole object.

    `is_certain`: it is not from an ETag that may only look like an MD5.
    """

    value: bytes
    is_certain: bool


class Body(NamedTuple):
    """An object being read: `length` bytes from `start`, of `size` in all.

    Fields that the storage does not report are `None`.
    """

    start: int
    length: int | None
    size: int | None
    etag: str | None
    modified_ns: int | None
    chunks: Iterator[bytes]
    md5: ReportedMd5 | None = None


class Storage(Platform):
    """The platform's API, and the transfer of objects to and from its signed URLs.

    Only a URL that has expired is retried, once, with a new one.
    """

    def __init__(self, access: Access, location: str, clock: Clock) -> None:
        super().__init__(access, location, clock)
        self._bytes = Connections(location)

    def put(self, key: str, source: Source, before: Callable[[], object]) -> Receipt:
        """Upload a whole object. `before` is called while its URL is requested, and may raise."""
        _, part = both(before, partial(self.upload_url, key))
        try:
            return self._post_form(*part, source, key)
        except UrlExpired:
            return self._post_form(*self.upload_url(key), source, key)

    def _post_form(self, url: str, fields: Mapping[str, str], source: Source, path: str) -> Receipt:
        """Upload a whole object as the form that the URL is signed for.

        The end of the body is held back until `source.verify` has succeeded, so content that
        changes while it is read never becomes an object.
        """
        boundary = uuid4().hex
        head, tail = form(boundary, fields)
        content = Content(source, range(source.size), pace_of(source), held=True)
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        with Attempt(content.pace) as attempt:
            if source.size > attempt.piece:
                headers["Content-Length"] = str(len(head) + source.size + len(tail))
                pieces: Iterable[Buffer] = chain([head], attempt.pieces(content), [tail])
                with self._exchange("POST", url, path, headers=headers, body=pieces) as response:
                    return self._receipt(response, content)
            # One write to the connection costs a third of several.
            body = b"".join(chain([head], content, [tail]))
            attempt.take(source.size)
            with self._exchange("POST", url, path, headers=headers, body=body) as response:
                attempt.count(source.size)
                return self._receipt(response, content)

    def put_part(self, key: str, part: Part, content: Content) -> Receipt:
        """Upload content as one part. Status 308 is a success in a resumable upload."""
        length = {"Content-Length": str(content.length)}
        resumable = any(name.lower() == "content-range" for name in part.more)
        with (
            Attempt(content.pace) as attempt,
            self._exchange(
                "PUT",
                part.url,
                key,
                headers={**part.more, **length},
                body=attempt.pieces(content),
                incomplete=resumable,
            ) as response,
        ):
            return self._receipt(response, content)

    @contextmanager
    def get(
        self, url: str, path: str, *, etag: str | None, offset: int, length: int | None
    ) -> Iterator[Body]:
        """Fetch an object, or a range of it; with `etag`, only if it still has this ETag.

        A storage without ranges sends all of it (see `Body.start`).
        """
        headers = {} if etag is None else {"If-Match": etag}
        if offset or length is not None:
            last = "" if length is None else offset + length - 1
            headers["Range"] = f"bytes={offset}-{last}"
        with self._exchange("GET", url, path, headers=headers) as response:
            yield _body(response, self._chunks(response))

    def etag(self, key: str) -> str | None:
        """Return the ETag of an object by fetching one byte; `None` if the storage reports none."""
        url = self.download_url(key)
        try:
            with self.get(url, key, etag=None, offset=0, length=1) as body:
                return body.etag
        except RangeBeyond:
            return None

    def cancel(self) -> None:
        super().cancel()
        self._bytes.cancel()

    def renew(self) -> None:
        super().renew()
        self._bytes.renew()

    def close(self) -> None:
        super().close()
        self._bytes.close()

    @contextmanager
    def _exchange(
        self,
        method: str,
        url: str,
        path: str,
        *,
        headers: Mapping[str, str],
        body: bytes | Iterable[Buffer] = b"",
        incomplete: bool = False,
    ) -> Iterator[Response]:
        """Send a request and yield its successful response."""
        sent = {"Accept-Encoding": "identity", "User-Agent": "craftsync", **headers}
        with self._bytes.sent(method, url, sent, body) as response:
            if not 200 <= response.status < 300 and not (
                incomplete and response.status == _RESUME_INCOMPLETE
            ):
                text = self._text(response)
                answer = storage_answer(response.status, response.headers, text)
                raise refused(answer, self._location, path)
            yield response

    def _receipt(self, response: Response, content: Content) -> Receipt:
        """Read the response to an upload. A web page is not the storage's, so it raises."""
        try:
            beginning = response.read(CHUNK)[:1024]
        except OSError as error:
            raise unreachable(self._location, error, sent=True) from error
        if b"<html" in beginning.lower():
            raise unintelligible(self._location, "answer of a storage")
        etag = response.headers.get("etag")
        return Receipt(
            etag,
            _date_ns(response.headers.get("date")),
            _intact(response, content.md5()),
            complete=response.status != _RESUME_INCOMPLETE,
        )

    def _chunks(self, response: Response) -> Iterator[bytes]:
        try:
            while chunk := response.read(CHUNK):
                yield chunk
        except OSError as error:
            raise unreachable(self._location, error, sent=True) from error

    def _text(self, response: Response) -> str:
        try:
            return response.read(CHUNK).decode(errors="replace")
        except OSError:
            return ""


def _intact(response: Response, md5_hex: str) -> bool | None:
    """Return whether the ETag is the MD5 of the bytes sent; `None` if it is not an MD5."""
    reported = _md5_in_etag(response.headers)
    return None if reported is None else reported.hex() == md5_hex


def _md5_in_etag(headers: Mapping[str, str]) -> bytes | None:
    """Return the ETag as an MD5; `None` if it is not one.

    The ETag of an object encrypted with other keys only looks like an MD5 (AWS S3 API reference,
    "Object", ETag).
    """
    match = _MD5.fullmatch(headers.get("etag", ""))
    encrypted = headers.get("x-amz-server-side-encryption", "AES256") != "AES256"
    customer = "x-amz-server-side-encryption-customer-algorithm" in headers
    return None if match is None or encrypted or customer else bytes.fromhex(match.group(1))


def _content_md5(headers: Mapping[str, str]) -> bytes | None:
    """Return the MD5 of a response's body (RFC 1864), if it is valid: Azure and `serve` send it."""
    try:
        reported = binascii.a2b_base64(headers.get("content-md5", ""))
    except ValueError:
        return None
    return reported if len(reported) == 16 else None


def _reported_md5(headers: Mapping[str, str], *, whole: bool) -> ReportedMd5 | None:
    """Return the MD5 of an object; `whole`: the response has all of it, not a range."""
    of_body = _content_md5(headers) if whole else None
    if of_body is not None:
        return ReportedMd5(of_body, is_certain=True)
    of_etag = _md5_in_etag(headers)
    return None if of_etag is None else ReportedMd5(of_etag, is_certain=False)


def _body(response: Response, chunks: Iterator[bytes]) -> Body:
    headers = response.headers
    length = _number(headers.get("content-length"))
    span = _RANGE.fullmatch(headers.get("content-range", ""))
    etag, modified = headers.get("etag"), _date_ns(headers.get("last-modified"))
    reported = _reported_md5(headers, whole=span is None)
    if span is None:
        return Body(0, length, length, etag, modified, chunks, reported)
    start, last, size = (int(number) for number in span.groups())
    return Body(start, last - start + 1, size, etag, modified, chunks, reported)


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def _date_ns(text: str | None) -> int | None:
    """Return an HTTP date, which has whole seconds, in nanoseconds since the epoch; `None` if invalid."""
    try:
        return time_within(int(parsedate_to_datetime(text).timestamp()) * 10**9) if text else None
    except ValueError:
        return None
