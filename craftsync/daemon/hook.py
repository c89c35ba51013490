"""Runs the `notify` command when something needs attention: no shell, a time limit, one at a time."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass

from craftsync.clock import Clock

_LONGEST_RUN = 30.0
_LAST_RUN = 5.0
"""How long a running command may take when the daemon ends."""
_KILLED_SECONDS = 1.0
"""How long to wait for a killed command."""
_MOST_QUEUED = 100
_LONGEST_VARIABLE = 30_000
"""Characters; Linux takes 128 KiB for one variable (execve(2))."""
_STDERR = 2
"""The command's stdout goes to stderr, because ours may be the lines of `--json`."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Notice:
    """`count` paths are in the state `event` (conflict, held or halted); `path` is the first of them."""

    event: str
    root: str
    store: str
    path: str
    reason: str
    count: int


class Hook:
    """Runs a command for each notice, one after the other. Belongs to one thread."""

    def __init__(self, words: Sequence[str], clock: Clock) -> None:
        self.words = tuple(words)
        self._clock = clock
        self._queue: deque[Notice] = deque(maxlen=_MOST_QUEUED)
        self._running: subprocess.Popen[bytes] | None = None
        self._deadline = 0.0

    def notify(self, notice: Notice) -> None:
        if self.words:
            self._queue.append(notice)

    def tick(self) -> None:
        """Check the running command, and start the next; never blocks."""
        if self._running is not None:
            self._check(self._running)
        if self._running is None and self._queue:
            self._start(self._queue.popleft())

    def close(self) -> None:
        """Wait briefly for the running command and then kill it; queued notices are dropped."""
        if self._running is not None:
            try:
                self._running.wait(_LAST_RUN)
            except subprocess.TimeoutExpired:
                self._end(self._running)

    def _start(self, notice: Notice) -> None:
        variables = {
            f"CRAFTSYNC_NOTIFY_{name.upper()}": _as_variable(str(value))
            for name, value in asdict(notice).items()
        }
        try:
            self._running = subprocess.Popen(
                self.words,
                env={**os.environ, **variables},
                stdin=subprocess.DEVNULL,
                stdout=_STDERR,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            _log.warning("cannot start the notify command: %s", error)
        self._deadline = self._clock.monotonic() + _LONGEST_RUN

    def _check(self, process: subprocess.Popen[bytes]) -> None:
        code = process.poll()
        if code is None and self._clock.monotonic() >= self._deadline:
            self._end(process)
        elif code is not None:
            if code:
                _log.warning("the notify command exited with code %d", code)
            self._running = None

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        _log.warning("the notify command took too long and was killed")
        # The whole process group, or a shell's children would continue.
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        try:
            process.wait(_KILLED_SECONDS)
        except subprocess.TimeoutExpired:
            # It hangs in the kernel, or changed its user.
            self._deadline = self._clock.monotonic() + _LONGEST_RUN
        else:
            self._running = None


def _as_variable(text: str) -> str:
    """Return a text that fits an environment variable: valid UTF-8 without NUL, not too long."""
    text = text.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
    return text[:_LONGEST_VARIABLE]
