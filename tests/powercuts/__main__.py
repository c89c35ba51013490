"""`python -m tests.powercuts --cuts N --seed S`: cut the power of real filesystems while the program runs.

Folder, state and directory store are on separate ext4 or XFS images. The program is
killed, at a system call or after a random time. The kernel then drops what was not
written back (`FS_IOC_SHUTDOWN`): everything, only the content of files, or nothing,
chosen for each disk. The images are mounted again, as after a reboot, and the program
must complete the work. Needs root and loop devices. A failure is printed with the
options that repeat it: `--seed S --session N`.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from random import Random

from tests.injected.points import KILL, Point
from tests.injected.stores import STORES, Stores
from tests.powercuts.disks import Disk, kinds_here, leave_namespace
from tests.powercuts.trial import CutTrial

ROUNDS = 4
CUTS_IN_A_ROW = 3
CALLS = {
    **dict.fromkeys(("renameat2", "linkat", "fdatasync", "unlink", "mkdirat", "syncfs"), 12),
    **{"pwrite64": 140, "openat2": 12},
}
"""Kinds of calls at which a run is killed, and the highest number of such a call in its thread."""
NOT_HERE = 3


def main() -> None:
    given = _parser().parse_args()
    if not leave_namespace():
        _print("power can be cut as root only")
        sys.exit(NOT_HERE)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder, ExitStack() as running:
        stores = {
            name: running.enter_context(STORES[name](Path(folder))) for name in ("directory", "s3")
        }
        campaign = Campaign(Path(folder), given.seed, stores, trace=given.trace)
        campaign.go(given.session, given.cuts, time.monotonic() + given.minutes * 60)
    campaign.print()
    sys.exit(bool(campaign.failed))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.powercuts", description=__doc__)
    parser.add_argument("--cuts", type=int, default=200, help="stop after so many cuts")
    parser.add_argument("--minutes", type=float, default=1440, help="stop after so many minutes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--session", type=int, help="only this session")
    parser.add_argument("--trace", action="store_true", help="print each session after its end")
    parser.add_argument("--folder", help="folder for the trials")
    return parser


class Campaign:
    """Runs sessions, and counts the power cuts that craftsync survived."""

    def __init__(self, folder: Path, seed: int, stores: dict[str, Stores], *, trace: bool) -> None:
        self._folder, self._seed, self._stores, self._trace = folder, seed, stores, trace
        self._survived: Counter[str] = Counter()
        self._ways: Counter[str] = Counter()
        self._kinds = kinds_here(folder)
        self._seconds = 0.5
        self.failed: list[str] = []

    def go(self, only: int | None, cuts: int, end: float) -> None:
        """Run one session, or sessions until `cuts` or the time `end` is reached."""
        if not self._kinds:
            _print("no image of a filesystem can be mounted here")
            sys.exit(NOT_HERE)
        for number in itertools.count(1) if only is None else [only]:
            if self._survived.total() >= cuts or time.monotonic() > end:
                return
            self._session(number)

    def _session(self, number: int) -> None:
        began = time.monotonic()
        chance = Random(f"{self._seed} {number}")
        kind = self._kinds[number % len(self._kinds)]
        store = ("directory", "directory", "s3")[number // len(self._kinds) % 3]
        folder = self._folder / f"trial-{number}"
        folder.mkdir()
        names = ("root", "state", "store") if store == "directory" else ("root", "state")
        opened = self._stores[store](folder)
        disks = {
            name: Disk(self._folder / f"{number}-{name}", folder / name, kind) for name in names
        }
        try:
            trial = CutTrial(folder, self._seed, opened, disks, chance)
            for _ in range(ROUNDS):
                if not self._round(trial, chance):
                    break
            self._survived[f"{kind}, {store}"] += len(trial.cut_disks)
            self._ways.update(trial.cut_disks)
        except Exception as error:  # noqa: BLE001 (any error is a finding)
            self.failed.append(f"--seed {self._seed} --session {number}")
            _print(f"WRONG: {self.failed[-1]} ({kind}, {store}): {type(error).__name__}: {error}")
        finally:
            for disk in disks.values():
                disk.remove()
            shutil.rmtree(folder)
            opened.clear()
            if self._trace:
                took = time.monotonic() - began
                _print(
                    f"{number} ({kind}, {store}) took {took:.1f} s, {self._survived.total()} cuts"
                )

    def _round(self, trial: CutTrial, chance: Random) -> bool:
        """Change both sides, cut the power and heal; return whether another round may follow."""
        flushed = chance.random() < 0.7
        large = chance.random() < 0.1
        trial.change(conflict=chance.random() < 0.5, large=large, flushed=flushed)
        if not flushed and chance.random() < 0.5:
            # What was recorded must be durable, even if its writer did not flush it.
            trial.heal(twice=False)
            trial.cut()
            trial.heal()
            return True
        for _ in range(CUTS_IN_A_ROW):
            if chance.random() < 0.3:
                call = chance.choice(list(CALLS))
                outcome = trial.meet(Point(call, chance.randint(1, CALLS[call]), KILL))
            else:
                outcome = trial.killed_after(chance.uniform(0.001, self._seconds))
            if not flushed:
                trial.heal_what_was_not_flushed()
                return False
            if not outcome.met:
                break
        if chance.random() < 0.5:
            trial.heal(twice=False)
            trial.cut()
        began = time.monotonic()
        trial.heal(twice=False)
        self._seconds = time.monotonic() - began
        return True

    def print(self) -> None:
        counts = ", ".join(f"{count} with {where}" for where, count in self._survived.items())
        _print(f"{self._survived.total()} power cuts survived: {counts}")
        _print(f"{len(self._ways)} combinations of losses; failed: {self.failed or 'none'}")


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
