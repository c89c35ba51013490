"""Single files: stat, read, hash, replace. Also the names in one folder in path order.

A file is read through its descriptor, never again by name, so two versions are never mixed. Paths
sort by the bytes of their UTF-8, and a folder sorts as if a slash followed its name: `a.txt` comes
before `a/b`. A huge folder is sorted on disk.
"""

from __future__ import annotations

import errno
import heapq
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from io import TextIOWrapper
from itertools import islice
from operator import itemgetter
from pathlib import Path
from secrets import token_hex
from typing import IO, BinaryIO, Protocol, Self, TextIO

from craftsync.core.model import LIMIT, LocalFile, time_within
from craftsync.errors import PathBusy, PathError, PathLeftOut, PathObstructed
from craftsync.local import linux
from craftsync.local.tree import LinkInTheWay, Tree

BLOCK = 256 * 1024
"""Bytes per read into new memory. With 1 MiB, the allocator would map and the kernel clear each
block (`limits.give_back_large_blocks`): 130,000 page faults for 512 MiB."""
_REUSED_BLOCK = 256 * 1024
"""Bytes per read into reused memory. Each read releases the interpreter's lock: with 1 MiB, hashing
512 MiB beside the threads that receive them takes 0.35 processor seconds more."""

# O_NONBLOCK: opening a FIFO that was swapped in must not wait for a writer.
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Flags for opening a file for reading."""

_PAGE = 4096
_WRITTEN_BACK_NS = 40 * 10**9
"""The kernel writes dirty pages to disk after 30 seconds, and checks every 5 (vm.dirty_*)."""

_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG})


class path_errors:
    """Turn an `OSError` into a `PathError` about `path`, with the `OSError` as its cause.

    A class, because each file enters several and a generator takes three times as long.
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
    """Convert a stat result, with its numbers limited to those that the state database can hold."""
    mtime_ns, ctime_ns, inode = status.st_mtime_ns, status.st_ctime_ns, status.st_ino
    if not (-LIMIT <= mtime_ns < LIMIT and -LIMIT <= ctime_ns < LIMIT and inode < LIMIT):
        mtime_ns, ctime_ns, inode = time_within(mtime_ns), time_within(ctime_ns), inode % LIMIT
    return LocalFile(path, status.st_size, mtime_ns, ctime_ns, inode)


def inode_of(status: os.stat_result) -> int:
    """Return the inode number as in `LocalFile`."""
    return status.st_ino % LIMIT


def stat_file(tree: Tree, path: str) -> LocalFile | None:
    """Stat the regular file at `path`; `None` if it or a folder above it does not exist.

    Raises `PathObstructed` for a folder, `PathLeftOut` for a special file or a symbolic link (at
    the path or above it), and `PathError` if the stat fails.
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
    """Return, as words, the type of anything but a regular file or a folder."""
    if stat.S_ISLNK(mode):
        return "a symbolic link"
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


OnRead = Callable[[int], object]


def _ignore(size: int) -> None:
    """Do nothing."""


class OpenFile:
    """A regular file open for reading; a context manager."""

    file: LocalFile
    """Its stat when it was opened."""

    def __init__(self, tree: Tree, path: str) -> None:
        """Raises `PathBusy` if `path` is not a regular file (any more), `PathError` if it is not readable."""
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
        """Return exactly `length` bytes from `offset`. Raises `PathBusy` if the file has become shorter."""
        with path_errors(self.file.path):
            content = read_block(self._descriptor, offset, length)
        if len(content) < length:
            raise PathBusy(f"{self.file.path} became shorter while it was read.")
        return content

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill a buffer with the bytes from `offset`. Raises `PathBusy` if the file has become shorter."""
        with path_errors(self.file.path):
            while buffer:
                count = linux.preadv(self._descriptor, [buffer], offset)
                if not count:
                    raise PathBusy(f"{self.file.path} became shorter while it was read.")
                buffer, offset = buffer[count:], offset + count

    def digest(self, on_read: OnRead = _ignore) -> bytes:
        """Return the SHA-256 of as many bytes as the file had when opened. Check with `verify` afterwards.

        `on_read` is called with the size of each block in bytes.
        """
        with path_errors(self.file.path):
            return digest_of(self._descriptor, self.file, on_read)

    def may_still_be_written(self, now_ns: int) -> bool:
        """Return whether a program may still change the content without changing mtime. Call before reading.

        A write sets mtime when it begins; writes through a memory mapping set it once until the
        page is written to disk.
        """
        is_young = abs(now_ns - self.file.mtime_ns) < _WRITTEN_BACK_NS
        if not is_young or self.file.size <= _PAGE:
            return False
        with path_errors(self.file.path):
            return linux.is_open_for_writing(self._descriptor) is True

    def drop_cached(self) -> None:
        """Ask the kernel to read the next bytes from disk instead of the page cache."""
        with path_errors(self.file.path):
            linux.fadvise_dontneed(self._descriptor)

    def has_changed(self) -> bool:
        """Return whether size or mtime changed since opening. A rename does not count."""
        with path_errors(self.file.path):
            now = local_file(self.file.path, linux.fstat(self._descriptor))
        return (now.size, now.mtime_ns) != (self.file.size, self.file.mtime_ns)

    def verify(self) -> None:
        """Raise `PathBusy` unless the file is unchanged and still at its path."""
        path = self.file.path
        if stat_file(self._tree, path) == self.file:
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
        # ELOOP means a symbolic link; ENXIO a socket, or a device without a driver.
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
    """Return the SHA-256 of as many bytes as `file` has. Raises `PathBusy` if there are fewer."""
    digest, read = sha256(), 0
    for block in blocks_of(descriptor, 0, file.size):
        digest.update(block)
        on_read(len(block))
        read += len(block)
    if read < file.size:
        raise PathBusy(f"{file.path} became shorter while it was read.")
    return digest.digest()


def blocks_of(descriptor: int, start: int, end: int) -> Iterator[memoryview]:
    """Yield the bytes of a file from `start` to `end`, or to its end. Each block is valid until the next."""
    block = memoryview(bytearray(min(_REUSED_BLOCK, end - start)))
    while start < end and (count := linux.preadv(descriptor, [block[: end - start]], start)):
        yield block[:count]
        start += count


RUN = 50_000
"""Names sorted in memory at once. More are merged from a temporary file."""

_CHUNK = 65_536


class Entry(Protocol):
    """The part of `os.DirEntry` that a scan uses."""

    @property
    def name(self) -> str: ...

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result: ...


def printable(name: str) -> str:
    """Return a name with each byte that is not UTF-8 written as `\\xNN`."""
    if name.isascii():
        return name
    return os.fsencode(name).decode(errors="backslashreplace")


def in_path_order(
    listing: int,
    wanted: Callable[[str], bool] | None = None,
    leads_to_folder: Callable[[str], bool] | None = None,
) -> Iterator[tuple[str, Entry]]:
    """Yield (sort key, entry) for the names in a folder. The key of a folder ends with "/".

    So does the key of a symbolic link for which `leads_to_folder` returns True. `listing` is the
    folder's descriptor, which must stay open until the end. Raises `OSError` before the first
    entry.
    """
    with linux.scandir(listing) as scanned:
        named = filter(lambda entry: wanted(entry.name), scanned) if wanted else scanned
        entries = list(islice(named, RUN))
        if len(entries) == RUN:
            return _spilled(listing, entries, named, leads_to_folder)
    return iter(_sorted(entries, leads_to_folder))


def _sorted(
    entries: list[os.DirEntry[str]], leads_to_folder: Callable[[str], bool] | None
) -> list[tuple[str, Entry]]:
    by_key: dict[str, Entry] = {}
    for entry in entries:
        name = entry.name
        if entry.is_dir(follow_symlinks=False) or (
            leads_to_folder is not None and entry.is_symlink() and leads_to_folder(name)
        ):
            by_key[printable(name) + "/"] = entry
        elif name.isascii() or (key := printable(name)) == name:
            by_key[name] = entry
        else:
            by_key.setdefault(key, entry)
    return [(key, by_key[key]) for key in sorted(by_key)]


class _Named:
    """An entry read back from the temporary file."""

    def __init__(self, name: str, listing: int) -> None:
        self.name = name
        self._listing = listing

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        return linux.stat(self.name, dir_fd=self._listing, follow_symlinks=follow_symlinks)


def _spilled(
    listing: int,
    entries: list[os.DirEntry[str]],
    rest: Iterator[os.DirEntry[str]],
    leads_to_folder: Callable[[str], bool] | None,
) -> Iterator[tuple[str, Entry]]:
    """Write sorted runs to a temporary file, and return their merge."""
    spill = tempfile.TemporaryFile()  # noqa: SIM115 (the merge closes it)
    runs = []
    while entries:
        start = spill.tell()
        for key, entry in _sorted(entries, leads_to_folder):
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
    """Yield (sort key, name) for the NUL-terminated names stored from `start` to `end`."""
    rest = b""
    while start < end:
        chunk = os.pread(spill, min(_CHUNK, end - start), start)
        start += len(chunk)
        *names, rest = (rest + chunk).split(b"\0")
        for raw in names:
            name = os.fsdecode(raw)
            yield printable(name), name.removesuffix("/")


@contextmanager
def replacing(place: Path, mode: int | None = None, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a file that replaces `place` at the end of the block. If that raises, `place` is unchanged.

    The permission bits are `mode`, else those of the replaced file. If `durable`, the content is
    flushed before it is visible. Raises `OSError`.
    """
    part = place.with_name(f".{token_hex(8)}.craftsync-part")
    try:
        with part.open("xb") as file:
            if mode is None and place.exists():
                mode = stat.S_IMODE(place.stat().st_mode)
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(part, place)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def written(file: Path, mode: int | None = None) -> Iterator[TextIO]:
    """Open a text file that a command writes for the user; it is replaced as by `replacing`.

    Links are followed. A device or a pipe is written to, never replaced. Raises `OSError`.
    """
    if file.exists() and not file.is_file():
        with file.open("w", encoding="utf-8", errors="backslashreplace") as stream:
            yield stream
        return
    with replacing(Path(os.path.realpath(file)), mode) as binary:
        stream = TextIOWrapper(binary, encoding="utf-8", errors="backslashreplace")
        try:
            yield stream
        except BaseException:
            with suppress(OSError):
                stream.detach()
            raise
        stream.detach()
