"""The installed program as a daemon: started, killed and looked at from outside, as its users would."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import NamedTuple

from benchmarks.tools import BIN

CRAFTSYNC = str(BIN / "craftsync")
TIMEOUT = 600.0


class Usage(NamedTuple):
    """What a process holds at one moment; memory is the resident part, in MB."""

    descriptors: int
    memory: int
    threads: int


class Daemon:
    """`craftsync watch` over `work/root` and a store. What it logs is in `work/watch.log`, of all its lives."""

    def __init__(
        self, work: Path, store: str, variables: dict[str, str], options: tuple[str, ...] = ()
    ) -> None:
        self.work = work
        self.log = work / "watch.log"
        self.pair = (str(work / "root"), store)
        self.environment = own_variables(work) | variables
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return self._running.pid

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        """Return the process; one that has ended of itself ends the measurement."""
        process = self._process
        if process is None or process.poll() is not None:
            raise SystemExit(f"the daemon ended: {self.log.read_text()[-500:]}")
        return process

    def start(self) -> None:
        command = [CRAFTSYNC, "watch", "--quiet", *self._options, *self.pair]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=subprocess.STDOUT
            )

    def check(self) -> None:
        """End the measurement if the daemon has ended of itself."""
        assert self._running

    def end(self, how: signal.Signals) -> int:
        """Send a signal and wait for the end; return the exit code. Nothing happens to one that has ended."""
        assert self._process is not None
        self._process.send_signal(how)
        return self._process.wait(TIMEOUT)

    def cpu(self) -> float:
        """Return the seconds of CPU the process and its ended children have used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def usage(self) -> Usage:
        process = Path(f"/proc/{self.pid}")
        pages = int((process / "statm").read_text().split()[1])
        return Usage(
            len(os.listdir(process / "fd")),
            pages * os.sysconf("SC_PAGE_SIZE") // 1_000_000,
            len(os.listdir(process / "task")),
        )


@contextmanager
def watching(work: Path, store: str, variables: dict[str, str], *options: str) -> Iterator[Daemon]:
    """Keep `work/root` in sync with a store until the end of the block."""
    daemon = Daemon(work, store, variables, options)
    daemon.start()
    try:
        yield daemon
        daemon.check()
    finally:
        daemon.end(signal.SIGTERM)


def own_variables(work: Path) -> dict[str, str]:
    """Return an environment in which nothing of the user's is read."""
    return {"HOME": str(work), "PATH": os.defpath, "CRAFTSYNC_STATE_DIR": str(work / "state")}


def until(condition: Callable[[], bool], every: float = 0.005, timeout: float = TIMEOUT) -> None:
    """Wait for a condition; without it the measurement ends."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("the daemon did not do it in time")
        pause(every)


def pause(seconds: float) -> None:
    Event().wait(seconds)
