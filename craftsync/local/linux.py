"""All system calls on a linked folder: Python's, and openat2, renameat2, syncfs and statfs.

Nothing accesses a folder in another way. Call `linux.stat(…)` and so on, never import the
functions: tests replace them here to simulate a disk. Paths are names in an open folder (`dir_fd`).
All functions raise `OSError`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from fcntl import F_RDLCK, F_SETLEASE, F_SETSIG, F_UNLCK, fcntl, flock, ioctl
from functools import cache
from os import (
    POSIX_FADV_DONTNEED,
    chown,
    close,
    copy_file_range,
    fchmod,
    fstat,
    fstatvfs,
    fsync,
    ftruncate,
    link,
    listdir,
    makedirs,
    mkdir,
    open,
    posix_fadvise,
    pread,
    preadv,
    pwrite,
    readlink,
    rename,
    rmdir,
    scandir,
    stat,
    unlink,
    utime,
)
from shutil import rmtree
from signal import SIGURG

__all__ = [
    "chown",
    "close",
    "copy_file_range",
    "fadvise_dontneed",
    "fchmod",
    "flock",
    "fstat",
    "fstatvfs",
    "fsync",
    "ftruncate",
    "ioctl",
    "is_open_for_writing",
    "link",
    "listdir",
    "makedirs",
    "mkdir",
    "open",
    "open_beneath",
    "pread",
    "preadv",
    "pwrite",
    "readlink",
    "rename",
    "renameat2",
    "rmdir",
    "rmtree",
    "scandir",
    "start_writing",
    "stat",
    "statfs_type",
    "syncfs",
    "unlink",
    "utime",
]


def fadvise_dontneed(descriptor: int) -> None:
    """Drop a file's content from the page cache."""
    posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED)


def is_open_for_writing(descriptor: int) -> bool | None:
    """Return whether any program has the file of a read-only descriptor open, or mapped, for writing.

    `None` if unknown: for another user's file, and on some filesystems. Takes a read lease
    (fcntl(2)), which the kernel grants only while no program has the file open for writing, and
    releases it at once. A program that opens the file in between waits that long.
    """
    # Such a program also triggers a signal. The default, SIGIO, would kill this process.
    fcntl(descriptor, F_SETSIG, SIGURG)
    try:
        fcntl(descriptor, F_SETLEASE, F_RDLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    fcntl(descriptor, F_SETLEASE, F_UNLCK)
    return False


NOREPLACE = 1  # linux/fs.h, RENAME_NOREPLACE
EXCHANGE = 2  # linux/fs.h, RENAME_EXCHANGE

_OPENAT2 = 437  # its number on every architecture Python is built for, but alpha and mips
_NO_SYMLINKS = 0x04  # linux/openat2.h, RESOLVE_NO_SYMLINKS
_BENEATH = 0x08  # linux/openat2.h, RESOLVE_BENEATH

_BEGIN_WRITING = 2  # linux/fs.h, SYNC_FILE_RANGE_WRITE

_libc = ctypes.CDLL(None, use_errno=True)
_openat2 = ctypes.CFUNCTYPE(
    *(ctypes.c_long, ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p),
    ctypes.c_size_t,
    use_errno=True,
)(("syscall", _libc))


class _OpenHow(ctypes.Structure):
    """linux/openat2.h, struct open_how."""

    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


_HOW_SIZE = ctypes.sizeof(_OpenHow)
_ENCODING, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@cache
def _how(flags: int, mode: int) -> ctypes.Array[ctypes.c_char]:
    how = _OpenHow(flags, mode, _NO_SYMLINKS | _BENEATH)
    return ctypes.create_string_buffer(bytes(how), _HOW_SIZE)


def open_beneath(descriptor: int, path: str, flags: int, mode: int = 0) -> int:
    """Open a path below a folder in one call, following no symbolic link, in its middle or at its end.

    openat2(2), Linux 5.6. Also raises `OSError` if the call is missing or a sandbox forbids it.
    Only walking the path distinguishes that from other errors.
    """
    how = _how(flags, mode)
    name = path.encode(_ENCODING, _ERRORS)  # os.fsencode takes four times as long.
    opened: int = _openat2(_OPENAT2, descriptor, name, how, _HOW_SIZE)
    if opened < 0:
        _check(opened)
    return opened


def renameat2(source_fd: int, source: str, target_fd: int, target: str, flags: int) -> None:
    """Rename with `NOREPLACE` or `EXCHANGE`. Raises ENOSYS or EINVAL if kernel or filesystem lack it."""
    if not hasattr(_libc, "renameat2"):  # glibc has it since 2.28
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    _check(
        _libc.renameat2(
            source_fd,
            os.fsencode(source),
            target_fd,
            os.fsencode(target),
            ctypes.c_uint(flags),
        )
    )


def syncfs(descriptor: int) -> None:
    """Flush the descriptor's filesystem to disk.

    Since Linux 5.8 it reports, once, a write-back error since the descriptor was opened
    (syncfs(2)).
    """
    _check(_libc.syncfs(descriptor))


def start_writing(descriptor: int, offset: int, length: int) -> None:
    """Make the kernel start to write a range of a file to disk, without waiting for it.

    sync_file_range(2). It guarantees nothing: `syncfs` must follow. ENOSYS if the C library lacks
    it.
    """
    if not hasattr(_libc, "sync_file_range"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    start, count = ctypes.c_int64(offset), ctypes.c_int64(length)
    _check(_libc.sync_file_range(descriptor, start, count, ctypes.c_uint(_BEGIN_WRITING)))


def statfs_type(descriptor: int) -> int:
    """Return the magic number of the descriptor's filesystem (statfs(2))."""
    buffer = (ctypes.c_long * 64)()
    _check(_libc.fstatfs(descriptor, buffer))
    return buffer[0] & 0xFFFFFFFF
