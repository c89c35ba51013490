"""Walks a folder and yields what is in it, in path order, as it goes.

Never follows a symbolic link and never leaves the folder. What cannot be
looked at, or vanishes while it is, is yielded as `Skipped`: it is unknown, and
its absence from the rest proves nothing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

from craftsync.core.model import OWN_FOLDER, LocalFile, Skipped
from craftsync.core.paths import MAX_NAME_BYTES, MAX_PATH_BYTES, malformed
from craftsync.errors import PathError, PathObstructed, PathRefused, RootError
from craftsync.local.files import kind_of
from craftsync.local.folder import Folder
from craftsync.local.ignore import FolderRules, IgnoreRules
from craftsync.local.names import Entry, in_path_order
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
    if rules is None or not (under and rules.match(under, is_folder=True)):
        with ExitStack() as stack:
            yield from _Walk(folder, rules, stack).run(under, starting)
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
            descended = False
            for found in _files(level):
                if not isinstance(found, str):
                    yield found
                elif failure := self._enter(level, found):
                    yield failure
                else:
                    descended = True
                    break
            if not descended:
                os.close(self._levels.pop().listing)

    def _enter_first(self, under: str, starting: str) -> Skipped | None:
        try:
            listing = self._folder.tree.listing(under)
        except (FileNotFoundError, NotADirectoryError) as error:
            if isinstance(error, LinkInTheWay):
                return Skipped(error.filename, "a symbolic link", subtree=True)
            return None
        except OSError as error:
            if not under:
                raise RootError(f"{self._folder.path}: {error.strerror}.") from error
            return _unreadable(under, error)
        return self._push(listing, under, starting)

    def _enter(self, level: _Level, name: str) -> Skipped | None:
        path = level.prefix + name
        try:
            listing = os.open(name, LISTING, dir_fd=level.listing)
        except (FileNotFoundError, NotADirectoryError):
            return Skipped(path, VANISHED, subtree=True)
        except OSError as error:
            return _unreadable(path, error)
        return self._push(listing, path, "")

    def _push(self, listing: int, path: str, starting: str) -> Skipped | None:
        rules = self._rules.inside(path) if self._rules else None
        if rules and rules.failure:
            os.close(listing)
            return Skipped(path, rules.failure, subtree=True, failed=True)
        wanted = _wanted(path, starting)
        try:
            entries = in_path_order(listing, wanted)
        except OSError as error:
            os.close(listing)
            if not path:
                raise RootError(f"{self._folder.path}: {error.strerror}.") from error
            return _unreadable(path, error)
        self._levels.append(_Level(listing, f"{path}/" if path else "", entries, rules))
        return None

    def _close(self) -> None:
        for level in self._levels:
            os.close(level.listing)
