"""The control socket of a folder: where it is, both of its ends, and what may be asked through it.

A UNIX socket below the state folder, in a folder of its own for each linked
folder. Both ends go through a descriptor of that folder, because the address of
a socket may have 107 bytes and a state folder more. Who listens holds the
folder's flock, which is gone with its process: so a socket that is found under
the lock belongs to nobody, and may be replaced.

One request a line, JSON both ways, in one thread. A conversation is cut off
when it is too long, too slow or one too many, so that no client can hold up
another or the daemon. What a verb does is the business of who answers for the
socket it came in by.
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
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from craftsync.clock import Clock
from craftsync.core.paths import malformed
from craftsync.errors import CraftsyncError, LockedError, StateError, UsageError
from craftsync.state import pair_folder

if TYPE_CHECKING:
    # Those who only ask do without the engine.
    from craftsync.engine.report import OnEvent, Options
    from craftsync.engine.review import Approval
    from craftsync.engine.session import Session

_NAME = "control"
_FRESH = "control.new"
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_CREDENTIALS = struct.Struct("3i")


def folder_of(state_dir: Path, root: str, location: str) -> Path:
    """Return where the socket of a linked folder is; it need not exist."""
    return state_dir / "control" / pair_folder(state_dir, root, location).name


class Endpoint:
    """A listening socket of a linked folder, made for its owner alone; close it."""

    def __init__(self, folder: Path) -> None:
        """Raises `LockedError` when another process listens, `StateError` when none can."""
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
            raise _taken(folder) from error
        except OSError as error:
            os.close(self._folder)
            raise _unusable(folder, error) from error

    def close(self) -> None:
        """Stop listening; whoever connects from now on finds nobody."""
        with suppress(FileNotFoundError):
            os.unlink(_NAME, dir_fd=self._folder)
        self.socket.close()
        os.close(self._folder)


def connect(folder: Path, timeout: float) -> socket.socket | None:
    """Return a connection to the daemon that listens in a control folder, or `None` when none does."""
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
    """Put a socket in place that listens already; nobody else could ever connect to it."""
    with suppress(FileNotFoundError):
        os.unlink(_FRESH, dir_fd=folder)
    listener = socket.socket(socket.AF_UNIX)
    try:
        # Linux gives the new file the mode of the descriptor: it is never wider, not for an instant.
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(_address(folder, _FRESH))
        listener.listen()
        listener.setblocking(False)
        os.rename(_FRESH, _NAME, src_dir_fd=folder, dst_dir_fd=folder)
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
    """Return the id of the process that listens at the other end."""
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(credentials)[0])


def _taken(folder: Path) -> LockedError:
    peer = connect(folder, 1.0)
    who = "Another craftsync"
    if peer is not None:
        with peer:
            who = f"Another craftsync (process {process_of(peer)})"
    return LockedError(
        f"{who} already keeps this folder and store in sync.",
        remedy="See what it does with craftsync status, or end it with craftsync stop.",
    )


def _unusable(folder: Path, error: OSError) -> StateError:
    return StateError(
        f"The control socket in {folder} cannot be used: {error.strerror or error}.",
        remedy="The folder has to be yours, on a filesystem that can hold sockets.",
    )


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
    """The sockets of all folders and those who speak through them. Belongs to one thread."""

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


_TIMEOUT = 10.0
"""Seconds within which a daemon has answered, or is taken to hang."""


def ask(folder: Path, verb: str, **arguments: Any) -> Any:
    """Return what the daemon that listens in a control folder answers; `None` when none runs.

    Raises `UsageError` for a request it refuses, and `StateError` for a daemon
    that does not answer.
    """
    peer = connect(folder, _TIMEOUT)
    if peer is None:
        return None
    process = process_of(peer)
    try:
        with peer, peer.makefile("rwb") as stream:
            stream.write(json.dumps({"verb": verb, **arguments}).encode() + b"\n")
            stream.flush()
            answer = json.loads(stream.readline() or b"null")
    except (OSError, ValueError) as error:
        raise _silent(process) from error
    if answer is None:
        # It ended, or closed the line, between the question and the answer.
        raise _silent(process)
    if "error" in answer:
        raise UsageError(f"The daemon refuses: {answer['error']}.")
    return answer["answer"]


def running(state_dir: Path) -> dict[int, Path]:
    """Return the process of each daemon below a state folder, with a folder to speak to it by.

    No configuration is needed for it.
    """
    found: dict[int, Path] = {}
    for folder in sorted((state_dir / "control").glob("*")):
        peer = connect(folder, _TIMEOUT)
        if peer is not None:
            with peer:
                found.setdefault(process_of(peer), folder)
    return found


def _silent(process: int) -> CraftsyncError:
    return StateError(
        f"The daemon (process {process}) does not answer.",
        remedy="Ask again in a minute: a service that hangs is started anew by then. "
        f"If it stays so, end it with kill -9 {process} and start it anew.",
    )


_MOST_NAMED = 10_000
_HIGHEST_RATE = sys.float_info.max


class Requests:
    """Paths to be looked at, and verdicts on held deletes, until they are taken."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._paths: set[str] = set()
        self._verdicts: deque[Approval] = deque()

    def look_at(self, paths: Iterable[str]) -> bool:
        """Remember these paths; return whether there were so many that none is remembered."""
        with self._lock:
            self._paths.update(paths)
            too_many = len(self._paths) > _MOST_NAMED
            if too_many:
                self._paths.clear()
            return too_many

    def paths(self) -> set[str]:
        """Take the paths."""
        with self._lock:
            paths, self._paths = self._paths, set()
        return paths

    def judge(self, verdict: Approval) -> None:
        """Remember what a person said about held deletes."""
        self._verdicts.append(verdict)

    def carry_out(self, session: Session, options: Options, on_event: OnEvent) -> None:
        """Do what was said about held deletes; what could not be done is tried at the next call."""
        while self._verdicts:
            session.judge(self._verdicts[0], options, on_event)
            self._verdicts.popleft()


def approval_of(request: Mapping[str, Any]) -> tuple[bool, tuple[str, ...] | None]:
    """Return what the verbs `approve` and `reject` say: whether to approve, and which paths, `None` for all.

    All are meant by `null` only, never by leaving the paths out. Raises
    `Refused` for paths that are none.
    """
    paths = request.get("paths", [])
    named = isinstance(paths, list) and paths and all(map(_is_path, paths))
    if paths is not None and not named:
        raise Refused("paths has to be a list of paths, or null for all")
    return request["verb"] == "approve", None if paths is None else tuple(paths)


def _is_path(word: object) -> bool:
    return isinstance(word, str) and malformed(word) is None


def rates_of(request: Mapping[str, Any]) -> tuple[float | None, float | None] | None:
    """Return what the verb `bwlimit` says: bytes per second up and down, `None` for the configured ones.

    Raises `Refused` for rates that are none.
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
        raise Refused(f"{direction} has to be bytes per second above 0, or null for no limit")
    return float(rate)
