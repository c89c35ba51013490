"""A trial whose folder, state and store are disks that lose power with the program."""

from __future__ import annotations

from pathlib import Path
from random import Random

from tests.injected.sides import shown
from tests.injected.stores import Store
from tests.injected.trial import CONFLICTS_WAIT, IN_SYNC, Ended, Trial, Violation
from tests.powercuts.disks import HOW, Disk, reboot


class CutTrial(Trial):
    """Cuts the power whenever a run is killed."""

    def __init__(
        self, folder: Path, seed: int, store: Store, disks: dict[str, Disk], chance: Random
    ) -> None:
        self._disks, self._cuts = disks, chance
        self.cut_disks: list[str] = []
        """What each power cut left on each disk."""
        super().__init__(folder, seed, store)
        self.flush()

    def flush(self) -> None:
        for disk in self._disks.values():
            disk.flush()

    def cut(self) -> None:
        """Cut the power of all disks; chance decides what each one loses."""
        ways = {name: self._cuts.choice(list(HOW)) for name in self._disks}
        self.cut_disks.append(" ".join(f"{name}:{how}" for name, how in ways.items()))
        for name, disk in self._disks.items():
            disk.cut(ways[name])
        reboot(self.folder.parent / "boot-id")

    def heal_what_was_not_flushed(self) -> None:
        """Run once after a power cut that may have taken unflushed changes of users.

        Both sides must be equal, and must still hold the versions before those changes.
        """
        run = self._craftsync(*self._words)
        if run.code not in (IN_SYNC, CONFLICTS_WAIT):
            raise Violation(f"a plain run ends with {run.code}: {run.text} {run.err}")
        local, remote = shown(self.root), shown(self.store)
        if local != remote:
            raise Violation(f"the sides differ at rest: {sorted(local)} {sorted(remote)}")
        self._judge_lost({*self.root.everything().values(), *self.store.everything().values()})

    def forget_changes(self) -> None:
        """Require no content that was written since the last flush."""
        self._kept = set(self._flushed)

    def change(self, *, conflict: bool, large: bool, flushed: bool = True) -> None:
        before = set(self._kept)
        super().change(conflict=conflict, large=large)
        self._flushed = before & self._kept
        self._is_flushed = flushed
        if flushed:
            self.flush()

    def _judge_run(self, run: Ended | None) -> None:
        if run is None:
            self.cut()
            if not self._is_flushed:
                self.forget_changes()
                return
        super()._judge_run(run)
