"""`Wire`: signed HTTP requests to one bucket, over kept connections.

It knows nothing of objects and retries nothing; an error response is raised as one of craftsync's
errors. (A boto3 client takes a quarter of a second of CPU to load, and milliseconds a call.)
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from datetime import UTC, datetime
from functools import lru_cache, partial
from hashlib import sha256
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import urlsplit

from craftsync.clock import Clock
from craftsync.errors import UsageError
from craftsync.net.hosts import Host, NotConnected, tls_context
from craftsync.net.http import Buffer, Response
from craftsync.net.pace import Attempt
from craftsync.stores.s3.credentials import (
    BODY_SHA256,
    UNSIGNED,
    Query,
    Request,
    Session,
    encoded_path,
    encoded_query,
    sign,
    signed_query,
)
from craftsync.stores.s3.errors import answer_of, refused, unreachable

IDLE_SECONDS = 60.0
"""A connection on which nothing moves for this long counts as dead."""

_HOUR, _WEEK = 3600, 7 * 24 * 3600
"""A week is the longest that signature version 4 allows (AWS S3 user guide, "Sharing objects with
presigned URLs")."""

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@lru_cache(maxsize=8)
def _moment(second: int) -> datetime:
    """Return a time as one object for all requests of a second, so that its hash is computed once."""
    return datetime.fromtimestamp(second, UTC)


class Answer(NamedTuple):
    """A successful response, read to its end. Header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Wire:
    """A client for one bucket. Thread-safe. At most `keep` idle connections are kept."""

    def __init__(self, session: Session, location: str, clock: Clock, *, keep: int) -> None:
        self._session = session
        self._location = location
        self._clock = clock
        self._url = urlsplit(session.url)
        self.host = Host(self._url, keep, partial(tls_context, session.authorities))
        self._idle_seconds = IDLE_SECONDS

    def within(self, seconds: float) -> Wire:
        """Return this client, over the same connections, with requests that wait so long for the server."""
        limited = copy(self)
        limited._idle_seconds = seconds
        return limited

    @property
    def address(self) -> str:
        """The host and port of the requests."""
        return self._url.netloc

    def call(
        self,
        method: str,
        key: str = "",
        *,
        query: Query = (),
        headers: Mapping[str, str] = _NO_HEADERS,
        body: Buffer = b"",
        digest: bytes = b"",
        attempt: Attempt | None = None,
    ) -> Answer:
        """Send one request and return its response; raise for an unsuccessful one.

        `digest` is the SHA-256 of the body, if known; the header `BODY_SHA256` overrides it, also
        with `UNSIGNED`. `attempt` paces and counts the bytes of the body.
        """
        response = self.open(method, key, query, headers, body, digest, attempt)
        try:
            return Answer(response.status, response.headers, self._read(response))
        finally:
            self.host.take_back(response)

    def signed_url(self, key: str, seconds: int | None) -> str:
        """Return a URL that reads a key for `seconds`, by default an hour. Raises `UsageError` over a week."""
        seconds = _HOUR if seconds is None else seconds
        if not 1 <= seconds <= _WEEK:
            raise UsageError(
                f"S3 signs URLs for 1 second to 7 days, not for {seconds} seconds.",
                remedy="Use a shorter --expires.",
            )
        now = _moment(self._clock.now_ns() // 10**9)
        host, path = self._url.netloc, encoded_path(f"{self._url.path}/{key}")
        request = Request("GET", path, "", {"host": host, **self._session.headers}, UNSIGNED)
        query = signed_query(request, self._session.keys(), self._session.region, now, seconds)
        return f"{self._url.scheme}://{host}{path}?{query}"

    def close(self) -> None:
        """Close the idle connections now, and the others after their requests."""
        self.host.close()

    def open(
        self,
        method: str,
        key: str,
        query: Query,
        headers: Mapping[str, str],
        body: Buffer = b"",
        digest: bytes = b"",
        attempt: Attempt | None = None,
    ) -> Response:
        """Send one request and return its successful response with the body unread.

        The caller passes it to `host.take_back`. Reading the body raises `OSError`, which
        `unreachable` turns into an error of craftsync.
        """
        path, parameters = encoded_path(f"{self._url.path}/{key}"), encoded_query(query)
        hashed = headers.get(BODY_SHA256) or digest.hex() or sha256(body).hexdigest()
        named = {"host": self._url.netloc, **self._session.headers, **headers}
        request = Request(method, path, parameters, named, hashed)
        response = self._sent(request, body, attempt)
        if response.status >= 300:
            try:
                self._refuse(response, key)
            finally:
                self.host.take_back(response)
        return response

    def _sent(self, request: Request, body: Buffer, attempt: Attempt | None) -> Response:
        now = _moment(self._clock.now_ns() // 10**9)
        signed = sign(request, self._session.keys(), self._session.region, now)
        target = f"{request.path}?{request.query}" if request.query else request.path
        idle = self._idle_seconds
        try:
            # Not signed, because a proxy may change this header.
            sent = {**signed, "accept-encoding": "identity"}
            if attempt is None:
                return self.host.request(request.method, target, sent, bytes(body), idle)
            if len(body) > attempt.piece:
                sent["content-length"] = str(len(body))
                pieces = attempt.pieces([body])
                return self.host.request(request.method, target, sent, pieces, idle)
            # One system call sends head and body.
            attempt.take(len(body))
            response = self.host.request(request.method, target, sent, bytes(body), idle)
            attempt.count(len(body))
            return response
        except OSError as error:
            sent_out = not isinstance(error, NotConnected)
            raise unreachable(self._location, error, self.address, sent=sent_out) from error

    def _read(self, response: Response) -> bytes:
        try:
            return response.read()
        except OSError as error:
            raise unreachable(self._location, error, self.address, sent=True) from error

    def _refuse(self, response: Response, key: str) -> None:
        headers = response.headers
        text = self._read(response).decode(errors="replace")
        answer = answer_of(response.status, text, retry_after=headers.get("retry-after"))
        region = answer.region or headers.get("x-amz-bucket-region")
        raise refused(answer._replace(region=region), self._location, key)
