"""How many requests a plan takes, about: what many providers charge for."""

from __future__ import annotations

from collections.abc import Iterable

from craftsync.core.model import Kind
from craftsync.migrate.content import PART, WHOLE
from craftsync.state.plan import Step

_PER_LARGE_OBJECT = 4
"""A look at the source, and the begin, the end and a look after it in the target."""


def requests(
    steps: Iterable[Step], *, server_side: bool, stats: bool, asks: bool, reads_back: bool
) -> int:
    """Return how many requests both stores get for these steps, listings and repetitions left out.

    `stats` says whether the server's copies need a stat of the source first,
    `asks` says whether each object is asked for its properties, `reads_back`
    whether each copy is read and compared: with what passed through here, or
    with the source, where the server copies.
    """
    more = asks + (server_side and stats) + (reads_back and 1 + server_side)
    return sum(
        _of(step, server_side) + (step.action.kind is Kind.UPLOAD and more) for step in steps
    )


def _of(step: Step, server_side: bool) -> int:
    match step.action.kind:
        case Kind.FORGET:
            return 0
        case Kind.DELETE_REMOTE:
            return 3
        case Kind.RECONCILE:
            return 2
    keeping = 2 if step.action.remote is not None else 0
    if server_side:
        return 1 + keeping
    size = step.action.local.size if step.action.local else 0
    return keeping + (2 if size <= WHOLE else 2 * -(-size // PART) + _PER_LARGE_OBJECT)
