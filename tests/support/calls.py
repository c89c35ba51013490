"""Calls of craftsync by an interpreter that has already loaded it.

Loading modules takes two thirds of a short command, and the tests make two
thousand calls. Each still has a process of its own, with its own environment,
folder, streams and exit code; only the interpreter does not start anew. With
CRAFTSYNC_TEST_START=anew in the environment of the tests it does.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path

from tests.support import forkserver

_OF_THE_START = ("PYTHON", "LC_", "LANG")
"""Variables that an interpreter reads when it starts."""


def may_fork(environment: Mapping[str, str]) -> bool:
    """Tell whether a call with this environment need not start the interpreter anew."""
    asked = os.environ.get("CRAFTSYNC_TEST_START") != "anew"
    return asked and not any(name.startswith(_OF_THE_START) for name in environment)


def run(
    words: Sequence[str], folder: Path, environment: Mapping[str, str], stdin: bytes, timeout: float
) -> tuple[int, bytes, bytes]:
    """Return the exit code and what was printed; raises `TimeoutExpired` as `subprocess.run` does.

    May be called from several threads, none of which waits for another.
    """
    request = {"words": list(words), "folder": str(folder), "environment": dict(environment)}
    (taken, given), (read_out, out), (read_err, err) = os.pipe(), os.pipe(), os.pipe()
    report, reporting = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with report, ThreadPoolExecutor(3) as pool:
        with reporting:
            _forkserver().send(request, [taken, out, err, reporting.fileno()])
        for file in (taken, out, err):
            os.close(file)
        pool.submit(_feed, given, stdin)
        printed = [pool.submit(_all_of, file) for file in (read_out, read_err)]
        child = int(report.recv(forkserver.LONGEST))
        report.settimeout(timeout)
        try:
            code = int(report.recv(forkserver.LONGEST))
            return code, printed[0].result(timeout), printed[1].result(timeout)
        except TimeoutError:
            os.kill(child, signal.SIGKILL)
            raise subprocess.TimeoutExpired(words, timeout) from None


def _feed(file: int, content: bytes) -> None:
    with suppress(BrokenPipeError), open(file, "wb") as stream:
        stream.write(content)


def _all_of(file: int) -> bytes:
    with open(file, "rb") as stream:
        return stream.read()


@cache
def _forkserver() -> _Forkserver:
    return _Forkserver()


class _Forkserver:
    """The program, until the tests end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", forkserver.__file__, str(theirs.fileno())],
                env={"PATH": os.defpath},
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        atexit.register(self._end)

    def send(self, request: Mapping[str, object], files: list[int]) -> None:
        with self._lock:
            socket.send_fds(self._requests, [json.dumps(request).encode()], files)

    def _end(self) -> None:
        self._requests.close()
        self._process.wait(10)
