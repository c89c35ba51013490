"""An S3 server that speaks TLS: whole runs over it, and whom it takes to believe it."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import requests

from tests.support import servers
from tests.support.certificates import vouched_for
from tests.support.cli import Craftsync
from tests.support.serving import serving

SIZES = {"empty": 0, "small": 4096, "in one piece": 9 << 20, "in parts": 20 << 20}


def test_files_of_all_sizes_round_trip(craftsync: Craftsync, tmp_path: Path) -> None:
    authority = vouched_for(tmp_path)
    (tmp_path / "served" / "bucket").mkdir(parents=True)
    root = tmp_path / "root"
    root.mkdir()
    for name, size in SIZES.items():
        (root / name).write_bytes(bytes(range(256)) * (size // 256))
    for number in range(100):  # More than the 64 connections that are opened first.
        (root / f"{number:03}").write_bytes(bytes([number % 256]) * 5000)
    with servers.rclone(tmp_path / "served", certificate=authority) as server:
        craftsync.environment |= server.variables
        refused = craftsync("push", "root", "s3://bucket")
        assert (refused.code, "certificate" in refused.err) == (5, True)
        craftsync.environment["AWS_CA_BUNDLE"] = str(authority)
        assert craftsync("push", "root", "s3://bucket").code == 0
        (tmp_path / "copy").mkdir()
        assert craftsync("pull", "copy", "s3://bucket").code == 0
        assert craftsync("migrate", "--stream", "s3://bucket", "./moved").code == 0
    for copy in ("copy", "moved"):
        for file in root.iterdir():
            if file.is_file():
                assert (tmp_path / copy / file.name).read_bytes() == file.read_bytes()


@contextmanager
def proxy_with_tls(url: str, certificate: Path) -> Iterator[str]:
    """Forward requests to a server that speaks no TLS, as a reverse proxy does; yield the address."""

    class Forward(BaseHTTPRequestHandler):
        def _forward(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {**self.headers, "X-Forwarded-Proto": "https"}
            answer = requests.request(
                self.command, url + self.path, headers=headers, data=content, timeout=60
            )
            self.send_response(answer.status_code)
            for name in {"content-type", "content-range", "etag"} & {
                *map(str.lower, answer.headers)
            }:
                self.send_header(name, answer.headers[name])
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = do_PUT = do_DELETE = _forward

        def log_message(self, *_: object) -> None:
            pass

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, certificate.with_name("key"))
    with ThreadingHTTPServer(("127.0.0.1", 0), Forward) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"https://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def test_a_served_store_is_used_through_a_proxy_with_tls(
    craftsync: Craftsync, tmp_path: Path
) -> None:
    authority = vouched_for(tmp_path)
    craftsync.write("data/a", "content")
    (tmp_path / "served").mkdir()
    with (
        serving(tmp_path / "served") as server,
        proxy_with_tls(server.url, authority) as address,
    ):
        craftsync.environment |= server.variables
        craftsync.environment |= {
            "CRAFT_AI_ENVIRONMENT_URL": address,
            "CRAFT_AI_CONTROL_URL": address,
            "REQUESTS_CA_BUNDLE": str(authority),
        }
        assert craftsync("push", "data", "craft-ai://").code == 0
        assert craftsync("url", "craft-ai://a").text.startswith(f"{address}/")
        assert craftsync("cat", "craft-ai://a").text == "content"
