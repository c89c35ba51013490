"""Carries out the plan: hands steps to workers, makes their results durable, records them.

The order is what keeps a crash harmless: bytes on disk, then swapped in, then
the folder on disk, then the baseline row. One `syncfs` serves a whole group.
All database work happens here, in the control thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Protocol

from craftsync.clock import Clock
from craftsync.core.model import Action, Kind
from craftsync.errors import Interrupted, PathError, StoreMissing
from craftsync.state.history import HistoryRow
from craftsync.state.pair import PairState
from craftsync.state.plan import Step
from craftsync.state.transfers import SavedUpload
from craftsync.sync.carrier import Carrier, Task
from craftsync.sync.content import PART, WHOLE, PartialDownload
from craftsync.sync.outcome import Outcome, Staged, Status
from craftsync.sync.pool import Pool

_SHORT = 1 << 20
"""Bytes up to which hashing and copying a file holds up the other short tasks for a millisecond at most."""
_WINDOW = 512
"""Steps handed out and not yet recorded: enough to keep the workers busy during a group's
commit, and well below the 1,024 descriptors a process may open by default, for each finished
download is an open file until it is swapped in."""
_GROUP = 256
_GROUP_SECONDS = 1.0
_FAILURES_IN_A_ROW = 8
"""So many failures of the store without one success are the store's, not the paths'."""
_POLL_SECONDS = 0.2

Note = Callable[[], None]
"""Something a worker wants the database to learn, run in the control thread."""


class Listener(Protocol):
    """Hears of each outcome once it is recorded, and now and then that time has passed."""

    def outcome(self, outcome: Outcome) -> None: ...

    def tick(self) -> None: ...


class Executor:
    """Runs the steps of one plan."""

    def __init__(
        self,
        *,
        state: PairState,
        carrier: Carrier,
        pool: Pool[Outcome | Staged | Note],
        clock: Clock,
        command: str,
        listener: Listener,
    ) -> None:
        self._root = carrier.root
        self._store = carrier.store
        self._state = state
        self._carrier = carrier
        self._pool = pool
        self._clock = clock
        self._command = command
        self._listener = listener
        self._steps: dict[str, int] = {}
        self._finished: list[Outcome] = []
        self._staged: list[Staged] = []
        self._parts: list[tuple[str, int]] = []
        self._flushed_at = clock.monotonic()
        self._failures = 0

    def run(self) -> None:
        """Carry out every step. Raises what broke a whole side, after recording what was done."""
        stage = 0
        try:
            for step in self._state.plan.steps():
                if step.stage != stage:
                    self._drain()
                    stage = step.stage
                task = partial(self._carrier.carry_out, self._task(step))
                self._pool.submit(task, long=_is_long(step.action))
                self._steps[step.action.path] = step.id
                while self._in_flight >= _WINDOW:
                    self._collect()
            self._drain()
        except BaseException:
            self._carrier.cancel()
            raise
        finally:
            self._close()

    @property
    def _in_flight(self) -> int:
        return len(self._steps) - len(self._finished) - len(self._staged)

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

    def _task(self, step: Step) -> Task:
        action, plan = step.action, self._state.plan
        resumable = self._resumable(step) if action.kind is Kind.DOWNLOAD else None
        large = action.local is not None and action.local.size > WHOLE
        return Task(
            step.id,
            action,
            plan.operation(step.id),
            plan.intent(action.path) if plan.has_intents else None,
            resumable,
            self._journals(action.path) if large else None,
        )

    def _resumable(self, step: Step) -> PartialDownload | None:
        remote = step.action.remote
        if remote is None or remote.size <= WHOLE or remote.version is None:
            return None
        transfers, path = self._state.transfers, remote.path
        saved = transfers.download(path, remote.size, remote.version)
        if saved is not None and saved.part_size == PART:
            name, parts = saved.temporary, frozenset(saved.parts)
        else:
            name, parts = f"download-{self._state.plan.operation(step.id)}", frozenset()
            transfers.begin_download(
                path, temporary=name, size=remote.size, version=remote.version, part_size=PART
            )

        def part_done(number: int) -> None:
            self._pool.post(lambda: self._parts.append((name, number)))

        return PartialDownload(name, parts, part_done)

    def _journals(self, path: str) -> Callable[[bytes], Journal]:
        saved = self._state.transfers.upload(path)

        def open_journal(digest: bytes) -> Journal:
            same = saved is not None and saved.digest == digest
            return Journal(self._state, self._pool, path, digest, saved if same else None)

        return open_journal

    def _collect(self) -> None:
        result = self._pool.take(_POLL_SECONDS)
        if result is not None:
            self._keep(result)
        if isinstance(result, Outcome):
            self._watch_failures(result)
        self._listener.tick()
        waiting = len(self._finished) + len(self._staged) + len(self._parts)
        late = self._clock.monotonic() - self._flushed_at > _GROUP_SECONDS
        if waiting >= _GROUP or (waiting and late):
            self._flush()

    def _keep(self, result: Outcome | Staged | Note) -> None:
        match result:
            case Staged():
                self._staged.append(result)
            case Outcome():
                self._finished.append(result)
            case note:
                note()

    def _watch_failures(self, outcome: Outcome) -> None:
        if isinstance(outcome.error, PathError):
            return
        if outcome.error is None:
            self._failures = 0
            return
        self._failures += 1
        if self._failures >= _FAILURES_IN_A_ROW or isinstance(outcome.error, StoreMissing):
            raise outcome.error

    def _flush(self) -> None:
        """Make the group durable and record it."""
        if self._staged or self._parts:
            self._root.sync()
        if self._parts:
            self._save_parts()
        if self._staged:
            self._finished += [self._carrier.place(staged) for staged in self._staged]
            self._staged.clear()
        finished, self._finished = self._finished, []
        if finished:
            finished = self._made_durable(finished)
            self._record(finished)
            for outcome in finished:
                self._listener.outcome(outcome)
        self._flushed_at = self._clock.monotonic()

    def _save_parts(self) -> None:
        """Record parts of large downloads, now that their bytes are on disk."""
        with self._state.transaction():
            for temporary, number in self._parts:
                self._state.transfers.download_part(temporary, number)
        self._parts.clear()

    def _made_durable(self, finished: list[Outcome]) -> list[Outcome]:
        """Return the outcomes once they survive a power cut, with what the store tells only then."""
        done = {outcome.action.kind for outcome in finished if outcome.rows or outcome.forget}
        if done & {Kind.DOWNLOAD, Kind.DELETE_LOCAL, Kind.MOVE_LOCAL, Kind.RECONCILE}:
            self._root.sync()
        if done & {Kind.UPLOAD, Kind.DELETE_REMOTE, Kind.MOVE_REMOTE, Kind.RECONCILE}:
            learned = self._store.barrier()
            finished = [outcome.completed(learned) for outcome in finished]
        return finished

    def _record(self, finished: list[Outcome]) -> None:
        now = self._clock.now_ns()
        with self._state.transaction():
            self._state.baseline.forget(path for o in finished for path in o.forget)
            self._state.baseline.put(row for o in finished for row in o.rows)
            self._state.plan.done(self._settled_steps(finished))
            self._state.history.add(
                _history(outcome, now, self._command)
                for outcome in finished
                if outcome.status is not Status.UNCHANGED
            )
            for outcome in finished:
                self._forget_transfer(outcome)

    def _settled_steps(self, finished: list[Outcome]) -> Iterator[int]:
        for outcome in finished:
            step = self._steps.pop(outcome.action.path)
            if outcome.status is not Status.PROBLEM:
                yield step

    def _forget_transfer(self, outcome: Outcome) -> None:
        if outcome.bytes > WHOLE and outcome.status in (Status.DONE, Status.CONFLICT):
            for row in outcome.rows:
                self._state.transfers.end_upload(row.path, row.digest)
            self._state.transfers.end_download(outcome.action.path)


class Journal:
    """Remembers one large upload; called from workers, writes in the control thread."""

    def __init__(
        self,
        state: PairState,
        pool: Pool[Outcome | Staged | Note],
        path: str,
        digest: bytes,
        saved: SavedUpload | None,
    ) -> None:
        self._transfers = state.transfers
        self._pool = pool
        self._path = path
        self._digest = digest
        self._saved = saved
        self._upload_id = saved.upload_id if saved else ""

    def resume(self) -> tuple[str, int, dict[int, str]] | None:
        """Return the unfinished upload of this very content, if there is one."""
        saved = self._saved
        return None if saved is None else (saved.upload_id, saved.part_size, saved.parts)

    def begin(self, upload_id: str, part_size: int) -> None:
        self._upload_id = upload_id
        self._pool.post(
            partial(self._transfers.begin_upload, self._path, self._digest, upload_id, part_size)
        )

    def part_done(self, number: int, version: str) -> None:
        self._pool.post(partial(self._transfers.upload_part, self._upload_id, number, version))


def _is_long(action: Action) -> bool:
    sides = (action.local, action.remote, action.baseline)
    return any(side is not None and side.size > _SHORT for side in sides)


def _history(outcome: Outcome, now: int, command: str) -> HistoryRow:
    action = outcome.action
    seen = action.remote if action.kind is Kind.DOWNLOAD else action.local or action.remote
    size = seen.size if seen else 0
    return HistoryRow(now, command, action.kind, action.path, size, outcome.status, outcome.reason)
