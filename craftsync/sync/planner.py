"""Plans a pass: merges the three streams, decides each path, pairs moves, holds deletes.

Only looks are taken here; nothing is changed but the plan table.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from craftsync.core.decide import decide, remote_is_same
from craftsync.core.guard import SideCounts, reason_to_hold
from craftsync.core.merge import OutOfOrder, Unknown, known, merge
from craftsync.core.model import (
    Action,
    BaselineRow,
    Compare,
    Kind,
    LocalFile,
    RemoteObject,
    Skipped,
)
from craftsync.core.paths import malformed
from craftsync.errors import ListingBroken
from craftsync.local.folder import Folder
from craftsync.local.ignore import IgnoreRules
from craftsync.local.scan import look, scan
from craftsync.local.scan_process import scan_aside, worth_it
from craftsync.state.pair import PairState
from craftsync.state.spool import in_order
from craftsync.stores.base import Store
from craftsync.sync import planning
from craftsync.sync.report import OnEvent, Options, ProgressEvent

_REVIEW = "Review: craftsync deletes list"
_FORCE = "If that is meant: --force-delete"

_TICK = 8192
"""Paths after which a long scan says that it is alive, which is also when it can be interrupted."""


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

    def plan(self, paths: Iterable[str] | None = None) -> Planned:
        """Fill the plan table for all paths, or for the given ones and what lies below them.

        Raises what the store raises when its listing does not end well: then
        nothing at all is planned.
        """
        planned = Planned()
        gone_here, gone_there = Unknown(), Unknown()
        note = planned.noter(self.on_event)
        with self.state.transaction(), _no_garbage_collection():
            self.state.plan.begin()
            local, baseline, remote = self._streams(paths, gone_here, gone_there, note)
            try:
                actions = self._decide(
                    merge(local, baseline, remote), gone_here, gone_there, planned
                )
                self._spool(actions)
            except OutOfOrder as error:
                raise ListingBroken(f"a listing came out of order: {error}") from error
            self.state.plan.pair_moves(by_version=self.store.features.md5_versions)
            if paths is None:
                self.state.held.keep_planned()
            if not self.options.force_delete:
                self._hold(planned, whole=paths is None)
            self.state.plan.arrange()
        planned.deletes = sum(map(self.state.plan.count, (Kind.DELETE_LOCAL, Kind.DELETE_REMOTE)))
        return planned

    def _streams(
        self,
        paths: Iterable[str] | None,
        gone_here: Unknown,
        gone_there: Unknown,
        note: Callable[[Skipped], None],
    ) -> tuple[Iterable[LocalFile], Iterable[BaselineRow], Iterable[RemoteObject]]:
        if paths is None:
            boundaries = self.state.baseline.boundaries(planning.LISTING_SHARE)
            listing = known(self.store.list(boundaries=boundaries), gone_there, note)
            if not self.store.features.sorted_listing:
                listing = in_order(self.state.database, listing)
            local = known(self._scan(), gone_here, note)
            return local, self.state.baseline.rows(), listing
        wanted = sorted(set(paths))
        here = list(known(look(self.root, self.rules, wanted), gone_here, note))
        rows = list(self.state.baseline.below(wanted))
        named = {path for path in wanted if not malformed(path)}
        names = sorted({file.path for file in here} | {row.path for row in rows} | named)
        return here, rows, known(planning.stat_all(self.store, names), gone_there, note)

    def _scan(self) -> Iterator[LocalFile | Skipped]:
        if worth_it(self.state.baseline.count()):
            options = self.options
            return scan_aside(self.root, include=options.include, exclude=options.exclude)
        return scan(self.root, self.rules)

    def _decide(
        self,
        triples: Iterable[tuple[str, LocalFile | None, BaselineRow | None, RemoteObject | None]],
        gone_here: Unknown,
        gone_there: Unknown,
        planned: Planned,
    ) -> Iterator[Action]:
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
                if not unchanged % _TICK:
                    self.on_event(ProgressEvent("scanning", unchanged))
                continue
            if local is None and (path in gone_here or ignored(path)):
                continue
            planned.here += local is not None
            planned.there += remote is not None
            if remote is None and path in gone_there:
                continue
            decision = decide(local, row, remote, policy)
            if decision is not None:
                yield Action(decision.kind, path, decision.rule, local, row, remote)
            elif local is not None and remote is not None:
                planned.unchanged += 1
        planned.here += unchanged
        planned.there += unchanged
        planned.unchanged += unchanged

    def _spool(self, actions: Iterator[Action]) -> None:
        for batch in planning.in_batches(actions):
            self.state.plan.add(batch)
            self.on_event(ProgressEvent("scanning"))

    def _hold(self, planned: Planned, *, whole: bool) -> None:
        baseline, limit = self.state.baseline.count(), self.options.delete_limit
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
            reason = reason_to_hold(counts, limit, side) or self.state.held.standing(kind, limit)
            if reason is None or not deletes:
                continue
            self.state.held.add(kind, reason, self.options.policy.mode, limit, self.now_ns)
            self._report_held(kind, reason, planned)

    def _report_held(self, kind: Kind, reason: str, planned: Planned) -> None:
        where = "store" if kind is Kind.DELETE_REMOTE else "folder"
        remedy = "" if self.options.dry_run else _REVIEW
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
