"""The record of a large upload, until it is completed or abandoned."""

from __future__ import annotations

from pathlib import Path

from craftsync.engine.sides import Note
from craftsync.engine.tally import Journal
from craftsync.state.migration import MigrationState
from tests.support.serial_pool import SerialPool


def learned(pool: SerialPool[Note]) -> None:
    """Write what was posted to the database."""
    while (note := pool.take(0)) is not None:
        note.learn()


def test_journal_resumes_only_uploads_of_the_same_version(tmp_path: Path) -> None:
    state = MigrationState.open(tmp_path)
    with state.transaction():
        for name in ("a", "b"):
            state.transfers.begin_upload("large", name.encode(), f"upload {name}", 8)
    found = [state.transfers.uploads("large").get(version) for version in (b"a", b"b", b"c")]
    state.close()
    assert [saved and saved.upload_id for saved in found] == ["upload a", "upload b", None]


def test_finished_upload_is_removed_from_the_journal(tmp_path: Path) -> None:
    state, pool = MigrationState.open(tmp_path), SerialPool[Note]()
    for name in (b"old", b"new"):
        Journal(state.transfers, pool, "large", name, None).begin(f"upload {name!r}", 8)
    learned(pool)
    ended = Journal(
        state.transfers, pool, "large", b"new", state.transfers.uploads("large").get(b"new")
    )
    ended.end()
    learned(pool)
    stale = state.transfers.stale_uploads()
    again = state.transfers.stale_uploads()
    state.close()
    assert stale == again == [("large", "upload b'old'")]


def test_newer_upload_replaces_an_older_one_in_the_journal(tmp_path: Path) -> None:
    state, pool = MigrationState.open(tmp_path), SerialPool[Note]()
    for number in (1, 2):
        saved = state.transfers.uploads("large").get(b"content")
        Journal(state.transfers, pool, "large", b"content", saved).begin(f"upload {number}", 8)
        learned(pool)
    stale = state.transfers.stale_uploads()
    state.close()
    assert stale == [("large", "upload 2")]


def test_parts_of_a_transfer_whose_begin_was_not_saved_are_left_out(tmp_path: Path) -> None:
    """Saving the begin failed, and that error ends the run; the parts must not raise another."""
    state, pool = MigrationState.open(tmp_path), SerialPool[Note]()
    journal = Journal(state.transfers, pool, "large", b"content", None)
    journal.begin("upload", 8)
    assert pool.take(0) is not None
    journal.part_done(1, "version")
    learned(pool)
    state.transfers.download_part("temporary", 0)
    found = state.transfers.uploads("large"), state.transfers.download("large", 8, "version")
    state.close()
    assert found == ({}, None)


def test_parts_of_saved_transfers_are_found_again(tmp_path: Path) -> None:
    state = MigrationState.open(tmp_path)
    with state.transaction():
        state.transfers.begin_upload("large", b"content", "upload", 8)
        state.transfers.upload_part("upload", 1, "version")
        state.transfers.begin_download(
            "large", temporary="temporary", size=8, version="v", part_size=4
        )
        state.transfers.download_part("temporary", 0)
    up, down = (
        state.transfers.uploads("large")[b"content"],
        state.transfers.download("large", 8, "v"),
    )
    state.close()
    assert (up.parts, down and down.parts) == ({1: "version"}, {0})
