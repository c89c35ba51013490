"""Plans a pass: merges the three streams, decides each path, pairs moves, holds deletes.

Only looks are taken here; nothing is changed but the plan table.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from craftsync.core.decide import decide, remote_is_same
from craftsync.core.guard import SideCounts, reason_to_hold
from craftsync.core.merge import Joined, OutOfOrder, Triple, Unknown, known, merge
from craftsync.core.model import Action, Compare, Kind, LocalFile, Skipped
from craftsync.core.paths import malformed
from craftsync.errors import ListingBroken, PathError
from craftsync.local.folder import Folder
from craftsync.local.ignore import IgnoreRules
from craftsync.local.scan import look, scan
from craftsync.local.scan_process import scan_aside, worth_it
from craftsync.state.pair import PairState
from craftsync.state.spool import in_order
from craftsync.stores.base import Store
from craftsync.sync import planning
from craftsync.sync.held import REVIEW
from craftsync.sync.report import Issue, IssueEvent, OnEvent, Options, ProgressEvent

_FORCE = "If that is meant: --force-delete"


@dataclass(slots=True)
class Planned(planning.Planned):
    """What planning a pass counted."""

    here: int = 0
    there: int = 0


@dataclass(frozen=True, slots=True)
class Planner:
    """Plans passes for one root and one store."""

    root: Folder
    store: Store
    state: PairState
    rules: IgnoreRules
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
            return path in gone_here or path in gone_there

        with self.state.transaction(), _no_garbage_collection():
            self.state.plan.begin(by_operation=self.store.features.metadata)
            self._take_over_arrivals()
            triples = self._triples(paths, gone_here, gone_there, note, listed=listed)
            triples = self.state.cut_off.noting(triples, is_unknown)
            back: list[str] = []
            if self._may_release(whole=paths is None):
                triples = self._noting_back(triples, gone_here, gone_there, back)
            try:
                self._spool(self.decided(triples, gone_here, gone_there, planned))
            except OutOfOrder as error:
                raise ListingBroken(f"a listing came out of order: {error}") from error
            self.state.plan.pair_moves(by_version=self.store.features.md5_versions)
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

    def _take_over_arrivals(self) -> None:
        """Record what a run that was killed put into the folder, once a power cut cannot take it back."""
        rows = self.state.arrivals.take_over(self._file_at)
        if rows:
            self.root.sync()
            self.state.baseline.put(rows)

    def _file_at(self, path: str) -> LocalFile | None:
        try:
            return self.root.stat(path)
        except PathError:
            return None

    def _end_intents_of_the_gone(self) -> None:
        """Forget the writes of earlier runs whose paths are gone from the store; a stat of each says so."""
        unseen = self.state.intents.unseen()
        for names in planning.in_batches(iter(unseen)):
            there = {entry.path for entry in planning.stat_all(self.store, names)}
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
        boundaries = self.state.baseline.boundaries(planning.LISTING_SHARE)
        listed_there = planning.counted(
            self.store.list(boundaries=boundaries), "listing", self.on_event
        )
        listing = known(listed_there, gone_there, note)
        if not self.store.features.sorted_listing:
            listing = in_order(self.state.database, listing)
        scanned = planning.counted(self._scan(), "scanning", self.on_event)
        local = known(scanned, gone_here, note)
        return merge(local, self.state.baseline.rows(), listing)

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
        local = known(look(self.root, self.rules, wanted), gone_here, note)
        rows = self.state.baseline.below(wanted)
        named = ((path,) for path in wanted if not malformed(path))
        for batch in planning.in_batches(merge(local, rows, named)):
            names = [joined.path for joined in batch]
            answers = planning.stat_all(self.store, names, listed=listed)
            found = {remote.path: remote for remote in known(answers, gone_there, note)}
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

    def _scan(self) -> Iterator[LocalFile | Skipped]:
        if worth_it(self.state.baseline.count()):
            options = self.options
            return scan_aside(self.root, include=options.include, exclude=options.exclude)
        return scan(self.root, self.rules)

    def decided(
        self,
        triples: Iterable[Triple],
        gone_here: Unknown,
        gone_there: Unknown,
        planned: Planned,
    ) -> Iterator[Action]:
        """Yield what is to be done at each path, and count the rest in `planned`; nothing where a side is unknown."""
        policy, ignored = self.options.policy, self.rules.ignored
        by_fingerprint = policy.compare is Compare.FINGERPRINT
        unchanged = 0
        for path, local, row, remote in triples:
            if (
                by_fingerprint
                and row is not None
                and remote is not None
                and local == row[:5]
                and not row[5]
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
            if decision is not None:
                yield Action(decision.kind, path, decision.rule, local, row, remote)
            elif local is not None and remote is not None:
                planned.unchanged += 1
        planned.here += unchanged
        planned.there += unchanged
        planned.unchanged += unchanged

    def _left_alone(
        self, at: Triple, gone_here: Unknown, gone_there: Unknown, planned: Planned
    ) -> None:
        """Report what takes no part by design where the other side holds something to be kept in sync."""
        if decide(at.local, at.baseline, at.remote, self.options.policy) is None:
            return
        place, side = None, ""
        if at.remote is not None:
            place, side = gone_here.blocked_by(at.path), "store"
        elif at.local is not None:
            place, side = gone_there.blocked_by(at.path), "folder"
        if place is not None:
            planned.skipped += 1
            reason = f"a symbolic link or special file is in the way of what the {side} holds here"
            self.on_event(IssueEvent(Issue.SKIPPED, place, reason))

    def _spool(self, actions: Iterator[Action]) -> None:
        planned = 0
        for batch in planning.in_batches(actions):
            self.state.plan.add(batch)
            planned += len(batch)
            self.on_event(ProgressEvent("planning", planned))

    def _hold(self, planned: Planned, *, whole: bool) -> None:
        baseline, asked = self.state.baseline.count(), self.options.delete_limit
        sides = (
            (Kind.DELETE_REMOTE, "folder", planned.here),
            (Kind.DELETE_LOCAL, "store", planned.there),
        )
        for kind, side, listed in sides:
            deletes = self.state.plan.count(kind)
            # Only a look at everything can tell that a side is empty.
            counts = SideCounts(listed if whole else 1, deletes, baseline)
            if counts.emptied:
                planned.emptied.add(side)
            limit = replace(asked, spent=self.state.events.spent(kind, asked, self.now_ns))
            reason = reason_to_hold(counts, limit, side) or self.state.held.standing(kind, limit)
            if reason is None or not deletes:
                continue
            self.state.held.add(kind, reason, self.options.policy.mode, limit, self.now_ns)
            self._report_held(kind, reason, planned)

    def _report_held(self, kind: Kind, reason: str, planned: Planned) -> None:
        where = "store" if kind is Kind.DELETE_REMOTE else "folder"
        remedy = "" if self.options.dry_run else REVIEW
        if not self.state.baseline.count():
            # Where the state goes with the machine, nobody can approve anything later.
            remedy = f"{_FORCE}. {remedy}" if remedy else _FORCE
        planned.hold(self.state.plan.remove(kind), where, reason, remedy, self.on_event)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Pause the search for cycles: a pass makes millions of records and none, and it costs a third."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
