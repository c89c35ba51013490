"""The guard against mass deletion: which deletes of a run must wait for a person.

A slipped mount, an emptied bucket or a wrong prefix all look like a user who
deleted many files. The guard sees the counts of a whole run, after moves were
paired, and holds the deletes of the suspicious side; everything else goes on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class DeleteLimit:
    """How many deletes one run may carry out unasked: the larger of a count and a share of the baseline."""

    files: int = 20
    share: float = 0.10
    spent: int = 0
    """Deletes of the same event just before these: a slow disaster comes in many small runs."""
    emptied: frozenset[str] = frozenset()
    """Sides that the complete scan or list these deletes follow from has found empty."""

    def after(self, emptied: Iterable[str]) -> DeleteLimit:
        """Return the limit for the next round of a run, which looks at single paths."""
        return replace(self, emptied=self.emptied.union(emptied))

    def allows(self, deletes: int, baseline: int) -> bool:
        return deletes + self.spent <= max(self.files, int(self.share * baseline))


@dataclass(frozen=True, slots=True)
class SideCounts:
    """What a run found on the side whose absence asks for deletes on the other."""

    listed: int
    """Paths found on the side that lost them."""
    deletes: int
    """Deletes this would cause on the other side."""
    baseline: int
    """Rows of the baseline before the run."""

    @property
    def emptied(self) -> bool:
        """Whether the side holds nothing although more than one path, or none, is known to have been there.

        The only file of a folder may be deleted. Deletes that follow from no
        last synced state at all say nothing of what the side ever held.
        """
        return self.listed == 0 and (self.baseline > 1 or self.deletes > self.baseline)


def reason_to_hold(counts: SideCounts, limit: DeleteLimit, side: str) -> str | None:
    """Return why the deletes must be held, as words for people, or `None` when they may go on.

    `side` names the side that lost the paths: "folder", "store" or "source".
    """
    if not counts.deletes:
        return None
    if counts.emptied or side in limit.emptied:
        return f"the {side} is {'suddenly ' if counts.baseline else ''}empty"
    if not limit.allows(counts.deletes, counts.baseline):
        return (
            f"{counts.deletes + limit.spent} paths are gone from the {side}"
            f" {'within a short time' if limit.spent else 'at once'}, "
            f"more than the larger of {limit.files} files and {limit.share:.0%}"
        )
    return None
