"""The bodies of uploads: content hashed on its way, and the form the platform's signatures are for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import md5
from typing import Any

from craftsync.net.pace import Pace
from craftsync.stores.base import Source

CHUNK = 1024 * 1024


def form(boundary: str, fields: Mapping[str, str]) -> tuple[bytes, bytes]:
    """Return what comes before and after the file. The name of the file says nothing of where it came from."""
    head = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    head.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    )
    return "".join(head).encode(), f"\r\n--{boundary}--\r\n".encode()


def _quoted(name: str) -> str:
    return name.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "").replace("\n", "")


class Content:
    """The bytes of a span of the content, hashed on their way.

    They leave at `pace`. `held` keeps the last ones back until the content is
    known to be whole. `before` is the hash of what came before; `running` goes
    on with it.
    """

    def __init__(
        self, source: Source, span: range, pace: Pace, before: Any = None, *, held: bool = False
    ) -> None:
        self.held = held
        self.running: Any = before.copy() if before is not None else None
        self.length = len(span)
        self.pace = pace
        self._source = source
        self._span = span
        self._md5 = md5(usedforsecurity=False)

    def __iter__(self) -> Iterator[bytes]:
        if self.held and not self._span:
            self._source.verify()
        for offset in range(self._span.start, self._span.stop, CHUNK):
            chunk = self._source.read_at(offset, min(CHUNK, self._span.stop - offset))
            self._md5.update(chunk)
            if self.running is not None:
                self.running.update(chunk)
            if self.held and offset + len(chunk) == self._span.stop:
                self._source.verify()
            yield chunk

    def md5(self) -> str:
        """Return the MD5 of what was read so far."""
        return self._md5.hexdigest()
