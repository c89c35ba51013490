"""`watch`: keep a pair in step until stopped."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from craftsync import opening, runs
from craftsync.cli import control, logs
from craftsync.cli import parameters as common
from craftsync.cli.output import reporting
from craftsync.config import file as config
from craftsync.config import pairs, places
from craftsync.config.options import PassOptions, Settings
from craftsync.core.model import Mode
from craftsync.errors import ConfigError
from craftsync.sync.report import OnEvent

if TYPE_CHECKING:
    from craftsync.daemon.events import EventSource
    from craftsync.daemon.pair import Watched
    from craftsync.daemon.process import Setup

_STDIN = 0
"""By number, for a service may be started without."""

_seconds = click.FloatRange(0, min_open=True)

MakeListener = Callable[[str], OnEvent]
"""Makes what the events of one root are told to."""


@click.command(cls=common.Command)
@common.all_of(
    common.pair_words,
    common.mode_option,
    click.option("--settle", type=_seconds, help="Seconds a file has to be quiet. [0.5]"),
    click.option("--poll", type=_seconds, help="Seconds between listings of the store. [30]"),
    click.option("--rescan", type=_seconds, help="Seconds between scans of the root. [600]"),
    common.decision_options,
    common.transfer_options,
    common.output_options,
    click.option("--log-json", is_flag=True, help="Write the log as one JSON object a line."),
    common.access_options,
)
def watch(pair: tuple[str, ...], mode: str | None, **flags: Any) -> int:
    """Keep root and store in step until stopped, in the foreground.

    Without words every folder of the configuration is kept so, by one process.

    This is what the service runs. Ctrl-C, SIGTERM or `craftsync stop` ends it
    in good order; SIGHUP makes it read the configuration again.

    \b
    Examples:
      craftsync watch datasets
      craftsync watch --mode push ~/datasets s3://bucket/prefix
    """
    from craftsync.clock import SystemClock
    from craftsync.daemon.process import ServiceManager
    from craftsync.daemon.process import watch as watch_all

    manager = ServiceManager(os.environ)
    logs.configure(as_json=flags["log_json"], quiet=flags["quiet"])
    with _listening(flags) as make_listener:

        def load() -> Setup:
            return _setup(pair, mode, flags, make_listener)

        try:
            return watch_all(load, SystemClock(), manager, hangup_ends=os.isatty(_STDIN))
        except KeyboardInterrupt:
            # It arrived before the loop was there to end by itself.
            return 0


def _setup(
    words: tuple[str, ...], mode: str | None, flags: dict[str, Any], make_listener: MakeListener
) -> Setup:
    """Return what the words, the flags and the configuration of now ask for."""
    from craftsync.daemon.process import Setup

    asked = common.asked_of(flags)
    settings = common.watch_settings_of(flags)
    known = config.load(asked.get("config"))
    watched = [
        _watched(one, settings, mode, asked, make_listener) for one in opening.every(words, asked)
    ]
    typed = len(words) > 1
    figures = known.metrics and _own_file(known.metrics, words, watched)
    return Setup(tuple(watched), figures, known.notify, typed)


def _own_file(file: Path, words: tuple[str, ...], watched: Sequence[Watched]) -> Path:
    """Return the file for the figures of this process: one that keeps a single folder has its own."""
    if not words:
        return file
    name = words[0] if len(words) == 1 else watched[0].control.name[:8]
    plain = re.sub(r"[^\w.-]", "_", name)
    return file.with_name(f"{file.stem}-{plain}{file.suffix}")


def _watched(
    pair: pairs.Pair,
    flags: Settings,
    mode: str | None,
    asked: PassOptions,
    make_listener: MakeListener,
) -> Watched:
    """Return how one pair is to be watched; what the call is silent about its folder says."""
    from craftsync.core.timetable import Windows
    from craftsync.daemon.pair import Watched
    from craftsync.daemon.schedule import WatchSettings

    settings = flags.over(pair.settings)
    options = runs.options_for(pair, asked, common.mode_of(mode) or settings.mode or Mode.TWO_WAY)
    default = WatchSettings()
    return Watched(
        root=str(pair.root),
        store=places.address_of(pair.location),
        control=control.folder_of(pair, asked),
        told=pair,
        settings=WatchSettings(
            settings.settle or default.settle_seconds,
            settings.poll or default.poll_seconds,
            settings.rescan or default.rescan_seconds,
            settings.scrub or default.scrub_share,
        ),
        options=options,
        open=lambda: runs.opened_for(pair, options, asked),
        on_event=make_listener(str(pair.root)),
        windows=settings.windows or Windows(),
        events=_events_of(settings.events, pair.location),
    )


@contextmanager
def _listening(flags: dict[str, Any]) -> Iterator[MakeListener]:
    """Give what makes the listeners: to JSON on stdout, or to the log."""
    if flags["json"]:
        with reporting("watch", {**flags, "quiet": True}) as output:
            yield lambda root: output.on_event
    else:
        yield logs.listener


def _events_of(url: str | None, location: places.Location) -> EventSource | None:
    """Return the queue that tells of changes in the store, if the configuration names one."""
    from craftsync.daemon.events import EventSource

    if url is None:
        return None
    if not isinstance(location, places.S3Location):
        raise ConfigError(
            f"events: {url!r} tells of a bucket, and the store is none.",
            remedy="Remove the key, or name an environment with store: s3.",
        )
    prefix = f"{location.prefix}/" if location.prefix else ""
    access = location.access
    return EventSource(url, location.bucket, prefix, access.profile, access.region)
