"""One connection of the server, which ends when its client keeps it waiting.

The HTTP library bounds only the time between two requests. A request that never
ends, or an answer that nobody reads, would hold its descriptor, its memory and
its temporary file for as long as the client likes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from functools import partial
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class BoundedConnection(HttpToolsProtocol):
    """HTTP on one connection, cut off after `client_seconds` in which nothing arrived or was taken.

    The headers of a request have this time altogether. Time in which the store
    is at work counts for nothing.
    """

    def __init__(self, *args: Any, client_seconds: float, **named: Any) -> None:
        super().__init__(*args, **named)
        self._client_seconds = client_seconds
        self._received = self._drained = 0
        self._awaited: Hashable = None
        self._since = self.loop.time()
        self._next: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._next is not None:
            self._next.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        super().data_received(data)

    def resume_writing(self) -> None:
        self._drained += 1
        super().resume_writing()

    def _watch(self) -> None:
        now, awaited = self.loop.time(), self._awaited_of_client()
        if awaited is None or awaited != self._awaited:
            self._awaited, self._since = awaited, now
        elif now - self._since >= self._client_seconds:
            # To close it would wait until the client has read what is buffered.
            self.transport.abort()
            return
        self._next = self.loop.call_later(self._client_seconds / 2, self._watch)

    def _awaited_of_client(self) -> Hashable:
        """Return a value that changes as soon as the client does its part; `None` when it has none to do."""
        cycle, unread = self.cycle, self.transport.get_write_buffer_size()
        if unread:
            return "read", unread, self._drained
        if cycle is None or (cycle.response_complete and not cycle.more_body):
            # Between two requests the library's own timer runs.
            return None if self.timeout_keep_alive_task else ("headers", id(cycle))
        if cycle.more_body and not self.flow.read_paused:
            return "body", self._received
        return None


def bounded(client_seconds: float) -> Any:
    """Return what makes a connection, as `uvicorn.Config(http=…)` takes it."""
    return partial(BoundedConnection, client_seconds=client_seconds)
