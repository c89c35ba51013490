"""Taking a run back: what it replaced and deleted, where both sides are still as it left them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from craftsync.core.model import BaselineRow, Kind, LocalFile, RemoteObject
from craftsync.engine.report import Outcome, Status
from craftsync.engine.review.trash import (
    NOT_KEPT,
    Restored,
    Restoring,
    TrashEntry,
    Wanted,
    version_of,
)
from craftsync.errors import StoreError, StoreUnavailable, UsageError
from craftsync.local.folder import Folder
from craftsync.state.pair import Baseline, PairState
from craftsync.state.plan import Replaced, Result
from craftsync.stores.base import Store

_CHANGES_FOLDER = (Kind.DOWNLOAD, Kind.DELETE_LOCAL)
_CHANGES_STORE = (Kind.UPLOAD, Kind.DELETE_REMOTE)


def replaced_version(outcome: Outcome) -> Replaced | None:
    """Return the version that a step replaced or deleted. Of a conflict both are there, and a move loses none."""
    action = outcome.action
    if outcome.status is not Status.DONE:
        return None
    if action.kind in _CHANGES_FOLDER and action.local is not None:
        side, size, version = "root", action.local.size, None
    elif action.kind in _CHANGES_STORE and action.remote is not None:
        side, size, version = "store", action.remote.size, action.remote.version
    else:
        return None
    stamp = next((kept.stamp for kept in outcome.kept if kept.path == action.path), None)
    row = next((row for row in outcome.rows if row.path == action.path), None)
    result = None if row is None else Result(row.size, row.digest, row.version)
    return Replaced(action.path, side, stamp, size, version, result)


def undone(run: int, wanted: Wanted, state: PairState, restoring: Restoring) -> Iterator[Restored]:
    """Put back into the folder what a run replaced and deleted, on either side, as far as it is wanted.

    That is done only where both sides are still as the run left them; the next
    run carries it to the store. What a run replaced is put back only with
    `Restoring.overwrite`: a different file is there. Raises `UsageError` for a run that replaced and
    deleted nothing.
    """
    rows = {one.path: one for one in state.replaced.of(run)}
    if not rows:
        raise UsageError(
            f"Nothing is known that run {run} replaced or deleted.",
            remedy="`craftsync history` shows the numbers of runs.",
        )
    left = AsLeft(restoring.root, restoring.store, state.baseline)
    restoring = replace(restoring, refusal=lambda path, found: left.refusal(rows[path], found))
    exact = wanted.selection.by_name(rows)
    return restoring.run(left.entries(one for one in rows.values() if exact.has(one.path)))


@dataclass(frozen=True, slots=True)
class AsLeft:
    """Knows where replaced versions are kept, and whether both sides are still as the run left them.

    Raises `PathError` and `StoreError`.
    """

    root: Folder
    store: Store
    baseline: Baseline

    def entries(self, replaced: Iterable[Replaced]) -> Iterator[TrashEntry]:
        """Yield where each version is kept; the side is `NOT_KEPT` if it is not."""
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
        """Return why a path is not taken back, `None` if it is; `found` is what the folder holds."""
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
