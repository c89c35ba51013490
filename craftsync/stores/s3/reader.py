"""An object on its way here, counted as it arrives."""

from __future__ import annotations

from collections.abc import Iterator

from craftsync.core.model import RemoteObject
from craftsync.errors import StoreUnavailable


class ObjectReader:
    """Keeps `stores.base.Reader`: hands the chunks on and raises unless all of them came."""

    def __init__(
        self, found: RemoteObject, chunks: Iterator[bytes | memoryview], length: int
    ) -> None:
        self.object = found
        self._chunks = chunks
        self._length = length

    def __iter__(self) -> Iterator[bytes | memoryview]:
        missing = self._length
        for chunk in self._chunks:
            missing -= len(chunk)
            if missing < 0:
                break
            yield chunk
        if missing:
            raise StoreUnavailable(
                f"{self.object.path} did not arrive as announced: "
                f"{self._length - missing} of {self._length} bytes came.",
                remedy="Try again later.",
            )
