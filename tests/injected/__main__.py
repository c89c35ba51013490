"""`python -m tests.injected --runs N --seed S`: kill the installed program at system calls, or fail these.

A session is four rounds of changes with one store. In two of them the program
is killed up to four times in a row, at system calls and after random times. In
the other two a system call fails. Each failed session is printed with the options
that repeat it: `--seed S --store STORE --session N`. `--only KIND:K:FAULT` tries a
single point in a session of its own.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from random import Random

from tests.injected.points import ERRNOS, KILL, Point, writing_calls
from tests.injected.stores import STORES, Stores
from tests.injected.trial import Outcome, Trial

ROUNDS = ("call", "error", "time", "error")
KILLS_IN_A_ROW = 4
MOMENT = "after a random time"
Calls = Mapping[str, Sequence[int]]


def main() -> None:
    given = _parser().parse_args()
    if shutil.which("strace") is None:
        sys.exit("strace is not installed: apt-get install strace")
    stores = given.store or list(STORES)
    with (
        tempfile.TemporaryDirectory(dir=given.folder) as folder,
        ExitStack() as running,
    ):
        opened = {name: running.enter_context(STORES[name](Path(folder))) for name in stores}
        campaign = Campaign(Path(folder), given.seed, opened, given.rounds, trace=given.trace)
        if given.only:
            campaign.meet(stores[0], given.only)
        else:
            campaign.go(given.session, given.runs, time.monotonic() + given.minutes * 60)
    campaign.print()
    sys.exit(bool(campaign.failed))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.injected", description=__doc__)
    parser.add_argument("--runs", type=int, default=400, help="stop after so many kills and errors")
    parser.add_argument("--minutes", type=float, default=1440, help="stop after so many minutes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store", choices=STORES, action="append", help="only these stores")
    parser.add_argument("--session", type=int, help="only this session")
    parser.add_argument("--only", type=Point.parse, metavar="KIND:K:FAULT", help="only this point")
    parser.add_argument(
        "--rounds", nargs="+", choices=set(ROUNDS), default=ROUNDS, help="the rounds of a session"
    )
    parser.add_argument("--trace", action="store_true", help="print each session after its end")
    parser.add_argument("--folder", help="folder for the trials")
    return parser


class Campaign:
    """Runs sessions, and counts the kills and errors that craftsync survived."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        stores: Mapping[str, Stores],
        rounds: Sequence[str] = ROUNDS,
        *,
        trace: bool,
    ) -> None:
        self._folder, self._seed, self._stores = folder, seed, stores
        self._trace, self._rounds = trace, rounds
        self._numbers = itertools.count(1)
        self._survived: Counter[tuple[str, bool, str]] = Counter()
        self._codes: Counter[int] = Counter()
        self._calls: dict[tuple[str, bool], Calls] = {}
        self._missed = self._unrecorded = 0
        self.failed: list[str] = []

    def go(self, only: int | None, runs: int, end: float) -> None:
        """Run one session, or sessions with each store in turn until `runs` or the time `end` is reached."""
        for number in itertools.count(1) if only is None else [only]:
            for store in self._stores:
                if self._survived.total() >= runs or time.monotonic() > end:
                    return
                self._session(store, number)

    def meet(self, store: str, point: Point) -> None:
        """Try a single point, with large files and a conflict."""

        def rounds(trial: Trial) -> None:
            trial.change(conflict=point.kills or point.at % 2 == 0, large=True)
            self._count(store, point.kills, point.kind, trial.meet(point))
            self._unrecorded += trial.heal()

        self._in_a_trial(store, f"--only {point}", rounds)

    def _session(self, store: str, number: int) -> None:
        chance = Random(f"{self._seed} {store} {number}")

        def rounds(trial: Trial) -> None:
            seconds = 1.0
            for way in self._rounds:
                large = chance.random() < 0.2
                calls = {} if way == "time" else self._calls_of(store, large=large)
                trial.change(conflict=way != "error" or chance.random() < 0.5, large=large)
                if way == "time":
                    self._at_any_time(store, trial, seconds, chance)
                else:
                    self._at_calls(store, trial, calls, chance, kills=way == "call")
                began = time.monotonic()
                self._unrecorded += trial.heal(twice=way == "time")
                seconds = time.monotonic() - began

        self._in_a_trial(store, f"--session {number}", rounds)

    def _at_calls(
        self, store: str, trial: Trial, calls: Calls, chance: Random, *, kills: bool
    ) -> None:
        """Try random points until a run ends by itself."""
        for _ in range(KILLS_IN_A_ROW if kills else 1):
            kind = chance.choice(list(calls))
            fault = KILL if kills else chance.choice(ERRNOS[kind])
            outcome = trial.meet(Point(kind, chance.choice(calls[kind]), fault))
            self._count(store, kills, kind, outcome)
            if outcome.code is not None:
                return

    def _at_any_time(self, store: str, trial: Trial, seconds: float, chance: Random) -> None:
        for _ in range(KILLS_IN_A_ROW):
            outcome = trial.killed_after(chance.uniform(0, seconds))
            self._count(store, True, MOMENT, outcome)
            if not outcome.met:
                return

    def _calls_of(self, store: str, *, large: bool) -> Calls:
        """Return the writing calls of a run with such changes; that run is made once and recorded."""
        if (store, large) not in self._calls:

            def record(trial: Trial) -> None:
                trial.change(conflict=True, large=large)
                calls = writing_calls(trial.record(), str(trial.folder))
                self._calls[store, large] = calls
                counts = ", ".join(f"{len(at)} {kind}" for kind, at in calls.items())
                _print(f"{store}{' with large files' if large else ''}: {counts}")

            self._in_a_trial(store, "recorded", record)
            if (store, large) not in self._calls:
                sys.exit("an undisturbed run failed")
        return self._calls[store, large]

    def _in_a_trial(self, store: str, which: str, act: Callable[[Trial], None]) -> None:
        began = time.monotonic()
        folder = self._folder / f"trial-{next(self._numbers)}"
        folder.mkdir()
        opened = self._stores[store](folder)
        try:
            act(Trial(folder, self._seed, opened))
        except Exception as error:  # noqa: BLE001 (any error is a finding)
            self.failed.append(f"--seed {self._seed} --store {store} {which}")
            _print(f"WRONG: {self.failed[-1]}: {type(error).__name__}: {error}")
        finally:
            shutil.rmtree(folder)
            opened.clear()
            if self._trace:
                took = time.monotonic() - began
                _print(f"{store} {which} took {took:.1f} s, {self._survived.total()} survived")

    def _count(self, store: str, kills: bool, kind: str, outcome: Outcome) -> None:
        if not outcome.met:
            self._missed += 1
            return
        self._survived[store, kills, kind] += 1
        if outcome.code is not None:
            self._codes[outcome.code] += 1

    def print(self) -> None:
        for kills, what in ((True, "SIGKILLs"), (False, "errors")):
            for store in self._stores:
                kinds = {kind: self._survived[store, kills, kind] for kind in (*ERRNOS, MOMENT)}
                counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
                _print(f"{sum(kinds.values())} {what} survived with {store}: {counts}")
        codes = ", ".join(f"{count} × {code}" for code, count in sorted(self._codes.items()))
        _print(f"exit codes after an error: {codes}")
        _print(f"uploads left because their start could not be recorded: {self._unrecorded}")
        _print(f"points not reached: {self._missed}; failed: {self.failed or 'none'}")


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
