"""What a scan meets at the end of a symbolic link that is followed: only what takes part itself."""

from __future__ import annotations

import stat

from craftsync.core.model import LocalFile, Skipped
from craftsync.core.paths import folders_above, is_own
from craftsync.local.files import kind_of, local_file
from craftsync.local.following import CIRCLE, LEFT_OUT, NOWHERE, FollowingTree, NotFollowed
from craftsync.local.ignore import IgnoreRules


class Links:
    """Tells a scan what is at the end of a link, as far as that takes part itself."""

    def __init__(self, tree: FollowingTree, rules: IgnoreRules | None) -> None:
        self._tree = tree
        self._rules = rules

    def real(self, path: str) -> str:
        """Return where a path leads; raises `NotFollowed`, also for what takes no part there."""
        real = self._tree.real(path)
        if real != path and (is_own(real) or self._is_ignored(real)):
            raise NotFollowed(LEFT_OUT, path)
        return real

    def entered(self, path: str) -> str:
        """Return where the folder at a path is; raises `NotFollowed` for one that it lies in itself."""
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
        """Return what a link that does not lead to a folder stands for."""
        try:
            status = self._tree.status(self.real(path))
        except OSError as error:
            return skipped(path, error)
        if stat.S_ISREG(status.st_mode):
            return local_file(path, status)
        return Skipped(path, kind_of(status.st_mode), subtree=True, by_design=True)


def skipped(path: str, error: OSError) -> Skipped:
    """Return what to report of a link that is not followed: what is behind it is not known."""
    reason = error.reason if isinstance(error, NotFollowed) else NOWHERE
    return Skipped(path, reason, subtree=True, by_design=True)
