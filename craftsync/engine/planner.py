"""Plans a run: merges scan, baseline and listing, decides each path, pairs moves, holds deletes.

The plan goes into the database; planning changes nothing in the folder or the store. A filter
removes paths from the merged stream, before anything else sees them.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import TypeVar

from craftsync.core.decide import decide, remote_is_same
from craftsync.core.filters import Sieve
from craftsync.core.guard import SideCounts, reason_to_hold
from craftsync.core.merge import Joined, OutOfOrder, Triple, Unknown, UnknownPaths, known, merge
from craftsync.core.model import (
    DELETES,
    READ_BACK,
    Action,
    BaselineRow,
    Compare,
    Kind,
    Mode,
    RemoteObject,
    Skipped,
)
from craftsync.core.paths import malformed
from craftsync.engine.report import (
    REVIEW,
    HeldEvent,
    Issue,
    IssueEvent,
    OnEvent,
    Options,
    ProgressEvent,
)
from craftsync.engine.sides import Left, StoreSide, in_order_left, now_of, unmet_reason
from craftsync.errors import ListingBroken, UsageError
from craftsync.state.pair import State

_FEW = 16
"""Up to this many listed paths get a stat each in any store: as fast as one page of a listing."""
_LISTED_FOR_A_STAT = 100
"""Keys that a listing returns in the time of one stat, where many of both run at once."""
_BATCH = 1000
"""Steps put into the plan table at once."""
LISTING_SHARE = 5000
"""Keys in each share of a listing that is fetched in several streams."""
_FORCE = "If these deletes are intended, run it again with --force-delete"


_Step = TypeVar("_Step")
_Entry = TypeVar("_Entry")


@dataclass(slots=True)
class Planned:
    """What planning counted. `on_left` and `on_right` are the entries found on each side."""

    on_left: int = 0
    on_right: int = 0
    unchanged: int = 0
    skipped: int = 0
    special: int = 0
    ignored_local: int = 0
    ignored_remote: int = 0
    filtered: int = 0
    problems: int = 0
    held: int = 0
    deletes: int = 0
    emptied: set[str] = field(default_factory=set)
    """Sides that are suspiciously empty: "folder", "store", "source"."""

    def found_unchanged(self, count: int) -> None:
        self.on_left += count
        self.on_right += count
        self.unchanged += count

    def noter(self, on_event: OnEvent) -> Callable[[Skipped], None]:
        """Return a function that counts and reports a path that a scan or listing skipped."""

        def note(skipped: Skipped) -> None:
            issue = Issue.PROBLEM if skipped.failed else Issue.SKIPPED
            self.problems += skipped.failed
            self.special += skipped.by_design
            self.skipped += not (skipped.failed or skipped.by_design)
            on_event(IssueEvent(issue, skipped.path or ".", skipped.reason, skipped.by_design))

        return note

    def hold(
        self, paths: Iterable[str], where: str, reason: str, remedy: str, on_event: OnEvent
    ) -> None:
        """Count and report held deletes: each path, then all in one event.

        `where` is the side that would lose the paths: "store", "folder" or "target".
        """
        count = 0
        for path in paths:
            count += 1
            on_event(IssueEvent(Issue.HELD, path, reason))
        self.held += count
        on_event(HeldEvent(count, where, reason, remedy))


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
        """Fill the plan table for all paths, or for `paths` and everything below them.

        If the listing fails, raises the store's error and plans nothing. `listed`: `paths` come
        from a listing of this run. A run with a filter is never complete: it proves nothing
        about the paths it leaves out.
        """
        planned, whole = Planned(), paths is None and not self.options.filter
        # Paths that a side could not read. Their absence from its stream proves nothing.
        unknown = UnknownPaths(Unknown(), Unknown())
        note = planned.noter(self.on_event)

        def is_unknown(path: str) -> bool:
            return path in unknown.left or path in unknown.right or self.left.may_hide(path)

        features = self.right.store.features
        with self.state.transaction(), _no_garbage_collection():
            self._begin(paths)
            sieve = self._sieve()
            triples = self._triples(paths, unknown, note, listed=listed)
            triples = sieve.of(triples, self.state.mark_out_of_sync) if sieve else triples
            stat = partial(self._stat_right, unknown=unknown, note=note)
            triples = self.state.cut_off.noting(triples, is_unknown, stat)
            back: list[str] = []
            may_release = self._may_release(whole=whole)
            if may_release:
                self.state.held.begin_run()
                triples = self._noting_back(triples, unknown, back)
            self._spool(self.decided(triples, unknown, planned))
            if self.left.is_folder:
                self.state.moves.pair(by_version=features.md5_versions)
            self.state.held.release(back)
            if whole:
                self._end_intents_of_the_gone()
                self._release_held(is_unknown, of_other_modes=may_release)
                self.state.cut_off.note_unmet(is_unknown)
            deleted = self.state.cut_off.carried_out_deletes(self.now_ns)
            self.state.events.add(deleted, self.options.delete_limit)
            if not self.options.force_delete:
                self._hold(planned, whole=whole)
            self.state.plan.arrange()
        if paths is None:
            planned.ignored_local = self.left.ignored_count
            if sieve:
                self._report_unmet(sieve, unknown, planned)
        planned.deletes = sum(map(self.state.plan.count, DELETES))
        return planned

    def _sieve(self) -> Sieve | None:
        """Return a sieve for the run's filter, or `None`; raises `UsageError` if the mode forbids it."""
        filter, policy = self.options.filter, self.options.policy
        if not filter:
            return None
        if refusal := filter.refusal(policy):
            raise UsageError(refusal[0], remedy=refusal[1])
        return Sieve(
            filter, policy.mode, now_of(filter, policy.mode, self.left, self.right, self.now_ns)
        )

    def _report_unmet(self, sieve: Sieve, unknown: UnknownPaths, planned: Planned) -> None:
        """Report the entries of a list that the source side does not have."""
        planned.filtered += sieve.count
        is_push = self.options.policy.mode is Mode.PUSH
        side, unread = (
            (self.left.word, unknown.left) if is_push else (self.right.word, unknown.right)
        )
        for entry in sieve.unmet():
            path = entry.rstrip("/")
            if (path in unread and not unread.is_by_design(path)) or (
                not self.left.is_folder and self.left.may_hide(path)
            ):
                continue
            planned.problems += 1
            self.on_event(
                IssueEvent(Issue.PROBLEM, entry, unmet_reason(side, self.left, unread, sieve, path))
            )

    def _begin(self, paths: Iterable[str] | None) -> None:
        """Clear the plan. Flush and record the files that a killed run put into the folder."""
        is_folder, has_operations = self.left.is_folder, self.right.store.features.metadata
        self.state.plan.begin(
            by_operation=is_folder and has_operations, again=None if is_folder else paths
        )
        if is_folder:
            self.state.intents.forget_lost(self.left.stat)
        rows = self.state.arrivals.take_over(self.left.stat)
        if rows:
            self.left.sync()
            self.state.baseline.put(rows)

    def _end_intents_of_the_gone(self) -> None:
        """Forget the intents of earlier runs at paths that a stat does not find in the store."""
        unseen = self.state.intents.unseen()
        for names in in_batches(iter(unseen)):
            there = {entry.path for entry in self.right.stat(names)}
            self.state.intents.agreed(path for path in names if path not in there)

    def _triples(
        self,
        paths: Iterable[str] | None,
        unknown: UnknownPaths,
        note: Callable[[Skipped], None],
        *,
        listed: bool,
    ) -> Iterator[Triple]:
        if paths is None:
            paths = self._few_listed()
        if paths is not None:
            return self._at(sorted(set(paths)), unknown, note, listed=listed)
        baseline, database = self.state.baseline, self.state.database
        boundaries = baseline.boundaries(LISTING_SHARE)
        # Keep this order: a migration's `NestingDetector` must see the source before the target.
        scanned = self.left.scan(boundaries, baseline.count())
        left = known(counted(scanned, self.left.stage, self.on_event), unknown.left, note)
        files = in_order_left(self.left, database, left)
        listed_right = counted(self.right.list(boundaries), self.right.stage, self.on_event)
        right = known(listed_right, unknown.right, self._relevant_only(note))
        objects = self.right.in_order(database, right)
        return merge(files, baseline.rows(), objects)

    def _few_listed(self) -> Collection[str] | None:
        """Return the files of a list if a stat of each costs less than a full scan and listing."""
        listed = self.options.filter.listed
        if listed is None or not self.left.is_folder:
            return None
        few = max(_FEW, self.state.baseline.count() // _LISTED_FOR_A_STAT)
        is_short = len(listed.names) <= few and not any(name[-1] == "/" for name in listed.names)
        return listed.names if is_short else None

    def _relevant_only(self, note: Callable[[Skipped], None]) -> Callable[[Skipped], None]:
        """Return a `note` that drops the objects that are not to be reported (`is_reported`)."""

        def note_relevant(skipped: Skipped) -> None:
            if self.right.is_reported(skipped):
                note(skipped)

        return note_relevant

    def _at(
        self,
        wanted: list[str],
        unknown: UnknownPaths,
        note: Callable[[Skipped], None],
        *,
        listed: bool,
    ) -> Iterator[Triple]:
        """Yield what both sides hold at these paths and below them, in batches.

        A path at which neither side holds anything is yielded too, with `None` for each.
        """
        local = known(self.left.look(wanted), unknown.left, note)
        baseline = self.state.baseline
        rows: Iterable[BaselineRow]
        if self.left.is_folder:
            rows = baseline.below(wanted)
            named = ((path,) for path in wanted if not malformed(path))
        else:
            rows = (row for path in wanted if (row := baseline.get(path)))
            named = ((path,) for path in wanted)
        if entries := self.options.filter.listed:
            local, rows = entries.relevant(local), entries.relevant(rows)
        for batch in in_batches(merge(local, rows, named)):
            names = [joined.path for joined in batch]
            found = self._stat_right(names, unknown, note, listed=listed)
            for path, file, row, _ in batch:
                yield Joined(path, file, row, found.get(path))

    def _stat_right(
        self,
        names: Sequence[str],
        unknown: UnknownPaths,
        note: Callable[[Skipped], None],
        *,
        listed: bool = False,
    ) -> dict[str, RemoteObject]:
        """Return the objects at these paths; add each path that cannot be read to `unknown`."""
        answers = self.right.stat(names, listed=listed)
        return {one.path: one for one in known(answers, unknown.right, self._relevant_only(note))}

    def _may_release(self, *, whole: bool) -> bool:
        """Return whether this run must check each path for a held delete to release.

        A complete run need not do so for its own mode: it releases what it does not plan again.
        """
        held = self.state.held
        return held.has_other(self.options.policy.mode) if whole else held.count() > 0

    def _release_held(self, is_unknown: Callable[[str], bool], *, of_other_modes: bool) -> None:
        """After a complete run, release the held deletes that it did not plan again."""
        self.state.held.keep_planned(self.options.policy.mode, is_unknown)
        if of_other_modes:
            self.state.held.release_unmet(
                self.options.policy.mode,
                lambda path: is_unknown(path) or self.left.ignored(path),
            )

    def _noting_back(
        self,
        triples: Iterable[Triple],
        unknown: UnknownPaths,
        back: list[str],
    ) -> Iterator[Triple]:
        """Yield the triples unchanged; add to `back` each held path that is back, or gone on both sides."""
        for triple in triples:
            path, local, _, remote = triple
            kind = self.state.held.kind(path)
            if kind is not None:
                self.state.held.met(path)
            if kind is Kind.UPLOAD:
                gone = (
                    local is None and path not in unknown.left,
                    remote is None and path not in unknown.right,
                )
                if any(gone):
                    back.append(path)
            elif kind is not None:
                is_remote = kind is Kind.DELETE_REMOTE
                lost, survivor = (local, remote) if is_remote else (remote, local)
                unread = unknown.right if is_remote else unknown.left
                if lost is not None or (survivor is None and path not in unread):
                    back.append(path)
            yield triple

    def decided(
        self, triples: Iterable[Triple], unknown: UnknownPaths, planned: Planned
    ) -> Iterator[Action]:
        """Yield an action for each path that needs one and is known on both sides; count the rest."""
        policy, ignored = self.options.policy, self.left.ignored
        by_fingerprint = policy.compare is Compare.FINGERPRINT
        any_name = self.left.is_folder or self.right.store.features.raw_keys
        unchanged = 0
        for path, local, row, remote in triples:
            # Fast path for unchanged files, nearly all of them: the result of `decide` without its calls.
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
            if local is None and path not in unknown.left and ignored(path):
                planned.ignored_remote += remote is not None
                continue
            planned.on_left += local is not None
            planned.on_right += remote is not None
            if (local is None and path in unknown.left) or (
                remote is None and path in unknown.right
            ):
                self._note_unknown(Joined(path, local, row, remote), unknown, planned)
                continue
            decision = decide(local, row, remote, policy)
            if not any_name and local is not None and (reason := malformed(path)):
                self._refused(path, row, reason, planned)
            elif decision is not None:
                yield Action(decision.kind, path, decision.rule, local, row, remote)
            elif local is not None and remote is not None:
                planned.unchanged += 1
            elif row is not None:
                self.state.mark_out_of_sync(path)
        planned.found_unchanged(unchanged)

    def _note_unknown(self, at: Triple, unknown: UnknownPaths, planned: Planned) -> None:
        """Mark a path with an unknown side out of sync; report the link or special file that blocks it.

        It is reported only if the other side has something to sync there.
        """
        if at.baseline is not None:
            self.state.mark_out_of_sync(at.path)
        if decide(at.local, at.baseline, at.remote, self.options.policy) is None:
            return
        place, side = None, ""
        if at.remote is not None:
            place, side = unknown.left.take_blocker(at.path), self.right.word
        elif at.local is not None:
            place, side = unknown.right.take_blocker(at.path), self.left.word
        if place is not None:
            planned.skipped += 1
            reason = (
                f"a symbolic link or special file stands where the {side} has files;"
                " rename or remove one of them"
            )
            self.on_event(IssueEvent(Issue.SKIPPED, place, reason))

    def _refused(self, path: str, row: BaselineRow | None, reason: str, planned: Planned) -> None:
        planned.skipped += 1
        if row is not None:
            self.state.mark_out_of_sync(path)
        reason = f"the {self.right.word} cannot hold it: {reason}"
        self.on_event(IssueEvent(Issue.SKIPPED, path, reason))

    def _spool(self, actions: Iterator[Action]) -> None:
        planned = 0
        try:
            for batch in in_batches(actions):
                self.state.plan.add(batch)
                planned += len(batch)
                self.on_event(ProgressEvent("planning", planned))
        except OutOfOrder as error:
            raise ListingBroken(
                f"A listing was not sorted by path: {error}.",
                remedy="Run it again. If it happens again, run craftsync doctor.",
            ) from error

    def _hold(self, planned: Planned, *, whole: bool) -> None:
        baseline, asked = self.state.baseline.count(), self.options.delete_limit
        sides = (
            (Kind.DELETE_REMOTE, self.left.word, planned.on_left),
            (Kind.DELETE_LOCAL, self.right.word, planned.on_right),
        )
        for kind, side, listed in sides:
            deletes = self.state.plan.count(kind)
            # Only a complete run can show that a side is empty.
            is_empty = whole and not listed and (side != self.left.word or self.left.is_empty())
            counts = SideCounts(0 if is_empty else max(listed, 1), deletes, baseline)
            # Deleting the only file of a folder is normal, but an empty source is always suspicious.
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
        # If the state does not outlive this run, the user cannot approve anything later.
        can_force = not self.state.keeps_held or not self.state.baseline.count()
        remedy = ". ".join([_FORCE] * can_force + [REVIEW] * can_review)
        planned.hold(self._remove_held(kind), where, reason, remedy, self.on_event)

    def _remove_held(self, kind: Kind) -> Iterator[str]:
        """Remove the held steps of a kind from the plan, and yield their paths."""
        for path in self.state.plan.remove(kind):
            self.state.mark_out_of_sync(path)
            yield path


def in_batches(steps: Iterator[_Step]) -> Iterator[list[_Step]]:
    """Yield the steps in lists, each as large as one insert into the plan table."""
    while batch := list(islice(steps, _BATCH)):
        yield batch


def counted(stream: Iterable[_Entry], stage: str, on_event: OnEvent) -> Iterator[_Entry]:
    """Yield the entries of a side. Report their number after each batch; a stop is raised then too."""
    count = 0
    for batch in in_batches(iter(stream)):
        count += len(batch)
        on_event(ProgressEvent(stage, count))
        yield from batch


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Pause the cyclic garbage collector: on millions of records without cycles it costs a third."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
