"""What the executor hands out, and to whom; what it takes in, and who hears of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple, Protocol

from craftsync.core.model import Action, Policy
from craftsync.engine.content import Fetched, PartialDownload
from craftsync.engine.report import Outcome, Staged, Status, sentence
from craftsync.errors import (
    ObjectNotFound,
    PathBusy,
    PathError,
    PathObstructed,
    PathRefused,
    PreconditionFailed,
    StoreError,
)
from craftsync.state.plan import Totals
from craftsync.state.transfers import Intent
from craftsync.stores.base import Store, UploadJournal


class Task(NamedTuple):
    """A step on its way to a worker, with what the database knows about it."""

    step: int
    action: Action
    operation: str
    intents: tuple[Intent, ...] = ()
    partial: PartialDownload | None = None
    journal: Callable[[bytes], UploadJournal] | None = None
    unkept: bool = False
    """A person approved that no copy is kept where the object is archived."""
    fetched: Fetched | None = None
    """The object, where settling had to read it."""


class Note(NamedTuple):
    """Something a worker wants the database to learn: a call for the control thread."""

    learn: Callable[[], None]


class Carrier(ABC):
    """Carries out steps in worker threads, and touches only the two sides of the run.

    What the state database has to learn is returned as an `Outcome`, never
    written from here.
    """

    __slots__ = ()
    short: ClassVar[int]
    """A step of so many bytes, or fewer, may share the control thread."""
    changed: ClassVar[str]
    """What is reported of a path whose object is another by now."""
    keep: str
    """The name of this run in the trash."""

    @property
    @abstractmethod
    def policy(self) -> Policy: ...

    @property
    @abstractmethod
    def stores(self) -> Sequence[Store]:
        """The stores whose waits a stop ends; the last one is written."""

    @abstractmethod
    def do(self, task: Task) -> Outcome | Staged:
        """Do one step, or the half of it that a folder's disk has to see before the other."""

    @abstractmethod
    def kept_under(self, keep: str) -> Carrier:
        """Return the same with another name in the trash."""

    @abstractmethod
    def cancel(self) -> None:
        """End the transfers under way as soon as they ask for more bytes."""

    def place(self, staged: Staged) -> Outcome:
        """Do the other half."""
        raise AssertionError(f"{staged.action.path}: the left side is not written")

    def sync(self) -> None:  # noqa: B027 (nothing to be done is an answer)
        """Return once what was put into the left side survives a power cut."""

    def has_temporary(self, name: str) -> bool:
        """Return whether the folder still has this unfinished download."""
        return False

    def carry_out(self, task: Task) -> Outcome | Staged:
        """Do one step and return what it left behind; trouble with the path is part of the answer."""
        action = task.action
        try:
            return self.do(task)
        except (PathRefused, PathObstructed) as error:
            return self.refused(action, error)
        except PathBusy as error:
            return Outcome(action, Status.SKIPPED, str(error))
        except (PreconditionFailed, ObjectNotFound):
            return Outcome(action, Status.SKIPPED, self.changed)
        except (PathError, StoreError) as error:
            return Outcome(action, Status.PROBLEM, sentence(error), error=error)
        except OSError as error:
            return Outcome(action, Status.PROBLEM, f"{error.strerror or error}")

    def refused(self, action: Action, error: PathError) -> Outcome:
        """Return how a step ends at a path that a side cannot hold, or not beside what is there."""
        if isinstance(error, PathObstructed):
            return Outcome(action, Status.PROBLEM, sentence(error), error=error)
        return Outcome(action, Status.SKIPPED, str(error))


class Listener(Protocol):
    """Hears of each outcome once it is recorded, and now and then that time has passed."""

    def outcome(self, outcome: Outcome) -> None: ...

    def more(self, added: Totals) -> None:
        """Hear how much is to be transferred besides."""
        ...

    def tick(self) -> None: ...
