"""Filesystems in images; on demand, the kernel drops all that has not been written back."""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import subprocess
import uuid
from contextlib import suppress
from pathlib import Path

MIB = 1 << 20
KINDS = {
    "ext4": ("ext4", 128, ""),
    # Without ext4's protection of programs that rename a file before its content is durable.
    "ext4 careless": ("ext4", 128, "noauto_da_alloc,data=writeback"),
    "xfs": ("xfs", 320, ""),
}
"""By kind: the filesystem, its size in MiB and its mount options."""

HOW = {"lost": 2, "names": 1, "kept": 2}
"""What a power cut leaves: only flushed data; names and sizes too; everything."""

_SHUTDOWN = 0x8004587D
_NEW_NAMESPACE = 0x00020000
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Disk:
    """A mounted filesystem. It is unmounted by `remove`, or when its mount namespace ends."""

    def __init__(self, image: Path, at: Path, kind: str) -> None:
        system, size, self._options = KINDS[kind]
        self._image, self._at = image, at
        with image.open("wb") as file:
            file.truncate(size * MIB)
        _call(f"mkfs.{system}", "-q", str(image))
        at.mkdir(exist_ok=True)
        self._mount()
        if (found := at / "lost+found").exists():
            found.rmdir()
        self.flush()

    def flush(self) -> None:
        """Write everything to the disk."""
        folder = os.open(self._at, os.O_RDONLY)
        try:
            _syncfs(folder)
        finally:
            os.close(folder)

    def cut(self, how: str) -> None:
        """Cut the power, and mount the disk again. No process may have a file open on it."""
        if how == "kept":
            self.flush()
        folder = os.open(self._at, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, _SHUTDOWN, struct.pack("I", HOW[how]))
        finally:
            os.close(folder)
        _call("umount", str(self._at))
        self._mount()

    def remove(self) -> None:
        _call("umount", str(self._at))
        self._at.rmdir()
        self._image.unlink()

    def _mount(self) -> None:
        options = ",".join(filter(None, ("loop", self._options)))
        _call("mount", "-o", options, str(self._image), str(self._at))


def kinds_here(folder: Path) -> list[str]:
    """Return the kinds of disks that this machine can mount; each is tried in `folder`."""
    found = []
    for kind in KINDS:
        with suppress(OSError):
            disk = Disk(folder / "tried.img", folder / "tried", kind)
            try:
                disk.cut("lost")
            finally:
                disk.remove()
            found.append(kind)
    return found


def reboot(identity: Path) -> None:
    """Change the boot id that programs of this mount namespace read; `identity` is the file that holds it."""
    is_first = not identity.exists()
    identity.write_text(f"{uuid.uuid4()}\n")
    if is_first:
        _call("mount", "--bind", str(identity), _BOOT_ID)


def leave_namespace() -> bool:
    """Make this process's mounts private, and end them with it; return whether that is permitted."""
    if _LIBC.unshare(_NEW_NAMESPACE) != 0:
        return False
    _call("mount", "--make-rprivate", "/")
    return True


def _syncfs(descriptor: int) -> None:
    if _LIBC.syncfs(descriptor) != 0:
        raise OSError(ctypes.get_errno(), "syncfs")


def _call(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise OSError(f"{' '.join(words)}: {done.stderr.strip()}")


_LIBC = ctypes.CDLL(None, use_errno=True)
