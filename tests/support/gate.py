"""A slow line before a server: it takes so many bytes of requests, and then none until it is opened."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from tests.support.cli import DEADLINE

_READ = 16 * 1024
_BUFFER = 32 * 1024
HELD_PER_CONNECTION = 1 << 19
"""Bytes that are on their way in a connection at most: in the buffers of both ends, and in one piece."""


class Gate:
    """Relays connections to a server. `taken` counts the bytes of requests that came through."""

    def __init__(self, behind: str, allowance: int) -> None:
        self._behind = urlsplit(behind).hostname, urlsplit(behind).port
        self._allowance = allowance
        self._lock = threading.Lock()
        self._opened = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        # Connections inherit it; more would hide in it.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.full = threading.Event()
        self.taken = 0
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def open(self) -> None:
        """Let everything through from now on."""
        self._opened.set()

    def run(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._behind)
                self._sockets += client, server
                for source, target, held in ((client, server, True), (server, client, False)):
                    thread = threading.Thread(target=self._relay, args=(source, target, held))
                    thread.start()
                    self._threads.append(thread)

    def refuse(self) -> None:
        """Take no more connections, which ends `run`."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def close(self) -> None:
        """End all connections, once `run` has ended."""
        self.open()
        for end in self._sockets:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in self._sockets:
            end.close()

    def _relay(self, source: socket.socket, target: socket.socket, held: bool) -> None:
        with suppress(OSError):
            while content := source.recv(self._may_take() if held else _READ):
                if held:
                    with self._lock:
                        self.taken += len(content)
                target.sendall(content)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _may_take(self) -> int:
        with self._lock:
            left = self._allowance - self.taken
        if left <= 0 and not self._opened.is_set():
            self.full.set()
            assert self._opened.wait(DEADLINE)
        return _READ


@contextmanager
def gated(behind: str, allowance: int) -> Iterator[Gate]:
    """Stand before a server that listens at `behind`; it is reached at the `url` of the gate."""
    gate = Gate(behind, allowance)
    accepting = threading.Thread(target=gate.run, daemon=True)
    accepting.start()
    try:
        yield gate
    finally:
        gate.refuse()
        accepting.join()
        gate.close()
