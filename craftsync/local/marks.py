"""Small files in `.craftsync` that say who a folder is, and the locks on it.

An flock is gone with the process that held it, so no lock is ever stale.
"""

from __future__ import annotations

import fcntl
import os

from craftsync.core.model import OWN_FOLDER
from craftsync.errors import PathBusy
from craftsync.local import linux
from craftsync.local.files import read_block
from craftsync.local.temporary import Temporary
from craftsync.local.tree import Tree, give_owner

_LARGEST = 65_536
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LOCK = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def read_mark(tree: Tree, name: str) -> bytes | None:
    """Return the content of a mark, `None` when there is none; raises `OSError`."""
    try:
        with tree.parent(f"{OWN_FOLDER}/{name}") as (parent, last):
            descriptor = linux.open(last, _READ, dir_fd=parent)
    except FileNotFoundError:
        return None
    try:
        return read_block(descriptor, 0, _LARGEST)
    finally:
        linux.close(descriptor)


def write_mark(tree: Tree, name: str, content: bytes) -> None:
    """Make a mark that survives a power cut; raises `PathBusy` when there is one already."""
    path = f"{OWN_FOLDER}/{name}"
    with Temporary(tree, None) as temporary:
        temporary.write_at(0, content)
        linux.fchmod(temporary.fileno(), 0o644)
        linux.fsync(temporary.fileno())
        with tree.parent(path, make=True) as target:
            give_owner(temporary.fileno(), linux.fstat(target[0]))
            try:
                temporary.give_name(*target)
            except FileExistsError as error:
                raise PathBusy(f"{path} is there already.") from error
    listing = tree.listing(OWN_FOLDER)
    try:
        linux.fsync(listing)
    finally:
        linux.close(listing)


def take_lock(tree: Tree, name: str, *, wait: bool) -> int:
    """Return the descriptor that holds the lock; closing it gives the lock back.

    Without `wait`, raises `BlockingIOError` when another descriptor, of this
    process or any other, holds it.
    """
    path = f"{OWN_FOLDER}/{name}"
    while True:
        with tree.parent(path, make=True) as (parent, last):
            descriptor = linux.open(last, _LOCK, 0o666, dir_fd=parent)
            give_owner(descriptor, linux.fstat(parent))
        try:
            linux.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if linux.fstat(descriptor).st_nlink:
                return descriptor
        except BaseException:
            linux.close(descriptor)
            raise
        # Somebody removed the file meanwhile: this lock would exclude nobody.
        linux.close(descriptor)
