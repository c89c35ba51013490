"""`python -m tests.simulator --histories N --seed S [--jobs J]`: run random histories; print failing ones, shortened."""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import resource
import sys
import time
from pathlib import Path

from tests.simulator.campaign import STEPS, failure, history_of, play, shrink, trace_hash, workplace

_REPEAT_EVERY = 100
"""One history in so many is run twice more: its effects must be the same."""
_COLLECT_EVERY = 10
"""Garbage is collected after so many histories: the default collector takes a fifth of the time."""
_WARM_UP = 30
"""Histories after which a process must not open more descriptors …"""
_MOST_GROWTH = 64
"""… or take more memory than so many MiB."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.add_argument("--histories", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1, help="seed of the first history")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--trace", action="store_true", help="print each effect of one history")
    parser.add_argument("--most", type=int, default=3, help="stop after so many failing histories")
    given = parser.parse_args()
    if given.trace:
        with workplace() as place:
            history = shrink(history_of(given.seed, given.steps), place)
            print(history)  # noqa: T201
            play(history, place, trace=print)
        return
    shares = [
        (given.seed + job, given.histories // given.jobs, given.jobs, given.steps, given.most)
        for job in range(given.jobs)
    ]
    started = time.monotonic()
    if given.jobs == 1:
        results = [run_share(shares[0])]
    else:
        with multiprocessing.Pool(given.jobs) as pool:
            results = pool.map(run_share, shares)
    seconds, count = time.monotonic() - started, sum(done for done, _ in results)
    failed = [seed for _, seeds in results for seed in seeds]
    usages = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    print(  # noqa: T201
        f"{count} histories in {seconds:.0f} s, {count / seconds * 60:.0f} a minute"
        f" ({count / processor * 60:.0f} a minute of processor time); failed: {failed or 'none'}"
    )
    sys.exit(bool(failed))


def run_share(given: tuple[int, int, int, int, int]) -> tuple[int, list[int]]:
    """Run the histories of one process; return how many it ran, and the seeds that failed."""
    first, histories, stride, steps, most = given
    failed: list[int] = []
    done, young = 0, (0, 0)
    gc.disable()
    with workplace() as place:
        for number in range(histories):
            seed = first + number * stride
            history = history_of(seed, steps)
            failed_with = failure(history, place)
            done += 1
            if done % _COLLECT_EVERY == 0:
                gc.collect()
            if done % _REPEAT_EVERY == 0 and failed_with is None:
                hashes = {trace_hash(history, place) for _ in range(2)}
                failed_with = "two runs have different traces" if len(hashes) > 1 else None
            if done == 1:
                gc.freeze()  # Keeps the collector away from loaded modules.
            if done == _WARM_UP:
                young = _resources()
            if failed_with is not None:
                failed.append(seed)
                gc.enable()
                shorter = shrink(history, place)
                gc.disable()
                print(f"seed {seed}: {failure(shorter, place)}\n{shorter}", flush=True)  # noqa: T201
                if len(failed) >= most:
                    break
    if done > _WARM_UP:
        old = _resources()
        growth = f"descriptors {young[0]} and {old[0]}, memory {young[1]} and {old[1]} MiB"
        print(growth, flush=True)  # noqa: T201
        if old[0] > young[0] or old[1] > young[1] + _MOST_GROWTH:
            failed.append(-1)
    return done, failed


def _resources() -> tuple[int, int]:
    """Return the number of open descriptors of this process, and its memory in MiB."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return len(os.listdir("/proc/self/fd")), pages * os.sysconf("SC_PAGE_SIZE") >> 20


if __name__ == "__main__":
    main()
