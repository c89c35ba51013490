"""Symbolic links that are followed: only to files and folders in the same folder, and only to be read.

Where a link leads is found name by name, from the folder's own descriptor; what
is then opened is opened by its real path, through no link. So a link that is
changed meanwhile leads to another file of the folder at worst, which is noticed,
and never out of it. A path that is written is never followed.
"""

from __future__ import annotations

import errno
import os
import stat

from craftsync.local import linux
from craftsync.local.tree import LinkInTheWay, Tree

_MOST_HOPS = 40
"""Links on the way of one path, as many as Linux follows."""
MOST_FOLDERS = 3
"""Links to folders, each in the last: folders that link to each other would be met in every order."""

OUTSIDE = "a symbolic link that leads out of the folder"
CIRCLE = "a symbolic link to a folder that it lies in"
NOWHERE = "a symbolic link that leads nowhere"
LEFT_OUT = "a symbolic link to what takes no part itself"
DEEP = f"more than {MOST_FOLDERS} symbolic links to folders, one in the other"


class NotFollowed(OSError):
    """A link that is not followed; `reason` says why, for people."""

    def __init__(self, reason: str, place: str) -> None:
        super().__init__(errno.ELOOP, reason, place)
        self.reason = reason


class FollowingTree(Tree):
    """Reads through links. What is written, made or removed goes by the names as they are."""

    def __init__(self, descriptor: int, root: str) -> None:
        """`root` is the folder's own path, by which an absolute link may lead into it."""
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
        """Look at what a path leads to; of a link that is not followed, at the link."""
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
        """Return a path in the folder that leads to the same through no link; raises `NotFollowed`.

        Nothing has to be there, but whatever a link on the way leads to.
        """
        walked, hops = "", [_MOST_HOPS]
        for name in path.split("/"):
            walked = self._end(walked, name, hops)
        return walked

    def _end(self, folder: str, name: str, hops: list[int]) -> str:
        """Return the real path of a name in a folder without links; `hops` counts down the links that may follow."""
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
                folder = self._end(folder, each, hops)
        if folder:
            self._be_there(folder, place)
        return folder

    def _target(self, place: str) -> str | None:
        """Return what a link says; `None` for anything that is not one."""
        try:
            if not stat.S_ISLNK(super().status(place).st_mode):
                return None
            with self.parent(place) as (folder, name):
                return linux.readlink(name, dir_fd=folder)
        except OSError:
            return None  # Whoever looks there finds the same.

    def _be_there(self, end: str, link: str) -> None:
        """Raise `NotFollowed` for a link to nothing: what was behind it is not known to be gone."""
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
