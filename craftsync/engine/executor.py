"""Carries out the plan: hands steps to workers, makes their results durable, records them.

The order is what keeps a crash harmless: bytes on disk, then swapped in, then
the folder on disk, then the baseline row. One `syncfs` serves a whole group.
All database work happens here, in the control thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple, Protocol

from craftsync.clock import Clock, stamp
from craftsync.core.guard import DeleteLimit
from craftsync.core.merge import Triple
from craftsync.core.model import Action, Kind
from craftsync.engine import unflushed
from craftsync.engine.carrier import Carrier, Task
from craftsync.engine.content import PART, WHOLE, PartialDownload
from craftsync.engine.held import ARCHIVED, DELETES, note_deletes
from craftsync.engine.planner import Answers, Intake, totals_of
from craftsync.engine.report import Outcome, Staged, Status
from craftsync.engine.runner import Note, Runner
from craftsync.engine.tally import Journal
from craftsync.engine.undo import replaced_by
from craftsync.net.tasks import Pool
from craftsync.state.history import HistoryRow
from craftsync.state.pair import PairState
from craftsync.state.plan import Step, Totals
from craftsync.stores.base import Store

_LOOK_SECONDS = 0.2
"""Between two looks for what has changed meanwhile."""
_UNDONE = (Status.PROBLEM, Status.SKIPPED)
"""Steps that end so stay in the plan: what an earlier run has left for them is still of use."""


class Listener(Protocol):
    """Hears of each outcome once it is recorded, and now and then that time has passed."""

    def outcome(self, outcome: Outcome) -> None: ...

    def more(self, added: Totals) -> None:
        """Hear how much is to be transferred besides."""
        ...

    def tick(self) -> None: ...


class _Added(NamedTuple):
    """A step under way that was added to the plan."""

    size: int
    carrier: Carrier


class Executor(Runner[Step, Outcome | Staged]):
    """Runs the steps of one plan."""

    short = 1 << 20
    # Hashing and copying so much holds up the other short tasks for a millisecond at most.

    def __init__(
        self,
        *,
        state: PairState,
        carrier: Carrier,
        pool: Pool[Outcome | Staged | Note],
        clock: Clock,
        command: str,
        listener: Listener,
        limit: DeleteLimit | None = None,
        approved: bool = False,
    ) -> None:
        """`limit` is what the guard judged the deletes by; `None` for those that a person asked for.

        `approved`: a person has seen why each step was held.
        """
        super().__init__(pool, clock, listener.tick)
        self._root = carrier.root
        self._store = carrier.store
        self._state = state
        self._carrier = carrier
        self._command = command
        self._listener = listener
        self._limit = limit
        self._approved = approved
        self.intake: Intake | None = None
        """What takes in changes while it runs."""
        self._in_intake = False
        self._looked_at = float("-inf")
        self._ids: dict[str, int] = {}
        self._added: dict[str, _Added] = {}
        self._skipped: set[str] = set()
        """Paths whose step has changed nothing and is still in the plan."""
        self._finished: list[Outcome] = []
        self._staged: list[Staged] = []
        self._parts: list[tuple[str, int]] = []

    def _steps(self) -> Iterable[Step]:
        return self._state.plan.steps(may_begin_large=lambda: not self._pool.is_full())

    def _stage(self, step: Step) -> int:
        return step.stage

    def _task(self, step: Step) -> tuple[Callable[[], Outcome | Staged], int]:
        self._ids[step.action.path] = step.id
        added = self._added.get(step.action.path)
        carrier = self._carrier if added is None else added.carrier
        return partial(carrier.carry_out, self._known(step)), _size(step.action)

    def _collect(self) -> None:
        self._look_for_changes()
        super()._collect()

    def _unrecorded(self) -> int:
        return super()._unrecorded() + self._in_intake

    def _look_for_changes(self) -> None:
        """Begin to take in what has changed, unless that is under way; its waits for the store hold up nobody."""
        if self.intake is None or self._in_intake or not self._may_take_in(0):
            return
        now = self._clock.monotonic()
        if now - self._looked_at < _LOOK_SECONDS:
            return
        self._looked_at = now
        met = self.intake.here(self._skipped)
        if met:
            self._in_intake = True
            self._pool.begin(partial(self._looked_there, met))

    def _looked_there(self, met: list[Triple]) -> Note:
        assert self.intake is not None
        return Note(partial(self._take_in_steps, met, self.intake.there(met)))

    def _take_in_steps(self, met: list[Triple], answers: Answers) -> None:
        self._in_intake = False
        if self.intake is None:
            return
        actions = []
        for action in self.intake.actions(met, answers):
            if self._may_take_in(_size(action)):
                actions.append(action)
            else:
                self.intake.leave([action.path])
        with self._state.transaction():
            steps = self._state.plan.take_in(actions)
        # A path may have had a step in this run: what that replaced must stay in the trash.
        carrier = replace(self._carrier, keep=stamp(self._clock))
        self._listener.more(totals_of(actions))
        for step in steps:
            self._added[step.action.path] = _Added(_size(step.action), carrier)
            self._submit(step, first=True)

    def _may_take_in(self, size: int) -> bool:
        """Return whether a step may be added: only beside what takes longer, or a run would never end.

        That is a step of the plan, or for a short one an added one that is long.
        """
        if len(self._ids) > len(self._added):
            return True
        return size <= self.short and any(one.size > self.short for one in self._added.values())

    def _cancel(self) -> None:
        self.intake = None
        self._carrier.cancel()

    @property
    def _stores(self) -> Sequence[Store]:
        return (self._store,)

    def _keep(self, result: Outcome | Staged) -> None:
        if isinstance(result, Staged):
            self._staged.append(result)
        else:
            self._finished.append(result)

    def _ended(self, result: Outcome | Staged) -> Outcome | None:
        return None if isinstance(result, Staged) else result

    def _waiting(self) -> int:
        return len(self._finished) + len(self._staged) + len(self._parts)

    def _known(self, step: Step) -> Task:
        """Return a step with what the database knows about it."""
        action, plan = step.action, self._state.plan
        resumable = self._resumable(step) if action.kind is Kind.DOWNLOAD else None
        large = action.local is not None and action.local.size > WHOLE
        return Task(
            step.id,
            action,
            plan.operation(step.id),
            self._state.intents.of(action.path),
            resumable,
            self._journals(action.path) if large else None,
            unkept=self._approved and self._state.held.is_archived(action.path),
        )

    def _resumable(self, step: Step) -> PartialDownload | None:
        remote = step.action.remote
        if remote is None or remote.size <= WHOLE or remote.version is None:
            return None
        transfers, path = self._state.transfers, remote.path
        saved = transfers.download(path, remote.size, remote.version)
        # Recorded parts of a file that is gone (swept by a run of another store, removed by hand,
        # given up as damaged) would be holes in the next one.
        if saved and saved.part_size == PART and self._root.has_temporary(saved.temporary):
            name, parts = saved.temporary, frozenset(saved.parts)
        else:
            name, parts = f"download-{self._state.plan.operation(step.id)}", frozenset()
            transfers.begin_download(
                path, temporary=name, size=remote.size, version=remote.version, part_size=PART
            )

        def part_done(number: int) -> None:
            self._pool.post(Note(lambda: self._parts.append((name, number))))

        return PartialDownload(name, parts, part_done)

    def _journals(self, path: str) -> Callable[[bytes], Journal]:
        transfers = self._state.transfers
        saved = transfers.uploads(path)

        def open_journal(digest: bytes) -> Journal:
            return Journal(transfers, self._pool, path, digest, saved.get(digest))

        return open_journal

    def _record_group(self) -> None:
        # What arrives while this waits for the disk belongs to the next group.
        finished, self._finished = self._finished, []
        staged, self._staged = self._staged, []
        parts, self._parts = self._parts, []
        try:
            if staged or parts:
                self._root.sync()
            self._save_parts(parts)
            finished += self._place(staged)
        finally:
            for download in staged:
                download.temporary.close()
        if finished:
            finished = self._made_durable(finished)
            self._record(finished)
            for outcome in finished:
                self._listener.outcome(outcome)

    def _place(self, staged: list[Staged]) -> list[Outcome]:
        """Swap downloads in; a crash before they are recorded makes no conflict of them, nor of an edit after it."""
        if not staged:
            return []
        arrivals = self._state.arrivals
        arrivals.begin(download.arrival for download in staged)
        placed = list(map(self._carrier.place, staged))
        arrivals.placed(row.path for outcome in placed for row in outcome.rows)
        return placed

    def _save_parts(self, parts: Sequence[tuple[str, int]]) -> None:
        """Record parts of large downloads, now that their bytes are on disk."""
        if not parts:
            return
        with self._state.transaction():
            for temporary, number in parts:
                self._state.transfers.download_part(temporary, number)

    def _made_durable(self, finished: list[Outcome]) -> list[Outcome]:
        """Return the outcomes once they survive a power cut, with what the store tells only then."""
        done = {outcome.action.kind for outcome in finished if outcome.rows or outcome.forget}
        made = {Kind.DOWNLOAD, Kind.DELETE_LOCAL, Kind.MOVE_LOCAL, Kind.RECONCILE}
        may_be_lost = any(map(self._may_be_lost, finished))
        if done & made or (may_be_lost and self._carrier.settler.policy.deletes):
            self._root.sync()
        elif may_be_lost:
            unflushed.note(self._state.database, self._clock)
        if done & {Kind.UPLOAD, Kind.DELETE_REMOTE, Kind.MOVE_REMOTE, Kind.RECONCILE}:
            learned = self._store.barrier()
            finished = [outcome.completed(learned) for outcome in finished]
        return finished

    def _may_be_lost(self, outcome: Outcome) -> bool:
        """Tell whether a power cut could take back a file that is about to be agreed on.

        Somebody else wrote it, and a disk may have it only minutes later. Gone
        with the power, it would count as deleted where deletes follow from that.
        """
        local = outcome.action.local
        if local is None or not outcome.rows:
            return False
        return abs(self._clock.now_ns() - local.ctime_ns) < unflushed.YOUNG_NS

    def _record(self, finished: list[Outcome]) -> None:
        now = self._clock.now_ns()
        with self._state.transaction():
            self._state.baseline.forget(path for o in finished for path in o.forget)
            self._state.baseline.put(row for o in finished for row in o.rows)
            self._state.plan.done(self._settled_steps(finished))
            agreed = [path for o in finished for path in (*o.forget, *(row.path for row in o.rows))]
            self._state.intents.agreed(agreed)
            self._state.arrivals.agreed(agreed)
            self._state.held.release(agreed)
            waiting = (o.action for o in finished if o.status is Status.HELD)
            self._state.held.add_archived(waiting, ARCHIVED, self._carrier.settler.policy.mode, now)
            self._state.kept.add((version for o in finished for version in o.kept), now)
            if self._limit is not None:
                note_deletes(self._state.events, finished, self._limit, self._carrier.keep, now)
            self._note_run(finished, now)
            for outcome in finished:
                if outcome.status is Status.DONE and outcome.bytes > WHOLE:
                    self._state.transfers.end_download(outcome.action.path)

    def _note_run(self, finished: list[Outcome], now: int) -> None:
        """Note what was done, for people, and what a person can take back of it."""
        history = self._state.history
        history.add(
            _history(outcome, now, self._command)
            for outcome in finished
            if outcome.status is not Status.UNCHANGED
        )
        replaced = [one for outcome in finished for one in replaced_by(outcome)]
        if replaced:
            self._state.replaced.add(history.run(), replaced)

    def _settled_steps(self, finished: list[Outcome]) -> Iterator[int]:
        for outcome in finished:
            if outcome.status is Status.SKIPPED and outcome.action.source is not None:
                # Planned as a download and a delete, each is looked at for itself.
                self._state.plan.unpair(outcome.action.source)
            elif outcome.status is Status.SKIPPED and outcome.action.kind not in DELETES:
                self._skipped.add(outcome.action.path)
            step = self._ids.pop(outcome.action.path)
            self._added.pop(outcome.action.path, None)
            # A delete that was skipped was not carried out: `Plan.begin` must not think it may have been.
            is_no_delete = outcome.status is Status.SKIPPED and outcome.action.kind in DELETES
            if outcome.status not in _UNDONE or is_no_delete:
                yield step


def _size(action: Action) -> int:
    sides = (action.local, action.remote, action.baseline)
    return max((side.size for side in sides if side is not None), default=0)


def _history(outcome: Outcome, now: int, command: str) -> HistoryRow:
    action = outcome.action
    seen = action.remote if action.kind is Kind.DOWNLOAD else action.local or action.remote
    size = seen.size if seen else 0
    return HistoryRow(now, command, action.kind, action.path, size, outcome.status, outcome.reason)
