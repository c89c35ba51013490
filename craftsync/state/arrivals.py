"""The arrival table: files that were being put into the folder and are not recorded yet.

After a crash such a file, edited since or not, is no file of its own beside the
object it came from: both sides had agreed when it got its name. That it got it
is known by its inode, or was noted right after. What a power cut left is not
believed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from json import dumps
from typing import NamedTuple

from craftsync import clock
from craftsync.core.model import BaselineRow, LocalFile
from craftsync.state.database import Beside, Database

_LISTED = "path IN (SELECT value FROM json_each(?))"
"""One statement for all paths takes half as long as one for each."""


class Arrival(NamedTuple):
    """A file on its way to its path: its own inode, and the object it comes from."""

    path: str
    size: int
    inode: int
    digest: bytes | None
    modified_ns: int | None
    version: str | None


class Arrivals:
    """`begin` and `placed` may be called from any thread; all else belongs to the control thread."""

    def __init__(self, database: Database, beside: Beside) -> None:
        self._db = database.connection
        self._beside = beside
        self._boot = clock.boot_id()
        self._any = True

    def begin(self, arrivals: Iterable[Arrival]) -> None:
        """Remember files before they get their names."""
        self._any = True
        self._beside.executemany(
            "INSERT OR REPLACE INTO arrival (path, size, inode, digest, modified_ns, version, boot)"
            " VALUES (?,?,?,?,?,?,?)",
            [(*arrival, self._boot) for arrival in arrivals],
        )

    def placed(self, paths: Iterable[str]) -> None:
        """Note that files have their names by now."""
        self._beside.executemany(
            f"UPDATE arrival SET placed = 1 WHERE {_LISTED}", [(dumps(list(paths)),)]
        )

    def agreed(self, paths: Iterable[str]) -> None:
        """Forget paths about which something was agreed on, inside the caller's transaction."""
        if self._any:
            self._db.execute(f"DELETE FROM arrival WHERE {_LISTED}", (dumps(list(paths)),))

    def take_over(self, stat: Callable[[str], LocalFile | None]) -> list[BaselineRow]:
        """Return what an earlier run of this boot agreed on and could not record; forgets it all.

        `stat` returns the file at a path now. A path without a file is left
        out: its file comes back, for all that is known it never was there.
        """
        rows = self._db.execute(
            "SELECT path, size, inode, digest, modified_ns, version, placed FROM arrival"
            " WHERE boot = ? AND boot <> ''",
            (self._boot,),
        ).fetchall()
        self._db.execute("DELETE FROM arrival")
        self._any = False
        return [
            _row(Arrival._make(row[:-1]))
            for row in rows
            if (file := stat(row[0])) is not None and (row[-1] or file.inode == row[2])
        ]


def _row(arrival: Arrival) -> BaselineRow:
    """Return the row for a file whose times nobody wrote down: its content tells whether it was edited."""
    path, size, inode, digest, modified_ns, version = arrival
    return BaselineRow(path, size, 0, 0, inode, True, digest, modified_ns, version)
