"""How every run begins, whatever it runs between: what a store can do is learned, and lost memory is told."""

from __future__ import annotations

from craftsync.clock import Clock
from craftsync.state.database import Database
from craftsync.state.facts import FACTS_LAST_NS
from craftsync.stores.base import Store
from craftsync.sync.report import Issue, IssueEvent, OnEvent, Report


def learn(store: Store, database: Database, clock: Clock, *, may_write: bool) -> str | None:
    """Let a store know what it can do, and return that as text; `None` where nothing is known.

    What was found out before holds for a while; then, and the first time, the
    store tries it out, if it may be written to.
    """
    saved, at = database.get("facts"), database.get_int("facts_at_ns") or 0
    if may_write and (saved is None or abs(clock.now_ns() - at) > FACTS_LAST_NS):
        saved = store.prepare(None)
        if saved is not None:
            database.put("facts", saved)
            database.put("facts_at_ns", str(clock.now_ns()))
    elif saved is not None:
        store.prepare(saved)
    return saved


def report_recovery(database: Database, report: Report, on_event: OnEvent, meaning: str) -> None:
    """Tell once that the database was damaged and begun anew; `meaning` is what that makes of this run."""
    aside = database.recovered
    if aside is not None:
        database.recovered = None
        report.damaged_state = True
        reason = f"the state database was damaged and is now {aside}; {meaning}"
        event = IssueEvent(Issue.PROBLEM, str(aside), reason)
        report.note(event)
        on_event(event)
