"""One folder with its disk, its state and its configuration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from craftsync.core.model import OWN_FOLDER, Mode, OnConflict, Policy
from craftsync.engine.report import Options
from tests.simulator.daemon import Daemon
from tests.simulator.disk import Disk
from tests.simulator.steps import Change, Run
from tests.simulator.store import is_own

_TRASH = f"{OWN_FOLDER}/trash/"


def is_shown(path: str) -> bool:
    """Return whether a path holds content that a user can reach: a file, or a version in the trash."""
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
        """Whether a run was completed."""
        self.knows_store_identity = False
        """Whether a run was completed while the store had its identity file."""
        self.has_probed_store = False
        """Whether a run that writes was completed, and thus has probed the store's features."""
        self.has_pushed = False
        """Whether uploads were recorded without a flush, as runs that delete nothing do."""
        self.daemon: Daemon | None = None
        self.plan = ""
        """The text of the last plan."""
        self.last_run_was_clean = False
        """Whether the last run was completed without any failure."""
        self.without_baseline: set[str] = set()
        """Paths whose last synced state is lost, and that no run has brought in sync since."""

    @property
    def keep(self) -> float | None:
        """Retention of the trash in seconds; `None` is for ever."""
        return self.config.keep

    def configured(self, run: Run) -> Run:
        """Return a run with this client's configured mode."""
        if run.what or run.mode != "two-way":
            return run
        return replace(run, mode=self.config.mode, delete=self.config.delete)

    def options(self, mode: str = "two-way", *, delete: bool = False, **more: Any) -> Options:
        """Return the options of a run."""
        policy = Policy(Mode(mode), delete, conflict=OnConflict(self.config.conflict))
        return Options(policy, transfers=4, exclude=self.config.exclude, **more)

    def lose_state(self) -> None:
        """Record that the state database was lost or rolled back."""
        self.has_run = self.knows_store_identity = self.has_probed_store = False

    def stop_daemon(self) -> None:
        """Stop the daemon if it runs."""
        if self.daemon is not None:
            self.daemon.close()
            self.daemon = None

    def files(self) -> dict[str, bytes]:
        """Return files and trash of the folder by path; the same dictionary while nothing changes."""
        return self.disk.contents()
