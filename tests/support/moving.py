"""A source and a target between which objects are migrated, with verbs that read as a story."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from craftsync.clock import SystemClock
from craftsync.core.guard import DeleteLimit
from craftsync.core.model import Policy, RemoteObject, Skipped
from craftsync.engine.report import ActionEvent, Event, IssueEvent, Options
from craftsync.migrate.migration import Migration
from craftsync.migrate.options import MigrationOptions, MigrationReport
from craftsync.state.migration import MigrationState
from craftsync.stores.base import Store
from tests.support.world import Bytes


class Eager(SystemClock):
    """The machine's time, but nobody waits."""

    def sleep(self, seconds: float) -> None:
        """Return at once."""


class Moving:
    """Two stores, and what is remembered about the way from one to the other."""

    def __init__(self, folder: Path, source: Store, target: Store) -> None:
        self.folder = folder
        self.source = source
        self.target = target
        self.events: list[Event] = []
        self._writes = 0

    def put(self, store: Store, path: str, content: str | bytes) -> RemoteObject:
        """Put an object into one of the stores, as another client would."""
        self._writes += 1
        body = content.encode() if isinstance(content, str) else content
        operation = f"another-client-{self._writes}"
        return store.write(path, Bytes(body), expect=None, operation=operation)

    def run(self, **asked: Any) -> MigrationReport:
        """Make one run and return its report; what it said is in `events`.

        Fields of `MigrationOptions`, and of the options of a run, are taken by
        their names; `delete` too. `make_pool` is the migration's.
        """
        self.events.clear()
        pool = asked.pop("make_pool", None)
        ways = {"clock": Eager(), **({"make_pool": pool} if pool else {})}
        options = _options(asked)
        state = MigrationState.open(self.folder / "state", scratch=options.run.dry_run)
        try:
            migration = Migration(self.source, self.target, state, self.folder / "state", **ways)
            return migration.run(options, self.events.append)
        finally:
            state.close()

    @property
    def said(self) -> list[str]:
        """Return the events of the last run, in order of path, one a line."""
        lines = []
        for event in self.events:
            if isinstance(event, ActionEvent):
                lines.append(f"{event.action} {event.path}")
            elif isinstance(event, IssueEvent):
                lines.append(f"{event.issue} {event.path}")
        return sorted(lines, key=lambda line: line.split(" ", 1)[1])

    def reason(self, path: str) -> str:
        """Return what the last run said was wrong with a path."""
        (found,) = (e for e in self.events if isinstance(e, IssueEvent) and e.path == path)
        return found.reason


def _options(asked: dict[str, Any]) -> MigrationOptions:
    delete = asked.pop("delete", False)
    own = {name: asked.pop(name) for name in list(asked) if name in _OWN}
    run = Options(policy=Policy(delete=delete), delete_limit=DeleteLimit(files=50), transfers=4)
    return MigrationOptions(run=replace(run, **asked), **own)


_OWN = {field for field in MigrationOptions.__dataclass_fields__ if field != "run"}


def held(store: Store, prefix: str = "") -> dict[str, bytes]:
    """Return what a store holds."""
    found = {}
    for entry in store.list(prefix):
        if not isinstance(entry, Skipped):
            with store.read(entry.path) as reader:
                found[entry.path] = b"".join(reader)
    return found


def kept(store: Store) -> set[bytes]:
    """Return the contents in a store's trash."""
    return set(held(store, ".craftsync/trash/").values())
