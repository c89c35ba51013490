"""A worker process seen from its parent: started, given orders, and ended when it takes too long.

The SDK knows no timeout and a thread cannot be ended, so what carries out its
functions is a process (`child`). Knows nothing of objects and stores.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from craftsync.clock import Clock
from craftsync.errors import StoreUnavailable

PROGRAM = Path(__file__).with_name("child.py")


class CallFailed(Exception):
    """A function of the SDK raised; `failure` is what `child` says about it."""

    def __init__(self, failure: Mapping[str, Any]) -> None:
        super().__init__(str(failure.get("message")))
        self.failure = failure


class ChildProcess:
    """One worker process; it is used by one thread at a time.

    Once a call has raised `StoreUnavailable` the process is gone, and another
    has to be made.
    """

    def __init__(
        self, first_order: Mapping[str, Any], environment: Mapping[str, str], clock: Clock
    ) -> None:
        """Start the process. `first_order` holds the token: what is in an environment or in argv can be read by others."""
        self._clock = clock
        self._process = subprocess.Popen(
            # By its file, for it needs nothing of craftsync; -P keeps its neighbours from being imported.
            [sys.executable, "-P", str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(environment),
            # Ctrl-C at a terminal is for the parent, which lets go of its transfers in order.
            start_new_session=True,
        )
        self._received = b""
        for _ in self.call(first_order, ambiguous=False):
            pass

    def call(self, order: Mapping[str, Any], *, ambiguous: bool) -> Iterator[Any]:
        """Yield the results of one order, which names its `seconds`: how long each may be awaited.

        Raises `CallFailed`, or `StoreUnavailable` when the process died or was
        ended; whether that is `ambiguous` depends on what was ordered.
        """
        self._send(order)
        while True:
            answer = json.loads(self._line(float(order["seconds"]), ambiguous))
            if "failed" in answer:
                raise CallFailed(answer["failed"])
            if "done" in answer:
                return
            yield answer["result"]

    def is_running(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """End the process; may be called by another thread than the one that waits for an answer."""
        self._process.kill()

    def end(self) -> None:
        """Kill the process and let go of it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):
                if pipe is not None:
                    pipe.close()

    def _send(self, order: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            raise self._died(ambiguous=False) from None

    def _line(self, seconds: float, ambiguous: bool) -> bytes:
        """Return the next line the process writes."""
        assert self._process.stdout is not None
        deadline = self._clock.monotonic() + seconds
        while b"\n" not in self._received:
            wait = deadline - self._clock.monotonic()
            if wait <= 0 or not self._is_readable(wait):
                self.end()
                raise StoreUnavailable(
                    f"The platform did not answer the SDK within {seconds:.0f} s.",
                    ambiguous=ambiguous,
                )
            received = os.read(self._process.stdout.fileno(), 1 << 16)
            if not received:
                raise self._died(ambiguous=ambiguous)
            self._received += received
        line, _, self._received = self._received.partition(b"\n")
        return line

    def _is_readable(self, seconds: float) -> bool:
        assert self._process.stdout is not None
        waiting = select.poll()
        waiting.register(self._process.stdout, select.POLLIN)
        return bool(waiting.poll(seconds * 1000))

    def _died(self, *, ambiguous: bool) -> StoreUnavailable:
        self.end()
        return StoreUnavailable(
            f"The process that uses the SDK ended by itself (status {self._process.returncode}).",
            ambiguous=ambiguous,
        )
