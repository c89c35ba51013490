"""Finds content that is damaged although nothing wrote to it, and repairs it from the other side.

A disk or a server that flips a bit changes neither size nor time, so only hashing finds it. Files
and objects that changed since the last sync are left to the next run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import NamedTuple

from craftsync.clock import Clock, stamp
from craftsync.core.decide import remote_is_same
from craftsync.core.model import BaselineRow, LocalFile, RemoteObject
from craftsync.engine.content import Fetcher, RootSource
from craftsync.engine.report import (
    ActionEvent,
    DamageEvent,
    Issue,
    IssueEvent,
    OnEvent,
    ProgressEvent,
    Report,
)
from craftsync.engine.sides import do_nothing
from craftsync.errors import (
    ContentDamaged,
    CraftsyncError,
    ObjectArchived,
    ObjectNotFound,
    PathBusy,
    PathObstructed,
    PreconditionFailed,
    UsageError,
)
from craftsync.local.folder import Folder
from craftsync.net.pace import InterruptibleHashing, Limiter
from craftsync.state.history import KeptVersion
from craftsync.state.pair import PairState
from craftsync.stores.base import Store
from craftsync.stores.sources import workers
from craftsync.stores.trash_copies import left_in_trash

_CURSOR = "scrubbed"
"""In `meta`: the last path checked. The next call starts after it."""
_BATCH = 256
_LOOKS_AT_ONCE = 8


class Damage(StrEnum):
    """Which side no longer holds the last synced content."""

    NONE = "intact"
    ROOT = "damaged in the folder"
    STORE = "damaged in the store"
    BOTH = "damaged on both sides"


_CANNOT = "cannot be repaired: no side holds what was last synced; see craftsync trash list"


class Examined(NamedTuple):
    """The result for one path, with the file and the object as they were read."""

    damage: Damage
    local: LocalFile
    remote: RemoteObject


@dataclass(slots=True)
class Scrubber:
    """Hashes both sides of synced paths, and compares them with the last synced state."""

    root: Folder
    store: Store
    state: PairState
    clock: Clock
    on_event: OnEvent
    repair: bool = False
    """Whether to replace damaged content by the other side's. The damaged version goes to the trash."""
    fetcher: Fetcher = field(init=False)

    def run(
        self,
        paths: Sequence[str] = (),
        share: float | None = None,
        heed: Callable[[], None] = do_nothing,
    ) -> Report:
        """Check these paths and everything below them, or all paths, or the next `share` of all bytes.

        Unrepaired damage and unreadable content count as problems; paths that changed since the
        last sync are skipped. `heed` is called, from any thread, whenever bytes were read, and may
        raise to stop. Raises `UsageError` for a path without synced files at it or below it.
        """
        paths = self._synced(paths)
        report, started = Report("scrub"), self.clock.monotonic()
        most_bytes = None if share is None else int(self.state.baseline.bytes() * share) + 1
        with workers(_LOOKS_AT_ONCE, "scrub", self.store) as pool:
            limiter, hashing = Limiter(None, self.clock), InterruptibleHashing(heed)
            self.fetcher = Fetcher(self.root, self.store, limiter, pool, hashing)
            looked_at = 0
            for rows in self._batches(paths, most_bytes):
                for row, found in zip(rows, pool.map(self._examined, rows), strict=True):
                    self._settle(report, row, found)
                looked_at += len(rows)
                self.on_event(ProgressEvent("hashing", looked_at))
                if most_bytes is not None:
                    self.state.database.put(_CURSOR, rows[-1].path)
        report.seconds = round(self.clock.monotonic() - started, 3)
        return report

    def _synced(self, paths: Sequence[str]) -> Sequence[str]:
        """Return the paths; empty if they mean all."""
        # A mistyped name must raise, and not count as intact.
        for path in paths:
            if path != "." and next(self.state.baseline.below([path]), None) is None:
                raise UsageError(
                    f"{path} is not a synced file, or a folder with one.",
                    remedy="Name what a run has synced, or nothing for all of it; globs are not taken.",
                )
        return () if "." in paths else paths

    def _batches(self, paths: Sequence[str], most_bytes: int | None) -> Iterator[list[BaselineRow]]:
        baseline = self.state.baseline
        if most_bytes is None:
            rows = baseline.below(paths) if paths else baseline.rows()
            while batch := list(islice(rows, _BATCH)):
                yield batch
            return
        behind, read = self.state.database.get(_CURSOR) or "", 0
        while read < most_bytes:
            batch = []
            for row in islice(baseline.rows(behind), _BATCH):
                batch.append(row)
                read += row.size
                if read >= most_bytes:
                    break
            if not batch:
                # The end is reached: the next call starts from the beginning.
                self.state.database.put(_CURSOR, "")
                return
            yield batch
            behind = batch[-1].path

    def _examined(self, row: BaselineRow) -> Examined | str | None:
        """Return the result for a path, or why it is unknown; `None` if the path is skipped."""
        try:
            sides = self._unchanged(row)
            if sides is None or row.digest is None or row.racy:
                return None
            return Examined(self._damage(row.digest, *sides), *sides)
        except (PathBusy, PathObstructed, PreconditionFailed, ObjectNotFound, ObjectArchived):
            return None
        except (CraftsyncError, OSError) as error:
            return str(error)

    def _settle(self, report: Report, row: BaselineRow, found: Examined | str | None) -> None:
        if found is None:
            report.special += 1
        elif isinstance(found, str):
            self._problem(report, IssueEvent(Issue.PROBLEM, row.path, found))
        elif found.damage is Damage.NONE:
            report.unchanged += 1
        else:
            self._settle_damage(report, row, found)

    def _settle_damage(self, report: Report, row: BaselineRow, found: Examined) -> None:
        if found.damage is Damage.BOTH:
            self._damaged(report, row.path, f"{found.damage}; {_CANNOT}")
        elif not self.repair:
            self._damaged(report, row.path, found.damage)
        else:
            repair = self._repair_root if found.damage is Damage.ROOT else self._repair_store
            try:
                repair(row, found.local, found.remote)
            except (CraftsyncError, OSError) as error:
                self._damaged(report, row.path, f"{found.damage}, and not repaired: {error}")
            else:
                report.repaired += 1
                self.on_event(ActionEvent("repair", row.path, row.size, "done", found.damage))
            finally:
                self._record_left()

    def _damaged(self, report: Report, path: str, reason: str) -> None:
        self._problem(report, DamageEvent(Issue.PROBLEM, path, reason))

    def _problem(self, report: Report, issue: IssueEvent) -> None:
        report.problems += 1
        report.note(issue)
        self.on_event(issue)

    def _unchanged(self, row: BaselineRow) -> tuple[LocalFile, RemoteObject] | None:
        """Return file and object if neither has changed since the last sync."""
        local = self.root.stat(row.path)
        if local is None or local != LocalFile(*row[:5]):
            return None
        remote = self.store.stat(row.path)
        if remote is None or not remote_is_same(remote, row):
            return None
        return local, remote

    def _damage(self, agreed: bytes, local: LocalFile, remote: RemoteObject) -> Damage:
        root_is_bad = not self._is_intact_here(agreed, local)
        try:
            store_is_bad = not self._is_intact_there(agreed, remote)
        except ObjectArchived:
            # An archived object cannot be read, but the file's damage is certain.
            if root_is_bad:
                return Damage.ROOT
            raise
        if root_is_bad and store_is_bad:
            return Damage.BOTH
        if root_is_bad:
            return Damage.ROOT
        return Damage.STORE if store_is_bad else Damage.NONE

    def _is_intact_here(self, agreed: bytes, local: LocalFile) -> bool:
        with self.root.open_file(local.path) as file:
            # The page cache may be intact although the disk is damaged.
            file.drop_cached()
            digest = file.digest(self.fetcher.hashing.read)
            file.verify()
        return digest == agreed

    def _is_intact_there(self, agreed: bytes, remote: RemoteObject) -> bool:
        """Return whether an object is intact. Reads it again after a mismatch, which transit may have caused."""
        for _ in range(2):
            with suppress(ContentDamaged):
                if self.fetcher.read_digest(remote) == agreed:
                    return True
        return False

    def _repair_root(self, row: BaselineRow, local: LocalFile, remote: RemoteObject) -> None:
        fetched = self.fetcher.fetch(remote, None)
        temporary = fetched.temporary
        try:
            if fetched.digest != row.digest:
                raise ContentDamaged(f"{row.path} was damaged on its way.")
            self.root.sync()
            keep = stamp(self.clock)
            placed = self.root.place(
                temporary, row.path, expect=local, mtime_ns=local.mtime_ns, trash_stamp=keep
            )
            self.root.sync()
        finally:
            temporary.discard()
        repaired = BaselineRow(*placed, row.racy, *row[6:])
        self._record(repaired, KeptVersion("root", keep, row.path, row.size))

    def _repair_store(self, row: BaselineRow, local: LocalFile, remote: RemoteObject) -> None:
        keep = stamp(self.clock)
        with self.root.open_file(row.path) as file:
            source = RootSource(file, self.fetcher.limiter, self.fetcher.hashing)
            if source.digest != row.digest:
                raise PathBusy(f"{row.path} changed while it was read.")
            operation = f"scrub-{keep}"
            written = self.store.write(
                row.path, source, expect=remote, operation=operation, trash_stamp=keep
            )
        written = self.store.barrier().get(row.path, written)
        repaired = row._replace(modified_ns=written.modified_ns, version=written.version)
        # The versions that a bucket keeps itself are not in the trash.
        in_trash = not self.store.features.keeps_versions
        self._record(repaired, KeptVersion("store", keep, row.path, row.size) if in_trash else None)

    def _record_left(self) -> None:
        """Record the trash copies that a repair left in the store besides the replaced version."""
        with left_in_trash(self.store) as copies:
            if left := [KeptVersion("store", *copy) for copy in copies]:
                with self.state.transaction():
                    self.state.kept.add(left, self.clock.now_ns())

    def _record(self, row: BaselineRow, kept: KeptVersion | None) -> None:
        with self.state.transaction():
            self.state.baseline.put([row])
            self.state.kept.add([kept] if kept else [], self.clock.now_ns())
