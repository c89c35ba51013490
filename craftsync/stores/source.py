"""A file as content to be written to a store.

It is read through its open descriptor and never by name, so that a file that
is replaced midway cannot end up half old and half new in a store.
"""

from __future__ import annotations

import os
from hashlib import sha256

from craftsync.errors import PathBusy

_CHUNK = 1024 * 1024


class FileSource:
    """The content of a regular file behind an open descriptor, as `base.Source` asks for it.

    Making one reads the file once, for its digest. The descriptor stays the
    caller's: it must be open for as long as the source is used, and its own
    position is neither used nor moved.
    """

    def __init__(self, descriptor: int, name: str) -> None:
        """`name` is for messages."""
        self._descriptor = descriptor
        self._name = name
        self._fingerprint = _fingerprint(descriptor)
        self.size: int = self._fingerprint[0]
        self.mtime_ns: int | None = self._fingerprint[1]
        self.digest = self._digest()
        self.verify()

    def read_at(self, offset: int, length: int) -> bytes:
        parts = []
        while length and (part := os.pread(self._descriptor, length, offset)):
            parts.append(part)
            offset += len(part)
            length -= len(part)
        if length:
            raise self._changed()
        return b"".join(parts)

    def verify(self) -> None:
        if _fingerprint(self._descriptor) != self._fingerprint:
            raise self._changed()

    def _digest(self) -> bytes:
        digest = sha256()
        for offset in range(0, self.size, _CHUNK):
            digest.update(self.read_at(offset, min(_CHUNK, self.size - offset)))
        return digest.digest()

    def _changed(self) -> PathBusy:
        return PathBusy(f"{self._name} changed while it was read.", remedy="Try again.")


def _fingerprint(descriptor: int) -> tuple[int, int, int]:
    """Return size, mtime and ctime: while all three stay, so does the content."""
    status = os.fstat(descriptor)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
