"""A folder on disk: the linked folder, or what a directory store keeps its objects in.

Every operation on single files goes through here and stays below the folder that
was opened, even if its path now leads elsewhere (`ensure_same` checks). Identity
files and locks are in `.craftsync`; an flock ends with its process, so no lock is
ever stale. Errors are craftsync's own, with the `OSError` as cause.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
from collections.abc import Collection, Iterator
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
from craftsync.local import commit, files, linux, rename, temporary
from craftsync.local.commit import SyncGroup
from craftsync.local.files import OpenFile, inode_of, path_errors, read_block
from craftsync.local.temporary import TEMPORARIES, Temporary, is_nameless, sweep_temporaries
from craftsync.local.tree import Tree, give_owner
from craftsync.net.waiting import blocking_together

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


_UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

_locked_here: set[tuple[int, int]] = set()
"""Device and inode of the folders that this process holds the lock of."""
_locking = threading.Lock()
"""Held while a lock is taken or given back, so that `_locked_here` always says which are held."""


class Folder:
    """A folder held open; close it, or use it in a `with` statement.

    All methods may be called from several threads at once. Nothing is made in
    `.craftsync` before something is to be written.
    """

    def __init__(self, path: str, descriptor: int) -> None:
        """For `open`; takes over the descriptor."""
        self.path = path
        self.reserve = Reserve()
        """What temporaries leave free on its disk."""
        self.tree = Tree(descriptor)
        self.read_only = False
        """Nothing can be written to it, as `lock` found out."""
        self._locks = ExitStack()
        self._group = SyncGroup(lambda: linux.syncfs(self.tree.descriptor))

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open an existing folder; raises `RootError` when there is none, or it cannot be read."""
        name = os.path.abspath(os.fspath(path))
        try:
            return cls(name, linux.open(name, _OPEN))
        except (OSError, ValueError) as error:
            raise _root_error(name, error) from error

    @cached_property
    def stamp_step_ns(self) -> int:
        """How far apart two changes of a file must lie to be told apart by its times, in nanoseconds."""
        return rename.stamp_step_ns(self.tree.descriptor)

    def ensure_same(self) -> None:
        """Raise `RootError` unless the path still leads to the folder that was opened."""
        try:
            there = linux.stat(self.path)
        except OSError as error:
            raise _root_error(self.path, error) from error
        here = linux.fstat(self.tree.descriptor)
        if (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
            raise RootError(
                f"{self.path} is not the folder it was: it was moved, replaced or mounted over.",
                remedy="Put the folder back, or start again.",
            )

    def stat(self, path: str) -> LocalFile | None:
        """Look at the regular file at `path`.

        `None` when nothing regular can be there: it or a folder above it is
        missing, or a file stands in the place of such a folder. Raises
        `PathObstructed` for a folder, `PathRefused` for a special file or a
        symbolic link (there or on the way: what lies behind it is not known),
        and `PathError` when the look itself fails.
        """
        _check(path)
        return files.look(self.tree, path)

    def is_linked(self, path: str) -> bool:
        """Tell whether the file at `path` has other names as well; `False` for anything that cannot be told."""
        try:
            status = self.tree.status(path)
        except OSError:
            return False
        return stat.S_ISREG(status.st_mode) and status.st_nlink > 1

    def open_file(self, path: str) -> OpenFile:
        """Open a regular file; raises `PathBusy` when there is none, `PathError` when it cannot be read."""
        _check(path)
        return OpenFile(self.tree, path)

    def temporary(self, name: str | None = None, *, size: int | None = None) -> Temporary:
        """Make a temporary file for `size` bytes, or open again the unfinished one of that name.

        Raises `PathBusy` when one of that name is open, here or in another
        process, and `NoSpace` when it does not fit, which leaves nothing of it.
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
        """Tell whether an unfinished temporary of that name is there to be opened again."""
        with path_errors(TEMPORARIES):
            return temporary.exists(self.tree, name)

    def sweep_temporaries(self, keep: Collection[str] = ()) -> None:
        """Remove the temporaries nobody has open, but for those named in `keep`."""
        with path_errors(TEMPORARIES):
            sweep_temporaries(self.tree, frozenset(keep).__contains__)

    def sweep_nameless(self) -> None:
        """Remove the temporaries nobody has open that were not asked for by name."""
        with path_errors(TEMPORARIES):
            sweep_temporaries(self.tree, lambda name: not is_nameless(name))

    def place(
        self,
        temporary: Temporary,
        path: str,
        *,
        expect: LocalFile | None,
        mtime_ns: int | None,
        keep: str | None,
        mode: int | None = None,
    ) -> LocalFile:
        """Give a finished temporary its path and return what is there now.

        `expect` is the file it replaces, which goes to the trash under the
        stamp `keep` and hands on its permissions (or, without one, is removed once it has proven to be the
        expected one); `None` means that nothing may be there. Raises `PathBusy`
        when something else is there, which stays, and `PathObstructed` for a
        folder with files in it or a file in the place of a folder. The content
        is to be durable before: see `sync`. `mode` is for a file that replaces
        none; by default that is what the umask leaves.
        """
        _check(path)
        with path_errors(path):
            before = _dress(temporary, mtime_ns, mode)
            commit.place(self.tree, temporary, path, expect=expect, keep=keep)
            after = linux.fstat(temporary.fileno())
        # Were the file edited since, the times it had tell the next scan so.
        mtime_ns = time_within(before.st_mtime_ns)
        ctime_ns = time_within(after.st_ctime_ns)
        return LocalFile(path, before.st_size, mtime_ns, ctime_ns, inode_of(after))

    def displace(self, path: str, expect: LocalFile, keep: str | None) -> None:
        """Move a file to the trash under the stamp `keep`, and remove folders left empty.

        Without `keep` it is removed once it has proven to be the expected one.
        A file that is not there is a success. Raises `PathBusy` when another
        is there, which stays.
        """
        _check(path)
        with path_errors(path):
            commit.displace(self.tree, path, expect=expect, keep=keep)

    def move(self, source: str, target: str, expect: LocalFile) -> LocalFile:
        """Rename a file within the folder and return what is at the target; errors as in `place`."""
        _check(source)
        _check(target)
        with path_errors(target):
            commit.move(self.tree, source, target, expect=expect)
        moved = self.stat(target)
        if moved is None or moved.inode != expect.inode:
            raise PathBusy(f"{target} changed while it was moved.")
        # Were the file edited since, the times it had tell the next scan so.
        return moved._replace(size=expect.size, mtime_ns=expect.mtime_ns)

    def sync(self) -> None:
        """Return once everything written before the call survives a power cut.

        Calls at the same time share one `syncfs`. An error means that what was
        written may be lost and is to be written again.
        """
        with path_errors(self.path):
            blocking_together(self._group.sync)

    def read_mark(self, name: str) -> bytes | None:
        """Return the content of `.craftsync/<name>`, `None` when there is none."""
        with path_errors(f"{OWN_FOLDER}/{name}"):
            return read_mark(self.tree, name)

    def write_mark(self, name: str, content: bytes) -> None:
        """Make `.craftsync/<name>`, durably; raises `PathBusy` when there is one already."""
        with path_errors(f"{OWN_FOLDER}/{name}"):
            write_mark(self.tree, name, content)

    def lock(self, elsewhere: Path) -> None:
        """Hold the lock of the folder until it is closed; raises `LockedError` when another holds it.

        A folder that may not be written to, which is then `read_only`, is
        locked by the file `elsewhere`: it can only be a source.
        """
        with _locking:
            descriptor = self._take_lock(elsewhere)
            _locked_here.add(self._inode())
            self._locks.callback(_give_lock_back, descriptor, self._inode())
        with suppress(OSError):
            # For people only: what excludes others is the lock, and a full disk is met elsewhere.
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

    def identity_without_mark(self) -> str:
        """Return what tells this folder from others where no identity file can be written: filesystem and inode."""
        descriptor = self.tree.descriptor
        return f"fs:{linux.fstatvfs(descriptor).f_fsid:x}:{linux.fstat(descriptor).st_ino:x}"

    def _locked(self) -> LockedError:
        if self._inode() in _locked_here:
            return LockedError(
                f"This craftsync keeps {self.path} in sync with another store already.",
                remedy="Name the root in one folder of the configuration only; to the other store,"
                " run craftsync push once in a while when no daemon runs.",
            )
        return LockedError(
            f"Another craftsync{self._holder()} is at work on {self.path}.",
            remedy="Wait until it has finished. If it is craftsync watch, craftsync rescan makes it"
            " scan now, and craftsync stop ends it.",
        )

    def _holder(self) -> str:
        """Return which process holds the lock, as words for a message, if the file says so."""
        with suppress(OSError):
            pid = (read_mark(self.tree, "lock") or b"").strip()
            if pid.isdigit():
                return f" (process {pid.decode()})"
        return ""

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other users of `exclusive`, in any thread or process, waiting meanwhile."""
        with path_errors(self.path):
            descriptor = take_lock(self.tree, "commit-lock", wait=True)
        try:
            yield
        finally:
            linux.close(descriptor)

    def close(self) -> None:
        """Give the lock back and let go of the folder; may be called twice."""
        self._locks.close()
        if self.tree.descriptor >= 0:
            linux.close(self.tree.descriptor)
            self.tree.descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _give_lock_back(descriptor: int, inode: tuple[int, int]) -> None:
    with _locking:
        linux.close(descriptor)
        _locked_here.discard(inode)


def _check(path: str) -> None:
    if reason := malformed(path):
        raise PathRefused(f"{path!r} cannot be the path of a file: {reason}.")


def _dress(temporary: Temporary, mtime_ns: int | None, mode: int | None) -> os.stat_result:
    """Give the temporary the times and the mode of a new file; return its size and times."""
    descriptor = temporary.fileno()
    if mtime_ns is not None:
        # A time beyond what the kernel can express is no reason to refuse the content.
        try:
            linux.utime(descriptor, ns=(mtime_ns, mtime_ns))
        except OverflowError:
            """It keeps that of now."""
    status = linux.fstat(descriptor)
    mode = _new_file_mode() if mode is None else mode
    if stat.S_IMODE(status.st_mode) != mode:
        linux.fchmod(descriptor, mode)
    return status


@cache
def _new_file_mode() -> int:
    """Return 0666 less the umask, read without setting it: other threads may be making files."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("Umask:"):
            return 0o666 & ~int(line.split()[1], 8)
    return 0o644


def _root_error(path: str, error: Exception) -> RootError:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return RootError(
        f"The folder {path} cannot be used: {reason}.",
        remedy="Check the path, that its disk is mounted, and that you may read it.",
    )
