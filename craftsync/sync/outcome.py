"""What carrying out one step left behind."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from craftsync.core.model import Action, BaselineRow, RemoteObject
from craftsync.errors import CraftsyncError
from craftsync.local.temporary import Temporary
from craftsync.state.arrivals import Arrival
from craftsync.state.kept import KeptVersion


class Status(StrEnum):
    """How a step ended."""

    DONE = "done"
    PLANNED = "planned"
    UNCHANGED = "unchanged"
    """Nothing had to move: both sides held the same content already."""
    CONFLICT = "conflict"
    """Both versions were kept."""
    HELD = "held"
    """Nothing was changed, for the object is archived and no copy can be kept: a person has to approve."""
    SKIPPED = "skipped"
    """It changed meanwhile, or no side may hold it; looking again may help."""
    PROBLEM = "problem"


def sentence(error: CraftsyncError) -> str:
    """Return what went wrong and what to do about it, in one line."""
    return f"{str(error).removesuffix('.')}. {error.remedy}" if error.remedy else str(error)


class Outcome(NamedTuple):
    """The result of one step, and what the baseline has to learn from it.

    `rows` are agreed on now, `forget` are paths that no longer are. `bytes` is
    what moved, `kept` what went to a trash. `error` is set where a failure may concern the whole side.
    """

    action: Action
    status: Status
    reason: str = ""
    rows: tuple[BaselineRow, ...] = ()
    forget: tuple[str, ...] = ()
    bytes: int = 0
    error: CraftsyncError | None = None
    kept: tuple[KeptVersion, ...] = ()

    def completed(self, learned: Mapping[str, RemoteObject]) -> Outcome:
        """Return the outcome with version and time where a write left both open."""
        if not learned:
            return self
        rows = (
            row._replace(modified_ns=found.modified_ns, version=found.version)
            if row.version is None and row.modified_ns is None and (found := learned.get(row.path))
            else row
            for row in self.rows
        )
        return self._replace(rows=tuple(rows))


class Staged(NamedTuple):
    """A finished download in a temporary file, to be swapped in once its bytes are durable."""

    action: Action
    temporary: Temporary
    remote: RemoteObject
    digest: bytes
    bytes: int
    keep: str
    """Names in the trash what it replaces."""

    @property
    def arrival(self) -> Arrival:
        """Return what is to be remembered before it gets its name."""
        remote = self.remote
        inode = self.temporary.inode()
        return Arrival(
            self.action.path, remote.size, inode, self.digest, remote.modified_ns, remote.version
        )
