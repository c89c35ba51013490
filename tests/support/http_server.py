"""The HTTP server under the fakes: real sockets on loopback, a thread for each connection.

Many thousands of requests of a test run end here, and dozens of servers wait
at a time. So it waits without waking up, and reads a head as lines: the
standard library's server wakes up to see whether it should end, and parses
each head as an e-mail.
"""

from __future__ import annotations

import http.client
import os
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any, BinaryIO, NamedTuple


class Head(NamedTuple):
    """The head of a request. Names of headers are in lower case."""

    method: str
    target: str
    version: str
    headers: dict[str, str]

    @property
    def keeps_connection(self) -> bool:
        wish = self.headers.get("connection", "").lower()
        return self.version == "HTTP/1.1" and wish != "close"


def read_head(stream: BinaryIO) -> Head | None:
    """Return the next head, or `None` if the client hung up."""
    words = stream.readline().decode("latin-1").split()
    if len(words) != 3:
        return None
    headers = {}
    while line := stream.readline().strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    return Head(words[0], words[1], words[2], headers)


class Connection(StreamRequestHandler):
    """Answers the requests of one connection. A kind of server says in `answer` what it makes of them."""

    disable_nagle_algorithm = True

    def handle(self) -> None:
        while (head := read_head(self.rfile)) is not None:
            if head.headers.get("expect", "").lower() == "100-continue":
                self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = self.rfile.read(int(head.headers.get("content-length", 0)))
            if not self.answer(head, body) or not head.keeps_connection:
                return

    def answer(self, head: Head, body: bytes) -> bool:
        """Answer a request; tell whether the connection stays open."""
        raise NotImplementedError

    def send(self, status: int, headers: Sequence[tuple[str, str]], body: bytes = b"") -> None:
        """Send an answer, or the beginning of one. Its headers are sent as they are."""
        lines = [f"HTTP/1.1 {status} {http.client.responses.get(status, '')}"]
        lines += [f"{name}: {value}" for name, value in headers]
        self.wfile.write("\r\n".join([*lines, "\r\n"]).encode("latin-1") + body)

    def reset(self) -> None:
        """Close the connection so that the other end is told of it as an error."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())


class _Server(ThreadingTCPServer):
    """Prints nothing of clients that are gone."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 512
    """Clients that come at once; with fewer places some wait a second until they come again."""

    def accept(self, accepted: Callable[[], None]) -> None:
        """Take connections until the listening socket is shut down."""
        while True:
            try:
                connection, address = self.get_request()
            except OSError:
                return
            accepted()
            self.process_request(connection, address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def listening(
    connection: type[Connection], accepted: Callable[[], None] = lambda: None
) -> Iterator[str]:
    """Serve on a free port of the loopback interface until the end of the block; yields the address.

    `accepted` hears of each connection.
    """
    with _Server(("127.0.0.1", 0), connection) as server:
        thread = threading.Thread(target=server.accept, args=(accepted,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.socket.shutdown(socket.SHUT_RDWR)
            thread.join()
