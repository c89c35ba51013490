"""What the state database knows of a pair while no daemon runs."""

from __future__ import annotations

from typing import Any

from craftsync import __version__
from craftsync.clock import iso
from craftsync.state.database import Database
from craftsync.sync.report import Report

_COUNTS = ("conflicts", "held", "problems", "skipped")


def remember(database: Database, report: Report, mode: str, now_ns: int) -> None:
    """Note how a pass ended."""
    database.put("mode", mode)
    for name in _COUNTS:
        database.put(f"last_{name}", str(getattr(report, name)))
    if report.exit_code == 0:
        database.put("last_success_ns", str(now_ns))


def of_stopped(root: str, store: str, database: Database) -> dict[str, Any]:
    """Return the fields of `status --json`."""
    counts = {name: int(database.get(f"last_{name}") or 0) for name in _COUNTS[:3]}
    last = database.get("last_success_ns")
    return {
        "state": "stopped",
        "root": root,
        "store": store,
        "mode": database.get("mode"),
        "pid": None,
        "pending": 0,
        **counts,
        "last_success": iso(int(last)) if last else None,
        "watch": {"healthy": False, "reason": "not running"},
        "version": __version__,
    }
