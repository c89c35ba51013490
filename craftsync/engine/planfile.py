"""Plans as text (one JSON object a line, a header first), and what every planner shares.

A planner decides what is merged and what each path needs. Counting, single
paths and filling the plan table are the same for a run and for a migration.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, TextIO, TypeVar

from craftsync.core.merge import Unknown
from craftsync.core.model import (
    Action,
    Compare,
    Kind,
    LocalFile,
    Mode,
    OnConflict,
    Policy,
    RemoteObject,
    Skipped,
)
from craftsync.core.paths import refusal
from craftsync.engine.report import (
    HeldEvent,
    Issue,
    IssueEvent,
    OnEvent,
    Options,
    ProgressEvent,
    Report,
)
from craftsync.errors import PathError, PathLeftOut, PathRefused, StoreDenied, UsageError
from craftsync.stores.base import Store
from craftsync.stores.sources import workers

_VERSION = 1
_MOVES = (Kind.MOVE_REMOTE, Kind.MOVE_LOCAL)
_NEED_LOCAL = (Kind.UPLOAD, Kind.DELETE_LOCAL, Kind.MOVE_REMOTE, Kind.RECONCILE, Kind.ADOPT)
_NEED_REMOTE = (Kind.DOWNLOAD, Kind.DELETE_REMOTE, Kind.MOVE_LOCAL, Kind.RECONCILE, Kind.ADOPT)


class PlanFile(NamedTuple):
    """A plan that was read: for which pair, under which policy, and its actions."""

    root: str
    store: str
    policy: Policy
    actions: Iterator[Action]
    follow_links: bool = False


def write_header(out: TextIO, root: str, store: str, options: Options) -> None:
    """Begin a plan with what it is for."""
    policy = options.policy
    _write(
        out,
        {
            "type": "plan",
            "version": _VERSION,
            "root": root,
            "store": store,
            "mode": policy.mode,
            "delete": policy.delete,
            "compare": policy.compare,
            "conflict": policy.conflict,
            **({"links": "follow"} if options.follow_links else {}),
        },
    )


def write_action(out: TextIO, action: Action) -> None:
    """Add one action with what was seen on both sides."""
    _write(
        out,
        {
            "type": "action",
            "action": action.kind,
            "path": action.path,
            "source": action.source,
            "rule": action.rule,
            "local": list(action.local[1:]) if action.local else None,
            "remote": list(action.remote[1:4]) if action.remote else None,
        },
    )


def size_of(action: Action) -> int:
    """Return the bytes of the version that a step moves or deletes."""
    if action.kind in (Kind.DOWNLOAD, Kind.DELETE_REMOTE):
        return action.remote.size if action.remote else 0
    seen = action.local or action.remote
    return seen.size if seen else 0


def replaced_by(action: Action) -> int | None:
    """Return the bytes of the version that a transfer replaces; `None` where it is another step, or a new path."""
    other = {Kind.UPLOAD: action.remote, Kind.DOWNLOAD: action.local}.get(action.kind)
    return None if other is None else other.size


def read(lines: Iterable[str]) -> PlanFile:
    """Read a plan; raises `UsageError` for anything that is not one."""
    rest = iter(lines)
    header = _parse(next(rest, ""), 1)
    if header.get("type") != "plan" or header.get("version") != _VERSION:
        raise UsageError(
            "this is not a plan of craftsync, or one of another version",
            remedy="Write one with `craftsync plan -o FILE`.",
        )
    try:
        policy = Policy(
            Mode(header["mode"]),
            bool(header["delete"]),
            Compare(header["compare"]),
            OnConflict(header["conflict"]),
        )
        root, store = str(header["root"]), str(header["store"])
    except (KeyError, ValueError) as error:
        raise UsageError(f"line 1 of the plan is damaged: {error}") from error
    return PlanFile(root, store, policy, _actions(rest), header.get("links") == "follow")


def _actions(lines: Iterable[str]) -> Iterator[Action]:
    for number, line in enumerate(lines, start=2):
        fields = _parse(line, number)
        try:
            yield _action(fields)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"line {number} of the plan is damaged: {error}") from error


def _action(fields: dict[str, Any]) -> Action:
    """Read one action; raises `KeyError`, `TypeError` or `ValueError` for what craftsync never wrote."""
    path, source, kind = str(fields["path"]), fields["source"], Kind(fields["action"])
    for each in (path, source) if kind in _MOVES else (path,):
        if reason := refusal(str(each or "")):
            raise ValueError(f"{each!r} takes no part: {reason}")
    if source is not None and kind not in _MOVES:
        raise ValueError(f"{kind} has no source")
    local, remote = fields["local"], fields["remote"]
    numbers = [*(local or ()), *(remote or ())[:1]]
    if not all(isinstance(number, int) for number in numbers):
        raise ValueError("a size or time is not a number")
    here = LocalFile(path, *local) if local else None
    there = RemoteObject(path, *remote) if remote else None
    if (here is None and kind in _NEED_LOCAL) or (there is None and kind in _NEED_REMOTE):
        raise ValueError(f"{kind} lacks what was seen on the side it changes")
    return Action(kind, path, str(fields["rule"]), here, None, there, source)


def _parse(line: str, number: int) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise UsageError(f"line {number} of the plan is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise UsageError(f"line {number} of the plan is not a JSON object")
    return fields


def _write(out: TextIO, fields: dict[str, Any]) -> None:
    out.write(json.dumps(fields, ensure_ascii=False) + "\n")


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
    filtered: int = 0
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
