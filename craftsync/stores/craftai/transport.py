"""Requests to the platform and to its storage, on connections that are kept and never waited for without end.

Also what stands in for the `requests` session of the SDK: that one knows no
timeouts, follows redirects with another method, prefers `~/.netrc` to the
token, and costs twice the processor time of a request.
"""

from __future__ import annotations

import gzip
import json as jsons
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from ssl import SSLContext
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from craftsync.errors import Interrupted
from craftsync.net.hosts import Authorities, Host, NotConnected, trusting
from craftsync.net.http import Buffer, Response
from craftsync.stores.craftai.errors import unreachable

TIMEOUT = (10.0, 60.0)
"""Seconds for a connection, and for each wait for bytes."""
CONNECTIONS = 256
"""So many are kept for each host, at most: one for each transfer that can be under way."""

_NOT_IN_A_TARGET = re.compile("[^!-~]")
_SAFE = "!#$%&'()*+,/:;=?@[]~"
"""Punctuation that is left as it is in a target; a percent sign is one of an escape already."""


class Connections:
    """Sends requests and hands out their answers; redirects are answers, and nothing is retried.

    `configured`: the names of the hosts were written by a person, and not by the platform.
    """

    def __init__(self, location: str, *, configured: bool = False) -> None:
        self._location = location
        self._configured = configured
        self._hosts: dict[str, Host] = {}
        self._cancelled = False

    @contextmanager
    def sent(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Iterable[Buffer] = b"",
        timeout: tuple[float, float] = TIMEOUT,
    ) -> Iterator[Response]:
        """Send a request and hand out its answer, the body of which is still to be read.

        A connection with bytes left over is closed. Raises `StoreUnavailable`
        for a request without an answer; what breaks off later reaches the
        reader as `OSError`.
        """
        parts = urlsplit(url)
        place = f"{parts.scheme}://{parts.netloc}"
        host = self._hosts.get(place)
        if host is None:
            host = self._hosts.setdefault(place, Host(urlsplit(place), CONNECTIONS, _encryption))
            if self._cancelled:
                raise Interrupted
        target = _escaped(
            f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        )
        connect, patience = timeout
        told = {"host": parts.netloc.rpartition("@")[2], **headers}
        try:
            response = host.request(method, target, told, body, patience, connect)
        except OSError as error:
            sent = not isinstance(error, NotConnected)
            raise unreachable(
                self._location, error, sent=sent, configured=self._configured
            ) from error
        try:
            yield response
        finally:
            host.take_back(response)

    def whole(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        timeout: tuple[float, float] = TIMEOUT,
    ) -> Answer:
        """Send a request and return its answer with all of its body."""
        packed = {**headers, "Accept-Encoding": "gzip"}
        with self.sent(method, url, packed, body, timeout) as response:
            try:
                content = response.read()
                if response.headers.get("content-encoding", "").lower() == "gzip":
                    content = gzip.decompress(content)
            except (OSError, EOFError, zlib.error) as error:
                raise unreachable(self._location, error, sent=True) from error
            return Answer(response.status, response.headers, content)

    def cancel(self) -> None:
        self._cancelled = True
        for host in list(self._hosts.values()):
            host.cancel()

    def renew(self) -> None:
        self._cancelled = False
        for host in list(self._hosts.values()):
            host.renew()

    def close(self) -> None:
        for host in self._hosts.values():
            host.close()


def _escaped(target: str) -> str:
    """Return what may stand in a request for a path and query that somebody else may not have encoded."""
    return quote(target, safe=_SAFE) if _NOT_IN_A_TARGET.search(target) else target


def _encryption() -> SSLContext:
    """Return the context that trusts those who vouch for servers, as the SDK would have it."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if path := os.environ.get(name):
            return trusting(Authorities(path, name))
    return trusting(Authorities(DEFAULT_CA_BUNDLE_PATH, "requests"))


class Answer:
    """An answer in the form the SDK reads it (craft-ai-sdk 0.74.7, shared/request_response_handler.py)."""

    def __init__(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        self.status_code = status
        self.headers = headers
        self.content = content

    @property
    def text(self) -> str:
        return self.content.decode(errors="replace")

    def json(self) -> Any:
        """Return what the body holds; raises `ValueError` when that is no JSON."""
        return jsons.loads(self.content)


_last: ContextVar[Answer | None] = ContextVar("last", default=None)


class SdkTransport:
    """Stands in for the SDK's session. `last` is the answer to this task's last request, `None` if there was none."""

    def __init__(self, connections: Connections, headers: Mapping[str, str]) -> None:
        self._connections = connections
        self._headers = headers

    @property
    def last(self) -> Answer | None:
        return _last.get()

    def forget(self) -> None:
        _last.set(None)

    def get(self, url: str, **request: Any) -> Answer:
        return self._send("GET", url, **request)

    def post(self, url: str, **request: Any) -> Answer:
        return self._send("POST", url, **request)

    def delete(self, url: str, **request: Any) -> Answer:
        return self._send("DELETE", url, **request)

    def _send(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        data: Mapping[str, str] | None = None,
        json: Any = None,
        files: None = None,
        headers: Mapping[str, str] | None = None,
        timeout: tuple[float, float] | None = None,
    ) -> Answer:
        """Send a request of the API; bodies are encoded as `requests` does it."""
        sent = {**self._headers, **(headers or {})}
        body = b""
        if json is not None:
            sent["Content-Type"] = "application/json"
            body = jsons.dumps(json).encode()
        elif data:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
            body = urlencode(data).encode()
        target = f"{url}?{urlencode(params)}" if params else url
        answer = self._connections.whole(method, target, sent, body, timeout or TIMEOUT)
        _last.set(answer)
        return answer
