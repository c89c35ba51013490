"""Reads the kernel's queue of file events and says what they mean for the root.

The one file that knows watchdog, of which it takes the descriptor, its reading
thread and the kernel's vocabulary. What watchdog 7.1 builds on top is left
out: on an overflow its emitter removes and adds every watch, which overflows
the queue again; it swallows refused watches, keeps those of folders that have
left, dies of a folder that does, and queues without a bound. The names used
here are private ones, which is why the version is pinned.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Lock
from typing import NamedTuple

from watchdog.observers.inotify_c import InotifyConstants as In
from watchdog.observers.inotify_c import InotifyFD, Mask, inotify_add_watch, inotify_rm_watch

from craftsync.core.model import OWN_FOLDER
from craftsync.core.paths import malformed
from craftsync.local.tree import Tree
from craftsync.local.watching.dirty import DirtyPaths
from craftsync.local.watching.folders import Node, WatchedFolders

CANARY = "canary"
"""The file in craftsync's own folder whose events show that the watching lives."""

_CHANGES = (
    In.IN_CREATE
    | In.IN_MODIFY
    | In.IN_CLOSE_WRITE
    | In.IN_ATTRIB  # A file may become readable.
    | In.IN_MOVE
    | In.IN_DELETE
    | In.IN_ONLYDIR
    | In.IN_EXCL_UNLINK
)
"""What can change content. Opening and reading is not among it, or hashing would wake us for ever."""
_ROOT_LEAVES = In.IN_MOVE_SELF | In.IN_DELETE_SELF
_ENDS = In.IN_IGNORED | In.IN_UNMOUNT | _ROOT_LEAVES
_READ_BYTES = 1 << 17
_LIMBO_SECONDS = 1.0
"""The two halves of a rename arrive together; one that is alone for longer stays alone."""

_MOST_DEPARTURES = 10_000


class _Departure(NamedTuple):
    """The first half of a rename; `node` is the folder's, if it is a watched one."""

    path: str
    node: Node | None
    at: float


class Inotify(InotifyFD):
    """One kernel queue over one root, and the thread that reads it.

    Make it, `start` it, `cover` the root; then `stop` and `join` it. The plain
    attributes are read by others and set here.
    """

    def __init__(self, tree: Tree, dirty: DirtyPaths, monotonic: Callable[[], float]) -> None:
        """Raises `OSError` when the kernel allows no more queues."""
        super().__init__()
        # Or one that is never started could not be closed.
        self._is_reading = False
        self._tree = tree
        self._dirty = dirty
        self._monotonic = monotonic
        self._folders = WatchedFolders()
        self._guard = Lock()
        self._departures: dict[int, _Departure] = {}
        self._astray = False
        self._own_watch = -1
        self.handled = 0
        self.canaries = 0
        self.overflowed = False
        """Events were lost, and new folders with them: `cover` is to be called."""
        self.exhausted = False
        """The kernel allows no more watches: some folders have none."""
        self.root_left = False
        self.failure: str | None = None
        """Why the reading thread has ended."""

    @classmethod
    def _create_inotify_fd(cls) -> int:
        descriptor = super()._create_inotify_fd()
        os.set_inheritable(descriptor, False)
        return descriptor

    def __len__(self) -> int:
        """Return how many folders are watched."""
        return len(self._folders)

    def run(self) -> None:
        """Read and handle events until stopped; whatever goes wrong is kept in `failure`."""
        try:
            while self.should_keep_running():
                for event in self._parse_event_buffer(self._read_event_buffer(_READ_BYTES)):
                    self._handle(*event)
        except Exception as error:  # noqa: BLE001 (a thread that died in silence would be worse)
            if self.should_keep_running():
                self.failure = f"{type(error).__name__}: {error}"
                self._dirty.everything()

    def cover(self, path: str = "") -> None:
        """Watch the folder at `path` and all below it; "" is the root.

        Watches that are there already stay, and what has moved is put into its
        place. Each folder is watched before it is listed, so that nothing is
        missed between. May be called while events are read.
        """
        if not path:
            self.overflowed = self.exhausted = False
            self._astray = True
            self._watch_own_folder()
        waiting = [path]
        while waiting and not self.exhausted:
            waiting.extend(self._cover_one(waiting.pop()))

    @property
    def hears_canary(self) -> bool:
        return self._own_watch >= 0

    def drop_lost(self) -> None:
        """Stop watching folders that have left the root; called now and then."""
        latest = self._monotonic() - _LIMBO_SECONDS
        with self._guard:
            for cookie, departure in list(self._departures.items()):
                if departure.at <= latest:
                    del self._departures[cookie]
            if not self._astray or any(found.node for found in self._departures.values()):
                return
            self._astray = False
            for watch in self._folders.lost():
                inotify_rm_watch(self._inotify_fd, watch)  # type: ignore[arg-type]
                self._folders.forget(watch)

    def _watch_own_folder(self) -> None:
        with suppress(OSError), self._tree.directory(OWN_FOLDER) as descriptor, self._guard:
            self._own_watch = self._add(descriptor, In.IN_ATTRIB | In.IN_ONLYDIR)

    def _cover_one(self, path: str) -> list[str]:
        """Watch one folder and return the folders in it; what vanished or cannot be read has none."""
        try:
            listing = self._tree.listing(path)
        except OSError:
            return []
        try:
            with self._guard:
                if not self._is_at(listing, path):
                    return []
                watch = self._add(listing, _CHANGES if path else _CHANGES | _ROOT_LEAVES)
                if watch < 0:
                    return []
                self._folders.place(watch, path)
            return list(_folders_in(listing, path))
        finally:
            os.close(listing)

    def _is_at(self, listing: int, path: str) -> bool:
        """Tell whether an open folder is still there; a rename from now on will be handled later."""
        if not path:
            return True
        with suppress(OSError):
            return os.path.samestat(self._tree.status(path), os.fstat(listing))
        return False

    def _add(self, descriptor: int, mask: int) -> int:
        """Return the number of the watch on an open folder, negative when there is none."""
        place = f"/proc/self/fd/{descriptor}".encode()
        watch = inotify_add_watch(self._inotify_fd, place, Mask(mask))
        if watch < 0 and ctypes.get_errno() == errno.ENOSPC:
            self.exhausted = True
        return watch

    def _handle(self, watch: int, mask: int, cookie: int, name: bytes) -> None:
        self.handled += 1
        if mask & In.IN_Q_OVERFLOW:
            self.overflowed = True
            self._dirty.everything()
            return
        with self._guard:
            came = self._apply(watch, mask, cookie, name)
        if came is not None:
            # It is watched first: what comes into it from now on is told.
            self.cover(came)
            self._dirty.change(came)

    def _apply(self, watch: int, mask: int, cookie: int, name: bytes) -> str | None:
        """Take one event into account, and return the folder that came with it and is to be covered."""
        if watch == self._own_watch:
            self.canaries += name == CANARY.encode()
            return None
        node = self._folders.get(watch)
        if node is None:
            return None
        if mask & _ENDS:
            self._apply_end(node, mask)
            return None
        path = self._path_of(node, name)
        if path is None:
            return None
        if mask & In.IN_MOVE:
            return self._apply_move(node, path, mask, cookie)
        if mask & In.IN_DELETE:
            self._dirty.delete(path)
        elif mask & In.IN_ISDIR:
            return path
        else:
            self._dirty.change(path)
        return None

    def _apply_end(self, node: Node, mask: int) -> None:
        """A watch has ended: its folder was removed or unmounted, or it is the root that has left."""
        is_root = self._folders.path_of(node) == ""
        if mask & In.IN_IGNORED:
            self._folders.forget(node.watch)
        if is_root:
            self.root_left = True
        if is_root or mask & In.IN_UNMOUNT:
            self._dirty.everything()

    def _path_of(self, node: Node, name: bytes) -> str | None:
        """Return the path of an entry of a folder; `None` for one that can take no part."""
        above = self._folders.path_of(node)
        try:
            text = name.decode()
        except UnicodeDecodeError:
            return None
        if above is None or not text:
            return None
        path = f"{above}/{text}" if above else text
        return None if path == OWN_FOLDER else path

    def _apply_move(self, node: Node, path: str, mask: int, cookie: int) -> str | None:
        name = path.rpartition("/")[2]
        if mask & In.IN_MOVED_FROM:
            inner = self._folders.detach(node, name)
            self._astray |= inner is not None
            if len(self._departures) >= _MOST_DEPARTURES:
                self._departures.clear()
            self._departures[cookie] = _Departure(path, inner, self._monotonic())
            self._dirty.depart(path)
            return None
        departure = self._departures.pop(cookie, None)
        if departure is not None:
            self._dirty.move(departure.path, path)
            if departure.node is not None:
                self._folders.attach(departure.node, node, name)
                return None
        elif not mask & In.IN_ISDIR:
            self._dirty.change(path)
        return path if mask & In.IN_ISDIR else None


def _folders_in(listing: int, path: str) -> Iterator[str]:
    """Yield the folders in an open one, without craftsync's own and those whose name is no text."""
    with suppress(OSError), os.scandir(listing) as entries:
        for entry in entries:
            inner = f"{path}/{entry.name}" if path else entry.name
            part = inner != OWN_FOLDER and malformed(inner) is None
            if part and entry.is_dir(follow_symlinks=False):
                yield inner
