"""The signed URLs, for uploads and downloads as in S3.

The signature replaces a token. Bodies are transferred in blocks, and store calls
run in worker threads. Downloads accept one byte range (RFC 9110, section 14).
"""

from __future__ import annotations

import asyncio
import re
import threading
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from email.utils import formatdate
from hashlib import md5
from typing import NamedTuple
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from craftsync.core.model import RemoteObject
from craftsync.errors import CraftsyncError, ObjectNotFound, PreconditionFailed, StoreUnavailable
from craftsync.serve.auth import Signer
from craftsync.serve.content import BLOCK, Form, SmallScratch, StoreWriter, in_thread
from craftsync.serve.errors import Refused
from craftsync.serve.multipart import LARGEST_PART, Uploads
from craftsync.stores.base import Store

_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)


class ByteRange(NamedTuple):
    """`length` bytes from `offset`, within the object."""

    offset: int
    length: int


def range_of(header: str | None, size: int) -> ByteRange | None:
    """Return the range in a Range header; `None` for the whole object.

    A header that is not a single byte range is ignored, as the RFC allows.
    Raises `Refused` (416) for a range past the end.
    """
    found = _RANGE.fullmatch(header.strip()) if header else None
    if found is None or found[0] == "bytes=-":
        return None
    first, last = found[1], found[2]
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    if start >= size:
        raise Refused(
            416,
            "InvalidRange",
            "The requested range is not satisfiable",
            {"content-range": f"bytes */{size}"},
        )
    return ByteRange(start, end - start)


class Block(NamedTuple):
    content: bytes
    last: bool


class Body:
    """An open object, or a range of one. Thread-safe; the methods block.

    The last block is returned only after the store has verified the content.
    """

    def __init__(
        self, store: Store, path: str, expect: RemoteObject | None, part: ByteRange | None
    ) -> None:
        """Raises what `Store.read` does."""
        self._lock = threading.Lock()
        with ExitStack() as stack:
            offset, length = part or (0, None)
            reader = stack.enter_context(
                store.read(path, expect=expect, offset=offset, length=length)
            )
            self.object = reader.object
            self._blocks = iter(reader)
            self._held: bytes | memoryview | None = next(self._blocks, b"")
            self._stack = stack.pop_all()

    def take(self) -> Block:
        """Return the next block; the last one closes the object."""
        with self._lock:
            content = self._held or b""
            self._held = next(self._blocks, None)
            if self._held is None:
                self._stack.close()
            return Block(bytes(content), self._held is None)

    def close(self) -> None:
        with self._lock:
            self._stack.close()


class Download:
    """The response with a body; `first` is the block that was already read."""

    def __init__(
        self,
        body: Body,
        first: Block,
        *,
        status: int,
        headers: Mapping[str, str],
        log: Callable[[str], None],
    ) -> None:
        self._body = body
        self._first = first
        self._log = log
        self._start = {
            "type": "http.response.start",
            "status": status,
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the body; on an error return early, which makes the server close the connection."""
        await send(self._start)
        if self._first.last:
            await send({"type": "http.response.body", "body": self._first.content})
            return
        gone = asyncio.ensure_future(_wait_for_disconnect(receive))
        try:
            block = self._first
            while not gone.done():
                await send(
                    {
                        "type": "http.response.body",
                        "body": block.content,
                        "more_body": not block.last,
                    }
                )
                if block.last:
                    return
                block = await in_thread(self._body.take)
        except (CraftsyncError, OSError) as error:
            self._log(f"A download of {self._body.object.path!r} broke off: {error}")
        finally:
            gone.cancel()
            await in_thread(self._body.close)


async def _wait_for_disconnect(receive: Receive) -> None:
    """Return when the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass


STORE = "/store"
"""The URL path for objects: forms are posted to it, and object paths follow it."""


class Objects:
    """The handlers of signed requests; their paths were validated when they were signed."""

    def __init__(
        self,
        store: Store,
        writer: StoreWriter,
        signer: Signer,
        uploads: Uploads,
        *,
        log: Callable[[str], None],
    ) -> None:
        self._store = store
        self._writer = writer
        self._signer = signer
        self._uploads = uploads
        self._log = log

    async def post(self, request: Request) -> Response:
        """Store the file of a form with `key` and the signed fields."""
        form = Form(request.headers.get("content-type", ""), SmallScratch(), self._permit_form)
        last = await _pour(request, form.feed)
        written = await in_thread(self._store_form, form, last)
        return Response(status_code=204, headers=_etag(written))

    async def put(self, request: Request) -> Response:
        """Receive one part of an upload."""
        path, query = self._permitted(request), request.query_params
        upload = self._uploads.find(query.get("upload"), path)
        with upload.receiving(int(query["part"]), _length_of(request)) as arrival:
            last = await _pour(request, arrival.feed)
            await in_thread(arrival.feed, last)
        return Response(headers={"etag": f'"{arrival.etag()}"'})

    async def get(self, request: Request) -> Download:
        """Return an object, or a range of it."""
        path, headers = self._permitted(request), request.headers
        return await in_thread(self._opened, path, headers.get("range"), headers.get("if-match"))

    def _permit_form(self, fields: Mapping[str, str]) -> None:
        self._signer.check("POST", fields.get("key", ""), fields)

    def _permitted(self, request: Request) -> str:
        path = unquote(request.scope["raw_path"].decode("latin-1").removeprefix(f"{STORE}/"))
        self._signer.check(request.method, path, request.query_params)
        return path

    def _store_form(self, form: Form, last: Sequence[bytes]) -> RemoteObject:
        form.feed(last)
        content = form.content()
        return self._writer.write(form.fields["key"], content)

    def _opened(self, path: str, wanted: str | None, match: str | None) -> Download:
        expect = part = None
        if wanted is not None or match is not None:
            expect = self._stat(path, match)
            part = range_of(wanted, expect.size)
        try:
            body = Body(self._store, path, expect, part)
        except PreconditionFailed as error:
            raise StoreUnavailable(
                f"{path} changed while it was opened.", remedy="Try again."
            ) from error
        headers = {
            "content-type": "binary/octet-stream",
            "content-length": str(body.object.size),
            "accept-ranges": "bytes",
            **_etag(body.object),
            **_last_modified(body.object),
        }
        first = body.take()
        if part is None:
            headers |= _content_md5(body.object, first)
        else:
            last = part.offset + part.length - 1
            headers["content-length"] = str(part.length)
            headers["content-range"] = f"bytes {part.offset}-{last}/{body.object.size}"
        status = 200 if part is None else 206
        return Download(body, first, status=status, headers=headers, log=self._log)

    def _stat(self, path: str, match: str | None) -> RemoteObject:
        found = self._store.stat(path)
        if found is None:
            raise ObjectNotFound(f"No object {path}.")
        if match is not None and match.strip() != "*":
            # RFC 9110, section 13.1.1: weak tags never match.
            tags = {tag.strip() for tag in match.split(",")}
            if _etag(found).get("etag") not in tags:
                raise PreconditionFailed(f"{path} does not match If-Match.")
        return found


def _length_of(request: Request) -> int:
    length = request.headers.get("content-length", "")
    if not length.isdecimal():
        raise Refused(411, "MissingContentLength", "A part needs a Content-Length.")
    if int(length) > LARGEST_PART:
        raise Refused(413, "EntityTooLarge", f"A part has at most {LARGEST_PART} bytes.")
    return int(length)


async def _pour(request: Request, feed: Callable[[Sequence[bytes]], None]) -> Sequence[bytes]:
    """Pass the body to `feed` in a worker thread, block by block; return the last block instead.

    A body of one block, as most are, then needs only one call in a thread.
    """
    feeding: asyncio.Task[None] | None = None
    pieces: list[bytes] = []
    size = 0
    try:
        async for piece in request.stream():
            if size >= BLOCK:
                if feeding:
                    await feeding
                feeding = asyncio.create_task(in_thread(feed, pieces))
                pieces, size = [], 0
            pieces.append(piece)
            size += len(piece)
    finally:
        # No write may be under way when this returns, even after an error.
        if feeding:
            await feeding
    return pieces


def _etag(described: RemoteObject) -> dict[str, str]:
    """Return the ETag header, empty if the store has neither versions nor digests."""
    tag = described.version or (described.digest.hex() if described.digest else None)
    return {"etag": f'"{tag}"'} if tag else {}


def _content_md5(described: RemoteObject, first: Block) -> dict[str, str]:
    """Return the Content-MD5 header of a whole object, if it is one block or the store is certain of its MD5."""
    known = md5(first.content, usedforsecurity=False).digest() if first.last else described.md5
    return {"content-md5": b64encode(known).decode()} if known else {}


def _last_modified(described: RemoteObject) -> dict[str, str]:
    if described.modified_ns is None:
        return {}
    return {"last-modified": formatdate(described.modified_ns // 10**9, usegmt=True)}
