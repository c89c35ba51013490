"""Connections to one host: made, kept while they have nothing to do, and lent to one request at a time.

What a request means is not known here. Redirects are answers, and nothing is
retried.
"""

from __future__ import annotations

import os
import ssl
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import SplitResult, unquote, urlsplit

from craftsync.blocking import blocking
from craftsync.connection import Connection, Response

CONNECT_SECONDS = 10.0
_PROXY_PORT = 3128


class NotConnected(OSError):
    """No connection could be made, so that nothing was sent; the cause is its argument."""


class Host:
    """One host, reached directly or through the proxy that the environment names for it.

    May be used from several threads. At most `keep` connections wait for more
    work. `trust` makes the context for https, which says who vouches for hosts.
    """

    def __init__(
        self, address: SplitResult, keep: int, trust: Callable[[], ssl.SSLContext]
    ) -> None:
        self._address = address
        self._keep = keep
        self._trust = trust
        self._tls: ssl.SSLContext | None = None
        self._proxy = _proxy_for(address)
        # A proxy is told the whole address, unless it is asked to pass on what it cannot read.
        told = self._proxy is not None and address.scheme == "http"
        self._prefix = f"http://{address.netloc}" if told else ""
        self._login = _login(self._proxy) if told else {}
        # Taken from and put back at its end, which needs no lock.
        self._idle: list[Connection] = []

    @property
    def idle(self) -> tuple[Connection, ...]:
        """The connections that wait for more work."""
        return tuple(self._idle)

    def request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | Iterable[bytes],
        patience: float,
        connect: float = CONNECT_SECONDS,
    ) -> Response:
        """Send a request for a path of the host and return its answer, to be given to `take_back`.

        `patience` is how many seconds each wait may last, `connect` those for a
        new connection. Raises `NotConnected`, or another `OSError` when the
        request may have arrived.
        """
        connection = self._quiet() or blocking(partial(self._made, connect))
        try:
            sent = {**headers, **self._login} if self._login else headers
            return connection.request(method, self._prefix + target, sent, body, patience)
        except BaseException:
            connection.close()
            raise

    def take_back(self, response: Response) -> None:
        """Keep the connection of an answer for another request, if its body was read to the end."""
        if response.is_complete and len(self._idle) < self._keep:
            self._idle.append(response.connection)
        else:
            response.connection.close()

    def close(self) -> None:
        """Close the connections that wait for more work, and from now on each one after its request."""
        self._keep = 0
        while self._idle:
            self._idle.pop().close()

    def _quiet(self) -> Connection | None:
        """Return an idle connection that the other side has not ended meanwhile."""
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if connection.is_quiet():
                return connection
            connection.close()
        return None

    def _made(self, seconds: float) -> Connection:
        client = self._client(seconds)
        try:
            client.connect()
        except (OSError, HTTPException) as error:
            client.close()
            raise NotConnected(error) from error
        return Connection(client.sock)

    def _client(self, seconds: float) -> HTTPConnection:
        """Return what makes a connection; it is used for nothing else."""
        via = self._proxy or self._address
        host, port = via.hostname or "", via.port or (_PROXY_PORT if self._proxy else None)
        if self._address.scheme == "http":
            return HTTPConnection(host, port, timeout=seconds)
        self._tls = self._tls or self._trust()
        client = HTTPSConnection(host, port, timeout=seconds, context=self._tls)
        if self._proxy is not None:
            there = self._address.hostname or "", self._address.port or 443
            client.set_tunnel(*there, _login(self._proxy))
        return client


def _proxy_for(address: SplitResult) -> SplitResult | None:
    """Return the proxy the environment names for a host, as boto3 and requests take it from there."""
    names = f"{address.scheme}_proxy", "all_proxy"
    if not any(name.lower() in names for name in os.environ):
        return None
    from urllib.request import getproxies, proxy_bypass

    proxies = getproxies()
    proxy = proxies.get(address.scheme) or proxies.get("all")
    if proxy is None or proxy_bypass(address.hostname or ""):
        return None
    return urlsplit(proxy if "//" in proxy else f"//{proxy}")


def _login(proxy: SplitResult | None) -> dict[str, str]:
    if proxy is None or proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": "Basic " + b64encode(pair.encode()).decode()}
