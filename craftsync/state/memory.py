"""All that is remembered of a folder and its store: how much that is, and how to drop it."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from craftsync.state.database import state_place
from craftsync.state.history import Outside
from craftsync.state.pair import PairState, known_pairs, pair_folders


class Memory(NamedTuple):
    """How much is remembered. `bytes` are those of the files."""

    files: int
    """Files of the last synced state."""
    bytes: int
    history: int
    """Entries of the history."""
    held: int
    """Deletes that wait for a person."""
    conflicts: int
    """Conflict copies, which are files of both sides."""
    kept: int
    """Versions in the trash that retention knows of."""
    uploads: int
    """Unfinished uploads, which can be continued."""

    @classmethod
    def of(cls, state: PairState) -> Memory:
        """Count what a state database holds."""
        baseline = state.baseline
        return cls(
            baseline.count(),
            baseline.bytes(),
            state.history.count(),
            state.held.count(),
            baseline.conflict_copies(),
            state.in_trash().files,
            state.transfers.count_uploads(),
        )


def is_remembered(state_dir: Path, root: str, location: str) -> bool:
    """Return whether anything is remembered of a folder and its store, even if it cannot be read."""
    with state_place(f"the state in {state_dir} cannot be used"):
        return any(folder.exists() for folder in pair_folders(state_dir, root, location))


def forget(state_dir: Path, root: str, location: str) -> None:
    """Drop all that is remembered of a folder and its store; neither of them is touched.

    The caller has made sure that no other process uses it. A crash leaves all
    of it, or what no run reads any more. Raises `StateError`.
    """
    with state_place(f"the state in {state_dir} cannot be removed"):
        for folder in pair_folders(state_dir, root, location):
            aside = state_dir / f"forgotten-{folder.name}"
            shutil.rmtree(aside, ignore_errors=True)
            with suppress(FileNotFoundError):
                folder.rename(aside)
                shutil.rmtree(aside)
        places = {place for pair in known_pairs(state_dir) for place in pair}
        for place in {root, location} - places:
            Outside(state_dir, place).forget()
