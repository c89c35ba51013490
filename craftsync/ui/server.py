"""Starts and stops the server of the page, and the second server, which shows the content of objects.

Both end with SIGINT or SIGTERM. Work in the threads of the page ends with the
process: for a run that is like a crash, from which the next run recovers.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass

import uvicorn
from fastapi import FastAPI
from nicegui import app as framework
from nicegui import ui
from starlette.types import ASGIApp

from craftsync.config.options import PairOptions
from craftsync.ui import pages
from craftsync.ui.content import Content
from craftsync.ui.guard import Access, Guard
from craftsync.ui.workspace import Workspace

_STOP_SECONDS = 1
_RECONNECT_SECONDS = 30.0
"""How long a page may be disconnected before it reloads and loses typed text."""


@dataclass(frozen=True, slots=True)
class Tls:
    """The files of a certificate and its key, in PEM."""

    certificate: str
    key: str


def serve(
    listener: socket.socket,
    content_listener: socket.socket,
    access: Access,
    where: PairOptions,
    *,
    tls: Tls | None = None,
    started: Callable[[], None] = lambda: None,
) -> None:
    """Serve requests until SIGTERM or SIGINT, which is raised again at the end as `KeyboardInterrupt`.

    `started` is called once both servers accept requests.
    """
    host, port = listener.getsockname()[:2]
    content_port = content_listener.getsockname()[1]
    content = Content(content_port, listening=host, page_port=port, secure=tls is not None)
    workspace = Workspace(where, content, access)
    guarded = Guard(
        _application(workspace),
        access,
        listening=host,
        port=port,
        content_port=content_port,
        secure=tls is not None,
    )
    page = _Server(_configured(guarded, tls), started)
    beside = uvicorn.Server(_configured(content, tls, lifespan=False))
    try:
        asyncio.run(_serve(page, listener, beside, content_listener))
    finally:
        if workspace.jobs and not all(job.is_over for job in workspace.jobs):
            # A normal exit would wait for their transfers. They resume in the next run.
            sys.stderr.flush()
            os._exit(0)


def _application(workspace: Workspace) -> ASGIApp:
    """Return the application of the page, with all routes."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    # An unknown address is an error in the browser, not a warning on the terminal.
    logging.getLogger("nicegui").addFilter(
        lambda record: not record.getMessage().endswith(" not found")
    )
    pages.register(app, workspace)
    ui.run_with(
        app,
        title="craftsync",
        favicon="📁",
        dark=None,
        language="en-US",
        tailwind=False,
        gzip_middleware_factory=None,
        show_welcome_message=False,
        reconnect_timeout=_RECONNECT_SECONDS,
    )
    # The loading bar adds no information, and has no name for screen readers.
    framework.config.quasar_config["loadingBar"]["skipHijack"] = True
    return app


class _Server(uvicorn.Server):
    """A server that calls `started` once it accepts requests."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_started()


async def _serve(
    page: uvicorn.Server,
    listener: socket.socket,
    content: uvicorn.Server,
    content_listener: socket.socket,
) -> None:
    # The second server handles no signals: it ends with the first.
    beside = asyncio.create_task(content._serve(sockets=[content_listener]))
    try:
        await page.serve(sockets=[listener])
    finally:
        content.should_exit = True
        await beside


def _configured(app: ASGIApp, tls: Tls | None, *, lifespan: bool = True) -> uvicorn.Config:
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    return uvicorn.Config(
        app,
        lifespan="on" if lifespan else "off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        ssl_certfile=None if tls is None else tls.certificate,
        ssl_keyfile=None if tls is None else tls.key,
        timeout_graceful_shutdown=_STOP_SECONDS,
    )
