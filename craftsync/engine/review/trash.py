"""The trash for the user: list kept versions, restore them, undo a run, remove versions for good.

`Trash` is the trash of a linked folder, `TrashOfStore` that of a store alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from secrets import token_hex
from tempfile import TemporaryFile
from typing import NamedTuple, Protocol

from craftsync.clock import Clock, SystemClock, stamp
from craftsync.core.model import ABSENT, BaselineRow, LocalFile, RemoteObject
from craftsync.core.paths import refusal
from craftsync.engine import features
from craftsync.engine.report import sentence
from craftsync.engine.review import retention
from craftsync.engine.review.versions import (
    NOT_KEPT,
    Attributes,
    NoteKept,
    TrashEntry,
    Wanted,
    bucket_versions,
    digest,
    digest_of,
    entries,
    entries_of_store,
    fetch,
    in_versions,
    opened,
    place_of,
    version_of,
    why_not_kept,
)
from craftsync.errors import (
    ObjectNotFound,
    PathError,
    PathObstructed,
    PathRefused,
    StoreError,
    StoreUnavailable,
    UsageError,
)
from craftsync.local.folder import Folder
from craftsync.local.temporary import Temporary
from craftsync.state.history import KeptVersion
from craftsync.state.pair import Baseline, PairState
from craftsync.state.plan import Replaced, Result
from craftsync.stores.base import Expect, Store
from craftsync.stores.sources import FileSource

_ALL = Wanted()
_NEVER_NS = 2**63 - 1
_AT_ONCE = 128  # Open files that share one `syncfs`.


class Restored(NamedTuple):
    """The result for one path: `done`, `planned`, `unchanged`, `skipped` or `problem`, with the reason."""

    entry: TrashEntry
    status: str
    reason: str = ""
    file: LocalFile | None = None
    """The restored file in the folder, if done."""


@dataclass(slots=True)
class Trash:
    """The replaced and deleted versions that both sides of a linked folder keep.

    With `read_only` the state is only read, so restoring works while another process holds the
    folder. To that process it is a change like any other.
    """

    root: Folder
    store: Store
    state: PairState
    clock: Clock
    read_only: bool
    _unlisted: bool = False
    """Whether the bucket refused to list its versions."""

    def entries(self, wanted: Wanted = _ALL) -> Iterator[TrashEntry]:
        """Yield the selected versions that can be restored, newest first."""
        return wanted.among(entries(self.root, self.store, self._in_bucket(wanted)))

    def _in_bucket(self, wanted: Wanted) -> list[TrashEntry]:
        if not self.keeps_versions():
            return []
        try:
            prefixes = wanted.selection.prefixes()
            return [entry for prefix in prefixes for entry in bucket_versions(self.store, prefix)]
        except StoreUnavailable:
            raise
        except StoreError:
            self._unlisted = True
            return []

    def keeps_versions(self) -> bool:
        """Return whether the bucket keeps versions itself, instead of in the store's trash."""
        self._load_features()
        return self.store.features.keeps_versions

    def _load_features(self) -> None:
        """Load a bucket's saved features, without a probe."""
        if self.store.location.startswith("s3://"):
            features.load_features(self.store, self.state.database, self.clock, may_write=False)

    def in_versions(self, path: str = "") -> str | None:
        """Return the commands for the versions of a bucket that refused to list them, else `None`."""
        return in_versions(self.store, path) if self._unlisted else None

    def restore(
        self, wanted: Wanted, *, overwrite: bool = False, dry_run: bool = False
    ) -> Iterator[Restored]:
        """Restore the newest selected version of each path into the folder, unless a different file exists.

        `overwrite` replaces it; it goes to the trash. Raises `UsageError` for a path never kept.
        """
        restoring = self._restoring(overwrite=overwrite, dry_run=dry_run)
        return restoring.run(wanted.newest(self.entries(wanted), self.in_versions))

    def restore_run(self, run: int, wanted: Wanted, *, dry_run: bool = False) -> Iterator[Restored]:
        """Restore into the folder what a run replaced and deleted, on either side.

        Only at paths that both sides still have as the run left them; the next run uploads them.
        The folder's trash keeps each file that this replaces. Both sides hold it, so nothing is lost
        if the store keeps no copy. Raises `UsageError` for a run that did neither.
        """
        self._load_features()
        rows = {one.path: one for one in self.state.replaced.of(run)}
        if not rows:
            raise UsageError(
                f"Nothing is known that run {run} replaced or deleted.",
                remedy="`craftsync history` shows the numbers of runs.",
            )
        left = _AsLeft(self.root, self.store, self.state.baseline)
        restoring = replace(
            self._restoring(overwrite=True, dry_run=dry_run),
            refusal=lambda path, found: left.refusal(rows[path], found),
        )
        exact = wanted.selection.by_name(rows)
        return restoring.run(left.entries(one for one in rows.values() if exact.has(one.path)))

    def _restoring(self, *, overwrite: bool, dry_run: bool) -> Restoring:
        return Restoring(
            self.root, self.store, stamp(self.clock), self._note_kept, overwrite, dry_run
        )

    def _note_kept(self, versions: list[KeptVersion]) -> None:
        if self.read_only:
            self.state.note_in_root(versions, self.clock.now_ns())
        elif versions:
            with self.state.transaction():
                self.state.kept.add(versions, self.clock.now_ns())

    def purgeable(self, older_than_days: float) -> Iterator[TrashEntry]:
        """Yield the versions that `purge` would remove."""
        before = stamp(self.clock, days_ago=older_than_days)
        return retention.purgeable(self.root, self.store, before, self._spared())

    def purge(self, older_than_days: float) -> retention.Purged:
        """Remove older versions, except those that a conflict, a held delete or an unfinished run needs."""
        before = stamp(self.clock, days_ago=older_than_days)
        retention.import_outside_records(self.state, self.store)
        purged = retention.purge(self.root, self.store, before, self._spared())
        with self.state.transaction():
            self.state.kept.forget_before(before)
        return purged

    def _spared(self) -> Callable[[str], bool]:
        """Return a function that returns whether a purge spares a path. Deletes that are not held are not."""
        retention.spare(self.state, _NEVER_NS)
        return self.state.kept.is_spared


Refusal = Callable[[str, LocalFile | None], str | None]
"""Called with a path and its current file; returns why it is not restored, or `None` if it may be."""


def _never(path: str, found: LocalFile | None) -> str | None:
    return None


class _Fetched(NamedTuple):
    entry: TrashEntry
    temporary: Temporary
    attributes: Attributes
    replaced: LocalFile | None


@dataclass(frozen=True, slots=True)
class Restoring:
    """Restores into one folder. With `overwrite`, replaced files go to the trash under `trash_stamp`.

    `note` is called with the versions moved to the trash. `refusal` returns why a path must not be
    restored, even with `overwrite`.
    """

    root: Folder
    store: Store
    trash_stamp: str
    note: NoteKept
    overwrite: bool = False
    dry_run: bool = False
    refusal: Refusal = _never

    def run(self, entries: Iterable[TrashEntry]) -> Iterator[Restored]:
        """Restore each version to its path. Yields each result once it survives a power cut."""
        rest = iter(entries)
        while batch := list(islice(rest, _AT_ONCE)):
            with ExitStack() as stack:
                ended = [self._begin(entry, stack) for entry in batch]
                results = self._placed(ended)
            self.note(
                [
                    KeptVersion("root", self.trash_stamp, one.entry.path, one.replaced.size)
                    for one, result in zip(ended, results, strict=True)
                    if isinstance(one, _Fetched) and one.replaced and result.status == "done"
                ]
            )
            yield from results

    def _placed(self, ended: Sequence[_Fetched | Restored]) -> list[Restored]:
        """Swap in the fetched files: flush their bytes before, and their names after."""
        if all(isinstance(one, Restored) for one in ended):
            return [one for one in ended if isinstance(one, Restored)]
        self.root.sync()
        results = [self._place(one) if isinstance(one, _Fetched) else one for one in ended]
        self.root.sync()
        return results

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
        except StoreUnavailable:
            raise
        except (PathError, StoreError, UsageError) as error:
            return Restored(entry, "problem", sentence(error))

    def _found(self, path: str) -> LocalFile | None:
        try:
            return self.root.stat(path)
        except PathObstructed:
            return None  # Empty folders do not obstruct; `place` raises for others.

    def _left(self, entry: TrashEntry, found: LocalFile) -> Restored | None:
        """Return the result for a path whose current file stays, or `None` if it is to be replaced."""
        if found.size == entry.size:
            with self.root.open_file(entry.path) as file:
                if file.digest() == digest(self.root, self.store, entry):
                    return Restored(entry, "unchanged", "the same content is there")
        if self.overwrite:
            return None
        return Restored(entry, "skipped", "a different file is there; --overwrite replaces it")

    def _place(self, one: _Fetched) -> Restored:
        try:
            placed = self.root.place(
                one.temporary,
                one.entry.path,
                expect=one.replaced,
                mtime_ns=one.attributes.mtime_ns,
                trash_stamp=self.trash_stamp,
                mode=one.attributes.mode,
            )
        except PathError as error:
            return Restored(one.entry, "problem", sentence(error))
        return Restored(one.entry, "done", file=placed)


@dataclass(frozen=True, slots=True)
class _AsLeft:
    """Finds where a run's replaced versions are kept, and whether both sides are still as it left them.

    Raises `PathError` and `StoreError`.
    """

    root: Folder
    store: Store
    baseline: Baseline

    def entries(self, replaced: Iterable[Replaced]) -> Iterator[TrashEntry]:
        """Yield the kept version of each; its side is `NOT_KEPT` if there is none."""
        for one in replaced:
            if one.stamp is not None:
                yield TrashEntry(one.side, one.stamp, one.path, one.size)
            else:
                yield self._in_bucket(one) or TrashEntry(NOT_KEPT, "", one.path, one.size)

    def _in_bucket(self, one: Replaced) -> TrashEntry | None:
        if one.side != "store" or one.version is None or not self.store.features.keeps_versions:
            return None
        try:
            return version_of(self.store, one.path, one.size, one.version)
        except StoreUnavailable:
            raise
        except StoreError:
            return None

    def refusal(self, one: Replaced, found: LocalFile | None) -> str | None:
        """Return why a path is not restored, or `None` if it may be. `found` is its current file."""
        if one.result is None:
            if found is not None:
                return "the path exists again in the folder"
            return "the path exists again in the store" if self.store.stat(one.path) else None
        row = self.baseline.get(one.path)
        if found is None or not self._is_as_left_in_folder(one.result, found, row):
            return "it was changed or deleted in the folder since that run"
        remote = self.store.stat(one.path)
        if remote is None or not _is_as_left_in_store(one.result, remote):
            return "it was changed or deleted in the store since that run"
        return None

    def _is_as_left_in_folder(
        self, result: Result, found: LocalFile, row: BaselineRow | None
    ) -> bool:
        if found.size != result.size:
            return False
        if row is not None and not row.racy and found == row[:5]:
            if row.digest is not None and result.digest is not None:
                return row.digest == result.digest
            return row.version is not None and row.version == result.version
        if result.digest is None:
            return False
        with self.root.open_file(found.path) as file:
            return file.digest() == result.digest


def _is_as_left_in_store(result: Result, remote: RemoteObject) -> bool:
    if remote.size != result.size:
        return False
    if remote.version is not None and remote.version == result.version:
        return True
    return result.digest is not None and remote.digest == result.digest


class Records(Protocol):
    """The records of the versions that this client moved to a store's trash outside runs."""

    def note(self, versions: Iterable[KeptVersion]) -> None: ...

    def noted(self) -> Iterable[KeptVersion]: ...

    def forget_kept(self, versions: Sequence[KeptVersion]) -> None: ...

    def is_linked(self) -> bool:
        """Return whether this client has the state of a folder that is linked to the store."""
        ...


@dataclass(frozen=True, slots=True)
class TrashOfStore:
    """The versions that a store keeps, of any client, restored in the store itself.

    Replaced objects go to the trash under `trash_stamp`.
    """

    store: Store
    trash_stamp: str
    records: Records

    def entries(self, wanted: Wanted) -> Iterator[TrashEntry]:
        """Yield the selected versions, newest first."""
        prefixes = wanted.selection.prefixes() if self.store.features.keeps_versions else []
        return wanted.among(entries_of_store(self.store, prefixes))

    def restore(self, wanted: Wanted, *, overwrite: bool, dry_run: bool) -> Iterator[Restored]:
        """Restore the newest selected version of each path, unless a different object exists.

        With `overwrite`, such an object is replaced and goes to the trash. Raises `UsageError` for
        a path without kept versions.
        """
        for entry in wanted.newest(self.entries(wanted)):
            try:
                yield self._restored(entry, overwrite=overwrite, dry_run=dry_run)
            except StoreUnavailable:
                raise
            except (PathError, StoreError) as error:
                yield Restored(entry, "problem", sentence(error))

    def _restored(self, entry: TrashEntry, *, overwrite: bool, dry_run: bool) -> Restored:
        found = self.store.stat(entry.path)
        if found is not None and (left := self._left(entry, found, overwrite=overwrite)):
            return left
        if dry_run:
            return Restored(entry, "planned")
        self._put_back(entry, found)
        self.store.barrier()
        return Restored(entry, "done")

    def _left(self, entry: TrashEntry, found: RemoteObject, *, overwrite: bool) -> Restored | None:
        """Return the result for a path whose current object stays, or `None` if it is to be replaced."""
        if found.size == entry.size:
            current = digest_of(self.store.read(entry.path))
            if current == digest_of(opened(self.store, entry)):
                return Restored(entry, "unchanged", "the same content is there")
        if overwrite:
            return None
        return Restored(entry, "skipped", "a different object is there; --overwrite replaces it")

    def bring_back(self, path: str) -> int:
        """Write the newest version of a deleted object again, unless it exists; return its size in bytes.

        For a bucket that keeps versions. The caller waits for `Store.barrier`.
        """
        for entry in bucket_versions(self.store, path):
            if entry.path == path:
                self._put_back(entry, None)
                return entry.size
        raise ObjectNotFound(f"{path}: the bucket has no version of it.")

    def _put_back(self, entry: TrashEntry, found: RemoteObject | None) -> None:
        """Copy a version to its path. Raises `PreconditionFailed` if the current object is not `found`."""
        if reason := refusal(entry.path):
            raise PathRefused(f"{entry.path} cannot be written: {reason}.")
        expect, operation = found or ABSENT, token_hex(16)
        if entry.version_id is None:
            kept = self.store.stat(place_of(entry))
            if kept is None:
                raise ObjectNotFound(f"{entry.path}: the kept version was removed since.")
            self.store.copy(
                kept,
                entry.path,
                expect=expect,
                operation=operation,
                trash_stamp=self.trash_stamp,
            )
        else:
            self._write_version(entry, expect, operation)
        if found is not None and not self.store.features.keeps_versions:
            version = KeptVersion("store", self.trash_stamp, entry.path, found.size)
            self.records.note([version])

    def _write_version(self, entry: TrashEntry, expect: Expect, operation: str) -> None:
        with opened(self.store, entry) as reader, TemporaryFile() as copy:
            for piece in reader:
                copy.write(piece)
            copy.flush()
            source = FileSource(copy.fileno(), entry.path)
            self.store.write(
                entry.path,
                source,
                expect=expect,
                operation=operation,
                trash_stamp=self.trash_stamp,
                properties=reader.properties,
            )

    def purgeable(self, older_than_days: float) -> Iterator[TrashEntry]:
        """Yield the older versions that this client moved to the trash, by its own records.

        Raises `UsageError` if a folder of this client is linked to the store: its conflicts and
        held deletes may need some of them.
        """
        return iter(self._mine(self._older(older_than_days)))

    def purge(self, older_than_days: float) -> retention.Purged:
        """Remove the `purgeable` versions for good. Other clients' versions of that age stay."""
        older, removed = self._older(older_than_days), list[TrashEntry]()
        wanted = self._mine(older)
        try:
            failed = retention.removed_from_store(self.store, wanted, removed)
        finally:
            self.records.forget_kept([entry.kept for entry in removed])
        retention.raise_unremoved(failed)
        return retention.Purged(len(removed), len(older) - len(removed))

    def _mine(self, versions: Iterable[TrashEntry]) -> list[TrashEntry]:
        """Return this client's versions, matched by name: a record may have another size."""
        noted = {version[:3] for version in self.records.noted()}
        return [entry for entry in versions if entry[:3] in noted]

    def _older(self, days: float) -> list[TrashEntry]:
        if self.records.is_linked():
            raise UsageError(
                f"A folder is linked to {self.store.location}, and may need what is in its trash.",
                remedy="Name the folder: craftsync trash purge --folder NAME,"
                " or --root FOLDER --store STORE. craftsync status lists them.",
            )
        before = stamp(SystemClock(), days_ago=days)
        return [entry for entry in entries_of_store(self.store) if entry.stamp < before]
