"""The pause of a linked folder: a file beside its control socket, so that it survives a restart.

The daemon writes the file on a request; while no daemon runs, the command line does.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from craftsync.clock import iso
from craftsync.daemon.control import ask
from craftsync.errors import StateError

_FILE = "paused"


def paused_since(control: Path) -> int | None:
    """Return when the user paused a folder (nanoseconds since the epoch), `None` if it is not paused.

    `control` is the folder of its socket, which need not exist. Raises `StateError` if it is unreadable.
    """
    try:
        return (control / _FILE).stat().st_mtime_ns
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _failure("read", control, error) from error


def since_shown(control: Path) -> str | None:
    """Return `paused_since` as an ISO time, for `status --json`. Raises `StateError`."""
    since = paused_since(control)
    return None if since is None else iso(since)


def set_paused(control: Path, *, paused: bool) -> None:
    """Pause or resume a folder; a second pause keeps the time of the first. Raises `StateError`."""
    file = control / _FILE
    try:
        if paused:
            control.mkdir(parents=True, exist_ok=True, mode=0o700)
            with suppress(FileExistsError):
                file.touch(exist_ok=False)
        else:
            file.unlink(missing_ok=True)
    except OSError as error:
        raise _failure("saved", control, error) from error


def _failure(done: str, control: Path, error: OSError) -> StateError:
    return StateError(
        f"The pause in {control} cannot be {done}: {error.strerror or error}.",
        remedy="The folder must belong to you, on a disk with free space.",
    )


def end_pause(control: Path) -> bool | None:
    """End the pause of a folder, through its daemon if one runs, which then resumes.

    Return whether one runs; `None` if none runs and the folder is not paused.
    """
    if ask(control, "resume") is not None:
        return True
    if paused_since(control) is None:
        return None
    set_paused(control, paused=False)
    # A daemon that has started since the first request may have read the pause before this one.
    return ask(control, "resume") is not None
