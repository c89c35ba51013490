"""A plain folder as a store, such as a backup disk or a network share.

An object is the file at its path; its version is made of size, mtime, ctime and inode. Several
processes may use the folder at once: a change that depends on a stat holds a lock in
`.craftsync`. Only this store imports `craftsync.local`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from craftsync.core.model import ABSENT, OWN_FOLDER, LocalFile, RemoteObject, Skipped, Subfolder
from craftsync.core.paths import hidden_in, is_own, malformed, subfolder
from craftsync.core.retention import Reserve
from craftsync.errors import (
    CraftsyncError,
    ListingBroken,
    NoSpace,
    ObjectNotFound,
    PathBusy,
    PathDenied,
    PathError,
    PathObstructed,
    PathRefused,
    PreconditionFailed,
    RootError,
    StoreDenied,
    StoreError,
    StoreFull,
    StoreMissing,
    StoreUnavailable,
)
from craftsync.local.files import BLOCK, OpenFile
from craftsync.local.folder import Folder
from craftsync.local.scan import scan, scan_level
from craftsync.local.temporary import Temporary, copy_content
from craftsync.net.pace import Attempt
from craftsync.stores.base import (
    Expect,
    Features,
    OnlyContent,
    Properties,
    Source,
    UploadJournal,
    pace_of,
)

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


_PERMISSIONS = _DENIED - {errno.EROFS}
_PERMISSIONS_REMEDY = "Check the owner and the permissions of the %s."


@contextmanager
def translated(store: str, path: str | None = None) -> Iterator[None]:
    """Translate errors of the folder or the disk into errors of the store.

    With `path`, missing permissions concern that path alone (`PathDenied`), unless it lies in
    `.craftsync/`.
    """
    try:
        yield
    except RootError as error:
        raise whole_store_error(error) from error
    except OSError as error:
        raise error_of(error, store) from error
    except NoSpace as error:
        raise StoreFull(f"In the store {store}: {error}", remedy=error.remedy) from error
    except PathError as error:
        cause = error.__cause__
        if not isinstance(cause, OSError) or type(error) is not PathError:
            raise
        what = f"{store}: {error}".removesuffix(f": {cause.strerror}")
        if path is not None and cause.errno in _PERMISSIONS and not is_own(path):
            remedy = _PERMISSIONS_REMEDY % "file and of the folders it is in"
            raise PathDenied(f"{what}: {cause.strerror}.", remedy=remedy) from error
        raise error_of(cause, what) from error


def error_of(error: OSError, what: str) -> CraftsyncError:
    reason = error.strerror or str(error)
    sentence = f"{what}." if what.endswith(reason) else f"{what}: {reason}."
    if error.errno == errno.EROFS:
        return StoreDenied(sentence, remedy="Mount the disk so that it can be written to.")
    if error.errno in _FULL:
        return StoreFull(sentence, remedy="Free space on its disk.")
    if error.errno in _DENIED:
        return StoreDenied(sentence, remedy=_PERMISSIONS_REMEDY % "folder")
    return StoreUnavailable(sentence, ambiguous=False)


def whole_store_error(error: RootError) -> CraftsyncError:
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.errno in _DENIED:
        return StoreDenied(str(error), remedy=error.remedy)
    return StoreMissing(str(error), remedy=error.remedy)


def listing_error(error: RootError) -> CraftsyncError:
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.errno not in _DENIED | {errno.ENOENT, errno.ENOTDIR}:
        return ListingBroken(str(error), remedy=error.remedy)
    return whole_store_error(error)


_RESERVED = frozenset({f"{OWN_FOLDER}/tmp", f"{OWN_FOLDER}/lock", f"{OWN_FOLDER}/commit-lock"})


class DirectoryStore(OnlyContent):
    """The `Store` contract over a folder."""

    features = Features(
        conditional_create=True,
        conditional_replace=True,
        conditional_delete=True,
        server_side_copy=True,
        renames=True,
        folders=True,
    )

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        reserve: Reserve | None = None,
    ) -> None:
        """Open an existing folder. Raises `StoreMissing`. Creates nothing before the first write."""
        try:
            self._folder = Folder.open(path)
            self._folder.reserve = reserve or Reserve()
        except RootError as error:
            raise whole_store_error(error) from error
        self.location = os.path.realpath(self._folder.path)
        self.name = name or Path(self.location).name or "directory"
        self._swept = False

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        reserve: Reserve | None = None,
    ) -> Self:
        """Open a folder, creating it if it does not exist."""
        try:
            Path(path).mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise StoreError(
                f"Cannot create the folder {path}: a file is in the way.",
                remedy="Choose another folder.",
            ) from error
        except FileNotFoundError as error:  # Such as in /proc.
            raise StoreError(
                f"Cannot create the folder {path}: {error.strerror}.",
                remedy="Choose another folder.",
            ) from error
        except OSError as error:
            raise error_of(error, f"Cannot create the folder {path}") from error
        return cls(path, name=name, reserve=reserve)

    def prepare(self, saved: str | None) -> str | None:
        self._swept = False
        return None

    def list(
        self, prefix: str = "", *, boundaries: Sequence[str] = (), nested_own: bool = False
    ) -> Iterator[RemoteObject | Skipped]:
        under, _, starting = prefix.rpartition("/")
        hidden = hidden_in(prefix, nested_own=nested_own)
        if prefix.startswith("/") or (under and malformed(under)):
            return
        try:
            for entry in scan(self._folder, None, under, starting=starting):
                if hidden(entry.path) or _is_reserved(entry.path):
                    continue
                if isinstance(entry, Skipped):
                    yield entry
                else:
                    yield RemoteObject(entry.path, entry.size, entry.mtime_ns, _version(entry))
        except RootError as error:
            raise listing_error(error) from error

    def list_folder(self, folder: str = "") -> Iterator[RemoteObject | Subfolder | Skipped]:
        if folder and malformed(folder):
            return
        hidden = hidden_in(f"{folder}/" if folder else "")
        try:
            for entry in scan_level(self._folder, folder):
                if isinstance(entry, str):
                    # Stores have no empty folders.
                    if not hidden(entry) and next(self.list(f"{entry}/"), None):
                        yield subfolder(entry)
                elif isinstance(entry, Skipped):
                    yield entry
                else:
                    yield RemoteObject(entry.path, entry.size, entry.mtime_ns, _version(entry))
        except RootError as error:
            raise listing_error(error) from error

    def stat(self, path: str) -> RemoteObject | None:
        file = self._stat(path)
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
        if self._stat(path) is None:
            raise ObjectNotFound(f"{self.name} has no object {path}.")
        with translated(self.name, path):
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
        trash_stamp: str | None = None,
        journal: UploadJournal | None = None,
        properties: Properties | None = None,
    ) -> RemoteObject:
        self._check(path, expect)
        with (
            translated(self.name),
            Attempt(pace_of(source)) as attempt,
            self._temporary(source.size) as temporary,
        ):
            for offset in range(0, source.size, BLOCK):
                block = source.read_at(offset, min(BLOCK, source.size - offset))
                attempt.take(len(block))
                temporary.write_at(offset, block)
                attempt.count(len(block))
            source.verify()
            return self._commit(temporary, path, expect, source.mtime_ns, trash_stamp)

    def delete(self, path: str, *, expect: Expect, trash_stamp: str | None = None) -> None:
        if self._stat(path) is None:
            return
        with translated(self.name), self._folder.exclusive():
            current = self._expected(path, expect)
            if current is not None:
                with translated(self.name, _below(path)), _preconditions(path):
                    self._folder.displace(path, current, trash_stamp)

    def copy(
        self,
        source: RemoteObject,
        target: str,
        *,
        expect: Expect,
        operation: str,
        trash_stamp: str | None = None,
    ) -> RemoteObject:
        self._check(target, expect)
        with (
            self.read(source.path, expect=source) as reader,
            translated(self.name),
            self._temporary() as temporary,
        ):
            copy_content(reader.opened, temporary)
            if reader.opened.has_changed():
                raise _changed(source.path)
            return self._commit(temporary, target, expect, reader.opened.file.mtime_ns, trash_stamp)

    def move(self, source: RemoteObject, target: str, *, operation: str) -> RemoteObject:
        self._check(target, None)  # The rename itself replaces nothing.
        with translated(self.name), self._folder.exclusive():
            current = self._expected(source.path, source)
            assert current is not None  # Another object than the expected one raises.
            with translated(self.name, _below(target)), _preconditions(source.path):
                return _described(self._folder.move(source.path, target, current))

    def abort_stale(self, uploads: Iterable[tuple[str, str]]) -> None:
        """Do nothing: a folder has no unfinished uploads."""

    def barrier(self) -> Mapping[str, RemoteObject]:
        with translated(self.name):
            self._folder.sync()
        return {}

    def close(self) -> None:
        self._folder.close()

    def _stat(self, path: str) -> LocalFile | None:
        """Stat a path. Before returning `None`, check that the folder is still the one opened."""
        if malformed(path) or _is_reserved(path):
            return None
        with translated(self.name, path):
            try:
                file = self._folder.stat(path)
            except PathObstructed:
                file = None
            if file is None:
                self._folder.ensure_same()
        return file

    def _check(self, path: str, expect: Expect) -> None:
        """Raise for a write that would fail, before reading its content."""
        reason = malformed(path)
        if reason is None and _is_reserved(path):
            reason = "it is reserved for craftsync"
        if reason is not None:
            raise PathRefused(f"{self.name} cannot hold {path!r}: {reason}.")
        if expect is not None:
            self._expected(path, expect)

    def _expected(self, path: str, expect: Expect) -> LocalFile | None:
        """Return the file at the path. Raises `PreconditionFailed` if it is not `expect`."""
        current = self._stat(path)
        if expect is ABSENT and current is not None:
            raise PreconditionFailed(f"{path} already exists in {self.name}.")
        if isinstance(expect, RemoteObject) and (
            current is None or _version(current) != expect.version
        ):
            raise _changed(path)
        return current

    def _temporary(self, size: int | None = None) -> Temporary:
        """Create a temporary file. The first time in a run, remove those that a crash left."""
        if not self._swept:
            # Only generated names: a linked folder has downloads to resume under other names.
            self._folder.sweep_generated()
            self._swept = True
        return self._folder.temporary(size=size)

    def _commit(
        self,
        temporary: Temporary,
        path: str,
        expect: Expect,
        mtime_ns: int | None,
        trash_stamp: str | None,
    ) -> RemoteObject:
        """Flush the content, then make it visible."""
        self._folder.sync()
        if expect is ABSENT:
            with translated(self.name, _below(path)), _preconditions(path):
                return _described(
                    self._folder.place(
                        temporary, path, expect=None, mtime_ns=mtime_ns, trash_stamp=trash_stamp
                    )
                )
        with self._folder.exclusive():
            current = self._expected(path, expect)
            try:
                with translated(self.name, _below(path)):
                    file = self._folder.place(
                        temporary, path, expect=current, mtime_ns=mtime_ns, trash_stamp=trash_stamp
                    )
            except PathBusy as error:
                # A program that does not hold the lock changed the file.
                if expect is not None:
                    raise _changed(path) from error
                raise StoreUnavailable(f"{self.name}: {error}", ambiguous=False) from error
        return _described(file)


class _DirectoryReader:
    """The `Reader` of an open file."""

    def __init__(self, store: str, opened: OpenFile, offset: int, end: int) -> None:
        self.object = _described(opened.file)
        self.properties = None
        self.opened = opened
        self._store = store
        self._offset = offset
        self._end = end

    def __iter__(self) -> Iterator[bytes]:
        with translated(self._store):
            for offset in range(self._offset, self._end, BLOCK):
                try:
                    yield self.opened.read_at(offset, min(BLOCK, self._end - offset))
                except PathBusy as error:
                    raise self._changed_while_read() from error
            if self.opened.has_changed():
                raise self._changed_while_read()

    def _changed_while_read(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"{self._store}: {self.object.path} changed while it was read.", ambiguous=False
        )


def _is_reserved(path: str) -> bool:
    return is_own(path) and (path == OWN_FOLDER or "/".join(path.split("/", 2)[:2]) in _RESERVED)


def _below(path: str) -> str | None:
    """Return a path in a subfolder, else `None`: at the top, missing permissions concern the whole store."""
    return path if "/" in path else None


def _version(file: LocalFile) -> str:
    return f"{file.size:x}-{file.mtime_ns:x}-{file.ctime_ns:x}-{file.inode:x}"


def _described(file: LocalFile) -> RemoteObject:
    return RemoteObject(file.path, file.size, file.mtime_ns, _version(file), mtime_ns=file.mtime_ns)


def _changed(path: str) -> PreconditionFailed:
    return PreconditionFailed(f"{path} changed in the store.")


@contextmanager
def _preconditions(path: str) -> Iterator[None]:
    try:
        yield
    except PathBusy as error:
        raise _changed(path) from error
