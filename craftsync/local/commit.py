"""Puts files in place, renames them, and moves them to the trash, without losing a version.

Another program may save a file between our stat and our rename. So the rename that replaces a file
also moves the old one to the trash, and only there it is compared with the expected one. An
unexpected file is put back, or becomes a conflict copy. After a crash every version is at its path
or in the trash.

Also here: `SyncGroup`, by which threads that flush at the same time share one flush.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import threading
from collections.abc import Callable, Container, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import count

from craftsync.core.conflict_names import conflict_name
from craftsync.core.model import OWN_FOLDER, LocalFile
from craftsync.errors import PathBusy, PathError, PathObstructed
from craftsync.local import exclusive_rename, linux
from craftsync.local.files import local_file
from craftsync.local.temporary import Temporary
from craftsync.local.tree import LISTING, Tree, give_owner
from craftsync.net.waiting import after_fork

TRASH = f"{OWN_FOLDER}/trash"
UNKEPT = "replaced"
"""The trash folder for replaced files that are not to be kept, until they are compared."""

_BUSY = frozenset({errno.ENOENT, errno.EBUSY, errno.ETXTBSY})
"""Errors that the next attempt may not meet."""

_ATTEMPTS = 8
"""Attempts if another process removes a new, still empty folder before the file is in it."""


def place(
    tree: Tree,
    temporary: Temporary,
    path: str,
    *,
    expect: LocalFile | None,
    trash_stamp: str | None,
) -> None:
    """Put a finished temporary file at `path`, replacing `expect`. If that is `None`, `path` must not exist."""
    if expect is not None:
        with _parent_for(tree, path) as target:
            _replace(tree, temporary, target, expect, trash_stamp)
        return
    _retry_if_folder_removed(tree, partial(_create, tree, temporary, path))


def check_place(tree: Tree, path: str, leaving: Container[str]) -> None:
    """Raise `PathObstructed` if `place` would raise it once the files at `leaving` are gone. Changes nothing."""
    try:
        status = tree.status(path)
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        if error.filename not in leaving:
            raise _in_the_way(error) from error
        return
    if stat.S_ISDIR(status.st_mode):
        try:
            with tree.parent(path) as place_of:
                _empty_folders(place_of, path, leaving=leaving)
        except NotADirectoryError as error:
            raise PathObstructed(f"{path} is behind a symbolic link, or is one.") from error


def displace(tree: Tree, path: str, *, expect: LocalFile, trash_stamp: str | None) -> None:
    """Move a file to the trash, if it exists."""
    try:
        with tree.parent(path) as place_of:
            if not _exists(place_of):
                return
            _check_expected(place_of, expect)
            _displace(tree, place_of, expect, trash_stamp)
    except (FileNotFoundError, NotADirectoryError):
        return
    tree.remove_empty_parents(path)


def move(tree: Tree, source: str, target: str, *, expect: LocalFile) -> None:
    """Rename a file within the tree. The target must not exist."""
    try:
        _retry_if_folder_removed(tree, partial(_move, tree, source, target, expect))
    except FileNotFoundError as error:
        raise PathBusy(f"{source} vanished while it was moved.") from error
    tree.remove_empty_parents(source)


_Place = tuple[int, str]
"""A name in an open folder."""

_MoveTo = Callable[[int, str], None]
"""Moves a file to a name in a folder. Raises `FileExistsError` if the name is taken."""


def _status(place_of: _Place) -> os.stat_result:
    return linux.stat(place_of[1], dir_fd=place_of[0], follow_symlinks=False)


def _exists(place_of: _Place) -> bool:
    """Return whether a file, or anything but a folder, has this name."""
    try:
        return not stat.S_ISDIR(_status(place_of).st_mode)
    except FileNotFoundError:
        return False


def _matches(status: os.stat_result, expect: LocalFile) -> bool:
    """Compare all but ctime, which the rename to the trash has changed."""
    found = local_file(expect.path, status)
    return stat.S_ISREG(status.st_mode) and found._replace(ctime_ns=expect.ctime_ns) == expect


def _check_expected(place_of: _Place, expect: LocalFile) -> os.stat_result:
    """Return the stat of a file. Raises unless it is the expected one, ctime included."""
    try:
        status = _status(place_of)
    except FileNotFoundError as error:
        raise PathBusy(f"{expect.path} vanished.") from error
    if stat.S_ISDIR(status.st_mode):
        raise PathObstructed(f"{expect.path} has become a folder.")
    if not stat.S_ISREG(status.st_mode) or local_file(expect.path, status) != expect:
        raise PathBusy(f"{expect.path} changed since it was scanned.")
    return status


def _retry_if_folder_removed(tree: Tree, act: Callable[[], None]) -> None:
    """Call `act`, which makes folders and uses them. Retry if another process removes one in between."""
    try:
        act()
    except FileNotFoundError:
        """Retried below."""
    else:
        return
    for _ in range(_ATTEMPTS - 1):
        with suppress(FileNotFoundError), tree.removing:
            act()
            return
    with tree.removing:
        act()


def _move(tree: Tree, source: str, target: str, expect: LocalFile) -> None:
    with tree.parent(source) as origin, _parent_for(tree, target) as goal:
        _check_expected(origin, expect)
        _move_to_free(partial(exclusive_rename.noreplace, *origin), goal, target)
        if not _matches(_status(goal), expect):
            _restore_name(goal, origin, source)
            raise PathBusy(f"{source} changed while it was moved.")


def _create(tree: Tree, temporary: Temporary, path: str) -> None:
    target = _open_parent_for(tree, path)
    try:
        give_owner(temporary.fileno(), linux.fstat(target[0]))
        _move_to_free(temporary.give_name, target, path)
    finally:
        tree.release(target[0])


def _open_parent_for(tree: Tree, path: str) -> _Place:
    """Open a file's folder, creating missing folders. Raises `PathObstructed` if a file is in the way."""
    try:
        return tree.open_parent(path, make=True)
    except NotADirectoryError as error:
        raise _in_the_way(error) from error


def _in_the_way(error: NotADirectoryError) -> PathObstructed:
    return PathObstructed(f"{error.filename} is in the way: it is not a folder.")


@contextmanager
def _parent_for(tree: Tree, path: str) -> Iterator[_Place]:
    place_of = _open_parent_for(tree, path)
    try:
        yield place_of
    finally:
        tree.release(place_of[0])


def _move_to_free(move_to: _MoveTo, target: _Place, path: str) -> None:
    """Move to a free name. If folders without files have it, remove them."""
    try:
        move_to(*target)
    except FileExistsError as error:
        if not stat.S_ISDIR(_status(target).st_mode):
            raise PathBusy(f"{path} has appeared since the scan.") from error
        _empty_folders(target, path, remove=True)
        move_to(*target)


def _empty_folders(
    place_of: _Place,
    path: str,
    *,
    remove: bool = False,
    leaving: Container[str] = (),
    inside: str = "",
) -> None:
    """Raise `PathObstructed` if the folder at `path` holds anything but folders and the files at `leaving`.

    With `remove`, remove each folder, the innermost first. `inside` is the current folder, below
    `path`.
    """
    parent, name = place_of
    listing = linux.open(name, LISTING, dir_fd=parent)
    try:
        with linux.scandir(listing) as entries:
            for entry in list(entries):
                inner = f"{inside}/{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    folder = (listing, entry.name)
                    _empty_folders(folder, path, remove=remove, leaving=leaving, inside=inner)
                elif path + inner not in leaving:
                    raise PathObstructed(f"{path} is a folder with files in it.")
    finally:
        linux.close(listing)
    if remove:
        linux.rmdir(name, dir_fd=parent)


def _replace(
    tree: Tree, temporary: Temporary, target: _Place, expect: LocalFile, trash_stamp: str | None
) -> None:
    replaced = _check_expected(target, expect)
    give_owner(temporary.fileno(), replaced)
    linux.fchmod(temporary.fileno(), stat.S_IMODE(replaced.st_mode) & 0o777)
    mine = linux.fstat(temporary.fileno())
    with ExitStack() as stack:
        # Put the new file into the trash slot. One swap then replaces the old file and trashes it.
        slot = _move_to_trash(stack, tree, temporary.give_name, expect.path, trash_stamp)
        try:
            exclusive_rename.exchange(*slot, *target)
        except OSError as error:
            _remove(slot)
            if error.errno not in _BUSY:
                raise
            raise PathBusy(f"{expect.path}: {error.strerror}") from error
        if not _matches(_status(slot), expect):
            _swap_back(slot, target, expect.path, mine)
            raise PathBusy(f"{expect.path} changed while it was replaced.")
        if trash_stamp is None:
            _remove(slot)


def _displace(tree: Tree, origin: _Place, expect: LocalFile, trash_stamp: str | None) -> None:
    with ExitStack() as stack:
        try:
            slot = _move_to_trash(
                stack, tree, partial(exclusive_rename.noreplace, *origin), expect.path, trash_stamp
            )
        except FileNotFoundError as error:
            if _exists(origin):
                raise PathBusy(f"{expect.path} could not be moved to the trash.") from error
            return
        if not _matches(_status(slot), expect):
            _restore_name(slot, origin, expect.path)
            raise PathBusy(f"{expect.path} changed while it was deleted.")
        if trash_stamp is None:
            _remove(slot)


def _move_to_trash(
    stack: ExitStack, tree: Tree, move_to: _MoveTo, path: str, trash_stamp: str | None
) -> _Place:
    """Move a file to a free slot for `path` in the trash; `stack` closes the slot's folder."""
    for number in count(1):
        stamp = trash_stamp if number == 1 else f"{trash_stamp}-{number}"
        slot_path = f"{stamp}/{path}" if trash_stamp else f"{UNKEPT}/{secrets.token_hex(8)}"
        with ExitStack() as attempt:
            try:
                slot = attempt.enter_context(tree.parent(f"{TRASH}/{slot_path}", make=True))
                move_to(*slot)
            except FileExistsError:
                continue
            except NotADirectoryError:
                if trash_stamp is None or not _is_folder(tree, TRASH):
                    raise _no_trash(path) from None
                continue
            stack.push(attempt.pop_all())
            return slot
    raise AssertionError  # count() does not end


def _is_folder(tree: Tree, path: str) -> bool:
    try:
        with tree.directory(path):
            return True
    except NotADirectoryError:
        return False


def _no_trash(path: str) -> PathError:
    return PathError(
        f"Cannot replace {path}: {TRASH} is not a folder.",
        remedy=f"Put a folder in the place of {TRASH}; a link to one is not followed.",
    )


def _swap_back(slot: _Place, target: _Place, path: str, mine: os.stat_result) -> None:
    """Undo a swap that replaced an unexpected file. `mine` is the new file, which must come back."""
    try:
        exclusive_rename.exchange(*slot, *target)
    except FileNotFoundError:
        _restore_name(slot, target, path)
        return
    returned = _status(slot)
    if _same_content(returned, mine):
        _remove(slot)
    else:
        _make_conflict_copy(slot, target, returned)


def _same_content(status: os.stat_result, other: os.stat_result) -> bool:
    return (status.st_ino, status.st_size, status.st_mtime_ns) == (
        other.st_ino,
        other.st_size,
        other.st_mtime_ns,
    )


def _restore_name(slot: _Place, target: _Place, path: str) -> None:
    """Give a file its name back, or make it a conflict copy if the name is taken now."""
    try:
        exclusive_rename.noreplace(*slot, *target)
    except FileExistsError:
        _make_conflict_copy(slot, target, _status(slot))


def _make_conflict_copy(slot: _Place, target: _Place, status: os.stat_result) -> None:
    """Rename a file to a free conflict copy name."""
    for number in count(1):
        label = "local" if number == 1 else f"local-{number}"
        try:
            exclusive_rename.noreplace(
                *slot, target[0], conflict_name(target[1], status.st_mtime_ns, label)
            )
        except FileExistsError:
            continue
        return


def _remove(place_of: _Place) -> None:
    linux.unlink(place_of[1], dir_fd=place_of[0])


class _Flush:
    """One flush, for all callers that joined before it began."""

    def __init__(self) -> None:
        self.done = False
        self.error: OSError | None = OSError(errno.EIO, "the flush was interrupted")


class SyncGroup:
    """Group commit: callers that arrive during a flush share the next one."""

    def __init__(self, flush: Callable[[], None]) -> None:
        """`flush` makes all earlier writes durable. It may raise `OSError`."""
        self._flush = flush
        self._start()
        after_fork(self, SyncGroup._start)

    def _start(self) -> None:
        self._condition = threading.Condition()
        self._running = False
        self._next = _Flush()

    def sync(self) -> None:
        """Return after a flush that began after this call. Raises the flush's `OSError`."""
        with self._condition:
            mine = self._next
            while not mine.done:
                if self._running:
                    self._condition.wait()
                else:
                    self._lead(mine)
        if mine.error is not None:
            raise OSError(mine.error.errno, os.strerror(mine.error.errno or errno.EIO))

    def _lead(self, mine: _Flush) -> None:
        """Flush with the condition released, so that others can join the next flush."""
        self._running, self._next = True, _Flush()
        self._condition.release()
        try:
            self._flush()
            mine.error = None
        except OSError as error:
            mine.error = error
        finally:
            self._condition.acquire()
            mine.done, self._running = True, False
            self._condition.notify_all()
