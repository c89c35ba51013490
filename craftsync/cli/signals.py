"""How a command receives Ctrl-C and SIGTERM, even just before a wait or as process 1 of a container.

A signal raises an exception in the main thread, but not while that takes a lock or
starts a thread. Process 1 runs craftsync in a child; it only forwards signals and
collects ended processes.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

_AGAIN_SECONDS = 0.01
_INTERRUPT_SECONDS = (0.05, 0.5)
"""Pauses after a signal, each followed by an interruption of the main thread's wait."""
_AGAIN = 0x80
"""Added to the number of a signal that is to be sent again."""
_MUST_END = {
    "threading": {"start", "__enter__", "__exit__", "notify"},
    "concurrent.futures.thread": {"submit"},
}
"""Functions, by module, that an exception leaves with a lock held, or with a thread that nobody ends."""


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived; it ends a command in the same orderly way as Ctrl-C."""


def hear() -> None:
    """Make Ctrl-C and SIGTERM raise in the main thread, even while it waits; an ignored SIGINT stays ignored."""
    signal.signal(signal.SIGTERM, _stop)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _stop)
    sys.unraisablehook = _hear_again
    _interrupt_waits()


@contextmanager
def saying_stop(*, quiet: bool) -> Iterator[None]:
    """Print at once, on stderr, that a signal has arrived: the work under way may take a while to end."""

    def heard(number: int, frame: FrameType | None) -> None:
        if not quiet and not _must_end(frame):
            # Bypass the streams: the signal may have interrupted a write to them.
            clear = b"\r\x1b[2K" if os.isatty(2) else b""
            with suppress(OSError):
                os.write(2, clear + b"craftsync: stopping\n")
        before[number](number, frame)

    before: dict[int, Any] = {
        number: handler
        for number in (signal.SIGINT, signal.SIGTERM)
        if callable(handler := signal.getsignal(number))
    }
    for number in before:
        signal.signal(number, heard)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _hear_again(unheard: sys.UnraisableHookArgs) -> None:
    """Resend a signal whose exception Python had to discard, for example while it freed an object."""
    if not isinstance(unheard.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(unheard)
        return
    # By another thread: sent at once, it would arrive in this hook, whose exceptions are discarded, too.
    is_term = isinstance(unheard.exc_value, Terminated)
    _send_again(signal.SIGTERM if is_term else signal.SIGINT)


def _interrupt_waits() -> None:
    """Start a thread that lets the main thread handle a signal that arrived just before a wait.

    Python only records a signal; the handler runs when the main thread continues.
    If the main thread is about to wait for a lock, or another thread received the
    signal, the wait does not end. A second signal, to the main thread, ends it.
    """
    global _write_end
    arrived, _write_end = os.pipe()
    os.set_blocking(_write_end, False)
    signal.set_wakeup_fd(_write_end, warn_on_full_buffer=False)
    signal.signal(signal.SIGURG, _ignore)
    threading.Thread(target=_interrupt, args=[arrived], name="signals", daemon=True).start()


_write_end = -1
"""What is written here, Python writes too: the number of a signal, as a byte."""


def _send_again(number: int) -> None:
    with suppress(BlockingIOError):
        os.write(_write_end, bytes([number | _AGAIN]))


def _interrupt(arrived: int) -> None:
    main, never = threading.main_thread().ident, threading.Event()
    while main and (numbers := os.read(arrived, 1)):
        number = numbers[0]
        if number & _AGAIN:
            never.wait(_AGAIN_SECONDS)  # It is never set: a sleep.
            signal.pthread_kill(main, number & ~_AGAIN)
            continue
        if number not in (signal.SIGINT, signal.SIGTERM):
            continue
        for pause in _INTERRUPT_SECONDS:
            never.wait(pause)
            signal.pthread_kill(main, signal.SIGURG)


def _ignore(number: int, frame: FrameType | None) -> None:
    pass


def _stop(number: int, frame: FrameType | None) -> None:
    if _must_end(frame):
        _send_again(number)
        return
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


def _must_end(frame: FrameType | None) -> bool:
    """Return whether the main thread is in a function that an exception must not leave."""
    while frame is not None:
        if frame.f_code.co_name in _MUST_END.get(frame.f_globals.get("__name__", ""), ()):
            return True
        frame = frame.f_back
    return False


_UNBLOCKABLE = {signal.SIGKILL, signal.SIGSTOP}


def leave_to_child() -> None:
    """As process 1, fork and return only in the child; call it before any thread starts.

    Process 1 exits with the exit code of the child, or with 128 + the signal that ended it.
    """
    if os.getpid() != 1:
        return
    # A blocked signal stays pending until `sigwait`, so none is lost in between.
    signals = signal.valid_signals() - _UNBLOCKABLE
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    os._exit(_wait_for(child, signals))


def _wait_for(child: int, signals: set[signal.Signals]) -> int:
    """Forward signals and collect ended processes until the child ends; return its exit code."""
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
    """Collect all processes that have ended."""
    found = []
    with suppress(ChildProcessError):
        while (end := os.waitpid(-1, os.WNOHANG))[0]:
            found.append(end)
    return found
