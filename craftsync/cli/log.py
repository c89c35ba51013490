"""The log: of the daemon, on stderr or for the journal; of any command, in a file (`--log-file`)."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from craftsync.cli import terminal
from craftsync.config.parsers import user_path
from craftsync.engine.report import ActionEvent, Event, HeldEvent, Issue, IssueEvent, OnEvent
from craftsync.errors import UsageError
from craftsync.wording import shown, size_shown

_JOURNAL_LEVELS = {logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6}
"""The priorities of sd-daemon(3), by the lowest level each is for."""
_ISSUE_LEVELS = {Issue.SKIPPED: logging.INFO}

_STDERR = 2

_log = logging.getLogger(__name__)


class _ToStderr(logging.Handler):
    """Writes to the current stderr, which a progress bar may have replaced."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            terminal.put_lines(self.format(record), to_stderr=True)
        except OSError:
            # The reader of stderr is gone. The program must continue.
            self.handleError(record)


class _ForJournal(logging.Formatter):
    """Starts each line with its priority, which the journal removes."""

    def format(self, record: logging.LogRecord) -> str:
        levels = (code for level, code in _JOURNAL_LEVELS.items() if record.levelno >= level)
        prefix = f"<{next(levels, 7)}>"
        return "\n".join(prefix + line for line in super().format(record).splitlines())


class _AsJson(logging.Formatter):
    """One JSON object per line: time, level, message, and the event if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["trace"] = self.formatException(record.exc_info)
        return json.dumps(fields | getattr(record, "fields", {}))


def configure(*, as_json: bool, quiet: bool, environment: Mapping[str, str] = os.environ) -> None:
    """Send every log line of this process to stderr, in the format of its reader."""
    handler = _ToStderr()
    if as_json:
        handler.setFormatter(_AsJson())
    elif _is_journal(environment):
        handler.setFormatter(_ForJournal("%(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    handler.setLevel(logging.WARNING if quiet else logging.INFO)
    own = logging.getLogger("craftsync")
    own.handlers = [handler]
    own.propagate = False
    own.setLevel(logging.INFO)


def _appending_to(file: Path) -> logging.Handler:
    """Return a handler that appends to a file, and reopens it after log rotation."""
    # Importing it takes a tenth of the start of a command, and few commands write a log.
    from logging.handlers import WatchedFileHandler

    class ToFile(WatchedFileHandler):
        def emit(self, record: logging.LogRecord) -> None:
            try:
                super().emit(record)
            except OSError:
                # Its folder is gone.
                self.handleError(record)

        def handleError(self, record: logging.LogRecord) -> None:
            """Drop the line: a log that cannot be written must not stop the program."""

    return ToFile(file, encoding="utf-8", errors="backslashreplace")


@contextmanager
def to_file(file: str | None, *, as_json: bool) -> Iterator[logging.Logger | None]:
    """Also write every log line to a file, if given; yield a logger for that file only, or `None`.

    Raises `UsageError` if the file cannot be written.
    """
    if file is None:
        yield None
        return
    try:
        handler = _appending_to(user_path(file))
    except OSError as error:
        raise UsageError(
            f"--log-file: {file} cannot be written: {error.strerror}.",
            remedy="Name a file in an existing folder that you can write to.",
        ) from error
    plain = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    handler.setFormatter(_AsJson() if as_json else plain)
    own = logging.getLogger("craftsync")
    if not own.handlers and logging.lastResort is not None:
        # The handler that prints warnings if there is no other.
        own.addHandler(logging.lastResort)
    own.addHandler(handler)
    own.setLevel(logging.INFO)
    alone = logging.Logger(f"craftsync in {file}", logging.INFO)
    alone.addHandler(handler)
    try:
        yield alone
    finally:
        own.removeHandler(handler)
        handler.close()


def listener(label: str, log: logging.Logger = _log, *, naming: str = "") -> OnEvent:
    """Return a listener that logs the events of a linked folder, or of a command, under this label.

    `naming` is the flags that name the folder in printed commands; see `params.naming`.
    """

    def listen(event: Event) -> None:
        if isinstance(event, ActionEvent):
            line = f"{shown(event.line)} ({size_shown(event.size)})"
            _say(log, logging.INFO, label, line, event)
        elif isinstance(event, HeldEvent):
            fields = {"fields": {"root": label}}
            line = event.named(naming).sentence
            log.warning("%s: %s", shown(label), line, extra=fields)
        elif isinstance(event, IssueEvent) and event.issue is not Issue.HELD:
            line = f"{event.issue}: {shown(event.path)}: {event.reason}"
            _say(log, _ISSUE_LEVELS.get(event.issue, logging.WARNING), label, line, event)

    return listen


def _say(
    log: logging.Logger, level: int, label: str, line: str, event: ActionEvent | IssueEvent
) -> None:
    fields = {"root": label, "event": event.as_json()}
    log.log(level, "%s: %s", shown(label), line, extra={"fields": fields})


def _is_journal(environment: Mapping[str, str]) -> bool:
    """Return whether systemd connected stderr to the journal (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        stream = os.fstat(_STDERR)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{stream.st_dev}:{stream.st_ino}"
