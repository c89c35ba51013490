"""Opening an object takes more than one try now and then; whoever reads it need not know.

Made by hand, for a generator with `contextmanager` costs a small read more than
it says.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TypeVar

T = TypeVar("T")

Enter = Callable[[AbstractContextManager[T]], T]
"""Enters a context; what was entered last is left in the end."""


class Opening(AbstractContextManager[T]):
    """Enters what `attempt` enters, with the means it is given, and leaves it at the end."""

    def __init__(self, attempt: Callable[[Enter[T]], T]) -> None:
        self._attempt = attempt

    def __enter__(self) -> T:
        return self._attempt(self._enter)

    def _enter(self, opened: AbstractContextManager[T]) -> T:
        self._opened = opened
        return opened.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return self._opened.__exit__(kind, error, traceback)
