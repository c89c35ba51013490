"""Signed HTTP to one bucket: requests out, answers in, connections kept for the next.

Everything that is not the bytes of an ordinary object goes this way: a boto3
client takes a quarter of a second of CPU to load and milliseconds a call, and
obstore cannot say most of it. Nothing is retried here and nothing is known of
objects; an answer that is no success is raised as one of craftsync's errors.
"""

from __future__ import annotations

import os
import select
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from craftsync.blocking import blocking
from craftsync.clock import Clock
from craftsync.stores.s3.errors import answer_of, refused, unreachable
from craftsync.stores.s3.session import Session
from craftsync.stores.s3.signing import Query, Request, encoded_path, encoded_query, sign

CONNECT_SECONDS = 10.0
IDLE_SECONDS = 60.0
SLOWEST_BYTES_PER_SECOND = 16 * 1024
"""A body gets this much time on top: a connection that is slower counts as dead."""


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
        self._idle: list[HTTPConnection] = []
        self._lock = threading.Lock()
        self._tls: ssl.SSLContext | None = None

    def call(
        self,
        method: str,
        key: str = "",
        *,
        query: Query = (),
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Answer:
        """Send one request and return its answer; raises the error an unsuccessful one stands for."""
        return blocking(partial(self._call, method, key, query=query, headers=headers, body=body))

    @contextmanager
    def stream(
        self,
        method: str,
        key: str = "",
        *,
        query: Query = (),
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Iterator[HTTPResponse]:
        """Send one request and hand out its successful answer, body unread.

        What goes wrong while the body is read reaches the reader as `OSError`
        or `HTTPException`; `unreachable` tells what to make of it.
        """
        connection = blocking(self._connection)
        reusable = False
        try:
            response = blocking(
                partial(self._exchange, connection, method, key, query, headers, body)
            )
            yield response
            reusable = response.isclosed() and not response.will_close
        finally:
            if not (reusable and self._kept(connection)):
                connection.close()

    def _call(
        self,
        method: str,
        key: str,
        *,
        query: Query,
        headers: Mapping[str, str] | None,
        body: bytes,
    ) -> Answer:
        with self.stream(method, key, query=query, headers=headers, body=body) as response:
            content = self._read(response)
            return Answer(_lowered(response), content)

    def close(self) -> None:
        """Close the connections that wait for more work, and from now on each one after its request."""
        with self._lock:
            self._keep = 0
            while self._idle:
                self._idle.pop().close()

    def _kept(self, connection: HTTPConnection) -> bool:
        with self._lock:
            if len(self._idle) >= self._keep:
                return False
            self._idle.append(connection)
            return True

    def _exchange(
        self,
        connection: HTTPConnection,
        method: str,
        key: str,
        query: Query,
        headers: Mapping[str, str] | None,
        body: bytes,
    ) -> HTTPResponse:
        """Return the answer to a request if it is a success, its body unread."""
        response = self._sent(connection, method, key, encoded_query(query), headers, body)
        if response.status >= 300:
            self._refuse(response, key)
        return response

    def _sent(
        self,
        connection: HTTPConnection,
        method: str,
        key: str,
        query: str,
        headers: Mapping[str, str] | None,
        body: bytes,
    ) -> HTTPResponse:
        path = encoded_path(f"{self._url.path}/{key}")
        digest = sha256(body).hexdigest()
        request = Request(
            method, path, query, {"host": self._url.netloc, **(headers or {})}, digest
        )
        now = datetime.fromtimestamp(self._clock.now_ns() // 10**9, UTC)
        signed = sign(request, self._session.keys(), self._session.region, now)
        connection.sock.settimeout(IDLE_SECONDS + len(body) / SLOWEST_BYTES_PER_SECOND)
        try:
            connection.request(method, f"{path}?{query}" if query else path, body or None, signed)
            return connection.getresponse()
        except (OSError, HTTPException) as error:
            raise unreachable(self._location, error, sent=True) from error

    def _read(self, response: HTTPResponse) -> bytes:
        try:
            return response.read()
        except (OSError, HTTPException) as error:
            raise unreachable(self._location, error, sent=True) from error

    def _refuse(self, response: HTTPResponse, key: str) -> None:
        headers = _lowered(response)
        text = self._read(response).decode(errors="replace")
        answer = answer_of(response.status, text, retry_after=headers.get("retry-after"))
        region = answer.region or headers.get("x-amz-bucket-region")
        raise refused(answer._replace(region=region), self._location, key)

    def _connection(self) -> HTTPConnection:
        while (waiting := self._waiting()) is not None:
            if _is_open(waiting):
                return waiting
            waiting.close()
        connection = self._fresh()
        try:
            connection.connect()
        except (OSError, HTTPException) as error:
            raise unreachable(self._location, error, sent=False) from error
        return connection

    def _waiting(self) -> HTTPConnection | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _fresh(self) -> HTTPConnection:
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


def _lowered(response: HTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.getheaders()}


def _is_open(connection: HTTPConnection) -> bool:
    """Tell whether an idle connection is still good: one with something to read was closed by the server."""
    if connection.sock is None:
        return False
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return not poll.poll(0)


def _https_proxy(host: str) -> str | None:
    """Return the proxy the environment names for a host, as obstore and boto3 also take it from there."""
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
