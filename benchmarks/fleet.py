"""A migration on a Dask cluster of one, two and four workers, from and to a store that is far away.

Scheduler, workers and server are processes on loopback. Each request to the
server takes 30 ms longer to get there (`delay`), and a worker makes few
transfers at once, so that it waits for the store most of its time: what grows
with the workers then is how many requests wait at the same time. On a machine
of two cores many transfers for each worker would measure the cores.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import servers, workloads
from benchmarks.measure import Sample
from benchmarks.scenarios import Bench, Round, Scenario, Shape, counted
from benchmarks.stores import served_folder
from benchmarks.tools import Tool, all_tools

_DELAY = 0.03
"""Seconds each request takes longer."""
_TRANSFERS = 4
"""Transfers at once of each worker."""
_WORKERS = {"1 worker": 1, "2 workers": 2, "4 workers": 4}
_SECONDS = 400
_SOURCE = Path("bucket")
_WAIT = (
    "import sys; from distributed import Client;"
    " Client(sys.argv[1], timeout=60).wait_for_workers(int(sys.argv[2]), timeout=60)"
)


def tools() -> list[Tool]:
    """Return one fleet of each size; its `upload` is given the bucket to copy to, and the scheduler."""
    return [_migrate(name) for name in _WORKERS]


def _migrate(name: str) -> Tool:
    (version,) = (tool.version for tool in all_tools() if tool.name == "craftsync")

    def move(bucket: Path, scheduler: str) -> list[str]:
        return [
            *(version[0], "migrate", "-q", "--stream", "--transfers", str(_TRANSFERS)),
            *("--dask", scheduler, f"s3://{_SOURCE}", f"s3://{bucket}"),
        ]

    return Tool(name=name, version=version, upload=move, download=move)


def by_workers(name: str, shape: Shape) -> Scenario:
    """Bring the objects of a bucket into another that holds none of them, with fleets of all sizes."""

    @contextmanager
    def opened(work: Path) -> Iterator[Round]:
        bench = Bench.at(work, _SECONDS)
        with (
            served_folder(2 * shape.bytes) as served,
            servers.rclone_serve(served, work / "server.log") as endpoint,
            servers.delayed(endpoint, _DELAY, work / "delay.log") as far_endpoint,
        ):
            full = served / _SOURCE
            workloads.random_files(full, folders=shape.folders, files=shape.files, size=shape.size)
            skeleton = workloads.skeleton(full, work / "skeleton")

            def once(tool: Tool) -> Sample:
                bucket, home = bench.fresh("target"), bench.home()
                servers.make_folders(endpoint, home, skeleton, bucket)
                with _cluster(_WORKERS[tool.name], far_endpoint, home) as scheduler:
                    sample = bench.time(tool.upload(Path(bucket), scheduler), far_endpoint, home)
                sample = counted(sample, full, served / bucket)
                shutil.rmtree(served / bucket)
                return sample

            yield once

    amount = shape.folders * shape.files
    alone = next(iter(_WORKERS))
    return Scenario(name, amount, "objects", opened, most_runs=2, tools=tools, alone=alone)


@contextmanager
def _cluster(workers: int, endpoint: str, home: Path) -> Iterator[str]:
    """Run a scheduler and its workers, which find the store at the endpoint; yields its address."""
    with ExitStack() as stack:
        scheduler = stack.enter_context(servers.dask_scheduler(home / "scheduler.log"))
        for number in range(workers):
            stack.enter_context(_worker(scheduler, endpoint, home / f"worker-{number}"))
        _await_workers(scheduler, workers)
        yield scheduler


@contextmanager
def _worker(scheduler: str, endpoint: str, home: Path) -> Iterator[None]:
    """Run a worker as on a machine of its own, with its own home and state."""
    home.mkdir()
    command = [
        *(sys.executable, "-m", "distributed.cli.dask_worker", scheduler),
        *("--host", "127.0.0.1", "--nthreads", "1", "--no-nanny", "--no-dashboard"),
        *("--local-directory", str(home)),
    ]
    variables = servers.environment(endpoint, home)
    with servers.process(command, home / "worker.log", variables):
        yield


def _await_workers(scheduler: str, count: int) -> None:
    """Wait in a process of its own: `distributed` would raise the memory of this one."""
    command = [sys.executable, "-c", _WAIT, scheduler, str(count)]
    subprocess.run(command, check=True, timeout=120)


def all_scenarios(*, quick: bool) -> list[Scenario]:
    """Return what is measured; `quick` is a small form of it."""
    shape = Shape(folders=3 if quick else 50, files=100, size=4 << 10)
    return [by_workers("migrate-fleet", shape)]
