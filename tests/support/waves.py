"""Counts requests, and how many waits for an answer a client makes one after the other; no clock has a say in it.

Requests are held back until the client has nothing left to do but wait: until
all threads of the process but the one that looks are asleep, and stay so. Then
all that are held are answered. Each such wave is one round trip, however busy
the machine is, and what is under way at once is one wait.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote

from tests.support.fake_s3 import Answer, Drop, Request
from tests.support.platform import FaultyPlatform, wire
from tests.support.s3 import FakeS3
from tests.support.s3.fake import Call

_LOOK_SECONDS = 0.002
_LOOKS = 2
_THREADS = "/proc/self/task"

_PROBED = ".craftsync/probe/"
_S3_WORDS = {
    "uploads": "begin upload",
    "partNumber": "part",
    "uploadId": "complete",
    "delete": "DELETE many",
    "list-type": "LIST",
}


@dataclass
class Waves:
    """What was asked since the last `counted`: the names of the requests, a list for each wave."""

    waves: list[list[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._held: list[tuple[str, threading.Event]] = []
        self._ends = False

    def hold(self, name: str) -> None:
        """Return when the request may be answered."""
        answered = threading.Event()
        with self._changed:
            self._held.append((name, answered))
            self._changed.notify()
        answered.wait()

    def counted(self) -> tuple[Counter[str], int]:
        """Return how often each request was made and in how many waves, and begin anew."""
        waves, self.waves = self.waves, []
        return Counter(name for wave in waves for name in wave), len(waves)

    def run(self) -> None:
        """Answer what is held, wave by wave, until `end`."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._held or self._ends)
                if not self._held:
                    return
            wait_for_sleep()
            with self._changed:
                held, self._held = self._held, []
                self.waves.append([name for name, _ in held])
            for _, answered in held:
                answered.set()

    def end(self) -> None:
        with self._changed:
            self._ends = True
            self._changed.notify()


@contextmanager
def counting() -> Iterator[Waves]:
    """Answer requests in waves for the length of a `with`."""
    waves = Waves()
    thread = threading.Thread(target=waves.run, name="waves")
    thread.start()
    try:
        yield waves
    finally:
        waves.end()
        thread.join()


def wait_for_sleep() -> None:
    """Return once all other threads have been asleep from one look to the next, a few times over."""
    own = threading.get_native_id()
    before, same = None, 0
    while same < _LOOKS:
        time.sleep(_LOOK_SECONDS)  # noqa: TID251 (no thread tells anybody that it waits)
        now = _switches(own)
        same = same + 1 if now is not None and now == before else 0
        before = now


def _switches(own: int) -> dict[str, bytes] | None:
    """Return how often each other thread was let run so far; `None` while one is awake."""
    found = {}
    for name in os.listdir(_THREADS):
        if int(name) == own:
            continue
        try:
            with open(f"{_THREADS}/{name}/status", "rb", buffering=0) as file:
                status = file.read()
        except (FileNotFoundError, ProcessLookupError):
            return None
        if b"\nState:\tS" not in status:
            return None
        found[name] = status[status.index(b"\nvoluntary_ctxt_switches") :]
    return found


class HeldS3(FakeS3):
    """A fake S3 whose requests are answered in waves."""

    waves: Waves

    def handle(self, request: Request) -> Answer | Drop:
        self.waves.hold(_s3_name(request))
        return super().handle(request)


def _s3_name(request: Request) -> str:
    names = {name.lower() for name in request.headers}
    if "versioning" in request.query or _PROBED in f"{unquote(request.target)}{request.body!r}":
        return "probe"
    if "x-amz-copy-source" in names:
        return "COPY"
    for part, name in _S3_WORDS.items():
        if part in request.query:
            return "abort upload" if request.method == "DELETE" and part == "uploadId" else name
    key = Call.of(request).key
    own = ".craftsync/" in key
    if own and key.endswith("store-id"):
        return f"{request.method} identity"
    return request.method


class HeldPlatform(FaultyPlatform):
    """A platform whose requests are answered in waves, those of its object store too."""

    waves: Waves

    def handle_api(self, request: wire.Request) -> wire.Answer | None:
        self.waves.hold(request.path.rpartition("/")[2])
        return super().handle_api(request)

    def handle_storage(self, request: wire.Request) -> wire.Answer | None:
        self.waves.hold(f"{request.method} bytes")
        return super().handle_storage(request)
