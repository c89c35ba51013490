"""HTTP/1.1 over one connection. While a request waits, other tasks of its thread run.

http.client blocks inside its calls, so each request would need a thread, and it parses response
headers as e-mail headers. Here a request waits for its socket through `waiting.until_ready`, which
one thread does for many requests. http.client still opens the connections, with proxy and TLS
(`hosts`). The grammar is that of RFC 9112."""

from __future__ import annotations

import re
import select
import socket
import ssl
from collections.abc import Iterable, Mapping
from contextlib import suppress

from craftsync.net.waiting import after_fork, until_ready

_HEAD_END = b"\r\n\r\n"
_MAX_HEAD = 65_536
_PIECE = 65_536
_LARGE_PIECE = 256 * 1024
"""For each larger piece the allocator would map and unmap memory, which costs more than more reads."""
_RECORD = 16 * 1024
"""A read of a TLS connection returns one record of up to this many bytes (RFC 8446, section 5.1)."""
_MAX_WITH_HEAD = 64 * 1024
"""Bodies up to this many bytes are sent with the head, in one system call."""

_STATUS = re.compile(r"HTTP/1\.([01]) ([1-5]\d\d)(?: |$)")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;|$)")
_NO_BODY = {204, 304}
_MAX_UNSENT = 256 * 1024
"""Unsent bytes that the kernel may buffer. They count as transferred; by default it would buffer megabytes."""

Buffer = bytes | memoryview

_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class InvalidResponse(OSError):
    """The response is not valid HTTP/1.1, or ended early."""


class Connection:
    """A connected socket that serves one request after another, for one task at a time.

    Raises `TimeoutError` if a wait for the server exceeds the request's timeout. All errors are
    `OSError`s; close the connection after any of them.
    """

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        with suppress(OSError):  # Not a TCP socket.
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _MAX_UNSENT)
        self._socket = connected
        self._is_tls = isinstance(connected, ssl.SSLSocket)
        self._readable = select.poll()
        self._readable.register(connected, select.POLLIN)
        self._failed: OSError | None = None
        """The error that the next read raises."""
        self._timeout = 0.0
        self.received = bytearray()
        after_fork(self, Connection.close)

    def has_no_data(self) -> bool:
        """Return whether an idle connection is reusable: not closed by the server, and without unread data."""
        return not self.received and not self._readable.poll(0)

    def request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | Iterable[Buffer],
        timeout: float,
    ) -> Response:
        """Send a request and return its response, with the body unread.

        `body` is iterated as the socket accepts data. Unless it is `bytes`, `headers` must contain
        `content-length`. Raises `ValueError` for an invalid header or target.
        """
        self._timeout = timeout
        head = _head(method, target, headers, body)
        try:
            self._send_all(head, body)
        except (BrokenPipeError, ConnectionResetError):
            # A server that refuses a request may respond and close before it has read all of it. A
            # response that has not arrived by now never will.
            if not self._readable.poll(0):
                raise
        until_ready(self._socket.fileno(), select.POLLIN, timeout)
        return Response(self, method)

    def receive(self, most: int) -> bytes:
        """Return up to `most` bytes as soon as any arrive; `b""` if the connection is closed."""
        at_once = _RECORD if self._is_tls else most
        if self._failed is not None:
            raise self._failed
        while True:
            try:
                piece = self._socket.recv(min(at_once, most))
            except _WOULD_BLOCK as reason:
                self._wait(reason, select.POLLIN)
            else:
                return self._with_more(piece, most) if self._is_tls else piece

    def _with_more(self, piece: bytes, most: int) -> bytes:
        """Return a piece with the bytes that have arrived after it, up to `most` bytes in all.

        Otherwise each TLS record would be counted, hashed and written on its own.
        """
        pieces, left = [piece], most - len(piece)
        try:
            while piece and left > 0:
                piece = self._socket.recv(min(_RECORD, left))
                pieces.append(piece)
                left -= len(piece)
        except _WOULD_BLOCK:
            """Nothing more has arrived."""
        except OSError as error:
            # The socket raises it only once: the next read would look like a closed connection.
            self._failed = error
        return b"".join(pieces)

    def close(self) -> None:
        self._socket.close()

    def cut(self) -> None:
        """Shut the socket down, which ends the request under way. Thread-safe."""
        with suppress(OSError):
            # SSLSocket.shutdown would drop TLS state that another thread is using.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def _send_all(self, head: bytes, body: bytes | Iterable[Buffer]) -> None:
        if not isinstance(body, bytes):
            self._send(head)
            for piece in body:
                self._send(piece)
        elif len(body) <= _MAX_WITH_HEAD:
            self._send(head + body)
        else:
            self._send(head)
            self._send(body)

    def _send(self, content: Buffer) -> None:
        left = memoryview(content)
        while left:
            try:
                left = left[self._socket.send(left) :]
            except _WOULD_BLOCK as reason:
                self._wait(reason, select.POLLOUT)

    def _wait(self, reason: BaseException, events: int) -> None:
        if isinstance(reason, ssl.SSLWantReadError):
            events = select.POLLIN
        elif isinstance(reason, ssl.SSLWantWriteError):
            events = select.POLLOUT
        until_ready(self._socket.fileno(), events, self._timeout)


class Response:
    """A response: its head, and its body to be read. Header names are lower-case."""

    def __init__(self, connection: Connection, method: str) -> None:
        self.connection = connection
        self.headers: dict[str, str] = {}
        self.status = 100
        while 100 <= self.status < 200:
            self._read_head()
        self.left = self._length(method)
        """Bytes of the body still to come; `None`, until the end, if the length is unknown."""
        self._is_chunked = self.left is None and "transfer-encoding" in self.headers
        self._chunk = 0

    @property
    def is_complete(self) -> bool:
        """Whether the body was read to its end and the connection can be reused."""
        return self.left == 0 and not self._closes

    def read(self, most: int | None = None) -> bytes:
        """Return up to `most` bytes of the body, by default all the rest; `b""` at the end.

        Raises `InvalidResponse` if the body ends early.
        """
        if most is not None:
            return self._next(most)
        whole = self._next(_LARGE_PIECE)
        if self.left == 0:
            return whole
        pieces = [whole]
        while piece := self._next(_LARGE_PIECE):
            pieces.append(piece)
        return b"".join(pieces)

    def _next(self, most: int) -> bytes:
        if self.left == 0:
            return b""
        if self._is_chunked:
            return self._next_chunked(most)
        piece = self._take(most if self.left is None else min(most, self.left))
        if self.left is not None:
            if not piece:
                raise InvalidResponse(f"the response ended {self.left} bytes early")
            self.left -= len(piece)
        elif not piece:
            self.left = 0
        return piece

    def _next_chunked(self, most: int) -> bytes:
        if not self._chunk:
            size = _SIZE.match(self._read_line())
            if size is None:
                raise InvalidResponse("the response has a chunk without a size")
            self._chunk = int(size[1], 16)
            if not self._chunk:
                while self._read_line():
                    """Skip the trailers."""
                self.left = 0
                return b""
        piece = self._take(min(most, self._chunk))
        self._chunk -= len(piece)
        if not piece or (not self._chunk and self._read_line()):
            raise InvalidResponse("the response ended within a chunk")
        return piece

    def _take(self, most: int) -> bytes:
        """Return buffered bytes, or else the next bytes that arrive."""
        received = self.connection.received
        if not received:
            return self.connection.receive(min(max(most, 1), _LARGE_PIECE))
        piece = bytes(received[:most])
        del received[:most]
        return piece

    def _read_line(self) -> bytes:
        line, _, self.connection.received = self._receive_until(b"\r\n").partition(b"\r\n")
        return bytes(line)

    def _receive_until(self, end: bytes) -> bytearray:
        """Receive until the buffer contains `end`, and return the buffer."""
        received = self.connection.received
        while end not in received:
            piece = self.connection.receive(_PIECE)
            if not piece:
                raise InvalidResponse("the connection was closed" if received else "")
            received += piece
            if len(received) > _MAX_HEAD and end not in received:
                raise InvalidResponse("the head of the response is too long")
        return received

    def _read_head(self) -> None:
        head, _, self.connection.received = self._receive_until(_HEAD_END).partition(_HEAD_END)
        first, *lines = head.decode("latin-1").split("\r\n")
        status = _STATUS.match(first)
        if status is None:
            raise InvalidResponse("the server does not speak HTTP/1.1")
        self.status = int(status[2])
        self.headers = headers = _headers(lines)
        hold = headers.get("connection", "").lower()
        self._closes = "close" in hold or (status[1] == "0" and "keep-alive" not in hold)

    def _length(self, method: str) -> int | None:
        if method == "HEAD" or self.status in _NO_BODY:
            return 0
        encoding = self.headers.get("transfer-encoding")
        if encoding is not None:
            if encoding.lower() != "chunked":
                raise InvalidResponse(f"the response has the unknown encoding {encoding!r}")
            return None
        declared = self.headers.get("content-length")
        if declared is None:
            self._closes = True
            return None
        if declared.isdecimal():
            return int(declared)
        lengths = {text.strip() for text in declared.split(",")}
        if len(lengths) != 1 or not (length := lengths.pop()).isdecimal():
            raise InvalidResponse(f"the response has the content-length {declared!r}")
        return int(length)


def _headers(lines: Iterable[str]) -> dict[str, str]:
    """Parse headers. The values of a repeated header are joined with commas (RFC 9110)."""
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name[0] in " \t" or name[-1] in " \t":
            raise InvalidResponse("the response has a malformed header")
        name, value = name.lower(), value.strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _head(
    method: str, target: str, headers: Mapping[str, str], body: bytes | Iterable[Buffer]
) -> bytes:
    """Return the head of a request, in Latin-1 as http.client sends it."""
    lines = [
        f"{method} {target} HTTP/1.1",
        *[f"{name}: {value}" for name, value in headers.items()],
    ]
    if isinstance(body, bytes) and (body or method not in ("GET", "HEAD", "DELETE")):
        lines.append(f"content-length: {len(body)}")
    text = "\r\n".join(lines)
    ends = len(lines) - 1
    if text.count("\r") != ends or text.count("\n") != ends or " " in target:
        raise ValueError(
            f"a request head cannot contain line breaks, or a target spaces: {lines!r}"
        )
    return f"{text}\r\n\r\n".encode("latin-1")
