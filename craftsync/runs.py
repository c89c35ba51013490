"""One run, from the words of a call to its report: what the command line and the Python API share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from craftsync import opening
from craftsync.config.filters import filter_of
from craftsync.config.options import Links, RunOptions, Settings, given_by, read, refuse_unknown
from craftsync.config.pairs import Pair, state_dir_of
from craftsync.config.parsers import RateByTime, Rates, choice_of
from craftsync.core.model import Compare, Mode, Policy
from craftsync.core.timetable import Timetable
from craftsync.engine.report import Event, Options, Report
from craftsync.errors import UsageError
from craftsync.net.pace import Rate

if TYPE_CHECKING:
    from craftsync.engine.session import Session

_ROOT_AND_STORE = 2

MODES = {"push": Mode.PUSH, "pull": Mode.PULL, "sync": Mode.TWO_WAY}


def run(command: str, words: Sequence[str], asked: RunOptions) -> Report:
    """Push, pull or sync the pair the words name; `command` is one of the three words."""
    pair = opening.resolve(words, asked)
    options = options_for(pair, asked, MODES[command])
    refuse_filter(options)
    if command == "pull" and len(words) == _ROOT_AND_STORE:
        opening.refuse_new_and_empty(pair, words[1], asked)
    with opened_for(pair, options, asked) as session:
        return session.run(command, options, asked.get("on_event", _ignore))


def check(
    words: Sequence[str],
    asked: RunOptions,
    on_line: Callable[[str, str], None] = lambda symbol, path: None,
) -> Report:
    """Compare the content of a pair and change nothing.

    `on_line` gets each path with its symbol: "=" equal, "-" only in the store, "+" only
    in the folder, "*" different, "!" could not be read.
    """
    pair = opening.resolve(words, asked)
    options = options_for(pair, asked)
    refuse_direction(options)
    if options.policy.compare is Compare.FINGERPRINT:
        options = replace(options, policy=replace(options.policy, compare=Compare.CHECKSUM))
    with opening.open_pair(pair, state_dir_of(asked), read_only=True) as session:
        return session.check(options, on_line, asked.get("on_event", _ignore))


def options_for(pair: Pair, asked: RunOptions, mode: Mode | None = None) -> Options:
    """Return what a call asks of a pair; the configuration, then the defaults fill in the rest."""
    refuse_unknown(asked, RunOptions)
    settings = Settings.of(pair.given, given_by(asked))
    return options_of(asked, settings, mode or settings.mode, pair.root)


def refuse_filter(options: Options) -> None:
    """Raise `UsageError` for a filter or for links that such a run cannot have, before anything is opened."""
    if options.follow_links and options.policy.mode is not Mode.PUSH:
        raise _links_refused("what comes from the store would have to be written through links.")
    if refusal := options.filter.refusal(options.policy):
        raise UsageError(refusal[0], remedy=refusal[1])


def _links_refused(why: str) -> UsageError:
    return UsageError(
        f"--links follow: only for push, plan --mode push and check: {why}",
        remedy="Leave it out: links are skipped, and stay as they are.",
    )


def refuse_watching(options: Options) -> None:
    """Raise `UsageError` for a filter or for links in a daemon: what takes part would change without an event."""
    if options.follow_links:
        raise _links_refused("a change behind a link would go unseen.")
    if options.filter:
        raise UsageError(
            f"{', '.join(options.filter.flags())}: not with watch: a file that grows or ages would"
            " take part at one moment and not at the next.",
            remedy="Use push or pull, from a timer if need be, or leave paths out by name"
            " (--include, --exclude).",
        )


def refuse_direction(options: Options) -> None:
    """Raise `UsageError` where a comparison, which has no direction, is to leave out what one side has."""
    one_sided = [flag for flag in options.filter.flags() if flag.endswith("existing")]
    if one_sided:
        raise UsageError(
            f"{', '.join(one_sided)}: check compares both sides, and copies to neither.",
            remedy="Leave it out.",
        )


def options_of(
    asked: RunOptions, settings: Settings, mode: Mode, root: Path | None = None
) -> Options:
    """Return the engine's options: the settings of a folder, and what concerns this one call.

    `root` is what absolute paths of `--files-from` have to be in.
    """
    up, down = _rates_of(settings.bwlimit)
    return Options(
        policy=Policy(
            mode=mode,
            delete=settings.delete,
            compare=_compare(asked),
            conflict=settings.conflict,
        ),
        dry_run=asked.get("dry_run", False),
        delete_limit=settings.max_delete,
        force_delete=asked.get("force_delete", False),
        include=settings.include,
        exclude=settings.exclude,
        filter=filter_of(asked, root),
        follow_links=read(asked, "links", choice_of(Links, "way to treat links")) is Links.FOLLOW,
        transfers=settings.transfers,
        upload_rate=up,
        download_rate=down,
    )


def _rates_of(limit: Rates | Timetable[Rates]) -> tuple[Rate, Rate]:
    if isinstance(limit, Rates):
        return limit
    return RateByTime(limit, "upload"), RateByTime(limit, "download")


def _compare(asked: RunOptions) -> Compare:
    checksum, size_only = asked.get("checksum", False), asked.get("size_only", False)
    if checksum and size_only:
        raise UsageError("--checksum and --size-only contradict each other.", remedy="Give one.")
    if checksum:
        return Compare.CHECKSUM
    return Compare.SIZE_ONLY if size_only else Compare.FINGERPRINT


def opened_for(pair: Pair, options: Options, asked: RunOptions) -> AbstractContextManager[Session]:
    """Open a pair for a run with these options: the side a run brings files to may be new."""
    return opening.open_pair(
        pair,
        state_dir_of(asked),
        read_only=options.dry_run,
        create_store=options.policy.mode is not Mode.PULL,
        create_root=options.policy.mode is Mode.PULL,
    )


def _ignore(event: Event) -> None:
    """Take no notice of an event."""
