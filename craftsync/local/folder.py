"""`Folder`: an open folder on disk, either a linked folder or the folder of a directory store.

Operations on files stay below the folder that was opened, even if its path now leads elsewhere
(`ensure_same` checks that). Identity files and locks are in `.craftsync/`; a lock ends with its
process, so none is ever stale. Errors are craftsync's own, with the `OSError` as cause.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
from collections.abc import Collection, Container, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, cached_property
from pathlib import Path
from typing import Self

from craftsync.core.model import OWN_FOLDER, LocalFile, time_within
from craftsync.core.paths import malformed
from craftsync.core.retention import Reserve
from craftsync.errors import (
    LockedError,
    PathBusy,
    PathRefused,
    RootError,
)
from craftsync.local import commit, exclusive_rename, files, linux, temporary
from craftsync.local.commit import SyncGroup
from craftsync.local.files import OpenFile, inode_of, path_errors, read_block
from craftsync.local.links import FollowingTree
from craftsync.local.temporary import TEMPORARIES, Temporary, is_generated_name, sweep_temporaries
from craftsync.local.tree import Tree, give_owner
from craftsync.net.waiting import blocking_together

_LARGEST = 65_536
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LOCK = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def read_own_file(tree: Tree, name: str) -> bytes | None:
    """Return the content of `.craftsync/<name>`, or `None` if it does not exist. Raises `OSError`."""
    try:
        with tree.parent(f"{OWN_FOLDER}/{name}") as (parent, last):
            descriptor = linux.open(last, _READ, dir_fd=parent)
    except FileNotFoundError:
        return None
    try:
        return read_block(descriptor, 0, _LARGEST)
    finally:
        linux.close(descriptor)


def write_own_file(tree: Tree, name: str, content: bytes) -> None:
    """Create `.craftsync/<name>` durably. Raises `PathBusy` if it exists."""
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
                raise PathBusy(f"{path} already exists.") from error
    listing = tree.listing(OWN_FOLDER)
    try:
        linux.fsync(listing)
    finally:
        linux.close(listing)


def take_lock(tree: Tree, name: str, *, wait: bool) -> int:
    """Lock `.craftsync/<name>` and return its descriptor; closing it releases the lock.

    Without `wait`, raises `BlockingIOError` when another descriptor, of this
    process or any other, holds the lock.
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
        # The file was removed before the lock was taken, so the lock would exclude no process.
        linux.close(descriptor)


_UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

_locked_by_us: set[tuple[int, int]] = set()
"""Device and inode of the folders that this process has locked."""
_locking = threading.Lock()
"""Held while a folder's lock is taken or released, so that `_locked_by_us` is always correct."""


class Folder:
    """An open folder; a context manager. Thread-safe. The first write creates `.craftsync/`."""

    def __init__(self, path: str, descriptor: int) -> None:
        """Use `open` instead. Takes ownership of the descriptor."""
        self.path = path
        self.reserve = Reserve()
        """The disk space that temporary files leave free."""
        self.tree = Tree(descriptor)
        self.read_only = False
        """Whether `lock` found that the folder is not writable."""
        self._locks = ExitStack()
        self._group = SyncGroup(lambda: linux.syncfs(self.tree.descriptor))

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open an existing folder. Raises `RootError` if it does not exist or is not readable."""
        name = os.path.abspath(os.fspath(path))
        try:
            return cls(name, linux.open(name, _OPEN))
        except (OSError, ValueError) as error:
            raise _root_error(name, error) from error

    @cached_property
    def timestamp_granularity_ns(self) -> int:
        """Two changes of a file at least this many nanoseconds apart certainly get different timestamps."""
        return exclusive_rename.timestamp_granularity_ns(self.tree.descriptor)

    def ensure_same(self) -> None:
        """Raise `RootError` unless the path still leads to the folder that was opened."""
        try:
            there = linux.stat(self.path)
        except OSError as error:
            raise _root_error(self.path, error) from error
        here = linux.fstat(self.tree.descriptor)
        if (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
            raise RootError(
                f"{self.path} was moved, replaced or mounted over since it was opened.",
                remedy="Put the folder back, or start again.",
            )

    def stat(self, path: str) -> LocalFile | None:
        """Stat the regular file at `path`; `None` if it or a folder above it does not exist.

        Raises `PathObstructed` for a folder, `PathLeftOut` for a special file or a symbolic link
        (at the path or above it), `PathRefused` for a malformed path, and `PathError` if the stat
        fails.
        """
        _check(path)
        return files.stat_file(self.tree, path)

    def follow_links(self, wanted: bool = True) -> None:
        """Follow symbolic links inside the folder from now on. The folder is then read-only for us."""
        if wanted and not self.follows:
            self.tree = FollowingTree(self.tree.descriptor, self.path)

    @property
    def follows(self) -> bool:
        return isinstance(self.tree, FollowingTree)

    def is_linked(self, path: str) -> bool:
        """Return whether the file at `path` has other hard links; False if unknown."""
        try:
            status = self.tree.status(path)
        except OSError:
            return False
        return stat.S_ISREG(status.st_mode) and status.st_nlink > 1

    def open_file(self, path: str) -> OpenFile:
        """Open a regular file. Raises `PathBusy` if it does not exist, `PathError` if it is not readable."""
        _check(path)
        return OpenFile(self.tree, path)

    def temporary(self, name: str | None = None, *, size: int | None = None) -> Temporary:
        """Create a temporary file for `size` bytes, or reopen the unfinished one called `name`.

        Raises `PathBusy` if `name` is open, in this or another process. Raises `NoSpace` if `size`
        does not fit; then the file is removed.
        """
        if name is not None:
            _check(name)
        made = Temporary(self.tree, name, self.reserve)
        try:
            if size is not None:
                made.claim(size)
        except BaseException:
            made.discard()
            raise
        return made

    def has_temporary(self, name: str) -> bool:
        """Return whether an unfinished temporary file called `name` exists."""
        with path_errors(TEMPORARIES):
            return temporary.exists(self.tree, name)

    def sweep_temporaries(self, keep: Collection[str] = ()) -> None:
        """Remove the temporary files that no process has open, except those named in `keep`."""
        with path_errors(TEMPORARIES):
            sweep_temporaries(self.tree, frozenset(keep).__contains__)

    def sweep_generated(self) -> None:
        """Remove the temporary files with generated names that no process has open."""
        with path_errors(TEMPORARIES):
            sweep_temporaries(self.tree, lambda name: not is_generated_name(name))

    def place(
        self,
        temporary: Temporary,
        path: str,
        *,
        expect: LocalFile | None,
        mtime_ns: int | None,
        trash_stamp: str | None,
        mode: int | None = None,
    ) -> LocalFile:
        """Put a finished temporary file at `path` and return the new file. Call `sync` first.

        It replaces `expect` and takes over its permissions; if that is `None`, `path` must not
        exist. The replaced file goes to the trash under `trash_stamp`, or is removed if that is
        `None`. `mode` is for a new file, by default 0666 less the umask. Raises `PathBusy` if
        another file is at the path, which stays. Raises `PathObstructed` if the path is a folder
        with files, or lies below a file.
        """
        _check(path)
        with path_errors(path):
            self._refuse_writing(path)
            before = _set_times_and_mode(temporary, mtime_ns, mode)
            commit.place(self.tree, temporary, path, expect=expect, trash_stamp=trash_stamp)
            after = linux.fstat(temporary.fileno())
        # If the file was edited since, return the earlier times: the next scan then notices the edit.
        mtime_ns = time_within(before.st_mtime_ns)
        ctime_ns = time_within(after.st_ctime_ns)
        return LocalFile(path, before.st_size, mtime_ns, ctime_ns, inode_of(after))

    def check_place(self, path: str, leaving: Container[str] = ()) -> None:
        """Raise `PathObstructed` if `place` would raise it once the files at `leaving` are gone."""
        _check(path)
        with path_errors(path):
            commit.check_place(self.tree, path, leaving)

    def displace(self, path: str, expect: LocalFile, trash_stamp: str | None) -> None:
        """Move a file to the trash under `trash_stamp`, if it exists, and remove folders left empty.

        Without `trash_stamp` the file is removed. Raises `PathBusy` if it is not `expect`; then it
        stays.
        """
        _check(path)
        with path_errors(path):
            self._refuse_writing(path)
            commit.displace(self.tree, path, expect=expect, trash_stamp=trash_stamp)

    def move(self, source: str, target: str, expect: LocalFile) -> LocalFile:
        """Rename a file within the folder and return its new stat. Errors as in `place`."""
        _check(source)
        _check(target)
        with path_errors(target):
            self._refuse_writing(target)
            commit.move(self.tree, source, target, expect=expect)
        moved = self.stat(target)
        if moved is None or moved.inode != expect.inode:
            raise PathBusy(f"{target} changed while it was moved.")
        # If the file was edited since, return the earlier mtime: the next scan then notices the edit.
        return moved._replace(size=expect.size, mtime_ns=expect.mtime_ns)

    def _refuse_writing(self, path: str) -> None:
        """Raise `OSError` if links are followed: they must not be replaced, or be written through."""
        if self.follows:
            raise OSError(errno.EROFS, "nothing is written where links are followed", path)

    def sync(self) -> None:
        """Flush everything that was written before this call.

        Concurrent calls share one `syncfs`. After an error the content may be lost and must be
        written again.
        """
        with path_errors(self.path):
            blocking_together(self._group.sync)

    def read_own_file(self, name: str) -> bytes | None:
        """Return the content of `.craftsync/<name>`, or `None` if it does not exist."""
        with path_errors(f"{OWN_FOLDER}/{name}"):
            return read_own_file(self.tree, name)

    def write_own_file(self, name: str, content: bytes) -> None:
        """Create `.craftsync/<name>` durably. Raises `PathBusy` if it exists."""
        with path_errors(f"{OWN_FOLDER}/{name}"):
            write_own_file(self.tree, name, content)

    def lock(self, elsewhere: Path) -> None:
        """Lock the folder until it is closed. Raises `LockedError` if it is already locked.

        If it is not writable, set `read_only` and lock the file `elsewhere` instead.
        """
        with _locking:
            descriptor = self._take_lock(elsewhere)
            _locked_by_us.add(self._inode())
            self._locks.callback(_release_lock, descriptor, self._inode())
        with suppress(OSError):
            # The process id is only for messages, so a full disk does not matter.
            linux.ftruncate(descriptor, 0)
            linux.pwrite(descriptor, b"%d\n" % os.getpid(), 0)

    def _take_lock(self, elsewhere: Path) -> int:
        try:
            return take_lock(self.tree, "lock", wait=False)
        except BlockingIOError as error:
            raise self._locked() from error
        except OSError as error:
            if error.errno not in _UNWRITABLE:
                raise _root_error(self.path, error) from error
            self.read_only = True
            return self._locked_elsewhere(elsewhere)

    def _inode(self) -> tuple[int, int]:
        status = linux.fstat(self.tree.descriptor)
        return status.st_dev, status.st_ino

    def _locked_elsewhere(self, file: Path) -> int:
        try:
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = linux.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _root_error(str(file), error) from error
        try:
            linux.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            linux.close(descriptor)
            raise self._locked() from error
        return descriptor

    def filesystem_identity(self) -> str:
        """Return filesystem id and inode: the folder's identity if no identity file can be written."""
        descriptor = self.tree.descriptor
        return f"fs:{linux.fstatvfs(descriptor).f_fsid:x}:{linux.fstat(descriptor).st_ino:x}"

    def _locked(self) -> LockedError:
        if self._inode() in _locked_by_us:
            return LockedError(
                f"This craftsync already keeps {self.path} in sync with another store.",
                remedy="Configure the folder with one store only; to copy it to another store too,"
                " run craftsync push while no daemon runs.",
            )
        return LockedError(
            f"Another craftsync{self._holder()} is at work on {self.path}.",
            remedy="Wait until it has finished. If it is craftsync watch, craftsync rescan makes it"
            " scan now, and craftsync stop ends it.",
        )

    def _holder(self) -> str:
        """Return the process that holds the lock, as text for a message; empty if unknown."""
        with suppress(OSError):
            pid = (read_own_file(self.tree, "lock") or b"").strip()
            if pid.isdigit():
                return f" (process {pid.decode()})"
        return ""

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold a lock that only one thread of one process holds at a time."""
        with path_errors(self.path):
            descriptor = take_lock(self.tree, "commit-lock", wait=True)
        try:
            yield
        finally:
            linux.close(descriptor)

    def close(self) -> None:
        """Release the lock and close the folder. May be called twice."""
        self._locks.close()
        if self.tree.descriptor >= 0:
            linux.close(self.tree.descriptor)
            self.tree.descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _release_lock(descriptor: int, inode: tuple[int, int]) -> None:
    with _locking:
        linux.close(descriptor)
        _locked_by_us.discard(inode)


def _check(path: str) -> None:
    if reason := malformed(path):
        raise PathRefused(f"{path!r} cannot be the path of a file: {reason}.")


def _set_times_and_mode(
    temporary: Temporary, mtime_ns: int | None, mode: int | None
) -> os.stat_result:
    """Set the mtime and mode of a temporary file; return its stat."""
    descriptor = temporary.fileno()
    if mtime_ns is not None:
        # A time that the kernel cannot express is no reason to lose the content.
        try:
            linux.utime(descriptor, ns=(mtime_ns, mtime_ns))
        except OverflowError:
            """The file keeps the current time."""
    status = linux.fstat(descriptor)
    mode = _new_file_mode() if mode is None else mode
    if stat.S_IMODE(status.st_mode) != mode:
        linux.fchmod(descriptor, mode)
    return status


@cache
def _new_file_mode() -> int:
    """Return 0666 less the umask, read from /proc: os.umask would change it for other threads."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("Umask:"):
            return 0o666 & ~int(line.split()[1], 8)
    return 0o644


def _root_error(path: str, error: Exception) -> RootError:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    remedy = "Check the path, that its disk is mounted, and that you may read it."
    if isinstance(error, NotADirectoryError):
        remedy = "Name a folder. A single file is copied by craftsync put or get."
    return RootError(f"The folder {path} cannot be used: {reason}.", remedy=remedy)
