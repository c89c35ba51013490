"""The connections to the platform: which are used again, and what becomes of an answer that breaks off."""

from __future__ import annotations

import gzip
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest

from craftsync.errors import StoreUnavailable
from craftsync.stores.craftai.platform import Connections
from tests.support.certificates import vouched_for

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Serve = Callable[[socket.socket], None]


@contextmanager
def answering(*connections: Serve, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve each connection in turn as one of the functions says, and close it; yields host and port."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(60)

    def serve() -> None:
        for serve_one in connections:
            plain, _ = listener.accept()
            plain.settimeout(60)
            try:
                with context.wrap_socket(plain, server_side=True) if context else plain as client:
                    serve_one(client)
            except OSError:
                plain.close()

    thread = Thread(target=serve)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        thread.join(60)
        listener.close()
    assert not thread.is_alive()


def head(client: socket.socket) -> str:
    """Read a request without a body."""
    read = b""
    while not read.endswith(b"\r\n\r\n"):
        read += client.recv(1)
    return read.decode()


def saying(*answers: bytes) -> Serve:
    def serve(client: socket.socket) -> None:
        for answer in answers:
            head(client)
            client.sendall(answer)

    return serve


def fetched(connections: Connections, url: str) -> bytes:
    return connections.whole("GET", url, {}).content


@pytest.fixture
def connections() -> Iterator[Connections]:
    opened = Connections("the store")
    yield opened
    opened.close()


def test_http_connection_is_reused_for_consecutive_requests(connections: Connections) -> None:
    with answering(saying(OK, OK, OK)) as place:
        assert [fetched(connections, f"http://{place}/{n}") for n in range(3)] == [b"ok"] * 3
        connections.close()


def test_connection_closed_by_the_server_is_not_reused(connections: Connections) -> None:
    ended = Event()

    def ending(client: socket.socket) -> None:
        saying(OK)(client)
        client.close()
        ended.set()

    with answering(ending, saying(OK)) as place:
        assert fetched(connections, f"http://{place}/") == b"ok"
        assert ended.wait(60)
        assert fetched(connections, f"http://{place}/") == b"ok"
        connections.close()


def test_response_ended_by_connection_close_is_complete(connections: Connections) -> None:
    unsized = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it"
    with answering(saying(unsized), saying(OK)) as place:
        assert fetched(connections, f"http://{place}/") == b"all of it"
        assert fetched(connections, f"http://{place}/") == b"ok"
        connections.close()


def test_unread_body_is_not_taken_for_the_next_response(
    connections: Connections,
) -> None:
    with answering(saying(OK), saying(OK)) as place:
        with connections.sent("GET", f"http://{place}/", {}) as first:
            assert first.left == 2
        assert fetched(connections, f"http://{place}/") == b"ok"
        connections.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nsh",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnone",
        b"",
        b"no HTTP at all\r\n\r\n",
    ],
)
def test_broken_off_response_is_ambiguous(connections: Connections, answer: bytes) -> None:
    with answering(saying(answer)) as place, pytest.raises(StoreUnavailable) as caught:
        fetched(connections, f"http://{place}/")
    assert caught.value.ambiguous


def test_streamed_body_that_ends_early_raises(connections: Connections) -> None:
    short = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"
    with (
        answering(saying(short)) as place,
        connections.sent("GET", f"http://{place}/", {}) as answer,
    ):
        assert answer.read(100) == b"short"
        with pytest.raises(OSError, match="4 bytes early"):
            answer.read(100)


def test_refused_connection_is_not_ambiguous(connections: Connections) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(StoreUnavailable, match="refused") as caught:
        fetched(connections, f"http://127.0.0.1:{port}/")
    assert not caught.value.ambiguous


def test_early_refusal_is_read_although_the_server_hangs_up(
    connections: Connections,
) -> None:
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"

    def serve(client: socket.socket) -> None:
        head(client)
        client.sendall(refusal)
        client.shutdown(socket.SHUT_RD)

    def body() -> Iterator[bytes]:
        # More than the buffers of both ends hold, so that the sending has to fail.
        yield from (bytes(1 << 20) for _ in range(64))

    headers = {"Content-Length": str(64 << 20)}
    with answering(serve) as place:
        try:
            with connections.sent("POST", f"http://{place}/", headers, body()) as answer:
                assert answer.status == 413
        except StoreUnavailable as error:
            # The hanging up may be faster than the answer; then nothing is known.
            assert error.ambiguous


def test_compressed_response_is_decompressed(connections: Connections) -> None:
    content = gzip.compress(b"content")
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s"
    with answering(saying(answer % (len(content), content))) as place:
        assert fetched(connections, f"http://{place}/") == b"content"
        connections.close()


def test_signed_url_is_sent_unchanged_and_cannot_inject_headers(
    connections: Connections,
) -> None:
    asked: list[str] = []

    def serve(client: socket.socket) -> None:
        for _ in range(2):
            asked.append(head(client).splitlines()[0])
            client.sendall(OK)

    with answering(serve) as place:
        fetched(connections, f"http://{place}/a%2fb%20c?signature=%2B/=&x=1")
        fetched(connections, f"http://{place}?é \r\nX-Injected: 1")
        connections.close()
    assert asked == [
        "GET /a%2fb%20c?signature=%2B/=&x=1 HTTP/1.1",
        "GET /?%C3%A9%20X-Injected:%201 HTTP/1.1",
    ]


def test_proxy_of_the_environment_is_used(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def serve(client: socket.socket) -> None:
        asked.append(head(client).splitlines()[0])
        client.sendall(OK)

    with answering(serve) as place:
        monkeypatch.setenv("http_proxy", f"http://{place}")
        assert fetched(connections, "http://store.invalid/a?b=c") == b"ok"
        connections.close()
    assert asked == ["GET http://store.invalid/a?b=c HTTP/1.1"]


def test_tls_certificate_must_be_trusted(
    connections: Connections, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = vouched_for(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority, tmp_path / "key")
    with (
        answering(saying(OK), context=context) as place,
        pytest.raises(StoreUnavailable, match="certificate") as caught,
    ):
        fetched(connections, f"https://{place}/")
    assert not caught.value.ambiguous
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority))
    with answering(saying(OK), context=context) as place:
        assert fetched(connections, f"https://{place}/") == b"ok"
        connections.close()
