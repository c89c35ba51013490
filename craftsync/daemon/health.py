"""The daemon's HTTP endpoint: /healthz (it is alive), /readyz (it keeps all folders in sync) and /metrics.

It listens at `metrics_addr`; `metrics.py` makes the content of /metrics.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from socketserver import ThreadingMixIn
from threading import Lock, Thread
from typing import Any, NamedTuple
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from craftsync.daemon.metrics import Status, scrape_app

Address = tuple[str, int]
"""Host and port; port 0 is any free port."""

_SILENT_SECONDS = 10.0
"""How long a client may be silent."""
_MOST_CLIENTS = 32

_log = logging.getLogger(__name__)


class Health(NamedTuple):
    """The health checks, called for each request from any thread.

    `is_alive` returns whether the daemon's main loop runs, `unready` why folders
    are not kept in sync, one line each; an empty list means ready.
    """

    is_alive: Callable[[], bool]
    unready: Callable[[], Sequence[str]]


class Endpoint:
    """Serves GET /metrics, /healthz and /readyz in threads of its own until closed."""

    def __init__(
        self, wanted: Address, statuses: Callable[[], Sequence[Status]], health: Health
    ) -> None:
        """Raises `OSError` if it cannot listen on the address."""
        self.wanted = wanted
        self._server = _Server(wanted)
        self._server.set_app(_app(statuses, health))
        Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    @property
    def url(self) -> str:
        host = f"[{self.wanted[0]}]" if ":" in self.wanted[0] else self.wanted[0]
        return f"http://{host}:{self._server.server_port}/metrics"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingMixIn, WSGIServer):
    """Serves each client in a thread; disconnects the oldest if there are too many."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 4 * _MOST_CLIENTS
    """The most clients that may connect at once; any further one retries only after a second."""

    def __init__(self, address: Address) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._lock = Lock()
        self._clients: dict[Any, None] = {}
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # WSGIServer's own looks up the host name, which may take long.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = self.socket.getsockname()[:2]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._clients[request] = None
            oldest = next(iter(self._clients)) if len(self._clients) > _MOST_CLIENTS else None
        if oldest is not None:
            with suppress(OSError):
                oldest.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._clients.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        _log.debug("a metrics request failed", exc_info=True)


class _Handler(WSGIRequestHandler):
    timeout = _SILENT_SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: a request arrives every few seconds."""


def _app(
    statuses: Callable[[], Sequence[Status]], health: Health
) -> Callable[..., Iterable[bytes]]:
    figures = scrape_app(statuses)

    def answer(environment: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environment["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _text(start, "405 Method Not Allowed", "use GET")
        match environment["PATH_INFO"]:
            case "/metrics":
                return list(figures({**environment, "REQUEST_METHOD": "GET"}, start))
            case "/healthz":
                fine = health.is_alive()
                return _text(start, _code(fine), "ok" if fine else "the main loop hangs")
            case "/readyz":
                unready = health.unready()
                return _text(start, _code(not unready), *(unready or ["ready"]))
        return _text(start, "404 Not Found", "use /metrics, /healthz or /readyz")

    def app(environment: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        body = answer(environment, start)
        return [b""] if environment["REQUEST_METHOD"] == "HEAD" else body

    return app


def _code(is_fine: bool) -> str:
    return "200 OK" if is_fine else "503 Service Unavailable"


def _text(start: Callable[..., Any], code: str, *lines: str) -> list[bytes]:
    start(code, [("Content-Type", "text/plain; charset=utf-8"), ("Allow", "GET, HEAD")])
    return ["".join(f"{line}\n" for line in lines).encode(errors="replace")]
