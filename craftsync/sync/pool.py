"""Where steps are carried out: a bounded set of threads, or the calling thread in tests."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

Result = TypeVar("Result")


class Pool(Protocol[Result]):
    """Runs tasks and hands back what they return, in the order they end.

    An exception that escapes a task comes out of `take`.
    """

    def submit(self, task: Callable[[], Result]) -> None: ...

    def post(self, result: Result) -> None:
        """Hand something to the caller of `take`; may be called from inside a task."""
        ...

    def take(self, timeout: float | None = None) -> Result | None:
        """Return the next result; `None` when `timeout` seconds passed without one."""
        ...

    def close(self) -> None: ...


class ThreadPool(Generic[Result]):
    """Plain threads around two C-implemented queues: a future a task costs more than a small upload's share."""

    def __init__(self, workers: int) -> None:
        self._tasks: queue.SimpleQueue[Callable[[], Result] | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[Result | BaseException] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"transfer-{n}", daemon=True)
            for n in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                self._results.put(task())
            except BaseException as error:  # noqa: BLE001 (it is raised again by take)
                self._results.put(error)

    def submit(self, task: Callable[[], Result]) -> None:
        self._tasks.put(task)

    def post(self, result: Result) -> None:
        self._results.put(result)

    def take(self, timeout: float | None = None) -> Result | None:
        try:
            result = self._results.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(result, BaseException):
            raise result
        return result

    def close(self) -> None:
        """End the threads once their current task has ended; queued tasks are dropped."""
        try:
            while True:
                self._tasks.get_nowait()
        except queue.Empty:
            pass
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()


class SerialPool(Generic[Result]):
    """Runs each task at once in the calling thread, so that a test sees one fixed order."""

    def __init__(self) -> None:
        self._results: list[Result] = []

    def submit(self, task: Callable[[], Result]) -> None:
        self._results.append(task())

    def post(self, result: Result) -> None:
        self._results.append(result)

    def take(self, timeout: float | None = None) -> Result | None:
        return self._results.pop(0) if self._results else None

    def close(self) -> None:
        self._results.clear()
