"""Connections to one host with nothing in between: kept, and lent to one request at a time.

urllib3 does the same, and through a proxy it does it here; but what it puts
around the standard library's client costs as much processor time as the
request itself, and for small objects that is most of a transfer. What a
request means is not known here.
"""

from __future__ import annotations

import re
import select
import ssl
from collections.abc import Iterable, Mapping
from contextlib import suppress
from http.client import (
    HTTPConnection,
    HTTPException,
    HTTPResponse,
    HTTPSConnection,
    IncompleteRead,
)
from typing import cast
from urllib.parse import SplitResult, quote

_NOT_IN_A_TARGET = re.compile("[^!-~]")
_SAFE = "!#$%&'()*+,/:;=?@[]~"
"""Punctuation that is left as it is in a target; a percent sign is one of an escape already."""


class NotConnected(OSError):
    """No connection could be made, so that nothing was sent; the cause is its argument."""


class DirectAnswer:
    """An answer whose body may still be on its way. Of `BaseHTTPResponse` of urllib3, just what is needed."""

    def __init__(self, response: HTTPResponse, connection: HTTPConnection, home: Direct) -> None:
        self.status = response.status
        self.headers = cast(Mapping[str, str], response.headers)
        self._response = response
        self._connection = connection
        self._home = home

    @property
    def length_remaining(self) -> int | None:
        """How many bytes are still to come; `None` where only the end will tell."""
        return 0 if self._response.isclosed() else self._response.length

    def read(self, size: int | None = None) -> bytes:
        """Return the next bytes, `b""` at the end; raises `IncompleteRead` when they end early."""
        content = self._response.read(size)
        if not content and self._response.length:
            raise IncompleteRead(b"", self._response.length)
        return content

    def release_conn(self) -> None:
        """Give the connection back, after the last byte was read."""
        self._response.close()
        self._home.take_back(self._connection)

    def close(self) -> None:
        self._response.close()
        self._connection.close()


class Direct:
    """Sends requests to one host, from any number of threads. Redirects are answers, and nothing is retried."""

    def __init__(self, address: SplitResult, most: int, context: ssl.SSLContext | None) -> None:
        """`most` idle connections are kept; `context` is for https."""
        self._address = address
        self._most = most
        self._context = context
        # Taken from and put back at its end, which needs no lock.
        self._idle: list[HTTPConnection] = []

    def request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | Iterable[bytes] | None,
        timeout: tuple[float, float],
    ) -> DirectAnswer:
        """Send a request for a path of the host and return its answer.

        Raises `NotConnected`; an `OSError` or `HTTPException` when the request
        may have arrived.
        """
        connection = self._kept() or self._new(timeout[0])
        connection.sock.settimeout(timeout[1])
        try:
            # One that refuses a body may hang up before it has read all of it, and say why.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, _escaped(target), body, headers)
            return DirectAnswer(connection.getresponse(), connection, self)
        except BaseException:
            connection.close()
            raise

    def take_back(self, connection: HTTPConnection) -> None:
        """Keep a connection for a later request, unless the server wants it closed."""
        if connection.sock is not None and len(self._idle) < self._most:
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _kept(self) -> HTTPConnection | None:
        """Return an idle connection that the server has not ended meanwhile."""
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if not _has_news(connection):
                return connection
            connection.close()
        return None

    def _new(self, seconds: float) -> HTTPConnection:
        host, port = self._address.hostname or "", self._address.port
        connection = (
            HTTPConnection(host, port, timeout=seconds)
            if self._context is None
            else HTTPSConnection(host, port, timeout=seconds, context=self._context)
        )
        try:
            connection.connect()
        except (OSError, HTTPException) as error:
            connection.close()
            raise NotConnected(error) from error
        return connection


def _has_news(connection: HTTPConnection) -> bool:
    """Tell whether anything arrived on an idle connection: its end, or what nobody asked for."""
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))


def _escaped(target: str) -> str:
    """Return what may stand in a request for a path and query that somebody else may not have encoded."""
    return quote(target, safe=_SAFE) if _NOT_IN_A_TARGET.search(target) else target
