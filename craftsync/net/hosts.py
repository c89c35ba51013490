"""`Host`: the connection pool of one host, with proxies, TLS, and waits that a stop can end.

Proxies come from the environment, as in boto3 and requests. Only proxies that speak plain HTTP are
used. Any other is refused before a byte is sent, because it would get its login in clear text.
Redirects are returned like other responses, and nothing is retried here.
"""

from __future__ import annotations

import os
import re
import select
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import ExitStack, contextmanager, suppress
from errno import EINPROGRESS
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from time import monotonic
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import SplitResult, unquote, urlsplit

from craftsync.errors import ConfigError, Interrupted, StoreDenied
from craftsync.net.http import Buffer, Connection, Response
from craftsync.net.waiting import after_fork, blocking, until_ready

_DEFAULT_PORT = 80
"""The default of urllib3, which boto3 and requests use."""
_HOST_PORTS = {"http": 80, "https": 443}


class Proxy(NamedTuple):
    """An HTTP proxy. `variable` is the environment variable it came from, `login` its authorization header."""

    host: str
    port: int
    variable: str
    login: Mapping[str, str] = MappingProxyType({})

    def __str__(self) -> str:
        return f"proxy {self.host}:{self.port} ({self.variable})"


def proxy_for(address: SplitResult) -> Proxy | None:
    """Return the proxy that the environment sets for a host, or `None` for a direct connection.

    `address` has scheme, host and port. Raises `ConfigError` if it is not an HTTP proxy; the
    message never contains its login.
    """
    names = f"{address.scheme}_proxy", "all_proxy"
    if not any(name.lower() in names for name in os.environ):
        return None
    from urllib.request import getproxies

    proxies = getproxies()
    scheme = address.scheme if proxies.get(address.scheme) else "all"
    if not (text := proxies.get(scheme)) or _is_bypassed(address):
        return None
    return _parse_proxy(text, _variable_name(f"{scheme}_proxy"))


def _parse_proxy(text: str, variable: str) -> Proxy:
    remedy = f"Set {variable} to http://HOST:PORT, or name the host in no_proxy."
    parts = urlsplit(text if "://" in text else f"http://{text.removeprefix('//')}")
    try:
        port, host = parts.port or _DEFAULT_PORT, parts.hostname
    except ValueError:
        host = None
    if not host:
        raise ConfigError(f"{variable} is not the address of a proxy.", remedy=remedy)
    if parts.scheme != "http":
        kind = "a SOCKS proxy" if parts.scheme.startswith("socks") else f"a {parts.scheme}:// proxy"
        raise ConfigError(
            f"{variable} names {kind} ({parts.scheme}://{host}), which craftsync does not use.",
            remedy=remedy,
        )
    return Proxy(host, port, variable, _login_header(parts))


def _login_header(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": "Basic " + b64encode(pair.encode()).decode()}


def _variable_name(name: str) -> str:
    """Return the spelling of a variable in the environment. Lower case takes precedence."""
    return name if name in os.environ else name.upper()


def _is_bypassed(address: SplitResult) -> bool:
    """Return whether `no_proxy` lists a host: by name, domain, `host:port` or network."""
    from urllib.request import getproxies_environment, proxy_bypass

    host = address.hostname or ""
    port = address.port or _HOST_PORTS.get(address.scheme)
    if proxy_bypass(host) or proxy_bypass(f"{host}:{port}"):
        return True
    try:
        place = ip_address(host)
    except ValueError:
        return False
    named = getproxies_environment().get("no", "")
    return any(
        place in network for network in map(_network, named.split(",")) if network is not None
    )


def _network(text: str) -> IPv4Network | IPv6Network | None:
    """Return a network of addresses such as 10.0.0.0/8, or `None` for anything else."""
    try:
        return ip_network(text.strip(), strict=False) if "/" in text else None
    except ValueError:
        return None


CONNECT_SECONDS = 10.0
_PROXY_AUTH_REQUIRED = 407

Addresses: TypeAlias = Sequence[tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]]
"""The result of `socket.getaddrinfo`."""

_UNKNOWN_NAME = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
"""Errors for a host name that does not exist. Without a network, a lookup fails with another error."""
_TUNNEL_REFUSED = r"Tunnel connection failed: (\d+)"
"""The message of http.client."""


class NotConnected(OSError):
    """The connection failed before anything was sent. The argument is the cause."""


class NoSuchHost(NotConnected):
    """The host name does not resolve, and has never done so. The argument is the name."""


class ProxyFailed(NotConnected):
    """The proxy could not be reached, or could not reach the host. The argument is text with the reason."""


class CertificateAuthorities(NamedTuple):
    """A file or folder of CA certificates, and the option or variable that named it."""

    path: str
    named_by: str


def tls_context(authorities: CertificateAuthorities | None) -> ssl.SSLContext:
    """Return a TLS context that trusts these authorities, by default the system's.

    Raises `ConfigError` if the file or folder holds no certificates.
    """
    if authorities is None:
        return ssl.create_default_context()
    path = Path(authorities.path)
    try:
        if path.is_dir():
            return ssl.create_default_context(capath=str(path))
        return ssl.create_default_context(cafile=str(path))
    except ssl.SSLError:
        why = "which holds no certificate"
    except OSError as error:
        why = f"which cannot be read ({error.strerror})"
    raise ConfigError(
        f"{authorities.named_by} names {path}, {why}.",
        remedy="Name a file with certificates in PEM form, or unset it.",
    )


class _Place(NamedTuple):
    """An address at which a host was reached, and when, by the monotonic clock."""

    kind: tuple[socket.AddressFamily, socket.SocketKind, int]
    address: Any
    since: float


_PLACE_SECONDS = 30.0
"""How long an address is reused. After that, the name is looked up again."""


class Host:
    """The connection pool of one host, reached directly or through the proxy of the environment.

    Thread-safe. Each connection serves one request at a time; at most `keep` idle ones are kept.
    `trust` returns the TLS context for https.
    """

    def __init__(
        self, address: SplitResult, keep: int, trust: Callable[[], ssl.SSLContext]
    ) -> None:
        self._address = address
        self._keep = keep
        self._trust = trust
        self._tls: ssl.SSLContext | None = None
        self._proxy = proxy_for(address)
        # A proxy gets the full URL of plain HTTP requests; https goes through a tunnel.
        forwards = self._proxy is not None and address.scheme == "http"
        self._prefix = f"http://{address.netloc}" if forwards else ""
        self._proxy_headers = self._proxy.login if self._proxy is not None and forwards else {}
        self._cancelled = False
        self._was_reached = False
        self._reached_at: _Place | None = None
        self._start()
        after_fork(self, Host._start)

    def _start(self) -> None:
        # Used as a stack: append and pop are atomic, so it needs no lock.
        self._idle: list[Connection] = []
        self._busy = set[Connection]()
        self._connecting = set[socket.socket]()
        self._looking_up = set[Future[Addresses]]()

    @property
    def is_private(self) -> bool:
        """Whether no third party can alter the bytes: they go over TLS, or stay on this machine."""
        if self._address.scheme == "https":
            return True
        try:
            return self._proxy is None and ip_address(self._address.hostname or "").is_loopback
        except ValueError:
            return False

    @property
    def idle(self) -> tuple[Connection, ...]:
        """The idle connections."""
        return tuple(self._idle)

    def request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | Iterable[Buffer],
        timeout: float,
        connect: float = CONNECT_SECONDS,
    ) -> Response:
        """Send a request and return its response; pass that to `take_back` when done.

        `timeout` limits each wait, and `connect` the opening of a connection, in seconds. Raises
        `NotConnected`, or another `OSError` if the request may have arrived.
        """
        if self._cancelled:
            raise Interrupted
        connection = self._take_idle() or self._open(connect)
        try:
            self._busy.add(connection)
            if self._cancelled:
                raise Interrupted
            sent = {**headers, **self._proxy_headers} if self._proxy_headers else headers
            response = connection.request(method, self._prefix + target, sent, body, timeout)
            if response.status == _PROXY_AUTH_REQUIRED and self._proxy is not None:
                raise _login_error(self._proxy)
            return response
        except BaseException:
            self._busy.discard(connection)
            connection.close()
            raise

    def take_back(self, response: Response) -> None:
        """Keep the connection of a response for reuse if its body was read to the end, else close it."""
        connection = response.connection
        self._busy.discard(connection)
        if response.is_complete and len(self._idle) < self._keep:
            self._idle.append(connection)
        else:
            connection.close()

    def cancel(self) -> None:
        """Abort requests under way with an `OSError`; refuse new ones with `Interrupted` until `renew`.

        Thread-safe.
        """
        self._cancelled = True
        for connection in list(self._busy):
            connection.cut()
        for connecting in list(self._connecting):
            with suppress(OSError):
                connecting.shutdown(socket.SHUT_RDWR)
        for looked_up in list(self._looking_up):
            with suppress(InvalidStateError):
                looked_up.set_exception(Interrupted())

    def renew(self) -> None:
        """Accept requests again after `cancel`."""
        self._cancelled = False

    def close(self) -> None:
        """Close the idle connections now, and the others after their current requests."""
        self._keep = 0
        while self._idle:
            self._idle.pop().close()

    def _take_idle(self) -> Connection | None:
        """Return an idle connection that the server has not closed, or `None`."""
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if connection.has_no_data():
                return connection
            connection.close()
        return None

    def _open(self, seconds: float) -> Connection:
        """Open a connection; without a thread if the address is known from a recent one."""
        place = self._reached_at
        if place is None or self._is_tunnelled or monotonic() - place.since > _PLACE_SECONDS:
            return blocking(partial(self._connect, seconds))
        try:
            return Connection(self._connected(place, seconds))
        except OSError:
            if self._cancelled:
                raise Interrupted from None
        # The name may have another address now. If not, the longer way raises the right error.
        self._reached_at = None
        return blocking(partial(self._connect, seconds))

    @property
    def _is_tunnelled(self) -> bool:
        return self._proxy is not None or self._address.scheme != "http"

    def _connected(self, place: _Place, seconds: float) -> socket.socket:
        """Return a connected socket. Other tasks of the thread run while this waits."""
        connecting = socket.socket(*place.kind)
        self._connecting.add(connecting)
        try:
            if self._cancelled:
                raise Interrupted
            connecting.setblocking(False)
            connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            code = connecting.connect_ex(place.address)
            if code == EINPROGRESS:
                until_ready(connecting.fileno(), select.POLLOUT, seconds)
                code = connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code))
        except BaseException:
            connecting.close()
            raise
        finally:
            self._connecting.discard(connecting)
        return connecting

    def _connect(self, seconds: float) -> Connection:
        client = self._http_client(seconds)
        with ExitStack() as closing_on_cancel:
            # If http.client connected by itself, `cancel` would have no socket to shut down.
            client._create_connection = partial(self._open_socket, closing_on_cancel)  # type: ignore[attr-defined]
            try:
                client.connect()
            except (OSError, HTTPException, UnicodeError) as error:
                client.close()
                raise self._connect_error(error) from error
        self._was_reached = True
        return Connection(client.sock)

    def _open_socket(
        self, closing_on_cancel: ExitStack, address: tuple[str, int], seconds: float, _: object
    ) -> socket.socket:
        """Connect as `socket.create_connection` does, so that `cancel` can abort this and the TLS handshake."""
        failed: OSError = NotConnected(f"{address[0]} has no address")
        for family, kind, protocol, _name, place in self._addresses(address):
            connecting = socket.socket(family, kind, protocol)
            connecting.settimeout(seconds)
            closing_on_cancel.enter_context(self._cancellable(connecting))
            try:
                connecting.connect(place)
            except OSError as error:
                connecting.close()
                failed = error
            else:
                self._reached_at = _Place((family, kind, protocol), place, monotonic())
                return connecting
        raise failed

    def _addresses(self, address: tuple[str, int]) -> Addresses:
        """Resolve a name in a thread of its own, which `cancel` abandons: getaddrinfo is not interruptible."""
        with suppress(socket.gaierror):
            return socket.getaddrinfo(
                *address, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
            )
        looked_up: Future[Addresses] = Future()

        def look_up() -> None:
            with suppress(InvalidStateError):
                try:
                    looked_up.set_result(socket.getaddrinfo(*address, type=socket.SOCK_STREAM))
                except Exception as error:  # noqa: BLE001 (the waiting thread raises it again)
                    looked_up.set_exception(error)

        self._looking_up.add(looked_up)
        try:
            if self._cancelled:
                raise Interrupted
            threading.Thread(target=look_up, name="look-up", daemon=True).start()
            return looked_up.result()
        finally:
            self._looking_up.discard(looked_up)

    @contextmanager
    def _cancellable(self, connecting: socket.socket) -> Iterator[None]:
        """Let `cancel` shut a socket down, even after TLS has wrapped it."""
        with connecting.dup() as same:
            self._connecting.add(same)
            try:
                if self._cancelled:
                    raise Interrupted
                yield
            finally:
                self._connecting.discard(same)

    def _connect_error(self, error: Exception) -> Exception:
        """Return the exception for a failed connection. A TLS error is the host's, not the proxy's."""
        if self._proxy is None or isinstance(error, ssl.SSLError):
            # A name with an empty or overlong label raises UnicodeError before any lookup.
            is_unknown = isinstance(error, UnicodeError) or (
                isinstance(error, socket.gaierror) and error.errno in _UNKNOWN_NAME
            )
            if is_unknown and not self._was_reached:
                return NoSuchHost(self._address.hostname)
            return NotConnected(error)
        status = re.match(_TUNNEL_REFUSED, str(error))
        if status is None:
            return ProxyFailed(f"the {self._proxy} could not be reached: {error}")
        if int(status[1]) == _PROXY_AUTH_REQUIRED:
            return _login_error(self._proxy)
        return ProxyFailed(f"the {self._proxy} answered {status[1]}")

    def _http_client(self, seconds: float) -> HTTPConnection:
        """Return the http.client object that opens the connection. Requests do not use it."""
        via = self._proxy
        host, port = (via.host, via.port) if via else (self._address.hostname, self._address.port)
        if self._address.scheme == "http":
            return HTTPConnection(host or "", port, timeout=seconds)
        self._tls = self._tls or self._trust()
        client = HTTPSConnection(host or "", port, timeout=seconds, context=self._tls)
        if via is not None:
            client.set_tunnel(
                self._address.hostname or "", self._address.port or 443, dict(via.login)
            )
        return client


def _login_error(proxy: Proxy) -> StoreDenied:
    wants = "refused the login" if proxy.login else "requires a login"
    return StoreDenied(
        f"The {proxy} {wants} (407).",
        remedy=f"Set {proxy.variable} to http://USER:PASSWORD@HOST:PORT.",
    )
