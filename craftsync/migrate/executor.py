"""Carries out the plan: hands steps to workers, makes their results durable, records them.

All database work happens here, in the control thread. A row follows the
target's own durability, so a crash costs at most that a few objects are looked
at again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Protocol

from craftsync.clock import Clock
from craftsync.core.model import Kind
from craftsync.errors import Interrupted, StoreMissing
from craftsync.migrate.carrier import SHORT, Carrier, Task
from craftsync.migrate.content import WHOLE
from craftsync.migrate.outcome import CopyOutcome
from craftsync.state.migration import CopyStep, MigrationState
from craftsync.state.transfers import SavedUpload
from craftsync.sync.outcome import Status
from craftsync.sync.pool import Pool

_WINDOW = 512
"""Steps handed out and not yet recorded."""
_GROUP = 256
_GROUP_SECONDS = 1.0
_FAILURES_IN_A_ROW = 8
"""So many failures of a store without one success are the store's, not the paths'."""
_POLL_SECONDS = 0.2

Note = Callable[[], None]
"""Something a worker wants the database to learn, run in the control thread."""


class Listener(Protocol):
    """Hears of each outcome once it is recorded, and now and then that time has passed."""

    def outcome(self, outcome: CopyOutcome) -> None: ...

    def tick(self) -> None: ...


class Executor:
    """Runs the steps of one plan."""

    def __init__(
        self,
        *,
        state: MigrationState,
        carrier: Carrier,
        pool: Pool[CopyOutcome | Note],
        clock: Clock,
        listener: Listener,
    ) -> None:
        self._state = state
        self._carrier = carrier
        self._pool = pool
        self._clock = clock
        self._listener = listener
        self._in_flight = 0
        self._finished: list[CopyOutcome] = []
        self._flushed_at = clock.monotonic()
        self._failures = 0

    def run(self) -> None:
        """Carry out every step. Raises what broke a whole side, after recording what was done."""
        deleting = False
        try:
            for step in self._state.steps():
                if step.kind is Kind.DELETE_REMOTE and not deleting:
                    self._drain()
                    deleting = True
                task = partial(self._carrier.carry_out, self._task(step))
                self._pool.submit(task, long=_is_long(step))
                self._in_flight += 1
                while self._in_flight >= _WINDOW:
                    self._collect()
            self._drain()
        except BaseException:
            self._carrier.cancel()
            raise
        finally:
            self._close()

    def _drain(self) -> None:
        while self._in_flight:
            self._collect()
        self._flush()

    def _close(self) -> None:
        """Let the steps under way end, and record whatever was finished, also after an error."""
        self._pool.close()
        waiting = True
        while waiting:
            with suppress(Interrupted):
                result = self._pool.take(0)
                waiting = result is not None
                if result is not None:
                    self._keep(result)
        self._flush()

    def _task(self, step: CopyStep) -> Task:
        if step.source is None or step.source.size <= WHOLE or self._carrier.dry_run:
            return Task(step)
        identity = self._carrier.operation(step.source).encode()
        saved = self._state.upload(step.path, identity)
        return Task(step, Journal(self._state, self._pool, step.path, identity, saved))

    def _collect(self) -> None:
        result = self._pool.take(_POLL_SECONDS)
        if result is not None:
            self._keep(result)
        if isinstance(result, CopyOutcome):
            self._watch_failures(result)
        self._listener.tick()
        late = self._clock.monotonic() - self._flushed_at > _GROUP_SECONDS
        if len(self._finished) >= _GROUP or (self._finished and late):
            self._flush()

    def _keep(self, result: CopyOutcome | Note) -> None:
        if isinstance(result, CopyOutcome):
            self._in_flight -= 1
            self._finished.append(result)
        else:
            result()

    def _watch_failures(self, outcome: CopyOutcome) -> None:
        if outcome.error is None:
            self._failures = 0
            return
        self._failures += 1
        if self._failures >= _FAILURES_IN_A_ROW or isinstance(outcome.error, StoreMissing):
            raise outcome.error

    def _flush(self) -> None:
        """Make the group durable and record it."""
        finished, self._finished = self._finished, []
        changed = any(outcome.row or outcome.forget for outcome in finished)
        if changed and not self._carrier.dry_run:
            learned = self._carrier.target.barrier()
            finished = [outcome.completed(learned) for outcome in finished]
        if finished:
            self._record(finished)
            for outcome in finished:
                self._listener.outcome(outcome)
        self._flushed_at = self._clock.monotonic()

    def _record(self, finished: list[CopyOutcome]) -> None:
        with self._state.transaction():
            self._state.forget(outcome.step.path for outcome in finished if outcome.forget)
            self._state.put(outcome.row for outcome in finished if outcome.row)
            self._state.done(o.step.id for o in finished if _is_settled(o))
            self._state.leave(o.step.id for o in finished if not _is_settled(o))
            for outcome in finished:
                if outcome.row is not None and outcome.row.size > WHOLE:
                    self._end_upload(outcome.step)

    def _end_upload(self, step: CopyStep) -> None:
        assert step.source is not None
        identity = self._carrier.operation(step.source).encode()
        self._state.transfers.end_upload(step.path, identity)


class Journal:
    """Remembers one large upload; called from workers, writes in the control thread."""

    def __init__(
        self,
        state: MigrationState,
        pool: Pool[CopyOutcome | Note],
        path: str,
        identity: bytes,
        saved: SavedUpload | None,
    ) -> None:
        self._transfers = state.transfers
        self._pool = pool
        self._path = path
        self._identity = identity
        self._saved = saved

    def resume(self) -> tuple[str, int, dict[int, str]] | None:
        """Return the unfinished upload of this very version, also one this process began."""
        saved = self._saved
        return None if saved is None else (saved.upload_id, saved.part_size, dict(saved.parts))

    def begin(self, upload_id: str, part_size: int) -> None:
        self._saved = SavedUpload(upload_id, self._identity, part_size, {})
        begin = self._transfers.begin_upload
        self._pool.post(partial(begin, self._path, self._identity, upload_id, part_size))

    def part_done(self, number: int, version: str) -> None:
        assert self._saved is not None
        self._saved.parts[number] = version
        upload_id = self._saved.upload_id
        self._pool.post(partial(self._transfers.upload_part, upload_id, number, version))


def _is_long(step: CopyStep) -> bool:
    return any(side is not None and side.size > SHORT for side in (step.source, step.target))


def _is_settled(outcome: CopyOutcome) -> bool:
    return outcome.row is not None or outcome.forget or outcome.status is Status.DONE
