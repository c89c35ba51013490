"""Answers those who speak to the daemon: one request a line, JSON both ways, in one thread.

A conversation is cut off when it is too long, too slow or one too many, so
that no client can hold up another or the daemon. What a verb does is the
business of whoever answers for the socket it came in by.
"""

from __future__ import annotations

import json
import logging
import selectors
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from craftsync.clock import Clock

Answer = Callable[[Mapping[str, Any]], Any]
"""Carries out a request and returns what to say; raises `Refused` for one that makes no sense."""

_LONGEST_LINE = 65_536
_LONGEST_TALK = 10.0
_MOST_CLIENTS = 32
_PIECE = 65_536
_BREATH = 0.05

_log = logging.getLogger(__name__)


class Refused(Exception):
    """A request that is not carried out; its text says why."""


class _Client:
    """One conversation: what has come in, and what is still to go out."""

    def __init__(self, peer: socket.socket, answer: Answer, deadline: float) -> None:
        self.peer = peer
        self.deadline = deadline
        self._answer = answer
        self._inbox = bytearray()
        self._outbox = bytearray()

    @property
    def events(self) -> int:
        """What to wait for: who does not take the answers is not asked for more."""
        busy = self._outbox or b"\n" in self._inbox
        return selectors.EVENT_WRITE if busy else selectors.EVENT_READ

    def go_on(self) -> bool:
        """Send, answer or take one piece without waiting; return whether the conversation goes on."""
        try:
            if self._outbox:
                del self._outbox[: self.peer.send(self._outbox)]
                return True
            if b"\n" in self._inbox:
                line, _, self._inbox = self._inbox.partition(b"\n")
                self._outbox += _answered(line, self._answer)
                return True
            piece = self.peer.recv(_PIECE)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._inbox += piece
        return bool(piece) and (b"\n" in self._inbox or len(self._inbox) < _LONGEST_LINE)


class Control:
    """The sockets of all pairs and those who speak through them. Belongs to one thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._clients: list[_Client] = []

    def add(self, listener: socket.socket, answer: Answer) -> None:
        """Listen here too."""
        self._selector.register(listener, selectors.EVENT_READ, answer)

    def remove(self, listener: socket.socket) -> None:
        """Listen here no more; call it before the socket is closed."""
        self._selector.unregister(listener)

    def wake_by(self, reader: socket.socket) -> None:
        """Let `serve` return when a byte arrives here."""
        self._selector.register(reader, selectors.EVENT_READ)

    def serve(self, seconds: float) -> None:
        """Answer whoever speaks, for at most so many seconds or until something happened."""
        for key, _ in self._selector.select(seconds):
            if isinstance(key.data, _Client):
                self._go_on(key.data)
            elif key.data is not None:
                self._welcome(key.fileobj, key.data)
            else:
                self._drain(key.fileobj)
        now = self._clock.monotonic()
        for client in [client for client in self._clients if client.deadline <= now]:
            self._part(client)

    def close(self) -> None:
        for client in list(self._clients):
            self._part(client)
        self._selector.close()

    def _welcome(self, listener: Any, answer: Answer) -> None:
        if len(self._clients) == _MOST_CLIENTS:
            self._part(self._clients[0])
        try:
            peer, _ = listener.accept()
        except OSError:
            # It left again, or no descriptor is free: then it goes on knocking, and this would spin.
            self._clock.sleep(_BREATH)
            return
        peer.setblocking(False)
        client = _Client(peer, answer, self._clock.monotonic() + _LONGEST_TALK)
        self._clients.append(client)
        self._selector.register(peer, client.events, client)

    def _go_on(self, client: _Client) -> None:
        if client not in self._clients:
            # It was parted with for a newer one, a moment ago.
            return
        if client.go_on():
            self._selector.modify(client.peer, client.events, client)
        else:
            self._part(client)

    def _part(self, client: _Client) -> None:
        self._clients.remove(client)
        self._selector.unregister(client.peer)
        client.peer.close()

    @staticmethod
    def _drain(reader: Any) -> None:
        with suppress(BlockingIOError):
            reader.recv(_PIECE)


def _answered(line: bytes | bytearray, answer: Answer) -> bytes:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        return json.dumps({"error": "this is not JSON"}).encode() + b"\n"
    return json.dumps(_carried_out(request, answer)).encode() + b"\n"


def _carried_out(request: object, answer: Answer) -> dict[str, Any]:
    if not isinstance(request, dict):
        return {"error": "a request is a JSON object"}
    try:
        return {"answer": answer(request)}
    except Refused as refused:
        return {"error": str(refused)}
    except Exception as error:  # noqa: BLE001 (one request fails, and nothing else)
        _log.error("the request %r failed", request.get("verb"), exc_info=error)
        return {"error": f"it failed: {error}"}
