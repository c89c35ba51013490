"""Filesystems in images, of which the kernel drops on demand all that has not been written back."""

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
    # Without ext4's care for programs that rename a file before its content is on the disk.
    "ext4 careless": ("ext4", 128, "noauto_da_alloc,data=writeback"),
    "xfs": ("xfs", 320, ""),
}
"""Per kind: the filesystem, its MiB and its mount options."""

HOW = {"lost": 2, "names": 1, "kept": 2}
"""What the cut leaves: only what was flushed; names and sizes besides; all that was written."""

_SHUTDOWN = 0x8004587D
_NEW_NAMESPACE = 0x00020000
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Disk:
    """A mounted filesystem; gone with its mount namespace at the latest."""

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
        """Have all that was written on the disk."""
        folder = os.open(self._at, os.O_RDONLY)
        try:
            _syncfs(folder)
        finally:
            os.close(folder)

    def cut(self, how: str) -> None:
        """Cut the power, and mount what is left. No process may have anything open here."""
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
    """Return the kinds of disks there can be on this machine; `folder` is for trying them."""
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
    """Let the programs of this mount namespace see a kernel that has just been booted; `identity` is a file for it."""
    is_first = not identity.exists()
    identity.write_text(f"{uuid.uuid4()}\n")
    if is_first:
        _call("mount", "--bind", str(identity), _BOOT_ID)


def leave_namespace() -> bool:
    """Have mounts of this process seen by nobody else, and gone at its end; tell whether that may be."""
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
