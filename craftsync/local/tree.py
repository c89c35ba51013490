"""`Tree`: opens and stats paths below an open folder, so that none can lead outside it.

Every path is resolved from the folder's descriptor, by the kernel in one openat2 or name by name
through directory descriptors. No symbolic link is followed, whatever another program swaps in. No
descriptor of a subfolder outlives a call, because the subfolder may be moved out. Raises `OSError`;
paths must be well-formed.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from craftsync.local import linux
from craftsync.net.waiting import after_fork

WALK = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""Flags to open a folder for walking through it, which needs no permission to list it."""

LISTING = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""Flags to open a folder for listing it."""

_STAT = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC

_ATTEMPTS = 16
"""Attempts to create a folder while another program keeps removing empty ones."""


class LinkInTheWay(NotADirectoryError):
    """The path goes through a symbolic link, `filename`."""


class Tree:
    """Everything below one open directory descriptor, which the caller closes."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._start()
        after_fork(self, Tree._start)

    def _start(self) -> None:
        self.removing = threading.Lock()
        """Held while empty folders are removed, and while a new, still empty folder must stay."""

    @contextmanager
    def parent(self, path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """Yield a descriptor of the folder of `path`, and the path's last name.

        With `make`, missing folders are created. Raises `FileNotFoundError`, or
        `NotADirectoryError` (`LinkInTheWay` for a symbolic link).
        """
        descriptor, name = self.open_parent(path, make=make)
        try:
            yield descriptor, name
        finally:
            self.release(descriptor)

    @contextmanager
    def directory(self, path: str, *, make: bool = False) -> Iterator[int]:
        """Yield a descriptor of the folder at `path` ("" is the tree itself), for `dir_fd`, not for listing."""
        descriptor = self._open(path, make)
        try:
            yield descriptor
        finally:
            self.release(descriptor)

    def open_parent(self, path: str, *, make: bool = False) -> tuple[int, str]:
        """Return what `parent` yields. The caller must `release` the descriptor."""
        folder, _, name = path.rpartition("/")
        return self._open(folder, make), name

    def release(self, descriptor: int) -> None:
        if descriptor != self.descriptor:
            linux.close(descriptor)

    def open(self, path: str, flags: int) -> int:
        """Open the file at `path`. The caller closes the descriptor."""
        try:
            return linux.open_beneath(self.descriptor, path, flags)
        except OSError:
            with self.parent(path) as (descriptor, name):
                return linux.open(name, flags, dir_fd=descriptor)

    def status(self, path: str) -> os.stat_result:
        """Stat the entry at `path`, of any type, without following a symbolic link."""
        try:
            descriptor = linux.open_beneath(self.descriptor, path, _STAT)
        except FileNotFoundError:
            raise
        except OSError:
            with self.parent(path) as (folder, name):
                return linux.stat(name, dir_fd=folder, follow_symlinks=False)
        try:
            return linux.fstat(descriptor)
        finally:
            linux.close(descriptor)

    def listing(self, path: str) -> int:
        """Open the folder at `path` for listing. The caller closes the descriptor."""
        with self.directory(path) as descriptor:
            return linux.open(".", LISTING, dir_fd=descriptor)

    def remove_empty_parents(self, path: str) -> None:
        """Remove the empty folders above `path`, from the innermost outwards."""
        folder = path.rpartition("/")[0]
        with self.removing, suppress(OSError):
            while folder:
                with self.parent(folder) as (descriptor, name):
                    linux.rmdir(name, dir_fd=descriptor)
                folder = folder.rpartition("/")[0]

    def _open(self, path: str, make: bool) -> int:
        if not path:
            return self.descriptor
        try:
            return linux.open_beneath(self.descriptor, path, WALK)
        except OSError:
            # Walking creates missing folders, finds the obstacle, and works without openat2.
            return self._walk(path, make)

    def _walk(self, path: str, make: bool) -> int:
        descriptor, walked = self.descriptor, ""
        for name in path.split("/"):
            walked = f"{walked}/{name}" if walked else name
            try:
                inner = _enter_or_make(descriptor, name) if make else _enter(descriptor, name)
            except NotADirectoryError as error:
                raise _obstacle(descriptor, name, walked) from error
            finally:
                if descriptor != self.descriptor:
                    linux.close(descriptor)
            descriptor = inner
        return descriptor


def give_owner(descriptor: int, like: os.stat_result) -> None:
    """As root, give a new file the owner of `like`, its folder or the file it replaces.

    So a user who once ran craftsync as root can continue without.
    """
    if os.geteuid() == 0 and (like.st_uid or like.st_gid):
        with suppress(PermissionError):  # Root in a user namespace may not change every owner.
            linux.chown(f"/proc/self/fd/{descriptor}", like.st_uid, like.st_gid)


def _enter(descriptor: int, name: str) -> int:
    return linux.open(name, WALK, dir_fd=descriptor)


def _enter_or_make(descriptor: int, name: str) -> int:
    for _ in range(_ATTEMPTS):
        with suppress(FileNotFoundError):
            return _enter(descriptor, name)
        with suppress(FileExistsError):
            linux.mkdir(name, dir_fd=descriptor)
            with suppress(FileNotFoundError):
                made = _enter(descriptor, name)
                give_owner(made, linux.fstat(descriptor))
                return made
    return _enter(descriptor, name)


def _obstacle(descriptor: int, name: str, walked: str) -> NotADirectoryError:
    link = False
    with suppress(OSError):
        link = stat.S_ISLNK(linux.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode)
    kind = LinkInTheWay if link else NotADirectoryError
    return kind(errno.ENOTDIR, os.strerror(errno.ENOTDIR), walked)
