"""An object on its way out: a block at a time, and never a short one that looks complete."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import NamedTuple

from starlette.types import Receive, Scope, Send

from craftsync.core.model import RemoteObject
from craftsync.errors import CraftsyncError
from craftsync.serve.ranges import ByteRange
from craftsync.serve.threads import in_thread
from craftsync.stores.base import Store


class Block(NamedTuple):
    content: bytes
    last: bool


class Body:
    """An open object, or a range of one. Its methods block, and may be called from any thread.

    The last block is given only after the store has vouched for all of them.
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
        """Return the next block; with the last one the object is closed."""
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
    """The answer that carries a body; `first` is the block that was taken from it already."""

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
        """Send all of it; when it breaks off, end without the end, which makes the server hang up."""
        await send(self._start)
        if self._first.last:
            await send({"type": "http.response.body", "body": self._first.content})
            return
        gone = asyncio.ensure_future(_departure(receive))
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


async def _departure(receive: Receive) -> None:
    """Return when the client has hung up."""
    while (await receive())["type"] != "http.disconnect":
        pass
