"""Connections to one host: opened, kept while idle, lent to one request at a time.

Proxies are taken from the environment as boto3 and requests take them. Only
proxies that speak plain HTTP are used; any other kind is refused before a byte
is sent, because it would receive its login in clear text.

Redirects are answers, and nothing is retried here.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import SplitResult, unquote, urlsplit

from craftsync.errors import ConfigError, Interrupted, StoreDenied
from craftsync.net.http import Buffer, Connection, Response
from craftsync.net.waiting import blocking, in_children

_DEFAULT_PORT = 80
"""As urllib3 has it, which boto3 and requests use."""
_HOST_PORTS = {"http": 80, "https": 443}


class Proxy(NamedTuple):
    """An HTTP proxy. `variable` names it in the environment, `login` is the header that it may want."""

    host: str
    port: int
    variable: str
    login: Mapping[str, str] = MappingProxyType({})

    def __str__(self) -> str:
        return f"proxy {self.host}:{self.port} ({self.variable})"


def proxy_for(address: SplitResult) -> Proxy | None:
    """Return the proxy that the environment names for a host, `None` to reach it directly.

    `address` has scheme, host and port. Raises `ConfigError` for a proxy that
    is not an HTTP one; the message never holds its login.
    """
    names = f"{address.scheme}_proxy", "all_proxy"
    if not any(name.lower() in names for name in os.environ):
        return None
    from urllib.request import getproxies

    proxies = getproxies()
    scheme = address.scheme if proxies.get(address.scheme) else "all"
    if not (text := proxies.get(scheme)) or _is_bypassed(address):
        return None
    return _parsed(text, _variable(f"{scheme}_proxy"))


def _parsed(text: str, variable: str) -> Proxy:
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
    return Proxy(host, port, variable, _login(parts))


def _login(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": "Basic " + b64encode(pair.encode()).decode()}


def _variable(name: str) -> str:
    """Return how the environment spells a variable; the lower-case form goes first."""
    return name if name in os.environ else name.upper()


def _is_bypassed(address: SplitResult) -> bool:
    """Tell whether `no_proxy` names a host: by name, domain, `host:port`, or a network of addresses."""
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
    """Return a network of addresses such as 10.0.0.0/8, `None` for anything else."""
    try:
        return ip_network(text.strip(), strict=False) if "/" in text else None
    except ValueError:
        return None


CONNECT_SECONDS = 10.0
_LOGIN_WANTED = 407

Addresses: TypeAlias = Sequence[tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]]
"""What `socket.getaddrinfo` returns."""

_UNKNOWN = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
"""What a name server says of a name that is not there; without a network it is another error, which passes."""
_TUNNEL_REFUSED = re.compile(r"Tunnel connection failed: (\d+)")
"""How http.client words it."""


class NotConnected(OSError):
    """No connection could be made, so that nothing was sent; the cause is its argument."""


class NoSuchHost(NotConnected):
    """No name server knows the host, nor was it ever reached; its argument is the name."""


class ProxyFailed(NotConnected):
    """The proxy could not be reached, or did not reach the host; its argument says so as a clause."""


class Authorities(NamedTuple):
    """A file, or folder, with the certificates of those who vouch for hosts, and what named it."""

    path: str
    named_by: str


def trusting(authorities: Authorities | None) -> ssl.SSLContext:
    """Return the context for https to hosts that these authorities vouch for, by default the machine's.

    Raises `ConfigError` when there are no certificates in that place.
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


class Host:
    """One host, reached directly or through the proxy that the environment names for it.

    May be used from several threads. At most `keep` connections wait for more
    work. `trust` makes the context for https, which says who vouches for hosts.
    """

    def __init__(
        self, address: SplitResult, keep: int, trust: Callable[[], ssl.SSLContext]
    ) -> None:
        self._address = address
        self._keep = keep
        self._trust = trust
        self._tls: ssl.SSLContext | None = None
        self._proxy = proxy_for(address)
        # A proxy is told the whole address, unless it is asked to pass on what it cannot read.
        told = self._proxy is not None and address.scheme == "http"
        self._prefix = f"http://{address.netloc}" if told else ""
        self._login = self._proxy.login if self._proxy is not None and told else {}
        self._cancelled = False
        self._was_reached = False
        self._start()
        in_children(self, Host._start)

    def _start(self) -> None:
        # Taken from and put back at its end, which needs no lock.
        self._idle: list[Connection] = []
        self._busy = set[Connection]()
        self._connecting = set[socket.socket]()
        self._looking_up = set[Future[Addresses]]()

    @property
    def idle(self) -> tuple[Connection, ...]:
        """The connections that wait for more work."""
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
        """Send a request for a path of the host and return its answer, to be given to `take_back`.

        `timeout` is how many seconds each wait may last, `connect` those for a
        new connection. Raises `NotConnected`, or another `OSError` when the
        request may have arrived.
        """
        if self._cancelled:
            raise Interrupted
        connection = self._quiet() or blocking(partial(self._made, connect))
        try:
            self._busy.add(connection)
            if self._cancelled:
                raise Interrupted
            sent = {**headers, **self._login} if self._login else headers
            response = connection.request(method, self._prefix + target, sent, body, timeout)
            if response.status == _LOGIN_WANTED and self._proxy is not None:
                raise _login_wanted(self._proxy)
            return response
        except BaseException:
            self._busy.discard(connection)
            connection.close()
            raise

    def take_back(self, response: Response) -> None:
        """Keep the connection of an answer for another request, if its body was read to the end."""
        connection = response.connection
        self._busy.discard(connection)
        if response.is_complete and len(self._idle) < self._keep:
            self._idle.append(connection)
        else:
            connection.close()

    def cancel(self) -> None:
        """End the requests under way with an `OSError`, and refuse others with `Interrupted` until `renew`.

        Any thread may call it.
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
        """Take requests again."""
        self._cancelled = False

    def close(self) -> None:
        """Close the connections that wait for more work, and from now on each one after its request."""
        self._keep = 0
        while self._idle:
            self._idle.pop().close()

    def _quiet(self) -> Connection | None:
        """Return an idle connection that the other side has not ended meanwhile."""
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if connection.is_quiet():
                return connection
            connection.close()
        return None

    def _made(self, seconds: float) -> Connection:
        client = self._client(seconds)
        with ExitStack() as until_made:
            # The client connects by itself, and then has nothing that another thread could cut.
            client._create_connection = partial(self._connected, until_made)  # type: ignore[attr-defined]
            try:
                client.connect()
            except (OSError, HTTPException, UnicodeError) as error:
                client.close()
                raise self._not_connected(error) from error
        self._was_reached = True
        return Connection(client.sock)

    def _connected(
        self, until_made: ExitStack, address: tuple[str, int], seconds: float, _: object
    ) -> socket.socket:
        """Connect as `socket.create_connection` does, so that `cancel` can end it and what follows."""
        failed: OSError = NotConnected(f"{address[0]} has no address")
        for family, kind, protocol, _name, place in self._addresses(address):
            connecting = socket.socket(family, kind, protocol)
            connecting.settimeout(seconds)
            until_made.enter_context(self._cut_by_cancel(connecting))
            try:
                connecting.connect(place)
            except OSError as error:
                connecting.close()
                failed = error
            else:
                return connecting
        raise failed

    def _addresses(self, address: tuple[str, int]) -> Addresses:
        """Look a name up; nothing ends that but `cancel`, which leaves the thread that does it behind."""
        with suppress(socket.gaierror):
            return socket.getaddrinfo(
                *address, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
            )
        looked_up: Future[Addresses] = Future()

        def look_up() -> None:
            with suppress(InvalidStateError):
                try:
                    looked_up.set_result(socket.getaddrinfo(*address, type=socket.SOCK_STREAM))
                except Exception as error:  # noqa: BLE001 (it is raised again by whoever waits)
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
    def _cut_by_cancel(self, connecting: socket.socket) -> Iterator[None]:
        """Let `cancel` end what is done with a socket, also once it belongs to an encrypted one."""
        with connecting.dup() as same:
            self._connecting.add(same)
            try:
                if self._cancelled:
                    raise Interrupted
                yield
            finally:
                self._connecting.discard(same)

    def _not_connected(self, error: Exception) -> Exception:
        """Return what to raise for a connection that was not made; a failure of TLS is the host's, not the proxy's."""
        if self._proxy is None or isinstance(error, ssl.SSLError):
            # A name with an empty or endless label is not even asked for.
            is_unknown = isinstance(error, UnicodeError) or (
                isinstance(error, socket.gaierror) and error.errno in _UNKNOWN
            )
            if is_unknown and not self._was_reached:
                return NoSuchHost(self._address.hostname)
            return NotConnected(error)
        status = _TUNNEL_REFUSED.match(str(error))
        if status is None:
            return ProxyFailed(f"the {self._proxy} could not be reached: {error}")
        if int(status[1]) == _LOGIN_WANTED:
            return _login_wanted(self._proxy)
        return ProxyFailed(f"the {self._proxy} answered {status[1]}")

    def _client(self, seconds: float) -> HTTPConnection:
        """Return what makes a connection; it is used for nothing else."""
        via = self._proxy
        host, port = (via.host, via.port) if via else (self._address.hostname, self._address.port)
        if self._address.scheme == "http":
            return HTTPConnection(host or "", port, timeout=seconds)
        self._tls = self._tls or self._trust()
        client = HTTPSConnection(host or "", port, timeout=seconds, context=self._tls)
        if via is not None:
            there = self._address.hostname or "", self._address.port or 443
            client.set_tunnel(*there, dict(via.login))
        return client


def _login_wanted(proxy: Proxy) -> StoreDenied:
    wants = "refused the login" if proxy.login else "requires a login"
    return StoreDenied(
        f"The {proxy} {wants} (407).",
        remedy=f"Set {proxy.variable} to http://USER:PASSWORD@HOST:PORT.",
    )
