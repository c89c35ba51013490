"""What all planning has in common: counting what is noted, looking at single paths, filling the plan table.

A pass and a migration each have a planner, which says what is merged and what
is decided; this room knows neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from craftsync.core.merge import Unknown
from craftsync.core.model import LocalFile, RemoteObject, Skipped
from craftsync.errors import PathError, PathLeftOut, PathRefused, StoreDenied
from craftsync.stores.base import Store
from craftsync.stores.workers import workers
from craftsync.sync.report import HeldEvent, Issue, IssueEvent, OnEvent, ProgressEvent, Report

BATCH = 1000
"""Steps put into the plan table at once."""
LISTING_SHARE = 5000
"""Keys in each part of a listing that is fetched in several streams."""
_LOOKS_AT_ONCE = 16

_Step = TypeVar("_Step")
_Entry = TypeVar("_Entry")
_Side = TypeVar("_Side", LocalFile, RemoteObject)


@dataclass(slots=True)
class Planned:
    """What planning counted, and how the listener hears of what it noted."""

    unchanged: int = 0
    skipped: int = 0
    left_out: int = 0
    problems: int = 0
    held: int = 0
    deletes: int = 0
    emptied: set[str] = field(default_factory=set)
    """Sides that hold nothing at all although they did: "folder", "store", "source"."""

    def noter(self, on_event: OnEvent) -> Callable[[Skipped], None]:
        """Return what counts and tells each thing a listing could not say."""

        def note(skipped: Skipped) -> None:
            issue = Issue.PROBLEM if skipped.failed else Issue.SKIPPED
            self.problems += skipped.failed
            self.left_out += skipped.by_design
            self.skipped += not (skipped.failed or skipped.by_design)
            on_event(IssueEvent(issue, skipped.path, skipped.reason, skipped.by_design))

        return note

    def hold(
        self, paths: Iterable[str], where: str, reason: str, remedy: str, on_event: OnEvent
    ) -> None:
        """Count and report the deletes that wait for a person: each path, then all of them at once.

        `where` is the side they would be carried out on: "store", "folder" or "target".
        """
        count = 0
        for path in paths:
            count += 1
            on_event(IssueEvent(Issue.HELD, path, reason))
        self.held += count
        on_event(HeldEvent(count, where, reason, remedy))


class Unread:
    """What one side of a check could not say: a `!` for each, and no line for what takes no part by design."""

    def __init__(
        self, report: Report, on_line: Callable[[str, str], None], on_event: OnEvent
    ) -> None:
        self._report = report
        self._on_line = on_line
        self._on_event = on_event
        self._unknown = Unknown()

    def of(self, stream: Iterable[_Side | Skipped]) -> Iterator[_Side]:
        """Yield the entries, and report the rest."""
        for entry in stream:
            if isinstance(entry, Skipped):
                self._note(entry)
            else:
                yield entry

    def symbol(self, path: str, absent: str) -> str | None:
        """Return how to report a path that was not met: as `absent`, and not at all where a `!` stands for it."""
        return None if path in self._unknown else absent

    def _note(self, skipped: Skipped) -> None:
        if skipped.by_design:
            self._report.left_out += 1
            self._on_event(IssueEvent(Issue.SKIPPED, skipped.path, skipped.reason, by_design=True))
            return
        self._unknown.add(skipped)
        self._report.problems += skipped.failed
        self._report.skipped += not skipped.failed
        issue = Issue.PROBLEM if skipped.failed else Issue.SKIPPED
        self._report.note(IssueEvent(issue, skipped.path, skipped.reason))
        self._on_line("!", skipped.path)


def stat_all(
    store: Store, names: Sequence[str], *, listed: bool = False
) -> list[RemoteObject | Skipped]:
    """Stat single paths, several at once, and return what is there, in their order.

    A path that the store cannot hold, or cannot tell about, is `Skipped`, as in
    a listing: it keeps no other from being looked at. With `listed`, all were in
    a listing a moment ago: what is absent by now is asked for there once more.
    """

    def look(path: str) -> RemoteObject | Skipped | None:
        try:
            found = store.stat(path)
            return _contradiction(store, path) if listed and found is None else found
        except (PathError, StoreDenied) as error:
            return Skipped(
                path,
                str(error),
                failed=not isinstance(error, PathRefused),
                by_design=isinstance(error, PathLeftOut),
            )

    with workers(_LOOKS_AT_ONCE, "stat", store) as pool:
        return [found for found in pool.map(look, names) if found]


def _contradiction(store: Store, path: str) -> Skipped | None:
    """Return what to report of a path that the store lists and yet does not find; `None` when it is gone."""
    if all(entry.path != path for entry in store.list(path)):
        return None
    reason = f"the store lists {path} and answers 404 (not found) to its key"
    return Skipped(path, reason, failed=True)


def in_batches(steps: Iterator[_Step]) -> Iterator[list[_Step]]:
    """Yield the steps in lists of a size that the plan table takes well."""
    while batch := list(islice(steps, BATCH)):
        yield batch


def counted(stream: Iterable[_Entry], stage: str, on_event: OnEvent) -> Iterator[_Entry]:
    """Yield what a side holds and tell how many entries were met: once a batch, which is also when it can be stopped."""
    count = 0
    for batch in in_batches(iter(stream)):
        count += len(batch)
        on_event(ProgressEvent(stage, count))
        yield from batch
