"""The routes of the server, as one ASGI application."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic
from typing import Any

from starlette.applications import Starlette
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from craftsync.errors import CraftsyncError
from craftsync.serve.answers import API, error_answer
from craftsync.serve.api import Api
from craftsync.serve.objects import STORE, Objects
from craftsync.serve.refused import Refused

_DATA_STORE = f"{API}/data-store"
_OBJECT = f"{STORE}/{{path:object}}"


class _ObjectPath(PathConvertor):
    """The path of an object in a URL; other than `path`, with line breaks."""

    regex = "(?s:.*)"


register_url_convertor("object", _ObjectPath())


def application(api: Api, objects: Objects) -> ASGIApp:
    """Return the application; errors become answers here and nowhere else."""
    # The most frequent first: routes are tried one after the other.
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
        ClientDisconnect: _nobody,
        Exception: _defect,
    }
    return Starlette(routes=routes, exception_handlers=handlers)


def logged(app: ASGIApp, log: Callable[[str], None]) -> ASGIApp:
    """Return the application with one line a request; no query, so no signature is ever in it."""

    async def logging_app(scope: Scope, receive: Receive, send: Send) -> None:
        begun, status = monotonic(), 0

        async def sending(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await app(scope, receive, sending)
        finally:
            # As it was sent, percent-encoded: no name can break the line.
            path = scope["raw_path"].decode("ascii", "backslashreplace")
            log(f"{scope['method']} {path} {status} {1000 * (monotonic() - begun):.0f} ms")

    return logging_app


def _nobody(request: Request, error: Exception) -> Response:
    """Whoever asked has left; the answer reaches nobody."""
    return Response(status_code=400)


def _defect(request: Request, error: Exception) -> Response:
    """An error nobody expected is one of this program, and whoever runs it has to see where."""
    logging.getLogger(__name__).error("The server failed.", exc_info=error)
    return error_answer(request, error)
