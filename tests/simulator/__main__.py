"""`python -m tests.simulator --histories N --seed S [--jobs J]`: run histories; print those that fail, shortened."""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import resource
import sys
import time
from pathlib import Path

from tests.simulator.campaign import STEPS, failure, made_up, play, shrunk, trace_hash, workplace

_TWICE = 100
"""Every so many histories, one is run twice more: its effects must be the same."""
_TIDY = 10
"""Every so many histories, objects that refer to each other are collected; a fifth of the time goes into it else."""
_YOUNG = 30
"""Histories after which a process has all that it keeps …"""
_GROWTH = 64
"""… but for so many MiB, and not one descriptor."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.add_argument("--histories", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1, help="of the first history")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--trace", action="store_true", help="print each effect of one history")
    parser.add_argument("--most", type=int, default=3, help="failing histories before it ends")
    given = parser.parse_args()
    if given.trace:
        with workplace() as place:
            history = shrunk(made_up(given.seed, given.steps), place)
            print(history)  # noqa: T201
            play(history, place, trace=print)
        return
    shares = [
        (given.seed + job, given.histories // given.jobs, given.jobs, given.steps, given.most)
        for job in range(given.jobs)
    ]
    started = time.monotonic()
    if given.jobs == 1:
        results = [share(shares[0])]
    else:
        with multiprocessing.Pool(given.jobs) as pool:
            results = pool.map(share, shares)
    seconds, run = time.monotonic() - started, sum(count for count, _ in results)
    failed = [seed for _, seeds in results for seed in seeds]
    spent = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = sum(one.ru_utime + one.ru_stime for one in spent)
    print(  # noqa: T201
        f"{run} histories in {seconds:.0f} s, {run / seconds * 60:.0f} a minute"
        f" ({run / processor * 60:.0f} a minute of processor time); failed: {failed or 'none'}"
    )
    sys.exit(bool(failed))


def share(given: tuple[int, int, int, int, int]) -> tuple[int, list[int]]:
    """Run one process's histories; return how many, and the seeds that failed."""
    first, histories, stride, steps, most = given
    failed: list[int] = []
    done, young = 0, (0, 0)
    gc.disable()
    with workplace() as place:
        for number in range(histories):
            seed = first + number * stride
            history = made_up(seed, steps)
            wrong = failure(history, place)
            done += 1
            if done % _TIDY == 0:
                gc.collect()
            if done % _TWICE == 0 and wrong is None:
                twice = {trace_hash(history, place) for _ in range(2)}
                wrong = "it does not repeat" if len(twice) > 1 else None
            if done == 1:
                gc.freeze()  # What every history uses is not looked through again.
            if done == _YOUNG:
                young = _held()
            if wrong is not None:
                failed.append(seed)
                gc.enable()
                shorter = shrunk(history, place)
                gc.disable()
                print(f"seed {seed}: {failure(shorter, place)}\n{shorter}", flush=True)  # noqa: T201
                if len(failed) >= most:
                    break
    if done > _YOUNG:
        old = _held()
        said = f"descriptors {young[0]} and {old[0]}, memory {young[1]} and {old[1]} MiB"
        print(said, flush=True)  # noqa: T201
        if old[0] > young[0] or old[1] > young[1] + _GROWTH:
            failed.append(-1)
    return done, failed


def _held() -> tuple[int, int]:
    """Return how many descriptors this process has, and MiB of memory."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return len(os.listdir("/proc/self/fd")), pages * os.sysconf("SC_PAGE_SIZE") >> 20


if __name__ == "__main__":
    main()
