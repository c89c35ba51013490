"""Which proxy leads to a host: taken from the environment as boto3 and requests take it.

Only proxies that speak plain HTTP are used. Any other kind is refused before a
byte is sent, for it would be handed its login in clear.
"""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from craftsync.errors import ConfigError

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
