"""Brings kept versions back into the folder, a batch at a time, and never over a different file unasked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from craftsync.core.model import LocalFile
from craftsync.errors import PathError, PathObstructed, StoreError, UsageError
from craftsync.local.folder import Folder
from craftsync.local.temporary import Temporary
from craftsync.state.kept import KeptVersion
from craftsync.stores.base import Store
from craftsync.sync.outcome import sentence
from craftsync.sync.trash import NOT_KEPT, Attributes, TrashEntry, digest, fetch, why_not_kept

_AT_ONCE = 128
"""Files that wait, open, for one `syncfs`."""


Refusal = Callable[[str, LocalFile | None], str | None]
"""Takes a path and what the folder holds there; returns why nothing is restored to it, `None` if it is."""


def _never(path: str, found: LocalFile | None) -> str | None:
    return None


class Restored(NamedTuple):
    """How it ended for one path: `done`, `planned`, `unchanged`, `skipped` or `problem`, and why."""

    entry: TrashEntry
    status: str
    reason: str = ""


class _Fetched(NamedTuple):
    entry: TrashEntry
    temporary: Temporary
    attributes: Attributes
    replaced: LocalFile | None


@dataclass(frozen=True, slots=True)
class Restoring:
    """Restores into one folder. What is replaced, with `overwrite`, is kept under the stamp `keep`.

    `note` is called with what was kept. `refusal` returns why nothing
    is restored to a path, whatever `overwrite` says.
    """

    root: Folder
    store: Store
    keep: str
    note: Callable[[list[KeptVersion]], None]
    overwrite: bool = False
    dry_run: bool = False
    refusal: Refusal = _never

    def run(self, entries: Iterable[TrashEntry]) -> Iterator[Restored]:
        """Put each version at its path; yields what became of it once that survives a power cut."""
        rest = iter(entries)
        while batch := list(islice(rest, _AT_ONCE)):
            with ExitStack() as stack:
                ended = [self._begin(entry, stack) for entry in batch]
                self.root.sync()
                results = [self._place(one) if isinstance(one, _Fetched) else one for one in ended]
                self.root.sync()
            self.note(
                [
                    KeptVersion("root", self.keep, one.entry.path, one.replaced.size)
                    for one, result in zip(ended, results, strict=True)
                    if isinstance(one, _Fetched) and one.replaced and result.status == "done"
                ]
            )
            yield from results

    def _begin(self, entry: TrashEntry, stack: ExitStack) -> _Fetched | Restored:
        try:
            if entry.side == NOT_KEPT:
                return Restored(entry, "skipped", why_not_kept(self.store, entry.path))
            found = self._found(entry.path)
            if reason := self.refusal(entry.path, found):
                return Restored(entry, "skipped", reason)
            if found is not None and (left := self._left(entry, found)) is not None:
                return left
            if self.dry_run:
                return Restored(entry, "planned")
            temporary = self.root.temporary()
            stack.callback(temporary.discard)
            return _Fetched(entry, temporary, fetch(self.root, self.store, entry, temporary), found)
        except (PathError, StoreError, UsageError) as error:
            return Restored(entry, "problem", sentence(error))

    def _found(self, path: str) -> LocalFile | None:
        try:
            return self.root.stat(path)
        except PathObstructed:
            return None  # Empty folders are no obstacle; `place` raises for any other.

    def _left(self, entry: TrashEntry, found: LocalFile) -> Restored | None:
        """Return how it ends where the file that is there stays."""
        if found.size == entry.size:
            with self.root.open_file(entry.path) as file:
                if file.digest() == digest(self.root, self.store, entry):
                    return Restored(entry, "unchanged", "the same content is there")
        if self.overwrite:
            return None
        return Restored(entry, "skipped", "a different file is there; --overwrite replaces it")

    def _place(self, one: _Fetched) -> Restored:
        try:
            self.root.place(
                one.temporary,
                one.entry.path,
                expect=one.replaced,
                mtime_ns=one.attributes.mtime_ns,
                keep=self.keep,
                mode=one.attributes.mode,
            )
        except PathError as error:
            return Restored(one.entry, "problem", sentence(error))
        return Restored(one.entry, "done")
