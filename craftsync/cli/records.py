"""`history`, `why` and `forget`: the record of runs, and the last synced state."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import click

from craftsync import linked_folders, runs
from craftsync.cli import params as common
from craftsync.cli.output import outcomes, say, say_json, say_which, which
from craftsync.cli.review import refuse_unnamed
from craftsync.cli.terminal import addressed
from craftsync.clock import iso
from craftsync.config import file as configuration
from craftsync.config import pairs
from craftsync.config.options import PairOptions, RunOptions
from craftsync.core.model import OWN_FOLDER, BaselineRow, Kind, LocalFile, RemoteObject
from craftsync.engine.report import STEP_WORDS
from craftsync.errors import LockedError, StateError, UsageError
from craftsync.wording import counted, shown, size_shown


@click.command(cls=common.Command)
@common.all_of(
    click.argument("path", required=False),
    click.option("--limit", type=common.COUNT, default=100, show_default=True),
    common.json_option,
    common.path_options,
)
def history(path: str | None, limit: int, **flags: Any) -> None:
    """Show what craftsync did to all files, those in a folder, or one; newest first.

    \b
    Examples:
      craftsync history
      craftsync history data/models
      craftsync history data/models/iris.joblib
    """
    asked = common.asked_of(flags)
    words = common.words_of(flags)
    pair, inside = linked_folders.around(path or ".", words, asked)
    say_which(pair, words, flags)
    with linked_folders.read_state(pair, pairs.state_dir_of(asked)) as state:
        row = None
        for row in state.history.rows(inside if path else None, limit):
            if flags["json"]:
                say_json({**row._asdict(), "time": iso(row.at_ns)})
            else:
                reason = f": {row.reason}" if row.reason else ""
                run = f"run {row.run} " if row.run is not None else ""
                step = STEP_WORDS.get(row.action, row.action)
                say(
                    f"{iso(row.at_ns)} {run}{row.command} {row.status}: "
                    f"{step} {shown(row.path)}{reason}"
                )
    if row is None and not flags["json"]:
        of = f" for {shown(inside)}" if path else ""
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
    """Explain what a run would do with a file, and by which rule.

    \b
    Examples:
      craftsync why data/models/iris.joblib
      craftsync why --folder datasets --mode push train.csv
    """
    asked = common.asked_of(flags)
    words = common.words_of(flags)
    pair, inside = linked_folders.around(path, words, asked)
    say_which(pair, words, flags)
    with linked_folders.open_pair(pair, pairs.state_dir_of(asked), reading=True) as session:
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
    both = "compare the contents; if they differ, keep both, or the one that --conflict chooses"
    if kind is Kind.RECONCILE:
        return both
    return STEP_WORDS.get(kind, kind).removesuffix(":") if kind else "nothing to do"


def _source_of(ignored_by: str, pair: pairs.Pair, asked: RunOptions) -> str:
    """Return a pattern and where it is set."""
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


@click.command(cls=common.CommandWithSummary)
@common.all_of(
    common.yes_option,
    common.dry_run_option,
    common.json_option,
    common.pair_options,
)
def forget(pair: tuple[str, ...], yes: bool, **flags: Any) -> None:
    """Delete the saved state of a folder and its store, never their files. Asks on a terminal.

    Use it if one of them is gone for good, or was replaced by another. It
    deletes the last synced state, the history and held deletes. The next run
    is then a first run: it merges both sides and deletes nothing, so files
    that were deleted on one side only come back. The trash and conflict
    copies stay. Stop a running daemon first. Without a terminal, --yes is needed.

    \b
    Examples:
      craftsync forget -n datasets
      craftsync forget ~/old-laptop s3://bucket/datasets
      craftsync forget --yes datasets
    """
    asked = common.asked_of(flags)
    words = common.words_of(flags, pair)
    meant = linked_folders.resolve(words, asked, refuse_unnamed)
    say_which(meant, words, flags)
    with (
        outcomes("forget", flags) as output,
        _unused_state(meant, asked, dry_run=flags["dry_run"]) as place,
    ):
        output.more["forgotten"] = memory = _memory_of(meant, asked)
        for line in _lines_of(memory):
            output.say(addressed(line))
        if flags["dry_run"]:
            return
        if not yes:
            _confirm_forgetting()
        _drop(place)
        output.say(
            "Forgotten. The next run is a first run: it merges both sides and deletes nothing."
        )
        if meant.folder:
            output.say(f"It is still configured: craftsync config remove {meant.folder}")


def _confirm_forgetting() -> None:
    """Ask on a terminal; elsewhere raise `UsageError`, because nobody can answer."""
    if not sys.stdin.isatty():
        raise UsageError(
            "forget cannot ask: standard input is not a terminal.",
            remedy=f"If you mean it, type: {common.typed_with('--yes')}",
        )
    click.confirm("Forget this for good?", abort=True, err=True)


@contextmanager
def _unused_state(
    pair: pairs.Pair, asked: PairOptions, *, dry_run: bool
) -> Iterator[tuple[Path, str, str]]:
    """Yield the address of the saved state while no daemon and no run can use it; a dry run locks nothing.

    Raises `LockedError` if one uses it, and `UsageError` if there is no saved state.
    """
    from craftsync.cli.watch import request
    from craftsync.local.folder import Folder
    from craftsync.state.pair import is_remembered, pair_folder

    place = (pairs.state_dir_of(asked), *pair.addresses)
    if not is_remembered(*place):
        raise UsageError(
            f"There is no saved state of {shown(which(pair))}.",
            remedy="craftsync status, outside of any linked folder, lists those with one.",
        )
    if dry_run:
        yield place
        return
    if request(pair, asked, "status") is not None:
        raise LockedError(
            f"A daemon keeps {shown(str(pair.root))} in sync.",
            remedy="Stop it first: craftsync stop.",
        )
    with ExitStack() as stack:
        if (pair.root / OWN_FOLDER).is_dir():
            folder = stack.enter_context(Folder.open(str(pair.root)))
            folder.lock(pair_folder(*place) / "root.lock")
        yield place


def _drop(place: tuple[Path, str, str]) -> None:
    """Delete the state and the files of the control socket while no daemon can start."""
    from craftsync.daemon.control import Endpoint, folder_of
    from craftsync.state.pair import forget as drop

    control = folder_of(*place)
    with closing(Endpoint(control)):
        drop(*place)
        shutil.rmtree(control, ignore_errors=True)


def _memory_of(pair: pairs.Pair, asked: PairOptions) -> dict[str, Any] | None:
    """Return the counts of the saved state, `None` if it cannot be read."""
    from craftsync.state.pair import Memory

    try:
        with linked_folders.read_state(pair, pairs.state_dir_of(asked)) as state:
            return Memory.of(state)._asdict()
    except StateError:
        return None


def _lines_of(memory: dict[str, Any] | None) -> Iterator[str]:
    if memory is None:
        yield "The saved state cannot be read; all of it is deleted."
        return
    size = size_shown(memory["bytes"])
    yield f"last synced state: {counted(memory['files'], 'file')} ({size})"
    yield f"history: {counted(memory['history'], 'entry', 'entries')}"
    yield f"held deletes: {memory['held']}, neither approved nor rejected"
    yield f"unresolved conflicts: {memory['conflicts']}; the conflict copies stay, as files"
    if memory["kept"]:
        yield f"trash: {memory['kept']} versions stay, and retention ends; craftsync trash purge removes them"
    if memory["uploads"]:
        yield f"unfinished uploads: {memory['uploads']} stay in the store; craftsync doctor lists them"
