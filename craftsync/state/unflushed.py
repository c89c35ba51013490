"""Files that were recorded before the disk had them: a power cut may take them.

A run that deletes nothing does not wait for the disk. If the power is then cut,
a file that was pushed may be gone, or hold what was never written: nobody's
delete, and nobody's edit.
"""

from __future__ import annotations

from collections.abc import Callable

from craftsync.clock import Clock, boot_id
from craftsync.state.database import Database
from craftsync.state.pair import PairState

YOUNG_NS = 600 * 10**9
"""Age up to which a file may not be on the disk yet; Linux writes it there within a minute, on batteries later."""

_NOTE = "unflushed"
_OFFSET = "clock_offset"
"""Of the wall clock from that of the boot: the boot, nanoseconds, since which second of it, whether it was another before."""
_STEP_NS = 5 * 10**9
"""A clock that is only kept exact moves by less."""


class Ages:
    """Tells files that the disk may not have yet, also if the wall clock was set since they were written."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        boot, _, known = (database.get(_OFFSET) or "").partition(" ")
        self._known = tuple(map(float, known.split())) if boot == boot_id() else ()

    def is_young(self, ctime_ns: int) -> bool:
        """Return whether a file of this ctime may be younger than `YOUNG_NS`."""
        return abs(self._clock.now_ns() - ctime_ns) < YOUNG_NS or self._is_new()

    def was_clock_set(self) -> bool:
        """Return whether the clock was set while files were young that are so now."""
        return self._is_new() and bool(self._known[2])

    def _is_new(self) -> bool:
        """Return whether the clock may have been set within `YOUNG_NS`."""
        running = self._clock.boottime()
        offset = self._clock.now_ns() - running * 1e9
        if not self._known or abs(offset - self._known[0]) > _STEP_NS:
            self._known = (offset, running, float(bool(self._known)))
            known = " ".join(f"{part:.0f}" for part in self._known)
            self._database.put(_OFFSET, f"{boot_id()} {known}")
        return (running - self._known[1]) * 1e9 < YOUNG_NS


def note_unflushed(database: Database, clock: Clock) -> None:
    """Note that files are recorded now that the disk may not have."""
    if not (known := database.get(_NOTE)) or known.partition(" ")[0] != boot_id():
        database.put(_NOTE, f"{boot_id()} {clock.now_ns() - YOUNG_NS}")


def forget_unflushed(state: PairState, sync: Callable[[], None] | None) -> None:
    """After a restart, forget the rows of files that the disk may have lost; before one, flush them with `sync`.

    Without a last synced state both sides are compared, and nothing is deleted.
    """
    boot, _, since = (state.database.get(_NOTE) or "").partition(" ")
    if not boot:
        return
    if boot != boot_id():
        young = [row.path for row in state.baseline.rows() if row.ctime_ns >= int(since)]
        with state.transaction():
            state.baseline.forget(young)
    elif sync is None:
        return
    else:
        sync()
    state.database.put(_NOTE, "")
