"""The guard against mass deletion: which deletes of a pass must wait for a person.

A slipped mount, an emptied bucket or a wrong prefix all look like a user who
deleted many files. The guard sees the counts of a whole pass, after moves were
paired, and holds the deletes of the suspicious side; everything else goes on.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DeleteLimit:
    """How many deletes one pass may carry out unasked: the larger of a count and a share of the baseline."""

    files: int = 20
    share: float = 0.10
    spent: int = 0
    """Deletes of passes just before this one: a slow disaster comes in many small passes."""

    def allows(self, deletes: int, baseline: int) -> bool:
        return deletes + self.spent <= max(self.files, int(self.share * baseline))


@dataclass(frozen=True, slots=True)
class SideCounts:
    """What a pass found on the side whose absence asks for deletes on the other."""

    listed: int
    """Paths found on the side that lost them."""
    deletes: int
    """Deletes this would cause on the other side."""
    baseline: int
    """Rows of the baseline before the pass."""


def reason_to_hold(counts: SideCounts, limit: DeleteLimit, side: str) -> str | None:
    """Return why the deletes must be held, as words for people, or `None` when they may go on.

    `side` names the side that lost the paths: "root" or "store".
    """
    if not counts.deletes:
        return None
    if counts.listed == 0 and counts.baseline > 1:
        return f"the {side} is suddenly empty"
    if not limit.allows(counts.deletes, counts.baseline):
        return (
            f"{counts.deletes + limit.spent} paths are gone from the {side}"
            f" {'within a short time' if limit.spent else 'at once'}, "
            f"more than the larger of {limit.files} files and {limit.share:.0%}"
        )
    return None
