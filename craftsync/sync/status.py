"""What the state database knows of a pair while no daemon runs."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from craftsync import __version__
from craftsync.clock import iso
from craftsync.errors import RootError
from craftsync.local.folder import Folder
from craftsync.state.database import Database
from craftsync.state.pair import PairState
from craftsync.sync.identity import confirm_root
from craftsync.sync.report import Report


def remember(
    database: Database, report: Report, mode: str, now_ns: int, *, complete: bool = True
) -> None:
    """Note how a run ended; only a `complete` one knows how the whole folder stands."""
    database.put("mode", mode)
    if not complete:
        return
    database.put("last_problems", str(report.problems))
    if report.in_sync:
        remember_success(database, now_ns)


def remember_success(database: Database, when_ns: int | None) -> None:
    """Note when both sides were last known to be in sync, `None` for never."""
    if when_ns is not None and database.get("last_success_ns") != str(when_ns):
        database.put("last_success_ns", str(when_ns))


def of_pair(root: str, store: str, state_dir: Path) -> dict[str, Any]:
    """Return the fields of `status --json`, whether or not root and store are there.

    `reason` says what is wrong with the root; the store is not asked. Raises `StateError`.
    """
    with closing(PairState.open(state_dir, root, store, new_id=str, reading=True)) as state:
        return {**_of_stopped(root, store, state), "reason": _wrong_with(root, state)}


def _wrong_with(root: str, state: PairState) -> str | None:
    try:
        with Folder.open(root) as folder:
            confirm_root(folder, state, mark=False)
    except RootError as error:
        return f"{str(error).removesuffix('.')}. {error.remedy}".rstrip()
    return None


def _of_stopped(root: str, store: str, state: PairState) -> dict[str, Any]:
    """Return the fields of `status --json`."""
    database = state.database
    last = database.get_int("last_success_ns")
    return {
        "state": "stopped",
        "root": root,
        "store": store,
        "mode": database.get("mode"),
        "pid": None,
        "pending": None,
        "conflicts": state.baseline.conflict_copies(),
        "held": state.held.count(),
        "problems": database.get_int("last_problems") or 0,
        "last_success": iso(last) if last else None,
        "watch": {"healthy": False, "reason": "not running"},
        "version": __version__,
    }
