"""Checks of one folder of this machine: a root, or the folder of a directory store.

What needs files of its own is tried in `.craftsync`, where there is one.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from craftsync.core.model import OWN_FOLDER
from craftsync.doctor import mounts
from craftsync.doctor.findings import Check, Finding, note, ok, warning
from craftsync.errors import RootError
from craftsync.local import linux, rename

_LITTLE_ROOM = 256 << 20
"""Bytes; a download needs room for the new file beside the old one."""


def _folder(folder: Path) -> Iterator[Finding]:
    if not folder.is_dir():
        raise RootError(
            f"{folder} is not there, or is no folder",
            remedy="Is a disk not mounted? A folder that never was is made by `pull`, or by you.",
        )
    if os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield ok("folder", f"{folder} can be read and written")
    else:
        yield warning(
            "folder",
            f"{folder} cannot be read or cannot be written",
            "Change its owner or permissions; what may only be read can still be pushed.",
        )


def _filesystem(folder: Path) -> Iterator[Finding]:
    kind = mounts.kind_of(folder)
    if mounts.is_network(kind):
        yield warning(
            "filesystem",
            f"{kind}, a network filesystem: what other machines change in it is not seen at once",
            "Run craftsync where the disk is, or shorten `rescan`.",
        )
    else:
        yield ok("filesystem", kind)


def _room(folder: Path) -> Iterator[Finding]:
    facts = os.statvfs(folder)
    free = facts.f_bavail * facts.f_frsize
    # Btrfs and others make inodes as they need them, and say that there are none.
    without_inodes = facts.f_files > 0 and facts.f_favail == 0
    if free < _LITTLE_ROOM or without_inodes:
        yield warning("room", f"{free >> 20} MiB are left", "Make room before large files arrive.")
    else:
        yield ok(
            "room", f"{free >> 30} GiB are left" if free >> 30 else f"{free >> 20} MiB are left"
        )


def _unnamed_files(folder: Path) -> Iterator[Finding]:
    try:
        os.close(os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600))
    except OSError as error:
        yield note(
            "unnamed files",
            f"not to be had here ({error.strerror}): temporary files get names in {OWN_FOLDER}/tmp",
        )
    else:
        yield ok("unnamed files", "a crash leaves no half-written file behind (O_TMPFILE)")


def _timestamps(folder: Path) -> Iterator[Finding]:
    with _opened(folder) as descriptor:
        step = rename.stamp_step_ns(descriptor)
    if step >= 1_000_000_000:
        yield note(
            "timestamps",
            f"two changes within {step // 1_000_000_000} s may leave the same time:"
            " files that changed so recently are read again",
        )
    else:
        yield ok("timestamps", f"fine enough to tell changes {step // 1_000_000} ms apart")


def _durability(folder: Path) -> Iterator[Finding]:
    with _opened(folder) as descriptor:
        linux.syncfs(descriptor)
    yield ok("durability", "what was written reaches the disk when it is asked for (syncfs)")


def _names(folder: Path) -> Iterator[Finding]:
    own = folder / OWN_FOLDER
    if own.is_symlink() or not own.is_dir():
        yield note("names", f"not tried: craftsync has not used {folder} yet")
        return
    with TemporaryDirectory(prefix="doctor-", dir=own) as trial:
        yield from _tried_names(Path(trial))


def _tried_names(trial: Path) -> Iterator[Finding]:
    for name in ("a", "\u00e9", "b"):
        (trial / name).write_bytes(b"")
    if (trial / "A").exists() or (trial / unicodedata.normalize("NFD", "\u00e9")).exists():
        yield warning(
            "names",
            "names that differ only in case, or in how an accent is written, are one file here",
            "Keep such names apart in the store, or use a filesystem that tells them apart.",
        )
    else:
        yield ok("names", "upper and lower case, and both ways to write an accent, are told apart")
    with _opened(trial) as descriptor:
        if rename.can_exchange(descriptor, "a", "b"):
            yield ok("swapping", "a file is replaced in one step (renameat2)")
        else:
            yield note(
                "swapping",
                "not in one step here: what another program saves in the instant in which"
                " craftsync replaces the same file can be lost",
                "Use a local Linux filesystem where other programs write at the same time.",
            )


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


DISK_CHECKS: tuple[Check[Path], ...] = (
    *(_filesystem, _room, _unnamed_files, _timestamps, _durability, _names),
)
"""Of any folder that holds files of its user."""

ROOT_CHECKS: tuple[Check[Path], ...] = (_folder, *DISK_CHECKS)


def count_folders(root: Path, *, most: int) -> int:
    """Return how many folders a root has, itself included and craftsync's own left out; stops at `most`."""
    waiting, count = [str(root)], 0
    while waiting and count < most:
        count += 1
        with suppress(OSError), os.scandir(waiting.pop()) as entries:
            waiting += [
                entry.path
                for entry in entries
                if entry.name != OWN_FOLDER and entry.is_dir(follow_symlinks=False)
            ]
    return count
