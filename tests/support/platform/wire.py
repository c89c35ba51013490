"""Requests and answers of the faulty platform, and the HTTP server that carries them.

Knows nothing of what the platform means by them. An answer may be cut short,
sent a byte at a time, or never come.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.support.http_server import Connection, Head, listening

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
def serving(
    handle: Handle, gate: Gate, accepted: Callable[[], None], now: Callable[[], float]
) -> Iterator[str]:
    """Serve on a free port of the loopback interface; yields the address.

    `accepted` hears of each connection, `now` is the time that answers bear.
    """

    class ToHandle(Connection):
        def answer(self, head: Head, body: bytes) -> bool:
            answer = handle(Request(head.method, head.target, head.headers, body))
            return answer is not None and self._sent(answer, is_head=head.method == "HEAD")

        def _sent(self, answer: Answer, *, is_head: bool) -> bool:
            headers = [("Date", formatdate(now(), usegmt=True)), *answer.headers]
            if answer.status != 204:
                headers.append(("Content-Length", str(len(answer.body))))
            if answer.drip and not is_head:
                self.send(answer.status, headers)
                return self._dripped(answer.body)
            self.send(answer.status, headers, b"" if is_head else answer.body[: answer.cut])
            return answer.cut is None

        def _dripped(self, body: bytes) -> bool:
            """Send a byte every tenth of a second, so that a timeout between two bytes never strikes."""
            for byte in body:
                self.wfile.write(bytes([byte]))
                if gate.wait(0.1):
                    return False
            return True

    with listening(ToHandle, accepted) as url:
        yield url
