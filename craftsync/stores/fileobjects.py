"""Files and file objects that a program passes to `DataStore`: uploaded from, downloaded to.

A path is replaced atomically: it holds the whole object, or its previous content.
"""

from __future__ import annotations

import errno
import io
import os
import select
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

from craftsync.core.retention import Reserve
from craftsync.errors import FileMissing, PathBusy, PathDenied, PathError, UsageError
from craftsync.local.files import replacing
from craftsync.local.temporary import SpaceClaim
from craftsync.net.waiting import CHECK_SECONDS, is_ready
from craftsync.stores.base import Reader
from craftsync.stores.sources import FileSource

FileOrPath = str | os.PathLike[str] | BinaryIO

_STANDARD_STREAMS = frozenset({0, 1, 2})
_CHUNK = 1024 * 1024
_NO_FILE = {
    errno.ENOENT: "",
    errno.ENOTDIR: "",
    errno.ELOOP: "",
    errno.EISDIR: "It is a folder: name a file. Whole folders are for craftsync push and pull, or put -r.",
}
"""Errors that mean no file can exist at a path, each with its remedy."""


@contextmanager
def source_of(file: FileOrPath) -> Iterator[FileSource]:
    """Open a path or a binary file object as content to upload. Raises `PathError` or `UsageError`."""
    if isinstance(file, str | os.PathLike):
        path = os.path.expanduser(file)
        try:
            opened = open(path, "rb", opener=_without_waiting)  # noqa: SIM115 (closed below)
        except OSError as error:
            raise _file_error(path, "read", error) from error
        with opened, _on_disk(opened) as content:
            yield FileSource(content.fileno(), path)
    elif hasattr(file, "read"):
        _rewind(file)
        with _on_disk(file) as content:
            yield FileSource(content.fileno(), getattr(file, "name", "the file object"))
    else:
        raise _neither_path_nor_file(file)


def _without_waiting(path: str, flags: int) -> int:
    """Open a file. Opening a named pipe does not wait for a writer; the first read does."""
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    os.set_blocking(descriptor, True)
    return descriptor


@contextmanager
def _on_disk(file: BinaryIO) -> Iterator[BinaryIO]:
    """Yield the file itself if it is a plain file on disk, else a temporary copy of what it reads.

    A file object with a descriptor may still read other bytes than that file holds, as a
    `gzip.GzipFile` does. Standard input is copied from its current position, even if a plain
    file is behind it.
    """
    plain = isinstance(file, io.FileIO | io.BufferedReader | io.BufferedRandom)
    if plain and not _is_standard_stream(file) and stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.flush()
        yield file
        return
    with TemporaryFile() as copy:
        _copy(file, copy)
        copy.flush()
        yield copy


def _copy(file: BinaryIO, copy: BinaryIO) -> None:
    while (chunk := _next_chunk(file)) != b"":
        if not isinstance(chunk, bytes | bytearray | memoryview):
            # A non-blocking stream returns None. Taken for the end, it would truncate the content.
            raise UsageError(
                f"The file object gives {'text' if isinstance(chunk, str) else 'nothing yet'}.",
                remedy="Open it in binary mode, for reading that waits.",
            )
        copy.write(chunk)


def _next_chunk(file: BinaryIO) -> bytes | None:
    """Read the next chunk. Wait for a pipe in short intervals: a signal just before a wait does not end it."""
    if isinstance(file, io.FileIO | io.BufferedReader) and _may_wait(file):
        while not is_ready(file.fileno(), select.POLLIN, CHECK_SECONDS):
            pass
        return file.read1(_CHUNK) if isinstance(file, io.BufferedReader) else file.read(_CHUNK)
    return file.read(_CHUNK)


def _may_wait(file: BinaryIO) -> bool:
    mode = os.fstat(file.fileno()).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)


def _rewind(file: BinaryIO) -> None:
    """Seek to the start of a file object, if it can seek. A standard stream keeps its position."""
    can_seek = file.seekable() if hasattr(file, "seekable") else hasattr(file, "seek")
    if can_seek and not _is_standard_stream(file):
        file.seek(0)


def _is_standard_stream(file: BinaryIO) -> bool:
    try:
        return file.fileno() in _STANDARD_STREAMS
    except (AttributeError, OSError, ValueError):
        return False


def write_to(file: FileOrPath, reader: Reader, reserve: Reserve) -> None:
    """Write a whole object to a path, atomically, or to a binary file object.

    A file object that can seek is left at its start, except a standard stream. Raises
    `PathError`, `UsageError`, and the errors of reading.
    """
    if isinstance(file, str | os.PathLike):
        _save(reader, os.path.expanduser(file), reserve)
    elif hasattr(file, "write"):
        _pour(reader, file)
        if hasattr(file, "seekable"):
            _rewind(file)
    else:
        raise _neither_path_nor_file(file)


def _pour(reader: Reader, target: BinaryIO, claim: SpaceClaim | None = None) -> None:
    """Write the whole object to `target`, and check its digest if the store reports it."""
    digest = sha256()
    for chunk in reader:
        digest.update(chunk)
        _write_all(target, chunk)
        if claim is not None:
            claim.written(len(chunk))
    expected = reader.object.digest
    if expected is not None and digest.digest() != expected:
        raise PathBusy(
            f"{reader.object.path}: what was read is not what had been written.",
            remedy="Try again; if it stays so, the object is damaged in the store.",
        )


def _write_all(target: BinaryIO, chunk: bytes | memoryview) -> None:
    """Write a chunk to a file object. A raw one may accept only a part at a time."""
    rest = chunk
    while rest:
        try:
            taken = target.write(rest)
        except TypeError as error:
            raise UsageError(
                "The file object takes text.", remedy="Open it in binary mode."
            ) from error
        if not isinstance(target, io.RawIOBase):
            return
        if not taken:
            raise PathError("The file object takes no more bytes.")
        rest = rest[taken:]


def _save(reader: Reader, target: str, reserve: Reserve) -> None:
    """Replace `target` by the object atomically, or write into it if it is a device or a pipe."""
    try:
        if target.endswith("/"):
            # The name means a folder: if that is missing, raise instead of creating a file.
            os.stat(target)
        if os.path.exists(target) and not os.path.isfile(target):
            with open(target, "wb") as device:
                _pour(reader, device)
        else:
            _replace(reader, Path(os.path.realpath(target)), reserve)
    except OSError as error:
        raise _file_error(target, "written", error) from error


def _file_error(path: str, verb: str, error: OSError) -> PathError:
    remedy = _NO_FILE.get(error.errno or 0)
    if verb == "written" and error.errno == errno.ENOENT:
        remedy = f"Make the folder first: mkdir -p {shlex.quote(os.path.dirname(path) or '.')}"
    is_denied = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
    other = PathDenied if is_denied else PathError
    kind = other if remedy is None else FileMissing
    return kind(f"{path} cannot be {verb} ({error.strerror}).", remedy=remedy or "")


def _replace(reader: Reader, target: Path, reserve: Reserve) -> None:
    with replacing(target) as file, SpaceClaim(file.fileno(), reader.object.size, reserve) as claim:
        _pour(reader, file, claim)
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _neither_path_nor_file(value: object) -> UsageError:
    return UsageError(
        f"{type(value).__name__} is neither a path nor a binary file object.",
        remedy='Give a path, or a file opened with mode "rb" or "wb".',
    )
