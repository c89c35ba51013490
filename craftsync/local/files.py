"""Single files: stat, read, hash; and the names of one folder in path order.

A file is read through its descriptor, never again by name, so two versions are
never mixed. Paths sort by the bytes of their UTF-8, and a folder sorts with the
slash after its name: `a.txt` comes before `a/b`. A huge folder is sorted on disk.
"""

from __future__ import annotations

import errno
import heapq
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import islice
from operator import itemgetter
from typing import IO, Protocol, Self

from craftsync.core.model import LIMIT, LocalFile, time_within
from craftsync.errors import PathBusy, PathError, PathLeftOut, PathObstructed
from craftsync.local import linux
from craftsync.local.tree import LinkInTheWay, Tree

BLOCK = 1024 * 1024

# O_NONBLOCK: opening a FIFO that was swapped in must not wait for a writer.
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""How a file is opened to be read."""

_PAGE = 4096
_WRITTEN_BACK_NS = 40 * 10**9
"""What is written is on the disk by then: 30 seconds, and 5 between two looks (kernel, vm.dirty_*)."""

_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG})


class path_errors:
    """Turn an `OSError` into a `PathError` about `path`, with the `OSError` as its cause.

    A class, since several are entered for each file and a generator takes three times as long.
    """

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, OSError):
            raise PathError(f"{self._path}: {error.strerror or error}") from error


def local_file(path: str, status: os.stat_result) -> LocalFile:
    """Return what a stat found, its numbers within what the state database can hold."""
    return LocalFile(
        path,
        status.st_size,
        time_within(status.st_mtime_ns),
        time_within(status.st_ctime_ns),
        inode_of(status),
    )


def inode_of(status: os.stat_result) -> int:
    """Return an inode number, as `LocalFile` has it."""
    return status.st_ino % LIMIT


def look(tree: Tree, path: str) -> LocalFile | None:
    """Look at the regular file at `path`.

    `None` when nothing regular can be there: it or a folder above it is
    missing, or a file stands in the place of such a folder. Raises
    `PathObstructed` for a folder, `PathLeftOut` for a symbolic link (there or
    on the way, since what lies behind it is not known) or a special file, and
    `PathError` when the look itself fails.
    """
    try:
        status = tree.status(path)
    except LinkInTheWay as error:
        raise PathLeftOut(f"{path} lies behind the symbolic link {error.filename}.") from error
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise PathError(f"{path}: {error.strerror}") from error
    if stat.S_ISREG(status.st_mode):
        return local_file(path, status)
    if stat.S_ISDIR(status.st_mode):
        raise PathObstructed(f"{path} is a folder.")
    raise PathLeftOut(f"{path} is {kind_of(status.st_mode)}.")


def kind_of(mode: int) -> str:
    """Name what is neither a regular file nor a folder, for people."""
    if stat.S_ISLNK(mode):
        return "a symbolic link"
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


OnRead = Callable[[int], object]


def _ignore(size: int) -> None:
    """Count nothing."""


class OpenFile:
    """A regular file open for reading; close it, or use it in a `with` statement."""

    file: LocalFile
    """What it was when it was opened."""

    def __init__(self, tree: Tree, path: str) -> None:
        """Raises `PathBusy` when there is no regular file at `path`, `PathError` when it cannot be read."""
        self._tree = tree
        self._descriptor = _open_for_reading(tree, path)
        status = linux.fstat(self._descriptor)
        self.file = local_file(path, status)
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise PathBusy(f"{path} is not a regular file any more.")

    def fileno(self) -> int:
        return self._descriptor

    def read_at(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset`; raises `PathBusy` if they are not there any more."""
        with path_errors(self.file.path):
            content = read_block(self._descriptor, offset, length)
        if len(content) < length:
            raise PathBusy(f"{self.file.path} became shorter while it was read.")
        return content

    def digest(self, on_read: OnRead = _ignore) -> bytes:
        """Return the SHA-256 of the content as long as it was at opening; `verify` says whether to believe it.

        `on_read` is told the bytes of each block.
        """
        with path_errors(self.file.path):
            return digest_of(self._descriptor, self.file, on_read)

    def may_be_in_writing(self, now_ns: int) -> bool:
        """Tell whether a write that moved the file's times already may still change its content.

        A write moves them as it begins, and one through a mapping only once for each time that
        its page goes to the disk. Call it before anything is read.
        """
        is_young = abs(now_ns - self.file.mtime_ns) < _WRITTEN_BACK_NS
        if not is_young or self.file.size <= _PAGE:
            return False
        with path_errors(self.file.path):
            return linux.is_open_for_writing(self._descriptor) is True

    def drop_cached(self) -> None:
        """Have the next bytes read from the disk, not from memory, as far as the kernel agrees."""
        with path_errors(self.file.path):
            linux.fadvise_dontneed(self._descriptor)

    def torn(self) -> bool:
        """Tell whether the content may have changed since opening; a rename of the file is no change."""
        with path_errors(self.file.path):
            now = local_file(self.file.path, linux.fstat(self._descriptor))
        return (now.size, now.mtime_ns) != (self.file.size, self.file.mtime_ns)

    def verify(self) -> None:
        """Raise `PathBusy` unless the file is unchanged and its path still leads to it."""
        path = self.file.path
        if look(self._tree, path) == self.file:
            return
        with path_errors(path):
            now = local_file(path, linux.fstat(self._descriptor))
        if now != self.file:
            raise PathBusy(f"{path} changed while it was read.")
        raise PathBusy(f"{path} was replaced while it was read.")

    def close(self) -> None:
        if self._descriptor >= 0:
            linux.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _open_for_reading(tree: Tree, path: str) -> int:
    try:
        return tree.open(path, READ)
    except OSError as error:
        # ELOOP is a symbolic link, ENXIO a socket, or a device without a driver.
        if error.errno in _ABSENT | {errno.ELOOP, errno.ENXIO}:
            raise PathBusy(f"{path} is not a regular file any more.") from error
        raise PathError(f"{path} cannot be opened: {error.strerror}") from error


def read_block(descriptor: int, offset: int, length: int) -> bytes:
    """Read `length` bytes from `offset`, fewer only at the end of the file."""
    content = linux.pread(descriptor, length, offset)
    while len(content) < length:
        more = linux.pread(descriptor, length - len(content), offset + len(content))
        if not more:
            break
        content += more
    return content


def digest_of(descriptor: int, file: LocalFile, on_read: OnRead = _ignore) -> bytes:
    """Return the SHA-256 of as many bytes as `file` has; raises `PathBusy` when there are fewer."""
    digest, block, offset = sha256(), memoryview(bytearray(min(BLOCK, file.size))), 0
    while offset < file.size:
        count = linux.preadv(descriptor, [block[: file.size - offset]], offset)
        if not count:
            raise PathBusy(f"{file.path} became shorter while it was read.")
        digest.update(block[:count])
        on_read(count)
        offset += count
    return digest.digest()


RUN = 50_000
"""How many names are sorted in memory at once; more are merged from a file."""

_CHUNK = 65_536


class Entry(Protocol):
    """What `os.scandir` knows of a name, as far as a scan asks."""

    @property
    def name(self) -> str: ...

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result: ...


def printable(name: str) -> str:
    """Return a name that is not UTF-8 with each offending byte as `\\xNN`, any other as it is."""
    if name.isascii():
        return name
    return os.fsencode(name).decode(errors="backslashreplace")


def in_path_order(
    listing: int, wanted: Callable[[str], bool] | None = None
) -> Iterator[tuple[str, Entry]]:
    """Yield (sort key, entry) for the names in a folder; the key of a folder ends with "/".

    `listing` is the folder's descriptor, which must stay open meanwhile.
    Raises `OSError` before the first entry.
    """
    with linux.scandir(listing) as scanned:
        named = filter(lambda entry: wanted(entry.name), scanned) if wanted else scanned
        entries = list(islice(named, RUN))
        if len(entries) == RUN:
            return _spilled(listing, entries, named)
    return iter(_sorted(entries))


def _sorted(entries: list[os.DirEntry[str]]) -> list[tuple[str, Entry]]:
    by_key: dict[str, Entry] = {}
    for entry in entries:
        name = entry.name
        if entry.is_dir(follow_symlinks=False):
            by_key[printable(name) + "/"] = entry
        elif name.isascii() or (key := printable(name)) == name:
            by_key[name] = entry
        else:
            by_key.setdefault(key, entry)
    return [(key, by_key[key]) for key in sorted(by_key)]


class _Named:
    """An entry read back from a file."""

    def __init__(self, name: str, listing: int) -> None:
        self.name = name
        self._listing = listing

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        return linux.stat(self.name, dir_fd=self._listing, follow_symlinks=follow_symlinks)


def _spilled(
    listing: int, entries: list[os.DirEntry[str]], rest: Iterator[os.DirEntry[str]]
) -> Iterator[tuple[str, Entry]]:
    """Write sorted runs to a file that has no name, and return their merge."""
    spill = tempfile.TemporaryFile()  # noqa: SIM115 (the merge closes it)
    runs = []
    while entries:
        start = spill.tell()
        for key, entry in _sorted(entries):
            spill.write(os.fsencode(entry.name) + (b"/\0" if key.endswith("/") else b"\0"))
        runs.append((start, spill.tell()))
        entries = list(islice(rest, RUN))
    spill.flush()
    return _merged(listing, spill, runs)


def _merged(
    listing: int, spill: IO[bytes], runs: list[tuple[int, int]]
) -> Iterator[tuple[str, Entry]]:
    with spill:
        names = (_read_run(spill.fileno(), start, end) for start, end in runs)
        for key, name in heapq.merge(*names, key=itemgetter(0)):
            yield key, _Named(name, listing)


def _read_run(spill: int, start: int, end: int) -> Iterator[tuple[str, str]]:
    """Yield (sort key, name) of the names stored from `start` to `end`, each ended by a NUL."""
    rest = b""
    while start < end:
        chunk = os.pread(spill, min(_CHUNK, end - start), start)
        start += len(chunk)
        *names, rest = (rest + chunk).split(b"\0")
        for raw in names:
            name = os.fsdecode(raw)
            yield printable(name), name.removesuffix("/")
