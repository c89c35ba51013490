"""Where steps are carried out: short ones by turns in the calling thread, long ones by threads."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from enum import Enum
from time import monotonic
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from greenlet import getcurrent, greenlet

from craftsync.errors import Interrupted
from craftsync.net.pace import Concurrency
from craftsync.net.waiting import LOOK_SECONDS, Other, Sockets, is_ready, wait_through

T = TypeVar("T")
Result = TypeVar("Result")

_LARGE = 16 << 20
"""Bytes from which on a transfer may take minutes."""
_KEPT_FREE = 8
"""One in so many workers for long tasks takes no large one."""
_WAITS = 64
"""Workers for waits, each made when there is none free: connections that many transfers need at once are such waits."""
_MOST_BYTES = 64 << 20
"""What short tasks hold in memory together, where there are more of them than workers."""


class Weight(Enum):
    """How much a task reads or writes."""

    SHORT = 0
    """So little that it may hold up the others of its thread."""
    LONG = 1
    """It should have a thread to itself."""
    LARGE = 2
    """It may take minutes, so that tasks of this weight must not have all the threads."""


def weight_of(size: int, short: int) -> Weight:
    """Return the weight of a task that moves `size` bytes, where up to `short` bytes are little."""
    if size <= short:
        return Weight.SHORT
    return Weight.LONG if size <= _LARGE else Weight.LARGE


class Pool(Protocol[Result]):
    """Runs tasks and hands back what they return, in the order they end.

    An exception that escapes a task comes out of `take`.
    """

    def submit(
        self,
        task: Callable[[], Result],
        *,
        weight: Weight = Weight.SHORT,
        size: int = 0,
        first: bool = False,
    ) -> None:
        """Take on a task that holds `size` bytes in memory; with `first` it goes before those that wait."""
        ...

    def is_full(self) -> bool:
        """Whether another large task would only wait, behind as many as there are workers."""
        ...

    def begin(self, task: Callable[[], Result]) -> None:
        """Start a task at once, before those that were submitted and have not been started."""
        ...

    def post(self, result: Result) -> None:
        """Hand something to the caller of `take`; may be called from inside a task."""
        ...

    def take(self, timeout: float | None = None) -> Result | None:
        """Return the next result; `None` when `timeout` seconds passed without one."""
        ...

    def close(self) -> None: ...


class _Round(NamedTuple):
    """All short tasks that wait for one call together."""

    call: Callable[[], object]


class _Call(NamedTuple):
    """A wait of a short task, or of several together, or a long task as a whole."""

    task: greenlet | _Round | None
    make: Callable[[], object]


class _Answer(NamedTuple):
    """What a worker brings back: to the short tasks that wait for it, or as a result of its own."""

    task: greenlet | _Round | None
    value: object
    error: BaseException | None = None


class _Workers:
    """Threads that make calls in the order they were queued; another is started while none is free.

    No more than `most_large` make large calls, and those are made after the others.
    """

    def __init__(
        self, most: int, name: str, answer: Callable[[_Answer], None], most_large: int = 0
    ) -> None:
        self._most = most
        self._most_large = most_large
        self._name = name
        self._answer = answer
        self._changed = threading.Condition()
        self._calls: deque[_Call] = deque()
        self._large: deque[_Call] = deque()
        self._large_under_way = 0
        self._free = 0
        self._threads: list[threading.Thread] = []
        self._finishing = False

    @property
    def large_waiting(self) -> int:
        """How many large calls nobody makes yet."""
        return len(self._large)

    def hand_over(self, call: _Call, *, large: bool = False, first: bool = False) -> None:
        queue = self._large if large else self._calls
        with self._changed:
            (queue.appendleft if first else queue.append)(call)
            self._changed.notify()
            is_short_of_threads = self._free < len(self._calls) + len(self._large)
        if is_short_of_threads and len(self._threads) < self._most:
            name = f"{self._name}-{len(self._threads)}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def finish(self, *, drop: bool) -> None:
        """Let no more than the queued calls be made, or with `drop` none but those under way."""
        with self._changed:
            self._finishing = True
            if drop:
                self._calls.clear()
                self._large.clear()
            self._changed.notify_all()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (taken := self._next()) is not None:
            call, is_large = taken
            self._answer(_made(call))
            if is_large:
                with self._changed:
                    self._large_under_way -= 1

    def _next(self) -> tuple[_Call, bool] | None:
        """Wait for a call, and return it and whether it is large; `None` at the end."""
        with self._changed:
            self._free += 1
            try:
                while not (self._calls or self._may_begin_large or self._finishing):
                    self._changed.wait()
            finally:
                self._free -= 1
            if self._calls:
                return self._calls.popleft(), False
            if not self._may_begin_large:
                return None
            self._large_under_way += 1
            return self._large.popleft(), True

    @property
    def _may_begin_large(self) -> bool:
        return bool(self._large) and self._large_under_way < self._most_large


class _Rounds:
    """Who waits for which call together with others. Belongs to one thread.

    Each call is under way once at a time, so that who asks meanwhile shares the next one.
    """

    def __init__(self) -> None:
        self.asked: dict[Callable[[], object], list[greenlet]] = {}
        self._under_way: dict[Callable[[], object], list[greenlet]] = {}

    def __bool__(self) -> bool:
        return bool(self.asked)

    def ask(self, call: Callable[[], object], task: greenlet) -> None:
        self.asked.setdefault(call, []).append(task)

    def drop(self, call: Callable[[], object], task: greenlet) -> None:
        """Let a task wait no more."""
        for tasks in (self.asked.get(call, []), self._under_way.get(call, [])):
            if task in tasks:
                tasks.remove(task)

    def due(self) -> list[_Call]:
        """Return the calls to be made now; who asks for one from here on waits for the next."""
        calls = [call for call in self.asked if call not in self._under_way]
        for call in calls:
            self._under_way[call] = self.asked.pop(call)
        return [_Call(_Round(call), call) for call in calls]

    def ended(self, made: _Round) -> list[greenlet]:
        """Return who waited for a call."""
        return self._under_way.pop(made.call)


class TaskPool(Generic[Result]):
    """Short tasks share the calling thread; they wait for their sockets together, and workers make their other waits.

    A thread for each small upload made 5,000 of them cost 3.0 s of processor
    time where one thread does the same in 1.1 s, all without a network: two
    thirds went into passing the interpreter's lock around. So a short task is
    a greenlet of the thread that made the pool, which steps aside while it
    waits (`blocking`). How many are under way at once says `concurrency`.
    Those waits and the long tasks have workers of their own: a wait, such as
    that for the disk before a group is recorded, takes milliseconds and must
    not queue behind transfers that take minutes. For the same reason large
    tasks never have all the workers for long ones, and are started after the
    others.
    All methods but `post` belong to that thread.

    A greenlet runs one task after the other, for each new one is given 16 KiB
    by the system and gives them back at its end.
    """

    def __init__(self, concurrency: Concurrency) -> None:
        workers = concurrency.workers
        self._concurrency = concurrency
        self._home = getcurrent()
        self._queued: deque[tuple[Callable[[], Result], int]] = deque()
        self._under_way = 0
        self._size_under_way = 0
        self._resting: list[greenlet] = []
        self._waits = _Workers(max(workers, _WAITS), "wait", self._answer)
        kept_free = max(1, workers // _KEPT_FREE)
        most = max(workers, 1 + kept_free)
        self._long = _Workers(most, "transfer", self._answer, most_large=most - kept_free)
        self._answers: deque[_Answer] = deque()
        self._sockets: Sockets[greenlet] = Sockets()
        self._rounds = _Rounds()
        self._sleeping = False
        self._closing = False
        self._workers = workers
        wait_through(self)

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
            self._long.hand_over(_Call(None, task), large=weight is Weight.LARGE, first=first)

    def is_full(self) -> bool:
        return self._long.large_waiting >= self._workers

    def begin(self, task: Callable[[], Result]) -> None:
        self._begin(task, 0)

    def _begin(self, task: Callable[[], Result], size: int) -> None:
        self._under_way += 1
        self._size_under_way += size
        runner = self._resting.pop() if self._resting else greenlet(self._run_short, self._home)
        runner.switch((task, size))

    def post(self, result: Result) -> None:
        self._answer(_Answer(None, result))

    def take(self, timeout: float | None = None) -> Result | None:
        end = None if timeout is None else monotonic() + timeout
        if self._rounds.asked:  # With answers all the time, this thread might not be idle for long.
            self._start_rounds()
        while True:
            while self._answers:
                answer = self._answers.popleft()
                if answer.task is None:
                    result: Result = _returned(answer)
                    return result
                self._resume(answer)
            if self._closing:
                return None
            left = LOOK_SECONDS if end is None else end - monotonic()
            if not self._go_on(max(left, 0.0)) and end is not None and left <= 0:
                return None

    def close(self) -> None:
        """Return once the tasks under way have ended; queued tasks are dropped.

        What they return can still be taken.
        """
        if self._closing:
            return
        self._start_rounds()
        self._closing = True
        self._queued.clear()
        self._waits.finish(drop=False)
        self._long.finish(drop=True)
        self._waits.join()
        self._long.join()
        results: deque[_Answer] = deque()
        while self._answers or self._sockets or self._rounds:
            if not self._answers:
                self._go_on(LOOK_SECONDS)
                continue
            answer = self._answers.popleft()
            if answer.task is None:
                results.append(answer)
            else:
                self._resume(answer)
        self._answers = results
        for runner in self._resting:
            runner.switch(None)
        self._sockets.close()
        self._concurrency.close()
        wait_through(None)

    def wait_for(self, call: Callable[[], T]) -> T:
        """Let a worker make a call of the running task, and run others until it has returned."""
        task = getcurrent()
        if task is self._home or self._closing:
            return call()
        self._waits.hand_over(_Call(task, call))
        returned: T = _returned(self._home.switch())
        return returned

    def wait_together(self, call: Callable[[], T]) -> T:
        """Wait for a call that is made once all other tasks wait too, so that many share it."""
        task = getcurrent()
        if task is self._home or self._closing:
            return call()
        try:
            self._rounds.ask(call, task)
            answer = self._home.switch()
        except BaseException:
            # A signal came: this task ends, and nothing would ever come for it.
            self._rounds.drop(call, task)
            raise
        returned: T = _returned(answer)
        return returned

    def wait_for_both(self, first: Callable[[], T], second: Callable[[], Other]) -> tuple[T, Other]:
        """Make two calls of the running task: the second beside it, as soon as the first one waits."""
        task = getcurrent()
        if task is self._home or self._closing:
            return first(), second()
        ended: list[_Answer] = []
        is_waiting = False

        def run_beside(_: _Answer) -> None:
            ended.append(_made(_Call(task, second)))
            if is_waiting:
                self._answers.append(ended[0])

        self._answers.append(_Answer(greenlet(run_beside, self._home), None))
        made = _made(_Call(task, first))
        if not isinstance(made.error, KeyboardInterrupt) or isinstance(made.error, Interrupted):
            while not ended:
                is_waiting = True
                self._home.switch()
        one: T = _returned(made)
        other: Other = _returned(ended[0])
        return one, other

    def _resume(self, answer: _Answer) -> None:
        """Let the tasks go on that waited for an answer."""
        tasks = (
            self._rounds.ended(answer.task) if isinstance(answer.task, _Round) else [answer.task]
        )
        for task in tasks:
            assert task is not None
            task.switch(answer)
            self._start_queued()

    def _start_rounds(self) -> None:
        """Have the calls made that tasks wait for together."""
        for call in self._rounds.due():
            if self._closing:
                self._answers.append(_made(call))
            else:
                self._waits.hand_over(call)

    def wait_until_ready(self, descriptor: int, events: int, seconds: float) -> bool:
        """Run other tasks until a descriptor is ready for the running one."""
        task = getcurrent()
        if task is self._home:
            return is_ready(descriptor, events, seconds)
        try:
            self._sockets.add(task, descriptor, events, seconds)
            return bool(self._home.switch())
        except BaseException:
            # A signal came: this task ends, and nothing would ever come for it.
            self._sockets.drop(descriptor)
            raise

    def _go_on(self, seconds: float) -> bool:
        """Let the tasks go on whose sockets are ready within so many seconds; return whether anything happened."""
        if self._rounds.asked:
            self._start_rounds()
        self._sleeping = True
        began = monotonic()
        try:
            # Whoever brings an answer from here on wakes this thread.
            self._sockets.ready(0.0 if self._answers or self._sockets.due else seconds)
        finally:
            self._sleeping = False
            self._concurrency.waited(monotonic() - began)
        happened = bool(self._sockets.due)
        while self._sockets.due:
            task, in_time = self._sockets.due.popleft()
            task.switch(in_time)
            if self._queued:
                self._start_queued()
        return happened or bool(self._answers)

    def _start_queued(self) -> None:
        while self._queued and self._under_way < self._concurrency.limit:
            task, size = self._queued[0]
            if self._under_way >= self._workers and self._size_under_way + size > _MOST_BYTES:
                return
            self._queued.popleft()
            self._begin(task, size)

    def _run_short(self, given: tuple[Callable[[], Result], int] | None) -> None:
        """Run tasks. A signal that arrives in one ends the work of the whole thread, as it would elsewhere."""
        while given is not None:
            task, size = given
            try:
                answer = _Answer(None, task())
            except (Exception, Interrupted) as error:  # noqa: BLE001 (it is raised again by take)
                answer = _Answer(None, None, error)
            self._answers.append(answer)
            self._under_way -= 1
            self._size_under_way -= size
            self._concurrency.ended(more=bool(self._queued))
            self._resting.append(getcurrent())
            given = self._home.switch()

    def _answer(self, answer: _Answer) -> None:
        """Bring an answer from any thread."""
        self._answers.append(answer)
        if self._sleeping:
            self._sockets.wake()


def _returned(answer: _Answer) -> Any:
    """Return what the call returned, or raise what it raised; its type went through a queue."""
    if answer.error is not None:
        raise answer.error
    return answer.value


def _made(call: _Call) -> _Answer:
    try:
        return _Answer(call.task, call.make())
    except BaseException as error:  # noqa: BLE001 (it is raised again where the call was asked for)
        return _Answer(call.task, None, error)
