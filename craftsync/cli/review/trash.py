"""`trash`: what was replaced or deleted, listed, put back, or removed for good."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import click

from craftsync import opening
from craftsync.cli import Group
from craftsync.cli import params as common
from craftsync.cli.output import Outcomes, holdings_shown, outcomes, say, say_json, say_which
from craftsync.cli.review import of_store
from craftsync.cli.terminal import addressed, shown
from craftsync.clock import iso
from craftsync.config import pairs
from craftsync.errors import LockedError, UsageError
from craftsync.wording import counted, size_shown

if TYPE_CHECKING:
    from craftsync.engine.review.trash import Restored, TrashEntry, Wanted
    from craftsync.engine.session import Session


@click.group(cls=Group)
def trash() -> None:
    """List, restore or remove replaced and deleted versions.

    \b
    Examples:
      craftsync trash list
      craftsync trash restore data/train.csv
      craftsync trash restore models --since yesterday -n
    """


_IN_WORDS = {"done": "restored", "planned": "would restore", "unchanged": "in place already:"}

_when = common.all_of(
    common.when_option("--since", "Only versions kept since then (UTC), or since that stamp."),
    common.when_option("--at", "Only versions kept until then (UTC), or until that stamp."),
)


@trash.command("list", cls=common.Command)
@common.all_of(
    common.paths_argument,
    _when,
    common.json_option,
    common.path_options,
)
def list_(paths: tuple[str, ...], since: str | None, at: str | None, **flags: Any) -> None:
    """List what can be restored, the newest first: everything, or files, folders and globs.

    WHEN is a date or time, today, yesterday, an age such as 2h, or a stamp of this list.
    With --store alone it is the trash of a store, whether or not a folder is linked to it.

    \b
    Examples:
      craftsync trash list --folder datasets
      craftsync trash list models --since yesterday
      craftsync trash list --store s3://bucket
    """
    from craftsync.engine.review.trash import Wanted

    if of_store.is_meant(flags):
        with of_store.opened(paths, flags) as (kept, inside):
            found = list(kept.entries(Wanted(inside, since, at)))
            for each in found:
                _say_entry(each, flags)
            if not found and not flags["json"]:
                say("No such version is kept." if paths or since or at else "The trash is empty.")
        return
    with _opened(paths, flags, read_only=True) as (session, inside):
        holds = holdings_shown(session.holdings())
        wanted = Wanted(inside, since, at)
        entry = None
        for entry in wanted.among(session.trash(wanted)):
            _say_entry(entry, flags)
        if entry is None and not flags["json"]:
            say("No such version is kept." if paths or since or at else "The trash is empty.")
        if holds and not flags["json"]:
            say(f"in all: {holds}")
        if not flags["json"] and (versions := session.in_versions()):
            say(shown(versions))


def _say_entry(entry: TrashEntry, flags: dict[str, Any]) -> None:
    if flags["json"]:
        say_json({**entry._asdict(), "time": _time_of(entry.stamp)})
    else:
        say(f"{entry.stamp} {entry.side} {shown(entry.path)} ({size_shown(entry.size)})")


def _time_of(stamp: str) -> str | None:
    from craftsync.engine.review.selection import moment_ns

    try:
        return iso(moment_ns(stamp))
    except UsageError:
        # The trash is a folder that anyone can put something into.
        return None


@trash.command(cls=common.Command)
@common.all_of(
    common.paths_argument,
    _when,
    click.option("--all", "everything", is_flag=True, help="All that is kept."),
    click.option("--run", type=common.COUNT, metavar="ID", help="What this run took away."),
    click.option(
        "--overwrite", is_flag=True, help="Also replace files that differ; they go to the trash."
    ),
    common.dry_run_option,
    common.json_option,
    common.path_options,
)
def restore(paths: tuple[str, ...], run: int | None, overwrite: bool, **flags: Any) -> int:
    """Put files, folders or globs back into the folder, of each file its newest version.

    Without PATH, all that was kept --since then, or --all. WHEN is a date or
    time, today, yesterday, an age such as 2h, or a stamp of `trash list`. A
    different file that is there stays, and is listed, unless --overwrite is
    given; then it goes to the trash. --run takes back what one run replaced
    and deleted, in the folder and in the store; its number is in `craftsync
    history`. A path that has changed since on either side stays, and is listed.
    With --store alone, what the trash of a store holds goes back into the store.

    \b
    Examples:
      craftsync trash restore data/train.csv
      craftsync trash restore models "data/*.csv"
      craftsync trash restore --since 2026-11-29T14:00 -n
      craftsync trash restore models --since yesterday
      craftsync trash restore --run 12 --overwrite -n
      craftsync trash restore --folder datasets --at 20261122T101112Z train.csv
      craftsync trash restore --store s3://bucket models
    """
    from craftsync.engine.review.trash import Wanted

    since, at = flags["since"], flags["at"]
    _refuse_unclear(paths, run, flags)
    how = {"overwrite": overwrite, "dry_run": flags["dry_run"]}
    with outcomes("restore", flags) as output:
        opened = of_store.opened if of_store.is_meant(flags) else _opened_to_restore
        with opened(paths, flags) as (kept, inside):
            wanted = Wanted(inside, since, at)
            for one in _restored(kept, run, wanted, how):
                _say_restored(output, one)
        if not output.paths:
            output.say(_none_of(run, since))
        elif run and output.done:
            output.say("The next run carries it to the store.")
    return output.exit_code


def _restored(
    kept: Session | of_store.StoreTrash, run: int | None, wanted: Wanted, how: dict[str, bool]
) -> Iterator[Restored]:
    if run is None or isinstance(kept, of_store.StoreTrash):
        return kept.restore(wanted, **how)
    return kept.restore_run(run, wanted, **how)


def _refuse_unclear(paths: tuple[str, ...], run: int | None, flags: dict[str, Any]) -> None:
    since, everything = flags["since"], flags["everything"]
    if run is not None and (since or flags["at"] or everything):
        raise click.UsageError("--run goes without --since, --at and --all.")
    if run is not None and of_store.is_meant(flags):
        raise click.UsageError("--run is about a linked folder: give --root too, or --folder.")
    if everything and paths:
        raise click.UsageError("Give each PATH, or --all.")
    if not (paths or since or run or everything):
        raise click.UsageError("Give each PATH, --since, --run or --all.")


def _none_of(run: int | None, since: str | None) -> str:
    if run:
        return f"Nothing of it was taken away by run {run}."
    return f"Nothing is kept since {since}." if since else "Nothing is kept."


def _say_restored(output: Outcomes, one: Restored) -> None:
    entry, path = one.entry, shown(one.entry.path)
    if one.status in {"problem", "skipped"}:
        output.left(one.status, entry.path, f"not restored: {path}", one.reason)
        return
    line = f"{_IN_WORDS[one.status]} {path} of {entry.stamp} ({size_shown(entry.size)})"
    facts = {"action": "restore", "path": entry.path, "size": entry.size}
    output.did(one.status, line, {**facts, "side": entry.side, "stamp": entry.stamp})


@trash.command(cls=common.Command)
@common.all_of(
    click.option(
        "--older-than",
        type=common.Number(0, 36_500),
        default=30.0,
        show_default=True,
        metavar="DAYS",
        help="Keep what is younger.",
    ),
    click.option("--yes", is_flag=True, help="Do not ask."),
    common.dry_run_option,
    common.json_option,
    common.path_options,
)
def purge(older_than: float, yes: bool, **flags: Any) -> None:
    """Remove old versions for good, in the folder and in the store. Asks on a terminal.

    A version stays while a conflict, a held delete or an unfinished run refers to its path.
    With --store alone, of a store that no folder is linked to, what this machine put there.

    \b
    Examples:
      craftsync trash purge -n
      craftsync trash purge --yes
      craftsync trash purge --older-than 0 --root data --store ./backup
      craftsync trash purge --older-than 90 --store s3://bucket
    """
    of_a_store = of_store.is_meant(flags)
    with (
        outcomes("purge", flags) as output,
        (
            of_store.opened((), flags)
            if of_a_store
            else _opened((), flags, read_only=flags["dry_run"])
        ) as (kept, _),
    ):
        if flags["dry_run"]:
            for entry in kept.purgeable(older_than):
                what = f"{entry.stamp} {entry.side} {shown(entry.path)} ({size_shown(entry.size)})"
                facts = {"action": "purge", "path": entry.path, "size": entry.size}
                facts |= {"side": entry.side, "stamp": entry.stamp}
                output.did("planned", f"would remove {what}", facts)
            output.more["removed"] = output.paths
            return
        if sys.stdin.isatty() and not yes:
            count = sum(1 for _ in kept.purgeable(older_than))
            click.confirm(f"Remove {counted(count, 'version')} for good?", abort=True, err=True)
        purged = kept.purge(older_than)
        output.more |= purged._asdict()
        output.say(f"{counted(purged.removed, 'version')} removed")
        if purged.spared:
            output.say(f"{purged.spared} stay: {_OTHERS if of_a_store else addressed(_SPARED)}")


_SPARED = (
    "a conflict, a held delete or an unfinished run refers to them."
    " See craftsync conflicts list and craftsync deletes list."
)
_OTHERS = "this machine has no record of having put them there."


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
