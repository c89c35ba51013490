"""Signed HTTP to one bucket: requests out, answers in, connections kept for the next.

A boto3 client takes a quarter of a second of CPU to load and milliseconds a
call. Nothing is retried here and nothing is known of objects; an answer that is
no success is raised as one of craftsync's errors.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from craftsync.blocking import blocking
from craftsync.clock import Clock
from craftsync.connection import Connection, Response
from craftsync.stores.s3.errors import answer_of, refused, unreachable
from craftsync.stores.s3.session import Session
from craftsync.stores.s3.signing import Query, Request, encoded_path, encoded_query, sign

CONNECT_SECONDS = 10.0
IDLE_SECONDS = 60.0
"""A connection on which nothing moves for so long counts as dead."""

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Answer(NamedTuple):
    """A successful answer, read to its end; header names are lower-case."""

    headers: Mapping[str, str]
    body: bytes


class Wire:
    """A client for one bucket. May be used from several threads; each request takes a connection of its own.

    At most `keep` connections wait for more work.
    """

    def __init__(self, session: Session, location: str, clock: Clock, *, keep: int) -> None:
        self._session = session
        self._location = location
        self._clock = clock
        self._keep = keep
        self._url = urlsplit(session.url)
        # Taken from and put back at its end, which needs no lock.
        self._idle: list[Connection] = []
        self._tls: ssl.SSLContext | None = None

    def call(
        self,
        method: str,
        key: str = "",
        *,
        query: Query = (),
        headers: Mapping[str, str] = _NO_HEADERS,
        body: bytes = b"",
        digest: bytes = b"",
    ) -> Answer:
        """Send one request and return its answer; raises the error an unsuccessful one stands for.

        `digest` is the SHA-256 of the body, if that is known.
        """
        with self.stream(
            method, key, query=query, headers=headers, body=body, digest=digest
        ) as response:
            return Answer(response.headers, self._read(response))

    @contextmanager
    def stream(
        self,
        method: str,
        key: str = "",
        *,
        query: Query = (),
        headers: Mapping[str, str] = _NO_HEADERS,
        body: bytes = b"",
        digest: bytes = b"",
    ) -> Iterator[Response]:
        """Send one request and hand out its successful answer, body unread.

        What goes wrong while the body is read reaches the reader as `OSError`;
        `unreachable` tells what to make of it.
        """
        path, parameters = encoded_path(f"{self._url.path}/{key}"), encoded_query(query)
        hashed = digest.hex() if digest else sha256(body).hexdigest()
        request = Request(method, path, parameters, {"host": self._url.netloc, **headers}, hashed)
        connection = self._waiting() or blocking(self._fresh)
        response = None
        try:
            response = self._sent(connection, request, body)
            if response.status >= 300:
                self._refuse(response, key)
            yield response
        finally:
            if response is not None and response.is_complete and len(self._idle) < self._keep:
                self._idle.append(connection)
            else:
                connection.close()

    def close(self) -> None:
        """Close the connections that wait for more work, and from now on each one after its request."""
        self._keep = 0
        while self._idle:
            self._idle.pop().close()

    def _sent(self, connection: Connection, request: Request, body: bytes) -> Response:
        now = datetime.fromtimestamp(self._clock.now_ns() // 10**9, UTC)
        signed = sign(request, self._session.keys(), self._session.region, now)
        target = f"{request.path}?{request.query}" if request.query else request.path
        try:
            return connection.request(request.method, target, signed, body, IDLE_SECONDS)
        except OSError as error:
            raise unreachable(self._location, error, sent=True) from error

    def _read(self, response: Response) -> bytes:
        try:
            return response.read()
        except OSError as error:
            raise unreachable(self._location, error, sent=True) from error

    def _refuse(self, response: Response, key: str) -> None:
        headers = response.headers
        text = self._read(response).decode(errors="replace")
        answer = answer_of(response.status, text, retry_after=headers.get("retry-after"))
        region = answer.region or headers.get("x-amz-bucket-region")
        raise refused(answer._replace(region=region), self._location, key)

    def _waiting(self) -> Connection | None:
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if connection.is_quiet():
                return connection
            connection.close()
        return None

    def _fresh(self) -> Connection:
        client = self._client()
        try:
            client.connect()
        except (OSError, HTTPException) as error:
            raise unreachable(self._location, error, sent=False) from error
        return Connection(client.sock)

    def _client(self) -> HTTPConnection:
        """Return what makes a connection; it is used for nothing else."""
        host = self._url.hostname or ""
        if self._url.scheme == "http":
            return HTTPConnection(host, self._url.port, timeout=CONNECT_SECONDS)
        self._tls = self._tls or ssl.create_default_context(cafile=self._session.ca_bundle)
        proxy = _https_proxy(host)
        if proxy is None:
            return HTTPSConnection(host, self._url.port, timeout=CONNECT_SECONDS, context=self._tls)
        via = urlsplit(proxy if "//" in proxy else "//" + proxy)
        connection = HTTPSConnection(
            via.hostname or "", via.port or 3128, timeout=CONNECT_SECONDS, context=self._tls
        )
        connection.set_tunnel(host, self._url.port or 443, _proxy_login(via.username, via.password))
        return connection


def _https_proxy(host: str) -> str | None:
    """Return the proxy the environment names for a host, as boto3 also takes it from there."""
    if not any(name.lower() in ("https_proxy", "all_proxy") for name in os.environ):
        return None
    from urllib.request import getproxies, proxy_bypass

    proxies = getproxies()
    if proxy_bypass(host):
        return None
    return proxies.get("https") or proxies.get("all")


def _proxy_login(user: str | None, password: str | None) -> dict[str, str]:
    if user is None:
        return {}
    from base64 import b64encode

    pair = f"{unquote(user)}:{unquote(password or '')}"
    return {"Proxy-Authorization": "Basic " + b64encode(pair.encode()).decode()}
