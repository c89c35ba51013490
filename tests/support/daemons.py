"""A running `craftsync watch`, for tests that steer it or look at it."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from tests.support.cli import DEADLINE, SCRIPT, Craftsync, Process, until


class Daemon:
    """The process, and what can be asked of it; its log is in `log`."""

    def __init__(self, craftsync: Craftsync, process: Process, log: Path) -> None:
        self.process = process
        self._craftsync = craftsync
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text()

    def status(self, *pair: str) -> dict[str, Any]:
        run = self._craftsync("status", "--json", *pair)
        assert run.code == 0, run.err
        facts: dict[str, Any] = json.loads(run.out)
        return facts

    def until_status(
        self, condition: Callable[[dict[str, Any]], object], what: str, *pair: str
    ) -> dict[str, Any]:
        """Wait until what `status` shows meets a condition, and return it."""
        shown: dict[str, Any] = {}

        def is_met() -> object:
            nonlocal shown
            shown = self.status(*pair)
            return condition(shown)

        until(is_met, what, pause=0.15)
        return shown

    def until_state(self, state: str, *pair: str) -> dict[str, Any]:
        """Wait until `status` shows this state, and return what it shows."""
        return self.until_status(lambda shown: shown["state"] == state, f"the state {state}", *pair)

    def until_logged(self, words: str) -> None:
        until(lambda: words in self.log, f"{words!r} in the log")

    def hang_up(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def end(self) -> int:
        """End it as a service manager does, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE)


@contextmanager
def running(
    craftsync: Craftsync, *words: str, under: tuple[str, ...] = (), **variables: str
) -> Iterator[Daemon]:
    """Run `craftsync watch`, away from any terminal, until the test is done with it.

    `under` is a program that becomes it, as `nohup` does.
    """
    log = craftsync.folder / "watch.log"
    with (
        log.open("wb") as stderr,
        _started(craftsync, under, words, variables, stderr) as process,
    ):
        try:
            yield Daemon(craftsync, process, log)
        finally:
            if process.poll() is None:
                process.kill()


def _started(
    craftsync: Craftsync,
    under: tuple[str, ...],
    words: tuple[str, ...],
    variables: dict[str, str],
    stderr: BinaryIO,
) -> Process:
    words = ("watch", "--settle", "0.1", "--poll", "1", *words)
    if not under:
        return craftsync.started(*words, stderr=stderr.fileno(), **variables)
    return subprocess.Popen(
        [*under, SCRIPT, *words],
        cwd=craftsync.folder,
        env=craftsync.environment | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
    )
