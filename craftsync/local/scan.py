"""Scans a folder: yields every file in path order.

Symbolic links are never followed. What cannot be read, or vanishes during the
scan, is yielded as `Skipped`: its absence proves nothing. A large folder is
scanned by a process of its own, which sends tuples by `marshal`; `None` ends
them, so a process that died is not taken for the end.
"""

from __future__ import annotations

import marshal
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, suppress
from itertools import islice
from stat import S_ISDIR, S_ISREG
from typing import IO, Any, NamedTuple

from craftsync.core.model import LIMIT, OWN_FOLDER, LocalFile, Skipped
from craftsync.core.paths import MAX_NAME_BYTES, MAX_PATH_BYTES, is_own, malformed
from craftsync.errors import (
    CraftsyncError,
    PathError,
    PathLeftOut,
    PathObstructed,
    PathRefused,
    RootError,
)
from craftsync.local import linux
from craftsync.local.files import Entry, in_path_order, kind_of, local_file, printable
from craftsync.local.folder import Folder
from craftsync.local.ignore import FolderRules, IgnoreRules
from craftsync.local.tree import LISTING, LinkInTheWay

VANISHED = "it changed during the scan"

_SAFE_LENGTH = (MAX_PATH_BYTES - MAX_NAME_BYTES) // 4
"""Below a folder path of so many characters no path can be too long."""


class _Level(NamedTuple):
    """A folder the walk is in."""

    listing: int
    prefix: str
    entries: Iterator[tuple[str, Entry]]
    rules: FolderRules | None


def scan(
    folder: Folder, rules: IgnoreRules | None, under: str = "", *, starting: str = ""
) -> Iterator[LocalFile | Skipped]:
    """Yield every file below the folder `under` ("" is the whole) that takes part.

    `starting` narrows it to the names directly in `under` that start so.
    craftsync's own folder is left out unless `under` leads into it. Raises
    `RootError` when the folder cannot be listed, or its path does not lead to
    it any more at the end: then nothing that was yielded proves an absence.
    """
    folder.ensure_same()
    if not (rules and under and rules.ignored(under, is_folder=True)):
        with ExitStack() as stack:
            yield from _Walk(folder, rules, stack).run(under, starting)
    folder.ensure_same()


def scan_level(folder: Folder, under: str = "") -> Iterator[LocalFile | Skipped | str]:
    """Yield what is directly in a folder, in path order, and each folder in it by its path; else as `scan`."""
    folder.ensure_same()
    with ExitStack() as stack:
        yield from _Walk(folder, None, stack).level(under)
    folder.ensure_same()


class _Walk:
    """One walk: the folders it is in, from the outermost to the innermost."""

    def __init__(self, folder: Folder, rules: IgnoreRules | None, stack: ExitStack) -> None:
        self._folder = folder
        self._rules = rules
        self._levels: list[_Level] = []
        stack.callback(self._close)

    def run(self, under: str, starting: str) -> Iterator[LocalFile | Skipped]:
        if failure := self._enter_first(under, starting):
            yield failure
        while self._levels:
            level = self._levels[-1]
            inner = yield from _files(level)
            if inner is None:
                linux.close(self._levels.pop().listing)
            elif failure := self._enter(level, inner):
                yield failure

    def level(self, under: str) -> Iterator[LocalFile | Skipped | str]:
        if failure := self._enter_first(under, ""):
            yield failure
        for level in self._levels:
            while (inner := (yield from _files(level))) is not None:
                yield level.prefix + inner

    def _enter_first(self, under: str, starting: str) -> Skipped | None:
        try:
            listing = self._folder.tree.listing(under)
        except (FileNotFoundError, NotADirectoryError) as error:
            if isinstance(error, LinkInTheWay):
                return Skipped(error.filename, "a symbolic link", subtree=True, by_design=True)
            return None
        except OSError as error:
            if not under:
                raise RootError(f"{self._folder.path}: {error.strerror}.") from error
            return _unreadable(under, error)
        return self._push(listing, under, starting)

    def _enter(self, level: _Level, name: str) -> Skipped | None:
        path = level.prefix + name
        try:
            listing = linux.open(name, LISTING, dir_fd=level.listing)
        except OSError as error:
            return _unreadable(path, error)
        return self._push(listing, path, "")

    def _push(self, listing: int, path: str, starting: str) -> Skipped | None:
        rules = self._rules.inside(path) if self._rules else None
        if rules and rules.failure:
            linux.close(listing)
            return Skipped(path, rules.failure, subtree=True, failed=True)
        wanted = _wanted(path, starting)
        try:
            entries = in_path_order(listing, wanted)
        except OSError as error:
            linux.close(listing)
            if not path:
                raise RootError(f"{self._folder.path}: {error.strerror}.") from error
            return _unreadable(path, error)
        self._levels.append(_Level(listing, f"{path}/" if path else "", entries, rules))
        return None

    def _close(self) -> None:
        for level in self._levels:
            linux.close(level.listing)


def _wanted(path: str, starting: str) -> Callable[[str], bool] | None:
    """Return what tells which names directly in a folder count; `None` when all do."""
    if not path:
        return lambda name: name != OWN_FOLDER and name.startswith(starting)
    return (lambda name: name.startswith(starting)) if starting else None


def _files(level: _Level) -> Generator[LocalFile | Skipped, None, str | None]:
    """Yield the files in a folder up to the next folder in it, whose name is returned (`None` at the end).

    Runs once for every file there is: the ordinary case makes no calls but for the look.
    """
    _, prefix, entries, rules = level
    suspects, ignores = (rules.suspects, rules.ignores) if rules else (_never, _never)
    new = tuple.__new__  # Half the cost of LocalFile(...).
    safe = len(prefix) <= _SAFE_LENGTH
    for key, entry in entries:
        if suspects(key) and ignores(key):
            continue
        name = key.removesuffix("/")
        is_folder = name is not key
        path = prefix + name
        if name != entry.name:
            yield Skipped(path, "the name is not valid UTF-8", subtree=is_folder)
        elif not safe and (reason := malformed(path)):
            yield Skipped(path, reason, subtree=is_folder)
        elif is_folder:
            if (
                name == OWN_FOLDER and rules
            ):  # Also where a pattern such as `!.craftsync/` takes it in.
                continue
            return name
        else:
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError as error:
                yield _unreadable(path, error)
                continue
            if not S_ISREG(status.st_mode):
                yield _no_file(path, status.st_mode)
                continue
            mtime_ns, ctime_ns, inode = status.st_mtime_ns, status.st_ctime_ns, status.st_ino
            if 0 <= mtime_ns < LIMIT and 0 <= ctime_ns < LIMIT and inode < LIMIT:
                yield new(LocalFile, (path, status.st_size, mtime_ns, ctime_ns, inode))
            else:
                yield local_file(path, status)
    return None


def _never(_key: str) -> bool:
    return False


def _no_file(path: str, mode: int) -> Skipped:
    if S_ISDIR(mode):
        return Skipped(path, VANISHED, subtree=True)
    # What lies behind a link is not known, so nothing below it counts as gone.
    return Skipped(path, kind_of(mode), subtree=True, by_design=True)


def _unreadable(path: str, error: OSError) -> Skipped:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Skipped(path, VANISHED, subtree=True)
    return Skipped(path, error.strerror or str(error), subtree=True, failed=True)


def look(
    folder: Folder, rules: IgnoreRules | None, paths: Iterable[str]
) -> Iterator[LocalFile | Skipped]:
    """Yield what a scan would yield for these paths, a folder among them standing for all below it.

    A path at which nothing is yielded nothing, and neither is one that takes
    no part. All paths are looked at before the first is yielded.
    """
    folder.ensure_same()
    met = sorted(filter(None, (_met(folder, rules, path) for path in set(paths))), key=_place_of)
    walked = ""
    for key, found in met:
        if walked and key.startswith(walked):
            continue
        if found is not None:
            yield found
            continue
        walked = key
        with ExitStack() as stack:
            yield from _Walk(folder, rules, stack).run(key[:-1], "")
    folder.ensure_same()


def _place_of(met: tuple[str, object]) -> str:
    return met[0]


def _met(
    folder: Folder, rules: IgnoreRules | None, path: str
) -> tuple[str, LocalFile | Skipped | None] | None:
    """Return the sort key and what is at the path, `None` there for a folder; nothing if nothing is."""
    if is_own(path):
        return None
    try:
        file = folder.stat(path)
    except PathObstructed:
        ignored = rules is not None and rules.ignored(path, is_folder=True)
        return None if ignored else (f"{path}/", None)
    except PathRefused as error:
        return _met_refused(path, error)
    except PathError as error:
        return path, Skipped(path, str(error), subtree=True, failed=True)
    if file is None or (rules is not None and rules.ignored(path)):
        return None
    return path, file


def _met_refused(path: str, error: PathRefused) -> tuple[str, Skipped]:
    """Report a link or special file as a scan does: at its own path, even from below it."""
    cause = error.__cause__
    at = str(cause.filename) if isinstance(cause, LinkInTheWay) else printable(path)
    by_design = isinstance(error, PathLeftOut)
    return at, Skipped(at, str(error), subtree=True, by_design=by_design)


_BATCH = 2000
_LENGTH = 8
"""Bytes that tell the length of what follows."""


def scan_aside(
    folder: Folder, *, include: Iterable[str], exclude: Iterable[str]
) -> Iterator[LocalFile | Skipped]:
    """Yield what `scan` with these rules would yield.

    Raises `RootError` for whatever ends the scan early, in this process or the
    other: then nothing that was yielded proves an absence.
    """
    descriptor = folder.tree.descriptor
    asked = marshal.dumps((folder.path, descriptor, tuple(include), tuple(exclude)))
    child = subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=(descriptor,),
        # Ctrl-C is for this process, which ends the other.
        start_new_session=True,
    )
    assert child.stdin is not None and child.stdout is not None
    try:
        with suppress(BrokenPipeError), child.stdin as pipe:
            pipe.write(asked)
        yield from _received(child.stdout, folder.path)
    finally:
        child.kill()
        child.stdout.close()
        child.wait()


def _received(pipe: IO[bytes], root: str) -> Iterator[LocalFile | Skipped]:
    new = tuple.__new__
    while (batch := _next_batch(pipe, root)) is not None:
        for entry in batch:
            # The size of the one, the reason of the other.
            yield new(LocalFile, entry) if entry[1].__class__ is int else Skipped(*entry)


def _next_batch(pipe: IO[bytes], root: str) -> list[Any] | None:
    try:
        # From a file, marshal would ask for each value by itself, which costs more than all else here.
        length = int.from_bytes(pipe.read(_LENGTH), "little")
        batch: list[Any] | str | None = marshal.loads(pipe.read(length))
    except (EOFError, ValueError, TypeError) as error:
        raise RootError(f"The scan of {root} ended early.", remedy="Run it again.") from error
    if isinstance(batch, str):
        raise RootError(batch)
    return batch


def _serve(asked: IO[bytes], answer: IO[bytes]) -> None:
    """Be the child: scan, and send what was found."""
    path, descriptor, include, exclude = marshal.load(asked)
    with Folder(path, descriptor) as folder:
        rules = IgnoreRules(folder, include=include, exclude=exclude)
        try:
            entries = scan(folder, rules)
            while batch := [tuple(entry) for entry in islice(entries, _BATCH)]:
                _send(batch, answer)
            _send(None, answer)
        except (CraftsyncError, OSError) as error:
            _send(str(error), answer)
    answer.flush()


def _send(batch: list[Any] | str | None, answer: IO[bytes]) -> None:
    content = marshal.dumps(batch)
    answer.write(len(content).to_bytes(_LENGTH, "little"))
    answer.write(content)


def worth_it(files: int) -> bool:
    """Tell whether a process of its own pays for a root of so many files: it costs a tenth of a second."""
    return files >= 50_000 and len(os.sched_getaffinity(0)) > 1


if __name__ == "__main__":
    import gc

    # A service manager ends all processes of a service at once. What it was told is for the
    # one that asked, to which a scan that ends early is a root that is broken.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    gc.disable()
    _serve(sys.stdin.buffer, sys.stdout.buffer)
