"""`history`, `why` and `trash`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import click

from craftsync import opening, runs
from craftsync.cli import Group
from craftsync.cli import params as common
from craftsync.cli.output import holdings_shown, say, say_json, say_which, size_shown
from craftsync.cli.terminal import shown
from craftsync.clock import iso
from craftsync.config import pairs
from craftsync.core.model import BaselineRow, LocalFile, RemoteObject
from craftsync.errors import LockedError

if TYPE_CHECKING:
    from craftsync.engine.session import Session
    from craftsync.engine.trash import Restored


@click.command(cls=common.Command)
@common.all_of(
    click.argument("path", required=False),
    click.option("--limit", type=click.IntRange(1), default=100, show_default=True),
    common.json_option,
    common.path_options,
)
def history(path: str | None, limit: int, **flags: Any) -> None:
    """Show what was done, the newest first, to all files, those in a folder, or one.

    \b
    Examples:
      craftsync history
      craftsync history data/models
      craftsync history data/models/iris.joblib
    """
    asked = common.asked_of(flags)
    words = common.words_of(flags)
    pair, inside = opening.around(path or ".", words, asked)
    say_which(pair, words, flags)
    with opening.read_state(pair, pairs.state_dir_of(asked)) as state:
        row = None
        for row in state.history.rows(inside if path else None, limit):
            if flags["json"]:
                say_json(row._asdict())
            else:
                reason = f": {row.reason}" if row.reason else ""
                run = f"run {row.run} " if row.run is not None else ""
                say(
                    f"{iso(row.at_ns)} {run}{row.command} {row.action} {row.status} "
                    f"{shown(row.path)}{reason}"
                )
    if row is None and not flags["json"]:
        of = f" of {shown(inside)}" if path else ""
        say(f"Nothing is recorded{of}.", to_stderr=True)


@click.command(cls=common.Command)
@common.all_of(
    click.argument("path"),
    common.mode_option,
    common.decision_options,
    common.json_option,
    common.path_options,
)
def why(path: str, mode: str | None, **flags: Any) -> None:
    """Explain what would happen to a file, and which rule says so.

    \b
    Examples:
      craftsync why data/models/iris.joblib
      craftsync why --folder datasets --mode push train.csv
    """
    asked = common.asked_of(flags)
    words = common.words_of(flags)
    pair, inside = opening.around(path, words, asked)
    say_which(pair, words, flags)
    with opening.open_pair(pair, pairs.state_dir_of(asked), reading=True) as session:
        told = session.why(inside, runs.options_for(pair, asked, common.mode_of(mode)))
    looks = {"root": told.local, "store": told.remote, "last agreed": told.baseline}
    names = dict(zip(looks, ("folder", "store", "last synced state"), strict=True))
    if flags["json"]:
        decision = {"decision": told.decision, "rule": told.rule, "ignored_by": told.ignored_by}
        say_json(
            {"path": told.path, **{side: _facts(look) for side, look in looks.items()}, **decision}
        )
        return
    say(shown(told.path))
    for side, look in looks.items() if told.compared else ():
        held = told.unread if side == "root" and told.unread else _in_words(look)
        say(f"  {names[side]}: {shown(held)}")
    if told.ignored_by:
        say(f"  ignored, because of {told.ignored_by}")
    else:
        say(f"  {told.decision or 'nothing to do'}: {told.rule}")


Look = LocalFile | RemoteObject | BaselineRow | None


def _facts(look: Look) -> dict[str, Any] | None:
    if look is None:
        return None
    digest = None if isinstance(look, LocalFile) or look.digest is None else look.digest.hex()
    return {"size": look.size, "modified": _modified(look), "digest": digest}


def _in_words(look: Look) -> str:
    return "not there" if look is None else f"{size_shown(look.size)}, modified {_modified(look)}"


def _modified(look: LocalFile | RemoteObject | BaselineRow) -> str | None:
    time_ns = look.modified_ns if isinstance(look, RemoteObject) else look.mtime_ns
    return None if time_ns is None else iso(time_ns)


@click.group(cls=Group)
def trash() -> None:
    """List, bring back or remove replaced and deleted versions.

    \b
    Examples:
      craftsync trash list
      craftsync trash restore data/train.csv
    """


_IN_WORDS = {"done": "restored", "planned": "would restore", "unchanged": "in place already:"}
_CODES = {"problem": 1, "skipped": 6}
"""Exit codes of what was left, the more serious first."""

_when = common.all_of(
    click.option(
        "--since", metavar="WHEN", help="Only versions kept since then (UTC), or since that stamp."
    ),
    click.option(
        "--at", metavar="WHEN", help="Only versions kept until then (UTC), or until that stamp."
    ),
)


@trash.command("list", cls=common.Command)
@common.all_of(
    click.argument("paths", nargs=-1, metavar="[PATH]..."),
    _when,
    common.json_option,
    common.path_options,
)
def list_(paths: tuple[str, ...], since: str | None, at: str | None, **flags: Any) -> None:
    """List what can be brought back, the newest first: everything, or files, folders and globs.

    \b
    Examples:
      craftsync trash list --folder datasets
      craftsync trash list models --since 2026-11-29
    """
    from craftsync.engine.trash import Wanted

    with _opened(paths, flags, read_only=True) as (session, inside):
        holds = holdings_shown(session.holdings())
        wanted = Wanted(inside, since, at)
        entry = None
        for entry in wanted.among(session.trash(wanted)):
            if flags["json"]:
                say_json(entry._asdict())
            else:
                say(f"{entry.stamp} {entry.side} {shown(entry.path)} ({size_shown(entry.size)})")
        if entry is None and not flags["json"]:
            say("No such version is kept." if paths or since or at else "The trash is empty.")
        if holds and not flags["json"]:
            say(f"in all: {holds}")
        if not flags["json"] and (versions := session.in_versions()):
            say(shown(versions))


@trash.command(cls=common.Command)
@common.all_of(
    click.argument("paths", nargs=-1, metavar="[PATH]..."),
    _when,
    click.option("--run", type=click.IntRange(1), metavar="ID", help="What this run took away."),
    click.option(
        "--overwrite", is_flag=True, help="Also replace files that differ; they go to the trash."
    ),
    common.dry_run_option,
    common.path_options,
)
def restore(paths: tuple[str, ...], run: int | None, overwrite: bool, **flags: Any) -> int:
    """Put files, folders or globs back into the folder, of each file its newest version.

    Without PATH, all that was kept --since then. A different file that is
    there stays, and is listed, unless --overwrite is given. --run takes back
    what one run replaced and deleted, in the folder and in the store; its
    number is in `craftsync history`. A path that has changed since on either
    side stays, and is listed.

    \b
    Examples:
      craftsync trash restore data/train.csv
      craftsync trash restore models "data/*.csv"
      craftsync trash restore --since 2026-11-29T14:00 -n
      craftsync trash restore --run 12 -n
      craftsync trash restore --folder datasets --at 20261122T101112Z train.csv
    """
    from craftsync.engine.trash import Wanted

    since, at = flags["since"], flags["at"]
    if run is not None and (since or at or overwrite):
        raise click.UsageError("--run goes without --since, --at and --overwrite.")
    if not paths and since is None and run is None:
        raise click.UsageError("Give each PATH, --since or --run.")
    dry_run = flags["dry_run"]
    with _opened_to_restore(paths, flags) as (session, inside):
        wanted = Wanted(inside, since, at)
        if run is None:
            statuses = _shown(session.restore(wanted, overwrite=overwrite, dry_run=dry_run))
        else:
            statuses = _shown(session.restore_run(run, wanted, dry_run=dry_run))
    if not statuses:
        say(
            f"Nothing of it was taken away by run {run}."
            if run
            else f"Nothing is kept since {since}."
        )
    elif run and "done" in statuses:
        say("The next run carries it to the store.")
    return next((code for status, code in _CODES.items() if status in statuses), 0)


def _shown(restored: Iterator[Restored]) -> set[str]:
    """Print how it ended for each path; return the ways in which it did."""
    statuses = set()
    for one in restored:
        statuses.add(one.status)
        say(_line(one))
    return statuses


def _line(one: Restored) -> str:
    path = shown(one.entry.path)
    if one.status in _CODES:
        return f"not restored: {path}: {shown(one.reason)}"
    return f"{_IN_WORDS[one.status]} {path} of {one.entry.stamp} ({size_shown(one.entry.size)})"


@trash.command(cls=common.Command)
@common.all_of(
    click.option(
        "--older-than",
        type=click.FloatRange(0),
        default=30.0,
        show_default=True,
        metavar="DAYS",
        help="Keep what is younger.",
    ),
    click.option("--yes", is_flag=True, help="Do not ask."),
    common.dry_run_option,
    common.path_options,
)
def purge(older_than: float, yes: bool, **flags: Any) -> None:
    """Remove old versions for good, in the folder and in the store. Asks on a terminal.

    A version stays while a conflict, a held delete or an unfinished run refers to its path.

    \b
    Examples:
      craftsync trash purge -n
      craftsync trash purge --yes
      craftsync trash purge --older-than 0 --root data --store ./backup
    """
    with _opened((), flags, read_only=flags["dry_run"]) as (session, _):
        if flags["dry_run"]:
            for entry in session.purgeable(older_than):
                say(
                    f"would remove {entry.stamp} {entry.side} {shown(entry.path)} ({size_shown(entry.size)})"
                )
            return
        if sys.stdin.isatty() and not yes:
            count = sum(1 for _ in session.purgeable(older_than))
            click.confirm(f"Remove {count} versions for good?", abort=True)
        purged = session.purge(older_than)
        say(f"{purged.removed} versions removed")
        if purged.spared:
            say(
                f"{purged.spared} stay: a conflict, a held delete or an unfinished run refers to"
                " them. See craftsync conflicts list and craftsync deletes list."
            )


@contextmanager
def _opened(
    paths: Sequence[str], flags: dict[str, Any], *, read_only: bool
) -> Iterator[tuple[Session, tuple[str, ...]]]:
    asked = common.asked_of(flags)
    words = common.words_of(flags)
    pair, inside = opening.around_all(paths, words, asked)
    say_which(pair, words, flags)
    with opening.open_pair(pair, pairs.state_dir_of(asked), read_only=read_only) as session:
        yield session, inside or ()


@contextmanager
def _opened_to_restore(
    paths: Sequence[str], flags: dict[str, Any]
) -> Iterator[tuple[Session, tuple[str, ...]]]:
    """Open the linked folder; while a daemon or another run holds it, its state is only read."""
    asked = common.asked_of(flags)
    words = common.words_of(flags)
    pair, inside = opening.around_all(paths, words, asked)
    say_which(pair, words, flags)
    state_dir = pairs.state_dir_of(asked)
    with ExitStack() as stack:
        try:
            opened = opening.open_pair(pair, state_dir, read_only=flags["dry_run"])
            session = stack.enter_context(opened)
        except LockedError:
            session = stack.enter_context(opening.open_pair(pair, state_dir, reading=True))
        yield session, inside or ()
