"""Fast hashing of small content in the thread that runs all short tasks."""

from __future__ import annotations

from typing import Protocol, TypeVar

_SMALL = 64 * 1024
_HELD = 2047
"""Up to this many bytes hashlib keeps the interpreter's lock (CPython's `_hashopenssl.c`)."""


class Hash(Protocol):
    """Any of hashlib's hashes."""

    def update(self, data: bytes | memoryview, /) -> None: ...


H = TypeVar("H", bound=Hash)


def update_in_place(digest: H, content: bytes | memoryview) -> H:
    """Update a hash and return it, without releasing the interpreter's lock for small content.

    While other threads run, getting the lock back takes longer than hashing a
    few kilobytes.
    """
    if len(content) > _SMALL:
        digest.update(content)
        return digest
    for offset in range(0, len(content), _HELD):
        digest.update(content[offset : offset + _HELD])
    return digest
