"""`pause`, `resume`, `stop`, `rescan`, `reload`, `bwlimit`: steer the daemon that keeps a folder in sync."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from craftsync import opening
from craftsync.cli import parameters as common
from craftsync.cli.output import say, shown
from craftsync.config import pairs, places
from craftsync.config.options import PairOptions
from craftsync.config.parsers import BadWord, Rates, parse_rates
from craftsync.errors import ConfigError, CraftsyncError, StateError, UsageError

_STOP_SECONDS = 60.0
_LOOK_SECONDS = 0.05


@click.command(cls=common.Command)
@common.all_of(common.pair_words, common.access_options)
def pause(pair: tuple[str, ...], **flags: Any) -> None:
    """Start no more transfers until `resume`, not even after a restart.

    What is under way is given up, and resumes where it was.

    \b
    Examples:
      craftsync pause
      craftsync pause datasets
    """
    _tell_every(pair, flags, "pause", "paused")


@click.command(cls=common.Command)
@common.all_of(common.pair_words, common.access_options)
def resume(pair: tuple[str, ...], **flags: Any) -> None:
    """Resume after `pause`, with a scan of everything.

    \b
    Examples:
      craftsync resume
      craftsync resume datasets
    """
    _tell_every(pair, flags, "resume", "resumed")


@click.command(cls=common.Command)
@common.all_of(common.pair_words, common.access_options)
def rescan(pair: tuple[str, ...], **flags: Any) -> None:
    """Make the running daemon scan everything now.

    \b
    Examples:
      craftsync rescan
      craftsync rescan datasets
    """
    _tell_every(pair, flags, "sync", "scan started")


@click.command(cls=common.Command)
@common.all_of(
    click.argument("rate", metavar="RATE[:RATE]"), common.pair_words, common.access_options
)
def bwlimit(rate: str, pair: tuple[str, ...], **flags: Any) -> None:
    """Change the limit of a running daemon at once, until it ends.

    RATE is bytes per second with K, M or G, `off`, or `default` for what the
    configuration says.

    \b
    Examples:
      craftsync bwlimit 2M
      craftsync bwlimit 2M:off datasets
    """
    if rate == "default":
        _tell_every(pair, flags, "bwlimit", "limited as configured", configured=True)
        return
    try:
        rates = parse_rates(rate)
    except BadWord as bad:
        raise UsageError(f"{rate!r} {bad}.", remedy=bad.remedy) from bad
    _tell_every(pair, flags, "bwlimit", _limits(rates), **rates._asdict())


@click.command(cls=common.Command)
@common.all_of(common.pair_words, common.access_options)
def stop(pair: tuple[str, ...], **flags: Any) -> None:
    """End the daemon in good order, and return once it has ended.

    With words only that folder, until the daemon is started anew; a reload does
    not change that. The process ends with its last.

    \b
    Examples:
      craftsync stop
      craftsync stop datasets
    """
    asked = common.asked_of(flags)
    for one in opening.every(pair, asked):
        if tell(one, asked, "stop") is None:
            say(f"{shown(str(one.root))}: was not running")
        else:
            _wait_for_end(folder_of(one, asked))
            say(f"{shown(str(one.root))}: stopped")


@click.command(cls=common.Command)
@common.all_of(common.access_options)
def reload(**flags: Any) -> None:
    """Make every running daemon read its configuration again.

    One that is refused changes nothing: the reason is printed, and the exit
    code is 78.

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
    """Return where the daemon of a pair can be spoken to, if there is one."""
    from craftsync.daemon.control import folder_of as below

    root, store = str(pair.root), places.address_of(pair.location)
    return below(pairs.state_dir_of(asked), root, store)


def tell(pair: pairs.Pair, asked: PairOptions, verb: str, **arguments: Any) -> Any:
    """Return what the daemon of a pair answers, `None` when none runs."""
    from craftsync.daemon.control import ask

    return ask(folder_of(pair, asked), verb, **arguments)


def _tell_every(
    words: tuple[str, ...], flags: dict[str, Any], verb: str, done: str, **arguments: Any
) -> None:
    """Tell each pair's daemon, and say how it went; one that does not run is an error in the end."""
    asked = common.asked_of(flags)
    missing = []
    for pair in opening.every(words, asked):
        if tell(pair, asked, verb, **arguments) is None:
            missing.append(str(pair.root))
        else:
            say(f"{shown(str(pair.root))}: {done}")
    if missing:
        raise CraftsyncError(
            f"No daemon runs for {shown(', '.join(missing))}.",
            remedy="Start one with craftsync watch, or craftsync service install; "
            "craftsync service status says how one is that was installed.",
        )


def _limits(rates: Rates) -> str:
    up, down = ("no limit" if rate is None else f"{rate:.0f} bytes/s" for rate in rates)
    return f"up {up}, down {down}"


def _wait_for_end(folder: Path) -> None:
    """Return once nobody listens any more: what was open is closed by then."""
    from craftsync.clock import SystemClock
    from craftsync.daemon.control import connect

    clock = SystemClock()
    deadline = clock.monotonic() + _STOP_SECONDS
    while (peer := connect(folder, _STOP_SECONDS)) is not None:
        peer.close()
        if clock.monotonic() > deadline:
            raise StateError(
                f"The daemon has not ended within {_STOP_SECONDS:.0f} s.",
                remedy="See what it does with craftsync status.",
            )
        clock.sleep(_LOOK_SECONDS)
