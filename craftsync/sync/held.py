"""What a person says about held deletes, as steps that are carried out exactly so or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from craftsync.core.model import Action, Kind, Mode, Policy
from craftsync.state.held import HeldDelete
from craftsync.state.pair import PairState

_RETURNS = {Kind.DELETE_REMOTE: Kind.DOWNLOAD, Kind.DELETE_LOCAL: Kind.UPLOAD}


class Verdict(NamedTuple):
    """What is to become of held deletes: of those at `paths` and below them, or of all (`None`).

    Approved, they are carried out. Otherwise they are undone: the surviving
    version goes back to the side that lost the path.
    """

    approved: bool
    paths: tuple[str, ...] | None = None

    @property
    def command(self) -> str:
        """What the history calls it."""
        return "approve" if self.approved else "reject"

    def action(self, held: HeldDelete) -> Action:
        """Return the step that does to one held delete what was said."""
        if self.approved:
            rule = f"a person approved it; it was held: {held.reason}"
            return Action(held.kind, held.path, rule, held.local, None, held.remote)
        rule = f"a person rejected the delete; it was held: {held.reason}"
        return Action(_RETURNS[held.kind], held.path, rule, held.local, None, held.remote)

    def policy(self, mode: Mode) -> Policy:
        """Return the policy of the steps, for deletes that were held by a pass of this mode.

        A delete was part of that mode; the way back may lead against it.
        """
        return Policy(mode, delete=True) if self.approved else Policy(Mode.TWO_WAY)


@contextmanager
def as_new(state: PairState, held: Iterable[HeldDelete]) -> Iterator[None]:
    """Have the baseline forget these paths meanwhile, for only what is new to it is brought back.

    What was not brought back is remembered again in the end; a crash before
    leaves it forgotten, and the next pass merges it without deleting.
    """
    with state.transaction():
        state.baseline.set_aside(one.path for one in held)
    try:
        yield
    finally:
        with state.transaction():
            state.baseline.bring_back()
