"""What a crash may interrupt: large transfers (`Transfers`), writes (`Intents`), placed files (`Arrivals`).

An intent is a write to the store that has begun and is not recorded yet. After a crash, only its
operation id or digest proves that an object is our own write; size and time prove nothing. An
intent ends when its path is recorded as in sync, when a stat of the path finds nothing or another
object, or when a power cut may have taken its file.

An arrival is a file that was put into the folder and is not recorded yet. After a crash it is
recognised by its inode, so that an edit of it is an edit, not a conflict. After a power cut only
equal content counts.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from json import dumps
from typing import NamedTuple

from craftsync import clock
from craftsync.core.model import BaselineRow, LocalFile
from craftsync.net.waiting import blocking_together
from craftsync.state.commits import SecondConnection
from craftsync.state.database import Database


class SavedUpload(NamedTuple):
    """An unfinished multipart upload; `parts` maps part numbers (from 1) to version tokens."""

    upload_id: str
    digest: bytes
    part_size: int
    parts: dict[int, str]


class SavedDownload(NamedTuple):
    """An unfinished download; `parts` are the numbers (from 0) of the parts in the temporary file."""

    temporary: str
    part_size: int
    parts: set[int]


class Transfers:
    """The tables of unfinished transfers. Writes belong to the caller's transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database.connection

    def uploads(self, path: str) -> dict[bytes, SavedUpload]:
        """Return the unfinished uploads at a path, by their digests."""
        rows = self._db.execute(
            "SELECT upload_id, digest, part_size FROM upload WHERE path = ?", (path,)
        ).fetchall()
        return {
            digest: SavedUpload(upload_id, digest, part_size, self._parts(upload_id))
            for upload_id, digest, part_size in rows
        }

    def _parts(self, upload_id: str) -> dict[int, str]:
        return dict(
            self._db.execute(
                "SELECT number, version FROM upload_part WHERE upload_id = ?", (upload_id,)
            )
        )

    def count_uploads(self) -> int:
        """Return the number of unfinished uploads that can be resumed."""
        return int(self._db.execute("SELECT count(*) FROM upload").fetchone()[0])

    def begin_upload(self, path: str, digest: bytes, upload_id: str, part_size: int) -> None:
        """Save an upload, replacing an earlier one of the same content, which the store has lost."""
        self._db.execute("DELETE FROM upload WHERE path = ? AND digest = ?", (path, digest))
        self._db.execute(
            "INSERT OR REPLACE INTO upload VALUES (?, ?, ?, ?)",
            (upload_id, path, digest, part_size),
        )

    def upload_part(self, upload_id: str, number: int, version: str) -> None:
        """Save a part of an upload; not if its begin could not be saved, so that nothing resumes it."""
        self._db.execute(
            "INSERT OR REPLACE INTO upload_part SELECT upload_id, ?, ? FROM upload"
            " WHERE upload_id = ?",
            (number, version, upload_id),
        )

    def stale_uploads(self) -> list[tuple[str, str]]:
        """Return (path, upload id) of uploads that no step of the plan can resume."""
        return self._db.execute(
            "SELECT path, upload_id FROM upload WHERE path NOT IN (SELECT path FROM plan)"
        ).fetchall()

    def forget_uploads(self, upload_ids: Iterable[str]) -> None:
        """Forget uploads that were completed or aborted."""
        self._db.executemany("DELETE FROM upload WHERE upload_id = ?", ((u,) for u in upload_ids))

    def download(self, path: str, size: int, version: str) -> SavedDownload | None:
        row = self._db.execute(
            "SELECT temporary, part_size FROM download WHERE path = ? AND size = ? AND version = ?",
            (path, size, version),
        ).fetchone()
        if row is None:
            return None
        parts = self._db.execute("SELECT number FROM download_part WHERE temporary = ?", (row[0],))
        return SavedDownload(row[0], row[1], {number for (number,) in parts})

    def begin_download(
        self, path: str, *, temporary: str, size: int, version: str, part_size: int
    ) -> None:
        self._db.execute("DELETE FROM download WHERE path = ?", (path,))
        self._db.execute(
            "INSERT INTO download VALUES (?, ?, ?, ?, ?)",
            (temporary, path, size, version, part_size),
        )

    def download_part(self, temporary: str, number: int) -> None:
        """Save a part of a download; not if its begin could not be saved."""
        self._db.execute(
            "INSERT OR REPLACE INTO download_part SELECT temporary, ? FROM download"
            " WHERE temporary = ?",
            (number, temporary),
        )

    def end_download(self, path: str) -> None:
        self._db.execute("DELETE FROM download WHERE path = ?", (path,))

    def drop_stale_downloads(self) -> None:
        """Forget the downloads that the plan does not resume. Their files are swept later."""
        self._db.execute("DELETE FROM download WHERE path NOT IN (SELECT path FROM plan)")

    def temporaries(self) -> set[str]:
        """Return the names of temporary files that unfinished downloads still need."""
        return {row[0] for row in self._db.execute("SELECT temporary FROM download")}


_LISTED = "path IN (SELECT value FROM json_each(?))"
"""A condition on many paths: one statement for all takes half as long as one for each."""


class Arrival(NamedTuple):
    """A downloaded file to be put in place: its inode, and the object it comes from."""

    path: str
    size: int
    inode: int | str
    digest: bytes | None
    modified_ns: int | None
    version: str | None


class Arrivals:
    """The table of arrivals. `begin` and `placed` are thread-safe; the rest belongs to the control thread."""

    def __init__(self, database: Database, second_connection: SecondConnection) -> None:
        self._db = database.connection
        self._second_connection = second_connection
        self._boot = clock.boot_id()
        self._any = True

    def begin(self, arrivals: Iterable[Arrival]) -> None:
        """Save files before they are put in place."""
        self._any = True
        self._second_connection.executemany(
            "INSERT OR REPLACE INTO arrival (path, size, inode, digest, modified_ns, version, boot)"
            " VALUES (?,?,?,?,?,?,?)",
            [(*arrival, self._boot) for arrival in arrivals],
        )

    def placed(self, paths: Iterable[str]) -> None:
        """Record that files were put in place."""
        self._second_connection.executemany(
            f"UPDATE arrival SET placed = 1 WHERE {_LISTED}", [(dumps(list(paths)),)]
        )

    def agreed(self, paths: Iterable[str]) -> None:
        """Forget paths that were recorded in the baseline, inside the caller's transaction."""
        if self._any:
            self._db.execute(f"DELETE FROM arrival WHERE {_LISTED}", (dumps(list(paths)),))

    def take_over(self, stat: Callable[[str], LocalFile | None]) -> list[BaselineRow]:
        """Return rows for the files that an earlier run of this boot put in place without recording them.

        Forgets all arrivals. `stat` returns the current file at a path. A path without a file is
        left out: the file may never have been put in place, and is downloaded again.
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
    """Return a racy row with unknown times, so that the content decides whether the file was edited."""
    path, size, inode, digest, modified_ns, version = arrival
    return BaselineRow(path, size, 0, 0, inode, True, digest, modified_ns, version)


_BOOT = "boot"


class Intent(NamedTuple):
    """A write that began. `local` is the file that was read; `digest` is `None` if only the operation is known."""

    operation: str
    local: LocalFile
    digest: bytes | None = None


class Intents:
    """The table of intents. `begin` and `end` are thread-safe; the rest belongs to the control thread.

    These two write through a connection of their own. Its commits survive a crash of the process at
    once, but a power cut only after the next group is recorded. A power cut before that loses the
    intents of the last second; equal contents are adopted even then.
    """

    def __init__(self, database: Database, second_connection: SecondConnection) -> None:
        self._database = database
        self._db = database.connection
        self._second_connection = second_connection
        self._before = False
        self._began = False
        self._beginning = deque[Intent]()
        self._writing = threading.Lock()

    def take_over(self, run: str, *, by_operation: bool, path: str | None = None) -> None:
        """Add intents for the steps left in the plan of the last run, which has the id `run`.

        Only if the store keeps operation ids (`by_operation`), and only for paths without an
        intent. With `path`, only for that path.
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

    def forget_lost(self, stat: Callable[[str], LocalFile | None]) -> None:
        """In the first run after a restart, forget the intents of files that are gone.

        The disk may never have had them: the user did not delete them, so their objects are
        downloaded. `stat` returns the current file at a path. Belongs to the caller's transaction.
        """
        boot = clock.boot_id()
        if self._database.get(_BOOT) == boot:
            return
        paths = [path for (path,) in self._db.execute("SELECT DISTINCT path FROM intent")]
        self.agreed(path for path in paths if stat(path) is None)
        self._database.put(_BOOT, boot)

    def of(self, path: str) -> tuple[Intent, ...]:
        """Return the intents of a path from before this run."""
        if not self._before:
            return ()
        rows = self._db.execute(
            "SELECT operation, digest, path, size, mtime_ns, ctime_ns, inode FROM intent"
            " WHERE path = ?",
            (path,),
        )
        return tuple(Intent(row[0], LocalFile._make(row[2:]), row[1]) for row in rows)

    def begin(self, intent: Intent) -> None:
        """Save an intent before the write begins."""
        self._began = True
        self._beginning.append(intent)
        if self._second_connection.is_shared:
            self._write_beginning()
        else:
            blocking_together(self._write_beginning)

    def _write_beginning(self) -> None:
        """Save all queued intents in one commit: a commit for each would cost as much as a small copy."""
        with self._writing:
            intents = []
            while self._beginning:
                intents.append(self._beginning.popleft())
            try:
                self._second_connection.executemany(
                    "INSERT OR REPLACE INTO intent (operation, digest, path, size, mtime_ns,"
                    " ctime_ns, inode) VALUES (?,?,?,?,?,?,?)",
                    [(each.operation, each.digest, *each.local) for each in intents],
                )
            except BaseException:
                # Another thread may rely on one of these intents and retry.
                self._beginning.extendleft(reversed(intents))
                raise

    def end(self, path: str, *, but: Intent | None) -> None:
        """Forget the intents of a path whose writes are not in the store: all, or all but `but`."""
        self._second_connection.execute(
            "DELETE FROM intent WHERE path = ? AND operation IS NOT ?",
            (path, but.operation if but else None),
        )

    def agreed(self, paths: Iterable[str]) -> None:
        """Forget the intents of paths that were recorded in the baseline, inside the caller's transaction."""
        if self._before or self._began:
            self._db.executemany("DELETE FROM intent WHERE path = ?", ((path,) for path in paths))

    def unseen(self) -> list[str]:
        """Return the paths with an intent from before this run and no object in the plan."""
        if not self._before:
            return []
        rows = self._db.execute(
            "SELECT DISTINCT path FROM intent WHERE NOT EXISTS"
            " (SELECT 1 FROM plan WHERE plan.path = intent.path AND plan.remote_size IS NOT NULL)"
            " ORDER BY path"
        )
        return [path for (path,) in rows]
