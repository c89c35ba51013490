"""`python -m tests.faults --seed S`: each fault, at each kind of request, before each server.

The installed program runs through a proxy before `rclone serve s3`, moto and
`craftsync serve`. In each run the first request of one kind meets one fault;
what the run reports is checked, and the next run has to put everything right.
A failure is printed with what repeats it: `--seed S --only STORE:KIND:FAULT`.
"""

from __future__ import annotations

import argparse
import itertools
import math
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.faults.requests import (
    FAULTS,
    PLATFORM,
    PLATFORM_PARTS,
    S3,
    Step,
    applies,
    kind_of,
)
from tests.injected.stores import PROXIED, Stores
from tests.injected.trial import Trial
from tests.support.cli import DEADLINE
from tests.support.fake_s3 import Request

CELLS_IN_A_TRIAL = 8
LARGE = {"begin", "part", "complete", "permit-part"}


class Cell(NamedTuple):
    """The first request of a kind to a store meets a fault."""

    store: str
    kind: str
    fault: str

    def __str__(self) -> str:
        return ":".join(self)


def main() -> None:
    given = _parser().parse_args()
    cells = [Cell(*given.only.split(":"))] if given.only else list(every_cell())
    Random(given.seed).shuffle(cells)
    if given.store:
        cells = [cell for cell in cells if cell.store in given.store]
    end = time.monotonic() + given.minutes * 60
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        campaign = Campaign(Path(folder), given.seed, trace=given.trace)
        campaign.go(cells[given.skip :][: given.cells], end)
    campaign.print()
    sys.exit(bool(campaign.failed))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--cells", type=int, help="how many at most; all if not given")
    parser.add_argument("--skip", type=int, default=0, help="so many, which ran before")
    parser.add_argument("--minutes", type=float, default=1440, help="how long at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store", choices=PROXIED, action="append", help="these stores alone")
    parser.add_argument("--only", metavar="STORE:KIND:FAULT", help="this one alone")
    parser.add_argument("--trace", action="store_true", help="print each one, as it was met")
    parser.add_argument("--folder", help="where to work")
    return parser


def every_cell() -> Iterator[Cell]:
    for store in PROXIED:
        kinds = (*PLATFORM, *PLATFORM_PARTS) if store == "serve" else S3
        for kind, fault in itertools.product(kinds, FAULTS):
            if applies(fault, kind, platform=store == "serve"):
                yield Cell(store, kind, fault)


class Once:
    """A script for a proxy: the next request of a kind meets a fault, once."""

    def __init__(self) -> None:
        self._cell: Cell | None = None
        self.met = False

    def arm(self, cell: Cell | None) -> None:
        self._cell, self.met = cell, False

    def __call__(self, request: Request) -> Step | None:
        cell = self._cell
        if cell is None or self.met or kind_of(request) != cell.kind:
            return None
        self.met = True
        return FAULTS[cell.fault]


class Campaign:
    """Counts what was survived."""

    def __init__(self, folder: Path, seed: int, *, trace: bool) -> None:
        self._folder, self._seed, self._trace = folder, seed, trace
        self._survived: Counter[tuple[str, str]] = Counter()
        self._codes: Counter[int] = Counter()
        self.missed: list[str] = []
        self.failed: list[str] = []

    def go(self, cells: list[Cell], end: float = math.inf) -> None:
        """Meet each cell once, with one store after the other; none begins after the end."""
        for store in PROXIED:
            left = [cell for cell in cells if cell.store == store]
            if not left:
                continue
            script = Once()
            with PROXIED[store](self._folder, script) as stores:
                while left and time.monotonic() < end:
                    few, left = left[:CELLS_IN_A_TRIAL], left[CELLS_IN_A_TRIAL:]
                    self._in_a_trial(stores, script, f"{store}-{len(left)}", few)

    def _in_a_trial(self, stores: Stores, script: Once, name: str, cells: list[Cell]) -> None:
        """Meet a few cells one after the other; what goes wrong ends the trial, and the rest begins anew."""
        folder = self._folder / name
        folder.mkdir()
        store = stores(folder)
        left = list(cells)
        try:
            trial = Trial(folder, self._seed, store)
            while left and self._meet(trial, script, left.pop(0)):
                """The next round begins where this one ended."""
        finally:
            script.arm(None)
            shutil.rmtree(folder)
            store.clear()
        if left:
            self._in_a_trial(stores, script, f"{name}-again", left)

    def _meet(self, trial: Trial, script: Once, cell: Cell) -> bool:
        """Meet a cell, and tell whether nothing was wrong."""
        began = time.monotonic()
        try:
            trial.change(conflict=False, large=cell.kind in LARGE)
            script.arm(cell)
            code = trial.killed_after(DEADLINE).code
            met = script.met
            script.arm(None)
            trial.heal(twice=False)
        except Exception as wrong:  # noqa: BLE001 (whatever it is, it is what is looked for)
            self.failed.append(str(cell))
            _say(f"WRONG: --seed {self._seed} --only '{cell}': {type(wrong).__name__}: {wrong}")
            return False
        if not met:
            self.missed.append(str(cell))
        else:
            self._survived[cell.store, cell.kind] += 1
            self._codes[code if code is not None else -1] += 1
        if self._trace:
            _say(f"{cell} {'met' if met else 'not met'}: {code}, {time.monotonic() - began:.1f} s")
        return True

    def print(self) -> None:
        for store in PROXIED:
            kinds = {kind: count for (of, kind), count in self._survived.items() if of == store}
            told = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
            _say(f"{sum(kinds.values())} faults survived with {store}: {told}")
        codes = ", ".join(f"{count} × {code}" for code, count in sorted(self._codes.items()))
        _say(f"exit codes: {codes}")
        _say(f"not met: {len(self.missed)}; failed: {self.failed or 'none'}")


def _say(words: str) -> None:
    print(words, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
