"""What a run tells of its way while nothing is transferred yet."""

from __future__ import annotations

from pathlib import Path

import pytest

import craftsync
from craftsync.engine.report import Event, ProgressEvent

FILES = 1200


def counts(events: list[Event]) -> dict[str, list[int]]:
    """Return the counts each stage told, in order."""
    found: dict[str, list[int]] = {}
    for event in events:
        if isinstance(event, ProgressEvent) and event.files_done:
            found.setdefault(event.stage, []).append(event.files_done)
    return found


@pytest.fixture
def sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two folders with the same files."""
    monkeypatch.setenv("CRAFTSYNC_CONFIG", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    root, store = tmp_path / "root", tmp_path / "store"
    for side in (root, store):
        side.mkdir()
        for number in range(FILES):
            (side / f"{number:04}").write_text(f"{number:04}")
    return root, store


def test_scanning_listing_and_hashing_are_counted_with_few_events(
    sides: tuple[Path, Path], tmp_path: Path
) -> None:
    root, store = sides
    seen: list[Event] = []
    words = {"state_dir": tmp_path / "state", "on_event": seen.append}
    craftsync.check(root, store, **words)
    told = counts(seen)
    assert (told["scanning"][-1], told["listing"][-1], told["hashing"][-1]) == (FILES,) * 3
    assert sum(map(len, told.values())) < FILES // 50
    seen.clear()
    craftsync.sync(root, store, dry_run=True, **words)
    told = counts(seen)
    assert told["scanning"] == told["listing"] == told["planning"] == [1000, FILES]
    seen.clear()
    craftsync.check(f"file://{root}", f"file://{store}", **words)
    told = counts(seen)
    assert told["listing the source"][-1] == told["listing the target"][-1] == FILES
    assert told["hashing"][-1] == FILES


def test_a_run_that_only_compares_is_hashing(sides: tuple[Path, Path], tmp_path: Path) -> None:
    root, store = sides
    seen: list[Event] = []
    report = craftsync.sync(root, store, state_dir=tmp_path / "state", on_event=seen.append)
    assert (report.adopted, report.exit_code) == (FILES, 0)
    last = [event for event in seen if isinstance(event, ProgressEvent) and event.files_total][-1]
    assert (last.stage, last.files_done, last.files_total) == ("hashing", FILES, FILES)
    assert (last.files_hashed, last.bytes_hashed) == (FILES, 4 * FILES)
    assert (last.bytes_done, last.bytes_total) == (0, 0)


def test_migrate_progress_counts_both_listings_and_comparisons(
    sides: tuple[Path, Path], tmp_path: Path
) -> None:
    root, store = sides
    (root / "new").write_text("new")
    seen: list[Event] = []
    words = {"state_dir": tmp_path / "state", "on_event": seen.append}
    report = craftsync.migrate(f"file://{root}", f"file://{store}", **words)
    assert (report.copied, report.adopted) == (1, FILES)
    told = counts(seen)
    assert told["listing the source"] == [1000, FILES + 1]
    assert told["listing the target"] == [1000, FILES]
    last = [event for event in seen if isinstance(event, ProgressEvent)][-1]
    assert (last.files_done, last.files_hashed, last.bytes_done) == (FILES + 1, FILES, 3)
