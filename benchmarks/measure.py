"""Runs one command to its end and says what it cost.

The kernel carries the peak memory of a process across `exec`, so no sample can
be lower than the memory of the process that starts it: this package imports
nothing heavy, and stays below every tool it measures.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MOST_MEMORY = 4 << 30
"""Bytes a tool may hold; a benchmark must not take the machine down."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run of one command took. Seconds and bytes; `cpu` is user plus system."""

    wall: float
    cpu: float
    rss: int
    failure: str = ""
    """Why the run does not count; empty when it does."""


def run(command: list[str], *, environment: Mapping[str, str], log: Path, timeout: float) -> Sample:
    """Run the command in a session of its own, its output going to `log`.

    After `timeout` seconds, or when the process holds more than `MOST_MEMORY`,
    the whole session is killed and the sample says so.
    """
    started = time.perf_counter()
    pid = start(command, environment, log)
    cut_short = _wait(pid, timeout)
    if cut_short:
        os.killpg(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - started
    return Sample(
        wall=wall,
        cpu=usage.ru_utime + usage.ru_stime,
        rss=usage.ru_maxrss * 1024,
        failure=cut_short or _failure(status, log),
    )


def start(command: list[str], environment: Mapping[str, str], log: Path) -> int:
    """Start a command in a session of its own, its output going to `log`; return its process id."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    return os.posix_spawn(
        command[0],
        command,
        environment,
        setsid=True,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
    )


def _wait(pid: int, timeout: float) -> str:
    """Wait until the process has ended; return why it should be ended, if it should, else ""."""
    deadline = time.monotonic() + timeout
    descriptor = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        while not poll.poll(1000):
            if time.monotonic() > deadline:
                return f"not done after {timeout:.0f} s"
            if _memory(pid) > MOST_MEMORY:
                return f"more than {MOST_MEMORY >> 30} GiB of memory"
        return ""
    finally:
        os.close(descriptor)


def _memory(pid: int) -> int:
    """Return the resident bytes of a process that has not been waited for."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _failure(status: int, log: Path) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return ""
    lines = log.read_text(errors="replace").strip().splitlines()
    return f"exit code {code}: {lines[-1][:200] if lines else 'no output'}"
