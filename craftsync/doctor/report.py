"""Findings of checks, with severity and remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

from craftsync.errors import CraftsyncError, StoreDenied, StoreMissing, StoreUnavailable

Subject = TypeVar("Subject")

_BY_SEVERITY = (78, 7, 3, 5, 2, 1)
"""The exit codes of errors. An unreadable configuration comes first, because it hides everything in it."""

_WHOLE_STORE = (StoreDenied, StoreMissing, StoreUnavailable)
"""After one of these errors every other check of the store would fail the same way, after a wait."""


class Level(StrEnum):
    """The severity of a finding. Only an error keeps craftsync from working."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


class Finding(NamedTuple):
    """One result of a check. `exit_code` is the exit code of the command for an error."""

    name: str
    level: Level
    detail: str
    remedy: str = ""
    exit_code: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "type": "finding",
            "name": self.name,
            "level": str(self.level),
            "detail": self.detail,
            "remedy": self.remedy,
        }


Check = Callable[[Subject], Iterable[Finding]]


def ok(name: str, detail: str) -> Finding:
    return Finding(name, Level.OK, detail)


def note(name: str, detail: str, remedy: str = "") -> Finding:
    return Finding(name, Level.NOTE, detail, remedy)


def warning(name: str, detail: str, remedy: str) -> Finding:
    return Finding(name, Level.WARNING, detail, remedy)


def failed(name: str, error: Exception) -> Finding:
    if isinstance(error, CraftsyncError):
        return Finding(name, Level.ERROR, str(error), error.remedy, error.exit_code)
    if isinstance(error, OSError):
        return Finding(name, Level.ERROR, f"{error.strerror or error}", "", 1)
    remedy = "This is a bug in craftsync: please report it with this line."
    return Finding(name, Level.ERROR, f"the check failed ({error!r})", remedy, 1)


def examined(label: str, subject: Subject, checks: Iterable[Check[Subject]]) -> Iterator[Finding]:
    """Run the checks on a subject and yield their findings as `label: name`.

    A check that raises yields a finding with its name. After an error that makes
    the whole store unusable, the remaining checks are skipped.
    """
    for check in checks:
        try:
            for finding in check(subject):
                yield finding._replace(name=f"{label}: {finding.name}" if label else finding.name)
        except Exception as error:  # noqa: BLE001 (any error is a finding)
            name = check.__name__.replace("_", " ").strip()
            yield failed(f"{label}: {name}" if label else name, error)
            if isinstance(error, _WHOLE_STORE):
                return


def exit_code_of(findings: Iterable[Finding]) -> int:
    """Return the exit code of the most severe error; 0 without errors."""
    codes = {finding.exit_code or 1 for finding in findings if finding.level is Level.ERROR}
    return next((code for code in _BY_SEVERITY if code in codes), 1 if codes else 0)
