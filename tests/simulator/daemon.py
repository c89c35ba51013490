"""The daemon's loop over one folder, turned step by step; a history decides which events arrive."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from random import Random

from craftsync.clock import Clock
from craftsync.daemon.loop import FolderLoop
from craftsync.daemon.schedule import WatchSettings
from craftsync.engine.report import OnEvent, Options, Report
from craftsync.engine.review.deletes import Approval
from craftsync.engine.session import Session
from craftsync.local.folder import Folder
from craftsync.local.watch.dirty import DirtyPaths
from craftsync.local.watch.supervisor import Health
from tests.simulator.steps import PATHS

RESCAN_SECONDS = 600.0


class SimulatedWatch:
    """A file watch that always reports itself healthy."""

    health = Health(True)

    def __init__(self, root: Folder, dirty: DirtyPaths, clock: Clock) -> None:
        self.dirty = dirty

    def start(self) -> None:
        """Do nothing: events arrive through `Daemon.notify`."""

    refresh = stop = start


class Daemon:
    """One process of the daemon: a session and its loop, until `close`."""

    def __init__(
        self,
        session: Session,
        ends: ExitStack,
        options: Options,
        on_event: OnEvent,
        chance: Random,
    ) -> None:
        self.made_full_scan = False
        """Whether the last turn scanned and listed everything."""
        self._ends = ends
        self._chance = chance
        self._watches: list[SimulatedWatch] = []
        self._reports: list[Report] = []
        self._loop = FolderLoop(
            session,
            WatchSettings(rescan_seconds=RESCAN_SECONDS),
            options,
            on_event,
            threading.Event(),
            random=Random(chance.random()),
            make_watch=self._watch,
        )
        self._loop.on_run = lambda report, _: self._reports.append(report)

    def _watch(self, root: Folder, dirty: DirtyPaths, clock: Clock) -> SimulatedWatch:
        self._watches.append(SimulatedWatch(root, dirty, clock))
        return self._watches[-1]

    def notify(self, path: str, *, gone: bool) -> None:
        """Report a change to the watch none, one or two times, and sometimes a change that never happened."""
        dirty = self._watches[-1].dirty
        for _ in range(self._chance.choice((0, 1, 1, 2))):
            (dirty.delete if gone else dirty.change)(path)
        if self._chance.random() < 0.1:
            self._chance.choice((dirty.change, dirty.delete))(self._chance.choice(PATHS))
        if self._chance.random() < 0.02:
            dirty.everything()

    def resolve_held(self, approval: Approval) -> None:
        """Approve or reject held deletes in the next turn, as `craftsync deletes` does."""
        self._loop.resolve_held(approval)

    def turn(self) -> list[Report]:
        """Do what is due; return the reports of the runs."""
        self._reports.clear()
        full_at = self._loop.state.next_full_scan
        self._loop.turn()
        self.made_full_scan = self._loop.state.next_full_scan != full_at
        return list(self._reports)

    def close(self) -> None:
        self._ends.close()
