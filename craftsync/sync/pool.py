"""Where steps are carried out: short ones by turns in the calling thread, long ones by threads."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from greenlet import getcurrent, greenlet

from craftsync.blocking import is_ready, wait_through
from craftsync.errors import Interrupted
from craftsync.sync.sockets import Sockets

T = TypeVar("T")
Result = TypeVar("Result")

_LOOK_SECONDS = 1.0


class Pool(Protocol[Result]):
    """Runs tasks and hands back what they return, in the order they end.

    An exception that escapes a task comes out of `take`.
    """

    def submit(self, task: Callable[[], Result], *, long: bool = False) -> None:
        """Take on a task; a `long` one reads or writes so much that it should have a thread to itself."""
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


class _Call(NamedTuple):
    """A wait of a short task, or a long task as a whole."""

    task: greenlet | None
    make: Callable[[], object]


class _Answer(NamedTuple):
    """What a worker brings back: to the short task that waits for it, or as a result of its own."""

    task: greenlet | None
    value: object
    error: BaseException | None = None


class _Workers:
    """Threads that make calls in the order they were queued; another is started while none is free."""

    def __init__(self, most: int, name: str, answer: Callable[[_Answer], None]) -> None:
        self._most = most
        self._name = name
        self._answer = answer
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._dropping = False

    def hand_over(self, call: _Call) -> None:
        self._calls.put(call)
        if len(self._threads) < self._most and not self._calls.empty():
            name = f"{self._name}-{len(self._threads)}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def finish(self, *, drop: bool) -> None:
        """Let no more than the queued calls be made, or with `drop` none but those under way."""
        self._dropping = drop
        for _ in self._threads:
            self._calls.put(None)

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            if not self._dropping:
                self._answer(_made(call))


class TaskPool(Generic[Result]):
    """Short tasks share the calling thread; they wait for their sockets together, and workers make their other waits.

    A thread for each small upload made 5,000 of them cost 3.0 s of processor
    time where one thread does the same in 1.1 s, all without a network: two
    thirds went into passing the interpreter's lock around. So a short task is
    a greenlet of the thread that made the pool, which steps aside while it
    waits (`blocking`). As many are under way at once as there are workers.
    Those waits and the long tasks have workers of their own: a wait, such as
    that for the disk before a group is recorded, takes milliseconds and must
    not queue behind transfers that take minutes.
    All methods but `post` belong to that thread.

    A greenlet runs one task after the other, for each new one is given 16 KiB
    by the system and gives them back at its end.
    """

    def __init__(self, workers: int) -> None:
        self._home = getcurrent()
        self._queued: deque[Callable[[], Result]] = deque()
        self._under_way = 0
        self._resting: list[greenlet] = []
        self._waits = _Workers(workers, "wait", self._answer)
        self._long = _Workers(workers, "transfer", self._answer)
        self._answers: deque[_Answer] = deque()
        self._sockets: Sockets[greenlet] = Sockets()
        self._sleeping = False
        self._closing = False
        self._workers = workers
        wait_through(self)

    def submit(self, task: Callable[[], Result], *, long: bool = False) -> None:
        if long:
            self._long.hand_over(_Call(None, task))
        else:
            self._queued.append(task)
            self._start_queued()

    def begin(self, task: Callable[[], Result]) -> None:
        self._under_way += 1
        runner = self._resting.pop() if self._resting else greenlet(self._run_short, self._home)
        runner.switch(task)

    def post(self, result: Result) -> None:
        self._answer(_Answer(None, result))

    def take(self, timeout: float | None = None) -> Result | None:
        end = None if timeout is None else monotonic() + timeout
        while True:
            while self._answers:
                answer = self._answers.popleft()
                if answer.task is None:
                    result: Result = _returned(answer)
                    return result
                answer.task.switch(answer)
                self._start_queued()
            if self._closing:
                return None
            left = _LOOK_SECONDS if end is None else end - monotonic()
            if not self._go_on(max(left, 0.0)) and end is not None and left <= 0:
                return None

    def close(self) -> None:
        """Return once the tasks under way have ended; queued tasks are dropped.

        What they return can still be taken.
        """
        if self._closing:
            return
        self._closing = True
        self._queued.clear()
        self._waits.finish(drop=False)
        self._long.finish(drop=True)
        self._waits.join()
        self._long.join()
        results: deque[_Answer] = deque()
        while self._answers or self._sockets:
            if not self._answers:
                self._go_on(_LOOK_SECONDS)
                continue
            answer = self._answers.popleft()
            if answer.task is None:
                results.append(answer)
            else:
                answer.task.switch(answer)
        self._answers = results
        for runner in self._resting:
            runner.switch(None)
        self._sockets.close()
        wait_through(None)

    def wait_for(self, call: Callable[[], T]) -> T:
        """Let a worker make a call of the running task, and run others until it has returned."""
        task = getcurrent()
        if task is self._home or self._closing:
            return call()
        self._waits.hand_over(_Call(task, call))
        returned: T = _returned(self._home.switch())
        return returned

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
        self._sleeping = True
        try:
            # Whoever brings an answer from here on wakes this thread.
            ready = self._sockets.ready(0.0 if self._answers else seconds)
        finally:
            self._sleeping = False
        for task, in_time in ready:
            task.switch(in_time)
            self._start_queued()
        return bool(ready or self._answers)

    def _start_queued(self) -> None:
        while self._queued and self._under_way < self._workers:
            self.begin(self._queued.popleft())

    def _run_short(self, task: Callable[[], Result] | None) -> None:
        """Run tasks. A signal that arrives in one ends the work of the whole thread, as it would elsewhere."""
        while task is not None:
            try:
                answer = _Answer(None, task())
            except (Exception, Interrupted) as error:  # noqa: BLE001 (it is raised again by take)
                answer = _Answer(None, None, error)
            self._answers.append(answer)
            self._under_way -= 1
            self._resting.append(getcurrent())
            task = self._home.switch()

    def _answer(self, answer: _Answer) -> None:
        """Bring an answer from any thread."""
        self._answers.append(answer)
        if self._sleeping:
            self._sockets.wake()


class SerialPool(Generic[Result]):
    """Runs each task at once in the calling thread, so that a test sees one fixed order."""

    def __init__(self) -> None:
        self._results: list[Result] = []

    def submit(self, task: Callable[[], Result], *, long: bool = False) -> None:
        self._results.append(task())

    def begin(self, task: Callable[[], Result]) -> None:
        self._results.append(task())

    def post(self, result: Result) -> None:
        self._results.append(result)

    def take(self, timeout: float | None = None) -> Result | None:
        return self._results.pop(0) if self._results else None

    def close(self) -> None:
        self._results.clear()


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
