"""A store in memory: the whole contract and nothing else, for tests and trials.

Its times are made up (one second per write), so that runs repeat exactly.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256

from craftsync.core.model import ABSENT, OWN_FOLDER, RemoteObject, Skipped
from craftsync.core.paths import MAX_PATH_BYTES, hidden_in, malformed
from craftsync.errors import ObjectNotFound, PathBusy, PathRefused, PreconditionFailed
from craftsync.net.pace import Attempt
from craftsync.stores.base import (
    Expect,
    Features,
    OnlyContent,
    Properties,
    Source,
    UploadJournal,
    pace_of,
)

_SECOND = 1_000_000_000
_FIRST_TIME = 1_700_000_000 * _SECOND


class MemoryStore(OnlyContent):
    """The `Store` contract over a dictionary; like an object store it holds any key up to 1024 bytes."""

    def __init__(self, name: str = "memory", *, raw_keys: bool = False) -> None:
        """With `raw_keys`, keys that no folder can hold are listed like all others."""
        self.name = name
        self.location = f"memory://{name}"
        self.features = Features(
            conditional_create=True,
            conditional_replace=True,
            conditional_delete=True,
            metadata=True,
            server_side_copy=True,
            raw_keys=raw_keys,
        )
        self._objects: dict[str, tuple[RemoteObject, bytes]] = {}
        self._writes = 0
        self._lock = threading.RLock()

    def prepare(self, saved: str | None) -> str | None:
        return None

    def list(
        self, prefix: str = "", *, boundaries: Sequence[str] = (), nested_own: bool = False
    ) -> Iterator[RemoteObject | Skipped]:
        hidden = hidden_in(prefix, nested_own=nested_own)
        with self._lock:
            listed = [described for described, _ in self._objects.values()]
        for described in sorted(listed):
            path = described.path
            if not path.startswith(prefix) or hidden(path):
                continue
            if (reason := malformed(path)) and not self.features.raw_keys:
                yield Skipped(path, reason)
            else:
                yield described._replace(digest=None, mtime_ns=None, operation=None)

    def stat(self, path: str) -> RemoteObject | None:
        with self._lock:
            held = self._objects.get(path)
        return held[0] if held else None

    @contextmanager
    def read(
        self,
        path: str,
        *,
        expect: RemoteObject | None = None,
        offset: int = 0,
        length: int | None = None,
    ) -> Iterator[_MemoryReader]:
        described, content = self._held(path, expect)
        end = len(content) if length is None else offset + length
        yield _MemoryReader(described, content[offset:end])

    def write(
        self,
        path: str,
        source: Source,
        *,
        expect: Expect,
        operation: str,
        trash_stamp: str | None = None,
        journal: UploadJournal | None = None,
        properties: Properties | None = None,
    ) -> RemoteObject:
        _check(path)
        content = source.read_at(0, source.size)
        source.verify()
        if source.digest not in (b"", sha256(content).digest()):
            raise PathBusy(f"{path}: the content is not what its digest says.")
        with Attempt(pace_of(source)) as attempt:
            attempt.take(len(content))
            with self._lock:
                self._keep(path, self._check_expected(path, expect), trash_stamp)
                attempt.count(len(content))
                return self._put(path, content, source.mtime_ns, operation)

    def delete(self, path: str, *, expect: Expect, trash_stamp: str | None = None) -> None:
        with self._lock:
            if path in self._objects:
                self._keep(path, self._check_expected(path, expect), trash_stamp)
                del self._objects[path]

    def copy(
        self,
        source: RemoteObject,
        target: str,
        *,
        expect: Expect,
        operation: str,
        trash_stamp: str | None = None,
    ) -> RemoteObject:
        _check(target)
        with self._lock:
            described, content = self._held(source.path, source)
            self._keep(target, self._check_expected(target, expect), trash_stamp)
            return self._put(target, content, described.mtime_ns, operation)

    def abort_stale(self, uploads: Iterable[tuple[str, str]]) -> None:
        """Do nothing: no upload outlives its call here."""

    def barrier(self) -> Mapping[str, RemoteObject]:
        return {}

    def close(self) -> None:
        pass

    def _held(self, path: str, expect: RemoteObject | None) -> tuple[RemoteObject, bytes]:
        with self._lock:
            held = self._objects.get(path)
        if held is None:
            raise ObjectNotFound(f"{self.name} has no object {path}.")
        if expect is not None and held[0].version != expect.version:
            raise PreconditionFailed(f"{path} changed in the store.")
        return held

    def _check_expected(self, path: str, expect: Expect) -> RemoteObject | None:
        current = self.stat(path)
        if expect is ABSENT and current is not None:
            raise PreconditionFailed(f"{path} already exists in {self.name}.")
        if isinstance(expect, RemoteObject) and (
            current is None or current.version != expect.version
        ):
            raise PreconditionFailed(f"{path} changed in the store.")
        return current

    def _keep(self, path: str, current: RemoteObject | None, trash_stamp: str | None) -> None:
        if current is not None and trash_stamp is not None:
            kept = f"{OWN_FOLDER}/trash/{trash_stamp}/{path}"
            self._objects[kept] = (current._replace(path=kept), self._objects[path][1])

    def _put(self, path: str, content: bytes, mtime_ns: int | None, operation: str) -> RemoteObject:
        self._writes += 1
        described = RemoteObject(
            path,
            len(content),
            _FIRST_TIME + self._writes * _SECOND,
            f"v{self._writes}",
            digest=sha256(content).digest(),
            mtime_ns=mtime_ns,
            operation=operation,
        )
        self._objects[path] = (described, content)
        return described


class _MemoryReader:
    """The `Reader` of an object in memory."""

    def __init__(self, described: RemoteObject, content: bytes) -> None:
        self.object = described
        self.properties = None
        self._content = content

    def __iter__(self) -> Iterator[bytes]:
        if self._content:
            yield self._content


def _check(path: str) -> None:
    try:
        length = len(path.encode())
    except UnicodeEncodeError as error:
        raise PathRefused(f"{path!r} is not valid UTF-8.") from error
    if not 0 < length <= MAX_PATH_BYTES:
        raise PathRefused(f"{path!r} is empty or longer than {MAX_PATH_BYTES} bytes.")
