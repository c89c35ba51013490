"""S3 that misbehaves on purpose: a proxy before a real server, and a listing of our own making.

Both speak HTTP on loopback. What happens to a request is decided by a
function of the test, so that nothing depends on time or chance.
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
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qs, quote, urlsplit

from tests.support.servers import S3Server


class Request(NamedTuple):
    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def query(self) -> dict[str, str]:
        pairs = parse_qs(urlsplit(self.target).query, keep_blank_values=True)
        return {name: values[0] for name, values in pairs.items()}


class Answer(NamedTuple):
    """What is sent back. With `cut`, only so many bytes of the body; the header announces all."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    cut: int | None = None


class Drop(NamedTuple):
    """Close the connection without an answer, after the request was `delivered` or instead; or `reset` it."""

    delivered: bool = True
    reset: bool = False


class Forward(NamedTuple):
    """Hand another request to the server than the one that came."""

    request: Request


Script = Callable[[Request], Answer | Drop | Forward | Callable[[Answer], Answer] | None]
"""What to do with a request: answer, drop or change it, change the server's answer, or let it pass (`None`)."""


class Proxy:
    """Stands before a server, or for one when there is none behind it."""

    def __init__(self, server: S3Server | None, script: Script) -> None:
        self.script = script
        self.requests: list[Request] = []
        self._behind = urlsplit(server.endpoint).netloc if server else None
        self._lock = threading.Lock()

    def handle(self, request: Request) -> Answer | Drop:
        """Return the answer, or how to close the connection without one."""
        with self._lock:
            self.requests.append(request)
        step = self.script(request)
        if isinstance(step, Answer):
            return step
        if isinstance(step, Drop) and not step.delivered:
            return step
        answer = self._forward(step.request if isinstance(step, Forward) else request)
        if isinstance(step, Drop):
            return step
        return step(answer) if callable(step) else answer

    def _forward(self, request: Request) -> Answer:
        assert self._behind is not None, f"nobody expected {request.method} {request.target}"
        connection = http.client.HTTPConnection(self._behind, timeout=60)
        try:
            connection.request(request.method, request.target, request.body, request.headers)
            response = connection.getresponse()
            return Answer(response.status, response.read(), tuple(response.getheaders()))
        finally:
            connection.close()


@contextmanager
def proxied(server: S3Server, script: Script) -> Iterator[tuple[S3Server, Proxy]]:
    """Run a proxy before a server; it looks like the server."""
    proxy = Proxy(server, script)
    with serving(proxy) as endpoint:
        yield (
            S3Server(f"proxied-{server.name}", endpoint, server.access_key, server.secret_key),
            proxy,
        )


def failing(method: str, part: str, faults: list[Any]) -> Script:
    """Return a script that takes a fault from the list for each request of a method with `part` in its target."""
    lock = threading.Lock()

    def script(request: Request) -> Any:
        with lock:
            is_hit = request.method == method and part in request.target
            return faults.pop(0) if is_hit and faults else None

    return script


@contextmanager
def scripted(script: Script) -> Iterator[tuple[S3Server, Proxy]]:
    """Run a server that only knows its script."""
    proxy = Proxy(None, script)
    with serving(proxy) as endpoint:
        yield S3Server("scripted", endpoint), proxy


class Handler(Protocol):
    """What answers requests."""

    def handle(self, request: Request) -> Answer | Drop: ...


class Server(ThreadingHTTPServer):
    """Prints nothing of clients that are gone."""

    daemon_threads = True
    request_queue_size = 512
    """Clients that come at once; with fewer places some wait a second until they come again."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serving(handler: Handler) -> Iterator[str]:
    """Put what answers requests behind HTTP on loopback, and give its address."""

    class HttpHandler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_any(self) -> None:
            length = int(self.headers.get("content-length", 0))
            body = self.rfile.read(length)
            answer = handler.handle(Request(self.command, self.path, dict(self.headers), body))
            if isinstance(answer, Drop):
                self.close_connection = True
                if answer.reset:
                    _reset(self.connection)
            else:
                self._send(answer)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any

        def _send(self, answer: Answer) -> None:
            self.send_response_only(answer.status)
            skipped = {"connection", "transfer-encoding", "content-length"}
            for name, value in answer.headers:
                if name.lower() not in skipped or (
                    self.command == "HEAD" and name.lower() == "content-length"
                ):
                    self.send_header(name, value)
            if self.command != "HEAD":
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body[: answer.cut])
            self.close_connection = answer.cut is not None

        def log_message(self, format: str, *args: object) -> None:
            """Tests say what they found themselves."""

    server = Server(("127.0.0.1", 0), HttpHandler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _reset(connection: socket.socket) -> None:
    """Close a connection so that the other end is told of it as an error."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(connection.detach())


ERROR = b"<?xml version='1.0'?><Error><Code>%s</Code><Message>as scripted</Message></Error>"
NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


def error(status: int, code: str, *headers: tuple[str, str]) -> Answer:
    """Return an error as S3 words it."""
    return Answer(status, ERROR % code.encode(), headers)


def listing_page(
    keys: Sequence[str],
    token: str | None = None,
    *,
    encoded: bool = True,
    truncated: bool | None = None,
) -> bytes:
    """Return a page as AWS writes it; each key is ten bytes large."""
    rows = "".join(
        f"<Contents><Key>{quote(key) if encoded else _escaped(key)}</Key>"
        "<LastModified>2026-11-22T10:11:12.000Z</LastModified>"
        "<ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag><Size>10</Size>"
        "<StorageClass>STANDARD</StorageClass></Contents>"
        for key in keys
    )
    more = token is not None if truncated is None else truncated
    next_token = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    encoding = "<EncodingType>url</EncodingType>" if encoded else ""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult {NAMESPACE}><Name>b</Name>'
        f"<KeyCount>{len(keys)}</KeyCount><IsTruncated>{str(more).lower()}</IsTruncated>"
        f"{encoding}{next_token}{rows}</ListBucketResult>"
    ).encode()


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def listing_of(keys: Sequence[str], page: int = 1000) -> Callable[[Request], Answer]:
    """Return a script that lists these keys, which are in order, `page` at a time."""

    def script(request: Request) -> Answer:
        query = request.query
        after = query.get("continuation-token", query.get("start-after", ""))
        found = [key for key in keys if key > after and key.startswith(query.get("prefix", ""))]
        token = found[page - 1] if len(found) > page else None
        return Answer(200, listing_page(found[:page], token))

    return script
