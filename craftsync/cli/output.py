"""What a command prints: lines for people, one JSON object per line, or progress (by rich).

Results go to standard output; progress and problems go to standard error.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from logging import Logger, getLogger
from threading import Lock
from typing import Any, Protocol

import click

from craftsync.cli import terminal
from craftsync.cli.log import listener, to_file
from craftsync.cli.signals import saying_stop
from craftsync.cli.terminal import code_of, message_of, writing
from craftsync.clock import SystemClock, iso
from craftsync.config.options import read
from craftsync.config.pairs import Pair
from craftsync.config.parsers import parse_seconds
from craftsync.core.paths import is_utf8
from craftsync.engine.report import (
    COUNTERS,
    STEP_WORDS,
    ActionEvent,
    Event,
    HeldEvent,
    Issue,
    IssueEvent,
    ProgressEvent,
    Report,
)
from craftsync.open_store import waits
from craftsync.progress import Bars, Display, StatsLines, WaitLines, wait_shown
from craftsync.wording import left_out_words, shown, size_shown

_ACTION_FIELDS: Mapping[str, str] = {**COUNTERS, "copy": "copied"}
_WITH_BYTES = {
    field for field in _ACTION_FIELDS.values() if f"bytes_{field}" in Report.__annotations__
}
_ISSUE_FIELDS = {
    Issue.PROBLEM: "problems",
    Issue.SKIPPED: "skipped",
    Issue.CONFLICT: "conflicts",
    Issue.HELD: "held",
}
"""The field of the summary that counts each kind of event."""
_REMEMBERED = {"push", "pull", "sync"}
"""Runs whose conflicts a later command can list."""
_ROOT_AND_STORE = 2

_log = getLogger(__name__)


def say(line: str, *, to_stderr: bool = False) -> None:
    """Print one line for people."""
    with writing():
        terminal.put(line, to_stderr=to_stderr)


def say_json(content: Mapping[str, Any] | list[Any]) -> None:
    """Print a value as a line of JSON; non-ASCII letters are escaped only if the line is not valid UTF-8."""
    line = json.dumps(content, ensure_ascii=False)
    with writing():
        terminal.put_json(line if is_utf8(line) else json.dumps(content))


_LAST_LINES = "craftsync.last-lines"
"""The key in the context of a call for the types of its last lines of JSON that are printed."""


def say_error(error: BaseException, context: click.Context | None = None) -> None:
    """Print the error that ends a call with --json as a line of JSON, once for each call."""
    message, remedy = message_of(error)
    code = code_of(error)
    line = {"type": "error", "message": message, "remedy": remedy, "exit_code": code}
    _say_once(line, context)


def say_summary(facts: Mapping[str, Any], context: click.Context | None = None) -> None:
    """Print the summary of a call with --json, once for each call."""
    _say_once(facts, context)


def say_failure(error: BaseException, context: click.Context | None) -> None:
    """Print the error that ends a call with --json, and the summary of a command that has one."""
    say_error(error, context)
    if context and getattr(context.command, "has_summary", False):
        report = Report(context.command.name or "", dry_run=bool(context.params.get("dry_run")))
        say_summary({**report.as_json(), "exit_code": code_of(error)}, context)


def _say_once(line: Mapping[str, Any], context: click.Context | None) -> None:
    context = context or click.get_current_context(silent=True)
    printed = context.meta.setdefault(_LAST_LINES, set()) if context else set()
    if line["type"] not in printed:
        printed.add(line["type"])
        say_json(line)


def say_which(pair: Pair, words: Sequence[str], flags: Mapping[str, Any]) -> None:
    """Print on stderr, first, the linked folder that the words of a command mean.

    Print nothing if they are root and store themselves, nor with --json or -q.
    """
    if len(words) < _ROOT_AND_STORE and not (flags.get("json") or flags.get("quiet")):
        say(shown(which(pair)), to_stderr=True)


def which(pair: Pair) -> str:
    """Return a linked folder for people: `datasets: ~/datasets ⇄ s3://bucket/datasets`."""
    return linked(pair.folder, str(pair.root), str(pair.location))


def linked(name: str | None, root: str, store: str) -> str:
    """Return `which` from its parts."""
    return f"{f'{name}: ' if name else ''}{_below_home(root)} ⇄ {_below_home(store)}"


def _below_home(place: str) -> str:
    """Return a path with `~` for the home folder."""
    home = os.path.realpath(os.path.expanduser("~"))
    inside = place == home or place.startswith(f"{home.rstrip('/')}/")
    return f"~{place[len(home) :]}" if inside and home != "/" else place


def say_issue(event: Event) -> None:
    """Print on stderr which path is not in sync, and why; all held deletes share one line.

    Print nothing for paths excluded by design: they need no action.
    """
    if isinstance(event, HeldEvent):
        say(event.sentence, to_stderr=True)
    elif isinstance(event, IssueEvent) and event.issue is not Issue.HELD and not event.by_design:
        say(f"{event.issue}: {shown(event.path)}: {event.reason}", to_stderr=True)


def sizes_shown(size: int, replaces: int | None) -> str:
    """Return the size of a transfer and of the version it replaces: `12 bytes, replaces 8 bytes`."""
    return size_shown(size) + ("" if replaces is None else f", replaces {size_shown(replaces)}")


_PROBLEMS = {"check": "not equal", "scrub": "damaged or unreadable"}


class Lines(Protocol):
    """Prints the events and the report of a run."""

    def event(
        self, event: ActionEvent | IssueEvent | HeldEvent, place: Mapping[str, Any] | None = None
    ) -> None:
        """Print an event; `place` names its linked folder if there are several."""
        ...

    def summary(self, report: Report, exit_code: int) -> None: ...

    def failure(self, report: Report, error: BaseException) -> None:
        """Print the end of a run that failed; the report counts what was done until then."""
        ...


class JsonLines:
    """The lines of `--json`: events as they arrive, and exactly one summary, last."""

    def event(
        self, event: ActionEvent | IssueEvent | HeldEvent, place: Mapping[str, Any] | None = None
    ) -> None:
        if isinstance(event, HeldEvent):
            return
        now = {} if place is None else {"time": iso(SystemClock().now_ns())}
        say_json({**event.as_json(), **(place or {}), **now})

    def summary(self, report: Report, exit_code: int) -> None:
        say_summary({**report.as_json(), "exit_code": exit_code})

    def failure(self, report: Report, error: BaseException) -> None:
        say_error(error)
        say_summary({**report.as_json(), "exit_code": code_of(error)})


class TextLines:
    """Lines for people: every issue, each action if wanted, and one sentence at the end."""

    def __init__(self, *, quiet: bool, actions: bool, other_side: str = "store") -> None:
        self._quiet = quiet
        self._actions = actions
        self._other_side = other_side
        self.naming = ""
        """The flags that name the linked folder in commands to copy."""

    def event(
        self, event: ActionEvent | IssueEvent | HeldEvent, place: Mapping[str, Any] | None = None
    ) -> None:
        if isinstance(event, HeldEvent):
            event = event.named(self.naming)
        say_issue(event)
        if isinstance(event, ActionEvent) and self._actions:
            line = event.line
            if event.action in STEP_WORDS:
                line = line.replace("in the store:", f"in the {self._other_side}:", 1)
            say(f"{shown(line)} ({sizes_shown(event.size, event.replaces)})")
        elif isinstance(event, IssueEvent) and event.issue is Issue.HELD and self._actions:
            say(f"held: {shown(event.path)}")
        elif isinstance(event, IssueEvent) and event.by_design and self._actions:
            say(f"left out: {shown(event.path)}: {event.reason}")

    def summary(self, report: Report, exit_code: int) -> None:
        if not self._quiet:
            say(summary_line(report))
        if report.in_conflict and report.command in _REMEMBERED and not report.dry_run:
            say(f"See craftsync conflicts list{self.naming}", to_stderr=True)

    def failure(self, report: Report, error: BaseException) -> None:
        """Print what was done before a stop; other errors are printed by the caller."""
        if isinstance(error, KeyboardInterrupt) and not self._quiet:
            say(summary_line(report, stopped=True))


class Output:
    """Receives the events of a run, and its report at the end.

    A run that breaks off has no report: the summary then counts the events.
    """

    def __init__(
        self, lines: Lines, bars: Display | None, so_far: Report, file: Logger | None = None
    ) -> None:
        self._lines = lines
        self._bars = bars
        self._so_far = so_far
        self._file = file
        self._note = listener(so_far.command, file) if file else None

    def names(self, flags: str) -> None:
        """Add these flags, which name the linked folder, to printed commands; see `params.naming`."""
        if isinstance(self._lines, TextLines):
            self._lines.naming = flags

    def on_event(self, event: Event, place: Mapping[str, Any] | None = None) -> None:
        """Print and count an event of a run; `place` names its linked folder if there are several."""
        if not isinstance(event, ProgressEvent):
            self._count(event)
            self._lines.event(event, place)
            if self._note:
                self._note(event)
        elif self._bars:
            self._bars.show(event)

    def on_line(self, symbol: str) -> None:
        """Count one path of a check by its symbol; unreadable paths are counted as events."""
        if symbol == "!":
            return
        self._add("unchanged" if symbol == "=" else "problems")

    def _count(self, event: ActionEvent | IssueEvent | HeldEvent) -> None:
        if isinstance(event, IssueEvent):
            self._add("special" if event.by_design else _ISSUE_FIELDS[event.issue])
        elif isinstance(event, ActionEvent) and event.action in _ACTION_FIELDS:
            field = _ACTION_FIELDS[event.action]
            self._add(field)
            if event.replaces is not None:
                self._add("replaced")
            if field in _WITH_BYTES:
                self._add(f"bytes_{field}", event.size)

    def _add(self, field: str, count: int = 1) -> None:
        setattr(self._so_far, field, getattr(self._so_far, field) + count)

    def failure(self, error: BaseException) -> None:
        """Remove the bar, and print the end of a run that failed."""
        if self._bars:
            self._bars.stop()
        self._lines.failure(self._so_far, error)
        if self._file:
            self._file.error("%s: %s", self._so_far.command, message_of(error)[0])

    def end(self, seconds: float) -> int:
        """Print the summary of the events so far, and return the exit code."""
        self._so_far.seconds = seconds
        return self.finish(self._so_far)

    def finish(self, report: Report) -> int:
        """Print the summary and return the exit code."""
        if self._bars:
            self._bars.stop()
        self._lines.summary(report, report.exit_code)
        if self._file:
            self._file.info(summary_line(report))
        return report.exit_code


@contextmanager
def reporting(command: str, flags: Mapping[str, Any], *, late: bool = False) -> Iterator[Output]:
    """Yield the output for `--json`, `-q`, `-v` and `-n`, with progress on a terminal.

    With `late`, progress appears with its first event.
    """
    lines: Lines = JsonLines()
    if not flags["json"]:
        quiet = flags["quiet"]
        wanted = flags["verbose"] or flags.get("dry_run", False)
        actions, other_side = wanted and not quiet, _other_side(command)
        lines = TextLines(quiet=quiet, actions=actions, other_side=other_side)
    with to_file(flags.get("log_file"), as_json=flags.get("log_json", False)) as file:
        bars = _stats(command, flags) or (LateBars(flags) if late else _bars(flags))
        report = Report(command, dry_run=flags.get("dry_run", False))
        yield from _ended(Output(lines, bars, report, file), bars, quiet=flags["quiet"])


def _ended(output: Output, bars: Display | None, *, quiet: bool) -> Iterator[Output]:
    try:
        with saying_stop(quiet=quiet):
            yield output
    except BrokenPipeError:
        raise
    except BaseException as error:
        output.failure(error)
        raise
    finally:
        if bars:
            bars.stop()


class OutcomePrinter:
    """Prints the outcome of a command for each of its paths: a line for people, or a JSON object."""

    def __init__(self, command: str, flags: Mapping[str, Any]) -> None:
        self._json = flags["json"]
        self.report = Report(command, dry_run=flags.get("dry_run", False))
        self.paths = 0
        """The number of paths printed."""
        self.done = 0
        self.more: dict[str, Any] = {}
        """More fields of the summary."""

    @property
    def exit_code(self) -> int:
        return self.report.exit_code

    def say(self, line: str) -> None:
        """Print a line that is for people only."""
        if not self._json:
            say(line)

    def did(self, status: str, line: str, facts: Mapping[str, Any]) -> None:
        """Print the result for a path: `done`, `planned` (in a dry run) or `unchanged`."""
        self.paths += 1
        self.done += status == "done"
        self.report.unchanged += status == "unchanged"
        if not self._json:
            say(line)
        elif status != "unchanged":
            say_json({"type": "action", **facts, "status": status})

    def left(self, status: str, path: str, line: str, reason: str) -> None:
        """Print why a path was not changed: it is a `problem`, or `skipped`."""
        self.paths += 1
        self.report.problems += status == "problem"
        self.report.skipped += status == "skipped"
        if self._json:
            say_json({"type": status, "path": path, "reason": reason})
        else:
            say(f"{line}: {shown(reason)}")


@contextmanager
def outcomes(command: str, flags: Mapping[str, Any]) -> Iterator[OutcomePrinter]:
    """Yield the printer for the outcomes of a command; with --json, the summary comes last, even after an error."""
    output = OutcomePrinter(command, flags)
    if not flags["json"]:
        yield output
        return
    with reporting(command, {**flags, "quiet": True, "verbose": False}):
        yield output
        say_summary({**output.report.as_json(), **output.more})


def summary_line(report: Report, *, stopped: bool = False) -> str:
    """Return the result of a run in one line for people; if `stopped`, what it did before the stop."""
    other_side = _other_side(report.command)
    changes = [
        ("upload", "uploaded", "", report.uploaded, report.bytes_uploaded),
        ("download", "downloaded", "", report.downloaded, report.bytes_downloaded),
        ("delete", "deleted", f" in the {other_side}", report.deleted_remote, 0),
        ("delete", "deleted", " in the folder", report.deleted_local, 0),
        ("move", "moved", "", report.moved, 0),
        ("copy", "copied", "", report.copied, report.as_json().get("bytes_copied", 0)),
    ]
    parts = [
        f"would {verb} {_counted(count, where.strip(), size)}".rstrip() * bool(count)
        if report.dry_run
        else _counted(count, done + where, size)
        for verb, done, where, count, size in changes
    ]
    parts.append(_counted(report.replaced * report.dry_run, "of them replacing another version"))
    parts += [
        _counted(report.adopted, "found equal"),
        _counted(report.unchanged, "intact" if report.command == "scrub" else "unchanged"),
        _counted(report.repaired, "repaired"),
        _counted(report.in_conflict, "in conflict"),
        # Only a linked folder keeps held deletes until they are approved.
        _counted(report.held, "held" if report.command == "migrate" else "held for approval"),
        _counted(report.problems, _PROBLEMS.get(report.command, "failed")),
        _counted(report.skipped, "skipped"),
        *_left_out_of(report, other_side),
    ]
    done = ", ".join(part for part in parts if part)
    if stopped:
        return f"{report.command}: stopped before the end; until then: {done or 'nothing done'}"
    done = done or "nothing to do"
    dry_run = " (dry run, nothing was changed)" if report.dry_run else ""
    return f"{report.command}{dry_run}: {done}; {report.seconds:.1f} s"


def _other_side(command: str) -> str:
    return "target" if command == "migrate" else "store"


def _left_out_of(report: Report, other_side: str) -> list[str]:
    if report.command == "scrub":
        return [_counted(report.special, "left out (changed since the last sync, or archived)")]
    words = left_out_words(other_side)
    return [_counted(count, f"left out {words[name]}") for name, count in report.left_out.items()]


def _counted(count: int, what: str, size: int = 0) -> str:
    if not count:
        return ""
    words = f"{count:,} {what}".rstrip()
    return f"{words} ({size_shown(size)})" if size else words


def _bars(flags: Mapping[str, Any]) -> Bars | None:
    # The bars would break up JSON on the same terminal.
    on_screen = sys.stderr.isatty() and not (flags["json"] and sys.stdout.isatty())
    if flags["quiet"] or not on_screen:
        return None

    return Bars(terminal.print_above, _wait_shown)


def _wait_shown() -> str | None:
    """Return which store this command waits for, and why; `None` while all stores respond."""
    return wait_shown(waits)


def saying_waits(flags: Mapping[str, Any]) -> WaitLines:
    """During the block, print on stderr which store the command waits for, unless a bar shows it; log it, too.

    With -q, only log it.
    """

    def say_it(waiting: str) -> None:
        _log.info("%s", waiting)
        if not flags.get("quiet") and not terminal.has_bar():
            say(f"{waiting[0].upper()}{waiting[1:]}.", to_stderr=True)

    return WaitLines(_wait_shown, say_it)


def _stats(command: str, flags: Mapping[str, Any]) -> Display | None:
    """Return the display that prints a line at the interval of `--stats`, if given."""
    every = read(flags, "stats", parse_seconds)
    if every is None or flags["quiet"]:
        return None
    return StatsLines(command, every, partial(say, to_stderr=True))


class LateBars:
    """A bar that appears with the first progress; any thread may update it."""

    def __init__(self, flags: Mapping[str, Any]) -> None:
        self._flags = {**flags, "quiet": False}
        self._bars: Bars | None = None
        self._lock = Lock()
        self._is_over = False

    def show(self, event: ProgressEvent) -> None:
        with self._lock:
            if self._is_over:
                return
            self._bars = self._bars or _bars(self._flags)
            if self._bars:
                self._bars.show(event)

    def stop(self) -> None:
        with self._lock:
            self._is_over = True
            if self._bars:
                self._bars.stop()
