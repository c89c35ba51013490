"""Remembers large uploads under way, for a retry as well as for the next process."""

from __future__ import annotations

from functools import partial
from typing import Any

from craftsync.state.transfers import SavedUpload, Transfers
from craftsync.sync.pool import Pool
from craftsync.sync.runner import Note


class Journal:
    """Keeps `stores.base.UploadJournal` for one upload; called from workers, writes in the control thread.

    `identity` tells this content from any other at the same path: its digest,
    or what stands for one.
    """

    def __init__(
        self,
        transfers: Transfers,
        pool: Pool[Any],
        path: str,
        identity: bytes,
        saved: SavedUpload | None,
    ) -> None:
        self._transfers = transfers
        self._pool = pool
        self._path = path
        self._identity = identity
        self._saved = saved

    def resume(self) -> tuple[str, int, dict[int, str]] | None:
        """Return the unfinished upload of this very content, also one that this process began."""
        saved = self._saved
        return None if saved is None else (saved.upload_id, saved.part_size, dict(saved.parts))

    def begin(self, upload_id: str, part_size: int) -> None:
        self._saved = SavedUpload(upload_id, self._identity, part_size, {})
        begin = self._transfers.begin_upload
        self._pool.post(Note(partial(begin, self._path, self._identity, upload_id, part_size)))

    def part_done(self, number: int, version: str) -> None:
        assert self._saved is not None
        self._saved.parts[number] = version
        upload_id = self._saved.upload_id
        self._pool.post(Note(partial(self._transfers.upload_part, upload_id, number, version)))

    def end(self) -> None:
        if self._saved is not None:
            ended = [self._saved.upload_id]
            self._saved = None
            self._pool.post(Note(partial(self._transfers.forget_uploads, ended)))
