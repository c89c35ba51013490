"""A plain folder as a store: the default, a backup disk, a network share.

An object is the file at its path; its version is made of everything the file
system says about the file. Several processes may use the folder at once: what
depends on a look is done under a lock in `.craftsync`. (Of the stores, the
only one that may know `craftsync.local`.)
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from craftsync.core.model import ABSENT, OWN_FOLDER, LocalFile, RemoteObject, Skipped
from craftsync.core.paths import is_own, malformed
from craftsync.errors import (
    CraftsyncError,
    ListingBroken,
    ObjectNotFound,
    PathBusy,
    PathError,
    PathObstructed,
    PathRefused,
    PreconditionFailed,
    RootError,
    StoreDenied,
    StoreFull,
    StoreMissing,
    StoreUnavailable,
)
from craftsync.local.files import BLOCK, OpenFile, Temporary
from craftsync.local.folder import Folder
from craftsync.local.scan import scan
from craftsync.stores.base import Expect, Features, Source, UploadJournal

_INTERNAL = frozenset({f"{OWN_FOLDER}/tmp", f"{OWN_FOLDER}/lock", f"{OWN_FOLDER}/commit-lock"})

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_NO_KERNEL_COPY = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP})

_ATTEMPTS = 16
"""How often a write that may replace anything looks again when others keep writing."""


class DirectoryStore:
    """The `Store` contract over a folder."""

    features = Features(
        conditional_create=True,
        conditional_replace=True,
        conditional_delete=True,
        server_side_copy=True,
        folders=True,
    )

    def __init__(self, path: str | os.PathLike[str], *, name: str | None = None) -> None:
        """Open an existing folder; raises `StoreMissing`. Nothing is made before something is written."""
        try:
            self._folder = Folder.open(path)
        except RootError as error:
            raise _whole_store_error(error) from error
        self.location = self._folder.path
        self.name = name or Path(self.location).name or "directory"

    @classmethod
    def create(cls, path: str | os.PathLike[str], *, name: str | None = None) -> Self:
        """Open a folder, making it first if it is not there."""
        try:
            Path(path).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _error_of(error, f"The folder {path} cannot be made") from error
        return cls(path, name=name)

    def prepare(self, saved: str | None) -> str | None:
        return None

    def list(
        self, prefix: str = "", *, boundaries: Sequence[str] = ()
    ) -> Iterator[RemoteObject | Skipped]:
        under, _, starting = prefix.rpartition("/")
        if prefix.startswith("/") or (under and malformed(under)):
            return
        try:
            for entry in scan(self._folder, None, under, starting=starting):
                if _is_internal(entry.path):
                    continue
                if isinstance(entry, Skipped):
                    yield entry
                else:
                    yield RemoteObject(entry.path, entry.size, entry.mtime_ns, _version(entry))
        except RootError as error:
            raise _listing_error(error) from error

    def stat(self, path: str) -> RemoteObject | None:
        file = self._look(path)
        return None if file is None else _described(file)

    @contextmanager
    def read(
        self,
        path: str,
        *,
        expect: RemoteObject | None = None,
        offset: int = 0,
        length: int | None = None,
    ) -> Iterator[_DirectoryReader]:
        if self._look(path) is None:
            raise ObjectNotFound(f"{self.name} has no object {path}.")
        with _translated(self.name):
            try:
                opened = self._folder.open_file(path)
            except PathBusy as error:
                raise ObjectNotFound(f"{self.name} has no object {path} any more.") from error
        with opened:
            if expect is not None and _version(opened.file) != expect.version:
                raise _changed(path)
            end = opened.file.size if length is None else min(offset + length, opened.file.size)
            yield _DirectoryReader(self.name, opened, offset, end)

    def write(
        self,
        path: str,
        source: Source,
        *,
        expect: Expect,
        operation: str,
        keep: str | None = None,
        journal: UploadJournal | None = None,
    ) -> RemoteObject:
        self._check(path, expect)
        with _translated(self.name), self._folder.temporary() as temporary:
            for offset in range(0, source.size, BLOCK):
                block = source.read_at(offset, min(BLOCK, source.size - offset))
                temporary.write_at(offset, block)
            source.verify()
            return self._commit(temporary, path, expect, source.mtime_ns, keep)

    def delete(self, path: str, *, expect: Expect, keep: str | None = None) -> None:
        if self._look(path) is None:
            return
        with _translated(self.name), self._folder.exclusive():
            current = self._expected(path, expect)
            if current is not None:
                with _preconditions(path):
                    self._folder.displace(path, current, keep)

    def copy(
        self, source: RemoteObject, target: str, *, expect: Expect, operation: str
    ) -> RemoteObject:
        self._check(target, expect)
        with (
            self.read(source.path, expect=source) as reader,
            _translated(self.name),
            self._folder.temporary() as temporary,
        ):
            _copy_content(reader.opened, temporary)
            if reader.opened.torn():
                raise _changed(source.path)
            return self._commit(temporary, target, expect, reader.opened.file.mtime_ns, None)

    def barrier(self) -> None:
        with _translated(self.name):
            self._folder.sync()

    def close(self) -> None:
        self._folder.close()

    def _look(self, path: str) -> LocalFile | None:
        """Look at a path; when nothing is there, make sure that it is missing from the right folder."""
        if malformed(path) or _is_internal(path):
            return None
        with _translated(self.name):
            try:
                file = self._folder.stat(path)
            except PathObstructed:
                file = None
            if file is None:
                self._folder.ensure_same()
        return file

    def _check(self, path: str, expect: Expect) -> None:
        """Refuse what cannot be written before a byte is read."""
        reason = malformed(path)
        if reason is None and _is_internal(path):
            reason = "it is for the store's own use"
        if reason is not None:
            raise PathRefused(f"{self.name} cannot hold {path!r}: {reason}.")
        if expect is not None:
            self._expected(path, expect)

    def _expected(self, path: str, expect: Expect) -> LocalFile | None:
        """Return what is at the path now; raises `PreconditionFailed` if it is not what was expected."""
        current = self._look(path)
        if expect is ABSENT and current is not None:
            raise PreconditionFailed(f"{self.name} has an object {path} already.")
        if isinstance(expect, RemoteObject) and (
            current is None or _version(current) != expect.version
        ):
            raise _changed(path)
        return current

    def _commit(
        self,
        temporary: Temporary,
        path: str,
        expect: Expect,
        mtime_ns: int | None,
        keep: str | None,
    ) -> RemoteObject:
        """Make what was written durable, and then visible."""
        self._folder.sync()
        for attempt in range(_ATTEMPTS):
            with self._folder.exclusive():
                current = self._expected(path, expect)
                try:
                    file = self._folder.place(
                        temporary, path, expect=current, mtime_ns=mtime_ns, keep=keep
                    )
                except PathBusy as error:
                    # A program that knows nothing of the lock was faster.
                    if expect is not None or attempt == _ATTEMPTS - 1:
                        raise _changed(path) from error
                    continue
                return _described(file)
        raise _changed(path)


class _DirectoryReader:
    """The `Reader` of an open file."""

    def __init__(self, store: str, opened: OpenFile, offset: int, end: int) -> None:
        self.object = _described(opened.file)
        self.opened = opened
        self._store = store
        self._offset = offset
        self._end = end

    def __iter__(self) -> Iterator[bytes]:
        with _translated(self._store):
            for offset in range(self._offset, self._end, BLOCK):
                try:
                    yield self.opened.read_at(offset, min(BLOCK, self._end - offset))
                except PathBusy as error:
                    raise self._torn() from error
            if self.opened.torn():
                raise self._torn()

    def _torn(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"{self._store}: {self.object.path} changed while it was read.", ambiguous=False
        )


def _is_internal(path: str) -> bool:
    return is_own(path) and (path == OWN_FOLDER or "/".join(path.split("/", 2)[:2]) in _INTERNAL)


def _version(file: LocalFile) -> str:
    return f"{file.size:x}-{file.mtime_ns:x}-{file.ctime_ns:x}-{file.inode:x}"


def _described(file: LocalFile) -> RemoteObject:
    return RemoteObject(file.path, file.size, file.mtime_ns, _version(file), mtime_ns=file.mtime_ns)


def _copy_content(source: OpenFile, target: Temporary) -> None:
    """Let the kernel copy, which on Btrfs and XFS shares the blocks; by hand where it cannot."""
    offset, size = 0, source.file.size
    while offset < size:
        try:
            count = os.copy_file_range(
                source.fileno(), target.fileno(), size - offset, offset, offset
            )
        except OSError as error:
            if error.errno not in _NO_KERNEL_COPY:
                raise
            block = source.read_at(offset, min(BLOCK, size - offset))
            target.write_at(offset, block)
            count = len(block)
        if not count:
            return
        offset += count


def _changed(path: str) -> PreconditionFailed:
    return PreconditionFailed(f"{path} is not the object that was expected.")


@contextmanager
def _preconditions(path: str) -> Iterator[None]:
    try:
        yield
    except PathBusy as error:
        raise _changed(path) from error


@contextmanager
def _translated(store: str) -> Iterator[None]:
    """Turn what went wrong with the folder or the disk into an error of the store."""
    try:
        yield
    except RootError as error:
        raise _whole_store_error(error) from error
    except OSError as error:
        raise _error_of(error, store) from error
    except PathError as error:
        if not isinstance(error.__cause__, OSError) or type(error) is not PathError:
            raise
        raise _error_of(error.__cause__, f"{store}: {error}") from error


def _error_of(error: OSError, what: str) -> CraftsyncError:
    sentence = f"{what}: {error.strerror}."
    if error.errno in _FULL:
        return StoreFull(sentence, remedy="Make room on its disk.")
    if error.errno in _DENIED:
        return StoreDenied(sentence, remedy="Check the owner and the permissions of the folder.")
    return StoreUnavailable(sentence, ambiguous=False)


def _whole_store_error(error: RootError) -> CraftsyncError:
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.errno in _DENIED:
        return StoreDenied(str(error), remedy=error.remedy)
    return StoreMissing(str(error), remedy=error.remedy)


def _listing_error(error: RootError) -> CraftsyncError:
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.errno not in _DENIED | {errno.ENOENT, errno.ENOTDIR}:
        return ListingBroken(str(error), remedy=error.remedy)
    return _whole_store_error(error)
