"""Process 1 of a container has a duty no other has: it takes the end of every process that lost its parent.

So as process 1 craftsync goes on in a child, and process 1 itself does nothing
but hand on signals and take ends. The child can then wait for its own children
undisturbed.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

_UNBLOCKABLE = {signal.SIGKILL, signal.SIGSTOP}


def leave_to_child() -> None:
    """Return at once unless this is process 1; then return in a child only, before any thread is there.

    Process 1 ends with the exit code of that child, 128 + the signal that ended it.
    """
    if os.getpid() != 1:
        return
    # Blocked, a signal waits for whoever asks for it: none is lost between here and there.
    signals = signal.valid_signals() - _UNBLOCKABLE
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    os._exit(_wait_for(child, signals))


def _wait_for(child: int, signals: set[signal.Signals]) -> int:
    """Hand on signals and take the end of whoever ends, until the child has; return its exit code."""
    while True:
        number = signal.sigwait(signals)
        if number != signal.SIGCHLD:
            with suppress(ProcessLookupError):
                os.kill(child, number)
            continue
        for pid, status in _ended():
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code


def _ended() -> list[tuple[int, int]]:
    """Take the ends of all processes that have ended."""
    found = []
    with suppress(ChildProcessError):
        while (end := os.waitpid(-1, os.WNOHANG))[0]:
            found.append(end)
    return found
