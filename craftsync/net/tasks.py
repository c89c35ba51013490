"""`TaskPool`: runs the tasks of a run, short ones as greenlets of one thread, long ones in threads."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from time import monotonic
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from greenlet import getcurrent, greenlet

from craftsync.errors import Interrupted
from craftsync.net.concurrency import Concurrency
from craftsync.net.waiting import CHECK_SECONDS, Other, Sockets, is_ready, set_waiter

T = TypeVar("T")
Result = TypeVar("Result")

_LARGE = 16 << 20
"""Transfers above this many bytes may take minutes."""
_RESERVED_SHARE = 8
"""One in this many workers for long tasks is reserved for tasks that are not large."""
_WAIT_WORKERS = 64
"""The most threads for blocking calls, such as opening a connection. Started on demand."""
_MAX_BYTES = 64 << 20
"""The most bytes that short tasks hold in memory, if there are more of them than workers."""


class Weight(Enum):
    """The amount that a task reads or writes."""

    SHORT = 0
    """Small enough to share a thread."""
    LONG = 1
    """Needs a thread of its own."""
    LARGE = 2
    """May take minutes. Such tasks never occupy all threads."""


def weight_of(size: int, short: int) -> Weight:
    """Return the weight of a task that moves `size` bytes. Up to `short` bytes it is short."""
    if size <= short:
        return Weight.SHORT
    return Weight.LONG if size <= _LARGE else Weight.LARGE


class Pool(Protocol[Result]):
    """Runs tasks, and returns their results in the order in which they end."""

    def submit(
        self,
        task: Callable[[], Result],
        *,
        weight: Weight = Weight.SHORT,
        size: int = 0,
        first: bool = False,
    ) -> None:
        """Queue a task that holds `size` bytes in memory; with `first`, ahead of the others."""
        ...

    def is_full(self) -> bool:
        """Return whether as many large tasks are queued as there are workers."""
        ...

    def begin(self, task: Callable[[], Result]) -> None:
        """Start a task at once, ahead of the queue."""
        ...

    def post(self, result: Result) -> None:
        """Add a result for `take`. Thread-safe; a task may call it."""
        ...

    def take(self, timeout: float | None = None) -> Result | None:
        """Return the next result, or `None` after `timeout` seconds without one. Raises a task's exception."""
        ...

    def close(self) -> None: ...


class _SharedCall(NamedTuple):
    """Stands for all short tasks that share one call."""

    call: Callable[[], object]


class _Call(NamedTuple):
    """A blocking call of one short task, or shared by several, or a whole long task (`None`)."""

    task: greenlet | _SharedCall | None
    make: Callable[[], object]


class _Outcome(NamedTuple):
    """The result of a call for the short tasks that wait for it, or the result of a task (`None`)."""

    task: greenlet | _SharedCall | None
    value: object
    error: BaseException | None = None


class _Workers:
    """Up to `most` threads, started on demand, that run queued calls in order.

    At most `most_large` of them run large calls, and only while no others are queued.
    """

    def __init__(
        self, most: int, name: str, deliver: Callable[[_Outcome], None], most_large: int = 0
    ) -> None:
        self._most = most
        self._most_large = most_large
        self._name = name
        self._deliver = deliver
        self._changed = threading.Condition()
        self._calls: deque[_Call] = deque()
        self._large: deque[_Call] = deque()
        self._large_under_way = 0
        self._free = 0
        self._threads: list[threading.Thread] = []
        self._finishing = False
        self._finished = False
        """Whether a thread that begins late takes no call any more."""

    @property
    def large_waiting(self) -> int:
        """The number of queued large calls."""
        return len(self._large)

    def submit(self, call: _Call, *, large: bool = False, first: bool = False) -> None:
        queue = self._large if large else self._calls
        with self._changed:
            (queue.appendleft if first else queue.append)(call)
            self._changed.notify()
            is_short_of_threads = self._free < len(self._calls) + len(self._large)
        if is_short_of_threads and len(self._threads) < self._most:
            name = f"{self._name}-{len(self._threads)}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._threads.append(thread)  # Before `start`, which a signal may leave.
            thread.start()

    def finish(self, *, drop: bool) -> None:
        """End the threads after the queued calls, or, with `drop`, after the current ones."""
        with self._changed:
            self._finishing = True
            if drop:
                self._calls.clear()
                self._large.clear()
            self._changed.notify_all()

    def join(self) -> None:
        """Return once no call runs and none will. Calls that no thread has taken run here.

        A signal that came while a thread started leaves one that begins at any time.
        """
        self._join_started()
        with self._changed:
            self._finished = True
            left = [*self._calls, *self._large]
        self._join_started()
        for call in left:
            self._deliver(_run_call(call))

    def _join_started(self) -> None:
        for thread in self._threads:
            with suppress(RuntimeError):  # It has not started, so it has taken no call.
                thread.join()

    def _work(self) -> None:
        while (taken := self._next()) is not None:
            call, is_large = taken
            self._deliver(_run_call(call))
            if is_large:
                with self._changed:
                    self._large_under_way -= 1

    def _next(self) -> tuple[_Call, bool] | None:
        """Wait for a call; return it and whether it is large, or `None` when finishing."""
        with self._changed:
            self._free += 1
            try:
                while not (self._calls or self._may_begin_large or self._finishing):
                    self._changed.wait()
            finally:
                self._free -= 1
            if self._finished:
                return None
            if self._calls:
                return self._calls.popleft(), False
            if not self._may_begin_large:
                return None
            self._large_under_way += 1
            return self._large.popleft(), True

    @property
    def _may_begin_large(self) -> bool:
        return bool(self._large) and self._large_under_way < self._most_large


class _SharedCalls:
    """The tasks that wait for shared calls, by call. Used by one thread.

    Equal calls never overlap: tasks that request a call while it runs share its next run.
    """

    def __init__(self) -> None:
        self.requested: dict[Callable[[], object], list[greenlet]] = {}
        self._under_way: dict[Callable[[], object], list[greenlet]] = {}

    def __bool__(self) -> bool:
        return bool(self.requested)

    def request(self, call: Callable[[], object], task: greenlet) -> None:
        self.requested.setdefault(call, []).append(task)

    def drop(self, call: Callable[[], object], task: greenlet) -> None:
        """Forget a task's request."""
        for tasks in (self.requested.get(call, []), self._under_way.get(call, [])):
            if task in tasks:
                tasks.remove(task)

    def due(self) -> list[_Call]:
        """Return the calls to run now; later requests wait for the next run."""
        calls = [call for call in self.requested if call not in self._under_way]
        for call in calls:
            self._under_way[call] = self.requested.pop(call)
        return [_Call(_SharedCall(call), call) for call in calls]

    def ended(self, made: _SharedCall) -> list[greenlet]:
        """Return the tasks that waited for a call."""
        return self._under_way.pop(made.call)


class TaskPool(Generic[Result]):
    """Runs short tasks as greenlets of the calling thread, and blocking calls and long tasks in workers.

    With a thread for each, 5,000 small uploads took 3.0 s of processor time (no network); in one
    thread they take 1.1 s, because two thirds went into passing the interpreter's lock around.
    While a short task waits (`blocking`), others run. `concurrency` limits how many are under way.

    Blocking calls and long tasks have separate workers. A blocking call, such as the flush before a
    group is recorded, takes milliseconds and must not queue behind transfers that take minutes. For
    the same reason, large tasks never occupy all workers for long tasks, and start after the
    others.

    Only `post` is thread-safe; all other methods belong to the thread that made the pool. Greenlets
    are reused, because each new one allocates and frees 16 KiB.
    """

    def __init__(self, concurrency: Concurrency) -> None:
        workers = concurrency.workers
        self._concurrency = concurrency
        self._home = getcurrent()
        self._queued: deque[tuple[Callable[[], Result], int]] = deque()
        self._under_way = 0
        self._size_under_way = 0
        self._idle: list[greenlet] = []
        self._waits = _Workers(max(workers, _WAIT_WORKERS), "wait", self._deliver)
        reserved = max(1, workers // _RESERVED_SHARE)
        most = max(workers, 1 + reserved)
        self._long = _Workers(most, "transfer", self._deliver, most_large=most - reserved)
        self._outcomes: deque[_Outcome] = deque()
        self._sockets: Sockets[greenlet] = Sockets()
        self._shared_calls = _SharedCalls()
        self._sleeping = False
        self._closing = False
        self._workers = workers
        set_waiter(self)

    def submit(
        self,
        task: Callable[[], Result],
        *,
        weight: Weight = Weight.SHORT,
        size: int = 0,
        first: bool = False,
    ) -> None:
        if weight is Weight.SHORT:
            (self._queued.appendleft if first else self._queued.append)((task, size))
            self._start_queued()
        else:
            self._long.submit(_Call(None, task), large=weight is Weight.LARGE, first=first)

    def is_full(self) -> bool:
        return self._long.large_waiting >= self._workers

    def begin(self, task: Callable[[], Result]) -> None:
        self._begin(task, 0)

    def _begin(self, task: Callable[[], Result], size: int) -> None:
        self._under_way += 1
        self._size_under_way += size
        runner = self._idle.pop() if self._idle else greenlet(self._run_short, self._home)
        runner.switch((task, size))

    def post(self, result: Result) -> None:
        self._deliver(_Outcome(None, result))

    def take(self, timeout: float | None = None) -> Result | None:
        end = None if timeout is None else monotonic() + timeout
        if (
            self._shared_calls.requested
        ):  # Start them here too: with a steady stream of results this thread is never idle.
            self._start_shared_calls()
        while True:
            while self._outcomes:
                outcome = self._outcomes.popleft()
                if outcome.task is None:
                    result: Result = _unwrap(outcome)
                    return result
                self._resume(outcome)
            if self._closing:
                return None
            left = CHECK_SECONDS if end is None else end - monotonic()
            if not self._run_ready(max(left, 0.0)) and end is not None and left <= 0:
                return None

    def close(self) -> None:
        """Wait for the tasks under way, whose results `take` still returns, and drop the queued ones."""
        if self._closing:
            return
        self._start_shared_calls()
        self._closing = True
        self._queued.clear()
        self._waits.finish(drop=False)
        self._long.finish(drop=True)
        self._waits.join()
        self._long.join()
        results: deque[_Outcome] = deque()
        while self._outcomes or self._sockets or self._shared_calls:
            if not self._outcomes:
                self._run_ready(CHECK_SECONDS)
                continue
            outcome = self._outcomes.popleft()
            if outcome.task is None:
                results.append(outcome)
            else:
                self._resume(outcome)
        self._outcomes = results
        for runner in self._idle:
            runner.switch(None)
        self._sockets.close()
        self._concurrency.close()
        set_waiter(None)

    def wait_for(self, call: Callable[[], T]) -> T:
        """Run a call in a worker, and other tasks of this thread until it returns."""
        task = getcurrent()
        if task is self._home or self._closing:
            return call()
        self._waits.submit(_Call(task, call))
        returned: T = _unwrap(self._home.switch())
        return returned

    def wait_together(self, call: Callable[[], T]) -> T:
        """Wait for a call that starts once all other tasks wait too, so that many share it."""
        task = getcurrent()
        if task is self._home or self._closing:
            return call()
        try:
            self._shared_calls.request(call, task)
            outcome = self._home.switch()
        except BaseException:
            # A signal ends this task, so nothing may switch back to it.
            self._shared_calls.drop(call, task)
            raise
        returned: T = _unwrap(outcome)
        return returned

    def wait_for_both(self, first: Callable[[], T], second: Callable[[], Other]) -> tuple[T, Other]:
        """Run two calls and return both results. The second starts when the first waits."""
        task = getcurrent()
        if task is self._home or self._closing:
            return first(), second()
        ended: list[_Outcome] = []
        is_waiting = False

        def run_beside(_: _Outcome) -> None:
            ended.append(_run_call(_Call(task, second)))
            if is_waiting:
                self._outcomes.append(ended[0])

        self._outcomes.append(_Outcome(greenlet(run_beside, self._home), None))
        outcome = _run_call(_Call(task, first))
        if not _is_signal(
            outcome.error
        ):  # After a signal the thread ends, so do not wait for the second call.
            while not ended:
                is_waiting = True
                self._home.switch()
        one: T = _unwrap(outcome)
        other: Other = _unwrap(ended[0])
        return one, other

    def _resume(self, outcome: _Outcome) -> None:
        """Resume the tasks that waited for an outcome."""
        tasks = (
            self._shared_calls.ended(outcome.task)
            if isinstance(outcome.task, _SharedCall)
            else [outcome.task]
        )
        for task in tasks:
            assert task is not None
            task.switch(outcome)
            self._start_queued()

    def _start_shared_calls(self) -> None:
        """Start the shared calls that tasks wait for."""
        for call in self._shared_calls.due():
            if self._closing:
                self._outcomes.append(_run_call(call))
            else:
                self._waits.submit(call)

    def wait_until_ready(self, descriptor: int, events: int, seconds: float) -> bool:
        """Run other tasks until a descriptor is ready for the running one."""
        task = getcurrent()
        if task is self._home:
            return is_ready(descriptor, events, seconds)
        try:
            self._sockets.add(task, descriptor, events, seconds)
            return bool(self._home.switch())
        except BaseException:
            # A signal ends this task, so nothing may switch back to it.
            self._sockets.drop(descriptor)
            raise

    def _run_ready(self, seconds: float) -> bool:
        """Resume the tasks whose sockets are ready, after up to `seconds`; return whether anything happened."""
        if self._shared_calls.requested:
            self._start_shared_calls()
        self._sleeping = True
        began = monotonic()
        try:
            # While `_sleeping` is set, `_deliver` wakes this thread.
            self._sockets.ready(0.0 if self._outcomes or self._sockets.due else seconds)
        finally:
            self._sleeping = False
            self._concurrency.waited(monotonic() - began)
        happened = bool(self._sockets.due)
        while self._sockets.due:
            task, in_time = self._sockets.due.popleft()
            task.switch(in_time)
            if self._queued:
                self._start_queued()
        return happened or bool(self._outcomes)

    def _start_queued(self) -> None:
        while self._queued and self._under_way < self._concurrency.limit:
            task, size = self._queued[0]
            if self._under_way >= self._workers and self._size_under_way + size > _MAX_BYTES:
                return
            self._queued.popleft()
            self._begin(task, size)

    def _run_short(self, given: tuple[Callable[[], Result], int] | None) -> None:
        """Run one task after another. Does not catch the exception of a signal: that ends the whole thread."""
        while given is not None:
            task, size = given
            try:
                outcome = _Outcome(None, task())
            except (Exception, Interrupted) as error:  # noqa: BLE001 (`take` raises it)
                outcome = _Outcome(None, None, error)
            self._outcomes.append(outcome)
            self._under_way -= 1
            self._size_under_way -= size
            self._concurrency.ended(more=bool(self._queued))
            self._idle.append(getcurrent())
            given = self._home.switch()

    def _deliver(self, outcome: _Outcome) -> None:
        """Queue an outcome. Thread-safe."""
        self._outcomes.append(outcome)
        if self._sleeping:
            self._sockets.wake()


def _is_signal(error: BaseException | None) -> bool:
    """Return whether a signal raised this error. A stop (`Interrupted`) ends a task like any other error."""
    return isinstance(error, KeyboardInterrupt) and not isinstance(error, Interrupted)


def _unwrap(outcome: _Outcome) -> Any:
    """Return the result of a call, or raise its error."""
    if outcome.error is not None:
        raise outcome.error
    return outcome.value


def _run_call(call: _Call) -> _Outcome:
    try:
        return _Outcome(call.task, call.make())
    except BaseException as error:  # noqa: BLE001 (_unwrap raises it again)
        return _Outcome(call.task, None, error)
