"""What is measured: for each scenario the preparation, the timed command, and when a run counts.

Every tool gets one untimed run first; then the tools take turns, so that a
machine that grows slower grows slower for all of them.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import servers, workloads
from benchmarks.measure import Sample, run
from benchmarks.stores import (
    OpenStore,
    at_distance,
    lean_store,
    rclone_store,
    served_folder,
    tls_store,
)
from benchmarks.tools import Command, Tool, all_tools, craftsync_alone, tools_at_distance

_CLOSE_SECONDS, _FAR_SECONDS, _FARTHER_SECONDS = 0.01, 0.03, 0.08
"""How much longer each request takes to a server behind a network."""
_SECONDS = 300
"""After so long a transfer has failed."""
SLOW = 8.0
"""A tool whose first run takes more seconds is run once only: that run counts."""
PAGE = 1000
"""The most objects on one page of an S3 listing."""
Round = Callable[[Tool], Sample | None]
"""Runs one tool once, from a fresh start; `None` when the tool cannot do the job."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One thing that is measured. `amount` of `unit` are handled by each run."""

    name: str
    amount: int
    unit: str
    open: Callable[[Path], AbstractContextManager[Round]]
    """Makes files and servers in an empty folder, and removes the servers afterwards."""
    most_runs: int = 100
    tools: Callable[[], list[Tool]] = all_tools
    alone: str = ""
    """The tool whose speed the others multiply, where they are one program on more machines."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How many files of what size in bytes, in how many folders."""

    folders: int
    files: int
    size: int

    @property
    def bytes(self) -> int:
        return self.folders * self.files * self.size


@dataclass(slots=True)
class Bench:
    """The working folder of one scenario, and fresh names in it."""

    work: Path
    timeout: float
    certificate: Path | None
    """What the tools trust besides the usual."""
    _numbers: Iterator[int]

    @classmethod
    def at(cls, work: Path, timeout: float, certificate: Path | None = None) -> Bench:
        return cls(work, timeout, certificate, itertools.count(100))

    def fresh(self, stem: str) -> str:
        return f"{stem}-{next(self._numbers)}"

    def home(self) -> Path:
        """Return a new home folder: no tool remembers anything from an earlier run."""
        folder = self.work / self.fresh("home")
        folder.mkdir()
        return folder

    def time(self, command: Command, endpoint: str, home: Path) -> Sample:
        variables = servers.environment(endpoint, home, self.certificate)
        # A tool that makes its downloads durable would write those of the one before it to disk, too.
        os.sync()
        return run(
            command, environment=variables, log=self.work / "output.log", timeout=self.timeout
        )


def measure(
    scenario: Scenario, tools: Iterable[Tool], runs: int, work: Path
) -> dict[str, list[Sample]]:
    """Return the samples of each tool. One that fails is not run again, nor one that is slow."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    samples: dict[str, list[Sample]] = {}
    with scenario.open(work) as once:
        contenders = list(tools)
        for turn in range(min(runs, scenario.most_runs) + 1):
            for tool in contenders.copy():
                sample = once(tool)
                is_last = sample is None or sample.failure or (not turn and sample.wall > SLOW)
                if sample is not None and (turn or is_last):
                    samples.setdefault(tool.name, []).append(sample)
                if is_last:
                    contenders.remove(tool)
            contenders.reverse()
    shutil.rmtree(work)
    return samples


def upload(
    name: str, shape: Shape, delay: float = 0.0, store: OpenStore = rclone_store
) -> Scenario:
    """Bring files into a bucket that holds none of them; each request takes `delay` seconds longer to the server."""

    @contextmanager
    def opened(work: Path) -> Iterator[Round]:
        source, skeleton = _carried_files(work, shape)
        with store(work, delay) as served:
            bench = Bench.at(work, _SECONDS, served.certificate)

            def once(tool: Tool) -> Sample:
                bucket, home = bench.fresh("bucket"), bench.home()
                served.prepare(bucket, skeleton, home)
                with own_folder(source, home / "shelf"):
                    sample = bench.time(tool.upload(source, bucket), served.address, home)
                sample = counted(sample, source, served.content(bucket))
                served.forget(bucket)
                return sample

            yield once

    return Scenario(name, shape.folders * shape.files, "files", opened, tools=_tools_for(delay))


def download(
    name: str, shape: Shape, delay: float = 0.0, store: OpenStore = rclone_store
) -> Scenario:
    """Bring the objects of a bucket into an empty folder; each request takes `delay` seconds longer to the server."""

    @contextmanager
    def opened(work: Path) -> Iterator[Round]:
        source, _ = _carried_files(work, shape)
        with store(work, delay) as served:
            bench = Bench.at(work, _SECONDS, served.certificate)
            served.fill("bucket", source, bench.home())

            def once(tool: Tool) -> Sample:
                target = work / bench.fresh("target")
                target.mkdir()
                sample = bench.time(tool.download(target, "bucket"), served.address, bench.home())
                return counted(sample, source, target)

            yield once

    return Scenario(name, shape.folders * shape.files, "files", opened, tools=_tools_for(delay))


def renames(name: str, shape: Shape, timeout: float, delay: float) -> Scenario:
    """Rename the only folder of a root and bring that to the bucket; the bytes stay where they are."""

    @contextmanager
    def opened(work: Path) -> Iterator[Round]:
        bench = Bench.at(work, timeout)
        with (
            served_folder() as served,
            servers.rclone_serve(served, work / "server.log") as endpoint,
            at_distance(endpoint, delay, work) as far,
        ):

            def once(tool: Tool) -> Sample:
                bucket, home, root = bench.fresh("bucket"), bench.home(), work / bench.fresh("root")
                files = {"folders": shape.folders, "files": shape.files, "size": shape.size}
                workloads.random_files(root / "old", **files)
                skeleton = workloads.skeleton(root, home / "skeleton")
                (skeleton / "old").rename(skeleton / "new")
                servers.make_folders(endpoint, home, skeleton, bucket)
                bench.time(tool.upload(root, bucket), endpoint, home)
                (root / "old").rename(root / "new")
                sample = bench.time(tool.upload(root, bucket), far, home)
                return counted(sample, root / "new", served / bucket / "new")

            yield once

    amount = shape.folders * shape.files
    return Scenario(name, amount, "renames", opened, tools=craftsync_alone)


def _tools_for(delay: float) -> Callable[[], list[Tool]]:
    return tools_at_distance if delay else all_tools


def nothing_to_do(name: str, count: int, timeout: float, *, most_runs: int = 100) -> Scenario:
    """Find out that a folder and a bucket are the same.

    craftsync compares with what it recorded when it saw them last; its first,
    untimed run is where it records that. The others record nothing.
    """

    @contextmanager
    def opened(work: Path) -> Iterator[Round]:
        bench = Bench.at(work, timeout)
        root = work / "root"
        workloads.listed_files(root, count)
        home = bench.home()
        with servers.static_listing(count, work / "server.log") as endpoint:

            def once(tool: Tool) -> Sample | None:
                if tool.resync is None:
                    return None
                before = servers.pages_listed(endpoint)
                with own_folder(root, home / f"shelf of {tool.name}"):
                    sample = bench.time(tool.resync(root, "bucket"), endpoint, home)
                listed = servers.pages_listed(endpoint) - before
                if not sample.failure and listed < count / PAGE:
                    return replace(sample, failure=f"only {listed} pages were listed")
                return sample

            yield once

    return Scenario(name, count, "paths", opened, most_runs)


def start_up(name: str) -> Scenario:
    """Say the version."""

    @contextmanager
    def opened(work: Path) -> Iterator[Round]:
        bench = Bench.at(work, timeout=30)
        home = bench.home()
        yield lambda tool: bench.time(tool.version, "http://127.0.0.1:9", home)

    return Scenario(name, 1, "starts", opened)


def one_file(name: str) -> Scenario:
    """Bring one new file into a folder next to it: no server, and nothing known beforehand."""

    @contextmanager
    def opened(work: Path) -> Iterator[Round]:
        bench = Bench.at(work, timeout=30)
        root = work / "root"
        workloads.random_files(root, folders=1, files=1, size=4096)

        def once(tool: Tool) -> Sample | None:
            store = work / bench.fresh("store")
            if tool.copy is None:
                return None
            store.mkdir()
            home = bench.home()
            with own_folder(root, home / "shelf"):
                sample = bench.time(tool.copy(root, store), "http://127.0.0.1:9", home)
            return counted(sample, root, store)

        yield once

    return Scenario(name, 1, "files", opened)


def all_scenarios(*, quick: bool) -> list[Scenario]:
    """Return what is measured, in the order of docs/benchmarks.md; `quick` is a small form of each."""
    small = Shape(folders=5 if quick else 50, files=100, size=4 << 10)
    large = Shape(folders=1, files=4, size=(8 if quick else 128) << 20)
    far_small = replace(small, folders=5 if quick else 30)
    one_large = replace(large, files=1, size=(16 if quick else 512) << 20)
    many, most = (2_000, 10_000) if quick else (200_000, 1_000_000)
    return [
        upload("upload-small", small),
        download("download-small", small),
        upload("upload-large", large),
        download("download-large", large),
        nothing_to_do("nothing-to-do", many, 300),
        nothing_to_do("million", most, 600, most_runs=1),
        start_up("start-up"),
        one_file("one-file"),
        upload("upload-small-far", far_small, _FAR_SECONDS),
        download("download-small-far", far_small, _FAR_SECONDS),
        upload("upload-small-farther", far_small, _FARTHER_SECONDS),
        download("download-small-farther", far_small, _FARTHER_SECONDS),
        upload("upload-large-far", one_large, _FAR_SECONDS),
        download("download-large-far", one_large, _FAR_SECONDS),
        renames("renames-far", far_small, 300, _FAR_SECONDS),
        *_to_lean_server(small, far_small, large, one_large),
    ]


def _to_lean_server(
    small: Shape, far_small: Shape, large: Shape, one_large: Shape
) -> Iterator[Scenario]:
    """Yield what is measured with a server that costs little, plain and over TLS; names end with the milliseconds."""
    rows = [
        ("small", small, lean_store, 0.0),
        ("small", far_small, lean_store, _CLOSE_SECONDS),
        ("small", far_small, lean_store, _FAR_SECONDS),
        ("large", large, lean_store, 0.0),
        ("large", large, lean_store, _FAR_SECONDS),
        ("one-large", one_large, lean_store, 0.0),
        ("one-large", one_large, lean_store, _FAR_SECONDS),
        ("small-tls", far_small, tls_store, _FAR_SECONDS),
        ("one-large-tls", one_large, tls_store, _FAR_SECONDS),
    ]
    for name, shape, store, delay in rows:
        what = f"{name}-lean-{delay * 1000:.0f}"
        yield upload(f"upload-{what}", shape, delay, store)
        yield download(f"download-{what}", shape, delay, store)


def _carried_files(work: Path, shape: Shape) -> tuple[Path, Path]:
    """Write the files; return their folder, and a tree of the same folders."""
    source = work / "source"
    workloads.random_files(source, folders=shape.folders, files=shape.files, size=shape.size)
    return source, workloads.skeleton(source, work / "skeleton")


@contextmanager
def own_folder(root: Path, shelf: Path) -> Iterator[None]:
    """Put the folder that craftsync keeps in a root back for its run, and away after it.

    The other tools would take it for a part of the workload.
    """
    own = root / ".craftsync"
    if shelf.exists():
        shelf.rename(own)
    yield
    if own.exists():
        own.rename(shelf)


def counted(sample: Sample, expected: Path, actual: Path) -> Sample:
    """A run counts only when every byte arrived."""
    if sample.failure:
        return sample
    return replace(sample, failure=workloads.difference(expected, actual))
