"""`trash`: list, restore, and remove for good what was replaced or deleted."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from craftsync import linked_folders
from craftsync.cli import Group
from craftsync.cli import params as common
from craftsync.cli.output import (
    OutcomePrinter,
    outcomes,
    say,
    say_json,
)
from craftsync.cli.review import meant_by, refuse_unnamed
from craftsync.cli.terminal import addressed
from craftsync.config import pairs
from craftsync.datastore import stamp_now
from craftsync.linked_folders import OnUnnamed
from craftsync.objects.arguments import Arguments
from craftsync.wording import counted, holdings_shown, shown, size_shown

if TYPE_CHECKING:
    from craftsync.engine.review.trash import Restored, Trash, TrashOfStore
    from craftsync.engine.review.versions import TrashEntry, Wanted
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


_IN_WORDS = {"done": "restored", "planned": "would restore", "unchanged": "already in place:"}

_NAMED = 5
"""The most paths that a line names."""

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
    """List what can be restored, newest first: everything, or files, folders and globs.

    WHEN is a date or time, today, yesterday, an age such as 2h, or a stamp of this list.
    With only --store, list the trash of a store, whether or not a folder is linked to it.

    \b
    Examples:
      craftsync trash list --folder datasets
      craftsync trash list models --since yesterday
      craftsync trash list --store s3://bucket
    """
    from craftsync.engine.review.retention import holdings
    from craftsync.engine.review.versions import Wanted

    if _is_of_store(flags):
        with _opened_store(paths, flags) as (kept, inside):
            wanted = Wanted(inside, since, at)
            _say_entries(kept.entries(wanted), wanted, flags)
        return
    with _opened(paths, flags, read_only=True) as (session, inside):
        holds = holdings_shown(holdings(session.state, session.retention))
        wanted = Wanted(inside, since, at)
        _say_entries(session.trash.entries(wanted), wanted, flags)
        if holds and not flags["json"]:
            say(f"in all, without those of other clients: {holds}")
        if not flags["json"] and (versions := session.trash.in_versions()):
            say(shown(versions))


def _say_entries(entries: Iterator[TrashEntry], wanted: Wanted, flags: dict[str, Any]) -> None:
    entry = None
    for entry in entries:
        _say_entry(entry, flags)
    if entry is None and not flags["json"]:
        say("No such version in the trash." if any(wanted) else "The trash is empty.")


def _say_entry(entry: TrashEntry, flags: dict[str, Any]) -> None:
    from craftsync.engine.review.versions import time_of

    if flags["json"]:
        say_json({**entry._asdict(), "time": time_of(entry.stamp)})
    else:
        say(f"{entry.stamp} {entry.side} {shown(entry.path)} ({size_shown(entry.size)})")


@trash.command(cls=common.CommandWithSummary)
@common.all_of(
    common.paths_argument,
    _when,
    click.option("--all", "everything", is_flag=True, help="Everything in the trash."),
    click.option(
        "--run",
        type=common.COUNT,
        metavar="ID",
        help="What this run replaced and deleted.",
    ),
    click.option(
        "--overwrite",
        is_flag=True,
        help="Also replace different files, which go to the trash; with --run it has no effect.",
    ),
    common.dry_run_option,
    common.json_option,
    common.path_options,
)
def restore(paths: tuple[str, ...], run: int | None, overwrite: bool, **flags: Any) -> int:
    """Restore files, folders or globs to the folder, each file in its newest version.

    Without PATH, restore everything kept --since then, or --all. WHEN is a date
    or time, today, yesterday, an age such as 2h, or a stamp of `trash list`. An
    existing different file stays and is listed; with --overwrite, it goes to
    the trash. --run restores what one run replaced and deleted, in the folder
    and in the store; `craftsync history` shows its number. What it replaces
    goes to the trash. A path that has changed since on either side stays and is
    listed. Files that the run added or renamed stay too; one line names them.
    With only --store, restore from the trash of a store into that store.

    \b
    Examples:
      craftsync trash restore data/train.csv
      craftsync trash restore models "data/*.csv"
      craftsync trash restore --since 2026-11-29T14:00 -n
      craftsync trash restore models --since yesterday
      craftsync trash restore --run 12 -n
      craftsync trash restore --folder datasets --at 20261122T101112Z train.csv
      craftsync trash restore --store s3://bucket models
    """
    from craftsync.engine.review.versions import Wanted

    since, at = flags["since"], flags["at"]
    _refuse_unclear(paths, run, flags)
    is_dry = flags["dry_run"]
    with outcomes("restore", flags) as output:
        opened = _opened_store if _is_of_store(flags) else _opened_to_restore
        with opened(paths, flags) as (kept, inside):
            for one in _restored(kept, run, Wanted(inside, since, at), overwrite, is_dry):
                _say_restored(output, one)
            added = _added_by(kept, run, inside)
        if not output.paths:
            output.say(_none_of(run, since))
        elif run and output.done:
            output.say("The next run transfers it to the store.")
        _say_added(output, added, run)
    return output.exit_code


def _added_by(kept: Trash | TrashOfStore, run: int | None, inside: Sequence[str]) -> list[str]:
    """Return the selected paths that a run added or renamed: restoring it leaves them as they are."""
    from craftsync.engine.review.selection import Selection
    from craftsync.engine.review.trash import TrashOfStore

    if run is None or isinstance(kept, TrashOfStore):
        return []
    selection, paths = Selection(tuple(inside)), list(kept.state.history.added_by(run))
    return list(filter(selection.by_name(paths).has, paths))


def _say_added(output: OutcomePrinter, added: Sequence[str], run: int | None) -> None:
    if not added:
        return
    output.more["not_undone"] = len(added)
    names = ", ".join(shown(path) for path in added[:_NAMED])
    more = f" and {len(added) - _NAMED:,} more" if len(added) > _NAMED else ""
    count = counted(len(added), "path")
    output.say(f"not undone: {count} that run {run} added or renamed: {names}{more}")


def _restored(
    kept: Trash | TrashOfStore, run: int | None, wanted: Wanted, overwrite: bool, dry_run: bool
) -> Iterator[Restored]:
    from craftsync.engine.review.trash import TrashOfStore

    if run is None or isinstance(kept, TrashOfStore):
        return kept.restore(wanted, overwrite=overwrite, dry_run=dry_run)
    return kept.restore_run(run, wanted, dry_run=dry_run)


def _refuse_unclear(paths: tuple[str, ...], run: int | None, flags: dict[str, Any]) -> None:
    since, everything = flags["since"], flags["everything"]
    if run is not None and (since or flags["at"] or everything):
        raise click.UsageError("--run cannot be combined with --since, --at or --all.")
    if run is not None and _is_of_store(flags):
        raise click.UsageError("--run is for a linked folder: also give --root, or --folder.")
    if everything and paths:
        raise click.UsageError("Give PATHs or --all, not both.")
    if not (paths or since or run or everything):
        raise click.UsageError("Give each PATH, --since, --run or --all.")


def _none_of(run: int | None, since: str | None) -> str:
    if run:
        return f"Run {run} replaced and deleted nothing of it."
    return f"Nothing in the trash since {since}." if since else "Nothing in the trash."


def _say_restored(output: OutcomePrinter, one: Restored) -> None:
    entry, path = one.entry, shown(one.entry.path)
    if one.status in {"problem", "skipped"}:
        output.left(one.status, entry.path, f"not restored: {path}", one.reason)
        return
    line = f"{_IN_WORDS[one.status]} {path} of {entry.stamp} ({size_shown(entry.size)})"
    facts = {"action": "restore", "path": entry.path, "size": entry.size}
    output.did(one.status, line, {**facts, "side": entry.side, "stamp": entry.stamp})


@trash.command(cls=common.CommandWithSummary)
@common.all_of(
    click.option(
        "--older-than",
        type=common.Number(0, 36_500),
        default=30.0,
        show_default=True,
        metavar="DAYS",
        help="Keep versions younger than this.",
    ),
    common.yes_option,
    common.dry_run_option,
    common.json_option,
    common.path_options,
)
def purge(older_than: float, yes: bool, **flags: Any) -> None:
    """Remove old versions for good, in the folder and in the store. Asks on a terminal.

    A version stays while a conflict, a held delete or an unfinished run refers to its path.
    With only --store, for a store without a linked folder, remove the versions from this machine.

    \b
    Examples:
      craftsync trash purge -n
      craftsync trash purge --yes
      craftsync trash purge --older-than 0 --root data --store ./backup
      craftsync trash purge --older-than 90 --store s3://bucket
    """
    of_a_store = _is_of_store(flags)
    opened = _opened_store if of_a_store else _opened_to_purge
    with outcomes("purge", flags) as output, opened((), flags) as (kept, _):
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
_OTHERS = "this state folder has no record that craftsync put them there."


@contextmanager
def _opened(
    paths: Sequence[str],
    flags: dict[str, Any],
    on_unnamed: OnUnnamed | None = None,
    *,
    read_only: bool,
) -> Iterator[tuple[Session, tuple[str, ...]]]:
    pair, inside, asked = meant_by(paths, flags, on_unnamed)
    with linked_folders.open_pair(pair, pairs.state_dir_of(asked), read_only=read_only) as session:
        yield session, inside or ()


@contextmanager
def _opened_to_purge(
    paths: Sequence[str], flags: dict[str, Any]
) -> Iterator[tuple[Trash, tuple[str, ...]]]:
    with _opened(paths, flags, refuse_unnamed, read_only=flags["dry_run"]) as (session, inside):
        yield session.trash, inside


@contextmanager
def _opened_to_restore(
    paths: Sequence[str], flags: dict[str, Any]
) -> Iterator[tuple[Trash, tuple[str, ...]]]:
    pair, inside, asked = meant_by(paths, flags, None if paths else refuse_unnamed)
    state_dir = pairs.state_dir_of(asked)
    with linked_folders.open_beside(pair, state_dir, read_only=flags["dry_run"]) as session:
        yield session.trash, inside or ()


def _is_of_store(flags: Mapping[str, Any]) -> bool:
    """Return whether a call names a store but no folder."""
    return bool(flags["store"]) and not (flags["root"] or flags["folder"])


@contextmanager
def _opened_store(
    paths: Sequence[str], flags: dict[str, Any]
) -> Iterator[tuple[TrashOfStore, tuple[str, ...]]]:
    """Open the trash of a store; each path is relative to its root, or an OBJECT in it."""
    from craftsync.engine.review.trash import TrashOfStore

    word = flags["store"]
    where = {
        name: value for name, value in flags.items() if name not in ("root", "store", "folder")
    }
    with Arguments(common.place_of(where), [word]) as found:
        place = found.place(word, change=True)
        inside = tuple(
            found.place(path, change=True).path if found.names_store(path) else path.strip("/")
            for path in paths
        )
        store = place.store
        yield TrashOfStore(store.opened_to_change(), stamp_now(), store), inside
