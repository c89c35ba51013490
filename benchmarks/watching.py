"""Measures the daemon: from an edit to the store, idle over many files, and a burst of new ones.

    python -m benchmarks.watching [--files N] [--idle SECONDS] [--burst N] [--edits N]

Runs the installed program as its users run it. The figures go to the terminal;
the page of the benchmarks does not hold them, for they are craftsync's alone.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import servers
from benchmarks.daemon import CRAFTSYNC, TIMEOUT, own_variables, pause, until, watching
from benchmarks.workloads import listed_files

BUCKET = "watched"

Arrived = Callable[[str], bool]


def main() -> None:
    options = _parser().parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        work = Path(name)
        _say("edit → a directory store", _latency_to_a_folder(work / "folder", options.edits))
        _say("edit → rclone serve s3", _latency_to_s3(work / "s3", options.edits))
        _say("idle", _idle(work / "idle", options.files, options.idle))
        _say("burst", _burst(work / "burst", options.burst))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watching")
    parser.add_argument("--edits", type=int, default=30, help="edits whose way is timed (30)")
    parser.add_argument("--files", type=int, default=100_000, help="files to be idle over (100000)")
    parser.add_argument("--idle", type=float, default=600, help="seconds to be idle (600)")
    parser.add_argument("--burst", type=int, default=20_000, help="files made at once (20000)")
    parser.add_argument("--folder", help="where to work; the system's temporary folder without it")
    return parser


def _say(what: str, figures: str) -> None:
    sys.stdout.write(f"{what}: {figures} (load {os.getloadavg()[0]:.1f})\n")
    sys.stdout.flush()


def _latency_to_a_folder(work: Path, edits: int) -> str:
    (work / "root").mkdir(parents=True)
    with watching(work, str(work / "store"), {}):
        return _latency(work / "root", lambda name: (work / "store" / name).exists(), edits)


def _latency_to_s3(work: Path, edits: int) -> str:
    import boto3

    (work / "root").mkdir(parents=True)
    (work / "served" / BUCKET).mkdir(parents=True)
    with servers.rclone_serve(work / "served", work / "server.log") as endpoint:
        client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id=servers.ACCESS_KEY,
            aws_secret_access_key=servers.SECRET_KEY,
            region_name="us-east-1",
        )

        def arrived(name: str) -> bool:
            listed = client.list_objects_v2(Bucket=BUCKET, Prefix=name)
            return any(each["Key"] == name for each in listed.get("Contents", ()))

        variables = servers.environment(endpoint, work)
        with watching(work, f"s3://{BUCKET}", variables):
            return _latency(work / "root", arrived, edits)


def _latency(root: Path, arrived: Arrived, edits: int) -> str:
    """Time single edits, each after the daemon has come to rest."""
    until(lambda: _edit(root, "first") and arrived("first"))
    waits = []
    for number in range(edits):
        pause(0.7)
        started = time.monotonic()
        name = f"edit-{number}"
        _edit(root, name)
        until(lambda name=name: arrived(name))  # type: ignore[misc]
        waits.append(time.monotonic() - started)
    return f"median {statistics.median(waits):.3f} s, worst {max(waits):.3f} s of {edits}"


def _edit(root: Path, name: str) -> bool:
    if not (root / name).exists():
        (root / name).write_text("content")
    return True


def _idle(work: Path, files: int, seconds: float) -> str:
    """Keep many files in sync that nobody touches; say what that takes."""
    (work / "root").mkdir(parents=True)
    listed_files(work / "root", files)
    first = [CRAFTSYNC, "push", "--quiet", str(work / "root"), str(work / "store")]
    subprocess.run(first, env=own_variables(work), check=True, timeout=TIMEOUT)
    with watching(work, str(work / "store"), {}) as daemon:
        (work / "root/ready").write_text("ready")
        until((work / "store/ready").exists)
        pause(1.0)
        before = daemon.cpu()
        pause(seconds)
        share = (daemon.cpu() - before) / seconds
        return f"{files} files, {seconds:.0f} s: {share:.2%} of a core, {daemon.usage().memory} MB"


def _burst(work: Path, files: int) -> str:
    (work / "root/first").mkdir(parents=True)
    (work / "root/first/file").write_text("content")
    with watching(work, str(work / "store"), {}):
        until((work / "store/first/file").exists)
        started = time.monotonic()
        for number in range(files):
            folder = work / f"root/{number % 50:02}"
            if number < 50:
                folder.mkdir()
            (folder / str(number)).write_bytes(b"content")
        made = time.monotonic() - started
        until(lambda: sum(1 for _ in (work / "store").glob("[0-9]*/*")) == files, every=0.5)
        return f"{files} files made in {made:.1f} s, all there after {time.monotonic() - started:.1f} s"


if __name__ == "__main__":
    main()
