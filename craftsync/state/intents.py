"""The intent table: writes to the store that began and are not recorded yet.

After a crash, an object that is one of these writes is craftsync's own,
whatever the folder holds by now. A store that keeps the operation id of a write
confirms it by that; any other by the content's digest. Size and time confirm
nothing.

An intent ends when its path is agreed on, or a stat of the path shows nothing
or something else. That a run left the path out says nothing.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from craftsync.blocking import blocking_together
from craftsync.core.model import LocalFile
from craftsync.state.database import Beside, Database


class Intent(NamedTuple):
    """A write that began. `local` is the file that was read; `digest` is `None` if only the operation is known."""

    operation: str
    local: LocalFile
    digest: bytes | None = None


class Intents:
    """`begin` and `end` may be called from any thread, at any time; all else belongs to the control thread.

    Those two write through a connection of their own, whose commits survive a
    crash of the process at once and a power cut with the next group that is
    recorded. A power cut in between loses the memory of a write of the last
    second: equal contents are adopted all the same.
    """

    def __init__(self, database: Database, beside: Beside) -> None:
        self._db = database.connection
        self._beside = beside
        self._before = False
        self._began = False
        self._beginning = deque[Intent]()
        self._writing = threading.Lock()

    def take_over(self, run: str, *, by_operation: bool, path: str | None = None) -> None:
        """Begin a run: where the store keeps operation ids, what the last run (`run`) left planned may have been written.

        Only paths without an intent: of the others it is known which writes began.
        With `path`, for this one only.
        """
        if by_operation:
            self._db.execute(
                "INSERT INTO intent SELECT path, ? || '.' || id, size, mtime_ns, ctime_ns, inode, NULL"
                " FROM plan WHERE kind IN ('upload', 'reconcile', 'move-remote') AND size IS NOT NULL"
                " AND NOT EXISTS (SELECT 1 FROM intent WHERE intent.path = plan.path)"
                + ("" if path is None else " AND plan.path = ?"),
                (run,) if path is None else (run, path),
            )
        self._before = self._db.execute("SELECT 1 FROM intent LIMIT 1").fetchone() is not None

    def of(self, path: str) -> tuple[Intent, ...]:
        """Return the writes of a path that began before this run."""
        if not self._before:
            return ()
        rows = self._db.execute(
            "SELECT operation, digest, path, size, mtime_ns, ctime_ns, inode FROM intent"
            " WHERE path = ?",
            (path,),
        )
        return tuple(Intent(row[0], LocalFile._make(row[2:]), row[1]) for row in rows)

    def begin(self, intent: Intent) -> None:
        """Remember a write before the store can show it."""
        self._began = True
        self._beginning.append(intent)
        if self._beside.is_shared:
            self._write_beginning()
        else:
            blocking_together(self._write_beginning)

    def _write_beginning(self) -> None:
        """Write the intents that have come together, since a commit for each would cost as much as a small copy."""
        with self._writing:
            intents = []
            while self._beginning:
                intents.append(self._beginning.popleft())
            try:
                self._beside.executemany(
                    "INSERT OR REPLACE INTO intent (operation, digest, path, size, mtime_ns,"
                    " ctime_ns, inode) VALUES (?,?,?,?,?,?,?)",
                    [(each.operation, each.digest, *each.local) for each in intents],
                )
            except BaseException:
                # Another thread may be about to write, and its intent among these.
                self._beginning.extendleft(reversed(intents))
                raise

    def end(self, path: str, *, but: Intent | None) -> None:
        """Forget the writes of a path that the store was seen not to hold: all, or all but one."""
        self._beside.execute(
            "DELETE FROM intent WHERE path = ? AND operation IS NOT ?",
            (path, but.operation if but else None),
        )

    def agreed(self, paths: Iterable[str]) -> None:
        """Forget the writes of paths about which something was agreed on, inside the caller's transaction."""
        if self._before or self._began:
            self._db.executemany("DELETE FROM intent WHERE path = ?", ((path,) for path in paths))

    def unseen(self) -> list[str]:
        """Return the paths of which a write began before this run, and for which the plan shows nothing in the store."""
        if not self._before:
            return []
        rows = self._db.execute(
            "SELECT DISTINCT path FROM intent WHERE NOT EXISTS"
            " (SELECT 1 FROM plan WHERE plan.path = intent.path AND plan.remote_size IS NOT NULL)"
            " ORDER BY path"
        )
        return [path for (path,) in rows]
