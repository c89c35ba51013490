"""Carries out a person's decisions: conflicts settled, held deletes approved or rejected.

A conflict copy is known by its name alone (`core.conflicts`), so settling one
needs neither store nor state and works beside a running daemon: the next scan
finds an ordinary change.

Deletes are held by `core.guard` and `engine.planner`; approving or rejecting
them is a plan that is carried out exactly as reviewed, each step only if
nothing changed. Rejecting also restores what the same event deleted before the
guard held the rest.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import NamedTuple

from craftsync.core.conflicts import conflict_original, may_be_shortened, settled_name
from craftsync.core.guard import DeleteLimit
from craftsync.core.model import Action, Kind, LocalFile, Mode, OnConflict, Policy, Skipped
from craftsync.core.paths import malformed
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
from craftsync.engine.trash import Attributes, TrashEntry, fetch, in_versions, version_of
from craftsync.errors import (
    PathError,
    PathObstructed,
    StoreError,
    StoreUnavailable,
    UsageError,
)
from craftsync.local.folder import Folder
from craftsync.local.ignore import IgnoreRules
from craftsync.local.scan import scan
from craftsync.local.temporary import Temporary, copy_content
from craftsync.state.held import Deleted, Events, HeldDelete
from craftsync.state.history import KeptVersion
from craftsync.state.pair import PairState
from craftsync.stores.base import Store


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
            remedy="Run craftsync conflicts list to see them all.",
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


_AT_ONCE = 50
"""Files brought back before the disk is waited for."""
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
    """What is to become of held deletes: of those at `paths` and below them, or of all (`None`).

    Approved, they are carried out. Otherwise they are undone: the surviving
    version goes back to the side that lost the path.
    """

    approved: bool
    paths: tuple[str, ...] | None = None

    @property
    def command(self) -> str:
        """What the history calls it."""
        return "approve" if self.approved else "reject"

    def action(self, held: HeldDelete) -> Action:
        """Return the step that does to one held delete what was said."""
        if self.approved:
            rule = f"a person approved it; it was held: {held.reason}"
            return Action(held.kind, held.path, rule, held.local, None, held.remote)
        rule = f"a person rejected it; it was held: {held.reason}"
        return Action(_RETURNS[held.kind], held.path, rule, held.local, None, held.remote)

    def policy(self, mode: Mode) -> Policy:
        """Return the policy of the steps, for deletes that were held by a run of this mode.

        A delete was part of that mode; the way back may lead against it.
        """
        if self.approved:
            return Policy(mode, delete=True)
        # An edit that was held is undone by the object it would have replaced.
        return Policy(Mode.TWO_WAY, conflict=OnConflict.REMOTE)


@contextmanager
def as_new(state: PairState, held: Iterable[HeldDelete]) -> Iterator[None]:
    """Have the baseline forget these paths meanwhile, for only what is new to it is brought back.

    What was not brought back is remembered again in the end; a crash before
    leaves it forgotten, and the next run merges it without deleting.
    """
    with state.transaction():
        state.baseline.set_aside(one.path for one in held)
    try:
        yield
    finally:
        with state.transaction():
            state.baseline.bring_back()


def note_deletes(
    events: Events, finished: Iterable[Outcome], limit: DeleteLimit, stamp: str, now_ns: int
) -> None:
    """Count deletes that were carried out without a person's word, and the new paths that make up for them.

    `stamp` is what the trash keeps them under.
    """
    done = [one for one in finished if one.status is not Status.PLANNED]
    events.make_up(sum(1 for one in done if one.rows and one.action.baseline is None))
    events.add(
        (
            Deleted(one.action.kind, one.action.path, _size(one.action), now_ns, stamp)
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
    """Brings back what an event deleted before the guard held the rest.

    Only what neither side holds by now is brought back; what is there again is
    reported and left. `settled` are the paths of which nothing is left to do,
    `failed` those that could not be brought back.
    """

    root: Folder
    store: Store
    report: Report
    on_event: OnEvent
    keep: str
    settled: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def put_back(self, deleted: Iterable[Deleted]) -> list[Action]:
        """Put the kept versions into the folder; return the steps that upload them.

        A dry run reports what would be put back, and returns none.
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
            reason = f"not brought back: the {where} holds something there again"
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
        """Return where a deleted version is kept, `None` if no old version of the bucket can be found."""
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
                keep=self.keep,
                mode=attributes.mode,
            )
        except PathError as error:
            self._problem(one, str(error))
            return None

    def _problem(self, one: Deleted, reason: str) -> None:
        self.report.problems += 1
        self.failed.append(one.path)
        self.on_event(IssueEvent(Issue.PROBLEM, one.path, f"not brought back: {reason}"))


_RULE = "a person rejected the event that this path was deleted in"
