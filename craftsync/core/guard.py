"""The guard against mass deletion: decides which deletes of a run wait for approval.

A lost mount, an emptied bucket and a wrong prefix all look like a user who deleted many files.
The guard sees the counts of a whole run, after moves are paired. It holds the deletes that a
suspicious side causes; all other steps are carried out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class DeleteLimit:
    """How many deletes a run may carry out unapproved: the larger of `files` and `share` of the baseline."""

    files: int = 20
    share: float = 0.10
    spent: int = 0
    """Deletes of the same event in earlier runs: a slow disaster comes in many small runs."""
    emptied: frozenset[str] = frozenset()
    """Sides that a complete scan or listing of this run found suspiciously empty."""

    def after(self, emptied: Iterable[str]) -> DeleteLimit:
        """Return the limit for the next attempt of the run, which cannot see that a side is empty."""
        return replace(self, emptied=self.emptied.union(emptied))

    def allows(self, deletes: int, baseline: int) -> bool:
        return deletes + self.spent <= self.allowance(baseline)

    def allowance(self, baseline: int) -> int:
        """Return how many deletes one event may contain, for a baseline of this many rows."""
        return max(self.files, int(self.share * baseline))


@dataclass(frozen=True, slots=True)
class SideCounts:
    """What a run counted on a side that lost paths, which causes deletes on the other side."""

    listed: int
    """Paths that the side still holds."""
    deletes: int
    """Deletes that its loss would cause on the other side."""
    baseline: int
    """Rows of the baseline before the run."""

    @property
    def emptied(self) -> bool:
        """Whether the side is empty and that is suspicious.

        Deleting the only file of a folder is not. With more deletes than baseline rows it is
        unknown what the side ever held, so that is.
        """
        return self.listed == 0 and (self.baseline > 1 or self.deletes > self.baseline)


def reason_to_hold(counts: SideCounts, limit: DeleteLimit, side: str) -> str | None:
    """Return the reason to hold the deletes, for a message, or `None` if they are allowed.

    `side` is the side that lost the paths: "folder", "store" or "source".
    """
    if not counts.deletes:
        return None
    if counts.emptied or side in limit.emptied:
        return f"the {side} is {'suddenly ' if counts.baseline else ''}empty"
    if not limit.allows(counts.deletes, counts.baseline):
        return (
            f"{counts.deletes + limit.spent} paths disappeared from the {side}"
            f" {'within a short time' if limit.spent else 'at once'};"
            f" max_delete allows {limit.allowance(counts.baseline)}"
        )
    return None
