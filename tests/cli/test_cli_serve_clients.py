"""`craftsync serve` and clients that keep it waiting: each is cut off, and others are served."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from tests.support.cli import DEADLINE, until
from tests.support.serving import Serving, serving

MIB = 1024 * 1024
REQUEST = b"GET /api/v1/health HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def server(store: Path) -> Iterator[Serving]:
    with serving(store, CRAFTSYNC_SERVE_CLIENT_TIMEOUT="1") as running:
        yield running


@contextmanager
def connected(server: Serving, sent: bytes) -> Iterator[socket.socket]:
    address = urlsplit(server.url)
    assert address.hostname and address.port
    with socket.socket() as client:
        # Small, so that what nobody reads stays in the server.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(DEADLINE)
        client.connect((address.hostname, address.port))
        client.sendall(sent)
        yield client


def answered(client: socket.socket) -> bytes:
    """Return all that arrives until the server hangs up."""
    received = b""
    try:
        while piece := client.recv(65536):
            received += piece
    except ConnectionResetError:
        pass
    return received


def signed_url(server: Serving, path: str) -> str:
    api = f"{server.url}/api/v1"
    asked = {"refresh_token": server.token}
    token = requests.post(f"{api}/auth/refresh", json=asked, timeout=60).json()["access_token"]
    headers = {"authorization": f"Bearer {token}"}
    route = f"{api}/data-store/download"
    answer = requests.post(route, data={"path_to_object": path}, headers=headers, timeout=60)
    url = urlsplit(answer.json()["signed_url"])
    return f"{url.path}?{url.query}"


def descriptors(server: Serving) -> set[str]:
    """Return what the server has open: files and sockets, by their names."""
    found = set()
    for link in Path(f"/proc/{server.process.pid}/fd").iterdir():
        try:
            found.add(str(link.readlink()))
        except FileNotFoundError:
            continue
    return found


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /api",
        REQUEST,
        b"POST /api/v1/auth/refresh HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
        b"POST /store HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n5\r\n--b\r\n\r\n",
    ],
    ids=["nothing", "half-a-line", "half-the-headers", "half-a-body", "half-a-form"],
)
def test_a_request_that_does_not_end_is_cut_off(server: Serving, sent: bytes) -> None:
    with connected(server, sent) as client:
        assert b"200 OK" not in answered(client)
    assert requests.get(f"{server.url}/api/v1/health", timeout=60).ok


@pytest.mark.parametrize("more", [b"", b"GET /api"], ids=["idle", "half-a-request"])
def test_a_connection_kept_after_a_request_is_cut_off(server: Serving, more: bytes) -> None:
    with connected(server, REQUEST + b"\r\n") as client:
        received = client.recv(65536)
        if more:
            client.sendall(more)
        assert b"200 OK" in received + answered(client)


def test_headers_that_arrive_byte_by_byte_have_an_end(server: Serving) -> None:
    with connected(server, REQUEST + b"X-Slow: ") as client:
        client.settimeout(0.05)

        def cut_off() -> bool:
            try:
                client.sendall(b"x")
                return client.recv(1) == b""
            except TimeoutError:
                return False
            except OSError:
                return True

        until(cut_off, "cut off")


def sparse(file: Path, size: int) -> Path:
    with file.open("wb") as opened:
        opened.truncate(size)
    return file


def test_unread_served_download_is_cut_off(server: Serving, store: Path) -> None:
    large = sparse(store / "unread.bin", 64 * MIB)
    url = signed_url(server, "unread.bin")
    with connected(server, f"GET {url} HTTP/1.1\r\nHost: x\r\n\r\n".encode()) as client:
        assert client.recv(12) == b"HTTP/1.1 200"
        until(lambda: str(large) not in descriptors(server), "closed")
        assert len(answered(client)) < large.stat().st_size


def test_a_slow_download_that_is_read_arrives_whole(server: Serving, store: Path) -> None:
    size = 8 * MIB
    sparse(store / "slow.bin", size)
    url = signed_url(server, "slow.bin")
    asked = f"GET {url} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with connected(server, asked.encode()) as client:
        received = 0
        while piece := client.recv(4096):
            received += len(piece)
    assert received > size
