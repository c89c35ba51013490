"""`Inotify`: reads the kernel's file events of a folder into a queue.

It is an emitter for watchdog's public API, with the system calls declared here. watchdog's own
inotify emitter is not used: on an overflow it removes and adds every watch, which overflows the
queue again; it hides refused watches; it keeps the watches of folders that were moved out, and
crashes at such a move; and its queue has no bound.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from threading import Lock
from typing import cast

from watchdog.events import FileDeletedEvent, FileModifiedEvent, FileMovedEvent
from watchdog.observers.api import EventEmitter, EventQueue, ObservedWatch

from craftsync.core.model import OWN_FOLDER
from craftsync.core.paths import malformed
from craftsync.local.tree import Tree
from craftsync.local.watch.dirty import DirtyPaths

CANARY = "canary"
"""A file in craftsync's own folder, touched to check that events arrive."""

# linux/inotify.h
_MODIFY, _ATTRIB, _CLOSE_WRITE, _MOVED_FROM, _MOVED_TO = 0x2, 0x4, 0x8, 0x40, 0x80
_CREATE, _DELETE, _DELETE_SELF, _MOVE_SELF = 0x100, 0x200, 0x400, 0x800
_UNMOUNT, _Q_OVERFLOW, _IGNORED = 0x2000, 0x4000, 0x8000
_ONLYDIR, _EXCL_UNLINK, _ISDIR = 0x0100_0000, 0x0400_0000, 0x4000_0000

# Changes to content or permissions. Not opens and reads: our own hashing would wake us forever.
_CHANGES = _CREATE | _MODIFY | _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _DELETE | _ATTRIB
_CHANGES |= _ONLYDIR | _EXCL_UNLINK
_ROOT_LEAVES = _MOVE_SELF | _DELETE_SELF
_ENDS = _IGNORED | _UNMOUNT | _ROOT_LEAVES
_HEADER = struct.Struct("iIII")  # struct inotify_event: watch, mask, cookie, length of the name
_READ_BYTES = 1 << 17

_libc = ctypes.CDLL(None, use_errno=True)


class Inotify(EventEmitter):
    """The inotify queue of one folder, and the thread that reads it.

    Call `start`, then `cover`, and `close` at the end.
    """

    def __init__(self, tree: Tree, dirty: DirtyPaths, root: str) -> None:
        """`root` is the path of the tree. Raises `OSError` if the kernel allows no more queues."""
        # DirtyPaths has EventQueue's put, but holds each path once, so it is bounded.
        super().__init__(cast("EventQueue", dirty), ObservedWatch(root, recursive=True))
        self._tree = tree
        self._dirty = dirty
        self._wake = os.eventfd(0)
        self._kernel: int = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._kernel < 0:
            os.close(self._wake)
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self._poll = select.poll()
        self._poll.register(self._kernel, select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)
        self._guard = Lock()
        self._paths: dict[int, str] = {}
        """The watched folders, by watch."""
        self._lost: set[int] = set()
        """Watches of folders that were moved away and are not found again yet."""
        self._unseen: set[int] = set()
        """Watches of folders that the current `cover` of the whole tree has not found yet."""
        self._own_watch = -1
        self.handled = 0
        self.canaries = 0
        self.exhausted = False
        """Whether the kernel's limit of watches is reached, so that some folders have none."""
        self.was_moved = False
        self.failure: str | None = None
        """Why the reading thread has ended."""

    def __len__(self) -> int:
        """Return the number of watched folders."""
        return len(self._paths)

    def on_thread_stop(self) -> None:
        if self._kernel >= 0:
            os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Stop the thread and remove all watches. May be called twice."""
        self.stop()
        if self.ident is not None:
            self.join()
        if self._kernel >= 0:
            os.close(self._kernel)
            os.close(self._wake)
        self._kernel = self._wake = -1

    def run(self) -> None:
        """Handle events until stopped. An error ends this and is kept in `failure`."""
        try:
            super().run()
        except Exception as error:  # noqa: BLE001 (`Supervisor` reports it)
            self.failure = f"{type(error).__name__}: {error}"
            self._dirty.everything()

    def queue_events(self, timeout: float) -> None:
        """Wait for events, without a time limit, and queue them."""
        self._poll.poll()
        try:
            block = os.read(self._kernel, _READ_BYTES)
        except BlockingIOError:
            return
        for watch, mask, name in _events(block):
            self._handle(watch, mask, name)

    def cover(self, path: str = "") -> None:
        """Watch the folder at `path` ("" is the whole tree) and all folders below it.

        Existing watches stay, and follow folders that were moved. A folder is watched before it is
        listed, so that no change in between is missed. May be called while events are read.
        """
        if not path:
            with self._guard:
                self.exhausted = False
                self._unseen = set(self._paths)
            self._watch_own_folder()
        waiting, complete = [path], True
        while waiting and not self.exhausted and self.should_keep_running():
            inner = self._cover_one(waiting.pop())
            waiting += inner or ()
            complete = complete and inner is not None
        if not path and complete and not waiting:
            with self._guard:
                self._lose(self._unseen & self._paths.keys())

    @property
    def watches_canary(self) -> bool:
        return self._own_watch >= 0

    def drop_lost(self) -> None:
        """Remove the watches of folders that were moved out. Called from time to time."""
        with self._guard:
            for watch in self._lost:
                _libc.inotify_rm_watch(self._kernel, watch)
            self._lost.clear()

    def _watch_own_folder(self) -> None:
        with suppress(OSError), self._tree.directory(OWN_FOLDER) as descriptor, self._guard:
            self._own_watch = self._add(descriptor, _ATTRIB | _ONLYDIR)

    def _cover_one(self, path: str) -> list[str] | None:
        """Watch one folder and return the folders in it; `None` if it cannot be watched."""
        try:
            listing = self._tree.listing(path)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError:
            return None
        try:
            with self._guard:
                if not self._is_at(listing, path):
                    return []
                watch = self._add(listing, _CHANGES if path else _CHANGES | _ROOT_LEAVES)
                if watch < 0:
                    return None
                self._paths[watch] = path
                self._lost.discard(watch)
                self._unseen.discard(watch)
            return list(_folders_in(listing, path))
        except OSError:
            return None
        finally:
            os.close(listing)

    def _is_at(self, listing: int, path: str) -> bool:
        """Return whether an open folder is still at `path`. A later rename causes an event."""
        if not path:
            return True
        with suppress(OSError):
            return os.path.samestat(self._tree.status(path), os.fstat(listing))
        return False

    def _add(self, descriptor: int, mask: int) -> int:
        """Watch an open folder; return the number of the watch, negative on failure."""
        place = f"/proc/self/fd/{descriptor}".encode()
        watch: int = _libc.inotify_add_watch(self._kernel, place, mask)
        if watch < 0 and ctypes.get_errno() == errno.ENOSPC:
            self.exhausted = True
        return watch

    def _handle(self, watch: int, mask: int, name: bytes) -> None:
        self.handled += 1
        folder = self._paths.get(watch)
        if mask & _Q_OVERFLOW:
            self._dirty.everything()
        elif watch == self._own_watch:
            self.canaries += name == CANARY.encode()
        elif folder is None:
            pass  # The folder was moved out, or its watch removed.
        elif mask & _ENDS:
            self._end(watch, folder, mask)
        elif (path := _path_in(folder, name)) is not None:
            self._take(path, mask)

    def _end(self, watch: int, folder: str, mask: int) -> None:
        """Handle the end of a watch: the folder was removed or unmounted, or the tree itself was moved."""
        if mask & _IGNORED:
            with self._guard:
                self._paths.pop(watch, None)
        self.was_moved = self.was_moved or not folder
        if not folder or mask & _UNMOUNT:
            self._dirty.everything()

    def _take(self, path: str, mask: int) -> None:
        """Queue an event for a path. The path of a folder includes everything below it."""
        if mask & _MOVED_FROM:
            if mask & _ISDIR:
                self._leave(path)
            self.queue_event(FileMovedEvent(path, ""))
        elif mask & _DELETE:
            self.queue_event(FileDeletedEvent(path))
        else:
            if mask & _ISDIR:
                # Watch it before queueing, so that no later change in it is missed.
                self.cover(path)
            self.queue_event(FileModifiedEvent(path))

    def _leave(self, path: str) -> None:
        """Mark the watches of a moved folder, and of folders in it, as lost until `cover` finds them again."""
        below = f"{path}/"
        with self._guard:
            places = self._paths.items()
            self._lose(
                [watch for watch, place in places if place == path or place.startswith(below)]
            )

    def _lose(self, watches: Iterable[int]) -> None:
        for watch in watches:
            del self._paths[watch]
            self._lost.add(watch)


def _events(block: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield (watch, mask, name) for each event in a block read from the kernel."""
    at = 0
    while at < len(block):
        watch, mask, _, length = _HEADER.unpack_from(block, at)
        at += _HEADER.size + length
        yield watch, mask, block[at - length : at].rstrip(b"\0")


def _path_in(folder: str, name: bytes) -> str | None:
    """Return the path of an entry of a folder, or `None` if it is never synced."""
    try:
        text = name.decode()
    except UnicodeDecodeError:
        return None
    if not text or text == OWN_FOLDER:
        return None
    return f"{folder}/{text}" if folder else text


def _folders_in(listing: int, path: str) -> Iterator[str]:
    """Yield the folders in an open folder, without craftsync's own and malformed names."""
    with os.scandir(listing) as entries:
        for entry in entries:
            inner = f"{path}/{entry.name}" if path else entry.name
            part = entry.name != OWN_FOLDER and malformed(inner) is None
            if part and entry.is_dir(follow_symlinks=False):
                yield inner
