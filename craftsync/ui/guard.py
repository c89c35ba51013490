"""Access control: one-time tokens, the session cookie, and the checks before every request.

Every page in every browser tab can reach a server on loopback, so loopback alone
protects nothing. The check of the Host header refuses names that an attacker's DNS
points to this machine; the Origin header and the SameSite cookie refuse requests
that another page makes on behalf of the user.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
import threading
from collections.abc import Iterable
from html import escape
from http.cookies import CookieError, SimpleCookie
from secrets import token_urlsafe
from urllib.parse import parse_qs, urlencode, urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_MOST_TOKENS = 32
"""The most unused links; beyond that, the oldest is dropped."""
_LINK_USED = (
    "This link was already used, or belongs to another start of craftsync ui. In a browser where"
    " the page is open, its menu has a link for another browser; or start craftsync ui again."
)
_NO_SESSION = "Open the link that craftsync ui printed in the terminal."


class Access:
    """Tokens and sessions of one start of the server. Thread-safe.

    A token opens one session. `fixed` is a token that the user chose; it opens any number.
    """

    def __init__(self, fixed: str | None = None) -> None:
        self._fixed = fixed
        self._lock = threading.Lock()
        self._tokens: list[str] = []
        self._sessions: list[str] = []

    def mint(self) -> str:
        """Return a new one-time token."""
        token = token_urlsafe(32)
        with self._lock:
            self._tokens = [*self._tokens[1 - _MOST_TOKENS :], token]
        return token

    def redeem(self, token: str) -> str | None:
        """Return the secret of a new session, `None` for an invalid token."""
        with self._lock:
            one_time = next((one for one in self._tokens if _same(one, token)), None)
            if one_time is None and not (self._fixed and _same(self._fixed, token)):
                return None
            if one_time is not None:
                self._tokens.remove(one_time)
            self._sessions.append(token_urlsafe(32))
            return self._sessions[-1]

    def knows(self, session: str) -> bool:
        """Return whether a cookie contains the secret of a session."""
        with self._lock:
            return any(_same(one, session) for one in self._sessions)


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode(errors="replace"))


def may_be_named(host: str, listening: str, names: Iterable[str] = ()) -> bool:
    """Return whether a request may use this host name; `listening` is the address of the server.

    DNS rebinding needs a name that an attacker owns: an address, or this
    machine's own name, is not such a name.
    """
    if host in {"localhost", listening, *names}:
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return not _is_loopback(listening) and host in {socket.gethostname(), socket.getfqdn()}
    return address.is_loopback or not _is_loopback(listening)


def _is_loopback(address: str) -> bool:
    return address == "localhost" or ipaddress.ip_address(address).is_loopback


class Guard:
    """ASGI middleware: passes on only requests of the user.

    Every response gets headers that forbid what the page does not need. Only the
    second origin, on `content_port`, may show the content of objects.
    """

    def __init__(
        self,
        app: ASGIApp,
        access: Access,
        *,
        listening: str,
        port: int,
        content_port: int,
        secure: bool = False,
    ) -> None:
        self._app = app
        self._access = access
        self._listening = listening
        self._content_port = content_port
        self._scheme = "https" if secure else "http"
        # Cookies ignore ports: two servers on one machine must not replace each other's cookies.
        self._cookie = f"craftsync-{port}"
        self._cookie_flags = "; HttpOnly; SameSite=Strict; Path=/" + ("; Secure" if secure else "")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = {
            name.decode("latin-1"): text.decode("latin-1") for name, text in scope["headers"]
        }
        host = headers.get("host", "")
        if reason := self._wrong_address(scope, host, headers):
            await _refuse(scope, send, reason)
        elif (token := _token_in(scope)) is not None:
            await self._enter(scope, send, token)
        elif not self._access.knows(self._session_in(headers)):
            await _refuse(scope, send, _NO_SESSION)
        else:
            await self._app(_without_prefix(scope), receive, self._adding_headers(send, host))

    def _wrong_address(self, scope: Scope, host: str, headers: dict[str, str]) -> str | None:
        """Return why the origin of a request is refused, `None` if it is allowed."""
        name = urlsplit(f"//{host}").hostname or ""
        if not may_be_named(name, self._listening):
            return f"This server is not called {name!r}. Open the link that craftsync ui printed."
        is_change = scope["type"] == "websocket" or scope["method"] not in _SAFE_METHODS
        if is_change and headers.get("origin") != f"{self._scheme}://{host}":
            return (
                "Another page sent this request. Only the page of craftsync ui may change anything."
            )
        return None

    async def _enter(self, scope: Scope, send: Send, token: str) -> None:
        session = self._access.redeem(token) if scope["type"] == "http" else None
        if session is None:
            await _refuse(scope, send, _LINK_USED)
            return
        rest = {name: values for name, values in _query(scope).items() if name != "token"}
        place = scope["path"] + (f"?{urlencode(rest, doseq=True)}" if rest else "")
        # A redirect would still count as a request from the page with the link, so the
        # browser would not send the Strict cookie.
        body = f'<!doctype html><meta http-equiv="refresh" content="0;url={escape(place)}">'
        cookie = f"{self._cookie}={session}{self._cookie_flags}"
        await _answer(send, 200, body, [(b"set-cookie", cookie.encode())])

    def _session_in(self, headers: dict[str, str]) -> str:
        cookies: SimpleCookie = SimpleCookie()
        try:
            cookies.load(headers.get("cookie", ""))
        except CookieError:
            return ""
        return cookies[self._cookie].value if self._cookie in cookies else ""

    def _adding_headers(self, send: Send, host: str) -> Send:
        """Return a `send` that adds headers; scripts of a page get the nonce of its policy."""
        nonce = token_urlsafe(16)
        policy = self._policy(nonce, host)
        start: Message | None = None
        body = b""

        async def sending(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                known = {name.lower() for name, _ in message["headers"]}
                added = [(name, text) for name, text in policy if name not in known]
                message = {**message, "headers": [*message["headers"], *added]}
                if b"x-nicegui-content" in known:
                    start = message
                    return
            elif message["type"] == "http.response.body" and start is not None:
                body += message.get("body", b"")
                if message.get("more_body"):
                    return
                # Foreign text is escaped in the page, so no name can contain this tag.
                page = body.replace(b"<script", f'<script nonce="{nonce}"'.encode())
                await send({**start, "headers": _with_length(start["headers"], len(page))})
                message = {"type": "http.response.body", "body": page}
                start = None
            await send(message)

        return sending

    def _policy(self, nonce: str, host: str) -> list[tuple[bytes, bytes]]:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        content = f"{self._scheme}://{name}:{self._content_port}"
        # Vue compiles the templates of NiceGUI's components in the browser with eval.
        rules = {
            "default-src": "'none'",
            "script-src": f"'self' 'nonce-{nonce}' 'unsafe-eval'",
            "style-src": "'self' 'unsafe-inline'",
            "font-src": "'self'",
            "img-src": f"'self' data: {content}",
            "media-src": content,
            "frame-src": content,
            "connect-src": f"'self' {self._scheme.replace('http', 'ws')}://{host}",
            "form-action": "'none'",
            "base-uri": "'none'",
            "frame-ancestors": "'none'",
        }
        text = "; ".join(f"{rule} {value}" for rule, value in rules.items())
        return [
            (b"content-security-policy", text.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"x-frame-options", b"DENY"),
            (b"referrer-policy", b"no-referrer"),
            (b"cross-origin-opener-policy", b"same-origin"),
            (b"cross-origin-resource-policy", b"same-origin"),
        ]


def _without_prefix(scope: Scope) -> Scope:
    """Return a scope without a header that only a proxy may set: NiceGUI would write it into the page."""
    kept = [(name, text) for name, text in scope["headers"] if name != b"x-forwarded-prefix"]
    return {**scope, "headers": kept}


def _with_length(headers: list[tuple[bytes, bytes]], length: int) -> list[tuple[bytes, bytes]]:
    rest = [(name, text) for name, text in headers if name.lower() != b"content-length"]
    return [*rest, (b"content-length", str(length).encode())]


def _query(scope: Scope) -> dict[str, list[str]]:
    return parse_qs(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)


def _token_in(scope: Scope) -> str | None:
    """Return the token of a link that opens a page."""
    is_page = scope["type"] == "http" and scope["method"] in _SAFE_METHODS
    return _query(scope).get("token", [None])[0] if is_page else None


async def _refuse(scope: Scope, send: Send, reason: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    page = (
        '<!doctype html><html lang="en"><title>craftsync</title>'
        f"<h1>Not open</h1><p>{escape(reason)}</p></html>"
    )
    await _answer(send, 403, page)


async def _answer(
    send: Send, status: int, body: str, more: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    headers = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
        (b"cache-control", b"no-store"),
        (b"referrer-policy", b"no-referrer"),
        *more,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})
