"""Files being written, in `.craftsync/tmp`, until they are given their place.

Written by descriptor, and without a name where the filesystem can do that
(O_TMPFILE): then nothing needs to be locked, swept or removed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from craftsync.core.model import OWN_FOLDER
from craftsync.core.reserve import Reserve
from craftsync.errors import PathBusy
from craftsync.local import linux, rename
from craftsync.local.files import (
    BLOCK,
    READ,
    OpenFile,
    digest_of,
    inode_of,
    local_file,
    path_errors,
    read_block,
)
from craftsync.local.space import FULL, SpaceClaim, no_space
from craftsync.local.tree import Tree

TEMPORARIES = f"{OWN_FOLDER}/tmp"

_WRITE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_UNNAMED = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
# open(2): EISDIR from kernels before 3.11 and what imitates them.
_NO_UNNAMED = frozenset({errno.EOPNOTSUPP, errno.EISDIR})
_SHARE_BLOCKS = 0x40049409
"""FICLONE, ioctl_ficlone(2)."""
_NO_KERNEL_COPY = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP})

_NAMELESS = re.compile(r"[0-9a-f]{24}")
"""The names that are given where the filesystem cannot do without."""


class Temporary:
    """A file being written under `.craftsync/tmp`, until `Folder.place` gives it its path.

    One that was asked for by name survives `close` and is reopened by its
    name, so that a partial download goes on. Any other is gone when closed, and
    has no name at all where the filesystem can do that: a crash leaves nothing
    of it. One with a name holds an flock while it is open, which keeps a sweep,
    of this or another process, away from it. All methods but `give_name` raise
    `PathError`, whose cause is the `OSError`.
    """

    def __init__(self, tree: Tree, name: str | None, reserve: Reserve | None = None) -> None:
        self._tree = tree
        self._reserve = reserve or Reserve()
        self._claim: SpaceClaim | None = None
        self._inode: int | None = None
        self._lasting = name is not None
        self._path = f"{TEMPORARIES}/{name}" if name is not None else None
        with path_errors(self._where):
            self._descriptor = _open_unnamed(tree) if self._path is None else -1
            if self._descriptor < 0:
                self._path = self._path or f"{TEMPORARIES}/{secrets.token_hex(12)}"
                self._descriptor = _open_named(tree, self._path)

    @property
    def _where(self) -> str:
        return self._path or TEMPORARIES

    def fileno(self) -> int:
        return self._descriptor

    def claim(self, size: int) -> None:
        """Make sure that the file can grow to `size` bytes; raises `NoSpace`."""
        if self._claim is not None:
            self._claim.end()
        with path_errors(self._path or TEMPORARIES):
            status = linux.fstat(self._descriptor)
            self._inode = inode_of(status)
            self._claim = SpaceClaim(self._descriptor, size, self._reserve, status)

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Write at an offset; raises `NoSpace` where the disk is full."""
        size = len(data)
        with path_errors(self._path or TEMPORARIES):
            try:
                written = linux.pwrite(self._descriptor, data, offset)
                while written < size:
                    rest = memoryview(data)[written:]
                    written += linux.pwrite(self._descriptor, rest, offset + written)
            except OSError as error:
                if error.errno in FULL:
                    raise no_space(error.strerror or str(error)) from error
                raise
            if self._claim is not None:
                self._claim.written(size)

    def note_written(self, count: int) -> None:
        """Take so many bytes, which are on the disk now, off what was claimed; raises `NoSpace`."""
        if self._claim is not None:
            self._claim.written(count)

    def read_at(self, offset: int, length: int) -> bytes:
        """Return `length` bytes from `offset`, fewer only at the end."""
        with path_errors(self._where):
            return read_block(self._descriptor, offset, length)

    def size(self) -> int:
        with path_errors(self._where):
            return linux.fstat(self._descriptor).st_size

    def inode(self) -> int:
        """Return its inode number, as `LocalFile` has it."""
        if self._inode is None:
            with path_errors(self._where):
                self._inode = inode_of(linux.fstat(self._descriptor))
        return self._inode

    def truncate(self, size: int) -> None:
        with path_errors(self._where):
            linux.ftruncate(self._descriptor, size)

    def digest(self) -> bytes:
        with path_errors(self._where):
            return digest_of(
                self._descriptor, local_file(self._where, linux.fstat(self._descriptor))
            )

    def give_name(self, parent: int, name: str) -> None:
        """Give it a place outside `.craftsync/tmp`, for good; raises `OSError`.

        `FileExistsError` says that something is there already, which stays.
        """
        if self._path is None:
            rename.link_unnamed(self._descriptor, parent, name)
            return
        with self._tree.parent(self._path) as source:
            rename.noreplace(*source, parent, name)
        self._path = None

    def discard(self) -> None:
        """Remove the file, unless it was placed, and close it."""
        self._lasting = False
        self.close()

    def close(self) -> None:
        if self._descriptor < 0:
            return
        if self._claim is not None:
            self._claim.end()
        if self._path is not None and not self._lasting:
            with suppress(OSError), self._tree.parent(self._path) as (parent, name):
                linux.unlink(name, dir_fd=parent)
        linux.close(self._descriptor)
        self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def copy_content(source: OpenFile, target: Temporary) -> None:
    """Share the blocks where the file system can, let the kernel copy, or copy by hand.

    Raises `NoSpace` where the blocks cannot be shared and the copy does not fit.
    """
    with suppress(OSError):
        linux.ioctl(target.fileno(), _SHARE_BLOCKS, source.fileno())
        return
    target.claim(source.file.size)
    offset, size = 0, source.file.size
    while offset < size:
        try:
            count = linux.copy_file_range(
                source.fileno(), target.fileno(), size - offset, offset, offset
            )
        except OSError as error:
            if error.errno not in _NO_KERNEL_COPY:
                raise
            block = source.read_at(offset, min(BLOCK, size - offset))
            target.write_at(offset, block)
            count = len(block)
        else:
            target.note_written(count)
        if not count:
            return
        offset += count


def _open_unnamed(tree: Tree) -> int:
    """Open a new file without a name; -1 where the filesystem has none."""
    if not rename.can_link_unnamed():
        return -1
    # The usual mode now saves a chmod later; without a name nobody can open it before.
    try:
        return linux.open_beneath(tree.descriptor, TEMPORARIES, _UNNAMED, 0o666)
    except OSError:
        """The folder may have to be made first."""
    with tree.directory(TEMPORARIES, make=True) as folder:
        try:
            return linux.open(".", _UNNAMED, 0o666, dir_fd=folder)
        except OSError as error:
            if error.errno in _NO_UNNAMED:
                return -1
            raise


def _open_named(tree: Tree, path: str) -> int:
    with tree.parent(path, make=True) as (parent, name):
        descriptor = linux.open(name, _WRITE, 0o600, dir_fd=parent)
    try:
        linux.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = linux.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            # A sweep took it between open and lock, or it is nothing of ours.
            raise BlockingIOError
    except BlockingIOError as error:
        linux.close(descriptor)
        raise PathBusy(f"{path} is in use.") from error
    return descriptor


def exists(tree: Tree, name: str) -> bool:
    """Tell whether an unfinished temporary of that name is there; raises `OSError` when nobody can tell."""
    try:
        return stat.S_ISREG(tree.status(f"{TEMPORARIES}/{name}").st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def is_nameless(name: str) -> bool:
    """Tell whether a temporary of that name is of no use to anybody once it is closed."""
    return _NAMELESS.fullmatch(name) is not None


def sweep_temporaries(tree: Tree, wanted: Callable[[str], bool]) -> None:
    """Remove the temporaries nobody has open, but for those whose names are `wanted`."""
    try:
        listing = tree.listing(TEMPORARIES)
    except FileNotFoundError:
        return
    try:
        for name in linux.listdir(listing):
            if not wanted(name):
                _remove_unless_open(listing, name)
    finally:
        linux.close(listing)


def _remove_unless_open(parent: int, name: str) -> None:
    try:
        descriptor = linux.open(name, READ, dir_fd=parent)
    except OSError:
        return
    try:
        linux.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        linux.unlink(name, dir_fd=parent)
    except BlockingIOError:
        pass
    finally:
        linux.close(descriptor)
