"""The program of a worker process: the public functions of the SDK, one call after another.

Orders come in on standard input and answers go out on standard output, each
one JSON object a line. It runs in a process of its own because the functions
hold whole objects in memory, know no timeout and share one session badly
between threads; `child_process` starts it, and ends it when it takes too long.
Knows nothing of stores: what an answer means is decided by who asked.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import sys
import warnings
from collections.abc import Iterator
from typing import Any

BATCH = 500
"""Objects of a listing in one line of an answer."""
GRACE_SECONDS = 30
"""How much longer than its parent the child waits before it ends itself, should the parent be gone."""


class _Measure:
    """A target for a download that keeps nothing but the size and digest of what it is given."""

    def __init__(self) -> None:
        self.size = 0
        self.digest = hashlib.sha256()

    def write(self, content: bytes) -> None:
        self.size += len(content)
        self.digest.update(content)


class _Functions:
    """What can be ordered, by name; each yields its answers, the last one being the result."""

    def __init__(self, order: dict[str, Any]) -> None:
        with warnings.catch_warnings():
            # Importing the SDK changes the filters of the whole process.
            import craft_ai_sdk

            make: Any = craft_ai_sdk.CraftAiSdk
            self._sdk = make(
                sdk_token=order["token"],
                environment_url=order["environment_url"],
                control_url=order["control_url"],
                verbose_log=False,
            )
        _limit_memory(order["memory"])

    def list(self, order: dict[str, Any]) -> Iterator[object]:
        batch: list[tuple[str, str, str]] = []
        for found in self._sdk.iter_data_store_objects():
            batch.append((found["path"], str(found["last_modified"]), str(found["size"])))
            if len(batch) == BATCH:
                yield batch
                signal.alarm(_patience(order))
                batch = []
        yield batch

    def look(self, order: dict[str, Any]) -> Iterator[object]:
        found = self._sdk.get_data_store_object_information(order["path"])
        yield found["path"], str(found["last_modified"]), str(found["size"])

    def upload(self, order: dict[str, Any]) -> Iterator[object]:
        with open(order["file"], "rb", buffering=0) as opened:
            # Without a name of its own: that would be sent along.
            self._sdk.upload_data_store_object(_Nameless(opened.fileno()), order["path"])
        yield None

    def download(self, order: dict[str, Any]) -> Iterator[object]:
        self._sdk.download_data_store_object(order["path"], order["file"])
        yield None

    def measure(self, order: dict[str, Any]) -> Iterator[object]:
        measure = _Measure()
        self._sdk.download_data_store_object(order["path"], measure)
        yield measure.size, measure.digest.hexdigest()

    def delete(self, order: dict[str, Any]) -> Iterator[object]:
        self._sdk.delete_data_store_object(order["path"])
        yield None


class _Nameless:
    """A file to be read, with just the methods the SDK asks for."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            size = os.fstat(self._descriptor).st_size
        parts = []
        while size and (part := os.read(self._descriptor, size)):
            parts.append(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return os.lseek(self._descriptor, offset, whence)

    def tell(self) -> int:
        return os.lseek(self._descriptor, 0, os.SEEK_CUR)


def main() -> None:
    """Carry out orders until there are no more."""
    orders = sys.stdin.buffer
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    # What the SDK or a library prints is no answer.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    functions: _Functions | None = None
    for line in orders:
        order = json.loads(line)
        signal.alarm(_patience(order))
        try:
            if functions is None:
                functions = _Functions(order)
                results: Iterator[object] = iter([None])
            else:
                results = getattr(functions, order["do"])(order)
            for result in results:
                answers.write(json.dumps({"result": result}) + "\n")
            answer: dict[str, object] = {"done": True}
        except Exception as error:  # noqa: BLE001 (whatever it is, the parent is to hear of it)
            answer = {"failed": _description(error)}
        signal.alarm(0)
        answers.write(json.dumps(answer) + "\n")


def _patience(order: dict[str, Any]) -> int:
    return int(order["seconds"]) + GRACE_SECONDS


def _limit_memory(more: int) -> None:
    """Let this process take no more address space than so many bytes beyond what it has now."""
    with open("/proc/self/statm") as statm:
        pages = int(statm.read().split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    soft = pages * resource.getpagesize() + more
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _description(error: Exception) -> dict[str, object]:
    """Return what the parent needs to tell failures apart; the text is for people."""
    return {
        "type": type(error).__name__,
        "module": type(error).__module__,
        "status": getattr(error, "status_code", None),
        "name": getattr(error, "name", None),
        "errno": getattr(error, "errno", None),
        "message": _text(error),
    }


def _text(error: Exception) -> str:
    """Return the platform's words; other exceptions may hold a signed URL in theirs."""
    message = getattr(error, "message", None)
    return " ".join(message.split())[:300] if isinstance(message, str) else type(error).__name__


if __name__ == "__main__":
    main()
