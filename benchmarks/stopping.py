"""From SIGTERM to the end of a command whose store is silent: each has two seconds.

The server is `rclone serve s3` behind a proxy that stops answering in the
middle of the work. A command that has begun to wait for an answer is stopped.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

from benchmarks import servers, workloads
from benchmarks.daemon import until
from benchmarks.faults import Fault, Faults, faulty
from benchmarks.measure import Sample, start
from benchmarks.scenarios import Bench, Round, Scenario, own_folder
from benchmarks.stores import served_folder
from benchmarks.tools import BIN, Command, Tool, all_tools

_PROMISED_SECONDS = 2.0
_GUARD_SECONDS = 60.0
_BUCKET, _TARGET = "s3://bucket", "s3://target"
_SMALL, _LARGE = "small", "large"
"""Folders of files."""


class _Silence(Faults):
    """Lets no answer through after so many requests, or once `begin` is called, until `end`."""

    def __init__(self, answered: int | None) -> None:
        super().__init__(share=0.0, seed=0)
        self.asked = Event()
        self._answered = answered
        self._over = Event()

    def begin(self) -> None:
        self._answered = 0

    def end(self) -> None:
        self._over.set()

    def draw(self) -> Fault | None:
        super().draw()
        if self._over.is_set() or self._answered is None or self.requests <= self._answered:
            return None
        self.asked.set()
        self._over.wait()
        return Fault.REFUSED


@dataclass(frozen=True, slots=True)
class _Case:
    """One command, and how many requests of it are answered; `None` for one that comes to rest first."""

    arguments: tuple[str, ...]
    answered: int | None
    store_is_empty: bool = False


_CASES = {
    "push": _Case(("push", _SMALL, _TARGET), 60, store_is_empty=True),
    "push, parts": _Case(("push", _LARGE, _TARGET), 38, store_is_empty=True),
    "pull": _Case(("pull", "empty", _BUCKET), 20),
    "migrate": _Case(("migrate", "--stream", _BUCKET, _TARGET), 60, store_is_empty=True),
    "watch": _Case(("watch", _SMALL, _TARGET), None, store_is_empty=True),
    "check": _Case(("check", _SMALL, _BUCKET), 0),
}


def commands() -> list[Tool]:
    """Return the commands that are stopped, each as a tool of its own."""
    (version,) = (tool.version for tool in all_tools() if tool.name == "craftsync")
    return [_command(name, version) for name in _CASES]


def _command(name: str, version: Command) -> Tool:
    def line(work: Path, _: str) -> Command:
        places = [str(work / word) if word in (_SMALL, _LARGE, "empty") else word for word in words]
        return [str(BIN / "craftsync"), *places, "--quiet"]

    words = _CASES[name].arguments
    return Tool(name=name, version=version, upload=line, download=line, peer=False)


def stop_while_silent(name: str, files: int, large: int) -> Scenario:
    """Stop each command while it waits for an answer."""

    @contextmanager
    def opened(work: Path) -> Iterator[Round]:
        bench = Bench.at(work, _GUARD_SECONDS)
        workloads.random_files(work / _SMALL, folders=1, files=files, size=4096)
        workloads.random_files(work / _LARGE, folders=1, files=1, size=large)
        (work / "empty").mkdir()
        yield lambda tool: _stopped(tool, bench)

    return Scenario(name, 1, "stops", opened, tools=commands)


def _stopped(tool: Tool, bench: Bench) -> Sample:
    case, work, home = _CASES[tool.name], bench.work, bench.home()
    silence = _Silence(case.answered)
    with ExitStack() as stack:
        served = stack.enter_context(served_folder())
        shutil.copytree(work / _SMALL, served / "bucket")
        (served / "target" / "d000").mkdir(parents=True)
        endpoint = stack.enter_context(servers.rclone_serve(served, work / "server.log"))
        silent = stack.enter_context(faulty(endpoint, silence))
        stack.callback(silence.end)
        for root in (_SMALL, _LARGE, "empty"):
            stack.enter_context(own_folder(work / root, home / f"shelf of {root}"))
        pid = start(tool.upload(work, ""), servers.environment(silent, home), work / "output.log")
        if case.answered is None:
            until(lambda: len(list((served / "target" / "d000").iterdir())) > 0, 0.05)
            Event().wait(1.0)
            silence.begin()
            (work / _SMALL / "edit").write_text(home.name)
        asked = silence.asked.wait(_GUARD_SECONDS)
        sample = _ended(pid)
        if not asked:
            sample = replace(sample, failure="no request was left without an answer")
    shutil.rmtree(work / "empty")
    (work / "empty").mkdir()
    return sample


def _ended(pid: int) -> Sample:
    """Stop a process that waits, and say how long it took to end."""
    began = time.perf_counter()
    descriptor = os.pidfd_open(pid)
    os.kill(pid, signal.SIGTERM)
    in_time = select.select([descriptor], [], [], _GUARD_SECONDS)[0]
    wall = time.perf_counter() - began
    os.close(descriptor)
    if not in_time:
        os.killpg(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    failure = ""
    if not in_time or wall > _PROMISED_SECONDS:
        failure = f"ended {wall:.1f} s after SIGTERM, promised are {_PROMISED_SECONDS:.0f}"
    elif code not in (0, 128 + signal.SIGTERM):
        failure = f"ended with exit code {code}"
    return Sample(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, failure)


def all_scenarios(*, quick: bool) -> list[Scenario]:
    """Return what is measured; `quick` is a small form of it."""
    return [stop_while_silent("stop-silent", files=200, large=(64 if quick else 128) << 20)]
