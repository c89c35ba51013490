"""The server: routes, connections, start and stop.

The HTTP library limits only the time between two requests. `BoundedConnection`
also aborts a request that never completes and a response that the client does not
read: both would hold a descriptor, memory and a temporary file.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from functools import partial
from math import ceil
from time import monotonic
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from craftsync.clock import Clock
from craftsync.errors import CraftsyncError
from craftsync.serve.api import Api
from craftsync.serve.auth import Signer, Tokens
from craftsync.serve.content import OnKept, StoreWriter, in_thread, note_nothing
from craftsync.serve.errors import API, Refused, error_answer
from craftsync.serve.multipart import Uploads
from craftsync.serve.objects import STORE, Objects
from craftsync.stores.base import Store

_DATA_STORE = f"{API}/data-store"
_OBJECT = f"{STORE}/{{path:object}}"


class _ObjectPath(PathConvertor):
    """The path of an object in a URL; unlike `path`, it may contain line breaks."""

    regex = "(?s:.*)"


register_url_convertor("object", _ObjectPath())


def application(api: Api, objects: Objects) -> ASGIApp:
    """Return the application; errors become responses only here."""
    # The most frequent first: routes are matched in order.
    routes = [
        Route(STORE, objects.post, methods=["POST"]),
        Route(_OBJECT, objects.get, methods=["GET"]),
        Route(_OBJECT, objects.put, methods=["PUT"]),
        Route(f"{_DATA_STORE}/upload", api.upload, methods=["GET"]),
        Route(f"{_DATA_STORE}/download", api.download, methods=["POST"]),
        Route(f"{_DATA_STORE}/upload/multipart/part", api.multipart_part, methods=["POST"]),
        Route(f"{_DATA_STORE}/information", api.information, methods=["POST"]),
        Route(f"{_DATA_STORE}/list", api.list_objects, methods=["GET"]),
        Route(f"{_DATA_STORE}/delete", api.delete_object, methods=["DELETE"]),
        Route(f"{_DATA_STORE}/upload/multipart", api.multipart_begin, methods=["POST"]),
        Route(f"{_DATA_STORE}/upload/multipart/end", api.multipart_end, methods=["POST"]),
        Route(f"{API}/auth/refresh", api.refresh, methods=["POST"]),
        Route(f"{API}/users/me", api.who_am_i, methods=["GET"]),
        Route(f"{API}/environment-summary", api.environment_summary, methods=["GET"]),
        Route(f"{API}/environment-info", api.environment_info, methods=["GET"]),
        Route(f"{API}/health", api.health, methods=["GET"]),
    ]
    handlers: dict[Any, Any] = {
        **dict.fromkeys((Refused, CraftsyncError, OSError, HTTPException), error_answer),
        ClientDisconnect: _disconnected,
        Exception: _unexpected,
    }
    return Starlette(routes=routes, exception_handlers=handlers)


def logged(app: ASGIApp, log: Callable[[str], None]) -> ASGIApp:
    """Return the application with one log line per request; without the query, so without signatures."""

    async def logging_app(scope: Scope, receive: Receive, send: Send) -> None:
        begun, status = monotonic(), 0

        async def sending(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await app(scope, receive, sending)
        finally:
            # Percent-encoded as it was sent, so that no name can break the line.
            path = scope["raw_path"].decode("ascii", "backslashreplace")
            log(f"{scope['method']} {path} {status} {1000 * (monotonic() - begun):.0f} ms")

    return logging_app


def _disconnected(request: Request, error: Exception) -> Response:
    """The client has disconnected, so the response does not matter."""
    return Response(status_code=400)


def _unexpected(request: Request, error: Exception) -> Response:
    """Log an unexpected error with its traceback."""
    logging.getLogger(__name__).error("The server failed.", exc_info=error)
    return error_answer(request, error)


class BoundedConnection(HttpToolsProtocol):
    """An HTTP connection, aborted after `client_seconds` in which the client neither sent nor read.

    The headers of a request must arrive within this time altogether. Time spent
    waiting for the store does not count.
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
            # `close` would wait until the client has read what is buffered.
            self.transport.abort()
            return
        self._next = self.loop.call_later(self._client_seconds / 2, self._watch)

    def _awaited_of_client(self) -> Hashable:
        """Return a value that changes when the client makes progress; `None` while the server must act."""
        cycle, unread = self.cycle, self.transport.get_write_buffer_size()
        if unread:
            return "read", unread, self._drained
        if cycle is None or (cycle.response_complete and not cycle.more_body):
            # Between two requests the library's own timeout applies.
            return None if self.timeout_keep_alive_task else ("headers", id(cycle))
        if cycle.more_body and not self.flow.read_paused:
            return "body", self._received
        return None


def bounded(client_seconds: float) -> Any:
    """Return the connection factory for `uvicorn.Config(http=…)`."""
    return partial(BoundedConnection, client_seconds=client_seconds)


CLIENT_SECONDS = 65.0
"""Longer than the 60 seconds after which clients and proxies commonly close an idle connection."""
_TIDY_SECONDS = 30
_STOP_SECONDS = 2
"""Requests still under way this long after a stop are aborted."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The SDK token, the lifetimes of access tokens and signed URLs, and how long a client may be silent."""

    sdk_token: str
    access_token_seconds: float = 3600.0
    signed_url_seconds: float = 3600.0
    client_seconds: float = CLIENT_SECONDS
    log_requests: bool = False


def ensure_there(store: Store) -> None:
    """List the store once, so that a missing one is reported before the first request."""
    next(iter(store.list()), None)


def serve(
    store: Store,
    listener: socket.socket,
    settings: Settings,
    *,
    clock: Clock,
    log: Callable[[str], None],
    note: OnKept = note_nothing,
) -> None:
    """Serve requests until SIGTERM or SIGINT, which is raised at the end as `KeyboardInterrupt`.

    `note` is called with each version moved to the store's trash.
    """
    tokens = Tokens(settings.sdk_token, clock=clock, lifetime_seconds=settings.access_token_seconds)
    signer = Signer(clock=clock, lifetime_seconds=settings.signed_url_seconds)
    uploads = Uploads(clock)
    writer = StoreWriter(store, clock, note)
    api = Api(store, writer, tokens, signer, uploads, clock=clock)
    objects = Objects(store, writer, signer, uploads, log=log)
    app = application(api, objects)

    async def tidy() -> None:
        await in_thread(uploads.drop_stale)
        await in_thread(api.listings.close_idle)

    if settings.log_requests:
        app = logged(app, log)
    uvicorn.Server(_configured(app, settings, tidy)).run(sockets=[listener])


def _configured(
    app: ASGIApp, settings: Settings, tidy: Callable[[], Awaitable[None]]
) -> uvicorn.Config:
    # A malformed form, an aborted download or a transfer cut off by a stop is not a bug, and is
    # reported to the client.
    for chatty in ("python_multipart", "uvicorn.error"):
        logging.getLogger(chatty).setLevel(logging.CRITICAL)
    return uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        http=bounded(settings.client_seconds),
        timeout_keep_alive=ceil(settings.client_seconds),
        timeout_graceful_shutdown=_STOP_SECONDS,
        callback_notify=tidy,
        timeout_notify=_TIDY_SECONDS,
    )
