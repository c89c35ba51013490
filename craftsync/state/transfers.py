"""The tables of large transfers under way, so that a restart goes on with them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from craftsync.state.database import Database


class SavedUpload(NamedTuple):
    """An unfinished multipart upload; `parts` maps part numbers (from 1) to versions."""

    upload_id: str
    digest: bytes
    part_size: int
    parts: dict[int, str]


class SavedDownload(NamedTuple):
    """An unfinished download; `parts` are the part numbers (from 0) the temporary file holds."""

    temporary: str
    part_size: int
    parts: set[int]


class Transfers:
    """Saves and finds unfinished transfers, inside the caller's transaction where it writes."""

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

    def begin_upload(self, path: str, digest: bytes, upload_id: str, part_size: int) -> None:
        """Remember an upload in the place of an earlier one of this content, which the store has lost."""
        self._db.execute("DELETE FROM upload WHERE path = ? AND digest = ?", (path, digest))
        self._db.execute(
            "INSERT OR REPLACE INTO upload VALUES (?, ?, ?, ?)",
            (upload_id, path, digest, part_size),
        )

    def upload_part(self, upload_id: str, number: int, version: str) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO upload_part VALUES (?, ?, ?)", (upload_id, number, version)
        )

    def stale_uploads(self, plan: str = "plan") -> list[tuple[str, str]]:
        """Return (path, upload id) of the uploads that no step of the plan is left to go on with."""
        return self._db.execute(
            f"SELECT path, upload_id FROM upload WHERE path NOT IN (SELECT path FROM {plan})"
        ).fetchall()

    def forget_uploads(self, upload_ids: Iterable[str]) -> None:
        """Forget uploads that have ended, in whatever way."""
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
        self._db.execute("INSERT OR REPLACE INTO download_part VALUES (?, ?)", (temporary, number))

    def end_download(self, path: str) -> None:
        self._db.execute("DELETE FROM download WHERE path = ?", (path,))

    def drop_stale_downloads(self) -> None:
        """Forget the downloads that the last plan did not go on with; their files are swept later."""
        self._db.execute("DELETE FROM download WHERE path NOT IN (SELECT path FROM plan)")

    def temporaries(self) -> set[str]:
        """Return the names of temporary files that unfinished downloads still need."""
        return {row[0] for row in self._db.execute("SELECT temporary FROM download")}
