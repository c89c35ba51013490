"""`python -m tests.injected --runs N --seed S`: kill and fail the installed program at its system calls.

Half of the runs die, half meet an error; half of each are with a directory
store, half with the fake S3. Each failure is printed with what repeats it:
`--seed S --store STORE --only KIND:K:FAULT`.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.injected.points import ERRNOS, Point, in_turns, writing_calls
from tests.injected.trial import Outcome, Trial
from tests.support.s3 import FakeS3, fake_s3
from tests.support.servers import S3Server

STORES = ("directory", "s3")
Served = tuple[S3Server, FakeS3]


def main() -> None:
    given = _parser().parse_args()
    if shutil.which("strace") is None:
        sys.exit("strace is not installed: apt-get install strace")
    with fake_s3() as served, tempfile.TemporaryDirectory(dir=given.folder) as folder:
        campaign = Campaign(Path(folder), given.seed, served, trace=given.trace)
        stores = [given.store] if given.store else STORES
        if given.only:
            planned: Iterator[tuple[str, Point]] = iter([(stores[0], given.only)])
        else:
            planned = campaign.planned(stores)
        end = time.monotonic() + given.minutes * 60
        for store, point in itertools.islice(planned, given.runs):
            if time.monotonic() > end:
                break
            campaign.meet(store, point)
    campaign.print()
    sys.exit(bool(campaign.failed))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.injected", description=__doc__)
    parser.add_argument("--runs", type=int, default=400, help="how many runs at most")
    parser.add_argument("--minutes", type=float, default=1440, help="how long at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store", choices=STORES)
    parser.add_argument("--only", type=Point.parse, metavar="KIND:K:FAULT", help="this point alone")
    parser.add_argument("--trace", action="store_true", help="print each run, as it was made")
    parser.add_argument("--folder", help="where to work")
    return parser


class Campaign:
    """Counts what was survived."""

    def __init__(self, folder: Path, seed: int, served: Served, *, trace: bool) -> None:
        self._folder, self._seed, self._served = folder, seed, served
        self._trace = trace
        self._numbers = itertools.count(1)
        self._survived: Counter[tuple[str, bool, str]] = Counter()
        self._codes: Counter[int] = Counter()
        self._missed = self._unrecorded = 0
        self.failed: list[str] = []

    def planned(self, stores: tuple[str, ...] | list[str]) -> Iterator[tuple[str, Point]]:
        """Yield every point of every store, kills and errors by turns."""
        turns = []
        for store in stores:
            trial = self._trial(store)
            calls = writing_calls(trial.record(), str(trial.folder))
            self._clear(trial)
            _say(f"{store}: " + ", ".join(f"{len(at)} {kind}" for kind, at in calls.items()))
            for kills in (True, False):
                chance = Random(f"{self._seed} {store} {kills}")
                turns.append((store, in_turns(calls, chance, kills=kills)))
        while turns:
            for turn in list(turns):
                point = next(turn[1], None)
                if point is None:
                    turns.remove(turn)
                else:
                    yield turn[0], point

    def meet(self, store: str, point: Point) -> None:
        started = time.monotonic()
        # A conflict that waits outranks a problem in the exit code.
        trial = self._trial(store, conflict=point.kills or point.at % 2 == 0)
        try:
            outcome = trial.meet(point)
        except Exception as wrong:  # noqa: BLE001 (whatever it is, it is what is looked for)
            self.failed.append(f"--seed {self._seed} --store {store} --only {point}")
            _say(f"WRONG: {self.failed[-1]}: {type(wrong).__name__}: {wrong}")
        else:
            self._count(store, point, outcome)
        finally:
            self._clear(trial)
            if self._trace:
                _say(f"{store} {point} took {time.monotonic() - started:.1f} s")

    def _count(self, store: str, point: Point, outcome: Outcome) -> None:
        if not outcome.met:
            self._missed += 1
            return
        self._survived[store, point.kills, point.kind] += 1
        self._unrecorded += outcome.unrecorded
        if outcome.code is not None:
            self._codes[outcome.code] += 1

    def print(self) -> None:
        for kills, what in ((True, "SIGKILLs"), (False, "errors")):
            for store in STORES:
                kinds = {kind: self._survived[store, kills, kind] for kind in ERRNOS}
                told = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
                _say(f"{sum(kinds.values())} {what} survived with {store}: {told}")
        codes = ", ".join(f"{count} × {code}" for code, count in sorted(self._codes.items()))
        _say(f"exit codes after an error: {codes}")
        _say(f"uploads left whose begin could not be recorded: {self._unrecorded}")
        _say(f"points that were not met: {self._missed}; failed: {self.failed or 'none'}")

    def _trial(self, store: str, *, conflict: bool = True) -> Trial:
        folder = self._folder / f"trial-{next(self._numbers)}"
        served = self._served if store == "s3" else None
        return Trial(folder, self._seed, served, conflict=conflict)

    def _clear(self, trial: Trial) -> None:
        shutil.rmtree(trial.folder)
        fake = self._served[1]
        fake.requests.clear()
        fake.buckets.pop(trial.folder.name, None)


def _say(words: str) -> None:
    print(words, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
