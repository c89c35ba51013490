"""Disks in memory, behind the system calls of `craftsync.local.linux`.

A disk records what was written since the last flush, so that a power cut can lose
it: all directory changes from some point on, and the content of each file
independently. Each descriptor belongs to a process; `end_process` closes those of
the running one and releases their locks.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat as modes
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

from craftsync.local import linux
from tests.simulator.determinism import replaced

_FIRST_DESCRIPTOR = 1 << 20
"""Far above the real descriptors of this process."""
_EXT4 = 0xEF53
_BLOCKS = 1 << 30


class Inode:
    """A file with `data`, or a folder with `entries`, which are `None` for a file."""

    __slots__ = (
        "ctime",
        "data",
        "disk",
        "entries",
        "linked_at",
        "links",
        "lock",
        "mode",
        "mtime",
        "number",
        "paths",
        "prefix",
    )

    def __init__(self, disk: Disk, mode: int) -> None:
        disk.inodes += 1
        self.disk = disk
        self.number = disk.inodes
        self.mode = mode
        self.data = b""
        self.entries: dict[str, Inode] | None = {} if modes.S_ISDIR(mode) else None
        self.links = 0
        self.lock: Descriptor | None = None
        self.linked_at = 0
        """When craftsync last linked or renamed it, in nanoseconds."""
        self.paths: set[str] = set()
        """The indexed paths of a file."""
        self.prefix: str | None = None
        """The indexed path of a folder, with a slash at the end."""
        self.mtime = self.ctime = disk.now()


class Descriptor:
    """An open file or folder."""

    __slots__ = ("inode", "owner")

    def __init__(self, inode: Inode, owner: str) -> None:
        self.inode = inode
        self.owner = owner


class Status:
    """The part of `os.stat_result` that craftsync reads."""

    __slots__ = (
        *("st_blocks", "st_ctime_ns", "st_dev", "st_gid", "st_ino", "st_mode", "st_mtime_ns"),
        *("st_nlink", "st_size", "st_uid"),
    )

    def __init__(self, inode: Inode) -> None:
        self.st_mode = inode.mode
        self.st_ino = inode.number
        self.st_dev = inode.disk.device
        self.st_nlink = inode.links
        self.st_uid = self.st_gid = 0
        self.st_size = len(inode.data)
        self.st_blocks = 0
        self.st_mtime_ns = inode.mtime
        self.st_ctime_ns = inode.ctime


class Entry:
    """The part of `os.DirEntry` that craftsync uses."""

    __slots__ = ("_inode", "name")

    def __init__(self, name: str, inode: Inode) -> None:
        self.name = name
        self._inode = inode

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return self._inode.entries is not None

    def stat(self, *, follow_symlinks: bool = True) -> Status:
        return Status(self._inode)


class Disk:
    """One filesystem. `clock` returns nanoseconds; times of files are rounded to the kernel's tick of 4 ms.

    `contents` returns the files at paths for which `is_shown` is true.
    """

    def __init__(
        self, device: int, clock: Callable[[], int], is_shown: Callable[[str], bool]
    ) -> None:
        self.device = device
        self.inodes = 0
        self.changes = 0
        """How many operations may have changed a name or a content."""
        self._is_shown = is_shown
        self._shown: dict[str, bytes] | None = None
        """The index behind `contents`, updated with each change; `None` if it must be rebuilt."""
        self._returned: dict[str, bytes] | None = None
        """What `contents` returned last, unless the index has changed since."""
        self._indexed: list[Inode] = []
        """The inodes that have `paths` or a `prefix`."""
        self._clock = clock
        self._unflushed_names: list[list[tuple[Inode, str, Inode | None, Inode | None]]] = []
        """Changes of names since the last flush, in order, grouped into atomic steps.

        Each is a folder, a name, and its inode before and after.
        """
        self._flushed_contents: dict[Inode, bytes] = {}
        """The durable content of each file that was written since its last flush."""
        self.moved: set[int] = set()
        """Inode numbers of files that users moved since the last flush: a power cut may undo the move."""
        self.root = Inode(self, modes.S_IFDIR | 0o755)
        self.root.links = 1

    def now(self) -> int:
        return self._clock() // 4_000_000 * 4_000_000

    def set_entry(self, folder: Inode, name: str, inode: Inode | None) -> None:
        """Let a name refer to an inode, or remove it (`None`)."""
        assert folder.entries is not None
        before = folder.entries.get(name)
        self.changes += 1
        _replace_entry(folder, name, inode)
        self._update_index(folder, name, before, inode)
        folder.mtime = folder.ctime = self.now()
        self._unflushed_names.append([(folder, name, before, inode)])

    def make_atomic(self, count: int) -> None:
        """Make the last `count` changes of names one step: a power cut takes all of them or none."""
        self._unflushed_names[-count:] = [
            [name for names in self._unflushed_names[-count:] for name in names]
        ]

    def write(self, inode: Inode, data: bytes) -> None:
        self.changes += 1
        self._flushed_contents.setdefault(inode, inode.data)
        self.corrupt(inode, data)
        inode.mtime = inode.ctime = self.now()

    def corrupt(self, inode: Inode, data: bytes) -> None:
        """Change a content without any trace: times and the last flush stay as they are."""
        self.changes += 1
        inode.data = data
        for path in inode.paths:
            if self._shown is not None and self._is_shown(path):
                self._shown[path] = data
                self._returned = None

    def contents(self) -> dict[str, bytes]:
        """Return the shown files and their contents; the same dictionary while nothing changes."""
        if self._shown is None:
            self._returned = None
            self._shown = {}
            self._index(self.root, "")
        if self._returned is None:
            self._returned = dict(self._shown)
        return self._returned

    def _index(self, folder: Inode, prefix: str) -> None:
        assert self._shown is not None
        folder.prefix = prefix
        self._indexed.append(folder)
        for name, inode in folder.entries.items():  # type: ignore[union-attr]
            path = prefix + name
            if inode.entries is not None:
                self._index(inode, f"{path}/")
                continue
            inode.paths.add(path)
            self._indexed.append(inode)
            if self._is_shown(path):
                self._shown[path] = inode.data

    def _update_index(
        self, folder: Inode, name: str, before: Inode | None, now: Inode | None
    ) -> None:
        """Update the index after a name's inode changed."""
        if before is not None and before.entries is not None:
            if before.entries or before.links:
                self._drop_index()
            before.prefix = None
        if now is not None and now.entries:
            self._drop_index()
        if self._shown is None or folder.prefix is None:
            return
        path = folder.prefix + name
        if before is not None:
            before.paths.discard(path)
        is_file = now is not None and now.entries is None
        if now is not None:
            self._indexed.append(now)
            now.paths.add(path)
            now.prefix = None if is_file else f"{path}/"
        if self._is_shown(path):
            self._returned = None
            self._shown.pop(path, None)
            if now is not None and is_file:
                self._shown[path] = now.data

    def _drop_index(self) -> None:
        """Forget the index, so that the next `contents` rebuilds it."""
        if self._shown is not None:
            for inode in self._indexed:
                inode.prefix = None
                inode.paths.clear()
            self._indexed.clear()
            self._shown = None

    def flush(self, inode: Inode | None = None) -> None:
        """Make everything durable; with a file, its content; with a folder, every change of a name so far."""
        if inode is not None and inode.entries is None:
            self._flushed_contents.pop(inode, None)
            return
        self._unflushed_names.clear()
        self.moved.clear()
        if inode is None:
            self._flushed_contents.clear()

    def lose_unflushed(self, chance: Random) -> set[bytes]:
        """Lose what a power cut may: the last changes of names, and each unflushed content independently.

        Returns the contents that must have survived: flushed, and still reachable before the cut.
        """
        self.changes += 1
        self._drop_index()
        visible = {inode.data for _, inode in self.files()}
        names = self._unflushed_names
        for step in reversed(names):
            for folder, name, before, _ in reversed(step):
                _replace_entry(folder, name, before)
        flushed = {inode.data for _, inode in self.files() if inode not in self._flushed_contents}
        for step in names[: len(names) - chance.randint(0, len(names))]:
            for folder, name, _, after in step:
                _replace_entry(folder, name, after)
        for inode, old in self._flushed_contents.items():
            whole = inode.data
            inode.data = chance.choice((old, whole, whole[: len(whole) // 2], bytes(len(whole))))
        self.flush()
        return flushed & visible

    def remove(self, folder: Inode, name: str) -> None:
        """Remove a folder and everything in it; nothing can be created through a descriptor of it then."""
        assert folder.entries is not None
        inode = folder.entries[name]
        for inner in list(inode.entries or ()):
            self.remove(inode, inner)
        self.set_entry(folder, name, None)

    def find(self, path: str) -> Inode | None:
        """Return the inode at a path of this disk."""
        found: Inode | None = self.root
        for name in filter(None, path.split("/")):
            found = found.entries.get(name) if found and found.entries is not None else None
        return found

    def files(self, folder: Inode | None = None, prefix: str = "") -> Iterator[tuple[str, Inode]]:
        """Yield path and inode of every file."""
        for name, inode in (folder or self.root).entries.items():  # type: ignore[union-attr]
            if inode.entries is None:
                yield prefix + name, inode
            else:
                yield from self.files(inode, f"{prefix}{name}/")


def _replace_entry(folder: Inode, name: str, inode: Inode | None) -> None:
    assert folder.entries is not None
    before = folder.entries.pop(name, None)
    if before is not None:
        before.links -= 1
    if inode is not None:
        folder.entries[name] = inode
        inode.links += 1


class Kernel:
    """The system calls. `effect` is called before and after each one that changes a disk, with its name."""

    def __init__(self, effect: Callable[[str, bool], None]) -> None:
        self.disks: dict[str, Disk] = {}
        """By mount point."""
        self.boots: Counter[str] = Counter()
        """How often each machine lost power."""
        self.owner = ""
        """The process that runs now."""
        self._effect = effect
        self._open: dict[int, Descriptor] = {}
        self._next = _FIRST_DESCRIPTOR

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Replace the functions of `craftsync.local.linux`."""
        calls = [(linux, name, getattr(self, name)) for name in linux.__all__]
        ours = [module for name, module in sys.modules.items() if name.startswith("craftsync")]
        users = [module for module in ours if hasattr(module, "boot_id")]
        boots = [(module, "boot_id", lambda: str(self.boots[self.owner])) for module in users]
        with replaced(*calls, *boots):
            yield

    def end_process(self) -> None:
        for number, descriptor in list(self._open.items()):
            if descriptor.owner == self.owner:
                self.close(number)

    @property
    def open_descriptors(self) -> int:
        """How many descriptors the running process has open."""
        return sum(descriptor.owner == self.owner for descriptor in self._open.values())

    @contextmanager
    def _effect_around(self, name: str) -> Iterator[None]:
        self._effect(name, False)
        yield
        self._effect(name, True)

    def _new_descriptor(self, inode: Inode) -> int:
        self._next += 1
        self._open[self._next] = Descriptor(inode, self.owner)
        return self._next

    def _inode(self, descriptor: int) -> Inode:
        if descriptor not in self._open:
            raise _error(errno.EBADF)
        return self._open[descriptor].inode

    def _starting_point(self, path: str, dir_fd: int | None) -> tuple[Inode, str]:
        if dir_fd is not None:
            return self._inode(dir_fd), path
        for mounted, disk in self.disks.items():
            if path == mounted or path.startswith(mounted + "/"):
                return disk.root, path[len(mounted) :]
        raise _error(errno.ENOENT)

    def _parent(self, path: str, dir_fd: int | None) -> tuple[Inode, str]:
        """Return the folder of a path, and the last name of the path."""
        at, path = self._starting_point(path, dir_fd)
        *above, last = path.strip("/").split("/")
        for name in above:
            at = _entry(at, name)
        if at.entries is None:
            raise _error(errno.ENOTDIR)
        return at, last

    def _find(self, path: str, dir_fd: int | None) -> Inode:
        parent, name = self._parent(path, dir_fd)
        return parent if name in ("", ".") else _entry(parent, name)

    def open(self, path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            folder = self._find(path, dir_fd)
            if folder.entries is None:
                raise _error(errno.ENOTDIR)
            return self._new_descriptor(Inode(folder.disk, modes.S_IFREG | mode & 0o755))
        parent, name = self._parent(path, dir_fd)
        if flags & os.O_CREAT and name not in parent.entries:  # type: ignore[operator]
            with self._effect_around("create"):
                if not parent.links:
                    raise _error(errno.ENOENT)
                if name not in parent.entries:  # type: ignore[operator]
                    parent.disk.set_entry(
                        parent, name, Inode(parent.disk, modes.S_IFREG | mode & 0o755)
                    )
        found = parent if name in ("", ".") else parent.entries.get(name)  # type: ignore[union-attr]
        if found is None:
            raise _error(errno.ENOENT)
        if flags & os.O_DIRECTORY and found.entries is None:
            raise _error(errno.ENOTDIR)
        if found.entries is not None and flags & os.O_ACCMODE:
            raise _error(errno.EISDIR)
        return self._new_descriptor(found)

    def open_beneath(self, descriptor: int, path: str, flags: int, mode: int = 0) -> int:
        return self.open(path, flags, mode, dir_fd=descriptor)

    def close(self, descriptor: int) -> None:
        closed = self._open.pop(descriptor, None)
        if closed is not None:
            _unlock(closed)

    def stat(self, path: str, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> Status:
        return Status(self._find(path, dir_fd))

    def readlink(self, path: str, *, dir_fd: int | None = None) -> str:
        """Raise `OSError`: this disk has no symlinks."""
        self._find(path, dir_fd)
        raise _error(errno.EINVAL)

    def fstat(self, descriptor: int) -> Status:
        return Status(self._inode(descriptor))

    def pread(self, descriptor: int, length: int, offset: int) -> bytes:
        return self._inode(descriptor).data[offset : offset + length]

    def preadv(self, descriptor: int, buffers: list[Any], offset: int) -> int:
        content = self.pread(descriptor, sum(map(len, buffers)), offset)
        (buffer,) = buffers
        buffer[: len(content)] = content
        return len(content)

    def pwrite(self, descriptor: int, data: Any, offset: int) -> int:
        inode, data = self._inode(descriptor), bytes(data)
        with self._effect_around("pwrite"):
            before = inode.data.ljust(offset, b"\0")
            inode.disk.write(inode, before[:offset] + data + before[offset + len(data) :])
        return len(data)

    def copy_file_range(
        self, source: int, target: int, count: int, source_offset: int, target_offset: int
    ) -> int:
        return self.pwrite(target, self.pread(source, count, source_offset), target_offset)

    def ftruncate(self, descriptor: int, size: int) -> None:
        inode = self._inode(descriptor)
        with self._effect_around("truncate"):
            inode.disk.write(inode, inode.data[:size].ljust(size, b"\0"))

    def fsync(self, descriptor: int) -> None:
        inode = self._inode(descriptor)
        with self._effect_around("fsync"):
            inode.disk.flush(inode)

    def start_writing(self, descriptor: int, offset: int, length: int) -> None:
        """Do nothing: what is not flushed may still be lost."""

    def syncfs(self, descriptor: int) -> None:
        with self._effect_around("syncfs"):
            self._inode(descriptor).disk.flush()

    def fchmod(self, descriptor: int, mode: int) -> None:
        inode = self._inode(descriptor)
        inode.mode = modes.S_IFMT(inode.mode) | mode
        inode.ctime = inode.disk.now()

    def utime(self, descriptor: int, *, ns: tuple[int, int]) -> None:
        inode = self._inode(descriptor)
        inode.mtime, inode.ctime = ns[1], inode.disk.now()

    def chown(self, path: str, uid: int, gid: int) -> None:
        """Do nothing: everything belongs to one user."""

    def mkdir(self, path: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        parent, name = self._parent(path, dir_fd)
        self._must_be_free(parent, name)
        with self._effect_around("mkdir"):
            self._must_be_free(parent, name)
            parent.disk.set_entry(parent, name, Inode(parent.disk, modes.S_IFDIR | 0o755))

    def makedirs(self, path: str, *, exist_ok: bool = False) -> None:
        self._find(path, None)

    def rmdir(self, path: str, *, dir_fd: int | None = None) -> None:
        parent, name = self._parent(path, dir_fd)
        if _entry(parent, name).entries:
            raise _error(errno.ENOTEMPTY)
        with self._effect_around("rmdir"):
            inode = _entry(parent, name)
            if inode.entries is None:
                raise _error(errno.ENOTDIR)
            if inode.entries:
                raise _error(errno.ENOTEMPTY)
            parent.disk.set_entry(parent, name, None)

    def rmtree(self, path: str, *, dir_fd: int | None = None) -> None:
        parent, name = self._parent(path, dir_fd)
        _entry(parent, name)
        with self._effect_around("rmtree"):
            parent.disk.set_entry(parent, name, None)

    def unlink(self, path: str, *, dir_fd: int | None = None) -> None:
        parent, name = self._parent(path, dir_fd)
        if _entry(parent, name).entries is not None:
            raise _error(errno.EISDIR)
        with self._effect_around("unlink"):
            _entry(parent, name)
            parent.disk.set_entry(parent, name, None)

    def link(
        self,
        source: str,
        target: str,
        *,
        src_dir_fd: int | None = None,
        dst_dir_fd: int | None = None,
        follow_symlinks: bool = True,
    ) -> None:
        if source.startswith("/proc/self/fd/"):
            inode = self._inode(int(source.rpartition("/")[2]))
        else:
            inode = self._find(source, src_dir_fd)
        parent, name = self._parent(target, dst_dir_fd)
        with self._effect_around("link"):
            self._must_be_free(parent, name)
            inode.ctime = inode.linked_at = inode.disk.now()
            parent.disk.set_entry(parent, name, inode)

    def rename(
        self,
        source: str,
        target: str,
        *,
        src_dir_fd: int | None = None,
        dst_dir_fd: int | None = None,
    ) -> None:
        self._rename(self._parent(source, src_dir_fd), self._parent(target, dst_dir_fd), 0)

    def renameat2(
        self, source_fd: int, source: str, target_fd: int, target: str, flags: int
    ) -> None:
        self._rename(self._parent(source, source_fd), self._parent(target, target_fd), flags)

    def _rename(self, origin: tuple[Inode, str], goal: tuple[Inode, str], flags: int) -> None:
        with self._effect_around("exchange" if flags & linux.EXCHANGE else "rename"):
            moved = _entry(*origin)
            if flags & linux.NOREPLACE or not goal[0].links:
                self._must_be_free(*goal)
            exchanged = _entry(*goal) if flags & linux.EXCHANGE else None
            moved.ctime = moved.linked_at = moved.disk.now()
            if exchanged is not None:
                exchanged.ctime = moved.ctime
            moved.disk.set_entry(*origin, exchanged)
            moved.disk.set_entry(*goal, moved)
            moved.disk.make_atomic(2)

    def _must_be_free(self, parent: Inode, name: str) -> None:
        if not parent.links:
            raise _error(errno.ENOENT)  # The folder was removed while it was open.
        if name in parent.entries:  # type: ignore[operator]
            raise _error(errno.EEXIST)

    def listdir(self, descriptor: int) -> list[str]:
        return list(self._inode(descriptor).entries or ())

    @contextmanager
    def scandir(self, descriptor: int) -> Iterator[Iterator[Entry]]:
        entries = self._inode(descriptor).entries or {}
        yield iter([Entry(name, inode) for name, inode in entries.items()])

    def fstatvfs(self, descriptor: int) -> Any:
        return os.statvfs_result((4096, 4096, _BLOCKS, _BLOCKS, _BLOCKS, 0, 0, 0, 0, 255, 1))

    def statfs_type(self, descriptor: int) -> int:
        return _EXT4

    def flock(self, descriptor: int, operation: int) -> None:
        opened = self._open[descriptor]
        if opened.inode.lock not in (None, opened):
            assert operation & fcntl.LOCK_NB, "the only thread would wait for itself"
            raise _error(errno.EWOULDBLOCK)
        opened.inode.lock = opened

    def fadvise_dontneed(self, *_: object) -> None:
        """Do nothing: there is no page cache."""

    def is_open_for_writing(self, descriptor: int) -> bool | None:
        return False  # A user's write is a single step.

    def ioctl(self, descriptor: int, request: int, argument: int = 0) -> int:
        raise _error(errno.EOPNOTSUPP)


def _unlock(descriptor: Descriptor) -> None:
    if descriptor.inode.lock is descriptor:
        descriptor.inode.lock = None


def _entry(folder: Inode, name: str) -> Inode:
    if folder.entries is None:
        raise _error(errno.ENOTDIR)
    if name == ".":
        return folder
    if name not in folder.entries:
        raise _error(errno.ENOENT)
    return folder.entries[name]


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
