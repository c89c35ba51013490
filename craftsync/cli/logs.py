"""What a program that runs for long says: one line an event on stderr, as a terminal, the journal or a collector reads it."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from craftsync.cli import terminal
from craftsync.cli.output import size_shown
from craftsync.cli.terminal import shown
from craftsync.sync.report import ActionEvent, Event, HeldEvent, Issue, IssueEvent, OnEvent

_JOURNAL_LEVELS = {logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6}
"""The priorities of sd-daemon(3), by the lowest level each is for."""
_ISSUE_LEVELS = {Issue.SKIPPED: logging.INFO}

_STDERR = 2

_log = logging.getLogger(__name__)


class _ToStderr(logging.Handler):
    """Writes to whatever stderr is by then: a progress bar may stand in for it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            terminal.put_lines(self.format(record), to_stderr=True)
        except OSError:
            # Nobody reads any more. That must not end what the log is about.
            self.handleError(record)


class _ForJournal(logging.Formatter):
    """Says the priority first, on each line, as the journal takes it off again."""

    def format(self, record: logging.LogRecord) -> str:
        levels = (code for level, code in _JOURNAL_LEVELS.items() if record.levelno >= level)
        prefix = f"<{next(levels, 7)}>"
        return "\n".join(prefix + line for line in super().format(record).splitlines())


class _AsJson(logging.Formatter):
    """One JSON object a line: when, how bad, what; and the event itself where there is one."""

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
    """Send every log line of this process to stderr in the form that is read there."""
    handler = _ToStderr()
    if as_json:
        handler.setFormatter(_AsJson())
    elif _is_journal(environment):
        handler.setFormatter(_ForJournal("%(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    own = logging.getLogger("craftsync")
    own.handlers = [handler]
    own.propagate = False
    own.setLevel(logging.WARNING if quiet else logging.INFO)


def listener(root: str) -> OnEvent:
    """Return what writes the events of the pair with this root to the log."""
    label = f"{shown(root)}: "

    def listen(event: Event) -> None:
        if isinstance(event, ActionEvent):
            line = f"{event.action} {shown(event.path)} ({size_shown(event.size)})"
            _say(logging.INFO, label + line, root, event)
        elif isinstance(event, HeldEvent):
            _log.warning("%s", label + event.sentence, extra={"fields": {"root": root}})
        elif isinstance(event, IssueEvent) and event.issue is not Issue.HELD:
            line = f"{event.issue}: {shown(event.path)}: {event.reason}"
            _say(_ISSUE_LEVELS.get(event.issue, logging.WARNING), label + line, root, event)

    return listen


def _say(level: int, line: str, root: str, event: ActionEvent | IssueEvent) -> None:
    _log.log(level, "%s", line, extra={"fields": {"root": root, "event": event.as_json()}})


def _is_journal(environment: Mapping[str, str]) -> bool:
    """Tell whether stderr is the stream systemd connected to the journal (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        here = os.fstat(_STDERR)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{here.st_dev}:{here.st_ino}"
