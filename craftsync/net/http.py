"""HTTP/1.1 over one connection: a request goes out, its answer comes in, and other tasks go on meanwhile.

The standard library's client waits inside its calls, so that each request on
its way needs a thread, and it reads an answer's headers as those of an e-mail.
Here a wait is a wait for a socket (`waiting.until_ready`), which one thread
does for many. Making connections, through a proxy or encrypted, is left to
that client. The grammar is that of RFC 9112."""

from __future__ import annotations

import re
import select
import socket
import ssl
from collections.abc import Iterable, Mapping
from contextlib import suppress

from craftsync.net.waiting import in_children, until_ready

_HEAD_END = b"\r\n\r\n"
_LONGEST_HEAD = 65_536
_PIECE = 65_536
_LARGE_PIECE = 256 * 1024
"""Larger blocks are mapped and unmapped for each piece, which costs more than asking more often."""
_ONE_SEND = 64 * 1024
"""Bytes of a body that are sent together with the head: one system call in place of two."""

_STATUS = re.compile(r"HTTP/1\.([01]) ([1-5]\d\d)(?: |$)")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;|$)")
_NO_BODY = {204, 304}
_UNSENT = 256 * 1024
"""Bytes the kernel may hold that it has not sent: what it takes counts as moved, and it would take megabytes."""

Buffer = bytes | memoryview

_AGAIN = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class InvalidResponse(OSError):
    """What came is no answer in HTTP/1.1, or ended before its end."""


class Connection:
    """A connected socket that takes one request after the other; used by one task at a time.

    `timeout` is how many seconds each wait for the other side may last; after
    that `TimeoutError` is raised. All errors are `OSError`s, and a connection
    is of no use after one.
    """

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        with suppress(OSError):  # What is no TCP has no such thing.
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
        self._socket = connected
        self._news = select.poll()
        self._news.register(connected, select.POLLIN)
        self._timeout = 0.0
        self.received = bytearray()
        in_children(self, Connection.close)

    def is_quiet(self) -> bool:
        """Tell whether nothing has arrived on an idle connection: neither its end, nor what nobody asked for."""
        return not self.received and not self._news.poll(0)

    def request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | Iterable[Buffer],
        timeout: float,
    ) -> Response:
        """Send a request and return its answer, the body of which is still to be read.

        The next piece of a body is asked for when the socket has taken the one before.

        `headers` hold `content-length` where the body is more than bytes. Raises
        `ValueError` for what no request can hold.
        """
        self._timeout = timeout
        head = _head(method, target, headers, body)
        try:
            self._send_all(head, body)
        except (BrokenPipeError, ConnectionResetError):
            # Whoever refuses a request may hang up before having read all of it, and say why;
            # what has not arrived by then never does.
            if not self._news.poll(0):
                raise
        until_ready(self._socket.fileno(), select.POLLIN, timeout)
        return Response(self, method)

    def receive(self, most: int) -> bytes:
        """Return up to `most` bytes as soon as there are any; `b""` at the end of the connection."""
        while True:
            try:
                return self._socket.recv(most)
            except _AGAIN as reason:
                self._wait(reason, select.POLLIN)

    def close(self) -> None:
        self._socket.close()

    def cut(self) -> None:
        """End the connection for whoever waits for it; any thread may call it."""
        with suppress(OSError):
            # That of an encrypted socket would take its state from under the thread that uses it.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def _send_all(self, head: bytes, body: bytes | Iterable[Buffer]) -> None:
        if not isinstance(body, bytes):
            self._send(head)
            for piece in body:
                self._send(piece)
        elif len(body) <= _ONE_SEND:
            self._send(head + body)
        else:
            self._send(head)
            self._send(body)

    def _send(self, content: Buffer) -> None:
        left = memoryview(content)
        while left:
            try:
                left = left[self._socket.send(left) :]
            except _AGAIN as reason:
                self._wait(reason, select.POLLOUT)

    def _wait(self, reason: BaseException, events: int) -> None:
        if isinstance(reason, ssl.SSLWantReadError):
            events = select.POLLIN
        elif isinstance(reason, ssl.SSLWantWriteError):
            events = select.POLLOUT
        until_ready(self._socket.fileno(), events, self._timeout)


class Response:
    """An answer: its head, and its body as it arrives. Header names are lower-case."""

    def __init__(self, connection: Connection, method: str) -> None:
        self.connection = connection
        self.headers: dict[str, str] = {}
        self.status = 100
        while 100 <= self.status < 200:
            self._read_head()
        self.left = self._length(method)
        """Bytes still to come, `None` where only the end will tell."""
        self._is_chunked = self.left is None and "transfer-encoding" in self.headers
        self._chunk = 0

    @property
    def is_complete(self) -> bool:
        """Whether the body was read to its end, so that the connection may take another request."""
        return self.left == 0 and not self._closes

    def read(self, most: int | None = None) -> bytes:
        """Return the next bytes of the body, at most so many, or all of the rest; `b""` at its end.

        Raises `InvalidResponse` for a body that ends early.
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
                raise InvalidResponse(f"the answer ended {self.left} bytes before its end")
            self.left -= len(piece)
        elif not piece:
            self.left = 0
        return piece

    def _next_chunked(self, most: int) -> bytes:
        if not self._chunk:
            size = _SIZE.match(self._line())
            if size is None:
                raise InvalidResponse("the answer came in chunks of no size")
            self._chunk = int(size[1], 16)
            if not self._chunk:
                while self._line():
                    """Trailers say nothing that is needed here."""
                self.left = 0
                return b""
        piece = self._take(min(most, self._chunk))
        self._chunk -= len(piece)
        if not piece or (not self._chunk and self._line()):
            raise InvalidResponse("the answer ended within a chunk")
        return piece

    def _take(self, most: int) -> bytes:
        """Return what has arrived already, or else the next that does."""
        received = self.connection.received
        if not received:
            return self.connection.receive(min(max(most, 1), _LARGE_PIECE))
        piece = bytes(received[:most])
        del received[:most]
        return piece

    def _line(self) -> bytes:
        line, _, self.connection.received = self._through(b"\r\n").partition(b"\r\n")
        return bytes(line)

    def _through(self, end: bytes) -> bytearray:
        """Return all that was received once that holds `end`."""
        received = self.connection.received
        while end not in received:
            piece = self.connection.receive(_PIECE)
            if not piece:
                raise InvalidResponse("the connection was closed" if received else "")
            received += piece
            if len(received) > _LONGEST_HEAD and end not in received:
                raise InvalidResponse("the head of the answer has no end")
        return received

    def _read_head(self) -> None:
        head, _, self.connection.received = self._through(_HEAD_END).partition(_HEAD_END)
        first, *lines = head.decode("latin-1").split("\r\n")
        status = _STATUS.match(first)
        if status is None:
            raise InvalidResponse("what answers does not speak HTTP/1.1")
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
                raise InvalidResponse(f"the answer came in the encoding {encoding!r}")
            return None
        told = self.headers.get("content-length")
        if told is None:
            self._closes = True
            return None
        if told.isdecimal():
            return int(told)
        lengths = {text.strip() for text in told.split(",")}
        if len(lengths) != 1 or not (length := lengths.pop()).isdecimal():
            raise InvalidResponse(f"the length of the answer is {told!r}")
        return int(length)


def _headers(lines: Iterable[str]) -> dict[str, str]:
    """Read headers; the values of one that comes twice are joined, as RFC 9110 has it."""
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name[0] in " \t" or name[-1] in " \t":
            raise InvalidResponse("a header of the answer cannot be read")
        name, value = name.lower(), value.strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _head(
    method: str, target: str, headers: Mapping[str, str], body: bytes | Iterable[Buffer]
) -> bytes:
    """Return a request up to its body; what is no ASCII goes out as Latin-1, as http.client sends it."""
    lines = [
        f"{method} {target} HTTP/1.1",
        *[f"{name}: {value}" for name, value in headers.items()],
    ]
    if isinstance(body, bytes) and (body or method not in ("GET", "HEAD", "DELETE")):
        lines.append(f"content-length: {len(body)}")
    text = "\r\n".join(lines)
    ends = len(lines) - 1
    if text.count("\r") != ends or text.count("\n") != ends or " " in target:
        raise ValueError(f"a request cannot hold this: {lines!r}")
    return f"{text}\r\n\r\n".encode("latin-1")
