"""Resolves symbolic links for a scan; targets that are not synced themselves are skipped."""

from __future__ import annotations

import stat

from craftsync.core.model import LocalFile, Skipped
from craftsync.core.paths import folders_above, is_own
from craftsync.local.files import kind_of, local_file
from craftsync.local.following import CIRCLE, LEFT_OUT, NOWHERE, FollowingTree, NotFollowed
from craftsync.local.ignore import IgnoreRules


class Links:
    """Resolves links for a scan, to targets that are synced themselves."""

    def __init__(self, tree: FollowingTree, rules: IgnoreRules | None) -> None:
        self._tree = tree
        self._rules = rules

    def real(self, path: str) -> str:
        """Return the real path; raises `NotFollowed`, also for a target that is not synced."""
        real = self._tree.real(path)
        if real != path and (is_own(real) or self._is_ignored(real)):
            raise NotFollowed(LEFT_OUT, path)
        return real

    def entered(self, path: str) -> str:
        """Return the real path of a folder; raises `NotFollowed` for a link to a folder above it."""
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
    """Return the entry for a link that is not followed, whose target is unknown."""
    reason = error.reason if isinstance(error, NotFollowed) else NOWHERE
    return Skipped(path, reason, subtree=True, by_design=True)
