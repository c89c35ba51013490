"""Hashing in the thread that runs all short tasks."""

from __future__ import annotations

from typing import Protocol, TypeVar

_SMALL = 64 * 1024
_HELD = 2047
"""The most bytes for which hashlib keeps the interpreter's lock (CPython's `_hashopenssl.c`)."""


class Hash(Protocol):
    """Any of hashlib's hashes."""

    def update(self, data: bytes | memoryview, /) -> None: ...


H = TypeVar("H", bound=Hash)


def update_in_place(digest: H, content: bytes | memoryview) -> H:
    """Return the hash with content added; small content without letting go of the interpreter.

    Getting it back takes longer than hashing a few kilobytes while other
    threads are at work.
    """
    if len(content) > _SMALL:
        digest.update(content)
        return digest
    for offset in range(0, len(content), _HELD):
        digest.update(content[offset : offset + _HELD])
    return digest
