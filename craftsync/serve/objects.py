"""The signed URLs: where the bytes of objects come and go, as in S3.

Nobody needs a token here; the signature says what is allowed. Bodies pass
through in blocks, and every call of the store is made in a worker thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from email.utils import formatdate
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response

from craftsync.core.model import RemoteObject
from craftsync.errors import ObjectNotFound, PreconditionFailed, StoreUnavailable
from craftsync.serve.content import BLOCK, SmallScratch
from craftsync.serve.download import Body, Download
from craftsync.serve.form import Form
from craftsync.serve.multipart import LARGEST_PART, Uploads
from craftsync.serve.presigned import Signer
from craftsync.serve.ranges import range_of
from craftsync.serve.refused import Refused
from craftsync.serve.threads import in_thread
from craftsync.serve.writes import Changes
from craftsync.stores.base import Store

STORE = "/store"
"""Where objects live on this server: a form is posted to it, and paths follow it."""


class Objects:
    """The handlers of signed requests; the paths in them were checked when they were signed."""

    def __init__(
        self,
        store: Store,
        changes: Changes,
        signer: Signer,
        uploads: Uploads,
        *,
        log: Callable[[str], None],
    ) -> None:
        self._store = store
        self._changes = changes
        self._signer = signer
        self._uploads = uploads
        self._log = log

    async def post(self, request: Request) -> Response:
        """Take a form with `key`, the fields that permit it, and the file."""
        form = Form(request.headers.get("content-type", ""), SmallScratch(), self._permit_form)
        last = await _pour(request, form.feed)
        written = await in_thread(self._store_form, form, last)
        return Response(status_code=204, headers=_etag(written))

    async def put(self, request: Request) -> Response:
        """Take one part of an upload."""
        path, query = self._permitted(request), request.query_params
        upload = self._uploads.find(query.get("upload"), path)
        with upload.receiving(int(query["part"]), _length_of(request)) as arrival:
            last = await _pour(request, arrival.feed)
            await in_thread(arrival.feed, last)
        return Response(headers={"etag": f'"{arrival.etag()}"'})

    async def get(self, request: Request) -> Download:
        """Give an object, or a range of it."""
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
        return self._changes.write(form.fields["key"], content)

    def _opened(self, path: str, wanted: str | None, match: str | None) -> Download:
        expect = part = None
        if wanted is not None or match is not None:
            expect = self._looked_at(path, match)
            part = range_of(wanted, expect.size)
        try:
            body = Body(self._store, path, expect, part)
        except PreconditionFailed as error:
            raise StoreUnavailable(f"{path} changed meanwhile.", remedy="Try again.") from error
        headers = {
            "content-type": "binary/octet-stream",
            "content-length": str(body.object.size),
            "accept-ranges": "bytes",
            **_etag(body.object),
            **_last_modified(body.object),
        }
        if part is not None:
            last = part.offset + part.length - 1
            headers["content-length"] = str(part.length)
            headers["content-range"] = f"bytes {part.offset}-{last}/{body.object.size}"
        status = 200 if part is None else 206
        return Download(body, body.take(), status=status, headers=headers, log=self._log)

    def _looked_at(self, path: str, match: str | None) -> RemoteObject:
        found = self._store.stat(path)
        if found is None:
            raise ObjectNotFound(f"There is no object {path}.")
        if match is not None and match.strip() != "*":
            # RFC 9110, section 13.1.1: weak tags never match.
            tags = {tag.strip() for tag in match.split(",")}
            if _etag(found).get("etag") not in tags:
                raise PreconditionFailed(f"{path} is not the object that was expected.")
        return found


def _length_of(request: Request) -> int:
    length = request.headers.get("content-length", "")
    if not length.isdecimal():
        raise Refused(411, "MissingContentLength", "A part needs a Content-Length.")
    if int(length) > LARGEST_PART:
        raise Refused(413, "EntityTooLarge", f"A part has at most {LARGEST_PART} bytes.")
    return int(length)


async def _pour(request: Request, feed: Callable[[Sequence[bytes]], None]) -> Sequence[bytes]:
    """Feed the body to a worker thread, a block at a time while the next arrives; return the last one unfed.

    A body of one block, as most have, then needs no more than one call of a thread.
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
        # Whatever happened, nobody may write any more when this returns.
        if feeding:
            await feeding
    return pieces


def _etag(described: RemoteObject) -> dict[str, str]:
    """Return the header that tells this content from another, if the store can tell at all."""
    tag = described.version or (described.digest.hex() if described.digest else None)
    return {"etag": f'"{tag}"'} if tag else {}


def _last_modified(described: RemoteObject) -> dict[str, str]:
    if described.modified_ns is None:
        return {}
    return {"last-modified": formatdate(described.modified_ns // 10**9, usegmt=True)}
