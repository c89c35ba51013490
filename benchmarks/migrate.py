"""From one bucket to another on one server: with the bytes going through the tool, and copied by the server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import servers, workloads
from benchmarks.measure import Sample
from benchmarks.scenarios import Bench, Round, Scenario, Shape, counted
from benchmarks.stores import served_folder
from benchmarks.tools import BIN, Tool, all_tools

_SECONDS = 300
_SOURCE = Path("bucket")
"""The bucket every run copies from; a tool's `upload` is given its name in the place of a folder's."""


def streaming() -> list[Tool]:
    """Return what carries bytes from bucket to bucket. (s5cmd always lets the server copy.)"""
    return [_craftsync("--stream"), _rclone("--disable", "copy")]


def by_server() -> list[Tool]:
    """Return what lets the server copy."""
    return [_craftsync(), _rclone(), _s5cmd()]


def tools() -> list[Tool]:
    return by_server()


def _craftsync(*how: str) -> Tool:
    program = str(BIN / "craftsync")
    return _mover(
        "craftsync",
        [program, "migrate", "-q", *how],
        ["s3://{source}", "s3://{target}"],
        peer=False,
    )


def _rclone(*how: str) -> Tool:
    program = str(BIN / "rclone")
    remote = [
        *("--s3-provider", "Rclone", "--s3-env-auth"),
        *("--transfers", "16", "--checkers", "16", "--fast-list"),
    ]
    return _mover("rclone", [program, "copy", *remote, *how], [":s3:{source}", ":s3:{target}"])


def _s5cmd() -> Tool:
    (program,) = {tool.version[0] for tool in all_tools() if tool.name == "s5cmd"}
    quiet = [program, "--log", "error", "cp"]
    return _mover("s5cmd", quiet, ["s3://{source}/*", "s3://{target}/"])


def _mover(name: str, command: list[str], places: list[str], *, peer: bool = True) -> Tool:
    """Return a tool whose transfers go from a bucket to a bucket."""
    (version,) = (tool.version for tool in all_tools() if tool.name == name)

    def move(source: Path, target: str) -> list[str]:
        return [*command, *(place.format(source=source, target=target) for place in places)]

    return Tool(name=name, version=version, upload=move, download=move, peer=peer)


def between_buckets(name: str, shape: Shape, *, streamed: bool) -> Scenario:
    """Bring the objects of a bucket into another that holds none of them."""

    @contextmanager
    def opened(work: Path) -> Iterator[Round]:
        bench = Bench.at(work, _SECONDS)
        with (
            served_folder(2 * shape.bytes) as served,
            servers.rclone_serve(served, work / "server.log") as endpoint,
        ):
            full = served / _SOURCE
            workloads.random_files(full, folders=shape.folders, files=shape.files, size=shape.size)
            skeleton = workloads.skeleton(full, work / "skeleton")

            def once(tool: Tool) -> Sample:
                bucket, home = bench.fresh("target"), bench.home()
                servers.make_folders(endpoint, home, skeleton, bucket)
                sample = bench.time(tool.upload(_SOURCE, bucket), endpoint, home)
                sample = counted(sample, full, served / bucket)
                shutil.rmtree(served / bucket)
                return sample

            yield once

    which = streaming if streamed else by_server
    return Scenario(name, shape.folders * shape.files, "objects", opened, tools=which)


def all_scenarios(*, quick: bool) -> list[Scenario]:
    """Return what is measured; `quick` is a small form of each."""
    small = Shape(folders=5 if quick else 50, files=100, size=4 << 10)
    large = Shape(folders=1, files=4, size=(20 if quick else 128) << 20)
    return [
        between_buckets("migrate-small-streamed", small, streamed=True),
        between_buckets("migrate-large-streamed", large, streamed=True),
        between_buckets("migrate-small-by-server", small, streamed=False),
        between_buckets("migrate-large-by-server", large, streamed=False),
    ]
