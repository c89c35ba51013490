"""S3 that misbehaves on purpose: a proxy before a real server, and a listing of our own making.

Both speak HTTP on loopback. What happens to a request is decided by a
function of the test, so that nothing depends on time or chance.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qs, quote, urlsplit

from tests.support.http_server import Connection, Head, listening
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


@contextmanager
def serving(handler: Handler) -> Iterator[str]:
    """Put what answers requests behind HTTP on loopback, and give its address."""

    class ToHandler(Connection):
        def answer(self, head: Head, body: bytes) -> bool:
            answer = handler.handle(Request(head.method, head.target, head.headers, body))
            if isinstance(answer, Answer):
                return self._sent(answer, is_head=head.method == "HEAD")
            if answer.reset:
                self.reset()
            return False

        def _sent(self, answer: Answer, *, is_head: bool) -> bool:
            skipped = {"connection", "transfer-encoding"}
            if not is_head:
                skipped.add("content-length")
            headers = [each for each in answer.headers if each[0].lower() not in skipped]
            if is_head:
                self.send(answer.status, headers)
            else:
                headers.append(("Content-Length", str(len(answer.body))))
                self.send(answer.status, headers, answer.body[: answer.cut])
            return answer.cut is None

    with listening(ToHandler) as url:
        yield url


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
