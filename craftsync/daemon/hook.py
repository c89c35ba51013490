"""Calls a person's command when something waits for them: no shell, a time limit, never two at once."""

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
"""What a command that runs still is given when the daemon ends."""
_KILLED_SECONDS = 1.0
"""How long the end of a command that was killed is waited for."""
_MOST_QUEUED = 100
_LONGEST_VARIABLE = 30_000
"""Characters; Linux takes 128 KiB for one variable (execve(2))."""
_STDERR = 2
"""Where a command's words go: stdout may be the lines of `--json`."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Notice:
    """What a person hears of: `count` paths are in `event` (conflict, held or halted); `path` is the first."""

    event: str
    root: str
    store: str
    path: str
    reason: str
    count: int


class Hook:
    """Runs the words of a command for each notice, one after the other. Belongs to one thread."""

    def __init__(self, words: Sequence[str], clock: Clock) -> None:
        self.words = tuple(words)
        self._clock = clock
        self._queue: deque[Notice] = deque(maxlen=_MOST_QUEUED)
        self._running: subprocess.Popen[bytes] | None = None
        self._deadline = 0.0

    def tell(self, notice: Notice) -> None:
        if self.words:
            self._queue.append(notice)

    def tick(self) -> None:
        """Look after the command that runs, and start the next; returns at once."""
        if self._running is not None:
            self._look_after(self._running)
        if self._running is None and self._queue:
            self._start(self._queue.popleft())

    def close(self) -> None:
        """Give what runs a little time, and end it after that; what has not begun is dropped."""
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
            _log.warning("the command of notify: cannot be started: %s", error)
        self._deadline = self._clock.monotonic() + _LONGEST_RUN

    def _look_after(self, process: subprocess.Popen[bytes]) -> None:
        code = process.poll()
        if code is None and self._clock.monotonic() >= self._deadline:
            self._end(process)
        elif code is not None:
            if code:
                _log.warning("the command of notify: ended with code %d", code)
            self._running = None

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        _log.warning("the command of notify: took too long and was ended")
        # Its children too: what a shell waits for would go on after it.
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        try:
            process.wait(_KILLED_SECONDS)
        except subprocess.TimeoutExpired:
            # It hangs in the kernel, or is somebody else's by now.
            self._deadline = self._clock.monotonic() + _LONGEST_RUN
        else:
            self._running = None


def _as_variable(text: str) -> str:
    """Return a text as a variable of the environment can hold it: valid UTF-8 without NUL, not too long."""
    text = text.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
    return text[:_LONGEST_VARIABLE]
