"""The daemon from the command line: `watch`, and the commands that control it."""

from __future__ import annotations

import os
import re
import select
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from craftsync import linked_folders, runs
from craftsync.cli import log
from craftsync.cli import params as common
from craftsync.cli.live_display import WatchView
from craftsync.cli.output import reporting, say
from craftsync.cli.terminal import message_of
from craftsync.config import file as config
from craftsync.config import pairs, places
from craftsync.config.options import PairOptions, RunOptions, Settings, given_by, read
from craftsync.config.parsers import BadWord, Rates, parse_address, parse_rates, parse_seconds
from craftsync.engine.report import OnEvent
from craftsync.errors import ConfigError, CraftsyncError, StateError, UsageError
from craftsync.wording import shown

if TYPE_CHECKING:
    from craftsync.daemon.events import EventSource
    from craftsync.daemon.pair import Watched
    from craftsync.daemon.process import Setup


_STOP_SECONDS = 60.0
_POLL_SECONDS = 0.05


@click.command(cls=common.Command)
@common.pair_options
def pause(pair: tuple[str, ...], **flags: Any) -> int:
    """Pause the daemon's work on a folder until `resume`: scans, transfers and deletes.

    Transfers under way stop; later they resume where they stopped. The pause
    survives a restart; while no daemon runs, it is kept for the next one. It
    does not stop push, pull, sync and apply that you start yourself: they run
    whenever no daemon, paused or not, holds the folder (`craftsync stop`).

    \b
    Examples:
      craftsync pause
      craftsync pause datasets
    """
    return _control_each(pair, flags, _pause)


@click.command(cls=common.Command)
@common.pair_options
def resume(pair: tuple[str, ...], **flags: Any) -> int:
    """End a pause: the daemon resumes, with a scan of everything.

    While no daemon runs, the next one starts without the pause.

    \b
    Examples:
      craftsync resume
      craftsync resume datasets
    """
    return _control_each(pair, flags, _resume)


def _pause(pair: pairs.Pair, asked: PairOptions) -> str | None:
    from craftsync.daemon.pause import set_paused
    from craftsync.state.pair import is_remembered

    if request(pair, asked, "pause") is not None:
        return "paused"
    if not pair.folder and not is_remembered(pairs.state_dir_of(asked), *pair.addresses):
        # It may be mistyped.
        return None
    set_paused(folder_of(pair, asked), paused=True)
    # A daemon that has started since the first request may have read the pause before this one.
    if request(pair, asked, "pause") is not None:
        return "paused"
    return "paused; no daemon runs, and the next one starts paused"


def _resume(pair: pairs.Pair, asked: PairOptions) -> str | None:
    from craftsync.daemon.pause import end_pause

    is_running = end_pause(folder_of(pair, asked))
    if is_running is None:
        return None
    if is_running:
        return "resumed"
    return "no longer paused; no daemon runs, craftsync watch starts one"


@click.command(cls=common.Command)
@common.pair_options
def rescan(pair: tuple[str, ...], **flags: Any) -> int:
    """Make the running daemon scan everything now.

    \b
    Examples:
      craftsync rescan
      craftsync rescan datasets
    """
    return _request_each(pair, flags, "sync", "scan started")


@click.command(cls=common.Command)
@common.all_of(click.argument("rate", metavar="RATE[:RATE]"), common.pair_options)
def bwlimit(rate: str, pair: tuple[str, ...], **flags: Any) -> int:
    """Change the bandwidth limit of a running daemon at once, until it ends.

    RATE is bytes per second with K, M or G, `off`, or `default` for the
    configured limit.

    \b
    Examples:
      craftsync bwlimit 2M
      craftsync bwlimit 2M:off datasets
    """
    if rate == "default":
        return _request_each(pair, flags, "bwlimit", "limited as configured", configured=True)
    try:
        rates = parse_rates(rate)
    except BadWord as bad:
        raise UsageError(f"{rate!r} {bad}.", remedy=bad.remedy) from bad
    return _request_each(pair, flags, "bwlimit", _limits(rates), **rates._asdict())


@click.command(cls=common.Command)
@common.pair_options
def stop(pair: tuple[str, ...], **flags: Any) -> int:
    """Stop the daemon cleanly, and return once it has ended.

    With arguments, stop only that folder, until the daemon is restarted; a
    reload does not start it again. The daemon ends with its last folder.

    \b
    Examples:
      craftsync stop
      craftsync stop datasets
    """
    from craftsync.daemon.control import running

    asked = common.asked_of(flags)
    state_dir = pairs.state_dir_of(asked)
    with ExitStack() as opened:
        # Descriptors, because another process may get the number of one that has ended.
        daemons = {process: _opened(process, opened) for process in running(state_dir)}
        ends: dict[int, bool] = {}
        try:
            return _control_each(pair, flags, partial(_stop, ends))
        finally:
            for process in daemons.keys() - running(state_dir).keys():
                if ends.get(process, True):
                    _wait_for_process(daemons[process])


def _stop(ends: dict[int, bool], pair: pairs.Pair, asked: PairOptions) -> str:
    """Stop a folder, and note in `ends` whether its daemon ends with it."""
    answer = request(pair, asked, "stop")
    if answer is None:
        return "was not running"
    ends[answer["pid"]] = answer.get("ends", True)
    _wait_for_end(folder_of(pair, asked))
    return "stopped"


@click.command(cls=common.Command)
@common.all_of(common.access_options)
def reload(**flags: Any) -> None:
    """Make every running daemon reload its configuration.

    An invalid configuration changes nothing: the reason is printed, and the
    exit code is 78.

    \b
    Examples:
      craftsync reload
    """
    from craftsync.daemon.control import ask, running

    daemons = running(pairs.state_dir_of(common.asked_of(flags)))
    if not daemons:
        raise CraftsyncError(
            "No daemon runs.",
            remedy="Start one with craftsync watch, or craftsync service install.",
        )
    refusals = []
    for process, folder in daemons.items():
        answer = ask(folder, "reload")
        if answer and answer["refused"]:
            refusals.append(answer["refused"])
        else:
            say(f"process {process}: configuration read again")
    if refusals:
        raise ConfigError(
            f"New configuration refused: {' '.join(refusals)}",
            remedy="The old one stays in use. Correct the new one, and reload again.",
        )


def folder_of(pair: pairs.Pair, asked: PairOptions) -> Path:
    """Return the folder of the control socket of a pair, whether or not its daemon runs."""
    from craftsync.daemon import control

    return control.folder_of(pairs.state_dir_of(asked), *pair.addresses)


def request(pair: pairs.Pair, asked: PairOptions, verb: str, **arguments: Any) -> Any:
    """Send a request to the daemon of a pair; return its response, `None` if none runs."""
    from craftsync.daemon.control import ask

    return ask(folder_of(pair, asked), verb, **arguments)


def _request_each(
    typed: tuple[str, ...], flags: dict[str, Any], verb: str, done: str, **arguments: Any
) -> int:
    """Send a request to the daemon of each pair and print the result; return the exit code."""

    def send(pair: pairs.Pair, asked: PairOptions) -> str | None:
        return None if request(pair, asked, verb, **arguments) is None else done

    return _control_each(typed, flags, send)


def _control_each(
    typed: tuple[str, ...],
    flags: dict[str, Any],
    carry_out: Callable[[pairs.Pair, PairOptions], str | None],
) -> int:
    """Carry out a command for each pair and print what it did; `None` means that no daemon runs.

    A pair for which it fails does not keep it from the others: the error is printed. Return the most
    serious exit code. Raise the error of an only pair, or if nothing failed but no daemon runs.
    """
    from craftsync.daemon.status import most_serious

    asked = common.asked_of(flags)
    missing, codes = [], list[int]()
    each = linked_folders.every(common.words_of(flags, typed), asked)
    for pair in each:
        try:
            result = carry_out(pair, asked)
        except CraftsyncError as error:
            if len(each) == 1:
                raise
            _say_failure(error, f"{pair.root}: ")
            codes.append(error.exit_code)
            continue
        if result is None:
            missing.append(str(pair.root))
        else:
            say(f"{shown(str(pair.root))}: {result}")
    if missing:
        none_runs = _not_running(missing)
        if not codes:
            raise none_runs
        _say_failure(none_runs)
        codes.append(none_runs.exit_code)
    return most_serious(codes)


def _say_failure(error: CraftsyncError, place: str = "") -> None:
    say(shown(f"{place}{' '.join(message_of(error))}".rstrip()), to_stderr=True)


def _not_running(roots: Sequence[str]) -> CraftsyncError:
    return CraftsyncError(
        f"No daemon runs for {shown(', '.join(roots))}.",
        remedy="Start one with craftsync watch, or craftsync service install; "
        "craftsync service status shows an installed one.",
    )


def _limits(rates: Rates) -> str:
    up, down = ("no limit" if rate is None else f"{rate:.0f} bytes/s" for rate in rates)
    return f"up {up}, down {down}"


def _wait_for_end(folder: Path) -> None:
    """Return when the daemon stops listening: by then, it has closed all files."""
    from craftsync.clock import SystemClock
    from craftsync.daemon.control import connect

    clock = SystemClock()
    deadline = clock.monotonic() + _STOP_SECONDS
    while (peer := connect(folder, _STOP_SECONDS)) is not None:
        peer.close()
        if clock.monotonic() > deadline:
            raise _not_ended()
        clock.sleep(_POLL_SECONDS)


def _opened(process: int, opened: ExitStack) -> int | None:
    """Return a descriptor that is readable once the process has ended, `None` if the kernel has none."""
    try:
        descriptor = os.pidfd_open(process)
    except OSError:
        return None
    opened.callback(os.close, descriptor)
    return descriptor


def _wait_for_process(descriptor: int | None) -> None:
    if descriptor is not None and not select.select([descriptor], [], [], _STOP_SECONDS)[0]:
        raise _not_ended()


def _not_ended() -> StateError:
    return StateError(
        f"The daemon has not ended within {_STOP_SECONDS:.0f} s.",
        remedy="See what it does with craftsync status.",
    )


_STDIN = 0
"""By number, because a service may be started without it."""

_STDERR = 2

MakeListener = Callable[[pairs.Pair], OnEvent]
"""Makes the listener for the events of a linked folder."""


@click.command(cls=common.CommandWithSummary)
@common.all_of(
    common.mode_option,
    common.time_options,
    common.decision_options,
    common.refused_filters,
    common.transfer_options,
    common.output_options,
    common.group("metrics"),
    click.option("--log-json", is_flag=True, help="Log one JSON object per line."),
    common.pair_options,
    common.written_options,
)
def watch(pair: tuple[str, ...], **flags: Any) -> int:
    """Keep a folder and its store in sync until stopped, in the foreground.

    Without arguments, one process keeps every configured folder in sync.

    The service runs this command. Ctrl-C, SIGTERM or `craftsync stop` stops it
    cleanly; SIGHUP makes it reload the configuration.

    \b
    Examples:
      craftsync watch datasets
      craftsync watch --mode push ~/datasets s3://bucket/prefix
    """
    from craftsync.clock import SystemClock
    from craftsync.daemon.process import ServiceManager
    from craftsync.daemon.process import watch as watch_all

    manager, clock = ServiceManager(os.environ), SystemClock()
    log.configure(as_json=flags["log_json"], quiet=flags["quiet"])
    words, stats = common.words_of(flags, pair), read(flags, "stats", parse_seconds)
    on_terminal = os.isatty(_STDERR) and not any(flags[name] for name in ("json", "quiet"))
    view = WatchView(clock, every=stats, on_terminal=on_terminal and not flags["log_json"])
    with _listening(flags, view) as make_listener:

        def load() -> Setup:
            return _setup(words, flags, make_listener)

        try:
            return watch_all(
                load, clock, manager, hangup_ends=os.isatty(_STDIN), on_status=view.show
            )
        except KeyboardInterrupt:
            # Ctrl-C came before the loop could handle it.
            return 0


def _setup(words: Sequence[str], flags: dict[str, Any], make_listener: MakeListener) -> Setup:
    """Return the folders and settings from the arguments, the flags and the current configuration."""
    from craftsync.daemon.process import Setup

    asked = common.asked_of(flags)
    given = given_by(flags)
    known = config.load(asked.get("config"))
    watched = [
        _watched(one, given, asked, make_listener) for one in linked_folders.every(words, asked)
    ]
    typed = len(words) > 1
    figures = known.metrics and _own_file(known.metrics, words, watched)
    address = read(flags, "metrics_addr", parse_address) or known.metrics_addr
    if address is not None:
        from craftsync.daemon.metrics import ensure_installed

        ensure_installed()
    return Setup(tuple(watched), figures, address, known.notify, typed)


def _own_file(file: Path, words: Sequence[str], watched: Sequence[Watched]) -> Path:
    """Return the metrics file of this process: a process for one folder has its own."""
    if not words:
        return file
    name = words[0] if len(words) == 1 else watched[0].control.name[:8]
    plain = re.sub(r"[^\w.-]", "_", name)
    return file.with_name(f"{file.stem}-{plain}{file.suffix}")


def _watched(
    pair: pairs.Pair,
    given: Mapping[str, Any],
    asked: RunOptions,
    make_listener: MakeListener,
) -> Watched:
    """Return the settings for watching a pair: flags first, then those of its folder."""
    from craftsync.daemon.pair import Watched
    from craftsync.daemon.schedule import WatchSettings

    settings = Settings.of(pair.given, given)
    options = runs.options_of(asked, settings, settings.mode)
    runs.refuse_watching(options)
    return Watched(
        root=str(pair.root),
        store=places.address_of(pair.location),
        control=folder_of(pair, asked),
        given=pair,
        settings=WatchSettings(settings.settle, settings.poll, settings.rescan, settings.scrub),
        options=options,
        open=lambda: runs.opened_for(pair, options, asked),
        on_event=make_listener(pair),
        windows=settings.windows,
        events=_events_of(settings.events, pair.location),
        naming=common.naming([pair.folder] if pair.folder else pair.addresses),
    )


@contextmanager
def _listening(flags: dict[str, Any], view: WatchView) -> Iterator[MakeListener]:
    """Yield a function that makes listeners, which print JSON on stdout, or log and show progress."""
    if flags["json"]:
        with reporting("watch", {**flags, "quiet": True, "stats": None}) as output:
            yield lambda pair: partial(output.on_event, place=_place_of(pair))
    else:
        with log.to_file(flags["log_file"], as_json=flags["log_json"]), view:
            yield view.listener


def _place_of(pair: pairs.Pair) -> dict[str, Any]:
    return {"folder": pair.folder, "root": str(pair.root)}


def _events_of(url: str | None, location: places.Location) -> EventSource | None:
    """Return the queue with notices of changes in the store, if the configuration names one."""
    from craftsync.daemon.events import EventSource

    if url is None:
        return None
    if not isinstance(location, places.S3Location):
        raise ConfigError(
            f"events: {url!r} reports changes in a bucket, but the store is not a bucket.",
            remedy="Remove the key, or name an environment with store: s3.",
        )
    prefix = f"{location.prefix}/" if location.prefix else ""
    access = location.access
    return EventSource(url, location.bucket, prefix, access.profile, access.region)
