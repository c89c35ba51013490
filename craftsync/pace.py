"""Bytes on their way: they wait for their turn under a rate, and count as moved once the other side has taken them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Protocol, Self

PIECE = 256 * 1024
"""Bytes that are moved at once and counted together; with fewer, asking for them costs more than sending them."""


class Pace(Protocol):
    """What moving bytes have to keep to, and where they are counted; used from several threads at once."""

    @property
    def piece(self) -> int:
        """How many bytes to move at once, so that no connection is silent for long under a low rate."""
        ...

    def take(self, size: int) -> None:
        """Return when so many more bytes may move."""
        ...

    def count(self, size: int) -> None:
        """Count bytes that have moved; a negative number takes back those of a try that failed."""
        ...


class _Unpaced:
    """No rate, and nobody who counts."""

    piece = PIECE

    def take(self, size: int) -> None:
        """Nothing has to wait."""

    def count(self, size: int) -> None:
        """Nobody wants to know."""


UNPACED: Pace = _Unpaced()


class Attempt:
    """One try to move bytes at a pace, itself a `Pace`: once it has failed, its bytes do not count any more.

    That is when a `with` ends with an error, or at `undo`.
    """

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._lock = threading.Lock()
        self._moved = 0
        self.take = pace.take

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.undo()

    @property
    def piece(self) -> int:
        return self._pace.piece

    def count(self, size: int) -> None:
        if size:
            with self._lock:
                self._moved += size
            self._pace.count(size)

    def undo(self) -> None:
        """Take back what was counted."""
        self.count(-self._moved)

    def pieces(self, content: Iterable[bytes]) -> Iterator[memoryview]:
        """Yield content piece by piece: each when it may move, and counted when the next one is asked for."""
        for block in content:
            left = memoryview(block)
            while left:
                piece = left[: self.piece]
                self.take(len(piece))
                yield piece
                self.count(len(piece))
                left = left[len(piece) :]
