"""Plans a run: joins both listings with what was copied before, decides each path, holds deletes.

Only looks are taken here; nothing is changed but the plan table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from craftsync.core.decide import decide_looks, look_remote
from craftsync.core.guard import SideCounts, reason_to_hold
from craftsync.core.merge import Joined, OutOfOrder, Unknown, known, merge
from craftsync.core.model import BaselineRow, Compare, Kind, Mode, Policy, RemoteObject, Skipped
from craftsync.core.paths import malformed
from craftsync.engine import planfile
from craftsync.engine.report import Issue, IssueEvent, OnEvent
from craftsync.errors import ListingBroken
from craftsync.migrate.identity import Apart
from craftsync.migrate.options import MigrationOptions, Verified, Verify
from craftsync.migrate.shards import Span
from craftsync.state.migration import CopiedRow, CopyStep, MigrationState
from craftsync.state.spool import in_order
from craftsync.stores.base import Store

_Met = Joined[RemoteObject, CopiedRow, RemoteObject]


@dataclass(slots=True)
class Planned(planfile.Planned):
    """What planning a migration counted."""

    source: int = 0


@dataclass(frozen=True, slots=True)
class Planner:
    """Plans runs for one source and one target, within one range of paths."""

    source: Store
    target: Store
    state: MigrationState
    options: MigrationOptions
    span: Span
    on_event: OnEvent
    now_ns: int

    def plan(self, paths: Sequence[str] | None = None) -> Planned:
        """Fill the plan table for all paths of the range, or for the given ones.

        Raises what a store raises when its listing does not end well: then
        nothing at all is planned.
        """
        planned = Planned()
        with self.state.transaction():
            self.state.begin(anew=paths is None)
            source, rows, target = self._streams(paths, planned)

            def is_unknown(path: str) -> bool:
                # What takes no part is not listed, and may be there.
                takes_part = self.span.holds(path) and not self.options.rules.ignored(path)
                return path in source.unknown or path in target.unknown or not takes_part

            met = self.state.cut_off.noting(merge(source.entries, rows, target.entries), is_unknown)
            try:
                for batch in planfile.in_batches(self._decide(met, source, target, planned)):
                    self.state.add(batch)
            except OutOfOrder as error:
                raise ListingBroken(f"a listing came out of order: {error}") from error
            if paths is None:
                self.state.cut_off.note_unmet(is_unknown)
            went = self.state.cut_off.went(self.now_ns)
            self.state.events.add(went, self.options.run.delete_limit)
            if not self.options.run.force_delete:
                self._hold(planned, whole=paths is None)
        planned.deletes = self.state.count(Kind.DELETE_REMOTE)
        return planned

    def _streams(
        self, paths: Sequence[str] | None, planned: Planned
    ) -> tuple[_Side, Iterable[CopiedRow], _Side]:
        note = planned.noter(self.on_event)
        if paths is None:
            boundaries = self.state.boundaries(planfile.LISTING_SHARE)
            rows = self.options.rules.of(
                row for row in self.state.rows() if self.span.holds(row.path)
            )
            source = _Side(note)
            source.entries = self._listed(self.source, boundaries, source, "source")
            # What takes no part over there only matters where it is in the way.
            target = _Side(note if self.options.run.policy.delete else _only_failures(note))
            target.entries = self._listed(self.target, boundaries, target, "target")
            apart = Apart(self.source, self.target, self.state.database.get("target_id"))
            source.entries, target.entries = apart.listed(source.entries, target.entries)
            return source, rows, target
        wanted = sorted(set(paths))
        found = [row for path in wanted if (row := self.state.row(path))]
        source, target = _Side(note), _Side(_only_failures(note))
        for store, side in ((self.source, source), (self.target, target)):
            answers = planfile.stat_all(store, wanted, listed=True)
            side.entries = known(answers, side.unknown, side.note)
        return source, found, target

    def _listed(
        self,
        store: Store,
        boundaries: Sequence[str],
        side: _Side,
        name: str,
    ) -> Iterable[RemoteObject]:
        is_sorted = store.features.sorted_listing
        listed = planfile.counted(
            store.list(boundaries=boundaries, nested_own=name == "source"),
            f"listing the {name}",
            self.on_event,
        )
        listing = self.span.of(listed, in_order=is_sorted)
        entries = known(self.options.rules.of(listing), side.unknown, side.note)
        if is_sorted:
            return entries
        return in_order(self.state.database, entries, name=f"listing_{name}")

    def _decide(
        self, met: Iterable[_Met], source: _Side, target: _Side, planned: Planned
    ) -> Iterator[CopyStep]:
        for path, here, row, there in met:
            if here is not None:
                planned.source += 1
                left_out = self._refused(path, there, target, planned)
            else:
                left_out = path in source.unknown
                if left_out and there is not None and self.options.run.policy.delete:
                    self._blocked(path, source, planned)
            if left_out:
                if row is not None:
                    self.state.leave_out(path)
                continue
            step = self._step(path, here, row, there)
            if step is not None:
                yield step
            if here is not None and (step is None or step.kind is Kind.ADOPT):
                planned.unchanged += 1

    def _wants_proof(self, row: CopiedRow) -> bool:
        return self.options.verify is Verify.FULL and row.verified != Verified.READ_BACK

    def _blocked(self, path: str, source: _Side, planned: Planned) -> None:
        """Report what takes no part by design where the target holds something to be deleted."""
        place = source.unknown.blocked_by(path)
        if place is not None:
            planned.skipped += 1
            reason = "a symbolic link or special file is in the way of what the target holds here"
            self.on_event(IssueEvent(Issue.SKIPPED, place, reason))

    def _refused(
        self, path: str, there: RemoteObject | None, target: _Side, planned: Planned
    ) -> bool:
        """Tell whether the target cannot hold this path, and say why."""
        reason = None if self.target.features.raw_keys else malformed(path)
        if reason is not None:
            reason = f"the target cannot hold it: {reason}"
        elif there is None and path in target.unknown:
            reason = "the target holds something else under this name"
        if reason is not None:
            planned.skipped += 1
            self.on_event(IssueEvent(Issue.SKIPPED, path, reason))
        return reason is not None

    def _step(
        self,
        path: str,
        here: RemoteObject | None,
        row: CopiedRow | None,
        there: RemoteObject | None,
    ) -> CopyStep | None:
        if row is not None and _is_as_recorded(here, row, there):
            proof = self._wants_proof(row)
            return CopyStep(0, Kind.ADOPT, path, _RULES[Kind.ADOPT], here, there) if proof else None
        source_row, target_row = (None, None) if row is None else _as_baseline(row)
        decision = decide_looks(
            look_remote(here, source_row, Compare.FINGERPRINT),
            look_remote(there, target_row, Compare.FINGERPRINT),
            Policy(Mode.PUSH, delete=self.options.run.policy.delete),
        )
        if decision is not None:
            return CopyStep(0, decision.kind, path, _RULES[decision.kind], here, there)
        if here is None and row is not None:
            return CopyStep(0, Kind.FORGET, path, "gone from the source", None, there)
        return None

    def _hold(self, planned: Planned, *, whole: bool) -> None:
        deletes, known = self.state.count(Kind.DELETE_REMOTE), self.state.count_rows()
        # Of a share that is empty, the source as a whole says more.
        is_empty = whole and not planned.source and next(iter(self.source.list()), None) is None
        counts = SideCounts(0 if is_empty else max(planned.source, 1), deletes, known)
        if is_empty:
            planned.emptied.add("source")
        asked = self.options.run.delete_limit
        spent = self.state.events.spent(Kind.DELETE_REMOTE, asked, self.now_ns)
        reason = reason_to_hold(counts, replace(asked, spent=spent), "source")
        if deletes and is_empty:
            reason = "the source is empty"
        if reason is not None:
            paths = self.state.remove(Kind.DELETE_REMOTE)
            planned.hold(paths, "target", reason, _REMEDY, self.on_event)


_REMEDY = "If that is meant, run it again with --force-delete"


class _Side:
    """What one store holds, and what it could not tell."""

    def __init__(
        self, note: Callable[[Skipped], None], entries: Iterable[RemoteObject] = ()
    ) -> None:
        self.unknown = Unknown()
        self.entries = entries
        self.note = note


_RULES = {
    Kind.ADOPT: "--verify full: both are to be read",
    Kind.UPLOAD: "the source has it, the target has not, or something else",
    Kind.DELETE_REMOTE: "--delete: the target mirrors the source",
    Kind.FORGET: "gone from both sides",
}


def _only_failures(note: Callable[[Skipped], None]) -> Callable[[Skipped], None]:
    def note_failure(skipped: Skipped) -> None:
        if skipped.failed:
            note(skipped)

    return note_failure


def _is_as_recorded(here: RemoteObject | None, row: CopiedRow, there: RemoteObject | None) -> bool:
    """Tell quickly what `look_remote` would tell of two sides with versions."""
    return (
        here is not None
        and there is not None
        and here.version is not None
        and there.version is not None
        and here.version == row.source_version
        and there.version == row.target_version
        and here.size == row.size == there.size
    )


def _as_baseline(row: CopiedRow) -> tuple[BaselineRow, BaselineRow]:
    """Return what was copied as the rules of the core know it, once for each side."""
    path, size = row.path, row.size
    return (
        BaselineRow(path, size, 0, 0, 0, False, None, row.source_modified_ns, row.source_version),
        BaselineRow(path, size, 0, 0, 0, False, None, row.target_modified_ns, row.target_version),
    )
