"""Carries out a plan: workers do its steps, the control thread records their outcomes in groups.

This order keeps a crash harmless: flush the bytes, swap the file in, flush its folder, record
the baseline row. One `syncfs` serves a whole group: it flushes the bytes of this group's
downloads, and the folders of the previous group's, whose rows are recorded after it. All
database work happens here, in the control thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from typing import NamedTuple

from craftsync import limits
from craftsync.clock import Clock, stamp
from craftsync.core.guard import DeleteLimit
from craftsync.core.merge import Triple
from craftsync.core.model import DELETES, Action, Kind
from craftsync.engine.content import PART, WHOLE, PartialDownload
from craftsync.engine.intake import Answers, Intake, totals_of
from craftsync.engine.report import ARCHIVED, Outcome, Staged, Status, replaced_version
from craftsync.engine.sides import Carrier, Listener, Note, Task
from craftsync.engine.tally import Journal, note_deletes
from craftsync.errors import Interrupted, PathError, RequestDenied, StoreMissing
from craftsync.limits import give_back_large_blocks
from craftsync.net.tasks import Pool, weight_of
from craftsync.state.history import HistoryRow
from craftsync.state.pair import State
from craftsync.state.plan import Step
from craftsync.state.unflushed import Ages, note_unflushed
from craftsync.stores.base import cancel, renew
from craftsync.stores.sources import briefly

_WINDOW = 768
"""The most steps handed out and not yet recorded: enough to keep the workers busy while a group is
recorded. Each finished download is an open file until it is swapped in, so a low limit of
descriptors lowers this number (`limits.steps_at_once`)."""
_GROUP = 256
_GROUP_SECONDS = 1.0
_FAILURES_IN_A_ROW = 8
"""After this many failures without a success, the store has failed, not the paths."""
_DENIALS_IN_A_ROW = 256
"""As above, for denied requests. More, because a bucket's policy may deny one folder only, and the
steps after it must get their turn."""
_POLL_SECONDS = 0.2
_INTAKE_SECONDS = 0.2
"""The least time between two intakes of new changes."""
_AFTER_SYNC = {
    *(Kind.DOWNLOAD, Kind.DELETE_LOCAL, Kind.MOVE_LOCAL, Kind.RECONCILE),
    Kind.DELETE_REMOTE,
}
"""Kinds that are recorded only after a flush. A delete in the store is one of them: a power cut
could restore the file whose removal caused it, and without a row that file would count as new."""
_UNDONE = (Status.PROBLEM, Status.SKIPPED)
"""Steps that end like this stay in the plan: the next run must know what they may have written."""


class _Added(NamedTuple):
    """A step under way that was added to the plan."""

    size: int
    carrier: Carrier


class Executor:
    """Carries out the steps of one plan. Everything but the steps runs in the control thread."""

    _most = _WINDOW
    """The most steps handed out and not yet recorded."""
    intake: Intake | None = None
    """Adds steps for changes during the run."""

    def __init__(
        self,
        *,
        state: State,
        carrier: Carrier,
        pool: Pool[Outcome | Staged | Note],
        clock: Clock,
        command: str | None,
        listener: Listener,
        limit: DeleteLimit | None = None,
        approved: bool = False,
    ) -> None:
        """`command` is the name in the history; `None` records none. `limit` is the guard's limit
        of deletes; `None` if the user ordered them. `approved`: the user saw why each step was
        held.
        """
        self._pool = pool
        self._clock = clock
        self._state = state
        self._carrier = carrier
        self._command = command
        self._listener = listener
        self._limit = limit
        self._approved = approved
        self._intake_is_running = False
        self._intake_at = float("-inf")
        self._ids: dict[str, int] = {}
        self._added: dict[str, _Added] = {}
        self._skipped: set[str] = set()
        """Paths whose step changed nothing and is still in the plan."""
        self._finished: list[Outcome] = []
        self._staged: list[Staged] = []
        self._placed: list[Outcome] = []
        """Downloads that are swapped in; recorded after the next `syncfs`, which flushes their folders."""
        self._parts: list[tuple[str, int]] = []
        self._in_flight = 0
        self._recording = 0
        self._ages = Ages(state.database, clock)
        self._flushed_at = clock.monotonic()
        self._failures = self._denials = 0

    def run(self) -> None:
        """Carry out every step. Raises the error that broke a whole side, after recording what was done."""
        give_back_large_blocks()
        with limits.shared():
            self._run()

    def _run(self) -> None:
        stage = None
        stopped = False
        try:
            for step in self._state.plan.steps(lambda: not self._pool.is_full()):
                if step.stage != stage:
                    self._drain()
                    stage = step.stage
                self._submit(step)
                self._most = limits.steps_at_once(_WINDOW)
                while self._unrecorded() >= self._most:
                    self._collect()
            self._drain()
        except BaseException as error:
            self.intake = None
            self._carrier.cancel()
            for store in self._carrier.stores:
                cancel(store)
            stopped = isinstance(error, KeyboardInterrupt)
            raise
        finally:
            self._close(stopped=stopped)

    def _submit(self, step: Step, *, first: bool = False) -> None:
        task, size = self._call_for(step)
        self._pool.submit(task, weight=weight_of(size, self._carrier.short), size=size, first=first)
        self._in_flight += 1

    def _unrecorded(self) -> int:
        return self._in_flight + self._waiting() + self._recording + int(self._intake_is_running)

    def _drain(self) -> None:
        while self._unrecorded() or self._placed:
            if not self._in_flight:
                self._flush()
            self._collect()

    def _close(self, *, stopped: bool) -> None:
        """Wait for the steps under way and record all that are finished, also after an error."""
        self._pool.close()
        for store in self._carrier.stores:
            renew(store)
        with briefly(*self._carrier.stores) if stopped else nullcontext():
            self._record_the_rest()

    def _record_the_rest(self) -> None:
        waiting = True
        while waiting:
            with suppress(Interrupted):
                result = self._pool.take(0)
                waiting = result is not None
                if result is not None:
                    self._receive(result)
        self._record_group()
        if self._placed:
            self._record_group()

    def _collect(self) -> None:
        self._begin_intake()
        result = self._pool.take(_POLL_SECONDS)
        if result is not None:
            self._receive(result)
        if isinstance(result, Outcome):
            self._watch_failures(result)
        self._listener.tick()
        waiting = self._waiting()
        if self._recording or not (waiting or self._placed):
            return
        late = self._clock.monotonic() - self._flushed_at > _GROUP_SECONDS
        if late or waiting >= min(_GROUP, self._most // 2):
            self._flush()

    def _receive(self, result: Outcome | Staged | Note) -> None:
        if isinstance(result, Note):
            result.learn()
        elif isinstance(result, Staged):
            self._in_flight -= 1
            self._staged.append(result)
        else:
            self._in_flight -= 1
            self._finished.append(result)

    def _watch_failures(self, ended: Outcome) -> None:
        if ended.error is None:
            self._failures = self._denials = 0
            return
        if isinstance(ended.error, PathError):
            return
        denied = isinstance(ended.error, RequestDenied)
        self._denials += denied
        self._failures += not denied
        too_many = self._failures >= _FAILURES_IN_A_ROW or self._denials >= _DENIALS_IN_A_ROW
        if too_many or isinstance(ended.error, StoreMissing):
            raise ended.error

    def _flush(self) -> None:
        """Start to record the finished steps, unless already recording. Other tasks run during its waits."""
        if not self._recording:
            self._recording = self._waiting() + len(self._placed)
            self._flushed_at = self._clock.monotonic()
            self._pool.begin(self._recorded)

    def _recorded(self) -> Note:
        try:
            self._record_group()
        finally:
            self._recording = 0
        return Note(_nothing)

    def _call_for(self, step: Step) -> tuple[Callable[[], Outcome | Staged], int]:
        self._ids[step.action.path] = step.id
        added = self._added.get(step.action.path)
        carrier = self._carrier if added is None else added.carrier
        return partial(carrier.carry_out, self._task_for(step)), _largest_size(step.action)

    def _begin_intake(self) -> None:
        """Start to add steps for new changes, unless already adding. Other tasks run during its waits."""
        if self.intake is None or self._intake_is_running or not self._may_add(0):
            return
        now = self._clock.monotonic()
        if now - self._intake_at < _INTAKE_SECONDS:
            return
        self._intake_at = now
        met = self.intake.local_changes(self._skipped)
        if met:
            self._intake_is_running = True
            self._pool.begin(partial(self._stat_remote, met))

    def _stat_remote(self, met: list[Triple]) -> Note:
        assert self.intake is not None
        return Note(partial(self._add_steps, met, self.intake.stat_remote(met)))

    def _add_steps(self, met: list[Triple], answers: Answers) -> None:
        self._intake_is_running = False
        if self.intake is None:
            return
        actions = []
        for action in self.intake.actions(met, answers):
            if self._may_add(_largest_size(action)):
                actions.append(action)
            else:
                self.intake.defer([action.path])
        with self._state.transaction():
            steps = self._state.plan.add_during_run(actions)
        # An earlier step of this run may have put a version of the same path into the trash; the
        # new stamp keeps it.
        carrier = self._carrier.with_trash_stamp(stamp(self._clock))
        self._listener.add_totals(totals_of(actions))
        for step in steps:
            self._added[step.action.path] = _Added(_largest_size(step.action), carrier)
            self._submit(step, first=True)

    def _may_add(self, size: int) -> bool:
        """Return whether a step of `size` bytes may be added; if always, a run might never end.

        It may while steps of the plan remain; a short one also while a long added step does.
        """
        if len(self._ids) > len(self._added):
            return True
        return size <= self._carrier.short and any(
            one.size > self._carrier.short for one in self._added.values()
        )

    def _waiting(self) -> int:
        return len(self._finished) + len(self._staged) + len(self._parts)

    def _task_for(self, step: Step) -> Task:
        """Return the step with its operation id, intents and unfinished transfer."""
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
        # The temporary file may be gone: swept by a run with another store, removed by the user,
        # or given up as damaged. Its recorded parts would then be holes in the new file.
        if saved and saved.part_size == PART and self._carrier.has_temporary(saved.temporary):
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

        writes_as = self._carrier.stores[-1].features.writes_as.encode()

        def open_journal(digest: bytes) -> Journal:
            identity = digest + writes_as
            return Journal(transfers, self._pool, path, identity, saved.get(identity))

        return open_journal

    def _record_group(self) -> None:
        # Steps that end while this waits for the disk belong to the next group.
        finished, self._finished = self._placed + self._finished, []
        staged, self._staged, self._placed = self._staged, [], []
        parts, self._parts = self._parts, []
        try:
            if staged or parts or self._wants_sync(finished):
                self._carrier.sync()
            self._save_parts(parts)
            if finished:
                self._carrier.before_recording()
                finished = self._kept_by_store(finished)
                self._record(finished)
                for outcome in finished:
                    self._listener.outcome(outcome)
            self._placed = self._place(staged)
        finally:
            for download in staged:
                download.temporary.close()

    def _place(self, staged: list[Staged]) -> list[Outcome]:
        """Swap downloads in. Their arrivals are saved first, so a crash before the record makes no conflict."""
        if not staged:
            return []
        arrivals = self._state.arrivals
        arrivals.begin(download.arrival for download in staged)
        placed = list(map(self._carrier.place, staged))
        arrivals.placed(row.path for outcome in placed for row in outcome.rows)
        return placed

    def _save_parts(self, parts: Sequence[tuple[str, int]]) -> None:
        """Record parts of large downloads whose bytes have been flushed."""
        if not parts:
            return
        with self._state.transaction():
            for temporary, number in parts:
                self._state.transfers.download_part(temporary, number)

    def _wants_sync(self, finished: list[Outcome]) -> bool:
        """Return whether a power cut could undo what is to be recorded, so that a flush must come first."""
        if any(one.action.kind in _AFTER_SYNC and (one.rows or one.forget) for one in finished):
            return True
        if not any(map(self._may_be_lost, finished)):
            return False
        if self._carrier.policy.deletes or self._ages.was_clock_set():
            return True
        note_unflushed(self._state.database, self._clock)
        return False

    def _kept_by_store(self, finished: list[Outcome]) -> list[Outcome]:
        """Return the outcomes once the store has made them durable, completed by what `barrier` returns."""
        done = {outcome.action.kind for outcome in finished if outcome.rows or outcome.forget}
        if done & {Kind.UPLOAD, Kind.DELETE_REMOTE, Kind.MOVE_REMOTE, Kind.RECONCILE}:
            learned = self._carrier.stores[-1].barrier()
            if learned:
                finished = [outcome.completed(learned) for outcome in finished]
        return finished

    def _may_be_lost(self, outcome: Outcome) -> bool:
        """Return whether a power cut could remove the file whose row is to be recorded.

        Another program wrote it, and the kernel may flush it minutes later. With a row but
        no file, it would count as deleted by the user.
        """
        local = outcome.action.local
        if local is None or not outcome.rows:
            return False
        return self._ages.is_young(local.ctime_ns)

    def _record(self, finished: list[Outcome]) -> None:
        now = self._clock.now_ns()
        with self._carrier.left_in_store() as left, self._state.transaction():
            self._state.baseline.forget(path for o in finished for path in o.forget)
            self._state.baseline.put(row for o in finished for row in o.rows)
            completed, failed = self._close_steps(finished)
            self._state.plan.done(completed)
            self._state.plan.undone(failed)
            agreed = [path for o in finished for path in o.forget]
            agreed += [row.path for o in finished for row in o.rows]
            self._state.intents.agreed(agreed)
            self._state.arrivals.agreed(agreed)
            self._state.cut_off.agreed(agreed)
            if self._state.keeps_held:
                self._state.held.release(agreed)
                waiting = (o.action for o in finished if o.status is Status.HELD)
                mode = self._carrier.policy.mode
                self._state.held.add_archived(waiting, ARCHIVED, mode, now)
            # `left` first, because its sizes come from a stat: a version's first record counts.
            kept = [*left, *(one for o in finished for one in o.kept)]
            self._state.note_kept(kept, now)
            if self._limit is not None:
                note_deletes(
                    self._state.events, finished, self._limit, self._carrier.trash_stamp, now
                )
            self._note_run(finished, now)
            for outcome in finished:
                if outcome.status is Status.DONE and outcome.bytes > WHOLE:
                    self._state.transfers.end_download(outcome.action.path)

    def _note_run(self, finished: list[Outcome], now: int) -> None:
        """Record what was done in the history, and which replaced versions the user can restore."""
        command = self._command
        if command is None:
            return
        history = self._state.history
        history.add(
            _history(outcome, now, command)
            for outcome in finished
            if outcome.status is not Status.UNCHANGED
        )
        replaced = [one for one in map(replaced_version, finished) if one is not None]
        if replaced:
            self._state.replaced.add(history.run(), replaced)

    def _close_steps(self, finished: list[Outcome]) -> tuple[list[int], list[int]]:
        """Forget the finished steps in memory; return the numbers of the completed and of the failed ones.

        A skipped delete counts as completed, and a skipped move loses its source: neither was
        carried out, and `CutOff.begin` must not assume that they were.
        """
        completed: list[int] = []
        failed: list[int] = []
        for outcome in finished:
            action, skipped = outcome.action, outcome.status is Status.SKIPPED
            step = self._ids.pop(action.path)
            if skipped and action.source is not None:
                # The next attempt plans a transfer and a delete instead, each decided on its own.
                self._state.moves.refuse(action.source)
                self._state.plan.not_moved(step)
            elif skipped and action.kind not in DELETES:
                self._skipped.add(action.path)
            self._added.pop(action.path, None)
            if skipped and action.kind in DELETES:
                self._state.mark_out_of_sync(action.path)
                completed.append(step)
            else:
                (failed if outcome.status in _UNDONE else completed).append(step)
        return completed, failed


def _nothing() -> None:
    """Do nothing. The note only wakes the control thread after a group is recorded."""


def _largest_size(action: Action) -> int:
    local, remote, baseline = action.local, action.remote, action.baseline
    size = 0 if local is None else local.size
    if remote is not None and remote.size > size:
        size = remote.size
    return baseline.size if baseline is not None and baseline.size > size else size


def _history(outcome: Outcome, now: int, command: str) -> HistoryRow:
    action, status = outcome.action, outcome.status
    return HistoryRow(now, command, action.kind, action.path, action.size, status, outcome.reason)
