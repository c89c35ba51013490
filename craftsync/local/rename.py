"""Renames that never overwrite, and swaps, on every filesystem.

Works on (directory descriptor, name) pairs and raises `OSError`; knows nothing
of paths. Where the kernel or the filesystem lacks renameat2 (NFS, CIFS and FAT
answer EINVAL) the documented fallbacks take over; each has a window of a few
microseconds that the real call does not have.
"""

from __future__ import annotations

import errno
import os
import secrets
from functools import cache

from craftsync.local import linux

_UNSUPPORTED = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP})
_NO_LINKS = frozenset({errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EMLINK, errno.EXDEV})

_FINE_STAMPS = frozenset(
    {0xEF53, 0x58465342, 0x9123683E, 0x01021994, 0x2FC12FC1, 0xF2F52010, 0x794C7630}
)  # ext2-4, XFS, Btrfs, tmpfs, ZFS, F2FS, overlayfs: statfs(2)


def noreplace(source_fd: int, source: str, target_fd: int, target: str) -> None:
    """Rename; raises `FileExistsError` when anything is at the target."""
    try:
        linux.renameat2(source_fd, source, target_fd, target, linux.NOREPLACE)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        noreplace_by_link(source_fd, source, target_fd, target)


def exchange(source_fd: int, source: str, target_fd: int, target: str) -> None:
    """Swap two names in one step; raises `FileNotFoundError` when either is missing."""
    try:
        linux.renameat2(source_fd, source, target_fd, target, linux.EXCHANGE)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        exchange_by_steps(source_fd, source, target_fd, target)


def can_exchange(descriptor: int, one: str, other: str) -> bool:
    """Tell whether a filesystem swaps two names in one step, by swapping these; raises `OSError`."""
    try:
        linux.renameat2(descriptor, one, descriptor, other, linux.EXCHANGE)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        return False
    return True


@cache
def can_link_unnamed() -> bool:
    """Tell whether `link_unnamed` has the /proc it needs."""
    return os.path.exists("/proc/self/fd")


def link_unnamed(descriptor: int, target_fd: int, target: str) -> None:
    """Name an open file that has no name; raises `FileExistsError` when anything is at the target.

    The way open(2) gives for a file made with O_TMPFILE.
    """
    source = f"/proc/self/fd/{descriptor}"
    linux.link(source, target, dst_dir_fd=target_fd, follow_symlinks=True)


def noreplace_by_link(source_fd: int, source: str, target_fd: int, target: str) -> None:
    """Do what `noreplace` does with link and unlink.

    Window: a file saved over the source between the two calls is lost. Without
    hard links (FAT, some network shares) a look and a rename have to do, and
    what appears at the target between those two is lost.
    """
    try:
        linux.link(
            source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd, follow_symlinks=False
        )
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _rename_after_look(source_fd, source, target_fd, target)
    else:
        linux.unlink(source, dir_fd=source_fd)


def _rename_after_look(source_fd: int, source: str, target_fd: int, target: str) -> None:
    try:
        linux.stat(target, dir_fd=target_fd, follow_symlinks=False)
    except FileNotFoundError:
        linux.rename(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd)
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
    """Give the target a second name, or where there are no links another name; tell which."""
    try:
        linux.link(target, aside, src_dir_fd=target_fd, dst_dir_fd=source_fd, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        linux.rename(target, aside, src_dir_fd=target_fd, dst_dir_fd=source_fd)
        return False
    return True


def stamp_step_ns(descriptor: int) -> int:
    """Return how far apart two changes must lie to get different timestamps, in nanoseconds.

    A local Linux filesystem stamps with the kernel's tick (at most 10 ms
    before multigrain timestamps); of any other, FAT's 2 s are assumed.
    """
    return 10_000_000 if linux.statfs_type(descriptor) in _FINE_STAMPS else 2_000_000_000
