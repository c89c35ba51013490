"""The output of the program: safe text, and errors as message, remedy and exit code."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import click

from craftsync.cli.signals import Terminated, hear
from craftsync.errors import ConfigError, CraftsyncError, exhausted
from craftsync.wording import shown

_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def shown_json(line: str) -> str:
    """Return a line of JSON with control characters for the terminal as JSON escapes; its value is unchanged."""
    return _UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


_above: Callable[[str], None] | None = None


def print_above(bar: Callable[[str], None] | None) -> None:
    """Set the function that prints lines above a progress bar; `None` without a bar."""
    global _above
    _above = bar


def has_bar() -> bool:
    """Return whether a progress bar is shown."""
    return _above is not None


def put(line: str, *, to_stderr: bool = False) -> None:
    """Print one line; tabs are kept, as they separate columns."""
    _emit("\t".join(map(shown, line.split("\t"))), to_stderr=to_stderr)


def put_lines(text: str, *, to_stderr: bool = False) -> None:
    """Print text of several lines, such as a usage or a trace of an error."""
    for line in text.split("\n"):
        put(line, to_stderr=to_stderr)


def put_word(word: str, end: str) -> None:
    """Print a word for another command: unchanged, but escaped on a terminal if it ends with a line break."""
    if end == "\n" and sys.stdout.isatty():
        put(word)
    else:
        click.echo(f"{word}{end}".encode(errors="surrogateescape"), nl=False)


def put_json(line: str) -> None:
    _emit(shown_json(line), to_stderr=False)


def _emit(line: str, *, to_stderr: bool) -> None:
    stream = sys.stderr if to_stderr else sys.stdout
    if _above is not None and stream.isatty():
        _above(line)
    else:
        click.echo(line, err=to_stderr)


INTERRUPTED, TERMINATED, READER_GONE = (
    128 + signal.SIGINT,
    128 + signal.SIGTERM,
    128 + signal.SIGPIPE,
)


class ReaderGone(Exception):
    """The reader of a command's output has closed it; nothing more is printed."""


def run(command: click.Command, words: Sequence[str]) -> int:
    """Run a command with the words of the command line and return the exit code."""
    # First, so that the pipe for signals does not get the number of a standard stream.
    _reopen_closed_streams()
    hear()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A path that is not UTF-8 must not end the command that prints it.
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        code = command.main(words, prog_name="craftsync", standalone_mode=False)
        with writing():
            sys.stdout.flush()
    except click.ClickException as error:
        usage = io.StringIO()
        error.show(usage)
        put_lines(usage.getvalue().rstrip("\n"), to_stderr=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        # An unanswered prompt hides its cause in the context.
        hidden = isinstance(error, click.Abort)
        return code_of((error.__cause__ or error.__context__) if hidden else error)
    except (ReaderGone, BrokenPipeError):
        _discard_output()
        return READER_GONE
    except (CraftsyncError, OSError) as error:
        return _print_error(error)
    except (MemoryError, RuntimeError) as error:
        if (known := exhausted(error)) is None:
            raise
        return _print_error(known)
    return code if isinstance(code, int) else 0


@contextmanager
def writing() -> Iterator[None]:
    """Turn an `OSError` of the block into a `CraftsyncError` that names standard output."""
    try:
        yield
    except (BrokenPipeError, CraftsyncError):
        raise  # Some errors of craftsync are `OSError`s, too.
    except OSError as error:
        _discard_output()
        raise CraftsyncError(
            f"Cannot write to standard output: {error.strerror}.",
            remedy="Check where the output goes. The command itself may have done its work.",
        ) from error


def code_of(error: BaseException | None) -> int:
    match error:
        case CraftsyncError() | click.ClickException():
            return error.exit_code
        case Terminated():
            return TERMINATED
        case KeyboardInterrupt():
            return INTERRUPTED
        case _:
            return 1


NAMING = "craftsync.naming"
"""The key in the context of a call for the flags that name its linked folder; see `params.naming`."""

_OF_A_FOLDER = (
    r"(?<![Tt]ype: )craftsync (?:(?:trash|deletes|conflicts) (?:list|purge|restore|approve|reject|resolve)"
    r"|history|status|stop|pause|resume|rescan|forget|watch|check|scrub|wait)\b(?! --)"
)
"""A command for a linked folder, in a sentence, without flags that name the folder.

After "type:" stands the command of this call, complete as it was typed.
"""


def addressed(text: str) -> str:
    """Return a sentence in which each command names the linked folder and the configuration of this call."""
    context = click.get_current_context(silent=True)
    naming = context.meta.get(NAMING, "") if context else ""
    return re.sub(_OF_A_FOLDER, lambda found: found[0] + naming, text) if naming else text


def message_of(error: BaseException) -> tuple[str, str]:
    """Return the message and the remedy of an error."""
    match error:
        case CraftsyncError():
            return str(error), addressed(error.remedy)
        case click.ClickException():
            context = getattr(error, "ctx", None) or click.get_current_context(silent=True)
            usage = f"Type: {context.command_path} --help" if context else ""
            return error.format_message(), usage
        case OSError() if error.strerror:
            named = f"{error.filename}: " if error.filename else ""
            return f"{named}{error.strerror}", ""
        case Terminated():
            return "stopped by SIGTERM", ""
        case KeyboardInterrupt():
            return "interrupted", ""
        case _:
            return str(error) or type(error).__name__, ""


def _print_error(error: CraftsyncError | OSError) -> int:
    sentence, remedy = message_of(error)
    put(f"craftsync: {sentence}", to_stderr=True)
    if remedy and isinstance(error, ConfigError):
        # It may be lines to add by hand. In other remedies, a line break comes from a name, and is escaped.
        put_lines(remedy, to_stderr=True)
    elif remedy:
        put(remedy, to_stderr=True)
    return code_of(error)


def _discard_output() -> None:
    """Discard unwritten output: at its exit, the interpreter would try again to write it, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _reopen_closed_streams() -> None:
    """Open /dev/null for each standard stream that the caller closed, so that no other file gets its number."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            # `open` takes the lowest free number, which is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 (it lives as long as the process)
