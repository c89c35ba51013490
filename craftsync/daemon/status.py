"""How a running pair stands, as the fields of `status --json`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from craftsync import __version__
from craftsync.clock import iso
from craftsync.daemon.cycles import CycleState
from craftsync.daemon.waiting import Waiting
from craftsync.sync.report import Issue

_MOST_WAITING = 100
_TOTALS = ("uploaded", "downloaded", "bytes_uploaded", "bytes_downloaded", "errors")


def of_running(
    pair: Mapping[str, str],
    *,
    state: CycleState,
    reason: str | None,
    waiting: Waiting,
    totals: Mapping[str, int],
    rates: tuple[float | None, float | None],
    now_ns: int,
    events: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return the fields; those of a stopped pair are among them, with the same meaning.

    `pair` says root, store and mode; `rates` are bytes per second up and down;
    `events` says whether the queue of `events:` can be used, `None` without one.
    """
    last_ns = state.last_success_ns
    progress = asdict(state.progress) if state.progress is not None else None
    return {
        "state": state.state,
        "reason": reason,
        **pair,
        "pid": os.getpid(),
        "pending": state.pending,
        # Those of the last runs, or the copies that nobody has settled.
        "conflicts": max(waiting.count(Issue.CONFLICT), state.conflicts),
        "held": waiting.count(Issue.HELD),
        "problems": waiting.count(Issue.PROBLEM),
        "last_success": iso(last_ns) if last_ns else None,
        "last_success_seconds": last_ns / 1e9 if last_ns else None,
        "lag": max(0.0, (now_ns - last_ns) / 1e9) if last_ns else None,
        "watch": {"healthy": state.watch_healthy, "reason": state.watch_reason},
        "events": events,
        "version": __version__,
        "progress": progress,
        "waiting": [event.as_json() for event in waiting.first(_MOST_WAITING)],
        "transfers_at_once": state.transfers_at_once,
        "bwlimit": {"upload": rates[0], "download": rates[1]},
        "totals": {name: totals.get(name, 0) for name in _TOTALS},
    }
