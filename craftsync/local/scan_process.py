"""A scan in a process of its own, for large roots: reading folders then takes another core's time.

Both ends of the pipe are in this file. Entries travel as plain tuples in
batches of `marshal`, which only ever speaks between two processes of the same
interpreter; `None` ends them, so that a child that died is never taken for the
end of the root.
"""

from __future__ import annotations

import marshal
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from typing import IO, Any

from craftsync.core.model import LocalFile, Skipped
from craftsync.errors import CraftsyncError, RootError
from craftsync.local.folder import Folder
from craftsync.local.ignore import IgnoreRules
from craftsync.local.scan import scan

_BATCH = 2000
_LENGTH = 8
"""Bytes that tell the length of what follows."""


def scan_aside(
    folder: Folder, *, include: Iterable[str], exclude: Iterable[str]
) -> Iterator[LocalFile | Skipped]:
    """Yield what `scan` with these rules would yield.

    Raises `RootError` for whatever ends the scan early, in this process or the
    other: then nothing that was yielded proves an absence.
    """
    descriptor = folder.tree.descriptor
    asked = marshal.dumps((folder.path, descriptor, tuple(include), tuple(exclude)))
    child = subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=(descriptor,),
        # Ctrl-C is for this process, which ends the other.
        start_new_session=True,
    )
    assert child.stdin is not None and child.stdout is not None
    try:
        with suppress(BrokenPipeError), child.stdin as pipe:
            pipe.write(asked)
        yield from _received(child.stdout, folder.path)
    finally:
        child.kill()
        child.stdout.close()
        child.wait()


def _received(pipe: IO[bytes], root: str) -> Iterator[LocalFile | Skipped]:
    new = tuple.__new__
    while (batch := _next_batch(pipe, root)) is not None:
        for entry in batch:
            # The size of the one, the reason of the other.
            yield new(LocalFile, entry) if entry[1].__class__ is int else Skipped(*entry)


def _next_batch(pipe: IO[bytes], root: str) -> list[Any] | None:
    try:
        # From a file, marshal would ask for each value by itself, which costs more than all else here.
        length = int.from_bytes(pipe.read(_LENGTH), "little")
        batch: list[Any] | str | None = marshal.loads(pipe.read(length))
    except (EOFError, ValueError, TypeError) as error:
        raise RootError(f"The scan of {root} ended early.", remedy="Run it again.") from error
    if isinstance(batch, str):
        raise RootError(batch)
    return batch


def _serve(asked: IO[bytes], answer: IO[bytes]) -> None:
    """Be the child: scan, and send what was found."""
    path, descriptor, include, exclude = marshal.load(asked)
    with Folder(path, descriptor) as folder:
        rules = IgnoreRules(folder, include=include, exclude=exclude)
        try:
            entries = scan(folder, rules)
            while batch := [tuple(entry) for entry in islice(entries, _BATCH)]:
                _send(batch, answer)
            _send(None, answer)
        except (CraftsyncError, OSError) as error:
            _send(str(error), answer)
    answer.flush()


def _send(batch: list[Any] | str | None, answer: IO[bytes]) -> None:
    content = marshal.dumps(batch)
    answer.write(len(content).to_bytes(_LENGTH, "little"))
    answer.write(content)


def worth_it(files: int) -> bool:
    """Tell whether a process of its own pays for a root of so many files: it costs a tenth of a second."""
    return files >= 50_000 and len(os.sched_getaffinity(0)) > 1


if __name__ == "__main__":
    import gc

    # A service manager ends all processes of a service at once. What it was told is for the
    # one that asked, to which a scan that ends early is a root that is broken.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    gc.disable()
    _serve(sys.stdin.buffer, sys.stdout.buffer)
