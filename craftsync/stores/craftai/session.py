"""The platform's API through the official SDK: its session, its token, its addresses, and nothing else of it.

The SDK has no timeouts, refreshes its token once for every thread, and lets an
entry in `~/.netrc` replace the token. All three are put right here, on the one
instance, without touching the SDK for anybody else. Nothing is retried but a
request that was refused for its token, once.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from craftsync.clock import Clock
from craftsync.errors import (
    ConfigError,
    StoreDenied,
    StoreMissing,
    StoreUnavailable,
    UnknownHost,
    UsageError,
)
from craftsync.net.waiting import blocking, in_children
from craftsync.stores.craftai.access import Access
from craftsync.stores.craftai.errors import (
    about_the_store,
    platform_answer,
    refused,
    unintelligible,
    unreachable,
)
from craftsync.stores.craftai.transport import TIMEOUT, Answer, Connections, SdkTransport

_MARGIN_SECONDS = 120.0
"""A token is renewed so long before its end, or when a fifth of its life is left if that is less."""

Send = Callable[..., Any]


def open_sdk(access: Access) -> Any:
    """Make an instance of the SDK; raises `UsageError` when the extra is not installed.

    Importing it sets a filter for warnings in the whole process
    (craft-ai-sdk 0.74.7, sdk.py:15), which is undone.
    """
    try:
        with warnings.catch_warnings():
            from craft_ai_sdk import CraftAiSdk
    except ImportError as error:
        raise UsageError(
            "The Craft AI data store needs the platform's SDK, which is not installed.",
            remedy="pip install 'craftsync[craft-ai]'",
        ) from error
    make: Callable[..., Any] = CraftAiSdk
    return make(
        sdk_token=access.token(),
        environment_url=access.environment_url,
        control_url=access.control_url,
        verbose_log=False,
    )


class Session:
    """Sends JSON requests to one environment, from any number of threads.

    `get`, `post` and `delete` take a path below the data store's address and
    return the JSON of the answer, `None` for an empty one. They raise
    craftsync's errors; `path` is the object a refusal is about, none for the
    whole store.
    """

    def __init__(self, access: Access, location: str, clock: Clock) -> None:
        self._access = access
        self._location = location
        self._clock = clock
        self._sdk = open_sdk(access)
        self._unlock()
        in_children(self, Session._unlock)
        self._token: str | None = None
        self._renew_at = 0.0
        self._base = f"{self._sdk.base_environment_api_url}/data-store"
        self._connections = Connections(location, configured=True)
        self._transport = SdkTransport(self._connections, self._sdk._session.headers)
        self._sdk._session = self._transport
        # The SDK drops its token at every refusal, for all threads at once.
        self._sdk._clear_access_token = lambda: None
        self._sdk._refresh_access_token = self.ensure_token

    def _unlock(self) -> None:
        self._lock = threading.Lock()

    def get(self, route: str, params: dict[str, str], *, path: str | None = None) -> Any:
        return self._call(self._sdk._get, route, path, params=params)

    def post(
        self,
        route: str,
        *,
        path: str | None,
        json: dict[str, Any] | None = None,
        form: dict[str, str] | None = None,
    ) -> Any:
        if json is not None:
            return self._call(self._sdk._post, route, path, json=json)
        return self._call(self._sdk._post, route, path, data=form)

    def delete(self, route: str, form: dict[str, str], *, path: str) -> Any:
        return self._call(self._sdk._delete, route, path, data=form)

    def close(self) -> None:
        self._connections.close()

    def cancel(self) -> None:
        self._connections.cancel()

    def renew(self) -> None:
        self._connections.renew()

    def ensure_token(self) -> None:
        """Have a token that is good for a while; however many ask, one request is made."""
        if self._clock.monotonic() >= self._renew_at:
            blocking(self._renew_once)

    def lifetime(self) -> float:
        """Return for how many seconds the platform says its tokens are good."""
        self.ensure_token()
        claims = self._sdk._access_token_data
        return float(claims["exp"] - claims["iat"])

    def _call(self, send: Send, route: str, path: str | None, **body: Any) -> Any:
        self.ensure_token()
        used = self._token
        response, content = self._sent(send, route, body)
        if response.status_code == 401:
            blocking(partial(self._replace_token, used))
            response, content = self._sent(send, route, body)
        if 200 <= response.status_code < 300:
            if isinstance(content, _Unread | bytes):
                raise unintelligible(self._location, "answer of the platform's API")
            return content
        answer = platform_answer(response.status_code, response.headers, _json(response))
        if path is None:
            raise about_the_store(answer, self._location)
        raise refused(answer, self._location, path)

    def _sent(self, send: Send, route: str, body: dict[str, Any]) -> tuple[Answer, Any]:
        """Send through the SDK; return the bare answer as well, for the SDK's errors do not tell it all.

        The SDK turns some answers into whatever exception its own code runs
        into (craft-ai-sdk 0.74.7, shared/request_response_handler.py), so any
        exception after an answer means one thing: that it could not be read.
        """
        self._transport.forget()
        try:
            content = send(f"{self._base}/{route}", timeout=TIMEOUT, **body)
        except Exception:
            if self._transport.last is None:
                raise
            content = _Unread()
        assert self._transport.last is not None
        return self._transport.last, content

    def _renew_once(self) -> None:
        with self._lock:
            if self._clock.monotonic() >= self._renew_at:
                self._renew()

    def _replace_token(self, refused_token: str | None) -> None:
        """Renew the token that was refused, unless somebody else has done so."""
        with self._lock:
            if self._token == refused_token:
                self._renew()

    def _renew(self) -> None:
        began = self._clock.monotonic()
        try:
            self._exchange()
        except StoreDenied:
            fresh = self._access.token()
            if fresh == self._sdk._refresh_token:
                raise
            self._sdk._refresh_token = fresh
            self._exchange()
        claims = self._sdk._access_token_data
        seconds = float(claims["exp"] - claims["iat"])
        # When a token ends is decided here, by a clock that never jumps.
        self._sdk._access_token_valid_until = datetime.max - timedelta(days=1)
        self._token = self._sdk._access_token
        self._renew_at = began + seconds - min(_MARGIN_SECONDS, seconds / 5)

    def _exchange(self) -> None:
        """Let the SDK trade its own token for one that requests are made with."""
        self._transport.forget()
        try:
            type(self._sdk)._refresh_access_token(self._sdk)
        except (ConfigError, StoreDenied, UnknownHost):
            raise  # From the way there: a name, a proxy, or certificates.
        except Exception as error:
            raise self._not_exchanged(error) from error

    def _not_exchanged(self, error: Exception) -> Exception:
        control, answer = self._access.control_url, self._transport.last
        if answer is None:
            return unreachable(control, error, sent=False)
        if answer.status_code < 300:
            return unintelligible(control, "token")
        if answer.status_code in (400, 401, 403, 422):
            return StoreDenied(
                f"{control} does not accept the SDK token.",
                remedy="Copy the SDK token of your account from the platform again: one that was"
                " regenerated makes the old one worthless.",
            )
        if answer.status_code == 404:
            return StoreMissing(
                f"{control} exchanges no tokens.",
                remedy="Check control_url, or CRAFT_AI_CONTROL_URL.",
            )
        told = platform_answer(answer.status_code, answer.headers, None)
        found = about_the_store(told, control)
        if isinstance(found, StoreUnavailable):
            found.ambiguous = False
        return found


class _Unread:
    """Stands for the content of an answer the SDK could not read."""


def _json(answer: Answer) -> Any:
    """Return what a body holds as JSON, `None` for anything else."""
    try:
        return answer.json()
    except ValueError:
        return None
