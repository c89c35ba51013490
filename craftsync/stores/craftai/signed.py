"""The bytes of objects: to and from signed URLs, hashed on their way.

A signed URL is a key to one object. It takes no token, no login of `~/.netrc`
and no other header than its own, is followed nowhere else, and is never part
of a message.
"""

from __future__ import annotations

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
"""What Google Cloud Storage answers to every part but the last
(https://cloud.google.com/storage/docs/performing-resumable-uploads)."""

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_MD5 = re.compile(r'"?([0-9a-f]{32})"?')


def form(boundary: str, fields: Mapping[str, str]) -> tuple[bytes, bytes]:
    """Return what comes before and after the file. The name of the file says nothing of where it came from."""
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
    """The bytes of a span of the content, hashed on their way.

    They leave at `pace`. `held` keeps the last ones back until the content is
    known to be whole. `before` is the hash of what came before; `running` goes
    on with it.
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
        """Return the MD5 of what was read so far."""
        return self._md5.hexdigest()


class Receipt(NamedTuple):
    """What the storage said of bytes it took. `etag` is verbatim, `date_ns` the storage's own clock.

    `intact` says whether its checksum is that of the bytes sent, and is `None`
    when it gives none. `complete` is false while a resumable upload wants more.
    `digest` is the SHA-256 of what was sent, if that was computed.
    """

    etag: str | None
    date_ns: int | None
    intact: bool | None
    complete: bool = True
    digest: bytes = b""


class Body(NamedTuple):
    """An object on its way: `length` bytes from `start` of the `size` it has in all.

    What the storage leaves out is `None`.
    """

    start: int
    length: int | None
    size: int | None
    etag: str | None
    modified_ns: int | None
    chunks: Iterator[bytes]


class Storage(Platform):
    """An environment with the bytes of its objects, which are sent to signed URLs and fetched from them.

    Nothing is retried but a URL that expired on the way, which is replaced once.
    """

    def __init__(self, access: Access, location: str, clock: Clock) -> None:
        super().__init__(access, location, clock)
        self._bytes = Connections(location)

    def put(self, key: str, source: Source, before: Callable[[], object]) -> Receipt:
        """Upload a whole object; `before` is called while the address for it is asked, and may raise."""
        _, part = both(before, partial(self.upload_url, key))
        try:
            return self._post_form(*part, source, key)
        except UrlExpired:
            return self._post_form(*self.upload_url(key), source, key)

    def _post_form(self, url: str, fields: Mapping[str, str], source: Source, path: str) -> Receipt:
        """Upload a whole object as the form the signature is for.

        The end of the body is held back until `source.verify` has passed, so
        that content which changes while it is read never becomes an object.
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
            # One write to the connection costs a third of what several do.
            body = b"".join(chain([head], content, [tail]))
            attempt.take(source.size)
            with self._exchange("POST", url, path, headers=headers, body=body) as response:
                attempt.count(source.size)
                return self._receipt(response, content)

    def put_part(self, key: str, part: Part, content: Content) -> Receipt:
        """Upload content as one part. Status 308 counts as success where it is the protocol."""
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
        """Fetch an object, or a part of it; with `etag` only if it is this very one.

        A storage that does not know ranges sends all of it: see `Body.start`.
        """
        headers = {} if etag is None else {"If-Match": etag}
        if offset or length is not None:
            last = "" if length is None else offset + length - 1
            headers["Range"] = f"bytes={offset}-{last}"
        with self._exchange("GET", url, path, headers=headers) as response:
            yield _body(response, self._chunks(response))

    def etag(self, key: str) -> str | None:
        """Return the ETag of an object by fetching one byte, or `None` when the storage gives none."""
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
        """Send a request and hand out its successful answer."""
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
        """Read the answer to an upload; one with a web page in it comes from somebody else."""
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
            _intact(response, etag, content.md5()),
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


def _intact(response: Response, etag: str | None, md5_hex: str) -> bool | None:
    """Compare the ETag with the MD5 of what was sent, where it may be one.

    With keys of its own the storage gives an ETag that only looks like an MD5
    (AWS S3 API reference, "Object", ETag).
    """
    match = _MD5.fullmatch(etag or "")
    encrypted = response.headers.get("x-amz-server-side-encryption", "AES256") != "AES256"
    customer = "x-amz-server-side-encryption-customer-algorithm" in response.headers
    if match is None or encrypted or customer:
        return None
    return match.group(1) == md5_hex


def _body(response: Response, chunks: Iterator[bytes]) -> Body:
    headers = response.headers
    length = _number(headers.get("content-length"))
    span = _RANGE.fullmatch(headers.get("content-range", ""))
    etag, modified = headers.get("etag"), _date_ns(headers.get("last-modified"))
    if span is None:
        return Body(0, length, length, etag, modified, chunks)
    start, last, size = (int(number) for number in span.groups())
    return Body(start, last - start + 1, size, etag, modified, chunks)


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def _date_ns(text: str | None) -> int | None:
    """Read a date of HTTP, which is to the second."""
    try:
        return time_within(int(parsedate_to_datetime(text).timestamp()) * 10**9) if text else None
    except ValueError:
        return None
