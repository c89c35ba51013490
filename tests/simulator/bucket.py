"""The real S3 store on a bucket in memory: its requests go to `tests.support.s3` without a socket.

`Fail.kind` is what a server does wrong once; its personality is what it always does.
The store's own code handles both, from the probe to the last retry.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from typing import Any

from craftsync.clock import Clock
from craftsync.net.hosts import NotConnected
from craftsync.stores.base import Store
from craftsync.stores.s3 import store as store_module
from craftsync.stores.s3 import wire
from craftsync.stores.s3.credentials import Keys, Session
from craftsync.stores.s3.preconditions import Limits
from craftsync.stores.s3.store import S3Store
from tests.simulator.determinism import replaced
from tests.simulator.steps import Fail
from tests.support.fake_s3 import Answer, Drop, Request
from tests.support.s3 import PERSONALITIES, FakeS3
from tests.support.s3.bucket import Stored
from tests.support.s3.fake import Call
from tests.support.world import Bytes

S3 = "s3 "
"""The start of the name of each S3 personality."""
SERVERS = {
    S3 + name: replace(personality, smallest_part=1)
    for name, personality in PERSONALITIES.items()
    if name not in ("requester-pays", "virtual-hosted", "kms")
} | {S3 + "lagging": replace(PERSONALITIES["plain"], smallest_part=1)}
_BUCKET, _FOLDER = "bucket", "folder/"
_LAG_SECONDS = 3.0
_PAGE = 3
_LIMITS = Limits(single_put=64, smallest_part=32, quick_copy=64)
"""Low limits: each seventh content is too large for a single request."""
_PROBES = ".craftsync/probe/"
_PORTAL = Answer(200, b"<html>Please log in.</html>", (("Content-Type", "text/html"),))
_SLOW = Answer(503, b"<Error><Code>SlowDown</Code><Message></Message></Error>")
_BROKEN = Answer(500, b"<Error><Code>InternalError</Code><Message></Message></Error>")

Objects = dict[str, list[Stored]]
OnRequest = Callable[[str, str, bool], Fail | None]
"""Called with operation, path and `False` before a request, `True` after it; returns the failure to simulate."""


class SimulatedBucket:
    """A store whose objects are in a bucket of a simulated S3 server; used like `SimulatedStore`."""

    def __init__(self, name: str, clock: Clock, on_request: OnRequest) -> None:
        self._folder = _FOLDER
        self.lags = name == S3 + "lagging"
        self._clock = clock
        self._on_request = on_request
        self._server = FakeS3(SERVERS[name], clock=self._stamp, most_listed=_PAGE)
        self._bucket = self._server.bucket(_BUCKET)
        self._last_stamp = 0
        self._past: list[tuple[float, Objects]] = []
        self._shown: dict[str, dict[str, bytes]] = {}
        """By prefix: its contents, unless something has changed since."""
        self._last: dict[str, dict[str, bytes]] = {}
        """By prefix: the contents that were returned last."""
        self._of_key: dict[tuple[str, str], tuple[list[Stored], dict[str, bytes]]] = {}
        self.lost_writes: list[tuple[str, bytes, bytes | None]] = []
        """Writes that were acknowledged and lost: path, content, and the content that is there instead."""

    @property
    def location(self) -> str:
        return f"s3://{_BUCKET}/{self._folder}".rstrip("/")

    def sibling(self, folder: str) -> SimulatedBucket:
        """Return a store on another prefix of the same bucket."""
        other = copy(self)
        other._folder = folder
        return other

    @property
    def checks_conditions(self) -> bool:
        """Whether the server refuses a write if another program has changed the object since the stat."""
        mine = self._server.personality
        checked = {"put", "delete", "complete"} <= mine.conditions
        return checked and mine.knows_conditions and mine.etags != "none"

    @property
    def hides_below(self) -> bool:
        return self._server.personality.hides_below

    @property
    def throttles(self) -> bool:
        """Whether the server rejects requests at random."""
        return self._server.personality.slow_down > 0

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Connect every new S3 store to this server."""
        session = Session(f"http://s3.invalid/{_BUCKET}", "x", lambda: Keys("a", "b"), False)
        with replaced(
            (wire, "Host", lambda *_: _Host(self._answered)),
            (store_module, "open_session", lambda *_, **__: session),
        ):
            yield

    def calm(self) -> None:
        """Stop rejecting requests, and list the current objects."""
        self.lags = False
        self._past.clear()
        self._server.personality = replace(self._server.personality, slow_down=0.0)

    def connect(self) -> Store:
        return S3Store(_BUCKET, self._folder, clock=self._clock, limits=_LIMITS)

    def contents(self) -> dict[str, bytes]:
        """Return every object, the trash too, and older versions as `.craftsync/versions/PATH/VERSION`."""
        if self._folder in self._shown:
            return self._shown[self._folder]
        found: dict[str, bytes] = {}
        for key, versions in self._bucket.versions.items():
            known = self._of_key.get((self._folder, key))
            if known is None or known[0] is not versions:
                known = self._of_key[self._folder, key] = versions, self._kept_as(key, versions)
            found.update(known[1])
        if found == self._last.get(self._folder):
            found = self._last[self._folder]
        self._last[self._folder] = self._shown[self._folder] = found
        return found

    def _kept_as(self, key: str, versions: list[Stored]) -> dict[str, bytes]:
        path, found = key.removeprefix(self._folder), dict[str, bytes]()
        if path == key or path.startswith(_PROBES):
            return found
        for stored in versions:
            if not stored.deleted:
                found[f".craftsync/versions/{path}/{stored.version}"] = stored.content
        if versions and not versions[-1].deleted:
            found[path] = versions[-1].content
        return found

    def put(self, path: str, source: Bytes) -> None:
        """Write an object as another program, such as rclone, does."""
        mtime = f"{(source.mtime_ns or 0) // 10**9}.{(source.mtime_ns or 0) % 10**9:09d}"
        about = Stored(b"", "", 0, "", metadata={"mtime": mtime})
        if not self._server.personality.metadata:
            about = replace(about, metadata={})
        content = source.read_at(0, source.size)
        self._changes()
        stored = self._bucket.described(self._server.personality, content, about)
        self._bucket.put(self._server.personality, self._folder + path, stored)

    def remove(self, path: str) -> None:
        self._changes()
        self._bucket.delete(self._server.personality, self._folder + path, None)

    def corrupt(self, path: str, content: bytes) -> None:
        """Change the content of an object without any trace."""
        *older, last = self._bucket.versions[self._folder + path]
        self._shown.clear()
        self._bucket.versions[self._folder + path] = [*older, replace(last, content=content)]

    def backup(self) -> Objects:
        return {key: list(versions) for key, versions in self._bucket.versions.items()}

    def restore(self, saved: Objects) -> None:
        self._shown.clear()
        self._bucket.versions = {key: list(versions) for key, versions in saved.items()}

    def _stamp(self) -> int:
        """Return the time of a new object. Without ETags, no two have the same second, as only it tells them apart."""
        apart = 10**9 if self._server.personality.etags == "none" else 0
        self._last_stamp = max(self._clock.now_ns(), self._last_stamp + apart)
        return self._last_stamp

    def _changes(self) -> None:
        """Keep the objects that a lagging listing still shows."""
        self._shown.clear()
        if self.lags:
            now = self._clock.monotonic()
            self._past = [(at, old) for at, old in self._past if now - at <= _LAG_SECONDS]
            self._past.append((now, self.backup()))

    def _answered(self, request: Request) -> Answer:
        """Return the answer to a request, or raise the simulated network error."""
        call = Call.of(request)
        if _PROBES in call.key or "delete" in call.query:
            return self._handled(request, call)
        what = f"{call.method}{''.join(sorted(call.query.keys() & _NAMED)) and ' …'}"
        path = call.key.removeprefix(_FOLDER)
        fail = self._on_request(what, path, False)
        if fail is not None and (answer := _instead(fail, call)) is not None:
            return answer
        before = self._bucket.versions.get(call.key)
        answer = self._handled(request, call)
        if fail is not None and fail.kind == "lie" and call.method in ("PUT", "POST"):
            self._lose(call.key, path, before)
        self._on_request(what, path, True)
        return _changed(answer, fail, call)

    def _handled(self, request: Request, call: Call) -> Answer:
        if call.method in ("PUT", "POST", "DELETE"):
            self._changes()
        now, shown = self._clock.monotonic(), self._bucket.versions
        past = [old for at, old in self._past if now - at <= _LAG_SECONDS]
        is_listing = call.method == "GET" and not call.key
        if is_listing and past:
            self._bucket.versions = past[0]
        answer = self._server.handle(request)
        if is_listing:
            self._bucket.versions = shown
        self._server.requests.clear()
        assert not isinstance(answer, Drop)
        return answer

    def _lose(self, key: str, path: str, before: list[Stored] | None) -> None:
        now = self._bucket.versions.get(key)
        is_all_there_is = path.startswith(".craftsync/") or "(conflict " in path
        if now is None or now == before or is_all_there_is:
            return
        was = before[-1] if before and not before[-1].deleted else None
        self.lost_writes.append((path, now[-1].content, was.content if was else None))
        self._shown.clear()
        self._bucket.versions[key] = before or []


_NAMED = {"uploads", "uploadId", "versions", "versioning", "tagging", "list-type"}


def _instead(fail: Fail, call: Call) -> Answer | None:
    """Return the answer that replaces the server's, `None` for none, or raise for a request that never arrives."""
    if fail.kind == "throttled":
        return _SLOW
    if fail.kind == "portal":
        return _PORTAL
    if fail.kind == "error" and not fail.after:
        return _BROKEN
    if fail.kind == "" and not fail.after:
        raise OSError("reset") if fail.doubt else NotConnected("refused")
    return None


def _changed(answer: Answer, fail: Fail | None, call: Call) -> Answer:
    """Return what arrives of an answer, or raise if nothing does."""
    if fail is None:
        return answer
    if fail.kind == "" and fail.after:
        raise OSError("reset")
    if fail.kind == "error" and fail.after:
        return _BROKEN
    if fail.kind == "cut":
        return answer._replace(cut=len(answer.body) // 2)
    if fail.kind == "truncated" and "list-type" in call.query:
        rows = re.split(b"(?=<Contents>)", answer.body)
        ended = rows[0].replace(b"<IsTruncated>true", b"<IsTruncated>false")
        ended = re.sub(rb"<NextContinuationToken>.*?</NextContinuationToken>", b"", ended)
        return answer._replace(
            body=ended + rows[1] if len(rows) > 2 else ended + b"</ListBucketResult>"
        )
    if fail.kind == "repeated" and "continuation-token" in call.query:
        token = call.query["continuation-token"].encode()
        return answer._replace(
            body=re.sub(rb"(<NextContinuationToken>).*?<", rb"\g<1>" + token + b"<", answer.body)
        )
    return answer


class _Host:
    """The part of `hosts.Host` that a store uses."""

    def __init__(self, answered: Callable[[Request], Answer]) -> None:
        self._answered = answered

    def request(
        self, method: str, target: str, headers: Mapping[str, str], body: Any, *_: object
    ) -> _Reply:
        content = body if isinstance(body, bytes) else b"".join(map(bytes, body))
        return _Reply(self._answered(Request(method, target, dict(headers), content)), method)

    def take_back(self, response: object) -> None:
        """Do nothing: there is no connection to keep."""

    cancel = renew = close = lambda self: None


class _Reply:
    """The part of `connection.Response` that a store uses."""

    def __init__(self, answer: Answer, method: str) -> None:
        self.status = answer.status
        self.headers = {name.lower(): value for name, value in answer.headers}
        self._body = b"" if method == "HEAD" else answer.body
        if method != "HEAD":
            self.headers["content-length"] = str(len(answer.body))
        self._ends = len(self._body) if answer.cut is None else answer.cut

    def read(self, most: int | None = None) -> bytes:
        piece = self._body[: self._ends if most is None else min(most, self._ends)]
        self._body, self._ends = self._body[len(piece) :], self._ends - len(piece)
        if self._body and not self._ends and not piece:
            raise OSError("the answer ended before its end")
        if most is None and self._body:
            raise OSError("the answer ended before its end")
        return piece
