"""The platform's API: `Token`, and `Platform` with one method for each of the nine calls.

Keys are complete keys of the environment. The encoding of a body differs between routes, as the
platform requires (craft-ai-sdk 0.74.7, core/data_store.py). Requests use kept connections, and
every wait has a timeout. Only a request refused for its token is retried, once.
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
"""The default URL of the token exchange (craft-ai-sdk 0.74.7, sdk.py:203)."""
PROTOCOL = "craft-ai-sdk@0.74.7"
"""The client that these requests imitate: the platform may answer older clients in another form."""
TIMEOUT = (10.0, 60.0)
"""Seconds to connect, and for each wait for bytes."""
CONNECTIONS = 256
"""The most connections kept for each host: one for each transfer that can be under way."""

_MARGIN_SECONDS = 120.0
"""A token is renewed this long before its end, or in the last fifth of its life if that is shorter."""
_TOKEN = re.compile(r"[\w-]+\.([\w-]+)\.[\w-]*", re.ASCII)
_NOT_IN_A_TARGET = re.compile("[^!-~]")
_SAFE = "!#$%&'()*+,/:;=?@[]~"
"""Punctuation that stays unescaped in a target. A percent sign belongs to an existing escape."""


@dataclass(frozen=True, slots=True)
class Access:
    """An environment and its SDK token. `repr` does not show the token.

    The caller decides where the token comes from. `token` may be called again at any time, and then
    returns a regenerated token. It raises `UsageError` if there is none.
    """

    environment_url: str
    token: Callable[[], str] = field(repr=False, compare=False)
    control_url: str = CONTROL_URL
    token_name: str = SDK_TOKEN
    """What messages call the token, with its source."""

    @property
    def location(self) -> str:
        """The address of the environment, in the form of the command line."""
        return f"craft-ai+{self.environment_url.rstrip('/')}"

    @property
    def name(self) -> str:
        """The environment's name: the first part of its host name."""
        host = urlsplit(self.environment_url).hostname or "craft-ai"
        return host if host.replace(".", "").isdecimal() else host.partition(".")[0]


class Answer(NamedTuple):
    """A response with its whole body."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Connections:
    """Sends requests and yields their responses. Follows no redirect and retries nothing.

    `configured`: the user wrote the host names, not the platform.
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
        """Send a request and yield its response, with the body unread.

        A connection with unread bytes is closed afterwards. Raises `StoreUnavailable` for a request
        without a response; reading the body raises `OSError`.
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
        """Send a request and return its response with the whole body."""
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
    """Return a path and query with every character escaped that a request must not contain."""
    return quote(target, safe=_SAFE) if _NOT_IN_A_TARGET.search(target) else target


def _encryption() -> SSLContext:
    """Return the TLS context. As in the SDK, two variables override the machine's certificate authorities."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if path := os.environ.get(name):
            return tls_context(CertificateAuthorities(path, name))
    return tls_context(None)


class Token:
    """The access token of the requests: got for the SDK token, kept while valid, renewed for all threads."""

    def __init__(self, access: Access, clock: Clock) -> None:
        """Raises `UsageError` if there is no SDK token. Sends no request."""
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
        """Return a token that stays valid for a while. All threads share one request for it."""
        if self._clock.monotonic() >= self._renew_at:
            blocking(self._renew_once)
        return self._token

    def lifetime(self) -> float:
        """Return the lifetime of the platform's tokens in seconds."""
        self.current()
        return self._seconds

    def after(self, refused_token: str) -> str:
        """Return a token other than the refused one; renew it unless another thread has done so."""
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
        # The end is computed by the monotonic clock, which never jumps.
        self._renew_at = began + seconds - min(_MARGIN_SECONDS, seconds / 5)

    def _exchanged(self) -> tuple[str, float]:
        """Exchange the SDK token for an access token; return it and its lifetime in seconds."""
        control = self._access.control_url.rstrip("/")
        body = json.dumps({"refresh_token": self._sdk_token}).encode()
        headers = {**_HEADERS, "Content-Type": "application/json"}
        try:
            answer = self.connections.whole("POST", f"{control}/api/v1/auth/refresh", headers, body)
        except StoreUnavailable as error:
            error.ambiguous = False  # A repeated exchange does no harm.
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
    """Return the lifetime of a token in seconds: the difference of the two times in it."""
    claims = _TOKEN.fullmatch(token)
    if claims is None:
        raise ValueError("not a token")
    found = json.loads(urlsafe_b64decode(claims[1] + "=" * (-len(claims[1]) % 4)))
    return float(found["exp"] - found["iat"])


_HEADERS = {"User-Agent": "craftsync", "Accept": "*/*", "craft-ai-client": PROTOCOL}


class Part(NamedTuple):
    """A signed URL to upload to, with the headers or form fields that belong to it."""

    url: str
    more: Mapping[str, str]


class Platform:
    """The requests to one environment's data store. Thread-safe. Raises only craftsync's own errors."""

    def __init__(self, access: Access, location: str, clock: Clock) -> None:
        """Raises `UsageError` if there is no token. Sends no request."""
        self._location = location
        self._token_name = access.token_name
        self._base = f"{access.environment_url.rstrip('/')}/api/v1/data-store"
        self._connections = Connections(location, configured=True)
        self.token = Token(access, clock)
        self.date: str | None = None

    def list_page(self, folder: str | None, token: str | None) -> Any:
        """Return one page of a listing as received. `folder` has no final slash."""
        query = {"folder_path": folder, "continuation_token": token}
        return self._call("GET", "list", query={name: text for name, text in query.items() if text})

    def stat(self, key: str) -> RemoteObject | None:
        """Return the object at a key; `None` if it does not exist, or the key is invalid."""
        try:
            answer = self._call("POST", "information", key, body={"path_to_object": key})
        except (ObjectNotFound, PathRefused):
            return None
        try:
            return described(answer, key)
        except InvalidDescription as error:
            raise another_form(self._location, f"description of {key}") from error

    def delete(self, key: str) -> None:
        """Delete an object; succeeds if it does not exist."""
        try:
            self._call("DELETE", "delete", key, form={"path_to_object": key})
        except ObjectNotFound:
            return

    def upload_url(self, key: str) -> Part:
        """Return the URL to which a whole object is posted as a form, and the form's fields."""
        answer = self._call("GET", "upload", key, query={"path_to_object": key})
        return self._signed(answer, "fields")

    def download_url(self, key: str) -> str:
        answer = self._call("POST", "download", key, form={"path_to_object": key})
        return self._signed(answer).url

    def begin_upload(self, key: str) -> str:
        """Begin a multipart upload; return what the platform calls its configuration, as text."""
        return json.dumps(self._call("POST", "upload/multipart", key, body={"path_to_object": key}))

    def part_url(
        self, key: str, upload: str, number: int, part_size: int, size: int | None
    ) -> Part:
        """Return the URL and headers for a part. `size`, only for the last part, is the whole object's."""
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
        """Complete a multipart upload. A part with an unknown ETag is listed without one."""
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
        """End the requests under way, as `stores.base.Cancellable` does."""
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
        """Make a call and return the JSON of its response, or `None` if it is empty."""
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
        """Return the signed URL in a response, with its headers or form fields (`more`)."""
        url = answer.get("signed_url") if isinstance(answer, dict) else None
        texts = answer.get(more) if more and isinstance(answer, dict) else {}
        if not isinstance(url, str) or not isinstance(texts, dict):
            raise another_form(self._location, "signed URL")
        return Part(url, {str(name): str(text) for name, text in texts.items()})


_UNREAD = object()


def _json(answer: Answer) -> Any:
    """Return the body as JSON, or `_UNREAD` if it is not."""
    try:
        return json.loads(answer.content)
    except (ValueError, RecursionError):
        return _UNREAD
