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
