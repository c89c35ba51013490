"""Free space: a file is begun only if it fits, and a reserve stays free for everybody else.

What is promised to files being written counts as taken, so that many at once
cannot together use what each of them found free. The promises are kept in one
table a process: another process is met by looking again while a file grows.
"""

from __future__ import annotations

import errno
import os
import threading
from typing import Self

from craftsync.core.reserve import Reserve
from craftsync.errors import NoSpace
from craftsync.local import linux

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What a disk, or a quota, without room answers."""

_LOOK_EVERY = 16 << 20
"""Bytes written to one file, or promised to small ones, between two looks at what is free."""
_PLENTY = 1 << 30
"""Bytes free besides the reserve with which small files need no look each."""

_REMEDY = "Free space on that disk, or set a smaller `reserve:` in the configuration."

_promised: dict[int, int] = {}
"""Bytes that files being written may still take, by device."""
_plenty: dict[int, _Plenty] = {}
"""What a look at a device with plenty of room is good for, by device, while files are being written there."""
_lock = threading.Lock()


def _forget_promises() -> None:
    """Begin anew in a forked child: the files, and whoever held the lock, are its parent's."""
    global _lock
    _lock = threading.Lock()
    _promised.clear()
    _plenty.clear()


os.register_at_fork(after_in_child=_forget_promises)


class _Plenty:
    """A look at a device that had plenty of room: how much may be promised before the next one."""

    def __init__(self, reserve: Reserve) -> None:
        self._reserve = reserve
        self._left = _LOOK_EVERY

    def has(self, size: int, reserve: Reserve) -> bool:
        """Tell whether a claim needs no look of its own; then it counts."""
        self._left -= size
        return self._left >= 0 and reserve is self._reserve


class SpaceClaim:
    """Bytes promised to one open file, given back as they are written; end it when the file is done."""

    def __init__(
        self,
        descriptor: int,
        size: int,
        reserve: Reserve,
        status: os.stat_result | None = None,
    ) -> None:
        """Claim room for a file of `size` bytes, less what it takes already (`status`); raises `NoSpace`."""
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
                _promised[self._device] = _promised.get(self._device, 0) + self._left

    def written(self, count: int) -> None:
        """Note that so many bytes more are on the disk; raises `NoSpace` when others took what was free."""
        with _lock:
            self._give_back(count)
            self._unseen += count
            if self._unseen >= _LOOK_EVERY:
                self._unseen = 0
                self._check(0, promised=0)

    def end(self) -> None:
        """Give back what was not needed; may be called twice."""
        if self._left:
            with _lock:
                self._give_back(self._left)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def _give_back(self, count: int) -> None:
        count = min(count, self._left)
        self._left -= count
        if count:
            left = _promised.pop(self._device) - count
            if left:
                _promised[self._device] = left
            else:
                _plenty.pop(self._device, None)

    def _check(self, size: int, promised: int | None = None) -> None:
        disk = linux.fstatvfs(self._descriptor)
        if not disk.f_blocks:
            return  # A file system that does not know its size.
        free = disk.f_bavail * disk.f_frsize
        kept = self._reserve.of(disk.f_blocks * disk.f_frsize)
        taken = _promised.get(self._device, 0) if promised is None else promised
        spare = free - taken - size - kept
        if kept and spare < 0:
            raise no_space(
                f"{_megabytes(size)} needed, {_megabytes(free)} free"
                + (f" ({_megabytes(taken)} for files being written)" if taken else "")
                + f", and {_megabytes(kept)} are to stay free"
            )
        if spare >= _PLENTY and promised is None:
            _plenty[self._device] = _Plenty(self._reserve)
        else:
            _plenty.pop(self._device, None)


def no_space(reason: str) -> NoSpace:
    return NoSpace(f"Not enough space on the disk: {reason}.", remedy=_REMEDY)


def _megabytes(size: int) -> str:
    return f"{size / 1000**2:,.1f} MB"
