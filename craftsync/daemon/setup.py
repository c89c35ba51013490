"""What the daemon is asked to do, as values: two that are equal ask for the same."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from craftsync.core.timetable import Windows
from craftsync.daemon.cycles import WatchSettings
from craftsync.daemon.queue_events import EventSource
from craftsync.sync.report import OnEvent, Options
from craftsync.sync.session import Session


@dataclass(frozen=True, slots=True)
class Watched:
    """A pair to be kept in step, and how.

    `control` is the folder for its socket (`endpoint.folder_of`); `told` is
    all that was said about the pair, to be compared. `on_event` is called from
    the pair's own thread.
    """

    root: str
    store: str
    control: Path
    told: object
    settings: WatchSettings
    options: Options
    open: Callable[[], AbstractContextManager[Session]] = field(compare=False)
    on_event: OnEvent = field(compare=False)
    windows: Windows = field(default_factory=Windows)
    events: EventSource | None = None


@dataclass(frozen=True, slots=True)
class Setup:
    """Everything: folders, a file for figures, the words of a command for what a person should know.

    `typed` says that a person named root and store in this call, so that what
    cannot be used at the first try may be mistyped.
    """

    pairs: tuple[Watched, ...]
    metrics: Path | None = None
    notify: tuple[str, ...] = ()
    typed: bool = False
