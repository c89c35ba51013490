"""Asks a running daemon about one pair: one line of JSON there, one back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from craftsync.daemon.endpoint import connect, process_of
from craftsync.errors import CraftsyncError, StateError, UsageError

_TIMEOUT = 10.0
"""Seconds within which a daemon has answered, or is taken to hang."""


def ask(folder: Path, verb: str, **arguments: Any) -> Any:
    """Return what the daemon of the pair with this state folder answers; `None` when none runs.

    Raises `UsageError` for a request it refuses, and `StateError` for a daemon
    that does not answer.
    """
    peer = connect(folder, _TIMEOUT)
    if peer is None:
        return None
    process = process_of(peer)
    try:
        with peer, peer.makefile("rwb") as stream:
            stream.write(json.dumps({"verb": verb, **arguments}).encode() + b"\n")
            stream.flush()
            answer = json.loads(stream.readline() or b"null")
    except (OSError, ValueError) as error:
        raise _silent(process) from error
    if answer is None:
        # It ended, or closed the line, between the question and the answer.
        raise _silent(process)
    if "error" in answer:
        raise UsageError(f"The daemon refuses: {answer['error']}.")
    return answer["answer"]


def running(state_dir: Path) -> dict[int, Path]:
    """Return the process of each daemon below a state folder, with a folder to speak to it by.

    No configuration is needed for it.
    """
    found: dict[int, Path] = {}
    for folder in sorted((state_dir / "control").glob("*")):
        peer = connect(folder, _TIMEOUT)
        if peer is not None:
            with peer:
                found.setdefault(process_of(peer), folder)
    return found


def _silent(process: int) -> CraftsyncError:
    return StateError(
        f"The daemon (process {process}) does not answer.",
        remedy="Ask again in a minute: a service that hangs is started anew by then. "
        f"If it stays so, end it with kill -9 {process} and start it anew.",
    )
