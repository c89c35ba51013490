"""The second origin: serves images, sounds and PDF files, but nothing that a browser would run.

It has another port, so the browser treats its content as foreign to the page, which
has the session. A request needs a ticket that the page issued; a ticket names one
object, whose content type is in the list below.
"""

from __future__ import annotations

import hmac
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from hashlib import sha256
from posixpath import basename, splitext
from secrets import token_bytes
from urllib.parse import quote, urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from craftsync.errors import CraftsyncError
from craftsync.ui.guard import may_be_named

IMAGES = {
    **{".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif"},
    **{".webp": "image/webp", ".avif": "image/avif", ".bmp": "image/bmp", ".ico": "image/x-icon"},
}
SOUNDS = {
    **{".mp3": "audio/mpeg", ".wav": "audio/wav", ".ogg": "audio/ogg", ".oga": "audio/ogg"},
    **{".opus": "audio/ogg", ".flac": "audio/flac", ".m4a": "audio/mp4", ".aac": "audio/aac"},
}
PDF = {".pdf": "application/pdf"}
SHOWN: dict[str, str] = {**IMAGES, **SOUNDS, **PDF}
"""The content types to show, by file extension. HTML and SVG are not among them."""

_PIECE = 1 << 20
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")

Read = Callable[[str, str, int, int], Awaitable[bytes]]
"""Returns bytes of an object; takes store, path, start and end."""
Size = Callable[[str, str], Awaitable[int]]


class Content:
    """The ASGI application of the second origin; also issues its tickets."""

    read: Read
    size: Size

    def __init__(self, port: int, *, listening: str, page_port: int, secure: bool) -> None:
        self._port, self._page_port, self._listening = port, page_port, listening
        self._scheme = "https" if secure else "http"
        self._secret = token_bytes(32)

    def url(self, page_host: str, store: str, path: str) -> str:
        """Return the URL with which a page on `page_host` may show an object; raises `KeyError` for other content types."""
        SHOWN[splitext(path)[1].lower()]
        named = urlsafe_b64encode(json.dumps([store, path]).encode()).decode()
        name = f"[{page_host}]" if ":" in page_host else page_host
        place = f"{self._scheme}://{name}:{self._port}"
        return f"{place}/{named}.{self._signature(named)}/{quote(basename(path))}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await (await self._answer(Request(scope)))(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, request: Request) -> Response:
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
        if not may_be_named(host, self._listening) or request.method not in {"GET", "HEAD"}:
            return PlainTextResponse("refused", 403)
        named, _, signature = request.url.path.split("/")[1].partition(".")
        if not hmac.compare_digest(self._signature(named), signature):
            return PlainTextResponse("This ticket is not from this server.", 403)
        store, path = json.loads(urlsafe_b64decode(named))
        try:
            size = await self.size(store, path)
            return self._part(request, store, path, size)
        except CraftsyncError as error:
            return PlainTextResponse(f"{error} {error.remedy}", 404)

    def _part(self, request: Request, store: str, path: str, size: int) -> Response:
        start, end = _asked(request.headers.get("range", ""), size)
        name = urlsplit(f"//{request.headers['host']}").hostname or ""
        page = f"{self._scheme}://{f'[{name}]' if ':' in name else name}:{self._page_port}"
        headers = {
            "content-length": str(end - start),
            "accept-ranges": "bytes",
            "x-content-type-options": "nosniff",
            "content-security-policy": f"default-src 'none'; style-src 'unsafe-inline'; "
            f"object-src 'self'; frame-ancestors {page}",
            "cross-origin-resource-policy": "cross-origin",
            "referrer-policy": "no-referrer",
            "cache-control": "no-store",
            "content-disposition": "inline",
        }
        is_part = "range" in request.headers
        if is_part:
            headers["content-range"] = f"bytes {start}-{end - 1}/{size}"
        kind = SHOWN[splitext(path)[1].lower()]
        pieces = self._pieces(store, path, start, end)
        return StreamingResponse(pieces, 206 if is_part else 200, headers, kind)

    async def _pieces(self, store: str, path: str, start: int, end: int) -> AsyncIterator[bytes]:
        for begin in range(start, end, _PIECE):
            yield await self.read(store, path, begin, min(begin + _PIECE, end))

    def _signature(self, named: str) -> str:
        return hmac.new(self._secret, named.encode(errors="replace"), sha256).hexdigest()


def _asked(header: str, size: int) -> tuple[int, int]:
    """Return start and end (exclusive) of a Range header; the whole object if it is invalid."""
    match = _RANGE.fullmatch(header)
    if match is None or not any(match.groups()):
        return 0, size
    first, last = match.groups()
    if not first:
        return max(size - int(last), 0), size
    return min(int(first), size), min(int(last) + 1, size) if last else size
