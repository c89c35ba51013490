"""`Temporary`: a file being written, in `.craftsync/tmp`. `SpaceClaim`: the disk space that it claims.

If the filesystem supports O_TMPFILE, a temporary file has no name, and needs no lock and no
cleanup. A file is begun only if it fits and the reserve stays free; space claimed by other files of
this process counts as used.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Self

from craftsync.core.model import OWN_FOLDER
from craftsync.core.retention import Reserve
from craftsync.errors import NoSpace, PathBusy
from craftsync.local import exclusive_rename, linux
from craftsync.local.files import (
    BLOCK,
    READ,
    OpenFile,
    blocks_of,
    digest_of,
    inode_of,
    local_file,
    path_errors,
)
from craftsync.local.tree import Tree

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Errors of a full disk or an exhausted quota."""

_CHECK_EVERY = 16 << 20
"""Bytes written to one file, or claimed by small files, between two checks of the free space."""
_PLENTY = 1 << 30
"""With this many bytes free beyond the reserve, not every small file needs a check."""

_REMEDY = "Free space on that disk, or set a smaller `reserve:` in the configuration."

_claimed: dict[int, int] = {}
"""Bytes claimed by files being written, by device."""
_plenty: dict[int, _Plenty] = {}
"""How much may be claimed without another check, by device, while files are written there."""
_lock = threading.Lock()


def _reset_claims() -> None:
    """After a fork: forget the open files and the lock, which belong to the parent process."""
    global _lock
    _lock = threading.Lock()
    _claimed.clear()
    _plenty.clear()


os.register_at_fork(after_in_child=_reset_claims)


class _Plenty:
    """How much may be claimed on a device with plenty of space before the next check."""

    def __init__(self, reserve: Reserve) -> None:
        self._reserve = reserve
        self._left = _CHECK_EVERY

    def has(self, size: int, reserve: Reserve) -> bool:
        """Return whether `size` bytes may be claimed without a check, and count them."""
        self._left -= size
        return self._left >= 0 and reserve is self._reserve


class SpaceClaim:
    """Space claimed for an open file, released as the file is written. Call `end` when it is finished."""

    def __init__(
        self,
        descriptor: int,
        size: int,
        reserve: Reserve,
        status: os.stat_result | None = None,
    ) -> None:
        """Claim space for a file of `size` bytes, less its current blocks (`status`). Raises `NoSpace`."""
        status = status or linux.fstat(descriptor)
        self._descriptor = descriptor
        self._device = status.st_dev
        self._reserve = reserve
        self._left = max(0, size - status.st_blocks * 512)
        self._unseen = 0
        with _lock:
            plenty = _plenty.get(self._device)
            if plenty is None or not plenty.has(self._left, reserve):
                self._check(self._left)
            if self._left:
                _claimed[self._device] = _claimed.get(self._device, 0) + self._left

    def written(self, count: int) -> None:
        """Release `count` bytes, now written. Raises `NoSpace` if other programs have used the free space."""
        with _lock:
            self._release(count)
            self._unseen += count
            if self._unseen >= _CHECK_EVERY:
                self._unseen = 0
                self._check(0, claimed=0)

    def end(self) -> None:
        """Release the rest of the claim. May be called twice."""
        if self._left:
            with _lock:
                self._release(self._left)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def _release(self, count: int) -> None:
        count = min(count, self._left)
        self._left -= count
        if count:
            left = _claimed.pop(self._device) - count
            if left:
                _claimed[self._device] = left
            else:
                _plenty.pop(self._device, None)

    def _check(self, size: int, claimed: int | None = None) -> None:
        disk = linux.fstatvfs(self._descriptor)
        if not disk.f_blocks:
            return  # The filesystem does not report its size.
        free = disk.f_bavail * disk.f_frsize
        kept = self._reserve.of(disk.f_blocks * disk.f_frsize)
        taken = _claimed.get(self._device, 0) if claimed is None else claimed
        spare = free - taken - size - kept
        if kept and spare < 0:
            raise no_space(
                f"{_megabytes(size)} needed, {_megabytes(free)} free"
                + (f" ({_megabytes(taken)} for files being written)" if taken else "")
                + f", and {_megabytes(kept)} must stay free"
            )
        if spare >= _PLENTY and claimed is None:
            _plenty[self._device] = _Plenty(self._reserve)
        else:
            _plenty.pop(self._device, None)


def no_space(reason: str) -> NoSpace:
    return NoSpace(f"Not enough space on the disk: {reason}.", remedy=_REMEDY)


def _megabytes(size: int) -> str:
    return f"{size / 1000**2:,.1f} MB"


TEMPORARIES = f"{OWN_FOLDER}/tmp"

_WRITE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_UNNAMED = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
# open(2): EISDIR comes from kernels before 3.11, and from systems that imitate them.
_NO_UNNAMED = frozenset({errno.EOPNOTSUPP, errno.EISDIR})
_SHARE_BLOCKS = 0x40049409
"""FICLONE, ioctl_ficlone(2)."""
_NO_KERNEL_COPY = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP})

_GENERATED_NAME = r"[0-9a-f]{24}"
"""The form of generated names, for filesystems without O_TMPFILE."""


class Temporary:
    """A file being written in `.craftsync/tmp`, until `Folder.place` gives it its path.

    A file created with a name survives `close` and can be reopened by its name, to resume a
    download. Any other is removed by `close`, and without a name also by a crash. A named file
    holds an flock while it is open, so that no process sweeps it. All methods but `give_name` raise
    `PathError`, whose cause is the `OSError`.
    """

    def __init__(self, tree: Tree, name: str | None, reserve: Reserve | None = None) -> None:
        self._tree = tree
        self._reserve = reserve or Reserve()
        self._claim: SpaceClaim | None = None
        self._inode: int | None = None
        self._survives_close = name is not None
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
        """Claim the space for a file of `size` bytes. Raises `NoSpace`."""
        if self._claim is not None:
            self._claim.end()
        with path_errors(self._path or TEMPORARIES):
            status = linux.fstat(self._descriptor)
            self._inode = inode_of(status)
            self._claim = SpaceClaim(self._descriptor, size, self._reserve, status)

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Write at an offset. Raises `NoSpace` if the disk is full."""
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

    def start_writing(self, offset: int, length: int) -> None:
        """Make the kernel start to write a finished range to disk, so that the final flush is short."""
        with suppress(OSError):  # Only a hint: the flush reports errors.
            linux.start_writing(self._descriptor, offset, length)

    def note_written(self, count: int) -> None:
        """Count `count` bytes that the kernel copied into the file. Raises `NoSpace`."""
        if self._claim is not None:
            self._claim.written(count)

    def blocks(self, offset: int, length: int) -> Iterator[memoryview]:
        """Yield up to `length` bytes from `offset`. Each block is valid until the next."""
        with path_errors(self._where):
            yield from blocks_of(self._descriptor, offset, offset + length)

    def size(self) -> int:
        with path_errors(self._where):
            return linux.fstat(self._descriptor).st_size

    def inode(self) -> int:
        """Return the file's inode number as in `LocalFile`."""
        if self._inode is None:
            with path_errors(self._where):
                self._inode = inode_of(linux.fstat(self._descriptor))
        return self._inode

    def digest(self) -> bytes:
        with path_errors(self._where):
            return digest_of(
                self._descriptor, local_file(self._where, linux.fstat(self._descriptor))
            )

    def give_name(self, parent: int, name: str) -> None:
        """Move the file out of `.craftsync/tmp`. Raises `OSError`: `FileExistsError` if the name is taken."""
        if self._path is None:
            exclusive_rename.link_unnamed(self._descriptor, parent, name)
            return
        with self._tree.parent(self._path) as source:
            exclusive_rename.noreplace(*source, parent, name)
        self._path = None

    def discard(self) -> None:
        """Close the file, and remove it unless it was placed."""
        self._survives_close = False
        self.close()

    def close(self) -> None:
        if self._descriptor < 0:
            return
        if self._claim is not None:
            self._claim.end()
        if self._path is not None and not self._survives_close:
            with suppress(OSError), self._tree.parent(self._path) as (parent, name):
                linux.unlink(name, dir_fd=parent)
        linux.close(self._descriptor)
        self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def copy_content(source: OpenFile, target: Temporary) -> None:
    """Copy a file: as a reflink, else in the kernel, else block by block.

    Raises `NoSpace` if a copy without reflink does not fit.
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
    """Open a new file without a name. Returns -1 if the filesystem does not support that."""
    if not exclusive_rename.can_link_unnamed():
        return -1
    # The final mode now saves a chmod later. No other program can open a file without a name.
    try:
        return linux.open_beneath(tree.descriptor, TEMPORARIES, _UNNAMED, 0o666)
    except OSError:
        """The folder may not exist yet."""
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
            # A sweep removed it between open and lock, or it is not a file of ours.
            raise BlockingIOError
    except BlockingIOError as error:
        linux.close(descriptor)
        raise PathBusy(f"{path} is in use.") from error
    return descriptor


def exists(tree: Tree, name: str) -> bool:
    """Return whether an unfinished temporary file called `name` exists. Raises `OSError` if unknown."""
    try:
        return stat.S_ISREG(tree.status(f"{TEMPORARIES}/{name}").st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def is_generated_name(name: str) -> bool:
    """Return whether a temporary file's name was generated, so that no run will reopen it."""
    return re.fullmatch(_GENERATED_NAME, name) is not None


def sweep_temporaries(tree: Tree, wanted: Callable[[str], bool]) -> None:
    """Remove the temporary files that no process has open, except those whose names are `wanted`."""
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
