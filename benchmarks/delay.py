"""A way to a server that is longer than it is: every byte of a request arrives a while after it was sent.

    python -m benchmarks.delay PORT UPSTREAM_PORT SECONDS
    python -m benchmarks.delay --rate

The first form listens on loopback and passes connections on until it is ended.
It knows nothing of HTTP: what a client sends is handed on after the delay, what
the server answers at once. Clients that wait for an answer before they send
more, as those of HTTP/1.1 do, so wait once for each request, however many
pieces it has. The second form says how many requests a second that sustains.
"""

from __future__ import annotations

import asyncio
import sys
import time
from asyncio import BaseTransport, Protocol, Transport
from collections import deque
from typing import cast

_TRIAL_CONNECTIONS = 256
_TRIAL_SECONDS = 5.0
_TRIAL_DELAY = 0.03
_REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class _Upstream(Protocol):
    """The server's end of a connection: answers go back at once."""

    def __init__(self, client: Transport) -> None:
        self._client = client

    def data_received(self, data: bytes) -> None:
        self._client.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._client.close()


class _Client(Protocol):
    """The client's end of a connection. `None` among what is on its way is the end of it."""

    def __init__(self, port: int, delay: float) -> None:
        self._port = port
        self._delay = delay
        self._loop = asyncio.get_running_loop()
        self._on_its_way: deque[bytes | None] = deque()

    def connection_made(self, transport: BaseTransport) -> None:
        client = cast(Transport, transport)
        upstream = self._loop.create_connection(lambda: _Upstream(client), "127.0.0.1", self._port)
        self._upstream = self._loop.create_task(upstream)
        self._upstream.add_done_callback(lambda task: client.close() if task.exception() else None)

    def data_received(self, data: bytes) -> None:
        self._send_later(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._send_later(None)

    def _send_later(self, data: bytes | None) -> None:
        self._on_its_way.append(data)
        self._loop.call_later(self._delay, self._send)

    def _send(self) -> None:
        if not self._upstream.done():
            self._upstream.add_done_callback(lambda _: self._send())
            return
        data = self._on_its_way.popleft()
        if self._upstream.exception() is not None:
            return
        upstream, _ = self._upstream.result()
        if data is None:
            upstream.close()
        else:
            upstream.write(data)


class _Answering(Protocol):
    """A server for the trial: an empty answer to whatever arrives."""

    def connection_made(self, transport: BaseTransport) -> None:
        self._transport = cast(Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(_ANSWER)


async def _listen(port: int, upstream_port: int, delay: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: _Client(upstream_port, delay), "127.0.0.1", port, backlog=512
    )
    await server.serve_forever()


async def _rate() -> float:
    """Return how many requests a second pass when 256 connections ask as fast as they are answered.

    Server, clients and proxy are one process on one core, so alone it sustains more.
    """
    loop = asyncio.get_running_loop()
    upstream = await loop.create_server(_Answering, "127.0.0.1", 0)
    port = upstream.sockets[0].getsockname()[1]
    proxy = await loop.create_server(lambda: _Client(port, _TRIAL_DELAY), "127.0.0.1", 0)
    address = proxy.sockets[0].getsockname()
    began = time.perf_counter()
    askers = (_ask(*address, until=began + _TRIAL_SECONDS) for _ in range(_TRIAL_CONNECTIONS))
    answered = sum(await asyncio.gather(*askers))
    return answered / (time.perf_counter() - began)


async def _ask(host: str, port: int, *, until: float) -> int:
    reader, writer = await asyncio.open_connection(host, port)
    answered = 0
    while time.perf_counter() < until:
        writer.write(_REQUEST)
        await reader.readexactly(len(_ANSWER))
        answered += 1
    writer.close()
    return answered


def main() -> None:
    if sys.argv[1:] == ["--rate"]:
        sys.stdout.write(f"{asyncio.run(_rate()):,.0f} requests a second\n")
    else:
        port, upstream_port, delay = sys.argv[1:]
        asyncio.run(_listen(int(port), int(upstream_port), float(delay)))


if __name__ == "__main__":
    main()
