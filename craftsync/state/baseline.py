"""The baseline table: what root and store last agreed on, path by path."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from craftsync.core.model import BaselineRow
from craftsync.state.database import Database
from craftsync.state.spool import ranges, relatives

_COLUMNS = "path, size, mtime_ns, ctime_ns, inode, racy, digest, modified_ns, version, uploaded"

_AT_ONCE = 500
"""Values in one query; SQLite allows 32,766."""
_DIGIT = "[0-9]"
_CONFLICT_COPY = f"* (conflict {_DIGIT * 4}-{_DIGIT * 2}-{_DIGIT * 2} {_DIGIT * 2}-* *)*"


class Baseline:
    """Reads rows in the order of a listing and changes them inside the caller's transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database.connection

    def count(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM baseline").fetchone()[0])

    def bytes(self) -> int:
        """Sum up the sizes of all files."""
        return int(self._db.execute("SELECT coalesce(sum(size), 0) FROM baseline").fetchone()[0])

    def conflict_copies(self) -> int:
        """Count the paths that are named as conflict copies are (`core.paths.conflict_name`)."""
        query = f"SELECT count(*) FROM baseline WHERE path GLOB '{_CONFLICT_COPY}'"
        return int(self._db.execute(query).fetchone()[0])

    def conflict_paths(self) -> Iterator[str]:
        """Yield the paths that are named as conflict copies are."""
        query = f"SELECT path FROM baseline WHERE path GLOB '{_CONFLICT_COPY}'"
        return (path for (path,) in self._db.execute(query))

    def rows(self, behind: str = "") -> Iterator[BaselineRow]:
        """Yield every row, or those behind a path, in the byte order of the UTF-8 path."""
        query = f"SELECT {_COLUMNS} FROM baseline WHERE path > ? ORDER BY path"
        return map(BaselineRow._make, self._db.execute(query, (behind,)))

    def get(self, path: str) -> BaselineRow | None:
        row = self._db.execute(
            f"SELECT {_COLUMNS} FROM baseline WHERE path = ?", (path,)
        ).fetchone()
        return None if row is None else BaselineRow._make(row)

    def obstructs(self, path: str) -> bool:
        """Return whether a row stands where a folder has to be for this path, or below it."""
        above, below = relatives(path)
        found = self._db.execute(
            f"SELECT 1 FROM baseline WHERE path IN ({','.join('?' * len(above))})"
            " UNION ALL SELECT 1 FROM baseline WHERE path > ? AND path < ? LIMIT 1",
            (*above, *below),
        )
        return found.fetchone() is not None

    def below(self, paths: Iterable[str]) -> Iterator[BaselineRow]:
        """Yield the rows at these paths and in the folders of that name, in order."""
        query = f"SELECT {_COLUMNS} FROM baseline WHERE path >= ? AND path < ? ORDER BY path"
        for bounds in ranges(paths):
            yield from map(BaselineRow._make, self._db.execute(query, bounds))

    def with_inodes(self, inodes: Iterable[int]) -> Iterator[str]:
        """Yield the paths whose file had one of these inode numbers; reads every row."""
        numbers = list(inodes)
        for start in range(0, len(numbers), _AT_ONCE):
            some = numbers[start : start + _AT_ONCE]
            places = ",".join("?" * len(some))
            query = f"SELECT path FROM baseline WHERE inode IN ({places})"
            yield from (path for (path,) in self._db.execute(query, some))

    def boundaries(self, share: int) -> list[str]:
        """Return every `share`-th path: where to cut a listing into parts of like size."""
        found: list[str] = []
        query = "SELECT path FROM baseline WHERE path > ? ORDER BY path LIMIT 1 OFFSET ?"
        last = ""
        while row := self._db.execute(query, (last, share - 1)).fetchone():
            last = row[0]
            found.append(last)
        return found

    def put(self, rows: Iterable[BaselineRow]) -> None:
        self._db.executemany(
            f"INSERT OR REPLACE INTO baseline ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?)", rows
        )

    def set_aside(self, paths: Iterable[str]) -> None:
        """Forget these rows until `bring_back`, or for good if the process ends before."""
        self._db.execute("CREATE TEMP TABLE aside AS SELECT * FROM baseline WHERE 0")
        self._db.executemany(
            "INSERT INTO aside SELECT * FROM baseline WHERE path = ?", ((path,) for path in paths)
        )
        self._db.execute("DELETE FROM baseline WHERE path IN (SELECT path FROM aside)")

    def bring_back(self) -> None:
        """Remember what was set aside, but for paths that were agreed on meanwhile."""
        self._db.execute("INSERT OR IGNORE INTO baseline SELECT * FROM aside")
        self._db.execute("DROP TABLE aside")

    def forget(self, paths: Iterable[str]) -> None:
        self._db.executemany("DELETE FROM baseline WHERE path = ?", ((path,) for path in paths))
