"""A pool without threads and turns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from craftsync.net.tasks import Weight

Result = TypeVar("Result")


class SerialPool(Generic[Result]):
    """Runs each task at once in the calling thread, so that a test sees one fixed order."""

    def __init__(self) -> None:
        self._results: list[Result] = []

    def submit(
        self,
        task: Callable[[], Result],
        *,
        weight: Weight = Weight.SHORT,
        size: int = 0,
        first: bool = False,
    ) -> None:
        self._results.append(task())

    def is_full(self) -> bool:
        return False

    def begin(self, task: Callable[[], Result]) -> None:
        self._results.append(task())

    def post(self, result: Result) -> None:
        self._results.append(result)

    def take(self, timeout: float | None = None) -> Result | None:
        return self._results.pop(0) if self._results else None

    def close(self) -> None:
        self._results.clear()
