"""Connections to the platform and to its storage: kept, shared by all threads, and never waited for without end.

Also what stands in for the `requests` session of the SDK: that one knows no
timeouts, follows redirects with another method, prefers `~/.netrc` to the
token, and costs twice the processor time of a request.
"""

from __future__ import annotations

import json as jsons
import os
import threading
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3 import BaseHTTPResponse, PoolManager, ProxyManager, Timeout
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from craftsync.stores.craftai.errors import unreachable

TIMEOUT = (10.0, 60.0)
"""Seconds for a connection, and for each wait for bytes."""
CONNECTIONS = 32


class Connections:
    """Sends requests and hands out their answers; redirects are answers, and nothing is retried."""

    def __init__(self, location: str) -> None:
        self._location = location
        self._lock = threading.Lock()
        self._pools: dict[tuple[str, str], PoolManager] = {}

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Iterable[bytes] | None,
        timeout: tuple[float, float],
        *,
        whole: bool = False,
    ) -> BaseHTTPResponse:
        """Send a request; with `whole`, its answer is read and decoded. Raises `StoreUnavailable`."""
        try:
            return self._pool(url).request(
                method,
                url,
                body=body,
                headers=headers,
                preload_content=whole,
                decode_content=whole,
                redirect=False,
                retries=False,
                timeout=Timeout(connect=timeout[0], read=timeout[1]),
            )
        except (NewConnectionError, ConnectTimeoutError) as error:
            raise unreachable(self._location, error, sent=False) from error
        except (HTTPError, OSError) as error:
            raise unreachable(self._location, error, sent=True) from error

    def close(self) -> None:
        for pool in self._pools.values():
            pool.clear()

    def _pool(self, url: str) -> PoolManager:
        parts = urlsplit(url)
        place = parts.hostname or "", parts.scheme
        with self._lock:
            if place not in self._pools:
                self._pools[place] = _new_pool(*place)
            return self._pools[place]


def _new_pool(host: str, scheme: str) -> PoolManager:
    """Return connections to a host, through the proxy the environment names for it.

    Servers have to be vouched for as the SDK would have it.
    """
    named = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    authorities = named or DEFAULT_CA_BUNDLE_PATH
    proxies = getproxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    if proxy is None or proxy_bypass(host):
        return PoolManager(maxsize=CONNECTIONS, ca_certs=authorities)
    url = proxy if "//" in proxy else f"http://{proxy}"
    return ProxyManager(url, maxsize=CONNECTIONS, ca_certs=authorities)


class Answer:
    """An answer in the form the SDK reads it (craft-ai-sdk 0.74.7, shared/request_response_handler.py)."""

    def __init__(self, response: BaseHTTPResponse) -> None:
        self.status_code = response.status
        self.headers = response.headers
        self.content = response.data

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
        self._headers = {"Accept-Encoding": "gzip, deflate", **headers}
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
        timeout: tuple[float, float] = TIMEOUT,
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
        answer = Answer(self._connections.send(method, target, sent, body, timeout, whole=True))
        self._here.last = answer
        return answer
