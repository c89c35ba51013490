"""Notes files that were recorded before they were flushed, and forgets their rows after a power cut.

A run that deletes nothing does not wait for the disk. After a power cut, a file that it pushed may
be gone or hold wrong content. That must not count as a delete or an edit by the user.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from craftsync.clock import Clock, boot_id
from craftsync.state.database import Database
from craftsync.state.pair import PairState

YOUNG_NS = 600 * 10**9
"""Up to this age, a file may not be flushed yet. Linux flushes it within a minute, later on battery."""

_NOTE = "unflushed"
_OFFSET = "clock_offset"
"""In `meta`: the boot's id, and the wall clock minus the clock since boot (`_Offset`)."""
_STEP_NS = 5 * 10**9
"""A larger step means that the clock was set. Regular corrections are smaller."""


class _Offset(NamedTuple):
    ns: float
    since: float
    """When it was first seen, in seconds since boot."""
    was_other: float
    """1 if another offset was known before, else 0."""


class Ages:
    """Decides which files may not be flushed yet, also if the wall clock was set since they were written."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        boot, _, known = (database.get(_OFFSET) or "").partition(" ")
        self._known = _Offset(*map(float, known.split())) if boot == boot_id() else None

    def is_young(self, ctime_ns: int) -> bool:
        """Return whether a file with this ctime may be younger than `YOUNG_NS`."""
        now = self._clock.now_ns()
        return abs(now - ctime_ns) < YOUNG_NS or self._offset(now)[1]

    def was_clock_set(self) -> bool:
        """Return whether the wall clock was set within `YOUNG_NS`: then a ctime does not prove a file's age."""
        offset, is_new = self._offset(self._clock.now_ns())
        return is_new and bool(offset.was_other)

    def _offset(self, now_ns: int) -> tuple[_Offset, bool]:
        """Return the offset, and whether the clock may have been set to it within `YOUNG_NS`."""
        running = self._clock.boottime()
        ns, known = now_ns - running * 1e9, self._known
        if known is None or abs(ns - known.ns) > _STEP_NS:
            known = self._known = _Offset(ns, running, float(known is not None))
            self._database.put(_OFFSET, " ".join([boot_id(), *(f"{part:.0f}" for part in known)]))
        return known, (running - known.since) * 1e9 < YOUNG_NS


def note_unflushed(database: Database, clock: Clock) -> None:
    """Note that files are being recorded that may not be flushed."""
    if not (known := database.get(_NOTE)) or known.partition(" ")[0] != boot_id():
        database.put(_NOTE, f"{boot_id()} {clock.now_ns() - YOUNG_NS}")


def forget_unflushed(state: PairState, sync: Callable[[], None] | None) -> None:
    """After a restart, forget the rows of files that the disk may have lost; in the same boot, call `sync`.

    At a path without a row both sides are merged, and nothing is deleted. `None` as `sync` does
    nothing.
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
