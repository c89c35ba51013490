"""A real root, a real state database and a store, with verbs that read as a story."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from craftsync.clock import SystemClock
from craftsync.core.conflict_names import conflict_original
from craftsync.core.model import Mode, Policy, Skipped
from craftsync.core.retention import Retention
from craftsync.engine.report import (
    ActionEvent,
    Event,
    HeldEvent,
    IssueEvent,
    Options,
    ProgressEvent,
    Report,
)
from craftsync.engine.session import Session
from craftsync.stores.base import Store


class Bytes:
    """Bytes as content for a store."""

    def __init__(self, content: bytes, mtime_ns: int | None = None) -> None:
        self._content = content
        self.size = len(content)
        self.digest = hashlib.sha256(content).digest()
        self.mtime_ns = mtime_ns

    def read_at(self, offset: int, length: int) -> bytes:
        return self._content[offset : offset + length]

    def verify(self) -> None:
        """Bytes in memory do not change."""


class World:
    """A root and a store that can be changed by hand and synced."""

    def __init__(self, folder: Path, store: Store, **session: Any) -> None:
        self.root = folder / "root"
        self.root.mkdir(exist_ok=True)
        self.state_dir = folder / "state"
        self.store = store
        self.events: list[Event] = []
        self._session = {"clock": SystemClock(), **session}
        self._writes = 0
        self.retention = Retention()

    def write(self, path: str, content: str) -> Path:
        """Write a file in the root, through a new inode as most programs do."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
        return target

    def remove(self, path: str) -> None:
        (self.root / path).unlink()

    def put(self, path: str, content: str) -> None:
        """Put an object into the store, as another client would."""
        self._writes += 1
        operation = f"another-client-{self._writes}"
        self.store.write(path, Bytes(content.encode()), expect=None, operation=operation)

    def take(self, path: str) -> None:
        """Delete an object from the store, as another client would."""
        self.store.delete(path, expect=None)

    def open(self, **options: Any) -> Session:
        session = Session.open(
            self.root, self.store, state_dir=self.state_dir, **{**self._session, **options}
        )
        session.retention = self.retention
        return session

    def run(self, mode: str = "two-way", *, delete: bool = False, **options: Any) -> Report:
        """Make one run and return its report; what it said is in `events`."""
        policy = replace(options.pop("policy", Policy()), mode=Mode(mode), delete=delete)
        paths = options.pop("paths", None)
        settings = Options(policy=policy, transfers=4, **options)
        self.events.clear()
        with self.open(read_only=settings.dry_run) as session:
            return session.run("sync", settings, self.listen, paths=paths)

    def listen(self, event: Event) -> None:
        """Take in what a run reports, but for what takes no part by design."""
        if isinstance(event, IssueEvent) and event.by_design:
            return
        if not isinstance(event, ProgressEvent | HeldEvent):
            self.events.append(event)

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

    def here(self) -> dict[str, str]:
        """Return what the root holds, craftsync's own folder left out."""
        return {
            str(file.relative_to(self.root)): file.read_text()
            for file in sorted(self.root.rglob("*"))
            if file.is_file() and file.relative_to(self.root).parts[0] != ".craftsync"
        }

    def there(self, prefix: str = "") -> dict[str, str]:
        """Return what the store holds."""
        found = {}
        for entry in self.store.list(prefix):
            if not isinstance(entry, Skipped):
                with self.store.read(entry.path) as reader:
                    found[entry.path] = b"".join(reader).decode()
        return found

    def kept(self) -> set[str]:
        """Return the contents in both trashes."""
        trash = self.root / ".craftsync" / "trash"
        local = {file.read_text() for file in trash.rglob("*") if file.is_file()}
        return local | set(self.there(".craftsync/trash/").values())

    def assert_in_step(self) -> None:
        """Both sides hold the same, and a further run has nothing to do; conflict copies wait."""
        here = self.here()
        assert here == self.there()
        report = self.run()
        assert (self.said, report.exit_code) == ([], 4 if any(map(conflict_original, here)) else 0)


def leftovers(root: Path) -> Iterator[Path]:
    """Yield the temporary files in a root."""
    tmp = root / ".craftsync" / "tmp"
    if tmp.exists():
        yield from (Path(tmp / name) for name in os.listdir(tmp))


MakeStore = Callable[[Path], Store]
