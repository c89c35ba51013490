"""Sockets that listen, for the servers of craftsync: the data store server and the page in a browser."""

from __future__ import annotations

import ipaddress
import socket

from craftsync.errors import UsageError

_BACKLOG = 512


def is_loopback(host: str) -> bool:
    """Return whether a host is a loopback address, which only this machine can reach."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes a free port. Raises `UsageError` when it cannot listen."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        # Without the protocol asyncio would leave Nagle's algorithm on, which costs 40 ms an answer.
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise UsageError(
            f"Cannot listen on port {port} of {host} ({error.strerror}).",
            remedy="Choose another port with --port, or --port 0 for any free one.",
        ) from error
    return listener


def address_of(listener: socket.socket) -> str:
    """Return the URL of a listening socket; for a wildcard address, the loopback URL."""
    host, port = listener.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "::1" if ":" in host else "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
