"""What the faulty platform stores: objects, uploads in parts as S3 knows them, resumable sessions as GCS does.

Everything is in memory and nothing is in time: each change is `tick` seconds
later than the one before, so that runs repeat exactly.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
from dataclasses import dataclass, field
from typing import NamedTuple

START = 1_795_000_000
"""The second in which every platform begins."""


class Stored(NamedTuple):
    """An object. `encoding` is what it is sent with as Content-Encoding."""

    content: bytes
    modified: float
    etag: str
    encoding: str | None = None


@dataclass
class Upload:
    """An upload in parts; for GCS, `received` is what the one session has got so far."""

    path: str
    parts: dict[int, tuple[bytes, str]] = field(default_factory=dict)
    received: bytearray = field(default_factory=bytearray)
    finished: bool = False


class Bucket:
    """Objects under keys; every method may be called from several threads at once."""

    def __init__(self, tick: float = 1.0) -> None:
        self.tick = tick
        self.now = float(START)
        self.objects: dict[str, Stored] = {}
        self.uploads: dict[str, Upload] = {}
        self.lock = threading.RLock()
        self._frozen: dict[str, Stored] | None = None
        self._ids = itertools.count(1)

    def put(
        self, path: str, content: bytes, *, etag: str | None = None, encoding: str | None = None
    ) -> Stored:
        """Store an object, as a client or a person at the platform's own pages would."""
        with self.lock:
            self.now += self.tick
            stored = Stored(content, self.now, etag or md5_of(content), encoding)
            self.objects[path] = stored
            return stored

    def delete(self, path: str) -> None:
        with self.lock:
            self.now += self.tick
            self.objects.pop(path, None)

    def begin(self, path: str) -> str:
        with self.lock:
            upload_id = f"upload-{next(self._ids)}"
            self.uploads[upload_id] = Upload(path)
            return upload_id

    def finish(self, upload_id: str, numbers: list[int]) -> None:
        """Make one object of the parts; those that never arrived are missing from it, as nobody looks."""
        with self.lock:
            upload = self.uploads.pop(upload_id)
            parts = [upload.parts[number] for number in numbers if number in upload.parts]
            digests = b"".join(bytes.fromhex(etag) for _, etag in parts)
            etag = f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"
            self.put(upload.path, b"".join(content for content, _ in parts), etag=etag)

    def listing(self) -> list[tuple[str, Stored]]:
        """Return all objects in the byte order of their paths, as a listing shows them now."""
        with self.lock:
            shown = self.objects if self._frozen is None else self._frozen
            return sorted(shown.items(), key=lambda item: item[0].encode(errors="replace"))

    def freeze_listing(self) -> None:
        """Let listings lag from now on: they show what there is at this moment."""
        with self.lock:
            self._frozen = dict(self.objects)

    def thaw_listing(self) -> None:
        self._frozen = None


def md5_of(content: bytes | bytearray) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
