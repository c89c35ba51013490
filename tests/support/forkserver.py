"""A program that has loaded craftsync, and forks for each call of it: see `tests.support.calls`."""

from __future__ import annotations

import atexit
import gc
import marshal
import os
import select
import socket
import sys
import time
from collections.abc import Callable
from importlib import import_module
from io import BufferedReader, BufferedWriter, FileIO, TextIOWrapper
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

ALSO = ("yaml", "pathspec.patterns.gitignore.spec")
EXTRAS = ("craftsync.serve", "craftsync.ui", "craftsync.migrate.dask", "craftsync.__main__")
"""What few calls need, and what loads much: each page of memory more makes every fork dearer."""
LONGEST = 131_072
"""Bytes of a request."""
FILES = 4
"""Those that come with a request: three standard streams, and where to report the end."""


def serve(requests: socket.socket) -> dict[str, Any] | None:
    """Fork for each request, and return it in the child; return `None` when there are no more.

    Of each child the process id and then the exit code are reported.
    """
    running: dict[int, tuple[int, socket.socket]] = {}
    poll = select.poll()
    poll.register(requests, select.POLLIN)
    while True:
        for ready, _ in poll.poll():
            if ready != requests.fileno():
                poll.unregister(ready)
                child, report = running.pop(ready)
                os.close(ready)
                _report(report, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
                report.close()
                continue
            request, files, _, _ = socket.recv_fds(requests, LONGEST, FILES)
            if not request:
                return None
            report = socket.socket(fileno=files.pop())
            child = os.fork()
            if child == 0:
                for file in running:
                    os.close(file)
                for each in (requests, report, *(other for _, other in running.values())):
                    each.close()
                _take(files)
                return dict(marshal.loads(request))
            for file in files:
                os.close(file)
            _report(report, child)
            ended = os.pidfd_open(child)
            running[ended] = child, report
            poll.register(ended, select.POLLIN)


def _report(report: socket.socket, number: int) -> None:
    try:
        report.send(str(number).encode())
    except BrokenPipeError:
        """The test has given up waiting."""


def _take(files: list[int]) -> None:
    """Make these the standard streams, as a new interpreter finds them."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    sys.stdin = sys.__stdin__ = TextIOWrapper(
        BufferedReader(FileIO(0, "r", closefd=False)), "utf-8", "surrogateescape"
    )
    sys.stdout = sys.__stdout__ = TextIOWrapper(
        BufferedWriter(FileIO(1, "w", closefd=False)), "utf-8", "surrogateescape", "\n"
    )
    sys.stderr = sys.__stderr__ = TextIOWrapper(
        BufferedWriter(FileIO(2, "w", closefd=False)),
        *("utf-8", "backslashreplace", "\n"),
        line_buffering=True,
    )


def _load() -> None:
    """Load what a call would otherwise load for itself: all of craftsync but its extras."""
    _load_within(import_module("craftsync"))
    for name in ALSO:
        import_module(name)


def _load_within(package: ModuleType) -> None:
    """Load the modules of a package. `walk_packages` would load the extras to look into them."""
    for module in iter_modules(package.__path__, f"{package.__name__}."):
        if module.name not in EXTRAS:
            loaded = import_module(module.name)
            if module.ispkg:
                _load_within(loaded)


def _compile() -> None:
    """Compile the expressions that nearly every call would compile for itself."""
    file, ignore = import_module("craftsync.config.file"), import_module("craftsync.local.ignore")
    file.read_yaml("")
    ignore.Patterns(ignore.DEFAULTS, "")


def _run(program: Callable[[], None]) -> None:
    """Run a program to its end, but leave its memory to the kernel.

    An interpreter that ends touches every object. Here that is 20,000 pages to
    copy, which took as long as a short command.
    """
    code: object = None

    def leave() -> None:
        """Called last: all threads and the program's own exit functions have ended."""
        if code is None or isinstance(code, int):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit((code or 0) & 0xFF)

    atexit.register(leave)
    try:
        program()
    except SystemExit as end:
        code = end.code
        raise
    except BaseException:
        atexit.unregister(leave)
        raise


def main() -> None:
    """Serve what comes over the socket with the number in the first word; in each child, be craftsync."""
    _load()
    _compile()
    gc.collect()
    gc.freeze()
    request = serve(socket.socket(fileno=int(sys.argv[1])))
    if request is not None:
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        time.tzset()
        sys.argv = request["words"]
        _run(import_module("craftsync.cli").main)


if __name__ == "__main__":
    main()
