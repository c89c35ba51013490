"""Asks a running daemon about one pair: one line of JSON there, one back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from craftsync.daemon.endpoint import connect
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
    try:
        with peer, peer.makefile("rwb") as stream:
            stream.write(json.dumps({"verb": verb, **arguments}).encode() + b"\n")
            stream.flush()
            answer = json.loads(stream.readline() or b"null")
    except (OSError, ValueError) as error:
        raise _silent(folder) from error
    if answer is None:
        # It ended, or closed the line, between the question and the answer.
        raise _silent(folder)
    if "error" in answer:
        raise UsageError(f"The daemon refuses: {answer['error']}.")
    return answer["answer"]


def _silent(folder: Path) -> CraftsyncError:
    return StateError(
        f"The daemon that listens in {folder} does not answer.",
        remedy="Ask again; if it stays so, end it (its process holds that folder open) and start it anew.",
    )
