"""Proxies and certificate authorities of the environment, as a user of boto3 expects them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.cli import Craftsync
from tests.support.s3 import fake_s3
from tests.support.servers import ACCESS_KEY, SECRET_KEY, free_port

FORBIDDEN = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
def pushed(craftsync: Craftsync) -> Craftsync:
    """Return a program whose `root` has one file, and whose environment has keys for S3."""
    craftsync.write("root/a")
    craftsync.environment |= {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_ENDPOINT_URL": "http://storage.invalid:9000",
    }
    return craftsync


@contextmanager
def listening(answer: bytes = b"") -> Iterator[tuple[int, list[bytes]]]:
    """Give a port, and what arrives there; each connection gets this answer to what it says first."""
    heard: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                heard.append(client.recv(65_536))
                client.sendall(answer)

    thread = threading.Thread(target=accept)
    thread.start()
    yield listener.getsockname()[1], heard
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def test_a_store_is_reached_through_the_proxy_of_the_environment(pushed: Craftsync) -> None:
    with fake_s3("plain", "bucket") as (server, fake):
        run = pushed("push", "root", "s3://bucket", HTTP_PROXY=server.endpoint)
        assert run.code == 0, run.err
        assert "a" in fake.bucket("bucket")
        assert all(request.target.startswith("http://storage.invalid") for request in fake.requests)


def test_no_proxy_with_a_port_reaches_the_store_directly(pushed: Craftsync) -> None:
    with fake_s3("plain", "bucket") as (server, fake), listening() as (port, heard):
        run = pushed(
            *("push", "root", "s3://bucket"),
            AWS_ENDPOINT_URL=server.endpoint,
            HTTP_PROXY=f"http://127.0.0.1:{port}",
            NO_PROXY=f"example.org,{server.endpoint.removeprefix('http://')}",
        )
        assert run.code == 0, run.err
        assert "a" in fake.bucket("bucket")
        assert heard == []


@pytest.mark.parametrize("kind", ["socks5", "socks5h", "https"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_of_another_kind_is_refused_before_it_hears_a_login(
    pushed: Craftsync, kind: str, scheme: str
) -> None:
    with listening() as (port, heard):
        run = pushed(
            *("push", "root", "s3://bucket"),
            AWS_ENDPOINT_URL=f"{scheme}://storage.invalid",
            ALL_PROXY=f"{kind}://me:secret@127.0.0.1:{port}",
        )
        assert heard == []
    assert run.code == 78
    assert "ALL_PROXY" in run.err and "secret" not in run.err


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("login", "sentence"), [("", "requires a login"), ("me:secret@", "refused the login")]
)
def test_a_proxy_that_wants_a_login_is_named(
    pushed: Craftsync, scheme: str, login: str, sentence: str
) -> None:
    with listening(FORBIDDEN) as (port, _):
        run = pushed(
            *("push", "root", "s3://bucket"),
            AWS_ENDPOINT_URL=f"{scheme}://storage.invalid",
            **{f"{scheme}_proxy": f"http://{login}127.0.0.1:{port}"},
        )
    assert run.code == 3
    assert sentence in run.err and f"{scheme}_proxy" in run.err and "secret" not in run.err


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_down_is_named(pushed: Craftsync, scheme: str) -> None:
    place = f"127.0.0.1:{free_port()}"
    run = pushed(
        *("ls", "s3://bucket"),
        AWS_ENDPOINT_URL=f"{scheme}://storage.invalid",
        **{f"{scheme}_proxy": f"http://{place}"},
    )
    assert run.code == 5
    assert f"the proxy {place} ({scheme}_proxy) could not be reached" in run.err


@pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
@pytest.mark.parametrize("content", [None, "no certificate\n"])
def test_certificates_that_are_missing_or_wrong_are_named(
    pushed: Craftsync, tmp_path: Path, variable: str, content: str | None
) -> None:
    bundle = tmp_path / "authorities.pem"
    if content is not None:
        bundle.write_text(content)
    address = "https://127.0.0.1:1"
    named = {variable: str(bundle)}
    run = pushed("push", "root", "s3://bucket", AWS_ENDPOINT_URL=address, **named)
    assert run.code == 78, run.err
    assert variable in run.err and str(bundle) in run.err


@pytest.mark.parametrize("content", [None, "no certificate\n"])
def test_an_environment_names_wrong_certificates_too(
    craftsync: Craftsync, tmp_path: Path, content: str | None
) -> None:
    bundle = tmp_path / "authorities.pem"
    if content is not None:
        bundle.write_text(content)
    run = craftsync(
        *("ls", "craft-ai://"),
        CRAFT_AI_SDK_TOKEN="token",
        CRAFT_AI_ENVIRONMENT_URL="https://127.0.0.1:1",
        CRAFT_AI_CONTROL_URL="https://127.0.0.1:1",
        REQUESTS_CA_BUNDLE=str(bundle),
    )
    assert run.code == 78, run.err
    assert "REQUESTS_CA_BUNDLE" in run.err and str(bundle) in run.err
