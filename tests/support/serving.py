"""The installed `craftsync serve`: a server of the platform's kind, for a test to talk to."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE
from tempfile import TemporaryFile
from typing import BinaryIO

from tests.support import calls
from tests.support.cli import DEADLINE, Process, started

TOKEN = "a-token-for-tests"


@dataclass(frozen=True)
class Serving:
    """A running server."""

    url: str
    token: str
    process: Process
    printed: list[str]
    """What it printed on stdout before it served."""
    errors: BinaryIO

    @property
    def variables(self) -> dict[str, str]:
        """The three variables by which a program that uses the SDK finds the server."""
        return {
            "CRAFT_AI_SDK_TOKEN": self.token,
            "CRAFT_AI_ENVIRONMENT_URL": self.url,
            "CRAFT_AI_CONTROL_URL": self.url,
        }

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask the server to stop and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(DEADLINE)

    def log(self) -> str:
        """Return what it has written to stderr so far."""
        size = os.fstat(self.errors.fileno()).st_size
        return os.pread(self.errors.fileno(), size, 0).decode()


@contextmanager
def serving(
    store: str | Path, *words: str, token: str | None = TOKEN, **variables: str
) -> Iterator[Serving]:
    """Serve a store on a free port of loopback until the `with` ends; the server makes a token if given `None`.

    `words` and `variables` are for the command and its environment.
    """
    environment = {**calls.forking(os.environ), "CRAFTSYNC_CONFIG": os.devnull, **variables}
    environment.pop("CRAFTSYNC_SERVE_TOKEN", None)
    if token is not None:
        environment["CRAFTSYNC_SERVE_TOKEN"] = token
    words = ("serve", str(store), "--port", "0", *words)
    with (
        TemporaryFile() as errors,
        started(words, Path.cwd(), environment, stdout=PIPE, stderr=errors.fileno()) as process,
    ):
        assert process.stdout is not None
        try:
            printed = [process.stdout.readline().decode() for _ in range(3)]
            found = dict(_exported(printed))
            if "CRAFT_AI_CONTROL_URL" not in found:
                errors.seek(0)
                raise RuntimeError(f"craftsync serve did not start: {errors.read().decode()}")
            made = found.get("CRAFT_AI_SDK_TOKEN", "")
            yield Serving(
                found["CRAFT_AI_ENVIRONMENT_URL"], token or made, process, printed, errors
            )
        finally:
            process.kill()


def _exported(lines: list[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        if line.startswith("export "):
            name, _, value = shlex.split(line)[1].partition("=")
            yield name, value
