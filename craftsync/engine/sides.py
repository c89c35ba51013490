"""The two sides of a run, as planning sees them: on the left a folder, or in a migration a store; on the right a store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from craftsync.core.model import LocalFile, RemoteObject, Skipped, as_left, as_object
from craftsync.errors import PathError
from craftsync.local.folder import Folder
from craftsync.local.ignore import IgnoreRules
from craftsync.local.scan import look, scan, scan_aside, worth_it
from craftsync.state.database import Database
from craftsync.state.spool import in_order
from craftsync.stores.base import Store


class Left(Protocol):
    """The left side. All that it yields is in the byte order of the UTF-8 path, or the listing says otherwise."""

    @property
    def word(self) -> str:
        """What it is in messages: "folder" or "source"."""
        ...

    @property
    def stage(self) -> str:
        """What progress calls a scan of it."""
        ...

    @property
    def is_folder(self) -> bool:
        """Whether it has folders, inode numbers, and names that every store can hold."""
        ...

    @property
    def is_sorted(self) -> bool: ...

    def scan(self, boundaries: Sequence[str], known: int) -> Iterable[LocalFile | Skipped]:
        """Return all that is there; `known` is how many files there were, `boundaries` cut them into shares."""
        ...

    def look(self, paths: Sequence[str]) -> Iterable[LocalFile | Skipped]:
        """Return what is at these paths, in a folder also what is below them."""
        ...

    def stat(self, path: str) -> LocalFile | None: ...

    def sync(self) -> None:
        """Return once all that is there survives a power cut."""
        ...

    def ignored(self, path: str) -> bool:
        """Tell whether a path takes no part."""
        ...

    def is_beyond(self, path: str) -> bool:
        """Tell whether a path may be there although the scan does not yield it."""
        ...

    def is_empty(self) -> bool:
        """Tell of a side whose scan has yielded nothing whether it holds nothing at all."""
        ...


def in_order_left(
    side: Left, database: Database, entries: Iterable[LocalFile]
) -> Iterable[LocalFile]:
    """Return all that a left side holds in order of path."""
    if side.is_sorted:
        return entries
    return map(as_left, in_order(database, map(as_object, entries), name="left"))


@dataclass(frozen=True, slots=True)
class FolderSide:
    """A folder, with the rules that say which of its paths take part."""

    root: Folder
    rules: IgnoreRules
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    word = "folder"
    stage = "scanning"
    is_folder = True
    is_sorted = True

    def with_new_rules(self) -> FolderSide:
        """Return the side with its ignore files read again."""
        rules = IgnoreRules(self.root, include=self.include, exclude=self.exclude)
        return replace(self, rules=rules)

    def scan(self, boundaries: Sequence[str], known: int) -> Iterator[LocalFile | Skipped]:
        if worth_it(known):
            return scan_aside(self.root, include=self.include, exclude=self.exclude)
        return scan(self.root, self.rules)

    def look(self, paths: Sequence[str]) -> Iterator[LocalFile | Skipped]:
        return look(self.root, self.rules, paths)

    def stat(self, path: str) -> LocalFile | None:
        try:
            return self.root.stat(path)
        except PathError:
            return None

    def sync(self) -> None:
        self.root.sync()

    def ignored(self, path: str) -> bool:
        return self.rules.ignored(path)

    def is_beyond(self, path: str) -> bool:
        return False

    def is_empty(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class StoreSide:
    """A store on the right side."""

    store: Store

    word = "store"
    stage = "listing"

    def list(self, boundaries: Sequence[str]) -> Iterable[RemoteObject | Skipped]:
        """Return all that is there."""
        return self.store.list(boundaries=boundaries)

    def in_order(
        self, database: Database, entries: Iterable[RemoteObject]
    ) -> Iterable[RemoteObject]:
        """Return all that it holds in order of path."""
        return entries if self.store.features.sorted_listing else in_order(database, entries)

    def matters(self, skipped: Skipped) -> bool:
        """Tell whether what the store could not tell is to be reported by itself."""
        return True
