"""What carrying out one step of a migration left behind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from craftsync.core.model import RemoteObject
from craftsync.engine.report import Status
from craftsync.errors import CraftsyncError
from craftsync.state.migration import CopiedRow, CopyStep


class CopyOutcome(NamedTuple):
    """The result of one step, and what the state has to learn from it.

    `row` is agreed on now; with `forget` nothing is any more. `bytes` is what
    was copied. `final` says that looking again would not help. `error` is set
    where a failure may concern a whole side.
    """

    step: CopyStep
    status: Status
    reason: str = ""
    row: CopiedRow | None = None
    forget: bool = False
    bytes: int = 0
    final: bool = False
    error: CraftsyncError | None = None

    def completed(self, learned: Mapping[str, RemoteObject]) -> CopyOutcome:
        """Return the outcome with version and time where a write left both open."""
        row = self.row
        if row is None or row.target_version is not None or row.target_modified_ns is not None:
            return self
        found = learned.get(row.path)
        if found is None:
            return self
        return self._replace(
            row=row._replace(target_modified_ns=found.modified_ns, target_version=found.version)
        )
