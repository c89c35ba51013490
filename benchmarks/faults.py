"""A proxy on loopback that lets a share of the requests to an S3 server go wrong, in every way they do.

Which requests, and how, is a matter of chance, seeded. It knows nothing of S3
but the two errors it answers with.
"""

from __future__ import annotations

import http.client
import os
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from threading import Event
from typing import Any
from urllib.parse import urlsplit

TIMEOUT = 60.0
LONGEST_DELAY = 3.0
RESET = struct.pack("ii", 1, 0)
"""For SO_LINGER: what is under way is dropped, and the other end is told so."""
HOP_BY_HOP = {"connection", "transfer-encoding", "content-length"}


class Fault(Enum):
    """What can become of a request."""

    ERROR = "error 500"
    SLOW_DOWN = "error 503"
    REFUSED = "reset before it was carried out"
    LOST = "reset after it was carried out"
    CUT = "answer cut short"
    DELAYED = "delayed"


ANSWERS = {Fault.ERROR: (500, b"InternalError"), Fault.SLOW_DOWN: (503, b"SlowDown")}


class Faults:
    """Chance, and the count of what it did. May be asked by any thread."""

    def __init__(self, share: float, seed: int) -> None:
        self.share = share
        self.requests = 0
        self.made: Counter[Fault] = Counter()
        self.unanswered: list[str] = []
        """What was carried out and whose answer did not arrive, or not whole: methods and targets."""
        self._random = Random(seed)
        self._lock = threading.Lock()

    def draw(self) -> Fault | None:
        """Return what becomes of the next request; `None` for most of them."""
        with self._lock:
            self.requests += 1
            if self._random.random() >= self.share:
                return None
            fault = self._random.choice(list(Fault))
            self.made[fault] += 1
            return fault

    def delay(self) -> float:
        """Return seconds."""
        with self._lock:
            return self._random.uniform(0, LONGEST_DELAY)


@contextmanager
def faulty(endpoint: str, faults: Faults) -> Iterator[str]:
    """Put a proxy before the server at `endpoint`; yields the URL to be used in its place."""

    class Handler(_Handler):
        chance = faults
        behind = urlsplit(endpoint).netloc

    server = _Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is what is measured here."""


class _Handler(BaseHTTPRequestHandler):
    """Serves one connection; each request has a fresh one of its own to the server behind."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    chance: Faults
    behind: str

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        fault = self.chance.draw()
        if fault in ANSWERS:
            self._refuse(*ANSWERS[fault])
            return
        if fault is Fault.REFUSED:
            self._reset()
            return
        if fault is Fault.DELAYED:
            Event().wait(self.chance.delay())
        response, content = self._carried_out(body)
        if fault in (Fault.LOST, Fault.CUT):
            self.chance.unanswered.append(f"{self.command} {self.path}")
        if fault is Fault.LOST:
            self._reset()
        else:
            self._answer(response, content, cut=fault is Fault.CUT)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any

    def _carried_out(self, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        server = http.client.HTTPConnection(self.behind, timeout=TIMEOUT)
        try:
            server.request(self.command, self.path, body, dict(self.headers))
            response = server.getresponse()
            return response, response.read()
        finally:
            server.close()

    def _refuse(self, status: int, code: bytes) -> None:
        content = b"<Error><Code>%s</Code><Message>by chance</Message></Error>" % code
        self.send_response_only(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        os.close(self.connection.detach())
        self.close_connection = True

    def _answer(self, response: http.client.HTTPResponse, content: bytes, *, cut: bool) -> None:
        """Pass the answer on. One without a body to cut gets no further than its first line."""
        self.send_response_only(response.status)
        for name, value in response.getheaders():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        length = response.getheader("content-length") if self.command == "HEAD" else len(content)
        if length is not None and response.status != http.HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(length))
        if cut and not content:
            self._reset()
            return
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)
        self.close_connection = cut

    def log_message(self, format: str, *args: object) -> None:
        """What went wrong is counted."""
