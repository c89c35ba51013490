"""The whole saved state of a folder and its store: its size, and how to delete it."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from craftsync.state.database import state_place
from craftsync.state.history import Outside
from craftsync.state.pair import PairState, known_pairs, known_places, pair_folders


class Memory(NamedTuple):
    """How much the state contains. `bytes` is the total size of `files`."""

    files: int
    """Files in the last synced state."""
    bytes: int
    history: int
    """Entries of the history."""
    held: int
    """Held deletes."""
    conflicts: int
    """Conflict copies, which exist on both sides."""
    kept: int
    """Trash versions under retention."""
    uploads: int
    """Unfinished uploads that can be resumed."""

    @classmethod
    def of(cls, state: PairState) -> Memory:
        """Count the contents of a state database."""
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
    """Return whether a folder and its store have a saved state, even an unreadable one."""
    with state_place(f"the state in {state_dir} cannot be used"):
        return any(folder.exists() for folder in pair_folders(state_dir, root, location))


def forget(state_dir: Path, root: str, location: str) -> None:
    """Delete the saved state of a folder and its store; neither of them is touched.

    No other process may use it. A crash leaves the whole state, or only files
    that no run reads. Raises `StateError`.
    """
    with state_place(f"the state in {state_dir} cannot be removed"):
        folders = pair_folders(state_dir, root, location)
        gone = {root, location} | known_places(state_dir, folders)
        for folder in folders:
            aside = state_dir / f"forgotten-{folder.name}"
            shutil.rmtree(aside, ignore_errors=True)
            with suppress(FileNotFoundError):
                folder.rename(aside)
                shutil.rmtree(aside)
        places = {place for pair in known_pairs(state_dir) for place in pair}
        for place in gone - places - known_places(state_dir):
            Outside(state_dir, place).forget()
