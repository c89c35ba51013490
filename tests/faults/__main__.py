"""`python -m tests.faults --seed S`: each fault, at each kind of request, with each server.

The installed program reaches `rclone serve s3`, moto and `craftsync serve` through a
proxy. In each run the first request of one kind meets one fault. The report of that
run must be true, and the next run must complete the work. A failure is printed with
the options that repeat it: `--seed S --only STORE:KIND:FAULT`.
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
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
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
from tests.support.fake_s3 import Request, Script

CELLS_IN_A_TRIAL = 8
LARGE = {"begin", "part", "complete", "permit-part"}


OpenStores = Callable[[Path, Script], AbstractContextManager[Stores]]


class Cell(NamedTuple):
    """A fault for the first request of a kind to a store."""

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
    parser.add_argument("--cells", type=int, help="try so many at most; default: all")
    parser.add_argument("--skip", type=int, default=0, help="skip so many")
    parser.add_argument("--minutes", type=float, default=1440, help="stop after so many minutes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store", choices=PROXIED, action="append", help="only these stores")
    parser.add_argument("--only", metavar="STORE:KIND:FAULT", help="only this one")
    parser.add_argument("--trace", action="store_true", help="print each one after its run")
    parser.add_argument("--folder", help="folder for the trials")
    return parser


def every_cell() -> Iterator[Cell]:
    for store in PROXIED:
        kinds = (*PLATFORM, *PLATFORM_PARTS) if store == "serve" else S3
        for kind, fault in itertools.product(kinds, FAULTS):
            if applies(fault, kind, platform=store == "serve"):
                yield Cell(store, kind, fault)


class Once:
    """A script for a proxy: once armed, it applies a fault to the next request of a kind."""

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
    """Tries cells, and counts the faults that craftsync survived."""

    def __init__(
        self, folder: Path, seed: int, *, trace: bool, stores: Mapping[str, OpenStores] = PROXIED
    ) -> None:
        self._folder, self._seed, self._trace, self._stores = folder, seed, trace, stores
        self._survived: Counter[tuple[str, str]] = Counter()
        self._codes: Counter[int] = Counter()
        self.missed: list[str] = []
        self.failed: list[str] = []

    def go(self, cells: list[Cell], end: float = math.inf) -> None:
        """Try each cell once, store by store; none begins after the time `end`."""
        for store in PROXIED:
            left = [cell for cell in cells if cell.store == store]
            if not left:
                continue
            script = Once()
            with self._stores[store](self._folder, script) as stores:
                while left and time.monotonic() < end:
                    few, left = left[:CELLS_IN_A_TRIAL], left[CELLS_IN_A_TRIAL:]
                    self._in_a_trial(stores, script, f"{store}-{len(left)}", few)

    def _in_a_trial(self, stores: Stores, script: Once, name: str, cells: list[Cell]) -> None:
        """Try some cells in one trial; after a failure, the remaining ones get a new trial."""
        folder = self._folder / name
        folder.mkdir()
        store = stores(folder)
        left = list(cells)
        try:
            trial = Trial(folder, self._seed, store)
            while left and self._meet(trial, script, left.pop(0)):
                """Each round begins where the last one ended."""
        finally:
            script.arm(None)
            shutil.rmtree(folder)
            store.clear()
        if left:
            self._in_a_trial(stores, script, f"{name}-again", left)

    def _meet(self, trial: Trial, script: Once, cell: Cell) -> bool:
        """Try a cell; return whether no rule was broken."""
        began = time.monotonic()
        try:
            trial.change(conflict=False, large=cell.kind in LARGE)
            script.arm(cell)
            code = trial.killed_after(DEADLINE).code
            met = script.met
            script.arm(None)
            trial.heal(twice=False)
        except Exception as error:  # noqa: BLE001 (any error is a finding)
            self.failed.append(str(cell))
            _print(f"WRONG: --seed {self._seed} --only '{cell}': {type(error).__name__}: {error}")
            return False
        if not met:
            self.missed.append(str(cell))
        else:
            self._survived[cell.store, cell.kind] += 1
            self._codes[code if code is not None else -1] += 1
        if self._trace:
            _print(
                f"{cell} {'met' if met else 'not met'}: {code}, {time.monotonic() - began:.1f} s"
            )
        return True

    def print(self) -> None:
        for store in PROXIED:
            kinds = {kind: count for (of, kind), count in self._survived.items() if of == store}
            counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
            _print(f"{sum(kinds.values())} faults survived with {store}: {counts}")
        codes = ", ".join(f"{count} × {code}" for code, count in sorted(self._codes.items()))
        _print(f"exit codes: {codes}")
        _print(f"not met: {len(self.missed)}; failed: {self.failed or 'none'}")


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
