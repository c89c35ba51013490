"""Uploads and downloads of objects, and downloads of folders as a zip.

No whole object is held in memory. An upload stays in a temporary file until it is
complete, so a browser that disconnects changes nothing. A download that fails breaks
off, so that no browser takes it for complete.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
import zipfile
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from posixpath import basename
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from craftsync import objects
from craftsync.core.paths import refusal
from craftsync.datastore import DataStore, ObjectInformation
from craftsync.errors import (
    CraftsyncError,
    NoSpace,
    ObjectNotFound,
    PathError,
    StoreError,
    UsageError,
)
from craftsync.ui.workspace import Workspace

_RESERVE = 64 << 20
"""Bytes that an upload leaves free on the disk of the temporary folder."""
_PIECES = 8
"""The number of pieces to read ahead of the browser."""
_EARLIEST_YEAR = 1980
"""A zip cannot hold an earlier time."""
_STATUS: tuple[tuple[type[CraftsyncError], int], ...] = (
    (ObjectNotFound, 404),
    (NoSpace, 507),
    (PathError, 400),
    (UsageError, 400),
    (StoreError, 502),
)


def register(app: FastAPI, workspace: Workspace) -> None:
    """Register the routes; the guard has checked each request."""
    routes = _Routes(workspace)
    app.add_api_route("/transfer/object", routes.upload, methods=["PUT"], response_model=None)
    app.add_api_route("/transfer/object", routes.download, methods=["GET"], response_model=None)
    app.add_api_route("/transfer/zip", routes.zipped, methods=["GET"], response_model=None)


class _Routes:
    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    async def upload(self, request: Request) -> Response:
        """Write the body to an object; with `If-None-Match: *`, only if the object does not exist."""
        try:
            store, path = self._named(request)
            if reason := refusal(path):
                raise UsageError(f"{path} cannot be written: {reason}.")
            length = request.headers.get("content-length", "")
            if not length.isdigit():
                return PlainTextResponse("An upload needs a Content-Length.", 411)
            _refuse_too_large(int(length))
            if request.headers.get("if-none-match") == "*" and await self._is_there(store, path):
                return PlainTextResponse(f"{path} already exists.", 412)
            with tempfile.TemporaryFile() as file:
                async for piece in request.stream():
                    file.write(piece)
                file.flush()
                await self._workspace.in_thread(store.upload_data_store_object, file, path)
            return PlainTextResponse("", 201)
        except ClientDisconnect:
            return Response(status_code=400)
        except (CraftsyncError, OSError) as error:
            return _failed(error)

    async def download(self, request: Request) -> Response:
        """Send an object as a file."""
        try:
            store, path = self._named(request)
            found = await self._workspace.in_thread(store.get_data_store_object_information, path)
        except CraftsyncError as error:
            return _failed(error)
        pipe = Pipe()
        pipe.begin(lambda: store.download_data_store_object(path, pipe))  # type: ignore[arg-type]
        headers = {**_attachment(basename(path)), "content-length": str(found["size"])}
        return StreamingResponse(pipe.pieces(), 200, headers, "application/octet-stream")

    async def zipped(self, request: Request) -> Response:
        """Send objects, and all objects below folders, as a zip; `path` may be given several times."""
        try:
            store = self._workspace.store(request.query_params.get("at", ""))
            folder = request.query_params.get("folder", "")
            paths = request.query_params.getlist("path")
            await self._workspace.in_thread(next, objects.find(store, folder), None)
        except CraftsyncError as error:
            return _failed(error)
        pipe = Pipe()
        pipe.begin(lambda: _zip(store, folder, paths, pipe))
        name = basename(folder) or basename(request.query_params.get("at", "")) or "store"
        return StreamingResponse(pipe.pieces(), 200, _attachment(f"{name}.zip"), "application/zip")

    def _named(self, request: Request) -> tuple[DataStore, str]:
        word, path = request.query_params.get("at", ""), request.query_params.get("path", "")
        if not word or not path:
            raise UsageError("A store and a path are needed.")
        return self._workspace.store(word), path

    async def _is_there(self, store: DataStore, path: str) -> bool:
        try:
            await self._workspace.in_thread(store.get_data_store_object_information, path)
        except ObjectNotFound:
            return False
        return True


def _refuse_too_large(size: int) -> None:
    free = shutil.disk_usage(tempfile.gettempdir()).free - _RESERVE
    if size > free:
        raise NoSpace(
            f"{size} bytes do not fit into {tempfile.gettempdir()}, where uploads are buffered.",
            remedy="Set TMPDIR to a larger disk, or use craftsync put.",
        )


def _failed(error: Exception) -> Response:
    status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
    return PlainTextResponse(f"{error} {getattr(error, 'remedy', '')}".rstrip(), status)


def _attachment(name: str) -> dict[str, str]:
    return {
        "content-disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        "content-security-policy": "default-src 'none'; sandbox",
        "cache-control": "no-store",
    }


class Pipe:
    """A file object that a thread writes to; its bytes are sent as they arrive."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[bytes | Exception | None] = asyncio.Queue(_PIECES)
        self._closed = False

    def begin(self, work: Callable[[], None]) -> None:
        """Run `work`, which writes, in a thread; `pieces` raises its error."""

        def working() -> None:
            try:
                work()
                self._put(None)
            except Exception as error:  # noqa: BLE001 (it is raised where the pieces are read)
                self._put(error)

        threading.Thread(target=working, daemon=True).start()

    def write(self, piece: bytes | memoryview) -> int:
        """Write when there is room; raises `BrokenPipeError` once the reader is gone."""
        if self._closed:
            raise BrokenPipeError
        self._put(bytes(piece))
        return len(piece)

    def flush(self) -> None:
        """Do nothing: writes are not buffered."""

    def _put(self, piece: bytes | Exception | None) -> None:
        if self._closed or self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._queue.put(piece), self._loop).result()

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the written bytes until the work ends; raises its error."""
        try:
            while (piece := await self._queue.get()) is not None:
                if isinstance(piece, Exception):
                    raise piece
                yield piece
        finally:
            self._closed = True
            while not self._queue.empty():
                self._queue.get_nowait()


def _zip(store: DataStore, folder: str, paths: list[str], pipe: Any) -> None:
    start = len(folder) + 1 if folder else 0
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as archive:
        for found in _wanted(store, folder, paths):
            entry = zipfile.ZipInfo(found["path"][start:], _time_of(found))
            with archive.open(entry, "w", force_zip64=found["size"] >= 1 << 31) as file:
                store.download_data_store_object(found["path"], file)  # type: ignore[arg-type]


def _wanted(store: DataStore, folder: str, paths: list[str]) -> Any:
    if not paths:
        yield from objects.find(store, folder)
    for path in paths:
        below = list(objects.find(store, path))
        yield from below or [store.get_data_store_object_information(path)]


def _time_of(found: ObjectInformation) -> tuple[int, int, int, int, int, int]:
    moment = datetime.fromisoformat(found["last_modified"] or "1980-01-01T00:00:00Z")
    if moment.year < _EARLIEST_YEAR:
        return (_EARLIEST_YEAR, 1, 1, 0, 0, 0)
    return (moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second)
