"""Connections to the platform and to its storage: kept, shared by all threads, and never waited for without end.

Also what stands in for the `requests` session of the SDK: that one knows no
timeouts, follows redirects with another method, prefers `~/.netrc` to the
token, and costs twice the processor time of a request.
"""

from __future__ import annotations

import gzip
import json as jsons
import os
import threading
import zlib
from collections.abc import Iterable, Mapping
from http.client import HTTPException
from ssl import SSLContext, create_default_context
from typing import Any
from urllib.parse import SplitResult, urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3 import BaseHTTPResponse, PoolManager, ProxyManager, Timeout
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from craftsync.stores.craftai.direct import Direct, DirectAnswer, NotConnected
from craftsync.stores.craftai.errors import unreachable

TIMEOUT = (10.0, 60.0)
"""Seconds for a connection, and for each wait for bytes."""
CONNECTIONS = 32
TRANSPORT_ERRORS = (HTTPError, HTTPException, OSError)
"""What a request or the reading of its answer may raise."""

Response = DirectAnswer | BaseHTTPResponse
"""An answer: `status`, `headers`, `read`, and `length_remaining` until `release_conn` or `close`."""


class Connections:
    """Sends requests and hands out their answers; redirects are answers, and nothing is retried."""

    def __init__(self, location: str) -> None:
        self._location = location
        self._lock = threading.Lock()
        self._direct: dict[str, Direct] = {}
        self._proxied: dict[str, PoolManager] = {}

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Iterable[bytes] | None,
        timeout: tuple[float, float],
    ) -> Response:
        """Send a request; its answer is still to be read. Raises `StoreUnavailable`."""
        parts = urlsplit(url)
        place = f"{parts.scheme}://{parts.netloc}"
        if place not in self._direct and place not in self._proxied:
            self._find_way(place, parts)
        try:
            if place in self._direct:
                target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
                return self._direct[place].request(method, target, headers, body, timeout)
            return self._proxied[place].request(
                method,
                url,
                body=body,
                headers=headers,
                preload_content=False,
                decode_content=False,
                redirect=False,
                retries=False,
                timeout=Timeout(connect=timeout[0], read=timeout[1]),
            )
        except (NotConnected, NewConnectionError, ConnectTimeoutError) as error:
            raise unreachable(self._location, error, sent=False) from error
        except TRANSPORT_ERRORS as error:
            raise unreachable(self._location, error, sent=True) from error

    def whole(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout: tuple[float, float],
    ) -> Answer:
        """Send a request and return its answer with all of its body."""
        response = self.send(method, url, {**headers, "Accept-Encoding": "gzip"}, body, timeout)
        try:
            content = response.read()
            if response.headers.get("Content-Encoding", "").lower() == "gzip":
                content = gzip.decompress(content)
        except (*TRANSPORT_ERRORS, EOFError, zlib.error) as error:
            response.close()
            raise unreachable(self._location, error, sent=True) from error
        response.release_conn()
        return Answer(response.status, response.headers, content)

    def close(self) -> None:
        for direct in self._direct.values():
            direct.close()
        for proxied in self._proxied.values():
            proxied.clear()

    def _find_way(self, place: str, parts: SplitResult) -> None:
        """Find out how a host is reached: directly, or through the proxy the environment names for it."""
        host = parts.hostname or ""
        proxies = getproxies()
        proxy = proxies.get(parts.scheme) or proxies.get("all")
        with self._lock:
            if proxy is None or proxy_bypass(host):
                context = _encryption() if parts.scheme == "https" else None
                self._direct.setdefault(place, Direct(parts, CONNECTIONS, context))
            else:
                url = proxy if "//" in proxy else f"http://{proxy}"
                manager = ProxyManager(url, maxsize=CONNECTIONS, ca_certs=_authorities())
                self._proxied.setdefault(place, manager)


def _authorities() -> str:
    """Return the file, or folder, with those who vouch for servers, as the SDK would have it."""
    named = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    return named or DEFAULT_CA_BUNDLE_PATH


def _encryption() -> SSLContext:
    authorities = _authorities()
    if os.path.isdir(authorities):
        return create_default_context(capath=authorities)
    return create_default_context(cafile=authorities)


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


class SdkTransport:
    """Stands in for the SDK's session. `last` is the answer to this thread's last request, `None` if there was none."""

    def __init__(self, connections: Connections, headers: Mapping[str, str]) -> None:
        self._connections = connections
        self._headers = headers
        self._here = threading.local()

    @property
    def last(self) -> Answer | None:
        return getattr(self._here, "last", None)

    def forget(self) -> None:
        self._here.last = None

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
        body = None
        if json is not None:
            sent["Content-Type"] = "application/json"
            body = jsons.dumps(json).encode()
        elif data:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
            body = urlencode(data).encode()
        target = f"{url}?{urlencode(params)}" if params else url
        answer = self._connections.whole(method, target, sent, body, timeout or TIMEOUT)
        self._here.last = answer
        return answer
