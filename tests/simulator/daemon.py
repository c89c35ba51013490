"""A daemon's loop over one folder, turned by hand; the watch hears what a history lets it hear."""

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
    """Believes itself healthy, whatever it hears."""

    health = Health(True)

    def __init__(self, root: Folder, dirty: DirtyPaths, clock: Clock) -> None:
        self.dirty = dirty

    def start(self) -> None:
        """Nothing has to begin: `Life.hear` says what is heard."""

    refresh = stop = start


class Life:
    """A session and its loop, until it is closed."""

    def __init__(
        self,
        session: Session,
        ends: ExitStack,
        options: Options,
        on_event: OnEvent,
        chance: Random,
    ) -> None:
        self.looked_at_everything = False
        """In the last turn."""
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

    def hear(self, path: str, *, gone: bool) -> None:
        """Tell the watch of a change: not at all, once or twice, with one that never was beside it."""
        dirty = self._watches[-1].dirty
        for _ in range(self._chance.choice((0, 1, 1, 2))):
            (dirty.delete if gone else dirty.change)(path)
        if self._chance.random() < 0.1:
            self._chance.choice((dirty.change, dirty.delete))(self._chance.choice(PATHS))
        if self._chance.random() < 0.02:
            dirty.everything()

    def resolve_held(self, approval: Approval) -> None:
        """Do what `craftsync deletes approve` and `reject` have a daemon do, in its next turn."""
        self._loop.resolve_held(approval)

    def turn(self) -> list[Report]:
        """Do what is due; return the reports of the runs made."""
        self._reports.clear()
        full_at = self._loop.state.next_full_scan
        self._loop.turn()
        self.looked_at_everything = self._loop.state.next_full_scan != full_at
        return list(self._reports)

    def close(self) -> None:
        self._ends.close()
