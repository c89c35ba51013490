"""Approves and rejects held deletes.

A run holds suspicious deletes: more at once than `max_delete` allows, or all of a side
(`core.guard`, called by `engine.planner`). It also holds the delete or edit of an archived object
of which no copy can be kept (`engine.carrier`). They are rows of the table `held` (`state.held`).

An approval or a rejection turns them into a plan, which is carried out exactly as reviewed, each
step only if nothing has changed. Rejecting also restores, from the trash, the paths that the same
event deleted before the guard held the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

from craftsync.core.model import Action, Kind, LocalFile, Mode, OnConflict, Policy
from craftsync.engine.report import (
    ActionEvent,
    Issue,
    IssueEvent,
    OnEvent,
    ProgressEvent,
    Report,
)
from craftsync.engine.review.trash import Restored, Restoring
from craftsync.engine.review.versions import TrashEntry, in_versions, version_of
from craftsync.errors import PathObstructed, StoreError, StoreUnavailable
from craftsync.local.folder import Folder
from craftsync.state.held import Deleted, HeldDelete
from craftsync.state.pair import PairState
from craftsync.stores.base import Store

_KEPT_BY = {Kind.DELETE_REMOTE: "store", Kind.DELETE_LOCAL: "root"}
_RETURNS = {
    Kind.DELETE_REMOTE: Kind.DOWNLOAD,
    Kind.DELETE_LOCAL: Kind.UPLOAD,
    Kind.UPLOAD: Kind.DOWNLOAD,
}


class Approval(NamedTuple):
    """A decision about held deletes: those at `paths` and below them, or all (`None`).

    Approved deletes are carried out. For a rejected one, the surviving version is copied back to
    the side that lost the path.
    """

    approved: bool
    paths: tuple[str, ...] | None = None

    @property
    def command(self) -> str:
        """Its name in the history."""
        return "approve" if self.approved else "reject"

    def action(self, held: HeldDelete) -> Action:
        """Return the step that carries out this decision for one held delete."""
        if self.approved:
            rule = f"a person approved it; it was held: {held.reason}"
            return Action(held.kind, held.path, rule, held.local, None, held.remote)
        rule = f"a person rejected it; it was held: {held.reason}"
        return Action(_RETURNS[held.kind], held.path, rule, held.local, None, held.remote)

    def policy(self, mode: Mode) -> Policy:
        """Return the policy of the steps, for deletes held by a run of this mode.

        An approved delete has that mode's policy. Restoring may copy against the mode's direction.
        """
        if self.approved:
            return Policy(mode, delete=True)
        # A held edit is undone with the object that it would have replaced.
        return Policy(Mode.TWO_WAY, conflict=OnConflict.REMOTE)


@contextmanager
def resolving(
    approval: Approval,
    root: Folder,
    store: Store,
    state: PairState,
    report: Report,
    on_event: OnEvent,
    trash_stamp: str,
) -> Iterator[Iterable[Action]]:
    """Yield the steps that carry out a decision. At the end of the block, forget the settled events."""
    paths, kinds = approval.paths, state.events.held()
    returning = Returning(root, store, report, on_event, trash_stamp)
    back: list[Action] = []
    if approval.approved:
        returning.settled = [one.path for one in state.events.deleted(paths)]
    else:
        back = returning.put_back(state.events.deleted(paths))
    yield chain(map(approval.action, state.held.rows(paths)), back)
    with state.transaction():
        state.events.forget(returning.settled)
        state.events.keep_rejected(returning.failed)
        state.events.end_settled(kinds)


@dataclass(slots=True)
class Returning:
    """Restores the paths that an event deleted before the guard held the rest.

    Only paths that neither side holds now are restored; others are reported and stay as they are.
    `settled` are the paths that need nothing more, `failed` those that could not be restored.
    """

    root: Folder
    store: Store
    report: Report
    on_event: OnEvent
    trash_stamp: str
    settled: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def put_back(self, deleted: Iterable[Deleted]) -> list[Action]:
        """Restore the kept versions into the folder; return the steps that upload them.

        A dry run reports the versions that it would restore, and returns no steps.
        """
        restoring = Restoring(
            self.root,
            self.store,
            self.trash_stamp,
            note=lambda versions: None,  # Nothing is replaced: `_refusal` skips paths that exist.
            dry_run=self.report.dry_run,
            refusal=self._refusal,
        )
        entries = filter(None, map(self._entry, deleted))
        return list(filter(None, map(self._settle, restoring.run(entries))))

    def _entry(self, one: Deleted) -> TrashEntry | None:
        """Return where a deleted version is kept, or report and return `None` if the bucket lacks it."""
        if one.kind is not Kind.DELETE_REMOTE or not self.store.features.keeps_versions:
            return TrashEntry(_KEPT_BY[one.kind], one.stamp, one.path, one.size)
        try:
            if found := version_of(self.store, one.path, one.size, None):
                return found
        except StoreUnavailable:
            raise
        except StoreError:
            pass
        if reason := self._refusal(one.path):
            self._skip(one.path, reason)
        else:
            self._problem(one.path, f"deleted from the bucket. {in_versions(self.store, one.path)}")
        return None

    def _refusal(self, path: str, _: LocalFile | None = None) -> str | None:
        """Return why a path is not restored, or `None` if it may be."""
        self.on_event(ProgressEvent("scanning"))
        try:
            is_in_folder = self.root.stat(path) is not None
        except PathObstructed:
            is_in_folder = True
        if is_in_folder:
            return "the path exists again in the folder"
        return "the path exists again in the store" if self.store.stat(path) else None

    def _settle(self, one: Restored) -> Action | None:
        """Report the result for one path; return the step that uploads it, if it was restored."""
        path = one.entry.path
        if one.status == "problem":
            self._problem(path, one.reason)
        elif one.status == "planned":
            self.report.uploaded += 1
            self.on_event(ActionEvent(Kind.UPLOAD, path, one.entry.size, "planned", _RULE))
        elif one.file is None:
            self._skip(path, one.reason)
        else:
            self.settled.append(path)
            return Action(Kind.UPLOAD, path, _RULE, one.file)
        return None

    def _skip(self, path: str, reason: str) -> None:
        self.report.skipped += 1
        self.settled.append(path)
        self.on_event(IssueEvent(Issue.SKIPPED, path, f"not restored: {reason}"))

    def _problem(self, path: str, reason: str) -> None:
        self.report.problems += 1
        self.failed.append(path)
        self.on_event(IssueEvent(Issue.PROBLEM, path, f"not restored: {reason}"))


_RULE = "a person rejected the event that this path was deleted in"
