"""The platform's API: its token, and the nine calls craftsync makes, each one a method.

No order of steps here. Keys are whole keys of the environment. How the bodies
are encoded differs from route to route, as the platform wants it
(craft-ai-sdk 0.74.7, core/data_store.py). Requests go over connections that are
kept and never waited for without end. Nothing is retried but a request that was
refused for its token, once.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import threading
import zlib
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from ssl import SSLContext
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from craftsync.clock import Clock
from craftsync.core.model import RemoteObject
from craftsync.errors import Interrupted, ObjectNotFound, PathRefused, StoreDenied, StoreUnavailable
from craftsync.net.hosts import CertificateAuthorities, Host, NotConnected, tls_context
from craftsync.net.http import Buffer, Response
from craftsync.net.waiting import after_fork, blocking
from craftsync.stores.craftai.errors import (
    SDK_TOKEN,
    about_the_store,
    another_form,
    not_exchanged,
    platform_answer,
    refused,
    unintelligible,
    unreachable,
)
from craftsync.stores.craftai.listing import InvalidDescription, described

CONTROL_URL = "https://mlops-platform.craft.ai"
"""Where tokens are exchanged unless something else is said (craft-ai-sdk 0.74.7, sdk.py:203)."""
PROTOCOL = "craft-ai-sdk@0.74.7"
"""The client whose requests these are like: the platform may answer older ones in another form."""
TIMEOUT = (10.0, 60.0)
"""Seconds for a connection, and for each wait for bytes."""
CONNECTIONS = 256
"""So many are kept for each host, at most: one for each transfer that can be under way."""

_MARGIN_SECONDS = 120.0
"""A token is renewed so long before its end, or when a fifth of its life is left if that is less."""
_TOKEN = re.compile(r"[\w-]+\.([\w-]+)\.[\w-]*", re.ASCII)
_NOT_IN_A_TARGET = re.compile("[^!-~]")
_SAFE = "!#$%&'()*+,/:;=?@[]~"
"""Punctuation that is left as it is in a target; a percent sign is one of an escape already."""


@dataclass(frozen=True, slots=True)
class Access:
    """An environment and the SDK token for it. `repr` does not show the token.

    Where the token comes from is the business of the caller. `token` may be
    called again at any time: a token that was regenerated is then found where
    the old one was. It raises `UsageError` when there is none.
    """

    environment_url: str
    token: Callable[[], str] = field(repr=False, compare=False)
    control_url: str = CONTROL_URL
    token_name: str = SDK_TOKEN
    """What a message calls the token: it says where that comes from."""

    @property
    def location(self) -> str:
        """The address of the environment as the command line takes it."""
        return f"craft-ai+{self.environment_url.rstrip('/')}"

    @property
    def name(self) -> str:
        """The environment's name: the first part of its host's name."""
        host = urlsplit(self.environment_url).hostname or "craft-ai"
        return host if host.replace(".", "").isdecimal() else host.partition(".")[0]


class Answer(NamedTuple):
    """An answer with all of its body."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Connections:
    """Sends requests and hands out their answers; redirects are answers, and nothing is retried.

    `configured`: the names of the hosts were written by a person, and not by the platform.
    """

    def __init__(self, location: str, *, configured: bool = False) -> None:
        self._location = location
        self._configured = configured
        self._hosts: dict[str, Host] = {}
        self._cancelled = False

    @contextmanager
    def sent(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Iterable[Buffer] = b"",
    ) -> Iterator[Response]:
        """Send a request and hand out its answer, the body of which is still to be read.

        A connection with bytes left over is closed. Raises `StoreUnavailable`
        for a request without an answer; what breaks off later reaches the
        reader as `OSError`.
        """
        parts = urlsplit(url)
        place = f"{parts.scheme}://{parts.netloc}"
        host = self._hosts.get(place)
        if host is None:
            host = self._hosts.setdefault(place, Host(urlsplit(place), CONNECTIONS, _encryption))
            if self._cancelled:
                raise Interrupted
        target = _escaped(
            f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        )
        connect, timeout = TIMEOUT
        named = {"host": parts.netloc.rpartition("@")[2], **headers}
        try:
            response = host.request(method, target, named, body, timeout, connect)
        except OSError as error:
            sent = not isinstance(error, NotConnected)
            raise unreachable(
                self._location, error, sent=sent, configured=self._configured
            ) from error
        try:
            yield response
        finally:
            host.take_back(response)

    def whole(self, method: str, url: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
        """Send a request and return its answer with all of its body."""
        packed = {**headers, "Accept-Encoding": "gzip"}
        with self.sent(method, url, packed, body) as response:
            try:
                content = response.read()
                if response.headers.get("content-encoding", "").lower() == "gzip":
                    content = gzip.decompress(content)
            except (OSError, EOFError, zlib.error) as error:
                raise unreachable(self._location, error, sent=True) from error
            return Answer(response.status, response.headers, content)

    def cancel(self) -> None:
        self._cancelled = True
        for host in list(self._hosts.values()):
            host.cancel()

    def renew(self) -> None:
        self._cancelled = False
        for host in list(self._hosts.values()):
            host.renew()

    def close(self) -> None:
        for host in self._hosts.values():
            host.close()


def _escaped(target: str) -> str:
    """Return what may stand in a request for a path and query that somebody else may not have encoded."""
    return quote(target, safe=_SAFE) if _NOT_IN_A_TARGET.search(target) else target


def _encryption() -> SSLContext:
    """Return the context that trusts those who vouch for servers: the SDK's variables go before the machine's own."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if path := os.environ.get(name):
            return tls_context(CertificateAuthorities(path, name))
    return tls_context(None)


class Token:
    """The token requests are made with: exchanged for the SDK token, kept while it is good, renewed once for all threads."""

    def __init__(self, access: Access, clock: Clock) -> None:
        """Raises `UsageError` when there is no SDK token; sends nothing."""
        self._access = access
        self._clock = clock
        self._sdk_token = access.token()
        self._token = ""
        self._seconds = self._renew_at = 0.0
        self.connections = Connections(access.control_url, configured=True)
        self._unlock()
        after_fork(self, Token._unlock)

    def _unlock(self) -> None:
        self._lock = threading.Lock()

    def current(self) -> str:
        """Return a token that is good for a while; however many ask, one request is made."""
        if self._clock.monotonic() >= self._renew_at:
            blocking(self._renew_once)
        return self._token

    def lifetime(self) -> float:
        """Return for how many seconds the platform says its tokens are good."""
        self.current()
        return self._seconds

    def after(self, refused_token: str) -> str:
        """Return another token than one that was refused, unless somebody else has renewed it already."""
        blocking(partial(self._replace, refused_token))
        return self._token

    def _renew_once(self) -> None:
        with self._lock:
            if self._clock.monotonic() >= self._renew_at:
                self._renew()

    def _replace(self, refused_token: str) -> None:
        with self._lock:
            if self._token == refused_token:
                self._renew()

    def _renew(self) -> None:
        began = self._clock.monotonic()
        try:
            token, seconds = self._exchanged()
        except StoreDenied:
            fresh = self._access.token()
            if fresh == self._sdk_token:
                raise
            self._sdk_token = fresh
            token, seconds = self._exchanged()
        self._token, self._seconds = token, seconds
        # When a token ends is decided here, by a clock that never jumps.
        self._renew_at = began + seconds - min(_MARGIN_SECONDS, seconds / 5)

    def _exchanged(self) -> tuple[str, float]:
        """Trade the SDK token for one that requests are made with; return it and its life in seconds."""
        control = self._access.control_url.rstrip("/")
        body = json.dumps({"refresh_token": self._sdk_token}).encode()
        headers = {**_HEADERS, "Content-Type": "application/json"}
        try:
            answer = self.connections.whole("POST", f"{control}/api/v1/auth/refresh", headers, body)
        except StoreUnavailable as error:
            error.ambiguous = False  # An exchange that was carried out unheard changes nothing.
            raise
        if not 200 <= answer.status < 300:
            refusal = platform_answer(answer.status, answer.headers, None)
            access = self._access
            raise not_exchanged(refusal, control, access.location, token=access.token_name)
        found = _json(answer)
        if found is _UNREAD:
            raise unintelligible(control, "token")
        try:
            return found["access_token"], _life(found["access_token"])
        except (TypeError, ValueError, KeyError):
            raise another_form(control, "token") from None


def _life(token: str) -> float:
    """Return for how many seconds a token is good, by the difference of its own two times."""
    claims = _TOKEN.fullmatch(token)
    if claims is None:
        raise ValueError("not a token")
    found = json.loads(urlsafe_b64decode(claims[1] + "=" * (-len(claims[1]) % 4)))
    return float(found["exp"] - found["iat"])


_HEADERS = {"User-Agent": "craftsync", "Accept": "*/*", "craft-ai-client": PROTOCOL}


class Part(NamedTuple):
    """Where bytes go: a signed URL, and the headers or the fields of a form that belong to it."""

    url: str
    more: Mapping[str, str]


class Platform:
    """One environment's data store, asked from any number of threads.

    `path` of an error is the object a refusal is about. Raises craftsync's own errors only.
    """

    def __init__(self, access: Access, location: str, clock: Clock) -> None:
        """Raises `UsageError` when there is no token; sends nothing."""
        self._location = location
        self._token_name = access.token_name
        self._base = f"{access.environment_url.rstrip('/')}/api/v1/data-store"
        self._connections = Connections(location, configured=True)
        self.token = Token(access, clock)
        self.date: str | None = None

    def list_page(self, folder: str | None, token: str | None) -> Any:
        """Return one page of a listing as it came; `folder` has no slash at its end."""
        query = {"folder_path": folder, "continuation_token": token}
        return self._call("GET", "list", query={name: text for name, text in query.items() if text})

    def stat(self, key: str) -> RemoteObject | None:
        """Describe an object under its key; `None` when there is none, or can be none."""
        try:
            answer = self._call("POST", "information", key, body={"path_to_object": key})
        except (ObjectNotFound, PathRefused):
            return None
        try:
            return described(answer, key)
        except InvalidDescription as error:
            raise another_form(self._location, f"description of {key}") from error

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is a success."""
        try:
            self._call("DELETE", "delete", key, form={"path_to_object": key})
        except ObjectNotFound:
            return

    def upload_url(self, key: str) -> Part:
        """Return where a form with a whole object goes, and its fields."""
        answer = self._call("GET", "upload", key, query={"path_to_object": key})
        return self._signed(answer, "fields")

    def download_url(self, key: str) -> str:
        answer = self._call("POST", "download", key, form={"path_to_object": key})
        return self._signed(answer).url

    def begin_upload(self, key: str) -> str:
        """Begin an upload in parts and return what the platform calls its configuration, as text."""
        return json.dumps(self._call("POST", "upload/multipart", key, body={"path_to_object": key}))

    def part_url(
        self, key: str, upload: str, number: int, part_size: int, size: int | None
    ) -> Part:
        """Return where a part goes; `size` is that of the whole object, and given for the last part only."""
        body = {
            "path_to_object": key,
            "multipart_upload_configuration": json.loads(upload),
            "chunk_size": part_size,
            "part_number": number,
        }
        if size is not None:
            body["size"] = size
        return self._signed(self._call("POST", "upload/multipart/part", key, body=body), "headers")

    def end_upload(self, key: str, upload: str, parts: Mapping[int, str | None]) -> None:
        """Turn the parts into an object. A part whose ETag is unknown goes without one."""
        rows = [
            {"number": number} if etag is None else {"number": number, "metadata": etag}
            for number, etag in sorted(parts.items())
        ]
        body = {
            "path_to_object": key,
            "multipart_upload_configuration": json.loads(upload),
            "parts": rows,
        }
        self._call("POST", "upload/multipart/end", key, body=body)

    def cancel(self) -> None:
        """End the requests under way, as `stores.base.Cancellable` says."""
        self._connections.cancel()
        self.token.connections.cancel()

    def renew(self) -> None:
        self._connections.renew()
        self.token.connections.renew()

    def close(self) -> None:
        self._connections.close()
        self.token.connections.close()

    def _call(
        self,
        method: str,
        route: str,
        path: str | None = None,
        *,
        query: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> Any:
        """Make a call and return the JSON of its answer, `None` for an empty one."""
        url = f"{self._base}/{route}" + (f"?{urlencode(query)}" if query else "")
        headers, content = dict(_HEADERS), b""
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = json.dumps(body).encode()
        elif form:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            content = urlencode(form).encode()
        token = self.token.current()
        answer = self._sent(method, url, headers, content, token)
        if answer.status == 401:
            answer = self._sent(method, url, headers, content, self.token.after(token))
        self.date = answer.headers.get("date")
        if 200 <= answer.status < 300:
            if answer.status == 204 or answer.content == b"OK":
                return None
            found = _json(answer)
            if found is _UNREAD:
                raise unintelligible(self._location, "answer of the platform's API")
            return found
        refusal = platform_answer(answer.status, answer.headers, _json(answer))
        if path is None:
            raise about_the_store(refusal, self._location, token=self._token_name)
        raise refused(refusal, self._location, path, token=self._token_name)

    def _sent(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes, token: str
    ) -> Answer:
        authorized = {**headers, "Authorization": f"Bearer {token}"}
        return self._connections.whole(method, url, authorized, content)

    def _signed(self, answer: Any, more: str | None = None) -> Part:
        """Return the signed URL of an answer and the texts that go with it."""
        url = answer.get("signed_url") if isinstance(answer, dict) else None
        texts = answer.get(more) if more and isinstance(answer, dict) else {}
        if not isinstance(url, str) or not isinstance(texts, dict):
            raise another_form(self._location, "signed URL")
        return Part(url, {str(name): str(text) for name, text in texts.items()})


_UNREAD = object()


def _json(answer: Answer) -> Any:
    """Return what a body holds as JSON, `_UNREAD` for anything else."""
    try:
        return json.loads(answer.content)
    except (ValueError, RecursionError):
        return _UNREAD
