"""HTTP/1.1 over one connection: a response is read exactly as it was sent, however it arrives."""

from __future__ import annotations

import http.client
import io
import random
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from craftsync.net.concurrency import Fixed
from craftsync.net.http import Connection, InvalidResponse, Response
from craftsync.net.tasks import TaskPool
from tests.support.certificates import vouched_for

TIMEOUT = 60.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def ends() -> Iterator[tuple[Connection, socket.socket]]:
    """Yield a connection, and its other end."""
    near, far = socket.socketpair()
    connection = Connection(near)
    far.settimeout(TIMEOUT)
    yield connection, far
    connection.close()
    far.close()


def answered(answer: bytes, method: str = "GET", *, ended: bool = True) -> Response:
    """Return the response in these bytes, with its body read."""
    near, far = socket.socketpair()
    connection = Connection(near)
    with closing(connection), far:
        far.sendall(answer)
        if ended:
            far.shutdown(socket.SHUT_WR)
        response = connection.request(method, "/", {}, b"", TIMEOUT)
        response.body = response.read()  # type: ignore[attr-defined]
    return response


class Fed(io.BytesIO):
    """A stand-in for the socket that http.client reads from."""

    def makefile(self, *_: object) -> io.BytesIO:
        return self


def by_http_client(answer: bytes, method: str) -> tuple[int, dict[str, str], bytes]:
    response = http.client.HTTPResponse(Fed(answer), method=method)  # type: ignore[arg-type]
    response.begin()
    return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()


NAMES = st.sampled_from(["ETag", "x-amz-meta-note", "Server", "last-modified", "Date"])
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20).map(str.strip)


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """Make an answer with a body of known length, in chunks, or up to the end of the connection."""
    body = draw(st.binary(max_size=300))
    lines = [f"{name}: {draw(VALUES)}" for name in draw(st.lists(NAMES, unique=True))]
    framing = draw(st.sampled_from(["length", "chunks", "end"]))
    sent = body
    if framing == "length":
        lines.append(f"Content-Length:{' ' * draw(st.integers(0, 2))}{len(body)}")
    elif framing == "chunks":
        lines.append("Transfer-Encoding: chunked")
        cuts = sorted(draw(st.sets(st.integers(1, max(1, len(body))), max_size=4)) | {len(body)})
        pieces = [body[a:b] for a, b in zip([0, *cuts], cuts, strict=False) if a < b]
        sent = b"".join(b"%x;note=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        sent += b"0\r\nTrailer: x\r\n\r\n"
    status = draw(st.sampled_from(["200 OK", "206 Partial Content", "404 Not Found", "503 "]))
    head = "\r\n".join([f"HTTP/1.1 {status}", *lines])
    return f"{head}\r\n\r\n".encode() + sent


@given(answers(), st.data())
def test_response_parsing_matches_http_client_for_any_chunking(
    answer: bytes, data: st.DataObject
) -> None:
    method = data.draw(st.sampled_from(["GET", "PUT", "HEAD"]))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(answer)), max_size=6)) | {len(answer)})
    most = data.draw(st.sampled_from([None, 1, 7, 100]))
    near, far = socket.socketpair()
    connection = Connection(near)

    def send() -> None:
        with far:
            far.recv(65_536)
            for start, end in zip([0, *cuts], cuts, strict=False):
                far.send(answer[start:end])

    sender = threading.Thread(target=send)
    sender.start()
    with closing(connection):
        response = connection.request(method, "/", {}, b"", TIMEOUT)
        pieces = [response.read(most)]
        while piece := response.read(most):
            pieces.append(piece)
        sender.join(TIMEOUT)
    read = response.status, response.headers, b"".join(pieces)
    assert read == by_http_client(answer, method)
    assert response.left == 0


def test_connection_is_reused_for_consecutive_requests(
    ends: tuple[Connection, socket.socket],
) -> None:
    connection, far = ends
    for _ in range(3):
        far.sendall(OK)
        response = connection.request("PUT", "/key?a=b", {"host": "h"}, b"body", TIMEOUT)
        assert far.recv(1000) == (
            b"PUT /key?a=b HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\nbody"
        )
        assert (response.read(), response.is_complete) == (b"ok", True)
        assert connection.has_no_data()


def test_connection_with_unread_bytes_is_not_reusable(
    ends: tuple[Connection, socket.socket],
) -> None:
    connection, far = ends
    far.sendall(OK + b"more")
    assert connection.request("GET", "/", {}, b"", TIMEOUT).read() == b"ok"
    assert not connection.has_no_data()


@pytest.mark.parametrize(
    ("head", "reusable"),
    [
        ("HTTP/1.1 200 OK\r\nContent-Length: 0", True),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close", False),
        ("HTTP/1.0 200 OK\r\nContent-Length: 0", False),
        ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive", True),
        ("HTTP/1.1 200 OK", False),
        ("HTTP/1.1 204 No Content", True),
    ],
)
def test_response_headers_decide_whether_the_connection_is_reusable(
    head: str, reusable: bool
) -> None:
    assert answered(f"{head}\r\n\r\n".encode()).is_complete is reusable


def test_informational_1xx_responses_are_skipped() -> None:
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    response = answered(early + OK)
    assert (response.status, response.headers) == (200, {"content-length": "2"})


def test_repeated_response_headers_are_joined() -> None:
    response = answered(b"HTTP/1.1 200 OK\r\nA: 1\r\na:2\r\nContent-Length: 0\r\n\r\n")
    assert response.headers["a"] == "1, 2"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 99 Low\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n folded: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nspace : x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"a" * 70_000,
    ],
)
def test_incomplete_or_invalid_response_raises(answer: bytes) -> None:
    with pytest.raises(InvalidResponse):
        answered(answer)


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/a b", {}),
        ("/a\r\nx: y", {}),
        ("/a", {"x": "1\r\ny: 2"}),
        ("/a", {"x": "1\n"}),
        ("/a", {"x\r": "1"}),
        ("/a", {"x": "\u20ac"}),
    ],
)
def test_request_with_invalid_characters_is_never_sent(
    ends: tuple[Connection, socket.socket], target: str, headers: dict[str, str]
) -> None:
    connection, far = ends
    with pytest.raises(ValueError):
        connection.request("GET", target, headers, b"", TIMEOUT)
    far.setblocking(False)
    with pytest.raises(BlockingIOError):
        far.recv(1)


def test_early_refusal_of_a_large_body_is_read_despite_hangup(
    ends: tuple[Connection, socket.socket],
) -> None:
    connection, far = ends
    far.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    far.close()
    response = connection.request("PUT", "/", {}, bytes(8 << 20), TIMEOUT)
    assert (response.status, response.read()) == (403, b"no")


def test_connection_closed_during_the_request_fails_at_once(
    ends: tuple[Connection, socket.socket],
) -> None:
    connection, far = ends
    far.shutdown(socket.SHUT_RD)
    with pytest.raises(BrokenPipeError):
        connection.request("PUT", "/", {}, bytes(8 << 20), 0.5)


def encrypted(folder: Path) -> tuple[Connection, ssl.SSLSocket]:
    """Return a TLS connection, and its other end."""
    near, far = socket.socketpair()
    trusted = ssl.create_default_context(cafile=str(vouched_for(folder)))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "certificate", folder / "key")
    with ThreadPoolExecutor(1) as other:
        accepted = other.submit(server.wrap_socket, far, server_side=True)
        return Connection(trusted.wrap_socket(near, server_hostname="127.0.0.1")), accepted.result()


@pytest.mark.parametrize("most", [10_000, 50_000, 200_000])
def test_a_read_over_tls_returns_all_records_that_have_arrived(tmp_path: Path, most: int) -> None:
    sent = random.Random(1).randbytes(100_000)
    connection, far = encrypted(tmp_path)
    with closing(connection), far:
        far.sendall(sent)
        far.shutdown(socket.SHUT_WR)
        pieces = list(iter(lambda: connection.receive(most), b""))
    assert b"".join(pieces) == sent
    assert len(pieces) == -(-len(sent) // most)


def test_a_reset_over_tls_is_raised_after_what_arrived_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection, far = encrypted(tmp_path)
    arriving = iter([b"answer", ConnectionResetError(), b""])

    def recv(self: ssl.SSLSocket, most: int) -> bytes:
        """Raise a reset once, as the kernel does; after that, the connection looks closed."""
        arrived = next(arriving)
        if isinstance(arrived, ConnectionResetError):
            raise arrived
        return arrived

    monkeypatch.setattr(ssl.SSLSocket, "recv", recv)
    with closing(connection), far:
        assert connection.receive(1000) == b"answer"
        with pytest.raises(ConnectionResetError):
            connection.receive(1000)


def test_silent_server_times_out(ends: tuple[Connection, socket.socket]) -> None:
    with pytest.raises(TimeoutError):
        ends[0].request("GET", "/", {}, b"", 0.01)


def test_request_body_in_pieces_is_sent_completely(ends: tuple[Connection, socket.socket]) -> None:
    connection, far = ends
    pieces = [bytes([number]) * 300_000 for number in range(4)]
    received = bytearray()

    def take() -> None:
        while len(received) < 1_200_000 or b"\r\n\r\n" not in received:
            received.extend(far.recv(1 << 20))
        far.sendall(OK)

    taker = threading.Thread(target=take)
    taker.start()
    headers = {"content-length": "1200000"}
    response = connection.request("PUT", "/", headers, iter(pieces), TIMEOUT)
    taker.join(TIMEOUT)
    assert response.status == 200
    assert received.partition(b"\r\n\r\n")[2] == b"".join(pieces)


def test_socket_waits_of_tasks_in_one_thread_overlap() -> None:
    """Each answer is sent only once all requests have arrived."""
    pairs = [socket.socketpair() for _ in range(4)]
    connections = [Connection(near) for near, _ in pairs]

    def serve() -> None:
        for _, far in pairs:
            far.recv(1000)
        for _, far in reversed(pairs):
            far.sendall(OK)

    server = threading.Thread(target=serve)
    server.start()
    pool: TaskPool[Any] = TaskPool(Fixed(4))

    def task(connection: Connection) -> tuple[int, bytes]:
        response = connection.request("GET", "/", {}, b"", TIMEOUT)
        return threading.get_ident(), response.read()

    for connection in connections:
        pool.submit(lambda connection=connection: task(connection))
    taken = [pool.take(TIMEOUT) for _ in pairs]
    pool.close()
    server.join(TIMEOUT)
    for connection, (_, far) in zip(connections, pairs, strict=True):
        connection.close()
        far.close()
    assert taken == [(threading.get_ident(), b"ok")] * 4


def test_socket_wait_of_a_task_times_out() -> None:
    near, far = socket.socketpair()
    pool: TaskPool[Any] = TaskPool(Fixed(1))
    with closing(Connection(near)) as connection, far:
        pool.submit(lambda: connection.request("GET", "/", {}, b"", 0.01))
        with pytest.raises(TimeoutError):
            pool.take(TIMEOUT)
        pool.close()


def test_closing_a_pool_lets_running_requests_finish() -> None:
    near, far = socket.socketpair()
    pool: TaskPool[Any] = TaskPool(Fixed(1))
    with closing(Connection(near)) as connection, far:
        pool.submit(lambda: connection.request("GET", "/", {}, b"", TIMEOUT).read())
        assert select.select([far], [], [], TIMEOUT)[0]
        far.sendall(OK)
        pool.close()
        assert pool.take(0) == b"ok"


def test_socket_timeout_of_one_task_leaves_other_tasks_waiting() -> None:
    silent, _keep_open = socket.socketpair()
    busy, far = socket.socketpair()
    pool: TaskPool[Any] = TaskPool(Fixed(2))

    def late() -> str:
        try:
            connection.request("GET", "/", {}, b"", 0.01)
        except TimeoutError:
            return "late"
        return "answered"

    with closing(Connection(silent)) as connection, closing(Connection(busy)) as other, far:
        pool.submit(late)
        results = []
        while "late" not in results and len(results) < 200_000:
            far.sendall(OK)
            pool.submit(lambda: other.request("GET", "/", {}, b"", TIMEOUT).read())
            results.append(pool.take(TIMEOUT))
            far.recv(1000)
        pool.close()
    _keep_open.close()
    assert results[-1] == "late"
