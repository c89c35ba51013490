"""The guard against mass deletion: which deletes of a run must wait for a person.

A slipped mount, an emptied bucket or a wrong prefix all look like a user who
deleted many files. The guard sees the counts of a whole run, after moves were
paired, and holds the deletes of the suspicious side; everything else is done.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class DeleteLimit:
    """How many deletes one run may carry out without approval: the larger of a count and a share of the baseline."""

    files: int = 20
    share: float = 0.10
    spent: int = 0
    """Deletes of the same event just before these: a slow disaster comes in many small runs."""
    emptied: frozenset[str] = frozenset()
    """Sides that a complete scan or listing of this run has found empty."""

    def after(self, emptied: Iterable[str]) -> DeleteLimit:
        """Return the limit for the next attempt of a run, which plans only single paths."""
        return replace(self, emptied=self.emptied.union(emptied))

    def allows(self, deletes: int, baseline: int) -> bool:
        return deletes + self.spent <= self.allowance(baseline)

    def allowance(self, baseline: int) -> int:
        """Return how many deletes one event may contain, for a baseline of so many rows."""
        return max(self.files, int(self.share * baseline))


@dataclass(frozen=True, slots=True)
class SideCounts:
    """What a run found on the side that lost paths, which causes deletes on the other."""

    listed: int
    """Paths found on the side that lost them."""
    deletes: int
    """Deletes this would cause on the other side."""
    baseline: int
    """Rows of the baseline before the run."""

    @property
    def emptied(self) -> bool:
        """Whether the side is empty and that is suspicious.

        It is not where the only file of a folder was deleted. With more deletes
        than baseline rows, nobody knows what the side ever held.
        """
        return self.listed == 0 and (self.baseline > 1 or self.deletes > self.baseline)


def reason_to_hold(counts: SideCounts, limit: DeleteLimit, side: str) -> str | None:
    """Return why the deletes must be held, as words for people, or `None` if they are allowed.

    `side` names the side that lost the paths: "folder", "store" or "source".
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
