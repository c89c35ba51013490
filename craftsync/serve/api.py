"""The platform's JSON calls: tokens, listings, and the signed URLs for the bytes.

Routes, methods and body encodings are the platform's; responses contain exactly
the fields that the SDK reads.
"""

from __future__ import annotations

import base64
import json
import threading
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from secrets import token_hex
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from craftsync.clock import Clock
from craftsync.core.model import RemoteObject, Skipped
from craftsync.core.paths import malformed
from craftsync.errors import ListingBroken, ObjectNotFound, PathRefused
from craftsync.serve.auth import Signer, Tokens
from craftsync.serve.content import StoreWriter, in_thread
from craftsync.serve.errors import Refused
from craftsync.serve.multipart import MOST_PARTS, ListedPart, Uploads
from craftsync.serve.objects import STORE
from craftsync.stores.base import Store

_BODY_LIMIT = 4 * 1024 * 1024
"""The end of an upload lists up to 10,000 parts of some 80 bytes."""

PAGE = 1000
"""Objects per page, as in S3."""

MOST_OPEN = 8
"""The most open listings: each may hold the names of a whole folder."""

IDLE_SECONDS = 60.0
"""How long a listing stays open between two pages."""


class _Unfinished(NamedTuple):
    """A listing whose page ended with `last`; `following` is the next entry, read ahead to know whether one exists."""

    prefix: str
    last: str
    following: RemoteObject
    rest: Iterator[RemoteObject]
    touched: float


class Page(NamedTuple):
    """Some objects, and the token of the next page; `None` after the last."""

    objects: list[RemoteObject]
    token: str | None


class Listings:
    """Lists a store in pages, without listing it again for each. Thread-safe; all methods block.

    An unfinished listing stays open for a while. If it was closed, or a page is
    requested again, the store is listed again and entries before the page are skipped.
    """

    def __init__(self, store: Store, clock: Clock, *, page_size: int = PAGE) -> None:
        self._store = store
        self._clock = clock
        self._page_size = page_size
        self._lock = threading.Lock()
        self._open: dict[str, _Unfinished] = {}

    def page(self, prefix: str, token: str | None) -> Page:
        """Return the first page below a prefix, or the page of a token.

        Keys that are not valid paths are left out. Raises `ListingBroken` when
        something is unreadable, because the page would look complete.
        """
        first, rest = ([], self._listing(prefix)) if token is None else self._resumed(prefix, token)
        page = first + list(islice(rest, self._page_size - len(first)))
        following = next(rest, None)
        if following is None:
            return Page(page, None)
        now = self._clock.monotonic()
        return Page(page, self._keep_open(_Unfinished(prefix, page[-1].path, following, rest, now)))

    def close_idle(self) -> None:
        """Close listings that were not continued in time."""
        oldest = self._clock.monotonic() - IDLE_SECONDS
        with self._lock:
            self._open = {key: one for key, one in self._open.items() if one.touched >= oldest}

    def _listing(self, prefix: str) -> Iterator[RemoteObject]:
        # A client may use a folder of this store as a store, with a trash of its own.
        for entry in self._store.list(prefix, nested_own=True):
            if not isinstance(entry, Skipped):
                yield entry
            elif entry.failed:
                raise ListingBroken(f"{entry.path} cannot be listed: {entry.reason}.")

    def _resumed(
        self, prefix: str, token: str
    ) -> tuple[list[RemoteObject], Iterator[RemoteObject]]:
        """Return the entries read ahead, and the rest of the listing."""
        key, last = _read_token(token)
        with self._lock:
            found = self._open.pop(key, None)
        if found is not None and (found.prefix, found.last) == (prefix, last):
            return [found.following], found.rest
        if not self._store.features.sorted_listing:
            raise Refused(400, "InvalidToken", "The continuation_token has expired; list again.")
        bound = last.encode()
        return [], (entry for entry in self._listing(prefix) if entry.path.encode() > bound)

    def _keep_open(self, listing: _Unfinished) -> str:
        key = token_hex(8)
        self.close_idle()
        with self._lock:
            if len(self._open) >= MOST_OPEN:
                del self._open[next(iter(self._open))]
            self._open[key] = listing
        return _token_of(key, listing.last)


def _token_of(key: str, last: str) -> str:
    return base64.urlsafe_b64encode(f"{key}:{last}".encode()).decode()


def _read_token(token: str) -> tuple[str, str]:
    try:
        key, colon, last = base64.urlsafe_b64decode(token.encode()).decode().partition(":")
    except ValueError:
        colon = ""
    if not colon:
        raise Refused(400, "InvalidToken", "The continuation_token is not from this server.")
    return key, last


class Api:
    """The handlers of the platform's calls."""

    def __init__(
        self,
        store: Store,
        writer: StoreWriter,
        tokens: Tokens,
        signer: Signer,
        uploads: Uploads,
        *,
        clock: Clock,
    ) -> None:
        self._store = store
        self._writer = writer
        self._tokens = tokens
        self._signer = signer
        self._uploads = uploads
        self.listings = Listings(store, clock)
        self._started_ns = clock.now_ns()

    async def refresh(self, request: Request) -> Response:
        """Exchange the SDK token for an access token."""
        token = self._tokens.refresh((await _json(request)).get("refresh_token"))
        return JSONResponse({"access_token": token})

    async def who_am_i(self, request: Request) -> Response:
        self._check(request)
        return JSONResponse({"id": "local", "name": "craftsync serve", "email": "local@localhost"})

    async def environment_info(self, request: Request) -> Response:
        """Describe the environment; as on the platform, without a token."""
        environment_id = str(uuid.uuid5(uuid.NAMESPACE_URL, self._store.location))
        return JSONResponse(
            {
                "environment_id": environment_id,
                "environment_status": "ready",
                "version": "craftsync serve",
                "gpu_enabled": False,
                "supported_base_images": [],
            }
        )

    async def environment_summary(self, request: Request) -> Response:
        self._check(request)
        return JSONResponse(
            {
                "environment_status": "ready",
                "environment_status_updated_at": _iso(self._started_ns),
            }
        )

    async def health(self, request: Request) -> Response:
        return JSONResponse({"data-store": {"status": "up", "info": {}}})

    async def list_objects(self, request: Request) -> Response:
        """Return one page of the objects in a folder and below."""
        self._check(request)
        folder = (request.query_params.get("folder_path") or "").strip("/")
        prefix = f"{_named(folder)}/" if folder else ""
        token = request.query_params.get("continuation_token")
        content = await in_thread(self._page, prefix, token)
        return Response(content, media_type="application/json")

    async def information(self, request: Request) -> Response:
        self._check(request)
        path = _path_of(await _json(request))
        found = await in_thread(self._store.stat, path)
        if found is None:
            raise ObjectNotFound(f"No object {path}.")
        return JSONResponse(_described(found))

    async def upload(self, request: Request) -> Response:
        """Sign a form for one object."""
        self._check(request)
        path = _path_of(request.query_params)
        fields = {"key": path, **self._signer.grant("POST", path)}
        return JSONResponse({"signed_url": f"{_base(request)}{STORE}", "fields": fields})

    async def download(self, request: Request) -> Response:
        self._check(request)
        path = _path_of(await _form(request))
        url = _url(request, path, self._signer.grant("GET", path))
        return JSONResponse({"signed_url": url})

    async def delete_object(self, request: Request) -> Response:
        """Delete an object; as in S3, succeeds if it is absent."""
        self._check(request)
        path = _path_of(await _form(request))
        await in_thread(self._writer.delete, path)
        return JSONResponse({"path": path})

    async def multipart_begin(self, request: Request) -> Response:
        self._check(request)
        path = _path_of(await _json(request))
        upload_id = await in_thread(self._uploads.begin, path)
        return JSONResponse({"upload_id": upload_id})

    async def multipart_part(self, request: Request) -> Response:
        """Sign a URL for one part; the total size comes with the last one."""
        self._check(request)
        asked = await _json(request)
        path, upload_id = _path_of(asked), _upload_of(asked)
        upload = self._uploads.find(upload_id, path)
        number = _whole(asked, "part_number")
        if not 1 <= number <= MOST_PARTS:
            raise Refused(400, "InvalidArgument", f"part_number is not between 1 and {MOST_PARTS}.")
        if asked.get("size") is not None:
            upload.total = _whole(asked, "size")
        fields = self._signer.grant("PUT", path, upload=upload_id, part=number)
        return JSONResponse({"signed_url": _url(request, path, fields), "headers": {}})

    async def multipart_end(self, request: Request) -> Response:
        self._check(request)
        asked = await _json(request)
        path, upload_id = _path_of(asked), _upload_of(asked)
        await in_thread(self._complete, path, upload_id, _parts_of(asked))
        return JSONResponse({"path": path})

    def _check(self, request: Request) -> None:
        self._tokens.check(request.headers.get("authorization", ""))

    def _page(self, prefix: str, token: str | None) -> bytes:
        page = self.listings.page(prefix, token)
        content: dict[str, Any] = {"items": [_described(found) for found in page.objects]}
        if page.token is not None:
            content["continuation_token"] = page.token
        return json.dumps(content, ensure_ascii=False).encode()

    def _complete(self, path: str, upload_id: str, parts: list[ListedPart]) -> None:
        """Write the parts as one object; if that fails the upload stays open."""
        with self._uploads.find(upload_id, path).ending:
            content = self._uploads.find(upload_id, path).content(parts)
            self._writer.write(path, content)
            self._uploads.drop(upload_id)


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _BODY_LIMIT:
            raise Refused(413, "EntityTooLarge", f"The body is longer than {_BODY_LIMIT} bytes.")
    return bytes(body)


async def _json(request: Request) -> dict[str, Any]:
    try:
        content = json.loads(await _body(request))
    except (ValueError, RecursionError) as error:
        raise Refused(400, "InvalidBody", "The body is not JSON.") from error
    if not isinstance(content, dict):
        raise Refused(400, "InvalidBody", "The body is not a JSON object.")
    return content


async def _form(request: Request) -> dict[str, str]:
    try:
        fields = parse_qs((await _body(request)).decode(), errors="strict", max_num_fields=16)
    except ValueError as error:
        raise Refused(400, "InvalidBody", "The body is not a form.") from error
    return {name: values[0] for name, values in fields.items()}


def _path_of(asked: Mapping[str, Any]) -> str:
    path = asked.get("path_to_object")
    if not isinstance(path, str):
        raise Refused(400, "InvalidArgument", "path_to_object is missing.")
    return _named(path)


def _named(path: str) -> str:
    """Return the path if it is well-formed; raises `PathRefused`."""
    if reason := malformed(path):
        raise PathRefused(f"{path!r} is not a valid path: {reason}.")
    return path


def _upload_of(asked: Mapping[str, Any]) -> str:
    configuration = asked.get("multipart_upload_configuration")
    upload_id = configuration.get("upload_id") if isinstance(configuration, dict) else None
    if not isinstance(upload_id, str):
        raise Refused(400, "InvalidArgument", "multipart_upload_configuration has no upload_id.")
    return upload_id


def _parts_of(asked: Mapping[str, Any]) -> list[ListedPart]:
    listed = asked.get("parts")
    if not isinstance(listed, list) or not all(isinstance(part, dict) for part in listed):
        raise Refused(400, "InvalidArgument", "parts is not a list of parts.")
    return [ListedPart(_whole(part, "number"), str(part.get("metadata"))) for part in listed]


def _whole(asked: Mapping[str, Any], name: str) -> int:
    value = asked.get(name)
    if not isinstance(value, int):
        raise Refused(400, "InvalidArgument", f"{name} is not a whole number.")
    return value


def _url(request: Request, path: str, fields: Mapping[str, str]) -> str:
    return f"{_base(request)}{STORE}/{quote(path)}?{urlencode(fields)}"


def _base(request: Request) -> str:
    """Return the server's URL as the client sees it; x-forwarded-proto of a reverse proxy sets https."""
    headers = request.headers
    scheme = "https" if headers.get("x-forwarded-proto") == "https" else "http"
    return f"{scheme}://{headers.get('host', 'localhost')}"


def _described(found: RemoteObject) -> dict[str, Any]:
    modified = None if found.modified_ns is None else _iso(found.modified_ns)
    return {"path": found.path, "last_modified": modified, "size": found.size}


def _iso(time_ns: int) -> str:
    """Format nanoseconds since the epoch as `2026-11-22T10:11:12.345Z`."""
    seconds, milliseconds = divmod(time_ns // 1_000_000, 1000)
    # strftime would take a third of the time of a listing.
    return f"{datetime.fromtimestamp(seconds, UTC).isoformat()[:19]}.{milliseconds:03}Z"
