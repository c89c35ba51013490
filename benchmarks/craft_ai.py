"""A Craft AI data store: craftsync beside loops over the functions of the platform's own SDK.

The platform is `craftsync serve` over a folder in memory. Each run that fills an
environment has a server and a folder of its own, made before the clock starts.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks import servers, workloads
from benchmarks.measure import Sample
from benchmarks.scenarios import (
    Bench,
    Round,
    Scenario,
    Shape,
    counted,
    own_folder,
)
from benchmarks.stores import served_folder
from benchmarks.tools import BIN, Command, Tool

_LOOP = Path(__file__).with_name("sdk_loop.py")
_SDK_VERSION = "import importlib.metadata as m; print('craft-ai-sdk', m.version('craft-ai-sdk'))"
_SECONDS = 300
_CONFIG = "config.yaml"


def tools() -> list[Tool]:
    """Return what can carry files to and from an environment."""
    return [_craftsync(), _sdk("SDK, one thread", 1), _sdk("SDK, 16 threads", 16)]


def movers() -> list[Tool]:
    """Return what can copy one environment to another.

    A tool's `upload` is given its home folder, where a configuration names the
    two, and the address of the other one.
    """
    return [_migrate(), _sdk_move("SDK, one thread", 1), _sdk_move("SDK, 16 threads", 16)]


def _craftsync() -> Tool:
    program = str(BIN / "craftsync")
    return Tool(
        name="craftsync",
        version=[program, "--version"],
        upload=lambda folder, _: [program, "push", str(folder), "craft-ai://", "-q"],
        download=lambda folder, _: [program, "pull", str(folder), "craft-ai://", "-q"],
        peer=False,
    )


def _sdk(name: str, threads: int) -> Tool:
    loop = [sys.executable, str(_LOOP)]
    return Tool(
        name=name,
        version=[sys.executable, "-c", _SDK_VERSION],
        upload=lambda folder, _: [*loop, "upload", str(folder), str(threads)],
        download=lambda folder, _: [*loop, "download", str(folder), str(threads)],
    )


def _migrate() -> Tool:
    def move(home: Path, _: str) -> Command:
        config = str(home / _CONFIG)
        return [str(BIN / "craftsync"), "migrate", "-q", "--config", config, "from", "to"]

    return replace(_craftsync(), upload=move)


def _sdk_move(name: str, threads: int) -> Tool:
    def move(home: Path, target: str) -> Command:
        files = str(home / "files")
        return [sys.executable, str(_LOOP), "move", files, str(threads), target]

    return replace(_sdk(name, threads), upload=move)


def upload(name: str, shape: Shape, delay: float = 0.0) -> Scenario:
    """Bring files into an environment that holds none of them; each request takes `delay` seconds longer."""

    @contextmanager
    def opened(work: Path) -> Iterator[Round]:
        bench = Bench.at(work, _SECONDS)
        source = work / "source"
        workloads.random_files(source, folders=shape.folders, files=shape.files, size=shape.size)

        def once(tool: Tool) -> Sample:
            home = bench.home()
            with (
                served_folder(shape.bytes) as served,
                _environment(served, delay, work / "server") as address,
            ):
                with own_folder(source, home / "shelf"):
                    sample = bench.time(tool.upload(source, ""), address, home)
                return counted(sample, source, served)

        yield once

    return Scenario(name, shape.folders * shape.files, "files", opened, tools=tools)


def download(name: str, shape: Shape, delay: float = 0.0) -> Scenario:
    """Bring the objects of an environment into an empty folder; each request takes `delay` seconds longer."""

    @contextmanager
    def opened(work: Path) -> Iterator[Round]:
        bench = Bench.at(work, _SECONDS)
        with served_folder(shape.bytes) as served:
            workloads.random_files(
                served, folders=shape.folders, files=shape.files, size=shape.size
            )
            with _environment(served, delay, work / "server") as address:

                def once(tool: Tool) -> Sample:
                    target = work / bench.fresh("target")
                    target.mkdir()
                    sample = bench.time(tool.download(target, ""), address, bench.home())
                    return counted(sample, served, target)

                yield once

    return Scenario(name, shape.folders * shape.files, "files", opened, tools=tools)


def between_environments(name: str, shape: Shape, delay: float = 0.0) -> Scenario:
    """Copy the objects of an environment into another that holds none of them.

    Each request takes `delay` seconds longer to its server.
    """

    @contextmanager
    def opened(work: Path) -> Iterator[Round]:
        bench = Bench.at(work, _SECONDS)
        with served_folder(2 * shape.bytes) as full:
            workloads.random_files(full, folders=shape.folders, files=shape.files, size=shape.size)
            with _environment(full, delay, work / "source") as source:

                def once(tool: Tool) -> Sample:
                    home = bench.home()
                    with (
                        served_folder(shape.bytes) as empty,
                        _environment(empty, delay, work / "target") as target,
                    ):
                        _configure(home, source, target)
                        sample = bench.time(tool.upload(home, target), source, home)
                        return counted(sample, full, empty)

                yield once

    return Scenario(name, shape.folders * shape.files, "objects", opened, tools=movers)


@contextmanager
def _environment(folder: Path, delay: float, logs: Path) -> Iterator[str]:
    """Serve a folder as near or as far away as asked; yields the address."""
    with servers.craftsync_serve(folder, logs.with_suffix(".log")) as address:
        if not delay:
            yield address
            return
        with servers.delayed(address, delay, logs.with_suffix(".delay.log")) as far_address:
            yield far_address


def _configure(home: Path, source: str, target: str) -> None:
    """Write the configuration that names the two environments; the token of the variables opens both."""
    lines = (
        f"  {name}: {{store: craft-ai, url: '{url}', control_url: '{url}'}}"
        for name, url in (("from", source), ("to", target))
    )
    (home / _CONFIG).write_text("\n".join(["environments:", *lines, ""]))


def all_scenarios(*, quick: bool) -> list[Scenario]:
    """Return what is measured; `quick` is a small form of each."""
    small = Shape(folders=1 if quick else 10, files=20 if quick else 100, size=64 << 10)
    large = Shape(folders=1, files=2, size=(12 if quick else 300) << 20)
    moved = replace(large, size=(12 if quick else 100) << 20)
    few = replace(small, folders=1 if quick else 2)
    return [
        upload("craft-ai-small-up", small),
        download("craft-ai-small-down", small),
        upload("craft-ai-large-up", large),
        download("craft-ai-large-down", large),
        upload("craft-ai-small-up-far", few, delay=0.03),
        download("craft-ai-small-down-far", few, delay=0.03),
        between_environments("migrate-craft-ai-small", small),
        between_environments("migrate-craft-ai-large", moved),
        between_environments("migrate-craft-ai-far", few, delay=0.03),
    ]
