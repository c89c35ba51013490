"""Approves and rejects held deletes.

A run holds deletes that are suspicious: more at once than
`max_delete` allows, or all of a side (`core.guard`, called by `engine.planner`),
and the delete or edit of an archived object of which no copy can be kept
(`engine.carrier`). They are rows of the table `held` (`state.held`).

Approved or rejected, they become a plan that is carried out exactly as
reviewed, each step only if nothing changed. Rejecting also restores from the
trash what the same event deleted before the guard held the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from craftsync.core.guard import DeleteLimit
from craftsync.core.model import Action, Kind, LocalFile, Mode, OnConflict, Policy
from craftsync.engine.report import (
    ActionEvent,
    Issue,
    IssueEvent,
    OnEvent,
    Outcome,
    ProgressEvent,
    Report,
    Status,
)
from craftsync.engine.review.trash import Attributes, TrashEntry, fetch, in_versions, version_of
from craftsync.errors import (
    PathError,
    PathObstructed,
    StoreError,
    StoreUnavailable,
    UsageError,
)
from craftsync.local.folder import Folder
from craftsync.local.temporary import Temporary
from craftsync.state.held import Deleted, Events, HeldDelete
from craftsync.state.pair import PairState
from craftsync.stores.base import Store

_AT_ONCE = 50
"""Files restored before the disk is waited for."""
DELETES = (Kind.DELETE_REMOTE, Kind.DELETE_LOCAL)
_KEPT_BY = {Kind.DELETE_REMOTE: "store", Kind.DELETE_LOCAL: "root"}
_RETURNS = {
    Kind.DELETE_REMOTE: Kind.DOWNLOAD,
    Kind.DELETE_LOCAL: Kind.UPLOAD,
    Kind.UPLOAD: Kind.DOWNLOAD,
}
ARCHIVED = "the object is archived, and the store can keep no copy of it"
"""Why a delete or an upload is held that would leave no version to get back."""
REVIEW = "Review: craftsync deletes list"


class Approval(NamedTuple):
    """A decision about held deletes: those at `paths` and below them, or all (`None`).

    Approved deletes are carried out. Rejected ones are undone: the surviving
    version is copied back to the side that lost the path.
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

        An approved delete belongs to that mode; restoring may copy against its direction.
        """
        if self.approved:
            return Policy(mode, delete=True)
        # An edit that was held is undone by the object it would have replaced.
        return Policy(Mode.TWO_WAY, conflict=OnConflict.REMOTE)


@contextmanager
def without_baseline(state: PairState, held: Iterable[HeldDelete]) -> Iterator[None]:
    """Remove the baseline rows of these paths during a `with` block.

    A path without a row counts as new, so it is copied to the side that lacks it.
    At the end the rows of paths that were not copied are restored; a crash before
    that loses them, and the next run merges these paths without deleting.
    """
    with state.transaction():
        state.baseline.set_aside(one.path for one in held)
    try:
        yield
    finally:
        with state.transaction():
            state.baseline.bring_back()


def note_deletes(
    events: Events, finished: Iterable[Outcome], limit: DeleteLimit, trash_stamp: str, now_ns: int
) -> None:
    """Count unapproved deletes, and the new paths that offset them.

    `trash_stamp` is their folder in the trash.
    """
    done = [one for one in finished if one.status is not Status.PLANNED]
    events.make_up(sum(1 for one in done if one.rows and one.action.baseline is None))
    events.add(
        (
            Deleted(one.action.kind, one.action.path, _size(one.action), now_ns, trash_stamp)
            for one in done
            if one.action.kind in DELETES and one.status is Status.DONE
        ),
        limit,
    )


def _size(action: Action) -> int:
    survivor = action.local or action.remote
    return survivor.size if survivor else 0


@dataclass(slots=True)
class Returning:
    """Restores what an event deleted before the guard held the rest.

    Only paths that neither side holds now are restored; others are reported and
    left alone. Files in the way go to the folder's trash under `trash_stamp`.
    `settled` are the paths that need nothing more, `failed` those that could not
    be restored.
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

        A dry run reports what would be restored, and returns no steps.
        """
        actions: list[Action] = []
        rows = iter(deleted)
        while batch := list(islice(rows, _AT_ONCE)):
            absent = [one for one in batch if self._is_absent(one)]
            if self.report.dry_run:
                self._plan(absent)
            else:
                actions += self._placed(absent)
        return actions

    def _is_absent(self, one: Deleted) -> bool:
        self.on_event(ProgressEvent("scanning"))
        try:
            where = "folder" if self.root.stat(one.path) is not None else ""
        except PathObstructed:
            where = "folder"
        except PathError as error:
            self._problem(one, str(error))
            return False
        if not where and self.store.stat(one.path) is not None:
            where = "store"
        if where:
            self.report.skipped += 1
            reason = f"not restored: the path exists again in the {where}"
            self.on_event(IssueEvent(Issue.SKIPPED, one.path, reason))
            self.settled.append(one.path)
        return not where

    def _plan(self, absent: Sequence[Deleted]) -> None:
        for one in absent:
            self.report.uploaded += 1
            self.on_event(ActionEvent(Kind.UPLOAD, one.path, one.size, "planned", _RULE))

    def _placed(self, absent: Sequence[Deleted]) -> list[Action]:
        fetched = [(one, found) for one in absent if (found := self._fetched(one)) is not None]
        try:
            self.root.sync()
            placed = [
                (one, file)
                for one, (temporary, attributes) in fetched
                if (file := self._place(one, temporary, attributes)) is not None
            ]
            self.root.sync()
        finally:
            for _, (temporary, _) in fetched:
                temporary.discard()
        self.settled += [one.path for one, _ in placed]
        return [Action(Kind.UPLOAD, one.path, _RULE, file) for one, file in placed]

    def _fetched(self, one: Deleted) -> tuple[Temporary, Attributes] | None:
        entry = self._entry(one)
        if entry is None:
            self._problem(one, f"deleted from the bucket. {in_versions(self.store, one.path)}")
            return None
        temporary = self.root.temporary()
        try:
            return temporary, fetch(self.root, self.store, entry, temporary)
        except (UsageError, PathError) as error:
            temporary.discard()
            self._problem(one, str(error))
        except BaseException:
            temporary.discard()
            raise
        return None

    def _entry(self, one: Deleted) -> TrashEntry | None:
        """Return where a deleted version is kept; `None` if the bucket has no such version."""
        if one.kind is Kind.DELETE_REMOTE and self.store.features.keeps_versions:
            try:
                return version_of(self.store, one.path, one.size, None)
            except StoreUnavailable:
                raise
            except StoreError:
                return None
        return TrashEntry(_KEPT_BY[one.kind], one.stamp, one.path, one.size)

    def _place(
        self, one: Deleted, temporary: Temporary, attributes: Attributes
    ) -> LocalFile | None:
        try:
            return self.root.place(
                temporary,
                one.path,
                expect=None,
                mtime_ns=attributes.mtime_ns,
                trash_stamp=self.trash_stamp,
                mode=attributes.mode,
            )
        except PathError as error:
            self._problem(one, str(error))
            return None

    def _problem(self, one: Deleted, reason: str) -> None:
        self.report.problems += 1
        self.failed.append(one.path)
        self.on_event(IssueEvent(Issue.PROBLEM, one.path, f"not restored: {reason}"))


_RULE = "a person rejected the event that this path was deleted in"
