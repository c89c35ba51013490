"""Hands the steps of a plan to workers and records what they end in, a group at a time.

What a run and a migration have in common. What a step is, and what makes its
result durable and recorded, the two executors say. All of it happens in the
control thread."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import nullcontext, suppress
from typing import ClassVar, Generic, NamedTuple, Protocol, TypeVar

from craftsync import limits
from craftsync.clock import Clock
from craftsync.errors import CraftsyncError, Interrupted, PathError, RequestDenied, StoreMissing
from craftsync.limits import give_back_large_blocks
from craftsync.net.tasks import Pool, weight_of
from craftsync.stores.base import Store, cancel, renew
from craftsync.stores.sources import briefly

_WINDOW = 768
"""Steps handed out and not yet recorded, at most: enough to keep the workers busy while a group is.
Each finished download is an open file until it is swapped in, so there are fewer where the process
may open few (`descriptors`)."""
_GROUP = 256
_GROUP_SECONDS = 1.0
_FAILURES_IN_A_ROW = 8
"""So many failures of a store without one success are the store's, not the paths'."""
_DENIALS_IN_A_ROW = 256
"""A bucket's policy may deny a folder and nothing else, and an answer costs one request: the steps behind
the denied ones get their turn."""
_POLL_SECONDS = 0.2


class Note(NamedTuple):
    """Something a worker wants the database to learn: a call for the control thread."""

    learn: Callable[[], None]


class Ended(Protocol):
    """How a step ended."""

    @property
    def error(self) -> CraftsyncError | None: ...


Step = TypeVar("Step")
Result = TypeVar("Result")


class Runner(ABC, Generic[Step, Result]):
    """Runs every step of one plan. `tick` is called now and then, to say that time has passed."""

    short: ClassVar[int]
    """A step of so many bytes, or fewer, may share the control thread."""

    def __init__(self, pool: Pool[Result | Note], clock: Clock, tick: Callable[[], None]) -> None:
        self._pool = pool
        self._clock = clock
        self._tick = tick
        self._in_flight = 0
        self._in_record = 0
        self._flushed_at = clock.monotonic()
        self._failures = 0
        self._denials = 0

    def run(self) -> None:
        """Carry out every step. Raises what broke a whole side, after recording what was done."""
        give_back_large_blocks()
        with limits.shared():
            self._run()

    def _run(self) -> None:
        stage: Hashable = None
        stopped = False
        try:
            for step in self._steps():
                if self._stage(step) != stage:
                    self._drain()
                    stage = self._stage(step)
                self._submit(step)
                while self._unrecorded() >= limits.steps_at_once(_WINDOW):
                    self._collect()
            self._drain()
        except BaseException as error:
            self._cancel()
            for store in self._stores:
                cancel(store)
            stopped = isinstance(error, KeyboardInterrupt)
            raise
        finally:
            self._close(stopped=stopped)

    @abstractmethod
    def _steps(self) -> Iterable[Step]: ...

    @abstractmethod
    def _stage(self, step: Step) -> Hashable:
        """Return the stage of a step; one begins when all of the one before has been recorded."""

    def _submit(self, step: Step, *, first: bool = False) -> None:
        task, size = self._task(step)
        self._pool.submit(task, weight=weight_of(size, self.short), size=size, first=first)
        self._in_flight += 1

    @abstractmethod
    def _task(self, step: Step) -> tuple[Callable[[], Result], int]:
        """Return what carries out a step, and how many bytes that moves."""

    @abstractmethod
    def _cancel(self) -> None:
        """End the transfers under way as soon as they ask for more bytes."""

    @property
    @abstractmethod
    def _stores(self) -> Sequence[Store]:
        """Return the stores whose waits a stop ends."""

    @abstractmethod
    def _keep(self, result: Result) -> None:
        """Take a result in until its group is recorded."""

    @abstractmethod
    def _ended(self, result: Result) -> Ended | None:
        """Return how a step ended; `None` for a result that is only half of it."""

    @abstractmethod
    def _waiting(self) -> int:
        """Count what waits to be recorded."""

    @abstractmethod
    def _record_group(self) -> None:
        """Take what waits, make it durable and record it."""

    def _unrecorded(self) -> int:
        return self._in_flight + self._waiting() + self._in_record

    def _drain(self) -> None:
        while self._unrecorded():
            if not self._in_flight:
                self._flush()
            self._collect()

    def _close(self, *, stopped: bool) -> None:
        """Let what is under way end, and record whatever was finished, also after an error."""
        self._pool.close()
        for store in self._stores:
            renew(store)
        with briefly(*self._stores) if stopped else nullcontext():
            self._record_the_rest()

    def _record_the_rest(self) -> None:
        waiting = True
        while waiting:
            with suppress(Interrupted):
                result = self._pool.take(0)
                waiting = result is not None
                if result is not None:
                    self._take_in(result)
        self._record_group()

    def _collect(self) -> None:
        result = self._pool.take(_POLL_SECONDS)
        if result is not None:
            self._take_in(result)
        if result is not None and not isinstance(result, Note):
            self._watch_failures(result)
        self._tick()
        waiting = self._waiting()
        late = self._clock.monotonic() - self._flushed_at > _GROUP_SECONDS
        full = waiting >= min(_GROUP, limits.steps_at_once(_WINDOW) // 2)
        if waiting and (full or late):
            self._flush()

    def _take_in(self, result: Result | Note) -> None:
        if isinstance(result, Note):
            result.learn()
        else:
            self._in_flight -= 1
            self._keep(result)

    def _watch_failures(self, result: Result) -> None:
        ended = self._ended(result)
        if ended is None or isinstance(ended.error, PathError):
            return
        if ended.error is None:
            self._failures = self._denials = 0
            return
        denied = isinstance(ended.error, RequestDenied)
        self._denials += denied
        self._failures += not denied
        too_many = self._failures >= _FAILURES_IN_A_ROW or self._denials >= _DENIALS_IN_A_ROW
        if too_many or isinstance(ended.error, StoreMissing):
            raise ended.error

    def _flush(self) -> None:
        """Begin to record what waits, unless that is under way; its waits for the disk hold up nobody."""
        if not self._in_record:
            self._in_record = self._waiting()
            self._flushed_at = self._clock.monotonic()
            self._pool.begin(self._recorded)

    def _recorded(self) -> Note:
        try:
            self._record_group()
        finally:
            self._in_record = 0
        return Note(_nothing)


def _nothing() -> None:
    """Recording tells by ending that it has ended."""
