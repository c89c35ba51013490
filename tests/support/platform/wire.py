"""Requests and answers of the faulty platform, and the HTTP server that carries them.

Knows nothing of what the platform means by them. An answer may be cut short,
sent a byte at a time, or never come.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

LONGEST_WAIT_SECONDS = 60.0


class Request(NamedTuple):
    """A request as it arrived. `endpoint` is the platform's own word for what it is."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    endpoint: str = ""

    @property
    def path(self) -> str:
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))


class Answer(NamedTuple):
    """What is sent back. With `cut` only so many bytes of the body; `drip` sends them one by one."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    cut: int | None = None
    drip: bool = False


Handle = Callable[[Request], Answer | None]
"""What becomes of a request; `None` closes the connection without an answer."""


class Gate:
    """What requests that hang wait for: opened when the platform closes, so that no thread stays behind."""

    def __init__(self) -> None:
        self._opened = threading.Event()

    def wait(self, seconds: float = LONGEST_WAIT_SECONDS) -> bool:
        return self._opened.wait(seconds)

    def open(self) -> None:
        self._opened.set()


@contextmanager
def listening(
    handle: Handle, gate: Gate, accepted: Callable[[], None], now: Callable[[], float]
) -> Iterator[str]:
    """Serve on a free port of the loopback interface; yields the address.

    `accepted` hears of each connection, `now` is the time that answers bear.
    """

    class Handler(_Handler):
        handle_request = staticmethod(handle)
        drip_gate = gate

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string(now() if timestamp is None else timestamp)

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def get_request(self) -> tuple[Any, Any]:
            accepted()
            return super().get_request()

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that hangs up is what many tests are about."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    handle_request: Handle
    drip_gate: Gate

    def handle_any(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        answer = self.handle_request(Request(self.command, self.path, headers, body))
        if answer is None:
            self.close_connection = True
        else:
            self._send(answer)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if answer.drip:
            self._drip(answer.body)
        else:
            self.wfile.write(answer.body[: answer.cut])
        self.close_connection = self.close_connection or answer.cut is not None

    def _drip(self, body: bytes) -> None:
        """Send a byte every tenth of a second, so that a timeout between two bytes never strikes."""
        for byte in body:
            self.wfile.write(bytes([byte]))
            if self.drip_gate.wait(0.1):
                self.close_connection = True
                return

    def log_message(self, format: str, *args: object) -> None:
        """Tests say what they found themselves."""
