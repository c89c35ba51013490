"""Renames that never overwrite, and atomic swaps, on every filesystem.

All functions take (directory descriptor, name) pairs and raise `OSError`. If the kernel or the
filesystem lacks renameat2 (NFS, CIFS and FAT return EINVAL), it is emulated. Each emulation has a
race of a few microseconds, which its docstring names.
"""

from __future__ import annotations

import errno
import os
import secrets
from functools import cache

from craftsync.local import linux

_UNSUPPORTED = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP})
_NO_LINKS = frozenset({errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EMLINK, errno.EXDEV})

_FINE_TIMESTAMPS = frozenset(
    {0xEF53, 0x58465342, 0x9123683E, 0x01021994, 0x2FC12FC1, 0xF2F52010, 0x794C7630}
)  # ext2-4, XFS, Btrfs, tmpfs, ZFS, F2FS, overlayfs: statfs(2)


def noreplace(source_fd: int, source: str, target_fd: int, target: str) -> None:
    """Rename. Raises `FileExistsError` if the target exists."""
    try:
        linux.renameat2(source_fd, source, target_fd, target, linux.NOREPLACE)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        noreplace_by_link(source_fd, source, target_fd, target)


def exchange(source_fd: int, source: str, target_fd: int, target: str) -> None:
    """Swap two names in one step. Raises `FileNotFoundError` if either is missing."""
    try:
        linux.renameat2(source_fd, source, target_fd, target, linux.EXCHANGE)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        exchange_by_steps(source_fd, source, target_fd, target)


def can_exchange(descriptor: int, one: str, other: str) -> bool:
    """Swap two names; return False, with no change, if the filesystem cannot do so atomically."""
    try:
        linux.renameat2(descriptor, one, descriptor, other, linux.EXCHANGE)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        return False
    return True


@cache
def can_link_unnamed() -> bool:
    """Return whether /proc is mounted, which `link_unnamed` needs."""
    return os.path.exists("/proc/self/fd")


def link_unnamed(descriptor: int, target_fd: int, target: str) -> None:
    """Give a file opened with O_TMPFILE a name, as in open(2). Raises `FileExistsError` if it is taken."""
    source = f"/proc/self/fd/{descriptor}"
    linux.link(source, target, dst_dir_fd=target_fd, follow_symlinks=True)


def noreplace_by_link(source_fd: int, source: str, target_fd: int, target: str) -> None:
    """Emulate `noreplace` with link and unlink.

    A file saved over the source between the two calls is lost. Without hard links (FAT, some
    network shares), a stat and a rename replace them, and a file created at the target between
    those is lost.
    """
    try:
        linux.link(
            source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd, follow_symlinks=False
        )
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _rename_after_stat(source_fd, source, target_fd, target)
    else:
        linux.unlink(source, dir_fd=source_fd)


def _rename_after_stat(source_fd: int, source: str, target_fd: int, target: str) -> None:
    try:
        linux.stat(target, dir_fd=target_fd, follow_symlinks=False)
    except FileNotFoundError:
        linux.rename(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd)
    else:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


def exchange_by_steps(source_fd: int, source: str, target_fd: int, target: str) -> None:
    """Emulate `exchange` in three steps.

    With hard links the target always exists, and a file saved over it between the first two steps
    is lost. Without them it is absent for an instant, and a file created there in that instant is
    lost. A crash in between leaves the old target beside the source, with a name that ends in
    `.swapped`.
    """
    linux.stat(source, dir_fd=source_fd, follow_symlinks=False)
    aside = f"{secrets.token_hex(8)}.swapped"
    linked = _set_aside(target_fd, target, source_fd, aside)
    try:
        linux.rename(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd)
    except OSError:
        if linked:
            linux.unlink(aside, dir_fd=source_fd)
        else:
            linux.rename(aside, target, src_dir_fd=source_fd, dst_dir_fd=target_fd)
        raise
    linux.rename(aside, source, src_dir_fd=source_fd, dst_dir_fd=source_fd)


def _set_aside(target_fd: int, target: str, source_fd: int, aside: str) -> bool:
    """Give the target a second name and return True; without hard links, rename it and return False."""
    try:
        linux.link(target, aside, src_dir_fd=target_fd, dst_dir_fd=source_fd, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        linux.rename(target, aside, src_dir_fd=target_fd, dst_dir_fd=source_fd)
        return False
    return True


def timestamp_granularity_ns(descriptor: int) -> int:
    """Return the granularity of a filesystem's timestamps in nanoseconds.

    Local Linux filesystems use the kernel's tick (at most 10 ms before multigrain timestamps). For
    any other filesystem, assume FAT's 2 s.
    """
    return 10_000_000 if linux.statfs_type(descriptor) in _FINE_TIMESTAMPS else 2_000_000_000
