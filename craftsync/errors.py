"""Every error that craftsync raises, and its exit code.

An exception means that a whole side is broken, or that one operation on one path failed. A
`Carrier` turns the error of a single path into that path's outcome, so it never stops the
others. All other errors reach the command line, which alone turns an exception into a message
and an exit code.

    CraftsyncError                        1
    ├── UsageError                        2   the arguments of the call are invalid
    ├── ConfigError                      78   the configuration is invalid
    ├── RootError                         3   the folder is missing, or not the known one
    ├── LockedError                       5   another craftsync holds the folder
    ├── StateError                        7   the user must repair the state database
    ├── IncompleteError                       a run ended with paths out of sync; exit code of its report
    ├── Exhausted                         5   the machine has no thread or memory left
    ├── PathError                             one path; becomes a problem, or skipped
    │   ├── PathBusy                          it changed while it was read or replaced
    │   ├── FileMissing                   3   a file named in the call is missing
    │   ├── PathDenied                        owner or permissions of this file or folder forbid it
    │   ├── PathRefused                       no side may hold it under this name
    │   ├── NoSpace                           it does not fit on the disk without using the reserve
    │   ├── ObjectArchived                    the store must restore it before it can be read or copied
    │   │   └── NotKept                       not replaced or deleted, because no copy can be kept
    │   ├── ContentDamaged                    its bytes do not match the store's checksum
    │   └── PathObstructed                    a folder is in the way of a file, or a file of a folder
    └── StoreError                        3   the store cannot be used as requested
        ├── StoreMissing                  3   no such bucket, folder or environment
        ├── StoreChanged                  3   not the known store
        ├── StoreDenied                   3   the credentials do not allow it
        │   └── RequestDenied             3   valid credentials do not allow this; another key may be allowed
        ├── StoreUnavailable              5   transient: the retry wrapper tries again
        │   ├── UnknownHost              78   no name server knows the host
        │   └── ListingBroken             5   a listing that is not complete proves nothing
        ├── StoreFull                     1   no room left
        ├── ObjectRefused                 1   one object; the store accepts no object of this name
        ├── ObjectNotFound                    one object; it does not exist
        └── PreconditionFailed                one object; it is not the expected one
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

ANOTHER_ANSWERS = (
    "A proxy or a login page may answer in its place: check the network and the endpoint."
)
"""The remedy for a response that the store itself would not send."""


class CraftsyncError(Exception):
    """Base of every error that craftsync raises. `str(error)` is a sentence for the user.

    `remedy`, if not empty, is a second sentence: what the user can do. A traceback shows it as
    a note.
    """

    exit_code = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy
        if remedy:
            self.add_note(remedy)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle all attributes, whatever the parameters of `__init__`."""
        kind = type(self)
        own = getattr(kind, "_own_kind", kind)
        return _unpickled, (own, own is not kind, self.args, vars(self))


class UsageError(CraftsyncError):
    """The arguments of a call are invalid, or contradict each other."""

    exit_code = 2


class ConfigError(CraftsyncError):
    """The configuration is invalid. The message names key, value and remedy."""

    exit_code = 78


class RootError(CraftsyncError):
    """The folder is missing, is not a folder, or is not the known one."""

    exit_code = 3


class LockedError(CraftsyncError):
    """Another craftsync is using the same folder."""

    exit_code = 5


class StateError(CraftsyncError):
    """The state database cannot be used until the user acts."""

    exit_code = 7


class NoAnswer(StateError):
    """A daemon runs but does not respond; `process` is its id."""

    exit_code = 5

    def __init__(self, message: str, *, remedy: str = "", process: int = 0) -> None:
        super().__init__(message, remedy=remedy)
        self.process = process


class Exhausted(CraftsyncError):
    """The machine has no threads or memory left. Trying again later may help."""

    exit_code = 5


class IncompleteError(CraftsyncError):
    """A run ended, and some paths are not in sync. Raised by `Report.raise_for_issues`."""

    def __init__(self, message: str, *, exit_code: int) -> None:
        super().__init__(message, remedy="report.issues names the paths and the reasons.")
        self.exit_code = exit_code


class PathError(CraftsyncError):
    """One path failed. The run continues with all others."""


class PathBusy(PathError):
    """The file changed while it was read or before it was replaced. A later run tries again."""


class FileMissing(PathError):
    """A call names a file that does not exist, or is a folder."""

    exit_code = 3


class PathDenied(PathError):
    """Owner or permissions of this file or folder forbid it. Others may be accessible."""


class PathRefused(PathError):
    """A folder, or this store, cannot hold the name. The path is reported and stays as it is."""


class PathLeftOut(PathRefused):
    """A symbolic link or a special file, which by design takes no part."""


class NoSpace(PathError):
    """The file does not fit on the disk without using the reserve."""


class ObjectArchived(PathError):
    """The object is archived (GLACIER): it can be replaced or deleted, but not read or copied."""


class NotKept(ObjectArchived):
    """An archived object is not replaced or deleted, because the store can keep no copy of it."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path} is archived in the store, which cannot keep a copy of it.",
            remedy="Restore it there (RestoreObject) and run this again, let the bucket keep"
            " versions, or leave it out (--exclude).",
        )


class ContentDamaged(PathError):
    """The bytes that were read or written do not match the store's checksum. Other paths may be intact.

    `arrived` is a hash of the bytes that were read, if known: equal ones mean that the same wrong
    bytes arrived again.
    """

    def __init__(self, message: str, *, remedy: str = "", arrived: bytes | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.arrived = arrived


class PathObstructed(PathError):
    """A folder is in the way of a file, or a file in the way of a folder."""

    def __init__(
        self,
        message: str,
        *,
        remedy: str = "One side has a file there, the other a folder: rename one of them.",
    ) -> None:
        super().__init__(message, remedy=remedy)


class StoreError(CraftsyncError):
    """The store cannot be used as requested. Trying again does not help."""

    exit_code = 3


class StoreMissing(StoreError):
    """The bucket, folder or environment does not exist."""


class StoreChanged(StoreError):
    """The store responds, but it is not the one that the state database knows."""


class StoreDenied(StoreError):
    """The credentials are wrong, or do not allow the operation."""


class RequestDenied(StoreDenied):
    """The credentials are valid, but do not allow this request. Another key may be allowed."""


class StoreUnavailable(StoreError):
    """A transient failure: the network, a timeout, a 5xx, throttling.

    `ambiguous`: the request may have been carried out although no response arrived. After such a
    failure of a write or delete, a stat comes before any retry. `retry_after` is the wait that the
    server requests, in seconds.
    """

    exit_code = 5

    def __init__(
        self,
        message: str,
        *,
        remedy: str = "",
        ambiguous: bool = True,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.ambiguous = ambiguous
        self.retry_after = retry_after


class UnknownHost(StoreUnavailable):
    """No name server knows the store's host: a typing error, or another network. A daemon keeps trying."""

    exit_code = 78


class ListingBroken(StoreUnavailable):
    """A listing ended early, was out of order, or was not a listing."""


class StoreFull(StoreError):
    """The store has no room: disk, quota or object size."""

    exit_code = 1


class ObjectRefused(StoreError):
    """The store accepts no object of this name. It may accept others."""

    exit_code = 1


class ObjectNotFound(StoreError):
    """The path has no object."""


class PreconditionFailed(StoreError):
    """The object is not the one that the caller expected. Nothing was changed."""


_BUILTIN_KINDS: dict[type[CraftsyncError], type[Exception]] = {
    UsageError: ValueError,
    ConfigError: ValueError,
    RootError: FileNotFoundError,
    LockedError: BlockingIOError,
    Exhausted: OSError,
    FileMissing: FileNotFoundError,
    PathDenied: PermissionError,
    PathRefused: ValueError,
    PathObstructed: FileExistsError,
    PathError: OSError,
    StoreMissing: FileNotFoundError,
    ObjectNotFound: FileNotFoundError,
    StoreDenied: PermissionError,
    StoreUnavailable: ConnectionError,
    StoreError: OSError,
}
"""The builtin exceptions that a Python programmer would catch. The first match applies."""


@contextmanager
def builtin_kinds() -> Iterator[None]:
    """Make each error of craftsync an instance of a builtin kind too, such as `FileNotFoundError`.

    Only the public Python API does so. Inside craftsync the builtin kinds are errors of the system,
    and an `except OSError` must not catch the error of a store.
    """
    try:
        yield
    except CraftsyncError as error:
        kind = _with_builtin(type(error))
        if kind is type(error):
            raise
        raise _restored(kind, error.args, vars(error)).with_traceback(
            error.__traceback__
        ) from error.__cause__


_with_builtins: dict[type[CraftsyncError], type[CraftsyncError]] = {}


def _with_builtin(kind: type[CraftsyncError]) -> type[CraftsyncError]:
    """Return a subclass of a kind of error and of its builtin kind, or the kind itself if it has none."""
    if kind not in _with_builtins:
        builtin = next(
            (like for own, like in _BUILTIN_KINDS.items() if issubclass(kind, own)), None
        )
        made = kind
        if builtin is not None and not issubclass(kind, builtin):
            content: dict[str, Any] = {"__module__": kind.__module__, "__doc__": kind.__doc__}
            content["_own_kind"] = kind
            if issubclass(kind, NoSpace | StoreFull):
                content["errno"] = errno.ENOSPC
            made = type(kind.__name__, (kind, builtin), content)
        _with_builtins[kind] = made
    return _with_builtins[kind]


def _unpickled(
    kind: type[CraftsyncError], is_builtin: bool, args: tuple[Any, ...], content: dict[str, Any]
) -> CraftsyncError:
    return _restored(_with_builtin(kind) if is_builtin else kind, args, content)


def _restored(
    kind: type[CraftsyncError], args: tuple[Any, ...], content: dict[str, Any]
) -> CraftsyncError:
    error = kind.__new__(kind, *args)
    error.args = args
    vars(error).update(content)
    return error


class Interrupted(KeyboardInterrupt):
    """The run was stopped. Not an `Exception`, as KeyboardInterrupt, so that no handler catches it on the way."""


def nearest(word: str, known: Iterable[str], *, likeness: float = 0.6) -> str:
    """Return a sentence that suggests the known word most like this one, or "" if none is similar.

    `likeness` is the least similarity, as in `difflib`: 0 for nothing in common, 1 for equal words.
    """
    from difflib import get_close_matches  # Only after a mistake: the import takes a millisecond.

    near = get_close_matches(word, list(known), n=1, cutoff=likeness)
    return f"Did you mean {near[0]}? " if near else ""


def exhausted(error: BaseException) -> Exhausted | None:
    """Return the `Exhausted` for an error that means no memory or no thread is left, else `None`."""
    if isinstance(error, MemoryError):
        return Exhausted(
            "No memory is left.",
            remedy="End other programs, or raise the limit (ulimit -v, MemoryMax=).",
        )
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return Exhausted(
            "No thread can be started.",
            remedy="End other programs, or raise the limit (ulimit -u, TasksMax=, pids.max).",
        )
    return None
