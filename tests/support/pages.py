"""The installed `craftsync ui`, and a browser's requests to it without a browser."""

from __future__ import annotations

import http.client
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.cookies import SimpleCookie

from tests.support.cli import DEADLINE, SCRIPT, Craftsync


@dataclass
class Ui:
    """A running page. `link` opens it once; a request carries the cookie after `enter`, which `entry` answered."""

    craftsync: Craftsync
    process: subprocess.Popen[str]
    link: str
    cookie: str = ""
    entry: Answer | None = None

    @property
    def address(self) -> str:
        return self.link.partition("/?")[0]

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    @property
    def token(self) -> str:
        return self.link.partition("token=")[2]

    def enter(self) -> None:
        """Use the link, as a browser does."""
        self.entry = self.get(f"/?token={self.token}")
        cookies = SimpleCookie(self.entry.headers["set-cookie"])
        self.cookie = "; ".join(f"{name}={morsel.value}" for name, morsel in cookies.items())

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, **headers)

    def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """Return the answer to a request of the page itself; `headers` change and (empty) remove."""
        own = {"Host": f"127.0.0.1:{self.port}", "Origin": self.address, "Cookie": self.cookie}
        sent = {**own, **{name.replace("_", "-"): text for name, text in headers.items()}}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, text in sent.items():
                if text:
                    connection.putheader(name, text)
            if body or method not in {"GET", "HEAD"}:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            return Answer(answer.status, dict(_lower(answer.getheaders())), answer.read())
        finally:
            connection.close()

    def connect(self, **headers: str) -> Answer:
        """Return the answer to the beginning of a websocket."""
        handshake = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec_WebSocket_Version": "13",
            "Sec_WebSocket_Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        }
        path = "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
        return self.request("GET", path, **handshake, **headers)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(DEADLINE)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


def _lower(headers: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    return ((name.lower(), text) for name, text in headers)


@contextmanager
def showing(craftsync: Craftsync, *words: str, **variables: str) -> Iterator[Ui]:
    """Start the page on a free port of loopback until the `with` ends."""
    with (craftsync.folder / "ui.err").open("w") as errors:
        process = subprocess.Popen(
            [SCRIPT, "ui", "--no-open", "--port", "0", *words],
            cwd=craftsync.folder,
            env=craftsync.environment | variables,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        assert process.stdout is not None
        printed = process.stdout.readline()
        match = re.search(r"https?://\S+", printed)
        assert match, (printed, (craftsync.folder / "ui.err").read_text())
        yield Ui(craftsync, process, match.group())
    finally:
        process.terminate()
        process.wait(DEADLINE)
        assert process.stdout is not None
        process.stdout.close()
