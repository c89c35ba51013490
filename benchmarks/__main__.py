"""The command line of the benchmarks."""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import aims, craft_ai, fleet, migrate, report, scenarios, stopping
from benchmarks.scenarios import Scenario, measure
from benchmarks.servers import Unavailable

HERE = Path(__file__).parent
WORK = HERE / ".work"
RESULTS = WORK / "results.json"
PAGE = HERE.parent / "docs" / "benchmarks.md"


def main() -> None:
    options = _parser().parse_args()
    # Ended otherwise, the servers would be left behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    with _alone():
        missing = _measure_all(options)
    if missing:
        raise SystemExit("\n".join(missing))


@contextmanager
def _alone() -> Iterator[None]:
    """Two benchmarks at once would measure each other."""
    WORK.mkdir(exist_ok=True)
    with (WORK / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit("another benchmark is running here") from None
        yield


def _measure_all(options: argparse.Namespace) -> list[str]:
    """Return what could not be measured here, and why."""
    missing = []
    for scenario in _all_scenarios(quick=options.quick):
        if scenario.name not in (options.only or [scenario.name]):
            continue
        tools = [tool for tool in scenario.tools() if tool.name in (options.tool or [tool.name])]
        print(f"{scenario.name} …", flush=True)
        load = os.getloadavg()[0]
        try:
            samples = measure(scenario, tools, options.runs, WORK / scenario.name)
        except Unavailable as error:
            missing.append(f"{scenario.name} was not measured. {error}")
            continue
        result = report.record(scenario, tools, samples, load)
        print(report.table(result), end="\n\n", flush=True)
        if not options.quick:
            report.save(result, RESULTS)
            report.publish(result, PAGE)
            aims.publish(PAGE)
    return missing


def _all_scenarios(*, quick: bool) -> list[Scenario]:
    rooms = (scenarios, craft_ai, migrate, fleet, stopping)
    return [scenario for room in rooms for scenario in room.all_scenarios(quick=quick)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures craftsync beside its peers and writes docs/benchmarks.md.",
    )
    known = _all_scenarios(quick=True)
    names = [scenario.name for scenario in known]
    tools = dict.fromkeys(tool.name for scenario in known for tool in scenario.tools())
    parser.add_argument("--only", action="append", choices=names, help="one scenario; repeatable")
    parser.add_argument(
        "--tool",
        action="append",
        choices=list(tools),
        help="one tool; repeatable; all without it",
    )
    parser.add_argument("--runs", type=int, default=3, help="timed runs of each tool (3)")
    parser.add_argument(
        "--quick", action="store_true", help="small workloads, to try the harness; writes nothing"
    )
    return parser


if __name__ == "__main__":
    main()
