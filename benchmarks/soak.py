"""Leaves the daemon alone with everything that goes wrong: an hour of work on both sides, faults, and kills.

    python -m benchmarks.soak [--minutes N] [--faults SHARE] [--kill-every SECONDS] [--seed N]

The installed program watches a root and a bucket of `rclone serve s3`, behind a
proxy that lets a share of its requests go wrong, and is killed and started
again the whole time. In the end, with the faults over, both sides must be the
same, byte for byte, and hold what their authors left. The figures go to the
terminal; exit code 1 means that something was lost, left behind or leaked.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from benchmarks import servers
from benchmarks.authors import Author, Meeting
from benchmarks.daemon import CRAFTSYNC, TIMEOUT, Daemon, Usage, pause
from benchmarks.faults import Faults, faulty
from benchmarks.sides import RootSide, StoreSide
from benchmarks.soaked import (
    BUCKET,
    SHARED,
    World,
    differences,
    left_behind,
    lost,
    misplaced,
    sizes,
    tree,
)

SAMPLE_SECONDS = 10.0
ROOT_PAUSE, STORE_PAUSE, MEETING_PAUSE = 0.2, 0.5, 5.0
"""Seconds between what happens on a side, on average."""
REPORT_SECONDS = 300.0
SETTLING_SECONDS = 180.0
OPTIONS = ("--poll", "10", "--max-delete", "100%")
"""People who delete all the time have to allow it."""
FEWEST_LIVES = 20
"""Fewer say nothing: a life that meets a large transfer at its end holds more than one that does not."""
MORE_DESCRIPTORS, MORE_MEMORY = 4, 1.15
"""What counts as a leak: so many more at the end than at the beginning, so many times the memory."""


def main() -> None:
    options = _parser().parse_args()
    work = Path(tempfile.mkdtemp(dir=options.folder))
    findings = _soak(work, options)
    for finding in findings:
        _say(f"WRONG: {finding}")
    if findings:
        sys.exit(f"Everything is still in {work}.")
    shutil.rmtree(work)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak")
    parser.add_argument("--minutes", type=float, default=60, help="how long (60)")
    parser.add_argument("--faults", type=float, default=0.05, help="share of requests (0.05)")
    parser.add_argument("--kill-every", type=float, default=60, help="seconds of a life (60)")
    parser.add_argument("--seed", type=int, default=1, help="of chance (1)")
    parser.add_argument("--folder", help="where to work; the system's temporary folder without it")
    return parser


def _say(words: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {words}\n")
    sys.stdout.flush()


def _soak(work: Path, options: argparse.Namespace) -> list[str]:
    """Return what is wrong in the end, in words."""
    with _world(work, options) as world:
        for author in world.authors.values():
            for _ in range(200):
                author.work()
        world.faults.share = options.faults
        world.daemon.start()
        try:
            with _at_work(world, options.seed) as troubles:
                lives = _lives(world, options, troubles)
            world.faults.share = 0.0
            _say("the faults are over")
            findings = troubles + _in_step(world) + _leaks(lives)
        finally:
            world.daemon.end(signal.SIGTERM)
        findings += _one_more_pass(world) + left_behind(world) + lost(world)
        _tell(world, lives)
        return findings


@contextmanager
def _world(work: Path, options: argparse.Namespace) -> Iterator[World]:
    import boto3
    from botocore.config import Config

    root = work / "root"
    root.mkdir()
    (work / "served" / BUCKET).mkdir(parents=True)
    faults = Faults(0.0, options.seed)
    with (
        servers.rclone_serve(work / "served", work / "server.log") as endpoint,
        faulty(endpoint, faults) as proxied,
    ):
        client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id=servers.ACCESS_KEY,
            aws_secret_access_key=servers.SECRET_KEY,
            region_name="us-east-1",
            config=Config(retries={"max_attempts": 10}),
        )
        sides = {"root": RootSide(root), "store": StoreSide(client, BUCKET)}
        authors = {
            name: Author(side, f"of the {name}", Random(f"{options.seed} {name}"))
            for name, side in sides.items()
        }
        meeting = Meeting(sides["root"], sides["store"], SHARED, Random(options.seed))
        variables = servers.environment(proxied, work)
        daemon = Daemon(work, f"s3://{BUCKET}", variables, OPTIONS)
        yield World(work, daemon, client, faults, authors, meeting)


@contextmanager
def _at_work(world: World, seed: int) -> Iterator[list[str]]:
    """Let everybody work until the end of the block; yields what nobody expected, as it comes up."""
    stop, troubles = threading.Event(), list[str]()

    def goes_on(work: Callable[[], None], seconds: float) -> None:
        random = Random(f"{seed} {seconds}")
        while not stop.wait(random.expovariate(1 / seconds)):
            try:
                work()
            except Exception:  # noqa: BLE001 (whatever it is, it is a finding)
                troubles.append(traceback.format_exc())

    jobs = (
        (world.authors["root"].work, ROOT_PAUSE),
        (world.authors["store"].work, STORE_PAUSE),
        (world.meeting.work, MEETING_PAUSE),
    )
    threads = [threading.Thread(target=goes_on, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    try:
        yield troubles
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _lives(world: World, options: argparse.Namespace, troubles: list[str]) -> list[list[Usage]]:
    """Kill the daemon again and again; return what each of its lives held, at equal ages."""
    lives: list[list[Usage]] = []
    end = time.monotonic() + options.minutes * 60
    step = min(SAMPLE_SECONDS, options.kill_every / 3)
    told_at = time.monotonic()
    while time.monotonic() < end and not troubles:
        born = time.monotonic()
        lives.append([])
        while (age := (len(lives[-1]) + 1) * step) < options.kill_every:
            pause(born + age - time.monotonic())
            lives[-1].append(world.daemon.usage())
        pause(born + options.kill_every - time.monotonic())
        world.daemon.check()
        world.daemon.end(signal.SIGKILL)
        world.daemon.start()
        if time.monotonic() - told_at > REPORT_SECONDS:
            told_at = time.monotonic()
            _say(f"{len(lives)} kills, {_load(world)}; now {lives[-1][-1]}")
    return lives


def _in_step(world: World) -> list[str]:
    """Wait until both sides hold the same; return the differences if that does not come about."""
    started = time.monotonic()
    while time.monotonic() - started < SETTLING_SECONDS:
        world.daemon.check()
        if sizes(world.root) == sizes(world.bucket) and differences(world) == []:
            _say(f"in sync after {time.monotonic() - started:.0f} s")
            return []
        pause(2.0)
    return differences(world)


def _one_more_pass(world: World) -> list[str]:
    """Return what a run over everything still finds to do."""
    command = [CRAFTSYNC, "sync", "--json", *world.daemon.pair]
    run = subprocess.run(
        command, env=world.daemon.environment, capture_output=True, text=True, timeout=TIMEOUT
    )
    done = [line for line in run.stdout.splitlines() if json.loads(line)["type"] != "summary"]
    return done if run.returncode == 0 else [*done, f"exit code {run.returncode}: {run.stderr}"]


def _leaks(lives: list[list[Usage]]) -> list[str]:
    """Return what the last quarter of the lives held more of than the first."""
    if len(lives) < FEWEST_LIVES:
        return []
    first, last = _quarters(lives)
    findings = []
    if last.descriptors > first.descriptors + MORE_DESCRIPTORS:
        findings.append(f"descriptors grow from {first.descriptors} to {last.descriptors}")
    if last.memory > first.memory * MORE_MEMORY:
        findings.append(f"memory grows from {first.memory} to {last.memory} MB")
    return findings


def _quarters(lives: list[list[Usage]]) -> tuple[Usage, Usage]:
    """Return the medians of the first and of the last quarter of the lives, at their greatest age."""
    many = max(1, len(lives) // 4)
    return _median([life[-1] for life in lives[:many]]), _median(
        [life[-1] for life in lives[-many:]]
    )


def _median(usages: list[Usage]) -> Usage:
    return Usage(*(round(statistics.median(values)) for values in zip(*usages, strict=True)))


def _tell(world: World, lives: list[list[Usage]]) -> None:
    """Print the figures."""
    first, last = _quarters(lives)
    young = _median([life[0] for life in lives])
    old = _median([life[-1] for life in lives])
    most = Usage(
        *(max(values) for values in zip(*(u for life in lives for u in life), strict=True))
    )
    _say(f"{len(lives)} kills, {_load(world)}")
    _say(", ".join(f"{count} × {fault.value}" for fault, count in world.faults.made.items()))
    other, more = misplaced(world)
    _say(
        f"{len(tree(world.root))} files in the end; {other} not as left, {more} more than were left"
    )
    for what, *values in zip(Usage._fields, first, last, young, old, most, strict=True):
        _say(
            "{}: {} in the first quarter of the lives, {} in the last; "
            "{} in a young life, {} in an old one; {} at most".format(what, *values)
        )


def _load(world: World) -> str:
    done = ", ".join(f"{a.operations} in the {side}" for side, a in world.authors.items())
    return (
        f"operations: {done}, {world.meeting.operations} where both meet; "
        f"{sum(world.faults.made.values())} of {world.faults.requests} requests went wrong"
    )


if __name__ == "__main__":
    main()
