"""Where steps are carried out: short ones by turns in the calling thread, long ones by threads."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from greenlet import getcurrent, greenlet

from craftsync.blocking import wait_through
from craftsync.errors import Interrupted

T = TypeVar("T")
Result = TypeVar("Result")

_AHEAD = 4
"""Short tasks under way for each worker: so many waits are ready for it while this thread records a group."""


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


class TaskPool(Generic[Result]):
    """Short tasks share the calling thread, and only their waits (`blocking`) go to the workers.

    A thread for each small upload made 5,000 of them cost 3.0 s of processor
    time where one thread does the same in 1.1 s, all without a network: two
    thirds went into passing the interpreter's lock around. So a short task is
    a greenlet of the thread that made the pool, which steps aside while it
    waits. All methods but `post` belong to that thread.
    """

    def __init__(self, workers: int) -> None:
        self._home = getcurrent()
        self._queued: deque[Callable[[], Result]] = deque()
        self._under_way = 0
        self._most_under_way = workers * _AHEAD
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[_Answer] = queue.SimpleQueue()
        self._closing = False
        self._workers = workers
        self._threads: list[threading.Thread] = []
        wait_through(self)

    def submit(self, task: Callable[[], Result], *, long: bool = False) -> None:
        if long:
            self._hand_over(_Call(None, task))
        else:
            self._queued.append(task)
            self._start_queued()

    def begin(self, task: Callable[[], Result]) -> None:
        self._under_way += 1
        greenlet(self._run_short, self._home).switch(task)

    def post(self, result: Result) -> None:
        self._answers.put(_Answer(None, result))

    def take(self, timeout: float | None = None) -> Result | None:
        while True:
            try:
                answer = self._answers.get(timeout=timeout)
            except queue.Empty:
                return None
            if answer.task is None:
                result: Result = _returned(answer)
                return result
            answer.task.switch(answer)
            self._start_queued()

    def close(self) -> None:
        """Return once the tasks under way have ended; queued tasks are dropped.

        What they return can still be taken.
        """
        self._closing = True
        self._queued.clear()
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            thread.join()
        for _ in range(self._answers.qsize()):
            answer = self._answers.get()
            if answer.task is None:
                self._answers.put(answer)
            else:
                answer.task.switch(answer)
        wait_through(None)

    def wait_for(self, call: Callable[[], T]) -> T:
        """Let a worker make a call of the running task, and run others until it has returned."""
        task = getcurrent()
        if task is self._home or self._closing:
            return call()
        self._hand_over(_Call(task, call))
        returned: T = _returned(self._home.switch())
        return returned

    def _hand_over(self, call: _Call) -> None:
        """Queue a call, and start another worker if none is free to take it."""
        self._calls.put(call)
        if len(self._threads) < self._workers and not self._calls.empty():
            name = f"transfer-{len(self._threads)}"
            self._threads.append(threading.Thread(target=self._work, name=name, daemon=True))
            self._threads[-1].start()

    def _start_queued(self) -> None:
        while self._queued and self._under_way < self._most_under_way:
            self.begin(self._queued.popleft())

    def _run_short(self, task: Callable[[], Result]) -> None:
        """Run a task. A signal that arrives in it ends the work of the whole thread, as it would elsewhere."""
        try:
            self._answers.put(_Answer(None, task()))
        except (Exception, Interrupted) as error:  # noqa: BLE001 (it is raised again by take)
            self._answers.put(_Answer(None, None, error))
        finally:
            self._under_way -= 1

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            dropped = self._closing and call.task is None
            if not dropped:
                self._answers.put(_answer(call))


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


def _answer(call: _Call) -> _Answer:
    try:
        return _Answer(call.task, call.make())
    except BaseException as error:  # noqa: BLE001 (it is raised again where the call was asked for)
        return _Answer(call.task, None, error)
