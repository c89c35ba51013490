"""One folder with its disk, its state and its configuration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from craftsync.core.model import OWN_FOLDER, Mode, OnConflict, Policy
from craftsync.engine.report import Options
from tests.simulator.daemon import Life
from tests.simulator.disk import Disk
from tests.simulator.steps import Change, Run
from tests.simulator.store import is_own

_TRASH = f"{OWN_FOLDER}/trash/"


def is_shown(path: str) -> bool:
    """Tell whether what a folder holds at a path can be had: a file, or a version in the trash."""
    return path.startswith(_TRASH) or not is_own(path)


class Client:
    """One folder with its disk and its state."""

    def __init__(
        self, number: int, disk: Disk, state_dir: Path, template: Path, keep: float | None
    ) -> None:
        self.name = f"client {number}"
        self.path = f"/simulated/{number}"
        self.disk = disk
        self.state_dir = state_dir
        self.template = template
        self.config = Change(number, keep)
        self.has_run = False
        self.knows_store = False
        """It came to the end of a run by which the store had its identity file."""
        self.has_tried_store = False
        """It came to the end of a run that writes, so it has found out what the store can do."""
        self.has_pushed = False
        """It has recorded uploads without waiting for the disk, as runs do that delete nothing."""
        self.life: Life | None = None
        self.plan = ""
        """The last one it wrote."""
        self.is_settled = False
        """Its last run came to its end, and nothing was in its way."""
        self.forgotten: set[str] = set()
        """Paths whose last synced state is lost: no run has brought them in sync since."""

    @property
    def keep(self) -> float | None:
        """Seconds for which it keeps what it displaced."""
        return self.config.keep

    def configured(self, run: Run) -> Run:
        """Return a run as it is with this client's configuration."""
        if run.what or run.mode != "two-way":
            return run
        return replace(run, mode=self.config.mode, delete=self.config.delete)

    def options(self, mode: str = "two-way", *, delete: bool = False, **more: Any) -> Options:
        """Return the options of a run."""
        policy = Policy(Mode(mode), delete, conflict=OnConflict(self.config.conflict))
        return Options(policy, transfers=4, exclude=self.config.exclude, **more)

    def forget(self) -> None:
        """Hear that its state is as it was before, or gone."""
        self.has_run = self.knows_store = self.has_tried_store = False

    def end_life(self) -> None:
        """Stop its daemon, if it has one."""
        if self.life is not None:
            self.life.close()
            self.life = None

    def files(self) -> dict[str, bytes]:
        """Return all that can be had from the folder, files and the trash: the same dictionary while nothing changes."""
        return self.disk.contents()
