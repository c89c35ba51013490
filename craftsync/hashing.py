"""Hashes small content quickly in the thread of all short tasks (`update_in_place`). Recognises an MD5."""

from __future__ import annotations

import re
from typing import Protocol, TypeVar

_MD5 = re.compile("[0-9a-f]{32}")
_SMALL = 64 * 1024
_HELD = 2047
"""Up to this many bytes, hashlib keeps the interpreter's lock (CPython's `_hashopenssl.c`)."""


class Hash(Protocol):
    """Any of hashlib's hashes."""

    def update(self, data: bytes | memoryview, /) -> None: ...


H = TypeVar("H", bound=Hash)


def update_in_place(digest: H, content: bytes | memoryview) -> H:
    """Update a hash and return it, without releasing the interpreter's lock for small content.

    While other threads run, getting the lock back takes longer than hashing a few kilobytes.
    """
    if len(content) > _SMALL:
        digest.update(content)
        return digest
    for offset in range(0, len(content), _HELD):
        digest.update(content[offset : offset + _HELD])
    return digest


def is_md5(version: str | None) -> bool:
    """Return whether a store's version looks like an MD5. It may still be something else."""
    return version is not None and _MD5.fullmatch(version) is not None
