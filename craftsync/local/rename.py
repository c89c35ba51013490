"""The system calls Python does not offer: renames that never overwrite, swaps, openat2, syncfs.

Works on (directory descriptor, name) pairs and raises `OSError`; knows nothing
of paths. Where the kernel or the filesystem lacks renameat2 (NFS, CIFS and FAT
answer EINVAL) the documented fallbacks take over; each has a window of a few
microseconds that the real call does not have.
"""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
from functools import cache

_NOREPLACE = 1  # linux/fs.h, RENAME_NOREPLACE
_EXCHANGE = 2  # linux/fs.h, RENAME_EXCHANGE

_OPENAT2 = 437  # its number on every architecture Python is built for, but alpha and mips
_NO_SYMLINKS = 0x04  # linux/openat2.h, RESOLVE_NO_SYMLINKS
_BENEATH = 0x08  # linux/openat2.h, RESOLVE_BENEATH

_UNSUPPORTED = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP})
_NO_LINKS = frozenset({errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EMLINK, errno.EXDEV})

_FINE_STAMPS = frozenset(
    {0xEF53, 0x58465342, 0x9123683E, 0x01021994, 0x2FC12FC1, 0xF2F52010, 0x794C7630}
)  # ext2-4, XFS, Btrfs, tmpfs, ZFS, F2FS, overlayfs: statfs(2)

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


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _renameat2(source_fd: int, source: str, target_fd: int, target: str, flags: int) -> None:
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


def noreplace(source_fd: int, source: str, target_fd: int, target: str) -> None:
    """Rename; raises `FileExistsError` when anything is at the target."""
    try:
        _renameat2(source_fd, source, target_fd, target, _NOREPLACE)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        noreplace_by_link(source_fd, source, target_fd, target)


def exchange(source_fd: int, source: str, target_fd: int, target: str) -> None:
    """Swap two names in one step; raises `FileNotFoundError` when either is missing."""
    try:
        _renameat2(source_fd, source, target_fd, target, _EXCHANGE)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        exchange_by_steps(source_fd, source, target_fd, target)


def can_exchange(descriptor: int, one: str, other: str) -> bool:
    """Tell whether a filesystem swaps two names in one step, by swapping these; raises `OSError`."""
    try:
        _renameat2(descriptor, one, descriptor, other, _EXCHANGE)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        return False
    return True


_HOW_SIZE = ctypes.sizeof(_OpenHow)


@cache
def _how(flags: int, mode: int) -> ctypes.Array[ctypes.c_char]:
    how = _OpenHow(flags, mode, _NO_SYMLINKS | _BENEATH)
    return ctypes.create_string_buffer(bytes(how), _HOW_SIZE)


def open_beneath(descriptor: int, path: str, flags: int, mode: int = 0) -> int:
    """Open a path below a folder in one call that follows no symbolic link, on the way or at its end.

    openat2(2), Linux 5.6. Where it is missing, or a sandbox forbids it, this
    raises `OSError`: to be told from other failures only by walking.
    """
    how = _how(flags, mode)
    opened: int = _openat2(_OPENAT2, descriptor, os.fsencode(path), how, _HOW_SIZE)
    _check(opened < 0)
    return opened


@cache
def can_link_unnamed() -> bool:
    """Tell whether `link_unnamed` has the /proc it needs."""
    return os.path.exists("/proc/self/fd")


def link_unnamed(descriptor: int, target_fd: int, target: str) -> None:
    """Name an open file that has no name; raises `FileExistsError` when anything is at the target.

    The way open(2) gives for a file made with O_TMPFILE.
    """
    source = f"/proc/self/fd/{descriptor}"
    os.link(source, target, dst_dir_fd=target_fd, follow_symlinks=True)


def noreplace_by_link(source_fd: int, source: str, target_fd: int, target: str) -> None:
    """Do what `noreplace` does with link and unlink.

    Window: a file saved over the source between the two calls is lost. Without
    hard links (FAT, some network shares) a look and a rename have to do, and
    what appears at the target between those two is lost.
    """
    try:
        os.link(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _rename_after_look(source_fd, source, target_fd, target)
    else:
        os.unlink(source, dir_fd=source_fd)


def _rename_after_look(source_fd: int, source: str, target_fd: int, target: str) -> None:
    try:
        os.stat(target, dir_fd=target_fd, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd)
    else:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


def exchange_by_steps(source_fd: int, source: str, target_fd: int, target: str) -> None:
    """Do what `exchange` does in three steps.

    With hard links the target is never absent, and a file saved over it
    between the first two steps is lost. Without them it is absent for an
    instant, and what appears there meanwhile is lost. A crash midway leaves
    what was at the target beside the source, under a name that ends in
    `.swapped`.
    """
    os.stat(source, dir_fd=source_fd, follow_symlinks=False)
    aside = f"{secrets.token_hex(8)}.swapped"
    linked = _set_aside(target_fd, target, source_fd, aside)
    try:
        os.rename(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd)
    except OSError:
        if linked:
            os.unlink(aside, dir_fd=source_fd)
        else:
            os.rename(aside, target, src_dir_fd=source_fd, dst_dir_fd=target_fd)
        raise
    os.rename(aside, source, src_dir_fd=source_fd, dst_dir_fd=source_fd)


def _set_aside(target_fd: int, target: str, source_fd: int, aside: str) -> bool:
    """Give the target a second name, or where there are no links another name; tell which."""
    try:
        os.link(target, aside, src_dir_fd=target_fd, dst_dir_fd=source_fd, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.rename(target, aside, src_dir_fd=target_fd, dst_dir_fd=source_fd)
        return False
    return True


def syncfs(descriptor: int) -> None:
    """Write everything the descriptor's filesystem holds to disk.

    Since Linux 5.8 a write-back error since the descriptor was opened is
    reported, once (syncfs(2)).
    """
    _check(_libc.syncfs(descriptor))


def stamp_step_ns(descriptor: int) -> int:
    """Return how far apart two changes must lie to get different timestamps, in nanoseconds.

    A local Linux filesystem stamps with the kernel's tick (at most 10 ms
    before multigrain timestamps); of any other, FAT's 2 s are assumed.
    """
    buffer = (ctypes.c_long * 64)()
    _check(_libc.fstatfs(descriptor, buffer))
    return 10_000_000 if buffer[0] & 0xFFFFFFFF in _FINE_STAMPS else 2_000_000_000
