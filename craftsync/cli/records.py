"""`history`, `why`, `trash` and `forget`: what was done, and what is remembered."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from craftsync import opening, runs
from craftsync.cli import Group
from craftsync.cli import params as common
from craftsync.cli.output import Outcomes, holdings_shown, outcomes, say, say_json, say_which, which
from craftsync.cli.terminal import shown
from craftsync.clock import iso
from craftsync.config import file as configuration
from craftsync.config import pairs, places
from craftsync.config.options import PairOptions, RunOptions
from craftsync.core.model import OWN_FOLDER, BaselineRow, Kind, LocalFile, RemoteObject
from craftsync.errors import LockedError, StateError, UsageError
from craftsync.wording import counted, size_shown

if TYPE_CHECKING:
    from craftsync.engine.review.trash import Restored
    from craftsync.engine.session import Session


@click.command(cls=common.Command)
@common.all_of(
    click.argument("path", required=False),
    click.option("--limit", type=common.COUNT, default=100, show_default=True),
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
                say_json({**row._asdict(), "time": iso(row.at_ns)})
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
        found = session.why(inside, runs.options_for(pair, asked, common.mode_of(mode)))
    sides = {"root": found.local, "store": found.remote, "baseline": found.baseline}
    names = dict(zip(sides, ("folder", "store", "last synced state"), strict=True))
    if flags["json"]:
        decision = {"decision": found.decision, "rule": found.rule, "ignored_by": found.ignored_by}
        say_json(
            {"path": found.path, **{side: _facts(seen) for side, seen in sides.items()}, **decision}
        )
        return
    say(shown(found.path))
    for side, seen in sides.items() if found.compared else ():
        held = found.unread if side == "root" and found.unread else _in_words(seen)
        say(f"  {names[side]}: {shown(held)}")
    if found.ignored_by:
        say(f"  ignored, because of {shown(_source_of(found.ignored_by, pair, asked))}")
        return
    if found.conflict:
        original, copy = map(shown, found.conflict)
        settle = (
            f"craftsync conflicts resolve {shlex.quote(found.conflict[0])}{common.naming(words)}"
        )
        say(f"  in conflict: {original} has the folder's version, {copy} the store's")
        say(f"  settle it: {settle} --keep local|remote|both|newer")
    if found.decision or not found.conflict:
        say(f"  {_will_happen(found.decision)}: {found.rule}")


def _will_happen(kind: Kind | None) -> str:
    both = "compare the contents; keep both if they differ, or as --conflict says"
    return both if kind is Kind.RECONCILE else str(kind or "nothing to do")


def _source_of(ignored_by: str, pair: pairs.Pair, asked: RunOptions) -> str:
    """Return a pattern and where it stands."""
    pattern = ignored_by.removesuffix(" (--exclude)")
    if pattern in {ignored_by, *(asked.get("exclude") or ())} or not pair.folder:
        return ignored_by
    file = asked.get("config") or configuration.default_file()
    return f"{pattern} (folders.{pair.folder}.exclude in {file})"


Seen = LocalFile | RemoteObject | BaselineRow | None


def _facts(seen: Seen) -> dict[str, Any] | None:
    if seen is None:
        return None
    digest = None if isinstance(seen, LocalFile) or seen.digest is None else seen.digest.hex()
    return {"size": seen.size, "modified": _modified(seen), "digest": digest}


def _in_words(seen: Seen) -> str:
    return "not there" if seen is None else f"{size_shown(seen.size)}, modified {_modified(seen)}"


def _modified(seen: LocalFile | RemoteObject | BaselineRow) -> str | None:
    time_ns = seen.modified_ns if isinstance(seen, RemoteObject) else seen.mtime_ns
    return None if time_ns is None else iso(time_ns)


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

    \b
    Examples:
      craftsync trash list --folder datasets
      craftsync trash list models --since yesterday
    """
    from craftsync.engine.review.trash import Wanted

    with _opened(paths, flags, read_only=True) as (session, inside):
        holds = holdings_shown(session.holdings())
        wanted = Wanted(inside, since, at)
        entry = None
        for entry in wanted.among(session.trash(wanted)):
            if flags["json"]:
                say_json({**entry._asdict(), "time": _time_of(entry.stamp)})
            else:
                say(f"{entry.stamp} {entry.side} {shown(entry.path)} ({size_shown(entry.size)})")
        if entry is None and not flags["json"]:
            say("No such version is kept." if paths or since or at else "The trash is empty.")
        if holds and not flags["json"]:
            say(f"in all: {holds}")
        if not flags["json"] and (versions := session.in_versions()):
            say(shown(versions))


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

    \b
    Examples:
      craftsync trash restore data/train.csv
      craftsync trash restore models "data/*.csv"
      craftsync trash restore --since 2026-11-29T14:00 -n
      craftsync trash restore models --since yesterday
      craftsync trash restore --run 12 --overwrite -n
      craftsync trash restore --folder datasets --at 20261122T101112Z train.csv
    """
    from craftsync.engine.review.trash import Wanted

    since, at = flags["since"], flags["at"]
    _refuse_unclear(paths, run, flags)
    how = {"overwrite": overwrite, "dry_run": flags["dry_run"]}
    with outcomes("restore", flags) as output:
        with _opened_to_restore(paths, flags) as (session, inside):
            wanted = Wanted(inside, since, at)
            if run is None:
                restored = session.restore(wanted, **how)
            else:
                restored = session.restore_run(run, wanted, **how)
            for one in restored:
                _say_restored(output, one)
        if not output.paths:
            output.say(_none_of(run, since))
        elif run and output.done:
            output.say("The next run carries it to the store.")
    return output.exit_code


def _refuse_unclear(paths: tuple[str, ...], run: int | None, flags: dict[str, Any]) -> None:
    since, everything = flags["since"], flags["everything"]
    if run is not None and (since or flags["at"] or everything):
        raise click.UsageError("--run goes without --since, --at and --all.")
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

    \b
    Examples:
      craftsync trash purge -n
      craftsync trash purge --yes
      craftsync trash purge --older-than 0 --root data --store ./backup
    """
    with (
        outcomes("purge", flags) as output,
        _opened((), flags, read_only=flags["dry_run"]) as (session, _),
    ):
        if flags["dry_run"]:
            for entry in session.purgeable(older_than):
                what = f"{entry.stamp} {entry.side} {shown(entry.path)} ({size_shown(entry.size)})"
                facts = {"action": "purge", "path": entry.path, "size": entry.size}
                facts |= {"side": entry.side, "stamp": entry.stamp}
                output.did("planned", f"would remove {what}", facts)
            output.more["removed"] = output.paths
            return
        if sys.stdin.isatty() and not yes:
            count = sum(1 for _ in session.purgeable(older_than))
            click.confirm(f"Remove {counted(count, 'version')} for good?", abort=True, err=True)
        purged = session.purge(older_than)
        output.more |= purged._asdict()
        output.say(f"{counted(purged.removed, 'version')} removed")
        if purged.spared:
            output.say(
                f"{purged.spared} stay: a conflict, a held delete or an unfinished run refers to"
                " them. See craftsync conflicts list and craftsync deletes list."
            )


@click.command(cls=common.Command)
@common.all_of(
    click.option("--yes", is_flag=True, help="Do not ask."),
    common.dry_run_option,
    common.json_option,
    common.pair_options,
)
def forget(pair: tuple[str, ...], yes: bool, **flags: Any) -> None:
    """Drop what is remembered of a folder and its store, never their files. Asks on a terminal.

    For when one of them is gone for good, or is not the one it was: the last
    synced state, the history and held deletes are dropped. The next run is a
    first run, which merges both sides and deletes nothing, so that what was
    deleted on one side only comes back. The trash and conflict copies stay. A
    running daemon has to be stopped first.

    \b
    Examples:
      craftsync forget -n datasets
      craftsync forget ~/old-laptop s3://bucket/datasets
      craftsync forget --yes datasets
    """
    asked = common.asked_of(flags)
    words = common.words_of(flags, pair)
    meant = opening.resolve(words, asked)
    say_which(meant, words, flags)
    with (
        outcomes("forget", flags) as output,
        _nobody_at_work(meant, asked, dry_run=flags["dry_run"]) as place,
    ):
        output.more["forgotten"] = memory = _memory_of(meant, asked)
        for line in _lines_of(memory):
            output.say(line)
        if flags["dry_run"]:
            return
        if sys.stdin.isatty() and not yes:
            click.confirm("Forget this for good?", abort=True, err=True)
        _drop(place)
        output.say(
            "Forgotten. The next run is a first run: it merges both sides and deletes nothing."
        )
        if meant.folder:
            output.say(f"It stays in the configuration: craftsync config remove {meant.folder}")


@contextmanager
def _nobody_at_work(
    pair: pairs.Pair, asked: PairOptions, *, dry_run: bool
) -> Iterator[tuple[Path, str, str]]:
    """Give the places of what is remembered, while no daemon and no run can use it; in a dry run, at any time.

    Raises `LockedError` where one does, `UsageError` where nothing is remembered.
    """
    from craftsync.cli.watch import tell
    from craftsync.local.folder import Folder
    from craftsync.state.pair import is_remembered, pair_folder

    state_dir, root = pairs.state_dir_of(asked), str(pair.root)
    place = (state_dir, root, places.address_of(pair.location))
    if not is_remembered(*place):
        raise UsageError(
            f"Nothing is remembered of {shown(which(pair))}.",
            remedy="craftsync status, outside of any folder, shows what is.",
        )
    if dry_run:
        yield place
        return
    if tell(pair, asked, "status") is not None:
        raise LockedError(
            f"A daemon keeps {shown(root)} in sync.", remedy="End it first: craftsync stop."
        )
    with ExitStack() as stack:
        if (pair.root / OWN_FOLDER).is_dir():
            folder = stack.enter_context(Folder.open(root))
            folder.lock(pair_folder(*place) / "root.lock")
        yield place


def _drop(place: tuple[Path, str, str]) -> None:
    """Drop what is remembered, and the files of the control socket, while no daemon can begin."""
    from craftsync.daemon.control import Endpoint, folder_of
    from craftsync.state.pair import forget as drop

    control = folder_of(*place)
    with closing(Endpoint(control)):
        drop(*place)
        shutil.rmtree(control, ignore_errors=True)


def _memory_of(pair: pairs.Pair, asked: PairOptions) -> dict[str, Any] | None:
    """Return how much is remembered, `None` where it cannot be read."""
    from craftsync.state.pair import Memory

    try:
        with opening.read_state(pair, pairs.state_dir_of(asked)) as state:
            return Memory.of(state)._asdict()
    except StateError:
        return None


def _lines_of(memory: dict[str, Any] | None) -> Iterator[str]:
    if memory is None:
        yield "What is remembered cannot be read; all of it goes."
        return
    size = size_shown(memory["bytes"])
    yield f"last synced state: {counted(memory['files'], 'file')} ({size})"
    yield f"history: {counted(memory['history'], 'entry', 'entries')}"
    yield f"held deletes: {memory['held']}, neither approved nor rejected"
    yield f"unresolved conflicts: {memory['conflicts']}; the conflict copies stay, as files"
    if memory["kept"]:
        yield f"trash: {memory['kept']} versions stay, without retention; craftsync trash purge removes them"
    if memory["uploads"]:
        yield f"unfinished uploads: {memory['uploads']} stay in the store; craftsync doctor lists them"


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
