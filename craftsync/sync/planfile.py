"""A plan as text: one JSON object a line, a header first, to be read and applied later."""

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
from craftsync.errors import UsageError
from craftsync.sync.report import Options

_VERSION = 1


class PlanFile(NamedTuple):
    """A plan that was read: for which pair, under which policy, and its actions."""

    root: str
    store: str
    policy: Policy
    actions: Iterator[Action]


def write_header(out: TextIO, root: str, store: str, options: Options) -> None:
    """Begin a plan with what it is for."""
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
        },
    )


def write_action(out: TextIO, action: Action) -> None:
    """Add one action with the looks it rests on."""
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
    """Read a plan; raises `UsageError` for anything that is not one."""
    rest = iter(lines)
    header = _parse(next(rest, ""), 1)
    if header.get("type") != "plan" or header.get("version") != _VERSION:
        raise UsageError(
            "this is not a plan of craftsync, or one of another version",
            remedy="Write one with `craftsync plan -o FILE`.",
        )
    try:
        policy = Policy(
            Mode(header["mode"]),
            bool(header["delete"]),
            Compare(header["compare"]),
            OnConflict(header["conflict"]),
        )
        root, store = str(header["root"]), str(header["store"])
    except (KeyError, ValueError) as error:
        raise UsageError(f"line 1 of the plan is damaged: {error}") from error
    return PlanFile(root, store, policy, _actions(rest))


def _actions(lines: Iterable[str]) -> Iterator[Action]:
    for number, line in enumerate(lines, start=2):
        fields = _parse(line, number)
        try:
            path = str(fields["path"])
            local, remote = fields["local"], fields["remote"]
            yield Action(
                Kind(fields["action"]),
                path,
                str(fields["rule"]),
                LocalFile(path, *local) if local else None,
                None,
                RemoteObject(path, *remote) if remote else None,
                fields["source"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"line {number} of the plan is damaged: {error}") from error


def _parse(line: str, number: int) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise UsageError(f"line {number} of the plan is no JSON: {error}") from error
    if not isinstance(fields, dict):
        raise UsageError(f"line {number} of the plan is no JSON object")
    return fields


def _write(out: TextIO, fields: dict[str, Any]) -> None:
    out.write(json.dumps(fields, ensure_ascii=False) + "\n")
