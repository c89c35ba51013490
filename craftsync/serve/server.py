"""Runs the application: the socket, the signals, and what has to be tidied up from time to time."""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from math import ceil

import uvicorn
from starlette.types import ASGIApp

from craftsync.clock import Clock
from craftsync.errors import UsageError
from craftsync.serve.api import Api
from craftsync.serve.app import application, logged
from craftsync.serve.connections import bounded
from craftsync.serve.multipart import Uploads
from craftsync.serve.objects import Objects
from craftsync.serve.presigned import Signer
from craftsync.serve.threads import in_thread
from craftsync.serve.tokens import Tokens
from craftsync.serve.writes import Changes, NoteKept, note_nothing
from craftsync.stores.base import Store

_BACKLOG = 512
CLIENT_SECONDS = 65.0
"""Longer than the 60 seconds after which clients and proxies commonly let go of a connection."""
_TIDY_SECONDS = 30
_STOP_SECONDS = 2
"""What is still under way this long after a stop was asked for is broken off."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The token that opens the server, how long what it gives out holds, and how long a client may be silent."""

    sdk_token: str
    access_token_seconds: float = 3600.0
    signed_url_seconds: float = 3600.0
    client_seconds: float = CLIENT_SECONDS
    log_requests: bool = False


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine's own and no other can reach it."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 takes a free one. Raises `UsageError`."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        # Without the protocol asyncio would leave Nagle's algorithm on, which costs 40 ms an answer.
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise UsageError(
            f"Nothing can listen on port {port} of {host} ({error.strerror}).",
            remedy="Choose another one with --port, or --port 0 for any that is free.",
        ) from error
    return listener


def address_of(listener: socket.socket) -> str:
    """Return the URL of a listening socket; one that listens everywhere is named as this machine reaches it."""
    host, port = listener.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "::1" if ":" in host else "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def ensure_there(store: Store) -> None:
    """Look at the store once, so that one that is missing is reported before anybody asks for it."""
    next(iter(store.list()), None)


def serve(
    store: Store,
    listener: socket.socket,
    settings: Settings,
    *,
    clock: Clock,
    log: Callable[[str], None],
    note: NoteKept = note_nothing,
) -> None:
    """Answer requests until SIGTERM or SIGINT, which is raised again at the end as `KeyboardInterrupt`.

    `note` is called with each version that goes to the store's trash.
    """
    tokens = Tokens(settings.sdk_token, clock=clock, lifetime_seconds=settings.access_token_seconds)
    signer = Signer(clock=clock, lifetime_seconds=settings.signed_url_seconds)
    uploads = Uploads(clock)
    changes = Changes(store, clock, note)
    api = Api(store, changes, tokens, signer, uploads, clock=clock)
    objects = Objects(store, changes, signer, uploads, log=log)
    app = application(api, objects)

    async def tidy() -> None:
        await in_thread(uploads.drop_stale)
        await in_thread(api.listings.close_resting)

    if settings.log_requests:
        app = logged(app, log)
    uvicorn.Server(_configured(app, settings, tidy)).run(sockets=[listener])


def _configured(
    app: ASGIApp, settings: Settings, tidy: Callable[[], Awaitable[None]]
) -> uvicorn.Config:
    # A malformed form, a download that broke off, a transfer that ends with the server: none is
    # a defect, and whom it concerns is told otherwise.
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
