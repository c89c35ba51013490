"""Adds changed paths to a run under way, so that they need not wait for its large transfers.

Only uploads and downloads are added, and only at paths without a step. Deletes and
renames wait for the next run, where the guard sees all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Protocol

from craftsync.core.conflict_names import conflict_original
from craftsync.core.merge import Joined, Triple, Unknown, UnknownPaths, known, merge
from craftsync.core.model import Action, BaselineRow, Kind, LocalFile, RemoteObject, Skipped
from craftsync.core.paths import malformed
from craftsync.engine.planner import Planned, Planner
from craftsync.engine.sides import FolderSide
from craftsync.errors import StoreError
from craftsync.net.waiting import blocking
from craftsync.state.plan import Totals

_MOST_PATHS = 1000
"""More are left to the next run: their stats would delay the steps under way."""
_TAKEN_IN = (Kind.UPLOAD, Kind.DOWNLOAD, Kind.RECONCILE, Kind.ADOPT)


Answers = Sequence[RemoteObject | Skipped] | None
"""What the store holds at some paths; `None` if it could not be reached."""


class Changes(Protocol):
    """The paths that changed since the run was planned. Used by its control thread only."""

    def take(self) -> Collection[str]:
        """Return the changed paths that have settled. A folder stands for everything below it."""
        ...

    def later(self, paths: Iterable[str]) -> None:
        """Offer these paths to the same run again: now one of its steps concerns them."""
        ...

    def defer(self, paths: Iterable[str]) -> None:
        """Leave these paths to the next run."""
        ...


class Intake:
    """Decides about paths that changed during a run. Belongs to its control thread."""

    def __init__(self, planner: Planner, changes: Changes) -> None:
        """The left side of `planner` must be a folder: a store reports no changes."""
        assert isinstance(planner.left, FolderSide)
        self._planner = planner
        self._folder = planner.left
        self._state = planner.state
        self._changes = changes

    def local_changes(self, skipped: set[str]) -> list[Triple]:
        """Return what folder and baseline hold at the changed paths that may be added.

        `skipped` holds the paths whose step ended without a change. A changed one is removed
        from it, because it may get another step.
        """
        wanted = sorted(set(self._changes.take()))
        if not wanted:
            return []
        unknown = Unknown()
        met = self._met(wanted, unknown)
        if len(met) > _MOST_PATHS:
            self._changes.defer(wanted)
            return []
        gone = {_fingerprint(row) for _, file, row, _ in met if row is not None and file is None}
        with self._state.transaction():
            for path in {triple.path for triple in met} & skipped:
                skipped.discard(path)
                self._state.plan.give_up(path)
        found = []
        for triple in met:
            path, file, row, _ = triple
            if self._is_in_hand(path):
                self._changes.later([path])
            elif (
                path in unknown
                or (file is None and row is not None)
                or (file is not None and row is None and _fingerprint(file) in gone)
                or self._needs_a_whole_run(path)
            ):
                self._changes.defer([path])
            else:
                found.append(triple)
        return found

    def _met(self, wanted: Sequence[str], unknown: Unknown) -> list[Triple]:
        # An ignore file may have changed too.
        self._folder = self._folder.with_new_rules()
        self._planner = replace(self._planner, left=self._folder)
        files = known(self._folder.look(wanted), unknown, self._defer_one)
        named = ((path,) for path in wanted if not malformed(path))
        rows = self._state.baseline.below(wanted)
        met = islice(merge(files, rows, named), _MOST_PATHS + 1)
        return [Joined(path, file, row, None) for path, file, row, _ in met]

    def _defer_one(self, skipped: Skipped) -> None:
        self._changes.defer([skipped.path])

    def _is_in_hand(self, path: str) -> bool:
        """Return whether an unrecorded step concerns this path, or the original of this conflict copy."""
        original = conflict_original(path)
        return self._state.plan.touches(path) or (
            original is not None and self._state.plan.touches(original)
        )

    def _needs_a_whole_run(self, path: str) -> bool:
        """Return whether another path is in the way, or a delete of this path is held."""
        held = self._state.held.kind(path) is not None
        return held or self._state.baseline.obstructs(path)

    def stat_remote(self, met: Sequence[Triple]) -> Answers:
        """Return what the store holds at these paths, while other short tasks continue."""
        try:
            names = [triple.path for triple in met]
            return blocking(lambda: self._planner.right.stat(names))
        except StoreError:
            return None

    def actions(self, met: Sequence[Triple], answers: Answers) -> list[Action]:
        """Return the steps to add now; leave the other paths to the next run."""
        if answers is None:
            self._changes.defer(triple.path for triple in met)
            return []
        unknown = Unknown()
        found = {remote.path: remote for remote in known(answers, unknown, self._defer_one)}
        triples = (
            triple._replace(remote=found.get(triple.path))
            for triple in met
            if triple.path not in unknown
        )
        planned = self._planner.decided(triples, UnknownPaths(Unknown(), Unknown()), Planned())
        taken = []
        for action in planned:
            if action.kind in _TAKEN_IN:
                taken.append(action)
            else:
                self._changes.defer([action.path])
        return taken

    def defer(self, paths: Iterable[str]) -> None:
        """Leave these paths to the next run."""
        self._changes.defer(paths)


def totals_of(actions: Iterable[Action]) -> Totals:
    """Return how many files and bytes these actions transfer."""
    sizes = [
        side.size
        for action in actions
        if action.kind is not Kind.ADOPT
        and (side := action.remote if action.kind is Kind.DOWNLOAD else action.local) is not None
    ]
    return Totals(len(sizes), sum(sizes))


def _fingerprint(file: LocalFile | BaselineRow) -> tuple[int | str, int, int]:
    """Return the properties that a rename does not change."""
    return file.inode, file.size, file.mtime_ns
