"""Where a daemon can be spoken to about a pair: a UNIX socket below the state folder.

Each pair has a folder of its own there. Both ends go through a descriptor of that folder, because the address of a
socket may have 107 bytes and a state folder more. Whoever listens holds the
folder's flock, which is gone with its process: so a socket that is found under
the lock belongs to nobody, and may be replaced.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from craftsync.errors import LockedError, StateError
from craftsync.state import pair_folder

_NAME = "control"
_FRESH = "control.new"
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_CREDENTIALS = struct.Struct("3i")


def folder_of(state_dir: Path, root: str, location: str) -> Path:
    """Return the folder for the socket of a pair; it need not exist."""
    return state_dir / "control" / pair_folder(state_dir, root, location).name


class Endpoint:
    """A listening socket in a pair's folder, made for its owner alone; close it."""

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
    """Return a connection to whoever listens in a pair's folder, or `None` when nobody does."""
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
        f"{who} keeps this root and store in step already.",
        remedy="See what it does with craftsync status, or end it with craftsync stop.",
    )


def _unusable(folder: Path, error: OSError) -> StateError:
    return StateError(
        f"The control socket in {folder} cannot be used: {error.strerror or error}.",
        remedy="The folder has to be yours, on a filesystem that can hold sockets.",
    )
