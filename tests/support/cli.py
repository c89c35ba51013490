"""The installed `craftsync`, run as its users run it: in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from subprocess import DEVNULL, PIPE
from threading import Event
from typing import Any, BinaryIO

from tests.support import calls
from tests.support.calls import Call

SCRIPT = Path(sys.executable).with_name("craftsync")

Process = subprocess.Popen[bytes] | Call

DEADLINE = 120.0
"""Seconds after which something a running program does in its own time counts as not done."""


@dataclass(frozen=True)
class Run:
    """How one call ended."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @property
    def json(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]

    @property
    def summary(self) -> dict[str, Any]:
        """The last JSON line, which has to be the only summary."""
        (summary,) = (line for line in self.json if line["type"] == "summary")
        assert self.json[-1] == summary
        return summary


class Craftsync:
    """Calls the program in a folder of the test's own, with its own configuration and state."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config.yaml"
        self.config.write_text("")
        self.environment = {
            "HOME": str(folder),
            "PATH": os.defpath,
            "CRAFTSYNC_CONFIG": str(self.config),
            "CRAFTSYNC_STATE_DIR": str(folder / "state"),
        }

    def __call__(self, *words: str, stdin: bytes = b"", **variables: str) -> Run:
        """Return how a call ended that forked from a loaded interpreter, where it may: see `calls`."""
        environment = self.environment | variables
        if not calls.may_fork(environment):
            return self.anew(*words, stdin=stdin, **variables)
        words = (str(SCRIPT), *words)
        code, out, err = calls.run(words, self.folder, environment, stdin, DEADLINE)
        return Run(code, out, err.decode())

    def anew(
        self, *words: str, stdin: bytes = b"", through: Sequence[str] = (), **variables: str
    ) -> Run:
        """Return how a call ended whose interpreter was started for it, by another program if one is named."""
        done = subprocess.run(
            [*through, SCRIPT, *words],
            cwd=self.folder,
            env=self.environment | variables,
            input=stdin,
            capture_output=True,
            timeout=DEADLINE,
            check=False,
        )
        return Run(done.returncode, done.stdout, done.stderr.decode())

    def into(
        self, stdout: BinaryIO | FileIO | None, *words: str, stdin: BinaryIO | FileIO | None = None
    ) -> int:
        """Return the exit code of a call whose standard streams are files of the test."""
        taken, given = (DEVNULL if file is None else file.fileno() for file in (stdin, stdout))
        with self.started(*words, stdin=taken, stdout=given) as process:
            process.communicate(timeout=DEADLINE)
            return process.wait()

    def start(self, *words: str) -> Process:
        """Start a call without waiting for its end; its streams are pipes."""
        return self.started(*words, stdin=PIPE, stdout=PIPE, stderr=PIPE)

    def started(
        self,
        *words: str,
        stdin: int = DEVNULL,
        stdout: int = DEVNULL,
        stderr: int = DEVNULL,
        anew: bool = False,
        **variables: str,
    ) -> Process:
        """Start a call without waiting for its end; each stream is a file's number, `PIPE` or `DEVNULL`."""
        streams = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
        environment = self.environment | variables
        return started(words, self.folder, environment, anew=anew, **streams)

    def write(self, path: str, content: str = "content") -> Path:
        """Put a file below the folder of the test."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        return file

    def files(self, folder: str) -> dict[str, str]:
        """Return what a folder holds, craftsync's own folder left out.

        A daemon may be at work in it: a file that goes away meanwhile is left out.
        """
        top, found = self.folder / folder, dict[str, str]()
        for above, folders, names in os.walk(top):
            folders[:] = [name for name in folders if name != ".craftsync"]
            for file in (Path(above, name) for name in names):
                with suppress(FileNotFoundError):
                    if file.is_file():
                        found[str(file.relative_to(top))] = file.read_text()
        return dict(sorted(found.items()))


def started(
    words: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    *,
    anew: bool = False,
    **streams: int,
) -> Process:
    """Start a call that forks from a loaded interpreter, where it may and shall: see `calls`."""
    words = (str(SCRIPT), *words)
    if calls.may_fork(environment) and not anew:
        return Call(words, folder, environment, **streams)
    return subprocess.Popen(words, cwd=folder, env=environment, **streams)


def until(condition: Callable[[], object], what: str, pause: float = 0.02) -> None:
    """Wait for something a running program does in its own time; fail when it does not.

    The condition is checked again after `pause` seconds, and ever more rarely the
    longer it takes. One that calls the program should have a pause longer than a call.
    """
    begin, over = time.monotonic(), Event()
    while not condition():
        waited = time.monotonic() - begin
        assert waited < DEADLINE, f"still waiting: {what}"
        over.wait(min(max(pause, waited / 10), 0.5))
