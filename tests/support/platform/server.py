"""The Craft AI platform's API and the object store behind it, faithful to the wire and in memory.

Independent of `craftsync serve`, so that an error in one is not hidden in the
other. It behaves well until a fault is injected (`faults`) or one of its
attributes is changed.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar
from urllib.parse import parse_qsl

import jwt

from tests.support.platform.bucket import Bucket, Stored
from tests.support.platform.faults import Fault, json_answer, refusal
from tests.support.platform.storage import Storage
from tests.support.platform.wire import Answer, Gate, Request, serving

API = "/api/v1/"

ROUTES = {
    "POST auth/refresh": "refresh",
    "GET users/me": "me",
    "GET environment-info": "info",
    "GET environment-summary": "summary",
    "GET health": "health",
    "GET data-store/list": "list",
    "POST data-store/information": "information",
    "GET data-store/upload": "upload",
    "POST data-store/upload/multipart": "begin",
    "POST data-store/upload/multipart/part": "part-url",
    "POST data-store/upload/multipart/end": "end",
    "POST data-store/download": "download",
    "DELETE data-store/delete": "delete",
}
ANONYMOUS = {"refresh", "info", "health"}
CONTROL = {"refresh", "me"}
JSON_BODIES = {"information", "begin", "part-url", "end"}
FORM_BODIES = {"download", "delete"}


@dataclass
class Injected:
    """A fault that waits for its requests."""

    endpoint: str
    fault: Fault
    times: int
    skip: int
    when: Callable[[Request], bool]


class FaultyPlatform:
    """One environment. `url` serves both as environment and as control address.

    What it was asked is in `requests`; connections are counted for the API and
    the object store apart, in `connections`.
    """

    def __init__(self, *, gcs: bool = False, page_size: int = 100, tick: float = 1.0) -> None:
        self.bucket = Bucket(tick)
        self.gate = Gate()
        self.storage = Storage(self.bucket, gcs=gcs)
        self.url = ""
        self.token = "an-sdk-token-of-the-tests"
        self.token_seconds = 3600
        self.page_size = page_size
        self.descending = False
        """Listings come in no order anybody could use."""
        self.folder_meaning = "below"
        """What `folder_path` asks for: all `below` a folder, its own `level`, any `prefix`, or `ignored`."""
        self.whole_seconds = False
        """A look tells times to the second, as HTTP does; a listing tells them to the millisecond."""
        self.path_pattern: str | None = None
        self.standby_status: int | None = None
        self.delete_missing_status = 200
        self.requests: list[Request] = []
        self.connections: Counter[str] = Counter()
        self._secret = secrets.token_hex(32)
        self._issued: set[str] = set()
        self._faults: list[Injected] = []
        self._lock = threading.Lock()

    def inject(
        self,
        endpoint: str,
        fault: Fault,
        *,
        times: int = 1,
        skip: int = 0,
        when: Callable[[Request], bool] = lambda request: True,
    ) -> None:
        """Let the next `times` requests to an endpoint go wrong, after `skip` that go well."""
        with self._lock:
            self._faults.append(Injected(endpoint, fault, times, skip, when))

    def heal(self) -> None:
        """Forget all injected faults, and what was asked so far."""
        with self._lock:
            self._faults.clear()
            self.requests.clear()
            self.connections.clear()

    def revoke(self) -> None:
        """Let every access token given out so far be refused from now on."""
        with self._lock:
            self._issued.clear()

    def regenerate(self) -> None:
        """Make the SDK token obsolete, as a person does on the platform's pages."""
        self.token = f"another-token-{secrets.token_hex(4)}"
        self.revoke()

    def standby(self, code: int | None = 503) -> None:
        """Answer everything about the environment with this; `None` wakes it up."""
        self.standby_status = code

    def count(self, *endpoints: str) -> int:
        """Return how often these were asked for."""
        with self._lock:
            return sum(request.endpoint in endpoints for request in self.requests)

    def put(self, path: str, content: bytes, **options: Any) -> Stored:
        """Store an object as another client would."""
        return self.bucket.put(path, content, **options)

    def content(self, path: str) -> bytes:
        return self.bucket.objects[path].content

    def paths(self) -> list[str]:
        return sorted(self.bucket.objects)

    def handle_api(self, request: Request) -> Answer | None:
        name = ROUTES.get(f"{request.method} {request.path.removeprefix(API)}", "unknown")
        return self._carried_out(request._replace(endpoint=name), self._api)

    def handle_storage(self, request: Request) -> Answer | None:
        name = self.storage.endpoint_of(request)
        return self._carried_out(request._replace(endpoint=name), self.storage.handle)

    def _carried_out(
        self, request: Request, handle: Callable[[Request], Answer | None]
    ) -> Answer | None:
        with self._lock:
            self.requests.append(request._replace(body=request.body[:4096]))
            injected = self._next_fault(request)
        if injected is None:
            return handle(request)
        return injected(request, partial(handle, request))

    def _next_fault(self, request: Request) -> Fault | None:
        for injected in self._faults:
            if injected.endpoint == request.endpoint and injected.when(request):
                if injected.skip:
                    injected.skip -= 1
                elif injected.times:
                    injected.times -= 1
                    return injected.fault
        return None

    def _api(self, request: Request) -> Answer:
        name = request.endpoint
        if name == "unknown":
            return refusal(404, f"There is no route {request.method} {request.path}", "NotFound")
        if self.standby_status is not None and name not in CONTROL:
            return refusal(self.standby_status, "The environment is not ready")
        if name not in ANONYMOUS and not self._is_authenticated(request):
            return refusal(401, "Unauthorized", "Unauthorized")
        try:
            return self._answers[name](self, _parameters(request))
        except (KeyError, ValueError) as error:
            return refusal(400, f"body or query do not match the required schema: {error!r}")

    def _is_authenticated(self, request: Request) -> bool:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        with self._lock:
            return scheme == "Bearer" and token in self._issued and self._is_current(token)

    def _is_current(self, token: str) -> bool:
        claims = jwt.decode(token, options={"verify_signature": False})
        return bool(claims["exp"] > self.bucket.now)

    def _refresh(self, parameters: dict[str, Any]) -> Answer:
        if not hmac.compare_digest(parameters["refresh_token"], self.token):
            return refusal(401, "The SDK token is not valid", "Unauthorized")
        now = int(self.bucket.now)
        claims = {"iat": now, "exp": now + self.token_seconds, "jti": secrets.token_hex(4)}
        token = jwt.encode(claims, self._secret, "HS256")
        with self._lock:
            self._issued.add(token)
        return json_answer({"access_token": token})

    def _me(self, parameters: dict[str, Any]) -> Answer:
        return json_answer({"id": "1", "name": "Tests", "email": "tests@example.org"})

    def _summary(self, parameters: dict[str, Any]) -> Answer:
        return json_answer({"environment_id": "1", "environment_status": "ready", "version": "1"})

    def _list(self, parameters: dict[str, Any]) -> Answer:
        listed = self.bucket.listing()
        if folder := parameters.get("folder_path", ""):
            listed = [item for item in listed if self._is_in(folder, item[0])]
        if self.descending:
            listed.reverse()
        token = parameters.get("continuation_token")
        if token is not None:
            listed = [item for item in listed if (item[0] < token) == self.descending]
            listed = [item for item in listed if item[0] != token]
        shown = listed[: self.page_size]
        page: dict[str, Any] = {"items": [_described(*item) for item in shown]}
        if len(listed) > len(shown):
            page["continuation_token"] = shown[-1][0]
        return json_answer(page)

    def _is_in(self, folder: str, path: str) -> bool:
        slashed = folder.rstrip("/") + "/"
        match self.folder_meaning:
            case "below":
                return path.startswith(slashed)
            case "level":
                return path.startswith(slashed) and "/" not in path.removeprefix(slashed)
            case "prefix":
                return path.startswith(folder)
        return True

    def _information(self, parameters: dict[str, Any]) -> Answer:
        path = parameters["path_to_object"]
        stored = self.bucket.objects.get(path)
        if stored is None:
            return refusal(404, f'The object "{path}" does not exist', "NotFound")
        if self.whole_seconds:
            stored = stored._replace(modified=float(int(stored.modified)))
        return json_answer(_described(path, stored))

    def _upload(self, parameters: dict[str, Any]) -> Answer:
        path = parameters["path_to_object"]
        return self._unless_refused(path) or json_answer(self.storage.form_for(path))

    def _begin(self, parameters: dict[str, Any]) -> Answer:
        path = parameters["path_to_object"]
        return self._unless_refused(path) or json_answer({"upload": self.bucket.begin(path)})

    def _part_url(self, parameters: dict[str, Any]) -> Answer:
        upload_id = parameters["multipart_upload_configuration"]["upload"]
        number, chunk = int(parameters["part_number"]), int(parameters["chunk_size"])
        size = parameters.get("size")
        if number < 1 or self.bucket.uploads[upload_id].path != parameters["path_to_object"]:
            raise ValueError("part_number or multipart_upload_configuration")
        return json_answer(self.storage.part_for(upload_id, number, chunk, size))

    def _end(self, parameters: dict[str, Any]) -> Answer:
        upload_id = parameters["multipart_upload_configuration"]["upload"]
        refused = self.storage.finish(upload_id, parameters["parts"])
        return refusal(400, refused, "InvalidPart") if refused else Answer(204)

    def _download(self, parameters: dict[str, Any]) -> Answer:
        return json_answer({"signed_url": self.storage.signed("GET", parameters["path_to_object"])})

    def _delete(self, parameters: dict[str, Any]) -> Answer:
        path = parameters["path_to_object"]
        if path not in self.bucket.objects and self.delete_missing_status >= 400:
            return refusal(
                self.delete_missing_status, f'The object "{path}" does not exist', "NotFound"
            )
        self.bucket.delete(path)
        return json_answer({"path": path})

    def _unless_refused(self, path: str) -> Answer | None:
        if self.path_pattern is None or re.fullmatch(self.path_pattern, path):
            return None
        return refusal(400, '"path_to_object" does not match the required pattern.', "BadRequest")

    _answers: ClassVar[dict[str, Callable[[FaultyPlatform, dict[str, Any]], Answer]]] = {
        "refresh": _refresh,
        "me": _me,
        "info": _summary,
        "summary": _summary,
        "health": _summary,
        "list": _list,
        "information": _information,
        "upload": _upload,
        "begin": _begin,
        "part-url": _part_url,
        "end": _end,
        "download": _download,
        "delete": _delete,
    }


def _described(path: str, stored: Stored) -> dict[str, Any]:
    moment = datetime.fromtimestamp(stored.modified, UTC).isoformat(timespec="milliseconds")
    modified = moment.replace("+00:00", "Z")
    return {"path": path, "last_modified": modified, "size": len(stored.content)}


def _parameters(request: Request) -> dict[str, Any]:
    """Return the parameters from where this route takes them, and from nowhere else."""
    kind = request.headers.get("content-type", "").partition(";")[0]
    if request.endpoint in JSON_BODIES | {"refresh"}:
        if kind != "application/json":
            raise ValueError("the body is not JSON")
        parsed: dict[str, Any] = json.loads(request.body)
        return parsed
    if request.endpoint in FORM_BODIES:
        if kind != "application/x-www-form-urlencoded":
            raise ValueError("the body is not a form")
        return dict(parse_qsl(request.body.decode(), keep_blank_values=True))
    return dict(request.query)


@contextmanager
def faulty_platform(
    make: Callable[..., FaultyPlatform] = FaultyPlatform, **options: Any
) -> Iterator[FaultyPlatform]:
    """Run a platform and the object store behind it."""
    platform = make(**options)

    def accepted(side: str) -> None:
        platform.connections[side] += 1

    def now() -> float:
        return platform.bucket.now

    gate, api, storage = platform.gate, platform.handle_api, platform.handle_storage
    with (
        serving(api, gate, partial(accepted, "api"), now) as url,
        serving(storage, gate, partial(accepted, "storage"), now) as bucket,
    ):
        platform.url, platform.storage.url = url, bucket
        try:
            yield platform
        finally:
            platform.gate.open()
