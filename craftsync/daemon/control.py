"""The control socket of a linked folder: its location, server, client and requests.

A UNIX socket in a folder of its own below the state folder. Both ends address it
through a descriptor of that folder, because a socket address is limited to 107
bytes. The listener holds an flock on the folder, which ends with its process, so
a socket found under the lock is stale and may be replaced.

One JSON request per line, one JSON response each, in one thread. A connection is
closed if its line is too long, if it is too slow, or if there are too many, so that
no client can block another or the daemon. The owner of each socket carries out its requests.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import selectors
import socket
import struct
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from craftsync.clock import Clock, SystemClock
from craftsync.core.paths import malformed
from craftsync.errors import LockedError, NoAnswer, StateError, UsageError
from craftsync.state import pair_folder

if TYPE_CHECKING:
    # Clients of the socket do not load the engine.
    from craftsync.engine.report import OnEvent, Options
    from craftsync.engine.review.deletes import Approval
    from craftsync.engine.session import Session

_NAME = "control"
_NEW_NAME = "control.new"
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_CREDENTIALS = struct.Struct("3i")


def folder_of(state_dir: Path, root: str, location: str) -> Path:
    """Return the folder for the socket of a linked folder, which need not exist."""
    return state_dir / "control" / pair_folder(state_dir, root, location).name


class Endpoint:
    """The listening socket of a linked folder, accessible to its owner only; close it."""

    def __init__(self, folder: Path) -> None:
        """Raises `LockedError` when another process listens, `StateError` when the folder is unusable."""
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._folder = os.open(folder, _OPEN)
        except OSError as error:
            raise _unusable(folder, error) from error
        try:
            fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.socket = _listening(self._folder)
        except BlockingIOError as error:
            os.close(self._folder)
            raise _locked_error(folder) from error
        except OSError as error:
            os.close(self._folder)
            raise _unusable(folder, error) from error

    def close(self) -> None:
        """Stop listening and remove the socket."""
        with suppress(FileNotFoundError):
            os.unlink(_NAME, dir_fd=self._folder)
        self.socket.close()
        os.close(self._folder)


def connect(folder: Path, timeout: float) -> socket.socket | None:
    """Return a connection to the daemon that listens in a control folder, `None` if none does."""
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(timeout)
    try:
        with _opened(folder) as descriptor:
            peer.connect(_address(descriptor, _NAME))
    except (FileNotFoundError, ConnectionRefusedError):
        peer.close()
        return None
    except OSError as error:
        peer.close()
        raise _unusable(folder, error) from error
    return peer


def _listening(folder: int) -> socket.socket:
    """Return a listening socket, renamed into place only once it listens with the right mode."""
    with suppress(FileNotFoundError):
        os.unlink(_NEW_NAME, dir_fd=folder)
    listener = socket.socket(socket.AF_UNIX)
    try:
        # Linux creates the file with the mode of the descriptor, so it is never accessible to others.
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(_address(folder, _NEW_NAME))
        listener.listen()
        listener.setblocking(False)
        os.rename(_NEW_NAME, _NAME, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        listener.close()
        raise
    return listener


def _address(folder: int, name: str) -> str:
    return f"/proc/self/fd/{folder}/{name}"


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, _OPEN)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def process_of(peer: socket.socket) -> int:
    """Return the id of the process at the other end."""
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(credentials)[0])


def _locked_error(folder: Path) -> LockedError:
    peer = connect(folder, 1.0)
    who = "Another craftsync"
    if peer is not None:
        with peer:
            who = f"Another craftsync (process {process_of(peer)})"
    return LockedError(
        f"{who} already keeps this folder and store in sync.",
        remedy="Show its state with craftsync status, or end it with craftsync stop.",
    )


def _unusable(folder: Path, error: OSError) -> StateError:
    return StateError(
        f"The control socket in {folder} cannot be used: {error.strerror or error}.",
        remedy="The folder must belong to you, on a filesystem that supports sockets.",
    )


Answer = Callable[[Mapping[str, Any]], Any]
"""Carries out a request and returns the response; raises `Refused` for an invalid one."""

_MAX_LINE = 65_536
_MAX_SECONDS = 10.0
_MOST_CLIENTS = 32
_PIECE = 65_536
_ACCEPT_PAUSE = 0.05

_log = logging.getLogger(__name__)


class Refused(Exception):
    """A request that is refused; the text is the reason."""


class _Client:
    """One connection with its input and output buffers."""

    def __init__(self, peer: socket.socket, answer: Answer, deadline: float) -> None:
        self.peer = peer
        self.deadline = deadline
        self._answer = answer
        self._inbox = bytearray()
        self._outbox = bytearray()

    @property
    def events(self) -> int:
        """Write until the client has taken its responses, and read only then."""
        busy = self._outbox or b"\n" in self._inbox
        return selectors.EVENT_WRITE if busy else selectors.EVENT_READ

    @property
    def has_response(self) -> bool:
        return bool(self._outbox)

    def advance(self) -> bool:
        """Send, handle or receive once without blocking; return whether the connection stays open."""
        try:
            if self._outbox:
                del self._outbox[: self.peer.send(self._outbox)]
                return True
            if b"\n" in self._inbox:
                line, _, self._inbox = self._inbox.partition(b"\n")
                self._outbox += _response(line, self._answer)
                return True
            piece = self.peer.recv(_PIECE)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._inbox += piece
        return bool(piece) and (b"\n" in self._inbox or len(self._inbox) < _MAX_LINE)


class Control:
    """Serves the control sockets of all folders. Belongs to one thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._clients: list[_Client] = []

    def add(self, listener: socket.socket, answer: Answer) -> None:
        """Serve another listening socket."""
        self._selector.register(listener, selectors.EVENT_READ, answer)

    def remove(self, listener: socket.socket) -> None:
        """Stop serving a socket; call this before closing it."""
        self._selector.unregister(listener)

    def wake_by(self, reader: socket.socket) -> None:
        """Make `serve` return when a byte arrives at `reader`."""
        self._selector.register(reader, selectors.EVENT_READ)

    def serve(self, seconds: float) -> None:
        """Wait up to `seconds` for input, and handle it."""
        for key, _ in self._selector.select(seconds):
            if isinstance(key.data, _Client):
                self._advance(key.data)
            elif key.data is not None:
                self._accept(key.fileobj, key.data)
            else:
                self._drain(key.fileobj)
        now = self._clock.monotonic()
        for client in [client for client in self._clients if client.deadline <= now]:
            self._disconnect(client)

    def close(self) -> None:
        """Send the responses that are due, and close all connections."""
        for client in list(self._clients):
            if client.has_response:
                client.advance()
            self._disconnect(client)
        self._selector.close()

    def _accept(self, listener: Any, answer: Answer) -> None:
        if len(self._clients) == _MOST_CLIENTS:
            self._disconnect(self._clients[0])
        try:
            peer, _ = listener.accept()
        except OSError:
            # The client left, or no descriptor is free; without a pause the latter would spin.
            self._clock.sleep(_ACCEPT_PAUSE)
            return
        peer.setblocking(False)
        client = _Client(peer, answer, self._clock.monotonic() + _MAX_SECONDS)
        self._clients.append(client)
        self._selector.register(peer, client.events, client)

    def _advance(self, client: _Client) -> None:
        if client not in self._clients:
            # It was just disconnected in favour of a newer one.
            return
        if client.advance():
            self._selector.modify(client.peer, client.events, client)
        else:
            self._disconnect(client)

    def _disconnect(self, client: _Client) -> None:
        self._clients.remove(client)
        self._selector.unregister(client.peer)
        client.peer.close()

    @staticmethod
    def _drain(reader: Any) -> None:
        with suppress(BlockingIOError):
            reader.recv(_PIECE)


def _response(line: bytes | bytearray, answer: Answer) -> bytes:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        return json.dumps({"error": "this is not JSON"}).encode() + b"\n"
    return json.dumps(_dispatch(request, answer)).encode() + b"\n"


def _dispatch(request: object, answer: Answer) -> dict[str, Any]:
    if not isinstance(request, dict):
        return {"error": "a request is a JSON object"}
    try:
        return {"answer": answer(request)}
    except Refused as refused:
        return {"error": str(refused)}
    except Exception as error:  # noqa: BLE001 (one request fails, and nothing else)
        _log.error("the request %r failed", request.get("verb"), exc_info=error)
        return {"error": f"the request failed: {error}"}


_TIMEOUT = 10.0
"""Seconds after which a daemon that does not respond is considered hung."""
_RESTART_SECONDS = 1.0
"""A daemon that closed a connection listens again within this time, or it has ended."""
_RETRY_PAUSE = 0.05


def ask(folder: Path, verb: str, *, within: float = _TIMEOUT, **arguments: Any) -> Any:
    """Send a request to the daemon that listens in a control folder; return its response, `None` if none runs.

    A daemon that ends, or that takes up a new configuration, closes the connection
    before it responds. The request is then sent again: carrying one out twice has
    the effect of once. Raises `UsageError` when the daemon refuses the request,
    `NoAnswer` when it does not respond in `within` seconds.
    """
    line = json.dumps({"verb": verb, **arguments}).encode() + b"\n"
    clock = SystemClock()
    deadline = clock.monotonic() + within
    restarts_until = 0.0
    while True:
        peer = connect(folder, max(deadline - clock.monotonic(), _RETRY_PAUSE))
        if peer is not None:
            process = process_of(peer)
            answer = _answer_to(line, peer, process)
            if answer is not None:
                return _granted(answer)
            if clock.monotonic() > deadline:
                raise _no_response(process)
            restarts_until = clock.monotonic() + _RESTART_SECONDS
        elif clock.monotonic() > restarts_until:
            return None
        clock.sleep(_RETRY_PAUSE)


def _granted(answer: Mapping[str, Any]) -> Any:
    if "error" in answer:
        raise UsageError(f"The daemon refuses: {answer['error']}.")
    return answer["answer"]


def _answer_to(line: bytes, peer: socket.socket, process: int) -> dict[str, Any] | None:
    """Return the response to a request, `None` if the daemon closed the connection before its end."""
    try:
        with peer, peer.makefile("rwb") as stream:
            stream.write(line)
            stream.flush()
            received = stream.readline()
            # A daemon that is killed while it responds leaves a line without its end.
            return json.loads(received) if received.endswith(b"\n") else None
    except ConnectionError:
        return None
    except (OSError, ValueError) as error:
        raise _no_response(process) from error


def send_decision(folder: Path, verb: str, paths: Sequence[str] | None) -> bool:
    """Send a decision on held deletes, those at `paths` or all; return whether a daemon runs.

    `verb` is `approve` or `reject`. Raises the errors of `ask`.
    """
    if paths is None:
        return ask(folder, verb, paths=None) is not None
    return all(ask(folder, verb, paths=batch) is not None for batch in _batches(paths))


def _batches(paths: Sequence[str]) -> Iterator[list[str]]:
    """Yield the paths in lists that fit into one request each."""
    batch: list[str] = []
    size = 0
    for path in paths:
        cost = len(json.dumps(path)) + 2
        if batch and size + cost > _MAX_LINE // 2:
            yield batch
            batch, size = [], 0
        batch.append(path)
        size += cost
    if batch:
        yield batch


def running(state_dir: Path) -> dict[int, Path]:
    """Return {process id: control folder} of each daemon below a state folder; skip another user's."""
    found: dict[int, Path] = {}
    for folder in sorted((state_dir / "control").glob("*/")):
        if not os.access(folder, os.R_OK | os.X_OK):
            continue
        peer = connect(folder, _TIMEOUT)
        if peer is not None:
            with peer:
                found.setdefault(process_of(peer), folder)
    return found


def _no_response(process: int) -> NoAnswer:
    return NoAnswer(
        f"The daemon (process {process}) does not answer.",
        remedy="Try again in a minute: systemd restarts a service that hangs. "
        f"If it still does not answer, end it with kill -9 {process} and restart it.",
        process=process,
    )


_MOST_NAMED = 10_000
_HIGHEST_RATE = sys.float_info.max


class Requests:
    """Requested paths and decisions on held deletes, until they are taken."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._paths: set[str] = set()
        self._approvals: deque[Approval] = deque()

    def request_paths(self, paths: Iterable[str]) -> bool:
        """Add paths; return True, and keep none, when there are too many."""
        with self._lock:
            self._paths.update(paths)
            too_many = len(self._paths) > _MOST_NAMED
            if too_many:
                self._paths.clear()
            return too_many

    def take_paths(self) -> set[str]:
        """Return the requested paths, and forget them."""
        with self._lock:
            paths, self._paths = self._paths, set()
        return paths

    def resolve_held(self, approval: Approval) -> None:
        """Add a decision on held deletes."""
        self._approvals.append(approval)

    def carry_out(self, session: Session, options: Options, on_event: OnEvent) -> None:
        """Carry out the decisions on held deletes; one that fails is retried at the next call."""
        while self._approvals:
            session.resolve_held(self._approvals[0], options, on_event)
            self._approvals.popleft()


def approval_of(request: Mapping[str, Any]) -> tuple[bool, tuple[str, ...] | None]:
    """Return (whether to approve, the paths or `None` for all) from an `approve` or `reject` request.

    Only `null` means all; a request without paths is invalid. Raises `Refused`
    for invalid paths.
    """
    paths = request.get("paths", [])
    named = isinstance(paths, list) and paths and all(map(_is_path, paths))
    if paths is not None and not named:
        raise Refused("paths must be a list of paths, or null for all")
    return request["verb"] == "approve", None if paths is None else tuple(paths)


def _is_path(word: object) -> bool:
    return isinstance(word, str) and malformed(word) is None


def rates_of(request: Mapping[str, Any]) -> tuple[float | None, float | None] | None:
    """Return (upload, download) in bytes per second from a `bwlimit` request, `None` for the configured ones.

    Raises `Refused` for invalid rates.
    """
    if request.get("configured") is True:
        return None
    return _rate(request, "upload"), _rate(request, "download")


def _rate(request: Mapping[str, Any], direction: str) -> float | None:
    rate = request.get(direction)
    if rate is None:
        return None
    is_number = isinstance(rate, int | float) and not isinstance(rate, bool)
    # Not `< inf`: an int may have more digits than a float can hold.
    if not is_number or not 0 < rate <= _HIGHEST_RATE:
        raise Refused(f"{direction} must be bytes per second above 0, or null for no limit")
    return float(rate)
