"""What a run tells of its way while nothing is transferred yet."""

from __future__ import annotations

from pathlib import Path

import pytest

import craftsync
from craftsync.sync.report import Event, ProgressEvent

FILES = 1200


def counts(events: list[Event]) -> dict[str, list[int]]:
    """Return the counts each stage told, in order."""
    found: dict[str, list[int]] = {}
    for event in events:
        if isinstance(event, ProgressEvent) and event.files_done:
            found.setdefault(event.stage, []).append(event.files_done)
    return found


def test_scanning_listing_and_hashing_are_counted_with_few_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRAFTSYNC_CONFIG", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    root, store, state = tmp_path / "root", tmp_path / "store", tmp_path / "state"
    for side in (root, store):
        side.mkdir()
        for number in range(FILES):
            (side / f"{number:04}").write_text(str(number))
    seen: list[Event] = []
    words = {"state_dir": state, "on_event": seen.append}
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
