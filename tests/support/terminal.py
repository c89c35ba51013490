"""A terminal for the installed program: what it shows while it runs, and afterwards."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from subprocess import DEVNULL

from tests.support.cli import Craftsync, Process, until

_TOKEN = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+")


class Terminal:
    """What a running program has sent so far. `process` is the program."""

    def __init__(self, process: Process, descriptor: int) -> None:
        self.process = process
        self._descriptor = descriptor
        self._sent = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def sent(self) -> str:
        return self._sent.decode(errors="replace")

    def until(self, words: str) -> None:
        """Wait until the program has sent this."""
        until(lambda: words in self.sent, f"{words!r} on the terminal")

    def interrupt(self) -> None:
        """Do what Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)

    def end(self) -> int:
        """Wait for the end of the program and of what it sends, and return its exit code."""
        self._reader.join()
        return self.process.wait()

    def _read(self) -> None:
        while piece := _read(self._descriptor):
            self._sent += piece


@contextmanager
def on_a_terminal(
    craftsync: Craftsync,
    columns: int,
    *words: str,
    program: Sequence[str] = (),
    answer: bytes | None = None,
) -> Iterator[Terminal]:
    """Run craftsync, or another program, on a terminal of this width until the end of the block.

    With an `answer`, that is typed, and the terminal is its standard input too.
    """
    ours, theirs = pty.openpty()
    if answer is not None:
        os.write(ours, answer)
    variables = {"TERM": "xterm", "COLUMNS": str(columns)}
    streams = {"stdin": DEVNULL if answer is None else theirs, "stdout": theirs, "stderr": theirs}
    process: Process
    if program:
        environment = craftsync.environment | variables
        process = subprocess.Popen(program, cwd=craftsync.folder, env=environment, **streams)
    else:
        process = craftsync.started(*words, **streams, **variables)
    with process:
        os.close(theirs)
        terminal = Terminal(process, ours)
        try:
            yield terminal
        finally:
            if process.poll() is None:
                process.kill()
            terminal.end()
            os.close(ours)


def lines_shown(sent: str) -> list[str]:
    """Return the lines a terminal shows in the end: going back and emptying a line are carried out."""
    lines, line = [], ""
    for token in _TOKEN.findall(sent):
        if token == "\n":
            lines.append(line)
            line = ""
        elif token == "\x1b[2K":
            line = ""
        elif token[0] not in "\x1b\r":
            line += token
    return [shown.strip() for shown in [*lines, line]]


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""
