"""`status` and `wait`: the status from the daemon, or from the state database if no daemon runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import click

from craftsync import linked_folders
from craftsync.cli import params as common
from craftsync.cli import watch
from craftsync.cli.live_display import follow
from craftsync.cli.output import say, say_json
from craftsync.cli.status_view import Facts, checked_line, lines_of, naming_of, show
from craftsync.clock import Clock
from craftsync.config import pairs, places
from craftsync.config.options import PairOptions
from craftsync.config.parsers import parse_seconds
from craftsync.errors import CraftsyncError, NoAnswer, StateError, UsageError

_QUICK_SECONDS = 0.2
"""The pause between two requests of `wait` to a daemon."""
_ANSWER_SECONDS = 10.0
"""How long a daemon may take to answer."""
_TRIES = 10
"""How many times `wait` checks a halted folder: the scan it requests makes the daemon retry at once."""
_NOT_YET = 5
_TRANSIENT = {_NOT_YET, 6}
"""Exit codes of conditions that end by themselves."""


@click.command(cls=common.Command)
@common.all_of(
    click.option("--watch", "live", is_flag=True, help="Keep showing it until Ctrl-C."),
    click.option(
        "--check",
        is_flag=True,
        help="Print one line per folder; exit code 0 only if all are in sync.",
    ),
    click.option(
        "--max-lag",
        metavar="TIME",
        callback=common.parsed(parse_seconds),
        help="With --check, accept a folder that was in sync within this time, such as 10m.",
    ),
    common.json_option,
    common.pair_options,
)
def status(
    pair: tuple[str, ...], live: bool, check: bool, max_lag: float | None, **flags: Any
) -> int:
    """Show the status of a linked folder.

    Without arguments, it is the linked folder that contains the current
    directory; outside of any, all that are configured or have a daemon or a
    saved state.

    \b
    Examples:
      craftsync status
      craftsync status --watch
      craftsync status --check --max-lag 10m datasets
      craftsync status --json data ./backup
    """
    asked, words = common.asked_of(flags), common.words_of(flags, pair)
    if max_lag is not None and not check:
        raise UsageError("--max-lag is for --check only.", remedy="Add --check.")
    if check:
        return _check(words, asked, max_lag, as_json=flags["json"])
    if live:
        return follow(lambda: _known(words, asked)[0], as_json=flags["json"])
    found, code = _known(words, asked)
    if flags["json"]:
        say_json(found[0] if len(found) == 1 else found)
    elif sys.stdout.isatty():
        show(found)
    else:
        for facts in found:
            for line in lines_of(facts):
                say(line)
    return code


def _known(words: Sequence[str], asked: PairOptions) -> tuple[list[dict[str, Any]], int]:
    """Return the status of each folder, and the exit code of the first that cannot be read."""
    if words:
        return [_facts(one, asked, named=True) for one in linked_folders.every(words, asked)], 0
    return _of_all(linked_folders.all_known(asked), asked)


def _kept(words: Sequence[str], asked: PairOptions) -> list[pairs.Pair]:
    """Return the folders that should be in sync: those of the configuration, else those with a state."""
    if words or pairs.of_configuration(asked):
        return linked_folders.every(words, asked)
    return linked_folders.all_known(asked)


def _check(
    words: Sequence[str], asked: PairOptions, max_lag: float | None, *, as_json: bool
) -> int:
    from craftsync.daemon.status import exit_code_of, most_serious

    found, _ = _of_all(_kept(words, asked), asked)
    codes = [exit_code_of(facts) for facts in found]
    for number, facts in enumerate(found):
        recent = max_lag is not None and (facts.get("lag") or max_lag + 1) <= max_lag
        if recent and facts["pid"] is not None and codes[number] in _TRANSIENT:
            codes[number] = 0
    if as_json:
        lines = [{**facts, "exit_code": code} for facts, code in zip(found, codes, strict=True)]
        say_json(lines[0] if len(lines) == 1 else lines)
    else:
        for facts in found:
            say(checked_line(facts))
    return most_serious(codes)


@click.command(cls=common.Command)
@common.all_of(
    click.option(
        "--timeout",
        default="5m",
        metavar="TIME",
        callback=common.parsed(parse_seconds),
        help="The longest time to wait, such as 90s or 1h. [5m]",
    ),
    common.json_option,
    common.option("quiet"),
    common.pair_options,
)
def wait(pair: tuple[str, ...], timeout: float, **flags: Any) -> int:
    """Wait until all changes made so far are in sync.

    wait makes the running daemon scan everything, so that no change is missed.
    It returns at once if something needs a decision or has failed. The exit
    codes are those of sync; after the timeout it is 5, or 6 if files stay busy.
    If no daemon runs yet, wait waits for one; if the folder or the store is
    missing, too, it returns 3.

    \b
    Examples:
      craftsync wait datasets
      craftsync wait --timeout 30s && echo in sync
    """
    asked, words = common.asked_of(flags), common.words_of(flags, pair)
    from craftsync.clock import SystemClock
    from craftsync.daemon.status import most_serious

    kept = _kept(words, asked)
    linked_folders.refuse_several_stores(kept)
    awaited = [_AwaitedFolder(one, asked) for one in kept]
    codes = codes_when_settled(awaited, timeout, SystemClock())
    found = [each.facts() for each in awaited]
    if flags["json"]:
        say_json(found[0] if len(found) == 1 else found)
    elif not flags["quiet"]:
        for facts in found:
            say(checked_line(facts))
    return most_serious(codes)


class Awaited(Protocol):
    """Something that `wait` waits for."""

    def exit_code(self, within: float) -> int:
        """Return the exit code for its current status; its daemon may take `within` seconds to answer."""
        ...


def codes_when_settled(awaited: Sequence[Awaited], timeout: float, clock: Clock) -> list[int]:
    """Return the exit code of each, once none is transient or `timeout` seconds have passed.

    The last check begins after the timeout. The machine may have been suspended in an earlier one,
    and what that one found is then out of date.
    """
    ends = clock.monotonic() + timeout
    while True:
        left = ends - clock.monotonic()
        # A silent daemon must not use up the time of the other folders.
        share = max(_QUICK_SECONDS, left / max(1, len(awaited)))
        codes = [each.exit_code(min(_ANSWER_SECONDS, share)) for each in awaited]
        if left <= 0 or all(code not in _TRANSIENT for code in codes):
            return codes
        clock.sleep(_QUICK_SECONDS)


class _AwaitedFolder:
    """A folder that `wait` waits for, and when its daemon got the request for a scan."""

    def __init__(self, pair: pairs.Pair, asked: PairOptions) -> None:
        self._pair = pair
        self._asked = asked
        self._requested_at: float | None = None
        self._halted = 0
        self._silent: NoAnswer | None = None

    def facts(self) -> dict[str, Any]:
        """Return its status: the fields of `status --json`."""
        if self._silent is not None:
            return _unreadable(self._pair, self._silent)
        return _of_all([self._pair], self._asked)[0][0]

    def exit_code(self, within: float) -> int:
        """Return the exit code for its current status, a transient one while that is unknown.

        Its daemon may take `within` seconds to answer.
        """
        from craftsync.daemon.status import exit_code_of

        request = partial(watch.request, self._pair, self._asked, within=within)
        self._silent = None
        try:
            if self._requested_at is None and (answer := request("sync")) is not None:
                # An earlier daemon that still runs has no times.
                self._requested_at = answer.get("requested_at", 0.0)
            now = request("status")
        except NoAnswer as silent:
            # The daemon hangs, or has just ended.
            self._silent = silent
            return _NOT_YET
        except (UsageError, StateError):
            # The daemon is paused.
            now = None
        else:
            if now is None and self._is_missing():
                return 3
        if now is None:
            # A daemon that starts later scans everything by itself; it gets the request all the same.
            self._requested_at = None
            return _NOT_YET
        if now["state"] == "halted":
            self._halted += 1
            return exit_code_of(now) if self._halted > _TRIES else _NOT_YET
        # While it lists the store (`scanning`), nothing pending means the same as while it watches.
        watches = now["state"] in ("watching", "scanning") and now["pending"] == 0
        if not (watches and self._has_scanned(now)):
            return _NOT_YET
        return exit_code_of(self.facts())

    def _has_scanned(self, now: Facts) -> bool:
        """Return whether a full run has ended that began after the request."""
        if self._requested_at is None:
            return False
        began = now.get("full_run_began", self._requested_at)
        return began is not None and began >= self._requested_at

    def _is_missing(self) -> bool:
        return not (self._pair.root.is_dir() and places.exists(self._pair.location))


def _of_all(meant: Sequence[pairs.Pair], asked: PairOptions) -> tuple[list[dict[str, Any]], int]:
    """Return the status of each, and the exit code of the first that cannot be read."""
    found, code = [], 0
    for one in meant:
        try:
            found.append(_facts(one, asked, named=False))
        except CraftsyncError as error:
            code = code or error.exit_code
            found.append(_unreadable(one, error))
    return found, code


def _unreadable(pair: pairs.Pair, error: CraftsyncError) -> dict[str, Any]:
    facts = linked_folders.unknown_standing(pair, error)
    return {**facts, "paused_since": None, "paused_until": None, "next": []}


def _facts(pair: pairs.Pair, asked: PairOptions, *, named: bool) -> dict[str, Any]:
    from craftsync.daemon.pause import since_shown

    state_dir = pairs.state_dir_of(asked)
    live = watch.request(pair, asked, "status")
    facts = linked_folders.standing(pair, state_dir, live)
    if live is None and named and pair.folder is None and facts["mode"] is None:
        # No trace of this pair: the arguments may be mistyped. Opening it raises the error.
        with linked_folders.open_pair(pair, state_dir, reading=True):
            pass
    if live is None:
        facts["paused_since"] = since_shown(watch.folder_of(pair, asked))
        facts["paused_until"] = None
    return {**facts, "next": _next_steps(facts)}


def _next_steps(facts: Facts) -> list[str]:
    """Return the commands that list what needs a decision."""
    place = naming_of(facts)
    commands = {"conflicts": "conflicts", "held": "deletes"}
    return [
        f"craftsync {command} list{place}" for count, command in commands.items() if facts[count]
    ]
