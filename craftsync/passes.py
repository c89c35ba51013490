"""One pass, from the words of a call to its report: what the command line and the Python API share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING

from craftsync import pairs
from craftsync.core.model import Compare, Mode
from craftsync.options import PassOptions, options_of, settings_of
from craftsync.sync.report import Event, Options, Report

if TYPE_CHECKING:
    from craftsync.sync.session import Session

_ROOT_AND_STORE = 2

MODES = {"push": Mode.PUSH, "pull": Mode.PULL, "sync": Mode.TWO_WAY}


def run(command: str, words: Sequence[str], asked: PassOptions) -> Report:
    """Push, pull or sync the pair the words name; `command` says which of the three."""
    pair = pairs.resolve(words, asked)
    options = options_for(pair, asked, MODES[command])
    if command == "pull" and len(words) == _ROOT_AND_STORE:
        pairs.refuse_nothing(pair, words[1], asked)
    with opened_for(pair, options, asked) as session:
        return session.run(command, options, asked.get("on_event", _ignore))


def check(
    words: Sequence[str],
    asked: PassOptions,
    on_line: Callable[[str, str], None] = lambda symbol, path: None,
) -> Report:
    """Compare the content of a pair and change nothing.

    `on_line` is told of each path: "=" equal, "-" only in the store, "+" only
    in the root, "*" different, "!" could not be read.
    """
    pair = pairs.resolve(words, asked)
    options = options_for(pair, asked, pair.settings.mode or Mode.TWO_WAY)
    if options.policy.compare is Compare.FINGERPRINT:
        options = replace(options, policy=replace(options.policy, compare=Compare.CHECKSUM))
    with pairs.opened(pair, pairs.state_dir_of(asked), read_only=True) as session:
        return session.check(options, on_line, asked.get("on_event", _ignore))


def options_for(pair: pairs.Pair, asked: PassOptions, mode: Mode) -> Options:
    """Return what a call asks of a pair, the configuration filling in what it is silent about."""
    return options_of(asked, settings_of(asked).over(pair.settings), mode)


def opened_for(
    pair: pairs.Pair, options: Options, asked: PassOptions
) -> AbstractContextManager[Session]:
    """Open a pair for a pass with these options: the side a pass brings files to may be new."""
    return pairs.opened(
        pair,
        pairs.state_dir_of(asked),
        read_only=options.dry_run,
        create_store=options.policy.mode is not Mode.PULL,
        create_root=options.policy.mode is Mode.PULL,
    )


def _ignore(event: Event) -> None:
    """Take no notice of an event."""
