"""The conflict copies of a root: which there are, and how a person settles one.

A copy is known by its name alone, so this needs neither the store nor the state
database, and works beside a running daemon: what it does are changes of the
root like any other, which the next look finds."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from craftsync.core.model import LocalFile, Skipped
from craftsync.core.paths import conflict_original, malformed, may_be_shortened, settled_name
from craftsync.errors import PathError, UsageError
from craftsync.local.folder import Folder
from craftsync.local.ignore import IgnoreRules
from craftsync.local.scan import scan
from craftsync.local.temporary import copy_content
from craftsync.state.history import KeptVersion


class Keep(StrEnum):
    """Which version a person wants."""

    LOCAL = "local"
    REMOTE = "remote"
    BOTH = "both"


class Conflict(NamedTuple):
    """Two versions of `path`: the root's own, if it is there still, and the store's in a copy beside it."""

    path: str
    local: LocalFile | None
    copy: LocalFile


def find(root: Folder, rules: IgnoreRules, under: str = "") -> Iterator[Conflict]:
    """Yield the conflicts of the root, or of a folder in it, in order of the copies' paths."""
    for entry in scan(root, rules, under):
        if not isinstance(entry, Skipped):
            path = conflict_original(entry.path)
            if path is not None:
                yield _conflict(root, rules, path, entry)


def at(root: Folder, rules: IgnoreRules, path: str) -> list[Conflict]:
    """Return the conflicts of a file, the one of a copy, or those in a folder.

    Raises `UsageError` when there is none.
    """
    if reason := malformed(path):
        if path != ".":
            raise UsageError(f"{path!r} is not a path in the folder: {reason}.")
        found = list(find(root, rules))
    else:
        beside = find(root, rules, posixpath.dirname(path))
        found = [one for one in beside if path in (one.path, one.copy.path)]
        found = found or list(find(root, rules, path))
    if not found:
        raise UsageError(
            f"No conflict copy of {path}.",
            remedy="See craftsync conflicts list for those there are.",
        )
    return found


NoteKept = Callable[[KeptVersion], None]
"""Is called with each version that went to the folder's trash."""


def resolve(
    root: Folder, conflicts: Sequence[Conflict], keep: Keep, stamp: str, note: NoteKept
) -> list[str]:
    """Settle these conflicts of one file, and return the paths that are there in the end.

    What goes lies in the folder's trash under the stamp. Raises `PathBusy` when
    a file is not the one that was found, `UsageError` for several files.
    """
    if len(files := dict.fromkeys(conflict.path for conflict in conflicts)) > 1:
        raise UsageError(
            f"These are conflicts of {len(files)} files, such as {next(iter(files))}.",
            remedy="Name one file at a time. See craftsync conflicts list.",
        )
    if keep is Keep.REMOTE and len(conflicts) > 1:
        copies = ", ".join(conflict.copy.path for conflict in conflicts)
        raise UsageError(
            f"{conflicts[0].path} has several conflict copies: {copies}.",
            remedy="Name the one to keep; the others are settled by --keep local after that.",
        )
    stays = [conflict.path for conflict in conflicts[:1] if keep is Keep.REMOTE or conflict.local]
    for conflict in conflicts:
        match keep:
            case Keep.LOCAL:
                _to_trash(root, conflict.copy, stamp, note)
            case Keep.REMOTE:
                _take_copy(root, conflict, stamp, note)
            case Keep.BOTH:
                stays.append(settled_name(conflict.copy.path))
                root.move(conflict.copy.path, stays[-1], conflict.copy)
    root.sync()
    return stays


def _to_trash(root: Folder, file: LocalFile, stamp: str, note: NoteKept) -> None:
    root.displace(file.path, file, stamp)
    note(KeptVersion("root", stamp, file.path, file.size))


def _take_copy(root: Folder, conflict: Conflict, stamp: str, note: NoteKept) -> None:
    """Swap the copy's content in, in one step; only then the copy goes."""
    temporary = root.temporary()
    try:
        with root.open_file(conflict.copy.path) as file:
            copy_content(file, temporary)
            file.verify()
        root.sync()
        root.place(
            temporary,
            conflict.path,
            expect=conflict.local,
            mtime_ns=conflict.copy.mtime_ns,
            keep=stamp,
        )
        if conflict.local is not None:
            note(KeptVersion("root", stamp, conflict.path, conflict.local.size))
        root.sync()
    finally:
        temporary.discard()
    _to_trash(root, conflict.copy, stamp, note)


def _conflict(root: Folder, rules: IgnoreRules, path: str, copy: LocalFile) -> Conflict:
    try:
        local = root.stat(path)
    except PathError:
        local = None
    if local is None and may_be_shortened(copy.path):
        local = _longer(root, rules, path)
    return Conflict(local.path if local else path, local, copy)


def _longer(root: Folder, rules: IgnoreRules, path: str) -> LocalFile | None:
    """Return the one file that this path may be what was left of, if it is but one."""
    folder = posixpath.dirname(path)
    stem, extension = posixpath.splitext(path)
    found = [
        file
        for file in scan(root, rules, folder, starting=posixpath.basename(stem))
        if not isinstance(file, Skipped)
        and posixpath.dirname(file.path) == folder
        and file.path.endswith(extension)
        and conflict_original(file.path) is None
    ]
    return found[0] if len(found) == 1 else None
