"""Everything craftsync raises on purpose, and the exit code each ends with.

An exception means that a whole side is broken, or that one operation on one
path could not be done. Trouble with one path is turned into a `Problem` by the
executor and never stops the others; the rest travels up to the command line,
which is the only place that turns an exception into a sentence and an exit
code.

    CraftsyncError                        1
    ├── UsageError                        2   the words of the call are off
    ├── ConfigError                      78   the configuration is invalid
    ├── RootError                         3   root missing, or not the one it was
    ├── LockedError                       5   another craftsync holds the root
    ├── StateError                        7   the state database needs a person
    ├── IncompleteError                       a run ended with paths that are not in sync; the code of its report
    ├── Exhausted                         5   the machine has no thread or memory left
    ├── PathError                             one path; becomes a Problem or a Skipped
    │   ├── PathBusy                          it changed while it was read or replaced
    │   ├── FileMissing                   3   a file that the words of a call name
    │   ├── PathDenied                        owner or permissions of this file or folder forbid it
    │   ├── PathRefused                       no side may hold it under this name
    │   ├── NoSpace                           it does not fit on the disk, or only into the reserve
    │   ├── ObjectArchived                    its store has to restore it before it can be read or copied
    │   │   └── NotKept                       it is not replaced or deleted, for no copy of it can be kept
    │   ├── ContentDamaged                    its bytes are not those its store vouches for
    │   └── PathObstructed                    a folder is in the way of a file, or a file of a folder
    └── StoreError                        3   the store cannot be used as asked
        ├── StoreMissing                  3   no such bucket or folder
        ├── StoreChanged                  3   not the store it was
        ├── StoreDenied                   3   the credentials do not allow it
        │   └── RequestDenied             3   good ones do not allow this; another key may be allowed
        ├── StoreUnavailable              5   transient: the retry wrapper tries again
        │   ├── UnknownHost              78   no name server knows the host
        │   └── ListingBroken             5   a listing that did not end well proves nothing
        ├── StoreFull                     1   no room left
        ├── ObjectRefused                 1   one object; the store takes none of this name
        ├── ObjectNotFound                    one object; nothing is there
        └── PreconditionFailed                one object; it is not what was expected
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

ANOTHER_ANSWERS = (
    "A proxy or a login page may answer in its place: check the network and the endpoint."
)
"""The remedy for an answer that no such store gives."""


class CraftsyncError(Exception):
    """Base of every error craftsync raises; `str(error)` is a sentence for people.

    `remedy`, where there is one, says in a second sentence what to do about it;
    a traceback shows it as a note.
    """

    exit_code = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy
        if remedy:
            self.add_note(remedy)

    def __reduce__(self) -> tuple[Any, ...]:
        """Be pickled with everything it says, whatever its `__init__` takes."""
        kind = type(self)
        own = getattr(kind, "_own_kind", kind)
        return _unpickled, (own, own is not kind, self.args, vars(self))


class UsageError(CraftsyncError):
    """The words of a call do not make sense together."""

    exit_code = 2


class ConfigError(CraftsyncError):
    """The configuration is invalid; the message names key, value and remedy."""

    exit_code = 78


class RootError(CraftsyncError):
    """The root is missing, is not a folder, or is not the one it was."""

    exit_code = 3


class LockedError(CraftsyncError):
    """Another craftsync is at work on the same root."""

    exit_code = 5


class StateError(CraftsyncError):
    """The state database cannot be used, and a person has to decide what becomes of it."""

    exit_code = 7


class NoAnswer(StateError):
    """A daemon runs and does not answer; `process` is its id."""

    exit_code = 5

    def __init__(self, message: str, *, remedy: str = "", process: int = 0) -> None:
        super().__init__(message, remedy=remedy)
        self.process = process


class Exhausted(CraftsyncError):
    """The machine gives no more threads or memory; trying again later helps."""

    exit_code = 5


class IncompleteError(CraftsyncError):
    """A run ended, and some paths are not in sync: what `Report.raise_for_issues` raises."""

    def __init__(self, message: str, *, exit_code: int) -> None:
        super().__init__(message, remedy="report.issues names the paths and the reasons.")
        self.exit_code = exit_code


class PathError(CraftsyncError):
    """One path could not be handled; the run continues with all others."""


class PathBusy(PathError):
    """The file changed while it was read or about to be replaced; a later run looks again."""


class FileMissing(PathError):
    """A call names a file that is not there, or is a folder."""

    exit_code = 3


class PathDenied(PathError):
    """Owner or permissions forbid it for this file or folder; of the others that says nothing."""


class PathRefused(PathError):
    """The name cannot be held by a folder, or by this store; it is reported and left alone."""


class PathLeftOut(PathRefused):
    """A symbolic link or a special file, which by design takes no part."""


class NoSpace(PathError):
    """The file does not fit on the disk, or only into what is to stay free of it."""


class ObjectArchived(PathError):
    """The object lies in an archive (GLACIER): it can be replaced and deleted, but neither read nor copied."""


class NotKept(ObjectArchived):
    """An archived object was to be replaced or deleted, and the store can keep no copy of it."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path} is archived in the store, which cannot keep a copy of it.",
            remedy="Restore it there (RestoreObject) and run this again, let the bucket keep"
            " versions, or leave it out (--exclude).",
        )


class ContentDamaged(PathError):
    """What was read or written is not what the store's own checksum says; of other paths that says nothing."""


class PathObstructed(PathError):
    """A folder stands where a file should go, or a file where a folder should."""

    def __init__(
        self,
        message: str,
        *,
        remedy: str = "One side has a file there, the other a folder: rename one of them.",
    ) -> None:
        super().__init__(message, remedy=remedy)


class StoreError(CraftsyncError):
    """The store cannot be used as asked; trying again does not help."""

    exit_code = 3


class StoreMissing(StoreError):
    """The bucket, folder or environment does not exist."""


class StoreChanged(StoreError):
    """The store answers, but it is not the one the state database knows."""


class StoreDenied(StoreError):
    """The credentials are wrong, or do not allow the operation."""


class RequestDenied(StoreDenied):
    """The credentials are good, but do not allow this; another key may well be allowed."""


class StoreUnavailable(StoreError):
    """A transient failure: the network, a timeout, a 5xx, throttling.

    `ambiguous` is true when the request may have been carried out although no
    answer arrived. A write or delete that failed so is settled by looking,
    never by repeating it blindly. `retry_after` is what the server asked for,
    in seconds.
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
    """No name server knows the store's host: a typing error, or a network without it. A daemon waits for it."""

    exit_code = 78


class ListingBroken(StoreUnavailable):
    """A listing ended early, out of order, or was no listing at all."""


class StoreFull(StoreError):
    """There is no room left: disk, quota or object size."""

    exit_code = 1


class ObjectRefused(StoreError):
    """The store takes no object of this name; of others that says nothing."""

    exit_code = 1


class ObjectNotFound(StoreError):
    """No object at this path."""


class PreconditionFailed(StoreError):
    """The object is not what the caller expected; nothing was changed."""


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
"""What a Python programmer would catch; the first that an error is an instance of counts."""


@contextmanager
def builtin_kinds() -> Iterator[None]:
    """Raise each error of craftsync as one that is of the builtin kind as well: `FileNotFoundError` and so on.

    Only the doors of the Python API do so. Within, these kinds mean what the
    system says, and an `except OSError` must not catch what a store says.
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
    """Return the subclass of a kind of error that is of a builtin kind, too; the same where there is none."""
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
    """The run was stopped. Like any KeyboardInterrupt it is not an `Exception`: nothing handles it on the way."""


def nearest(word: str, known: Iterable[str], *, likeness: float = 0.6) -> str:
    """Return a sentence that suggests the known word most like this one, or "" where none is.

    `likeness` is that of `difflib`: 0 for nothing in common, 1 for equal words.
    """
    from difflib import get_close_matches  # Only for a mistake: it costs every start a millisecond.

    near = get_close_matches(word, list(known), n=1, cutoff=likeness)
    return f"Did you mean {near[0]}? " if near else ""


def exhausted(error: BaseException) -> Exhausted | None:
    """Return the error that says what the machine has run out of; `None` when that is not what happened."""
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
