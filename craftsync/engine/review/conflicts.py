"""Finds conflicts, and resolves them as the user decides.

A conflict copy is a file beside the one it conflicts with, recognised by its name alone
(`core.conflict_names`), whichever client made it. So resolving needs neither store nor state, and
works while a daemon runs: the next run finds ordinary changes and uploads them.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import NamedTuple

from craftsync.core.conflict_names import conflict_original, may_be_shortened, settled_names
from craftsync.core.model import LocalFile, Skipped
from craftsync.engine.report import sentence
from craftsync.engine.review.selection import Selection, matches
from craftsync.engine.review.versions import NoteKept
from craftsync.errors import PathBusy, PathError, PathLeftOut, PathObstructed
from craftsync.local.folder import Folder
from craftsync.local.ignore import IgnoreRules
from craftsync.local.scan import scan
from craftsync.local.temporary import Temporary, copy_content
from craftsync.state.history import KeptVersion

_AT_ONCE = 50
"""Files resolved between two flushes."""


class Keep(StrEnum):
    """Which version the user keeps."""

    LOCAL = "local"
    REMOTE = "remote"
    BOTH = "both"
    NEWER = "newer"


class Conflict(NamedTuple):
    """Two versions of `path`: the folder's, if it still exists, and the store's in a conflict copy."""

    path: str
    local: LocalFile | None
    copy: LocalFile

    @property
    def since_ns(self) -> int:
        """When the conflict copy was made, by this machine's clock (UTC)."""
        return self.copy.ctime_ns

    def is_meant(self, word: str) -> bool:
        """Return whether a word of a `Selection` selects the file or the copy."""
        return matches(self.path, word) or matches(self.copy.path, word)


_ALL = Selection()


def find(
    root: Folder, rules: IgnoreRules, wanted: Selection = _ALL, since_ns: int | None = None
) -> Iterator[Conflict]:
    """Yield the selected conflicts; within each scanned folder, in the order of the copies' paths.

    `since_ns`: only those whose copy was made at that time (UTC) or later.
    """
    for folder in wanted.folders():
        for entry in scan(root, rules, folder):
            if isinstance(entry, Skipped) or (path := conflict_original(entry.path)) is None:
                continue
            conflict = _conflict(root, rules, path, entry)
            in_time = since_ns is None or conflict.since_ns >= since_ns
            if in_time and (not wanted.words or any(map(conflict.is_meant, wanted.words))):
                yield conflict


def find_exactly(
    root: Folder, rules: IgnoreRules, wanted: Selection, since_ns: int | None = None
) -> list[Conflict]:
    """Return the conflicts of `find`, but a word that is the exact name of a file selects only that."""
    found = list(find(root, rules, wanted, since_ns))
    exact = wanted.by_name(path for one in found for path in (one.path, one.copy.path))
    return [one for one in found if exact.has(one.path) or exact.has(one.copy.path)]


def by_file(conflicts: Iterable[Conflict]) -> dict[str, list[Conflict]]:
    files: dict[str, list[Conflict]] = {}
    for conflict in conflicts:
        files.setdefault(conflict.path, []).append(conflict)
    return files


def _conflict(root: Folder, rules: IgnoreRules, path: str, copy: LocalFile) -> Conflict:
    try:
        local = root.stat(path)
    except PathError:
        local = None
    if local is None and may_be_shortened(copy.path):
        local = _longer(root, rules, path)
    return Conflict(local.path if local else path, local, copy)


def _longer(root: Folder, rules: IgnoreRules, path: str) -> LocalFile | None:
    """Return the file whose name may have been shortened to this path, if exactly one fits."""
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


class Resolved(NamedTuple):
    """The result for one file: `done`, `planned`, `skipped` or `problem`, with the reason.

    `stays` are the paths that remain; `size` is that of the first, in bytes.
    """

    path: str
    status: str
    stays: tuple[str, ...] = ()
    size: int = 0
    reason: str = ""


class _Chosen(NamedTuple):
    """A file to resolve. `winner` is the copy that replaces it, `ready` its content in a temporary file."""

    conflicts: Sequence[Conflict]
    winner: Conflict | None
    ready: Temporary | None = None

    @property
    def path(self) -> str:
        return self.conflicts[0].path


@dataclass(frozen=True, slots=True)
class Resolving:
    """Resolves conflicts in one folder. The other versions go to its trash under `trash_stamp`.

    `note` is called with each version moved to the trash.
    """

    root: Folder
    keep: Keep
    trash_stamp: str
    note: NoteKept
    dry_run: bool = False

    def run(self, files: Iterable[Sequence[Conflict]]) -> Iterator[Resolved]:
        """Resolve the conflicts of each file. Yields each result once it survives a power cut."""
        rest = iter(files)
        if self.dry_run:
            yield from (self._ended(self._chosen(conflicts)) for conflicts in rest)
        while batch := list(islice(rest, _AT_ONCE)):
            with ExitStack() as stack:
                begun = [self._begun(conflicts, stack) for conflicts in batch]
                self.root.sync()
                placed = [self._placed(one) for one in begun]
                # A copy is removed only after its replacement survives a power cut.
                self.root.sync()
                ended = [self._ended(one) for one in placed]
                self.root.sync()
            yield from ended

    def _begun(self, conflicts: Sequence[Conflict], stack: ExitStack) -> _Chosen | Resolved:
        chosen = self._chosen(conflicts)
        if isinstance(chosen, Resolved) or chosen.winner is None:
            return chosen
        temporary = self.root.temporary()
        stack.callback(temporary.discard)
        try:
            with self.root.open_file(chosen.winner.copy.path) as file:
                copy_content(file, temporary)
                file.verify()
        except PathError as error:
            return _failed(chosen.path, error)
        return chosen._replace(ready=temporary)

    def _chosen(self, conflicts: Sequence[Conflict]) -> _Chosen | Resolved:
        path, local = conflicts[0].path, conflicts[0].local
        match self.keep:
            case Keep.REMOTE if len(conflicts) > 1:
                copies = ", ".join(conflict.copy.path for conflict in conflicts)
                reason = f"it has several conflict copies ({copies}). Name the one to keep."
                return Resolved(path, "skipped", reason=reason)
            case Keep.REMOTE:
                return _Chosen(conflicts, conflicts[0])
            case Keep.NEWER:
                newest = max(conflicts, key=lambda conflict: conflict.copy.mtime_ns)
                ages = [conflict.copy.mtime_ns for conflict in conflicts]
                ages += [local.mtime_ns] if local else []
                if ages.count(max(ages)) > 1:
                    reason = "no version is newer than all others. Keep local, remote or both."
                    return Resolved(path, "skipped", reason=reason)
                is_here = local is not None and local.mtime_ns == max(ages)
                return _Chosen(conflicts, None if is_here else newest)
            case _:
                return _Chosen(conflicts, None)

    def _placed(self, chosen: _Chosen | Resolved) -> _Chosen | Resolved:
        """Replace the file by the winner, atomically."""
        if isinstance(chosen, Resolved) or chosen.winner is None or chosen.ready is None:
            return chosen
        local, copy = chosen.winner.local, chosen.winner.copy
        stamp = self.trash_stamp
        try:
            self.root.place(
                chosen.ready, chosen.path, expect=local, mtime_ns=copy.mtime_ns, trash_stamp=stamp
            )
        except PathError as error:
            return _failed(chosen.path, error)
        if local is not None:
            self.note([KeptVersion("root", stamp, chosen.path, local.size)])
        return chosen

    def _ended(self, chosen: _Chosen | Resolved) -> Resolved:
        """Move the copies to the trash, or rename them if both versions are kept. A dry run changes nothing."""
        if isinstance(chosen, Resolved):
            return chosen
        file = chosen.winner.copy if chosen.winner else chosen.conflicts[0].local
        stays = {chosen.path: file.size} if file else {}
        try:
            for conflict in chosen.conflicts:
                if self.keep is Keep.BOTH:
                    name = self._rename(conflict.copy)
                    stays[name] = conflict.copy.size
                else:
                    self._displace(conflict.copy)
        except PathError as error:
            return _failed(chosen.path, error)
        status = "planned" if self.dry_run else "done"
        return Resolved(chosen.path, status, tuple(stays), next(iter(stays.values()), 0))

    def _rename(self, copy: LocalFile) -> str:
        """Rename a copy to the first free new name, and return it.

        If a file with a new name has the same content, the copy goes to the trash: a run that was
        killed before it recorded the conflict made the copy again.
        """
        for name in settled_names(copy.path):
            try:
                taken = self.root.stat(name)
            except (PathObstructed, PathLeftOut):
                continue  # A folder, or not a regular file.
            if taken is None:
                if not self.dry_run:
                    self.root.move(copy.path, name, copy)
                return name
            if self._have_same_content(taken, copy):
                self._displace(copy)
                return name
        raise PathError(f"{copy.path}: no new name for it is free.")

    def _have_same_content(self, file: LocalFile, copy: LocalFile) -> bool:
        if file.size != copy.size:
            return False
        try:
            with self.root.open_file(file.path) as one, self.root.open_file(copy.path) as other:
                return one.digest() == other.digest()
        except PathError:
            return False  # Not readable: the copy gets another name.

    def _displace(self, copy: LocalFile) -> None:
        if not self.dry_run:
            self.root.displace(copy.path, copy, self.trash_stamp)
            self.note([KeptVersion("root", self.trash_stamp, copy.path, copy.size)])


def _failed(path: str, error: PathError) -> Resolved:
    """Return the result for a file that cannot be resolved. One that is changing is only skipped."""
    status = "skipped" if isinstance(error, PathBusy) else "problem"
    return Resolved(path, status, reason=sentence(error))
