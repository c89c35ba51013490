"""What a check found, how grave it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

from craftsync.errors import CraftsyncError, StoreDenied, StoreMissing, StoreUnavailable

Subject = TypeVar("Subject")

_GRAVEST_FIRST = (78, 7, 3, 5, 2, 1)
"""The exit codes an error can have. A configuration that cannot be read hides all that is in it."""

_WHOLE_STORE = (StoreDenied, StoreMissing, StoreUnavailable)
"""A store that answers one question so would answer the next one alike, each time after a wait."""


class Level(StrEnum):
    """How grave a finding is. Only an error keeps craftsync from doing its work."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


class Finding(NamedTuple):
    """One thing that was looked at. `exit_code` is what an error ends the command with."""

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
    """Return the finding an exception stands for."""
    if isinstance(error, CraftsyncError):
        return Finding(name, Level.ERROR, str(error), error.remedy, error.exit_code)
    if isinstance(error, OSError):
        return Finding(name, Level.ERROR, f"{error.strerror or error}", "", 1)
    remedy = "This is a fault of craftsync: please report it with this line."
    return Finding(name, Level.ERROR, f"the check failed ({error!r})", remedy, 1)


def examined(label: str, subject: Subject, checks: Iterable[Check[Subject]]) -> Iterator[Finding]:
    """Run the checks on a subject; yields what they find under `label: name`.

    A check that fails is a finding of its own name. After one that found the
    whole store unusable the others are not run.
    """
    for check in checks:
        try:
            for finding in check(subject):
                yield finding._replace(name=f"{label}: {finding.name}" if label else finding.name)
        except Exception as error:  # noqa: BLE001 (whatever goes wrong is what was to be found)
            name = check.__name__.replace("_", " ").strip()
            yield failed(f"{label}: {name}" if label else name, error)
            if isinstance(error, _WHOLE_STORE):
                return


def exit_code_of(findings: Iterable[Finding]) -> int:
    """Return the exit code of the gravest error; 0 when there is none."""
    codes = {finding.exit_code or 1 for finding in findings if finding.level is Level.ERROR}
    return next((code for code in _GRAVEST_FIRST if code in codes), 1 if codes else 0)
