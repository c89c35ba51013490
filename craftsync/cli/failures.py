"""The one place where an exception becomes a sentence, a remedy and an exit code."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

import click

from craftsync.errors import CraftsyncError

INTERRUPTED, TERMINATED, READER_GONE = (
    128 + signal.SIGINT,
    128 + signal.SIGTERM,
    128 + signal.SIGPIPE,
)


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived; it ends a command in the same orderly way as Ctrl-C."""


class ReaderGone(Exception):
    """Whoever read what a command prints has left; nobody is there to be told anything."""


def run(command: click.Command, words: Sequence[str]) -> int:
    """Run a command with the words of the command line and return the exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A path whose bytes are no UTF-8 must not end the command that prints it.
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        code = command.main(words, prog_name="craftsync", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort as error:
        return code_of(error.__cause__)
    except (ReaderGone, BrokenPipeError):
        # The interpreter flushes stdout once more on its way out, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE
    except (CraftsyncError, OSError) as error:
        return _tell(error)
    return code if isinstance(code, int) else 0


def code_of(error: BaseException | None) -> int:
    """Return the exit code an exception ends the command with."""
    match error:
        case CraftsyncError():
            return error.exit_code
        case Terminated():
            return TERMINATED
        case KeyboardInterrupt():
            return INTERRUPTED
        case _:
            return 1


def _tell(error: CraftsyncError | OSError) -> int:
    click.echo(f"craftsync: {error}", err=True)
    if isinstance(error, CraftsyncError) and error.remedy:
        click.echo(error.remedy, err=True)
    return code_of(error)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated
