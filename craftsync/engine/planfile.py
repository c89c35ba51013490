"""Plan files (`plan -o`, `apply`): a header and one action a line, as JSON.

The user may edit a file between the two commands, so each field is checked when it is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TextIO

from craftsync.core.model import (
    Action,
    Compare,
    Kind,
    LocalFile,
    Mode,
    OnConflict,
    Policy,
    RemoteObject,
)
from craftsync.core.paths import refusal
from craftsync.engine.report import (
    Options,
)
from craftsync.errors import UsageError

_VERSION = 1
_MOVES = (Kind.MOVE_REMOTE, Kind.MOVE_LOCAL)
_NEED_LOCAL = (Kind.UPLOAD, Kind.DELETE_LOCAL, Kind.MOVE_REMOTE, Kind.RECONCILE, Kind.ADOPT)
_NEED_REMOTE = (Kind.DOWNLOAD, Kind.DELETE_REMOTE, Kind.MOVE_LOCAL, Kind.RECONCILE, Kind.ADOPT)


class PlanFile(NamedTuple):
    """A plan file as read: its folder and store, its policy and its actions."""

    root: str
    store: str
    policy: Policy
    actions: Iterator[Action]
    follow_links: bool = False


def write_header(out: TextIO, root: str, store: str, options: Options) -> None:
    """Write the header of a plan: its folder and store, and its policy."""
    policy = options.policy
    _write(
        out,
        {
            "type": "plan",
            "version": _VERSION,
            "root": root,
            "store": store,
            "mode": policy.mode,
            "delete": policy.delete,
            "compare": policy.compare,
            "conflict": policy.conflict,
            **({"links": "follow"} if options.follow_links else {}),
        },
    )


def write_action(out: TextIO, action: Action) -> None:
    """Write one action, with the file and the object it was planned for."""
    _write(
        out,
        {
            "type": "action",
            "action": action.kind,
            "path": action.path,
            "source": action.source,
            "rule": action.rule,
            "local": list(action.local[1:]) if action.local else None,
            "remote": list(action.remote[1:4]) if action.remote else None,
        },
    )


def read(lines: Iterable[str]) -> PlanFile:
    """Read a plan. Raises `UsageError` if it is invalid, at once or while its actions are read."""
    rest = iter(lines)
    header = _parse(next(rest, ""), 1)
    if header.get("type") != "plan" or header.get("version") != _VERSION:
        raise _invalid(1, "")
    try:
        policy = Policy(
            Mode(header["mode"]),
            bool(header["delete"]),
            Compare(header["compare"]),
            OnConflict(header["conflict"]),
        )
        root, store = str(header["root"]), str(header["store"])
    except (KeyError, ValueError) as error:
        raise UsageError(f"Line 1 of the plan is damaged: {error}.", remedy=_REMEDY) from error
    return PlanFile(root, store, policy, _actions(rest), header.get("links") == "follow")


def _actions(lines: Iterable[str]) -> Iterator[Action]:
    for number, line in enumerate(lines, start=2):
        fields = _parse(line, number)
        try:
            yield _action(fields)
        except (KeyError, TypeError, ValueError) as error:
            raise _invalid(number, f"is damaged: {error}") from error


def _action(fields: dict[str, Any]) -> Action:
    """Return one action. Raises `KeyError`, `TypeError` or `ValueError` if craftsync cannot have written it."""
    path, source, kind = str(fields["path"]), fields["source"], Kind(fields["action"])
    for each in (path, source) if kind in _MOVES else (path,):
        if reason := refusal(str(each or "")):
            raise ValueError(f"{each!r} takes no part: {reason}")
    if source is not None and kind not in _MOVES:
        raise ValueError(f"{kind} has no source")
    local, remote = fields["local"], fields["remote"]
    numbers = [*(local or ()), *(remote or ())[:1]]
    if not all(isinstance(number, int) for number in numbers):
        raise ValueError("a size or time is not a number")
    here = LocalFile(path, *local) if local else None
    there = RemoteObject(path, *remote) if remote else None
    if (here is None and kind in _NEED_LOCAL) or (there is None and kind in _NEED_REMOTE):
        raise ValueError(f"{kind} lacks what was seen on the side it changes")
    return Action(kind, path, str(fields["rule"]), here, None, there, source)


def _parse(line: str, number: int) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise _invalid(number, f"is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise _invalid(number, "is not a JSON object")
    return fields


_REMEDY = "Write a plan with `craftsync plan -o FILE`."


def _invalid(number: int, why: str) -> UsageError:
    """Return the error for a line; a first line that is no header means that the file is not a plan."""
    if number == 1:
        return UsageError(
            "This is not a plan of craftsync, or one of another version.", remedy=_REMEDY
        )
    return UsageError(f"Line {number} of the plan {why}.", remedy=_REMEDY)


def _write(out: TextIO, fields: dict[str, Any]) -> None:
    out.write(json.dumps(fields, ensure_ascii=False) + "\n")
