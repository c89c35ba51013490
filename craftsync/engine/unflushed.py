"""Files that were pushed before the disk may have had them.

A run that deletes nothing does not wait for the disk. If the power is then cut,
such a file may be gone, or hold what was never written: nobody's delete, and
nobody's edit.
"""

from __future__ import annotations

from craftsync.clock import Clock, boot_id
from craftsync.local.folder import Folder
from craftsync.state.database import Database
from craftsync.state.pair import PairState

YOUNG_NS = 600 * 10**9
"""Age up to which a file may not be on the disk yet; Linux writes it there within a minute, on batteries later."""

_NOTE = "unflushed"


def note(database: Database, clock: Clock) -> None:
    """Note that files are recorded now that the disk may not have."""
    if not (known := database.get(_NOTE)) or known.partition(" ")[0] != boot_id():
        database.put(_NOTE, f"{boot_id()} {clock.now_ns() - YOUNG_NS}")


def settle(root: Folder, state: PairState, *, flush: bool) -> None:
    """Forget what is remembered of such files once the machine was restarted; until then, `flush` them.

    Without a last synced state both sides are compared, and nothing is deleted.
    """
    boot, _, since = (state.database.get(_NOTE) or "").partition(" ")
    if not boot or (boot == boot_id() and not flush):
        return
    if boot == boot_id():
        root.sync()
    else:
        young = [row.path for row in state.baseline.rows() if row.ctime_ns >= int(since)]
        with state.transaction():
            state.baseline.forget(young)
    state.database.put(_NOTE, "")
