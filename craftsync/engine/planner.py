"""Plans a run: merges the three streams, decides each path, pairs moves, holds deletes.

Planning changes nothing but the plan table. What a filter leaves out is taken
from the merged streams, before anything else looks at it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from craftsync.core.decide import decide, remote_is_same
from craftsync.core.filters import Sieve
from craftsync.core.guard import SideCounts, reason_to_hold
from craftsync.core.merge import Joined, OutOfOrder, Triple, Unknown, known, merge
from craftsync.core.model import (
    READ_BACK,
    Action,
    BaselineRow,
    Compare,
    Kind,
    Mode,
    Skipped,
)
from craftsync.core.paths import malformed
from craftsync.engine import planfile
from craftsync.engine.report import Issue, IssueEvent, OnEvent, Options, ProgressEvent
from craftsync.engine.review.deletes import REVIEW
from craftsync.engine.sides import Left, StoreSide, in_order_left, now_of, unmet_reason
from craftsync.errors import ListingBroken, UsageError
from craftsync.state.pair import State

_FEW = 16
"""So many paths of a list are asked for one by one in any store, which takes as long as one page of a listing."""
_LISTED_FOR_A_STAT = 100
"""Keys that a listing brings in the time of one stat, with many of both under way at once."""
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
        With a filter no run is a whole one: it says nothing of the paths that are left out.
        """
        planned, whole = Planned(), paths is None and not self.options.filter
        gone_here, gone_there = Unknown(), Unknown()
        note = planned.noter(self.on_event)

        def is_unknown(path: str) -> bool:
            return path in gone_here or path in gone_there or self.left.is_beyond(path)

        features = self.right.store.features
        with self.state.transaction(), _no_garbage_collection():
            self._begin(paths)
            sieve = self._sieve()
            triples = self._triples(paths, gone_here, gone_there, note, listed=listed)
            triples = sieve.of(triples, self.state.leave_out) if sieve else triples
            triples = self.state.cut_off.noting(triples, is_unknown)
            back: list[str] = []
            may_release = self._may_release(whole=whole)
            if may_release:
                self.state.held.begin_run()
                triples = self._noting_back(triples, gone_here, gone_there, back)
            self._spool(self.decided(triples, gone_here, gone_there, planned))
            if self.left.is_folder:
                self.state.plan.pair_moves(by_version=features.md5_versions)
            self.state.held.release(back)
            if whole:
                self._end_intents_of_the_gone()
                self._release_held(is_unknown, of_other_modes=may_release)
                self.state.cut_off.note_unmet(is_unknown)
            self.state.events.add(self.state.cut_off.went(self.now_ns), self.options.delete_limit)
            if not self.options.force_delete:
                self._hold(planned, whole=whole)
            self.state.plan.arrange()
        if sieve and paths is None:
            self._report_unmet(sieve, gone_here, gone_there, planned)
        planned.deletes = sum(map(self.state.plan.count, (Kind.DELETE_LOCAL, Kind.DELETE_REMOTE)))
        return planned

    def _sieve(self) -> Sieve | None:
        """Return what takes part, if a filter says so; raises `UsageError` for a run that cannot have it."""
        filter, policy = self.options.filter, self.options.policy
        if not filter:
            return None
        if refusal := filter.refusal(policy):
            raise UsageError(refusal[0], remedy=refusal[1])
        return Sieve(
            filter, policy.mode, now_of(filter, policy.mode, self.left, self.right, self.now_ns)
        )

    def _report_unmet(
        self, sieve: Sieve, gone_here: Unknown, gone_there: Unknown, planned: Planned
    ) -> None:
        """Report what a list names and the side to be copied has not."""
        planned.filtered += sieve.count
        is_push = self.options.policy.mode is Mode.PUSH
        side, gone = (self.left.word, gone_here) if is_push else (self.right.word, gone_there)
        for entry in sieve.unmet():
            path = entry.rstrip("/")
            if (path in gone and not gone.is_by_design(path)) or (
                not self.left.is_folder and self.left.is_beyond(path)
            ):
                continue
            planned.problems += 1
            self.on_event(
                IssueEvent(Issue.PROBLEM, entry, unmet_reason(side, self.left, gone, sieve, path))
            )

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
        if paths is None:
            paths = self._few_listed()
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

    def _few_listed(self) -> Collection[str] | None:
        """Return the files of a list, where it costs less to stat each than to list the store and scan the folder."""
        listed = self.options.filter.listed
        if listed is None or not self.left.is_folder:
            return None
        few = max(_FEW, self.state.baseline.count() // _LISTED_FOR_A_STAT)
        is_short = len(listed.names) <= few and not any(name[-1] == "/" for name in listed.names)
        return listed.names if is_short else None

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
        rows: Iterable[BaselineRow]
        if self.left.is_folder:
            rows = baseline.below(wanted)
            named = ((path,) for path in wanted if not malformed(path))
        else:
            rows = (row for path in wanted if (row := baseline.get(path)))
            named = ((path,) for path in wanted)
        if entries := self.options.filter.listed:
            local, rows = entries.thinned(local), entries.thinned(rows)
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

    def _release_held(self, is_unknown: Callable[[str], bool], *, of_other_modes: bool) -> None:
        """After a complete run, release the held deletes that nothing is left of."""
        self.state.held.keep_planned(self.options.policy.mode, is_unknown)
        if of_other_modes:
            self.state.held.release_unmet(
                self.options.policy.mode,
                lambda path: is_unknown(path) or self.left.ignored(path),
            )

    def _noting_back(
        self, triples: Iterable[Triple], gone_here: Unknown, gone_there: Unknown, back: list[str]
    ) -> Iterator[Triple]:
        """Pass on what is met, and note the held paths that are there again, or gone on both sides."""
        for triple in triples:
            path, local, _, remote = triple
            kind = self.state.held.kind(path)
            if kind is not None:
                self.state.held.met(path)
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
        try:
            for batch in planfile.in_batches(actions):
                self.state.plan.add(batch)
                planned += len(batch)
                self.on_event(ProgressEvent("planning", planned))
        except OutOfOrder as error:
            raise ListingBroken(f"a listing came out of order: {error}") from error

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
