"""Calls of craftsync by an interpreter that has already loaded it.

Loading modules takes two thirds of a short command, and the tests make two
thousand calls. Each still has a process of its own, with its own environment,
folder, streams and exit code; only the interpreter does not start anew. With
CRAFTSYNC_TEST_START=anew in the environment of the tests it does.
"""

from __future__ import annotations

import atexit
import marshal
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import cache
from io import BufferedReader, BufferedWriter
from pathlib import Path
from subprocess import DEVNULL, PIPE, TimeoutExpired
from typing import Self

from tests.support import forkserver, from_shell

_OF_THE_START = ("PYTHON", "LC_", "LANG")
"""Variables that an interpreter reads when it starts."""


def may_fork(environment: Mapping[str, str]) -> bool:
    """Tell whether a call with this environment need not start the interpreter anew."""
    asked = os.environ.get("CRAFTSYNC_TEST_START") != "anew"
    return asked and not any(name.startswith(_OF_THE_START) for name in environment)


def forking(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without what keeps a call from forking."""
    return {
        name: value for name, value in environment.items() if not name.startswith(_OF_THE_START)
    }


def run(
    words: Sequence[str], folder: Path, environment: Mapping[str, str], stdin: bytes, timeout: float
) -> tuple[int, bytes, bytes]:
    """Return the exit code and what was printed; raises `TimeoutExpired` as `subprocess.run` does.

    May be called from several threads, none of which waits for another.
    """
    with Call(words, folder, environment, stdin=PIPE, stdout=PIPE, stderr=PIPE) as call:
        out, err = call.communicate(stdin, timeout)
        return call.wait(), out, err


def for_shell(program: Path) -> tuple[str, list[int]]:
    """Return a line that makes a shell's `craftsync` fork, and what file the shell has to inherit for it."""
    number = _forkserver().number
    words = [sys.executable, "-IS", from_shell.__file__, str(number), str(program)]
    return f'craftsync() {{ {shlex.join(words)} "$@"; }}\n', [number]


class Call:
    """A call that was started: what tests use of `subprocess.Popen`."""

    def __init__(
        self,
        words: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        *,
        stdin: int = DEVNULL,
        stdout: int = DEVNULL,
        stderr: int = DEVNULL,
    ) -> None:
        """Start it; each stream is a file's number, `PIPE` or `DEVNULL`."""
        self.args = list(words)
        self.returncode: int | None = None
        request = {"words": self.args, "folder": str(folder), "environment": dict(environment)}
        self._report, reporting = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ExitStack() as theirs:
            taken, given = _stream(stdin, theirs, 0)
            out, read_out = _stream(stdout, theirs, 1)
            err, read_err = _stream(stderr, theirs, 1)
            theirs.enter_context(reporting)
            _forkserver().send(request, [taken, out, err, reporting.fileno()])
        self.stdin = None if given is None else os.fdopen(given, "wb")
        self.stdout = None if read_out is None else os.fdopen(read_out, "rb")
        self.stderr = None if read_err is None else os.fdopen(read_err, "rb")
        self.pid = int(self._report.recv(forkserver.LONGEST))

    def poll(self) -> int | None:
        """Return the exit code, `None` while it runs."""
        with suppress(TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._report.settimeout(timeout)
            try:
                self.returncode = int(self._report.recv(forkserver.LONGEST))
            except (TimeoutError, BlockingIOError):
                raise TimeoutExpired(self.args, timeout or 0) from None
            self._report.close()
        return self.returncode

    def communicate(self, given: bytes = b"", timeout: float | None = None) -> tuple[bytes, bytes]:
        """Hand over what it reads, wait for its end, and return what it printed that is not read yet.

        One that does not end in time is killed.
        """
        with ThreadPoolExecutor(3) as pool:
            pool.submit(_feed, self.stdin, given)
            printed = [pool.submit(_rest, stream) for stream in (self.stdout, self.stderr)]
            try:
                self.wait(timeout)
            except TimeoutExpired:
                self.kill()
                raise
            return printed[0].result(timeout), printed[1].result(timeout)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (self.stdout, self.stderr, self.stdin):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
        self.wait()


def _stream(wanted: int, theirs: ExitStack, end: int) -> tuple[int, int | None]:
    """Return the call's end of a stream, closed with `theirs`, and ours if it is a pipe."""
    if wanted == PIPE:
        ends = os.pipe()
        theirs.callback(os.close, ends[end])
        return ends[end], ends[1 - end]
    if wanted == DEVNULL:
        wanted = os.open(os.devnull, os.O_RDWR)
        theirs.callback(os.close, wanted)
    return wanted, None


def _feed(stream: BufferedWriter | None, content: bytes) -> None:
    if stream is not None and not stream.closed:
        with suppress(BrokenPipeError), stream:
            stream.write(content)


def _rest(stream: BufferedReader | None) -> bytes:
    if stream is None or stream.closed:
        return b""
    with stream:
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

    @property
    def number(self) -> int:
        """The number of the file that takes requests."""
        return self._requests.fileno()

    def send(self, request: Mapping[str, object], files: list[int]) -> None:
        with self._lock:
            socket.send_fds(self._requests, [marshal.dumps(request)], files)

    def _end(self) -> None:
        self._requests.close()
        self._process.wait(10)
