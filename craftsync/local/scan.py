"""Scans a folder: yields every file in path order.

An entry that cannot be read, or vanishes during the scan, is yielded as `Skipped`: its absence
proves nothing. Symbolic links are followed only after `Folder.follow_links`. A large folder is
scanned by a child process. It sends tuples by `marshal` and a number at the end, so that a child
that died does not look like a finished scan.
"""

from __future__ import annotations

import marshal
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, suppress
from itertools import islice
from stat import S_ISDIR, S_ISLNK, S_ISREG
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
from craftsync.local.ignore import FolderRules, IgnoredCounter, IgnoreRules
from craftsync.local.links import (
    CIRCLE,
    DEEP,
    MOST_FOLDERS,
    TARGET_IGNORED,
    FollowingTree,
    Links,
    NotFollowed,
    skipped,
)
from craftsync.local.tree import LISTING, LinkInTheWay

VANISHED = "it changed during the scan"

_SAFE_LENGTH = (MAX_PATH_BYTES - MAX_NAME_BYTES) // 4
"""Paths in a folder whose path has at most this many characters cannot be too long."""


class _Level(NamedTuple):
    """A folder the walk is in."""

    listing: int
    prefix: str
    entries: Iterator[tuple[str, Entry]]
    rules: FolderRules | None
    counter: IgnoredCounter
    """Counts the entries that the rules leave out."""
    real: str | None = None
    """If links are followed: the folder's real path."""
    links: Links | None = None
    behind: FolderRules | None = None
    """Behind a link: the rules of the target folder, which apply too."""
    depth: int = 0
    """The number of nested links to folders that lead here."""


def scan(
    folder: Folder, rules: IgnoreRules | None, under: str = "", *, starting: str = ""
) -> Iterator[LocalFile | Skipped]:
    """Yield every file below the folder `under` ("" is the whole) that takes part.

    `starting` limits this to names directly in `under` with this prefix. `.craftsync/` is left out,
    unless `under` is in it. Raises `RootError` if the folder cannot be listed, or has moved by the
    end: then no absence is proved.
    """
    folder.ensure_same()
    if not (rules and under and rules.ignored(under, is_folder=True)):
        with ExitStack() as stack:
            yield from _Walk(folder, rules, stack).run(under, starting)
    folder.ensure_same()


def scan_level(folder: Folder, under: str = "") -> Iterator[LocalFile | Skipped | str]:
    """Yield the files directly in a folder, and the paths of its folders, in path order. Otherwise as `scan`."""
    folder.ensure_same()
    with ExitStack() as stack:
        yield from _Walk(folder, None, stack).level(under)
    folder.ensure_same()


class _Walk:
    """One walk through a folder. `_levels` are the open folders, from the outermost to the innermost."""

    def __init__(self, folder: Folder, rules: IgnoreRules | None, stack: ExitStack) -> None:
        self._folder = folder
        self._rules = rules
        self._levels: list[_Level] = []
        tree = folder.tree
        self._links = Links(tree, rules) if isinstance(tree, FollowingTree) else None
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
        real = None
        try:
            if self._links is not None:
                real = self._links.entered(under)
            listing = self._folder.tree.listing(under)
        except NotFollowed as error:
            return skipped(under, error)
        except (FileNotFoundError, NotADirectoryError) as error:
            if isinstance(error, LinkInTheWay):
                return Skipped(error.filename, "a symbolic link", subtree=True, by_design=True)
            return None
        except OSError as error:
            if not under:
                raise RootError(f"{self._folder.path}: {error.strerror}.") from error
            return _unreadable(under, error)
        return self._push(listing, under, starting, real=real)

    def _enter(self, level: _Level, name: str) -> Skipped | None:
        path = level.prefix + name
        if self._links is not None:
            return self._follow(level, path, name)
        try:
            listing = linux.open(name, LISTING, dir_fd=level.listing)
        except OSError as error:
            return _unreadable(path, error)
        return self._push(listing, path, "")

    def _follow(self, level: _Level, path: str, name: str) -> Skipped | None:
        """Enter a folder, or a link to one, unless the walk is already in it."""
        assert self._links is not None and level.real is not None
        try:
            real = self._links.real(path)
            is_link = real != (f"{level.real}/{name}" if level.real else name)
            if any(each.real == real for each in self._levels):
                raise NotFollowed(CIRCLE, path)
            if level.depth + is_link > MOST_FOLDERS:
                raise NotFollowed(DEEP, path)
            listing = self._folder.tree.listing(real)
        except NotFollowed as error:
            return skipped(path, error)
        except OSError as error:
            return _unreadable(path, error)
        return self._push(listing, path, "", real=real, depth=level.depth + is_link)

    def _push(
        self, listing: int, path: str, starting: str, *, real: str | None = None, depth: int = 0
    ) -> Skipped | None:
        rules = self._rules.inside(path) if self._rules else None
        if rules and rules.failure:
            linux.close(listing)
            return Skipped(path, rules.failure, subtree=True, failed=True)
        wanted, links = _wanted(path, starting), self._links
        prefix = f"{path}/" if path else ""

        def leads_to_folder(name: str) -> bool:
            return links is not None and links.leads_to_folder(prefix + name)

        try:
            entries = in_path_order(listing, wanted, leads_to_folder if links else None)
        except OSError as error:
            linux.close(listing)
            if not path:
                raise RootError(f"{self._folder.path}: {error.strerror}.") from error
            return _unreadable(path, error)
        behind = self._rules.inside(real) if self._rules and real not in (None, path) else None
        counter = self._rules.counter if self._rules else IgnoredCounter()
        level = _Level(listing, prefix, entries, rules, counter, real, links, behind, depth)
        self._levels.append(level)
        return None

    def _close(self) -> None:
        for level in self._levels:
            linux.close(level.listing)


def _wanted(path: str, starting: str) -> Callable[[str], bool] | None:
    """Return a function that tests whether a name directly in a folder is wanted; `None` if all are."""
    if not path:
        return lambda name: name != OWN_FOLDER and name.startswith(starting)
    return (lambda name: name.startswith(starting)) if starting else None


def _files(level: _Level) -> Generator[LocalFile | Skipped, None, str | None]:
    """Yield the files in a folder up to the next folder in it; return its name, or `None` at the end.

    The loop runs once for every file, so the usual case makes no calls except the stat.
    """
    _, prefix, entries, rules, counter, _, links, behind, _ = level
    suspects, ignores = (rules.suspects, rules.ignores) if rules else (_never, _never)
    new = tuple.__new__  # Half the cost of LocalFile(...).
    safe = len(prefix) <= _SAFE_LENGTH and behind is None
    for key, entry in entries:
        if suspects(key) and ignores(key):
            counter.count += 1
            continue
        name = key.removesuffix("/")
        is_folder = name is not key
        path = prefix + name
        if name != entry.name:
            yield Skipped(path, "the name is not valid UTF-8", subtree=is_folder)
        elif not safe and (reason := malformed(path) or _ignored_behind_link(key, behind)):
            yield Skipped(path, reason, subtree=is_folder, by_design=reason is TARGET_IGNORED)
        elif is_folder:
            if name == OWN_FOLDER and rules:
                continue  # Even if a pattern such as `!.craftsync/` includes it.
            return name
        else:
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError as error:
                yield _unreadable(path, error)
                continue
            if not S_ISREG(status.st_mode):
                yield _no_file(path, status.st_mode, links)
                continue
            mtime_ns, ctime_ns, inode = status.st_mtime_ns, status.st_ctime_ns, status.st_ino
            if 0 <= mtime_ns < LIMIT and 0 <= ctime_ns < LIMIT and inode < LIMIT:
                yield new(LocalFile, (path, status.st_size, mtime_ns, ctime_ns, inode))
            else:
                yield local_file(path, status)
    return None


def _ignored_behind_link(key: str, behind: FolderRules | None) -> str | None:
    """Return why a name behind a link takes no part by the rules of the target folder, or `None`."""
    return TARGET_IGNORED if behind is not None and behind.ignores(key) else None


def _never(_key: str) -> bool:
    return False


def _no_file(path: str, mode: int, links: Links | None) -> LocalFile | Skipped:
    """Return the entry for anything but a regular file or a folder."""
    if links is not None and S_ISLNK(mode):
        return links.met(path)
    if S_ISDIR(mode):
        return Skipped(path, VANISHED, subtree=True)
    # Paths behind the link are unknown, so none of them counts as deleted.
    return Skipped(path, kind_of(mode), subtree=True, by_design=True)


def _unreadable(path: str, error: OSError) -> Skipped:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Skipped(path, VANISHED, subtree=True)
    return Skipped(path, error.strerror or str(error), subtree=True, failed=True)


def look(
    folder: Folder, rules: IgnoreRules | None, paths: Iterable[str]
) -> Iterator[LocalFile | Skipped]:
    """Yield what a scan would yield at these paths and, for folders, everything below them.

    A missing or ignored path yields nothing. All paths get a stat before the first entry is
    yielded.
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
    """Return the sort key and the entry at a path (`None` for a folder), or `None` if it is missing or ignored."""
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
    if isinstance(folder.tree, FollowingTree):
        return path, _met_behind(folder.tree, rules, file)
    return path, file


def _met_behind(
    tree: FollowingTree, rules: IgnoreRules | None, file: LocalFile
) -> LocalFile | Skipped:
    """Return a file that may lie behind a link, or `Skipped` if its target takes no part."""
    try:
        Links(tree, rules).real(file.path)
    except OSError as error:
        return skipped(file.path, error)
    return file


def _met_refused(path: str, error: PathRefused) -> tuple[str, Skipped]:
    """Return a link or special file as a scan does: at its own path, even if `path` lies below it."""
    cause = error.__cause__
    at = str(cause.filename) if isinstance(cause, LinkInTheWay) else printable(path)
    by_design = isinstance(error, PathLeftOut)
    return at, Skipped(at, str(error), subtree=True, by_design=by_design)


_BATCH = 2000
_LENGTH = 8
"""Bytes of the length before each batch."""


def scan_aside(
    folder: Folder,
    *,
    include: Iterable[str],
    exclude: Iterable[str],
    counter: IgnoredCounter | None = None,
) -> Iterator[LocalFile | Skipped]:
    """Scan in a child process: yield as `scan` does with these rules, and count what they leave out.

    Raises `RootError` if anything ends the scan early, in either process: then no absence is
    proved.
    """
    import subprocess  # Imported only for large folders.

    descriptor = folder.tree.descriptor
    asked = marshal.dumps((folder.path, descriptor, tuple(include), tuple(exclude), folder.follows))
    child = subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=(descriptor,),
        # The parent process handles Ctrl-C, and ends the child.
        start_new_session=True,
    )
    assert child.stdin is not None and child.stdout is not None
    try:
        with suppress(BrokenPipeError), child.stdin as pipe:
            pipe.write(asked)
        ignored = yield from _received(child.stdout, folder.path)
        if counter is not None:
            counter.count += ignored
    finally:
        child.kill()
        child.stdout.close()
        child.wait()


def _received(pipe: IO[bytes], root: str) -> Generator[LocalFile | Skipped, None, int]:
    """Yield the entries; return how many the rules left out."""
    new = tuple.__new__
    while not isinstance(batch := _next_batch(pipe, root), int):
        for entry in batch:
            # The second field is the size of a file, or the reason of a `Skipped`.
            yield new(LocalFile, entry) if entry[1].__class__ is int else Skipped(*entry)
    return batch


def _next_batch(pipe: IO[bytes], root: str) -> list[Any] | int:
    try:
        # From the pipe itself, marshal would read value by value, which costs more than all the rest.
        length = int.from_bytes(pipe.read(_LENGTH), "little")
        batch: list[Any] | str | int = marshal.loads(pipe.read(length))
    except (EOFError, ValueError, TypeError) as error:
        raise RootError(f"The scan of {root} ended early.", remedy="Run it again.") from error
    if isinstance(batch, str):
        raise RootError(batch)
    return batch


def _serve(asked: IO[bytes], answer: IO[bytes]) -> None:
    """In the child process: scan, and send the entries."""
    path, descriptor, include, exclude, follows = marshal.load(asked)
    with Folder(path, descriptor) as folder:
        if follows:
            folder.follow_links()
        rules = IgnoreRules(folder, include=include, exclude=exclude)
        try:
            entries = scan(folder, rules)
            while batch := [tuple(entry) for entry in islice(entries, _BATCH)]:
                _send(batch, answer)
            _send(rules.counter.count, answer)
        except (CraftsyncError, OSError) as error:
            _send(str(error), answer)
    answer.flush()


def _send(batch: list[Any] | str | int, answer: IO[bytes]) -> None:
    content = marshal.dumps(batch)
    answer.write(len(content).to_bytes(_LENGTH, "little"))
    answer.write(content)


def worth_it(files: int) -> bool:
    """Return whether a child process pays off for this many files. It costs a tenth of a second."""
    return files >= 50_000 and len(os.sched_getaffinity(0)) > 1


if __name__ == "__main__":
    import gc

    # A service manager sends SIGTERM to all processes of a service. The parent handles it; to the
    # parent, a scan that ends early would look like an unreadable folder.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    gc.disable()
    _serve(sys.stdin.buffer, sys.stdout.buffer)
