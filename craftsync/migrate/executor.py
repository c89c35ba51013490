"""Carries out the plan: hands steps to workers, makes their results durable, records them.

All database work happens here, in the control thread. A row follows the
target's own durability, so a crash costs at most that a few objects are looked
at again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Protocol

from craftsync.clock import Clock
from craftsync.core.guard import DeleteLimit
from craftsync.core.model import Kind
from craftsync.engine.report import Status
from craftsync.engine.runner import Note, Runner
from craftsync.engine.tally import Journal
from craftsync.migrate.carrier import SHORT, Carrier, Task
from craftsync.migrate.content import WHOLE
from craftsync.migrate.outcome import CopyOutcome
from craftsync.net.tasks import Pool
from craftsync.state.held import Deleted
from craftsync.state.history import KeptVersion
from craftsync.state.migration import CopyStep, MigrationState
from craftsync.stores.base import Store

NoteKept = Callable[[list[KeptVersion]], None]


class Listener(Protocol):
    """Hears of each outcome once it is recorded, and now and then that time has passed."""

    def outcome(self, outcome: CopyOutcome) -> None: ...

    def tick(self) -> None: ...


class Executor(Runner[CopyStep, CopyOutcome]):
    """Runs the steps of one plan."""

    short = SHORT

    def __init__(
        self,
        *,
        state: MigrationState,
        carrier: Carrier,
        pool: Pool[CopyOutcome | Note],
        clock: Clock,
        listener: Listener,
        note_kept: NoteKept,
        limit: DeleteLimit | None = None,
    ) -> None:
        """`limit` is what the guard judged the deletes by; `None` for those that a person asked for.

        `note_kept` is called with what went to the target's trash.
        """
        super().__init__(pool, clock, listener.tick)
        self._state = state
        self._carrier = carrier
        self._listener = listener
        self._limit = limit
        self._note_kept = note_kept
        self._finished: list[CopyOutcome] = []

    def _steps(self) -> Iterable[CopyStep]:
        return self._state.steps()

    def _stage(self, step: CopyStep) -> bool:
        """Deletes come last."""
        return step.kind is Kind.DELETE_REMOTE

    def _task(self, step: CopyStep) -> tuple[Callable[[], CopyOutcome], int]:
        return partial(self._carrier.carry_out, self._known(step)), _size(step)

    def _cancel(self) -> None:
        self._carrier.cancel()

    @property
    def _stores(self) -> Sequence[Store]:
        return (self._carrier.source, self._carrier.target)

    def _keep(self, result: CopyOutcome) -> None:
        self._finished.append(result)

    def _ended(self, result: CopyOutcome) -> CopyOutcome:
        return result

    def _waiting(self) -> int:
        return len(self._finished)

    def _known(self, step: CopyStep) -> Task:
        """Return a step with what the database knows about it."""
        if step.source is None or step.source.size <= WHOLE or self._carrier.dry_run:
            return Task(step)
        identity = self._carrier.operation(step.source).encode()
        saved = self._state.upload(step.path, identity)
        return Task(step, Journal(self._state.transfers, self._pool, step.path, identity, saved))

    def _record_group(self) -> None:
        finished, self._finished = self._finished, []
        changed = any(outcome.row or outcome.forget for outcome in finished)
        if changed and not self._carrier.dry_run:
            learned = self._carrier.target.barrier()
            finished = [outcome.completed(learned) for outcome in finished]
        if finished:
            self._record(finished)
            for outcome in finished:
                self._listener.outcome(outcome)

    def _record(self, finished: list[CopyOutcome]) -> None:
        with self._state.transaction():
            self._state.forget(outcome.step.path for outcome in finished if outcome.forget)
            self._state.put(outcome.row for outcome in finished if outcome.row)
            self._state.done(o.step.id for o in finished if _is_settled(o))
            self._state.leave(o.step.id for o in finished if not _is_settled(o))
            if self._limit is not None:
                self._state.events.add(self._deleted(finished), self._limit)
        if not self._carrier.dry_run and not self._carrier.target.features.keeps_versions:
            self._note_kept(list(self._kept_of(finished)))

    def _kept_of(self, finished: Iterable[CopyOutcome]) -> Iterator[KeptVersion]:
        """Yield what the target's trash now holds of these steps."""
        for outcome in finished:
            target = outcome.step.target
            if target is not None and outcome.status is Status.DONE:
                yield KeptVersion("store", self._carrier.keep, target.path, target.size)

    def _deleted(self, finished: Iterable[CopyOutcome]) -> Iterator[Deleted]:
        now, keep = self._clock.now_ns(), self._carrier.keep
        for outcome in finished:
            step = outcome.step
            if step.kind is Kind.DELETE_REMOTE and outcome.status is Status.DONE:
                yield Deleted(
                    step.kind, step.path, step.target.size if step.target else 0, now, keep
                )


def _size(step: CopyStep) -> int:
    sides = (step.source, step.target)
    return max((side.size for side in sides if side is not None), default=0)


def _is_settled(outcome: CopyOutcome) -> bool:
    return outcome.row is not None or outcome.forget or outcome.status is Status.DONE
