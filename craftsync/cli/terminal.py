"""The one place where text leaves the program: what would steer a terminal is shown, never sent."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

import click

_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def shown(text: str) -> str:
    """Return text for a line: what would move the cursor, break the line or steer the terminal is escaped."""
    if text.isprintable():
        return text
    return "".join(
        letter
        if letter.isprintable()
        else letter.encode("unicode_escape", "surrogatepass").decode()
        for letter in text
    )


def shown_json(line: str) -> str:
    """Return a line of JSON with what steers a terminal as JSON's own escapes; its value stays the same."""
    return _UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


_above: Callable[[str], None] | None = None


def print_above(bar: Callable[[str], None] | None) -> None:
    """Let a progress bar print every line for its terminal as long as it is up; `None` when it is gone."""
    global _above
    _above = bar


def put(line: str, *, to_stderr: bool = False) -> None:
    """Print one line; tabs stay, for columns are made with them."""
    _emit("\t".join(map(shown, line.split("\t"))), to_stderr=to_stderr)


def put_lines(text: str, *, to_stderr: bool = False) -> None:
    """Print text of several lines, such as a usage or a trace of an error."""
    for line in text.split("\n"):
        put(line, to_stderr=to_stderr)


def put_json(line: str) -> None:
    """Print one line of JSON."""
    _emit(shown_json(line), to_stderr=False)


def _emit(line: str, *, to_stderr: bool) -> None:
    stream = sys.stderr if to_stderr else sys.stdout
    if _above is not None and stream.isatty():
        _above(line)
    else:
        click.echo(line, err=to_stderr)
