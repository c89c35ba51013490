"""Plans a run: merges the three streams, decides each path, pairs moves, holds deletes.

Planning changes nothing but the plan table. While a run executes, `Intake` adds
steps for files that change meanwhile, so that they need not wait for its large
transfers. It adds only uploads and downloads of paths that no step concerns.
Deletes and renames wait for the next run, where the guard sees all of them.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol

from craftsync.core.conflicts import conflict_original
from craftsync.core.decide import decide, remote_is_same
from craftsync.core.guard import SideCounts, reason_to_hold
from craftsync.core.merge import Joined, OutOfOrder, Triple, Unknown, known, merge
from craftsync.core.model import (
    READ_BACK,
    Action,
    BaselineRow,
    Compare,
    Kind,
    LocalFile,
    RemoteObject,
    Skipped,
)
from craftsync.core.paths import malformed
from craftsync.engine import planfile
from craftsync.engine.report import Issue, IssueEvent, OnEvent, Options, ProgressEvent
from craftsync.engine.review import REVIEW
from craftsync.engine.sides import FolderSide, Left, StoreSide, in_order_left
from craftsync.errors import ListingBroken, StoreError
from craftsync.net.waiting import blocking
from craftsync.state.pair import State
from craftsync.state.plan import Totals

_FORCE = "If that is meant: --force-delete"


@dataclass(slots=True)
class Planned(planfile.Planned):
    """What planning a run counted."""

    here: int = 0
    there: int = 0

    def found_unchanged(self, count: int) -> None:
        self.here += count
        self.there += count
        self.unchanged += count


@dataclass(frozen=True, slots=True)
class Planner:
    """Plans runs between two sides."""

    left: Left
    right: StoreSide
    state: State
    options: Options
    on_event: OnEvent
    now_ns: int

    def plan(self, paths: Iterable[str] | None = None, *, listed: bool = False) -> Planned:
        """Fill the plan table for all paths, or for the given ones and what lies below them.

        Raises what the store raises when its listing does not end well: then
        nothing at all is planned. `listed`: the paths come from a listing of this run.
        """
        planned = Planned()
        gone_here, gone_there = Unknown(), Unknown()
        note = planned.noter(self.on_event)

        def is_unknown(path: str) -> bool:
            return path in gone_here or path in gone_there or self.left.is_beyond(path)

        features = self.right.store.features
        with self.state.transaction(), _no_garbage_collection():
            self._begin(paths)
            triples = self._triples(paths, gone_here, gone_there, note, listed=listed)
            triples = self.state.cut_off.noting(triples, is_unknown)
            back: list[str] = []
            if self._may_release(whole=paths is None):
                triples = self._noting_back(triples, gone_here, gone_there, back)
            try:
                self._spool(self.decided(triples, gone_here, gone_there, planned))
            except OutOfOrder as error:
                raise ListingBroken(f"a listing came out of order: {error}") from error
            if self.left.is_folder:
                self.state.plan.pair_moves(by_version=features.md5_versions)
            self.state.held.release(back)
            if paths is None:
                self._end_intents_of_the_gone()
                self.state.held.keep_planned(self.options.policy.mode, is_unknown)
                self.state.cut_off.note_unmet(is_unknown)
            self.state.events.add(self.state.cut_off.went(self.now_ns), self.options.delete_limit)
            if not self.options.force_delete:
                self._hold(planned, whole=paths is None)
            self.state.plan.arrange()
        planned.deletes = sum(map(self.state.plan.count, (Kind.DELETE_LOCAL, Kind.DELETE_REMOTE)))
        return planned

    def _begin(self, paths: Iterable[str] | None) -> None:
        """Empty the plan, and record what a run that was killed put into the folder, once a power cut cannot take it back."""
        is_folder, has_operations = self.left.is_folder, self.right.store.features.metadata
        self.state.plan.begin(
            by_operation=is_folder and has_operations, again=None if is_folder else paths
        )
        rows = self.state.arrivals.take_over(self.left.stat)
        if rows:
            self.left.sync()
            self.state.baseline.put(rows)

    def _end_intents_of_the_gone(self) -> None:
        """Forget the writes of earlier runs whose paths are gone from the store; a stat of each says so."""
        unseen = self.state.intents.unseen()
        for names in planfile.in_batches(iter(unseen)):
            there = {entry.path for entry in self.right.stat(names)}
            self.state.intents.agreed(path for path in names if path not in there)

    def _triples(
        self,
        paths: Iterable[str] | None,
        gone_here: Unknown,
        gone_there: Unknown,
        note: Callable[[Skipped], None],
        *,
        listed: bool,
    ) -> Iterator[Triple]:
        if paths is not None:
            return self._at(sorted(set(paths)), gone_here, gone_there, note, listed=listed)
        baseline, database = self.state.baseline, self.state.database
        boundaries = baseline.boundaries(planfile.LISTING_SHARE)
        # The left side comes first: it may be what tells that one lies in the other.
        scanned = self.left.scan(boundaries, baseline.count())
        left = known(planfile.counted(scanned, self.left.stage, self.on_event), gone_here, note)
        files = in_order_left(self.left, database, left)
        listed_there = planfile.counted(
            self.right.list(boundaries), self.right.stage, self.on_event
        )
        right = known(listed_there, gone_there, self._heeding(note))
        objects = self.right.in_order(database, right)
        return merge(files, baseline.rows(), objects)

    def _heeding(self, note: Callable[[Skipped], None]) -> Callable[[Skipped], None]:
        """Return what is told what the store could not tell, as far as that matters."""

        def heed(skipped: Skipped) -> None:
            if self.right.matters(skipped):
                note(skipped)

        return heed

    def _at(
        self,
        wanted: list[str],
        gone_here: Unknown,
        gone_there: Unknown,
        note: Callable[[Skipped], None],
        *,
        listed: bool,
    ) -> Iterator[Triple]:
        """Yield what is at these paths and below them, as it is found: a folder may hold any number of files.

        A path at which nothing is found is yielded too, with nothing.
        """
        local = known(self.left.look(wanted), gone_here, note)
        baseline, heed = self.state.baseline, self._heeding(note)
        if self.left.is_folder:
            rows = baseline.below(wanted)
            named = ((path,) for path in wanted if not malformed(path))
        else:
            rows = (row for path in wanted if (row := baseline.get(path)))
            named = ((path,) for path in wanted)
        for batch in planfile.in_batches(merge(local, rows, named)):
            names = [joined.path for joined in batch]
            answers = self.right.stat(names, listed=listed)
            found = {remote.path: remote for remote in known(answers, gone_there, heed)}
            for path, file, row, _ in batch:
                yield Joined(path, file, row, found.get(path))

    def _may_release(self, *, whole: bool) -> bool:
        """Return whether held deletes may have to be released by what is met on the way.

        A complete run releases those of its own mode by what it does not plan.
        """
        held = self.state.held
        return held.has_other(self.options.policy.mode) if whole else held.count() > 0

    def _noting_back(
        self, triples: Iterable[Triple], gone_here: Unknown, gone_there: Unknown, back: list[str]
    ) -> Iterator[Triple]:
        """Pass on what is met, and note the held paths that are there again, or gone on both sides."""
        for triple in triples:
            path, local, _, remote = triple
            kind = self.state.held.kind(path)
            if kind is Kind.UPLOAD:
                gone = (
                    local is None and path not in gone_here,
                    remote is None and path not in gone_there,
                )
                if any(gone):
                    back.append(path)
            elif kind is not None:
                is_remote = kind is Kind.DELETE_REMOTE
                lost, survivor = (local, remote) if is_remote else (remote, local)
                unknown = gone_there if is_remote else gone_here
                if lost is not None or (survivor is None and path not in unknown):
                    back.append(path)
            yield triple

    def decided(
        self,
        triples: Iterable[Triple],
        gone_here: Unknown,
        gone_there: Unknown,
        planned: Planned,
    ) -> Iterator[Action]:
        """Yield what is to be done at each path, and count the rest in `planned`; nothing where a side is unknown."""
        policy, ignored = self.options.policy, self.left.ignored
        by_fingerprint = policy.compare is Compare.FINGERPRINT
        any_name = self.left.is_folder or self.right.store.features.raw_keys
        unchanged = 0
        for path, local, row, remote in triples:
            if (
                row is not None
                and remote is not None
                and local == row[:5]
                and not row[5]
                and (by_fingerprint or row[10] == READ_BACK)
                and remote_is_same(remote, row)
            ):
                unchanged += 1
                continue
            if local is None and path not in gone_here and ignored(path):
                continue
            planned.here += local is not None
            planned.there += remote is not None
            if (local is None and path in gone_here) or (remote is None and path in gone_there):
                self._left_alone(Joined(path, local, row, remote), gone_here, gone_there, planned)
                continue
            decision = decide(local, row, remote, policy)
            if not any_name and local is not None and (reason := malformed(path)):
                self._refused(path, row, reason, planned)
            elif decision is not None:
                yield Action(decision.kind, path, decision.rule, local, row, remote)
            elif local is not None and remote is not None:
                planned.unchanged += 1
            elif row is not None:
                self.state.leave_out(path)
        planned.found_unchanged(unchanged)

    def _left_alone(
        self, at: Triple, gone_here: Unknown, gone_there: Unknown, planned: Planned
    ) -> None:
        """Report what takes no part by design where the other side holds something to be kept in sync."""
        if at.baseline is not None:
            self.state.leave_out(at.path)
        if decide(at.local, at.baseline, at.remote, self.options.policy) is None:
            return
        place, side = None, ""
        if at.remote is not None:
            place, side = gone_here.blocked_by(at.path), self.right.word
        elif at.local is not None:
            place, side = gone_there.blocked_by(at.path), self.left.word
        if place is not None:
            planned.skipped += 1
            reason = f"a symbolic link or special file is in the way of what the {side} holds here"
            self.on_event(IssueEvent(Issue.SKIPPED, place, reason))

    def _refused(self, path: str, row: BaselineRow | None, reason: str, planned: Planned) -> None:
        planned.skipped += 1
        if row is not None:
            self.state.leave_out(path)
        reason = f"the {self.right.word} cannot hold it: {reason}"
        self.on_event(IssueEvent(Issue.SKIPPED, path, reason))

    def _spool(self, actions: Iterator[Action]) -> None:
        planned = 0
        for batch in planfile.in_batches(actions):
            self.state.plan.add(batch)
            planned += len(batch)
            self.on_event(ProgressEvent("planning", planned))

    def _hold(self, planned: Planned, *, whole: bool) -> None:
        baseline, asked = self.state.baseline.count(), self.options.delete_limit
        sides = (
            (Kind.DELETE_REMOTE, self.left.word, planned.here),
            (Kind.DELETE_LOCAL, self.right.word, planned.there),
        )
        for kind, side, listed in sides:
            deletes = self.state.plan.count(kind)
            # Only a look at everything can tell that a side is empty.
            is_empty = whole and not listed and (side != self.left.word or self.left.is_empty())
            counts = SideCounts(0 if is_empty else max(listed, 1), deletes, baseline)
            # The only file of a folder may be deleted; of a source nobody knows whether it was one.
            if counts.emptied or (not counts.listed and side == "source"):
                planned.emptied.add(side)
            limit = replace(
                asked,
                spent=self.state.events.spent(kind, asked, self.now_ns),
                emptied=asked.emptied | planned.emptied,
            )
            reason = reason_to_hold(counts, limit, side) or self.state.held.standing(kind, limit)
            if reason is None or not deletes:
                continue
            if self.state.keeps_held:
                self.state.held.add(kind, reason, self.options.policy.mode, limit, self.now_ns)
            self._report_held(kind, reason, planned)

    def _report_held(self, kind: Kind, reason: str, planned: Planned) -> None:
        where = self.right.word if kind is Kind.DELETE_REMOTE else self.left.word
        can_review = self.state.keeps_held and not self.options.dry_run
        # Where the state goes with the machine, nobody can approve anything later.
        can_force = not self.state.keeps_held or not self.state.baseline.count()
        remedy = ". ".join([_FORCE] * can_force + [REVIEW] * can_review)
        planned.hold(self._left_out(kind), where, reason, remedy, self.on_event)

    def _left_out(self, kind: Kind) -> Iterator[str]:
        """Take the steps of a kind out of the plan, and yield their paths."""
        for path in self.state.plan.remove(kind):
            self.state.leave_out(path)
            yield path


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Pause the search for cycles: a run makes millions of records and none, and it costs a third."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


_MOST_PATHS = 1000
"""More are the next run's: their looks would hold up what is under way."""
_TAKEN_IN = (Kind.UPLOAD, Kind.DOWNLOAD, Kind.RECONCILE, Kind.ADOPT)


Answers = Sequence[RemoteObject | Skipped] | None
"""What the store holds; `None` where it could not be asked."""


class Changes(Protocol):
    """Where a run learns what has changed since it was planned; called from its control thread only."""

    def take(self) -> Collection[str]:
        """Return the paths that have changed and settled; a folder stands for all below it."""
        ...

    def later(self, paths: Iterable[str]) -> None:
        """Offer these to the same run once more: a step of it has to do with them."""
        ...

    def leave(self, paths: Iterable[str]) -> None:
        """Leave these to the next run."""
        ...


class Intake:
    """Decides what to do at the paths that changed during a run. Belongs to its control thread."""

    def __init__(self, planner: Planner, changes: Changes) -> None:
        """Changes are only heard of where the left side is a folder."""
        assert isinstance(planner.left, FolderSide)
        self._planner = planner
        self._folder = planner.left
        self._state = planner.state
        self._changes = changes

    def here(self, skipped: set[str]) -> list[Triple]:
        """Return what folder and baseline hold at paths that changed and may be taken in.

        `skipped` are paths whose step has ended and changed nothing; those that
        get another one are removed from it.
        """
        wanted = sorted(set(self._changes.take()))
        if not wanted:
            return []
        unknown = Unknown()
        met = self._met(wanted, unknown)
        if len(met) > _MOST_PATHS:
            self._changes.leave(wanted)
            return []
        gone = {_fingerprint(row) for _, file, row, _ in met if row is not None and file is None}
        with self._state.transaction():
            for path in {triple.path for triple in met} & skipped:
                skipped.discard(path)
                self._state.plan.give_up(path)
        found = []
        for triple in met:
            path, file, row, _ = triple
            if self._is_in_hand(path):
                self._changes.later([path])
            elif (
                path in unknown
                or (file is None and row is not None)
                or (file is not None and row is None and _fingerprint(file) in gone)
                or self._needs_a_whole_run(path)
            ):
                self._changes.leave([path])
            else:
                found.append(triple)
        return found

    def _met(self, wanted: Sequence[str], unknown: Unknown) -> list[Triple]:
        # An ignore file may be among what has changed.
        self._folder = self._folder.with_new_rules()
        self._planner = replace(self._planner, left=self._folder)
        files = known(self._folder.look(wanted), unknown, self._leave_one)
        named = ((path,) for path in wanted if not malformed(path))
        rows = self._state.baseline.below(wanted)
        met = islice(merge(files, rows, named), _MOST_PATHS + 1)
        return [Joined(path, file, row, None) for path, file, row, _ in met]

    def _leave_one(self, skipped: Skipped) -> None:
        self._changes.leave([skipped.path])

    def _is_in_hand(self, path: str) -> bool:
        """Return whether the run has a step that is not recorded yet for this path, or for one that may need it."""
        original = conflict_original(path)
        return self._state.plan.touches(path) or (
            original is not None and self._state.plan.touches(original)
        )

    def _needs_a_whole_run(self, path: str) -> bool:
        """Return whether something has to go first, or a delete of the path waits for a person."""
        held = self._state.held.kind(path) is not None
        return held or self._state.baseline.obstructs(path)

    def there(self, met: Sequence[Triple]) -> Answers:
        """Return what the store holds at these paths, while other short tasks go on."""
        try:
            names = [triple.path for triple in met]
            return blocking(lambda: self._planner.right.stat(names))
        except StoreError:
            return None

    def actions(self, met: Sequence[Triple], answers: Answers) -> list[Action]:
        """Return what is to be done at these paths now; the rest is left to the next run."""
        if answers is None:
            self._changes.leave(triple.path for triple in met)
            return []
        unknown = Unknown()
        found = {remote.path: remote for remote in known(answers, unknown, self._leave_one)}
        triples = (
            triple._replace(remote=found.get(triple.path))
            for triple in met
            if triple.path not in unknown
        )
        planned = self._planner.decided(triples, Unknown(), Unknown(), Planned())
        taken = []
        for action in planned:
            if action.kind in _TAKEN_IN:
                taken.append(action)
            else:
                self._changes.leave([action.path])
        return taken

    def leave(self, paths: Iterable[str]) -> None:
        """Leave these to the next run after all."""
        self._changes.leave(paths)


def totals_of(actions: Iterable[Action]) -> Totals:
    """Return how much these transfer."""
    sizes = [
        side.size
        for action in actions
        if action.kind is not Kind.ADOPT
        and (side := action.remote if action.kind is Kind.DOWNLOAD else action.local) is not None
    ]
    return Totals(len(sizes), sum(sizes))


def _fingerprint(file: LocalFile | BaselineRow) -> tuple[int | str, int, int]:
    """Return what a file keeps when it is renamed."""
    return file.inode, file.size, file.mtime_ns
