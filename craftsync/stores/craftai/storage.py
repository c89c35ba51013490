"""The requests behind signed URLs: the bytes of objects, on connections that are kept and shared.

A signed URL is a key to one object. It takes no token, no login of `~/.netrc`
and no other header than its own, is followed nowhere else, and is never part
of a message. Nothing is retried here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from itertools import chain
from typing import NamedTuple
from uuid import uuid4

from craftsync.core.model import time_within
from craftsync.net.http import Buffer, Response
from craftsync.net.pace import Attempt
from craftsync.stores.base import Source, pace_of
from craftsync.stores.craftai.bodies import CHUNK, Content, form
from craftsync.stores.craftai.errors import (
    RangeBeyond,
    refused,
    storage_answer,
    unintelligible,
    unreachable,
)
from craftsync.stores.craftai.transport import TIMEOUT, Connections

_RESUME_INCOMPLETE = 308
"""What Google Cloud Storage answers to every part but the last
(https://cloud.google.com/storage/docs/performing-resumable-uploads)."""

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_MD5 = re.compile(r'"?([0-9a-f]{32})"?')


class Receipt(NamedTuple):
    """What the storage said of bytes it took. `etag` is verbatim, `date_ns` the storage's own clock.

    `intact` says whether its checksum is that of the bytes sent, and is `None`
    when it gives none. `complete` is false while a resumable upload wants more.
    """

    etag: str | None
    date_ns: int | None
    intact: bool | None
    complete: bool = True


class Body(NamedTuple):
    """An object on its way: `length` bytes from `start` of the `size` it has in all.

    What the storage left out is `None`.
    """

    start: int
    length: int | None
    size: int | None
    etag: str | None
    modified_ns: int | None
    chunks: Iterator[bytes]


class Storage:
    """Sends bytes to signed URLs and fetches them, from any number of threads."""

    def __init__(self, location: str) -> None:
        self._location = location
        self._connections = Connections(location)

    def post_form(self, url: str, fields: Mapping[str, str], source: Source, path: str) -> Receipt:
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

    def put_part(
        self, url: str, headers: Mapping[str, str], content: Content, path: str
    ) -> Receipt:
        """Upload content as one part. Status 308 counts as success where it is the protocol."""
        length = {"Content-Length": str(content.length)}
        resumable = any(name.lower() == "content-range" for name in headers)
        with (
            Attempt(content.pace) as attempt,
            self._exchange(
                "PUT",
                url,
                path,
                headers={**headers, **length},
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

        A storage that does not know ranges sends all of it, which `Body.start` tells.
        """
        headers = {} if etag is None else {"If-Match": etag}
        if offset or length is not None:
            last = "" if length is None else offset + length - 1
            headers["Range"] = f"bytes={offset}-{last}"
        with self._exchange("GET", url, path, headers=headers) as response:
            yield _body(response, self._chunks(response))

    def etag(self, url: str, path: str) -> str | None:
        """Return the ETag of an object by fetching one byte, or `None` when the storage tells none."""
        try:
            with self.get(url, path, etag=None, offset=0, length=1) as body:
                return body.etag
        except RangeBeyond:
            return None

    def cancel(self) -> None:
        self._connections.cancel()

    def renew(self) -> None:
        self._connections.renew()

    def close(self) -> None:
        self._connections.close()

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
        with self._connections.sent(method, url, sent, body, TIMEOUT) as response:
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
            _moment(response.headers.get("date")),
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
    etag, modified = headers.get("etag"), _moment(headers.get("last-modified"))
    if span is None:
        return Body(0, length, length, etag, modified, chunks)
    start, last, size = (int(number) for number in span.groups())
    return Body(start, last - start + 1, size, etag, modified, chunks)


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def _moment(text: str | None) -> int | None:
    """Read a date of HTTP, which is to the second."""
    try:
        return time_within(int(parsedate_to_datetime(text).timestamp()) * 10**9) if text else None
    except ValueError:
        return None
