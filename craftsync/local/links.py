"""Follows symbolic links (`push --links follow`): for reading only, and only to targets in the folder.

Links are resolved name by name from the folder's descriptor. Then the target is opened by its real
path, without following any link. So a link that another program changes in between leads at worst
to another file of the folder, which is noticed, and never out of the folder. Writes never follow
links.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Protocol

from craftsync.core.model import LocalFile, Skipped
from craftsync.core.paths import folders_above, is_own
from craftsync.local import linux
from craftsync.local.files import kind_of, local_file
from craftsync.local.tree import LinkInTheWay, Tree

_MOST_HOPS = 40
"""The most links followed for one path, as in Linux."""
MOST_FOLDERS = 3
"""The most nested links to folders. Folders that link to each other would be scanned in every order."""

OUTSIDE = "a symbolic link that leads out of the folder"
CIRCLE = "a symbolic link to a folder that it lies in"
NOWHERE = "a symbolic link that leads nowhere"
TARGET_IGNORED = "a symbolic link to what takes no part itself"
DEEP = f"more than {MOST_FOLDERS} symbolic links to folders, one in the other"


class NotFollowed(OSError):
    """A link that is not followed. `reason` is text for a message."""

    def __init__(self, reason: str, place: str) -> None:
        super().__init__(errno.ELOOP, reason, place)
        self.reason = reason


class FollowingTree(Tree):
    """A tree that follows links when it reads, and never when it writes, creates or removes."""

    def __init__(self, descriptor: int, root: str) -> None:
        """`root` is the folder's path, to recognise absolute links into it."""
        super().__init__(descriptor)
        self._root = root

    def open(self, path: str, flags: int) -> int:
        try:
            return super().open(path, flags)
        except OSError as error:
            if not _may_be_a_link(error):
                raise
        return super().open(self.real(path), flags)

    def status(self, path: str) -> os.stat_result:
        """Stat the target of a path, or the link itself if it is not followed."""
        try:
            found = super().status(path)
        except OSError as error:
            if not _may_be_a_link(error):
                raise
            try:
                real = self.real(path)
            except NotFollowed:
                raise error from None
            return super().status(real)
        if not stat.S_ISLNK(found.st_mode):
            return found
        try:
            return super().status(self.real(path))
        except OSError:
            return found

    def listing(self, path: str) -> int:
        return super().listing(self.real(path) if path else "")

    def real(self, path: str) -> str:
        """Return the real path in the folder, without links. Raises `NotFollowed`.

        The path need not exist, but the target of each link in it must.
        """
        walked, hops = "", [_MOST_HOPS]
        for name in path.split("/"):
            walked = self._resolve(walked, name, hops)
        return walked

    def _resolve(self, folder: str, name: str, hops: list[int]) -> str:
        """Return the real path of a name in a real folder. `hops` is how many links may still be followed."""
        place = f"{folder}/{name}" if folder else name
        target = self._target(place)
        if target is None:
            return place
        if not hops[0]:
            raise NotFollowed(NOWHERE, place)
        hops[0] -= 1
        if target.startswith("/"):
            folder, target = "", self._inside(target, place)
        for each in target.split("/"):
            if each == ".." and not folder:
                raise NotFollowed(OUTSIDE, place)
            if each == "..":
                folder = folder.rpartition("/")[0]
            elif each not in ("", "."):
                folder = self._resolve(folder, each, hops)
        if folder:
            self._ensure_exists(folder, place)
        return folder

    def _target(self, place: str) -> str | None:
        """Return the target of a link, or `None` if this is not a link."""
        try:
            if not stat.S_ISLNK(super().status(place).st_mode):
                return None
            with self.parent(place) as (folder, name):
                return linux.readlink(name, dir_fd=folder)
        except OSError:
            return None  # The caller's own stat reports the error.

    def _ensure_exists(self, end: str, link: str) -> None:
        """Raise `NotFollowed` if the target of a link does not exist: that is no proof that it was deleted."""
        try:
            super().status(end)
        except OSError as error:
            raise NotFollowed(NOWHERE, link) from error

    def _inside(self, target: str, place: str) -> str:
        """Return an absolute target relative to the folder."""
        if target == self._root or target.startswith(f"{self._root}/"):
            return target[len(self._root) :]
        raise NotFollowed(OUTSIDE, place)


def _may_be_a_link(error: OSError) -> bool:
    return isinstance(error, LinkInTheWay) or error.errno in (errno.ELOOP, errno.ENOTDIR)


class _Ignores(Protocol):
    """The method of `ignore.IgnoreRules` that is used here."""

    def ignored(self, path: str, *, is_folder: bool = False) -> bool: ...


class Links:
    """Resolves links for a scan, to targets that are synced themselves."""

    def __init__(self, tree: FollowingTree, rules: _Ignores | None) -> None:
        self._tree = tree
        self._rules = rules

    def real(self, path: str) -> str:
        """Return the real path. Raises `NotFollowed`, also for a target that is not synced itself."""
        real = self._tree.real(path)
        if real != path and (is_own(real) or self._is_ignored(real)):
            raise NotFollowed(TARGET_IGNORED, path)
        return real

    def entered(self, path: str) -> str:
        """Return the real path of a folder. Raises `NotFollowed` for a link to a folder above it."""
        if not path:
            return ""
        real = self.real(path)
        if real in ("", *map(self._tree.real, folders_above(path))):
            raise NotFollowed(CIRCLE, path)
        return real

    def _is_ignored(self, real: str) -> bool:
        if self._rules is None or not real:
            return False
        is_folder = stat.S_ISDIR(self._tree.status(real).st_mode)
        return self._rules.ignored(real, is_folder=is_folder)

    def leads_to_folder(self, path: str) -> bool:
        try:
            return stat.S_ISDIR(self._tree.status(path).st_mode)
        except OSError:
            return False

    def met(self, path: str) -> LocalFile | Skipped:
        """Return the file that a link leads to, or `Skipped`."""
        try:
            status = self._tree.status(self.real(path))
        except OSError as error:
            return skipped(path, error)
        if stat.S_ISREG(status.st_mode):
            return local_file(path, status)
        return Skipped(path, kind_of(status.st_mode), subtree=True, by_design=True)


def skipped(path: str, error: OSError) -> Skipped:
    """Return the `Skipped` entry for a link that is not followed."""
    reason = error.reason if isinstance(error, NotFollowed) else NOWHERE
    return Skipped(path, reason, subtree=True, by_design=True)
