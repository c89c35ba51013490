"""`conflicts` and `deletes`: what waits for a decision."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from craftsync import opening, runs
from craftsync.cli import Group, watch
from craftsync.cli import params as common
from craftsync.cli.output import reporting, say, say_json, say_which, size_shown
from craftsync.cli.terminal import shown
from craftsync.clock import SystemClock, iso, stamp
from craftsync.config import pairs
from craftsync.config.options import RunOptions
from craftsync.core.model import Kind, LocalFile
from craftsync.core.paths import malformed
from craftsync.engine.report import Report
from craftsync.errors import UsageError
from craftsync.local.folder import Folder
from craftsync.local.ignore import IgnoreRules
from craftsync.state.history import KeptVersion, Outside

if TYPE_CHECKING:
    from craftsync.engine.review import Conflict
    from craftsync.engine.session import Session
    from craftsync.state.held import Deleted, HeldDelete


_CONFLICTS_WAIT = 4
_LONGEST_TEXT = 256 << 10
"""Bytes up to which two texts are compared line by line."""


@click.group(cls=Group)
def conflicts() -> None:
    """List and settle conflicts: files that were changed on both sides.

    The file is the root's version; the store's version lies beside it, as
    `name (conflict TIME STORE).ext`, on both sides.

    \b
    Examples:
      craftsync conflicts list
      craftsync conflicts show data/train.csv
      craftsync conflicts resolve data/train.csv --keep remote
    """


@conflicts.command("list", cls=common.Command)
@common.all_of(common.json_option, common.path_options)
def list_conflicts(**flags: Any) -> int:
    """List the files that have a conflict copy beside them; exits with 4 while there are any.

    \b
    Examples:
      craftsync conflicts list
      craftsync conflicts list --json --folder datasets
    """
    from craftsync.engine import review as engine

    found = False
    with _opened(".", flags) as (root, rules, _):
        for conflict in engine.find(root, rules):
            found = True
            if flags["json"]:
                say_json(_conflict_facts(conflict))
            else:
                say(shown(conflict.path))
                for line in _versions(conflict):
                    say(line)
    if not found and not flags["json"]:
        say("No conflict copy is there.")
    return _CONFLICTS_WAIT if found else 0


@conflicts.command(cls=common.Command)
@common.all_of(click.argument("path"), common.json_option, common.path_options)
def show(path: str, **flags: Any) -> None:
    """Show both versions of a file: size, time, SHA-256, and for short texts what differs.

    PATH is the file, the conflict copy, or a folder with conflicts in it.

    \b
    Examples:
      craftsync conflicts show data/train.csv
      craftsync conflicts show --folder datasets train.csv
    """
    from craftsync.engine import review as engine

    with _opened(path, flags) as (root, rules, inside):
        for conflict in engine.at(root, rules, inside):
            found = _compared(root, conflict)
            if flags["json"]:
                say_json(found)
                continue
            say(shown(conflict.path))
            for line, side in zip(_versions(conflict), ("local", "remote"), strict=True):
                say(f"{line}, SHA-256 {found[side]['sha256']}" if found[side] else line)
            for line in found["diff"] or ():
                say("\t".join(map(shown, line.split("\t"))))


@conflicts.command(cls=common.Command)
@common.all_of(
    click.argument("path"),
    click.option(
        "--keep",
        type=click.Choice(["local", "remote", "both"]),
        required=True,
        help="Keep the folder's version, the store's, or both under two names.",
    ),
    common.path_options,
)
def resolve(path: str, keep: str, **flags: Any) -> None:
    """Say which version of a file is to stay; the other goes to the trash.

    PATH is the file, or one conflict copy of several. With `both` the copy
    stays under a name without the word conflict. It is done in the root; a
    running daemon, or the next run, carries it to the store.

    \b
    Examples:
      craftsync conflicts resolve data/train.csv --keep local
      craftsync conflicts resolve --folder datasets train.csv --keep both
    """
    from craftsync.engine import review as engine

    with _opened(path, flags) as (root, rules, inside):
        found = engine.at(root, rules, inside)
        place = Outside(pairs.state_dir_of(common.asked_of(flags)), os.path.realpath(root.path))
        clock = SystemClock()

        def note(version: KeptVersion) -> None:
            place.note([version], clock.now_ns())

        stays = engine.resolve(root, found, engine.Keep(keep), stamp(clock), note)
    say(f"kept: {', '.join(map(shown, stays)) or 'nothing; the file itself was deleted before'}")
    if keep != "both":
        say("What went is in the trash: craftsync trash list")


@contextmanager
def _opened(path: str, flags: dict[str, Any]) -> Iterator[tuple[Folder, IgnoreRules, str]]:
    """Give the root a path belongs to, which paths take part, and the path within."""
    words = common.words_of(flags)
    pair, inside = opening.around(path, words, common.asked_of(flags))
    say_which(pair, words, flags)
    settings = pair.settings
    with Folder.open(pair.root) as root:
        root.reserve = pair.reserve
        yield root, IgnoreRules(root, include=settings.include, exclude=settings.exclude), inside


def _versions(conflict: Conflict) -> list[str]:
    """Return a line for each of the two versions."""
    local = _in_words(conflict.local) if conflict.local else "not there any more"
    return [
        f"  local   {local}",
        f"  remote  {_in_words(conflict.copy)}, in {shown(conflict.copy.path)}",
    ]


def _in_words(file: LocalFile) -> str:
    return f"{size_shown(file.size)}, modified {iso(file.mtime_ns)}"


def _conflict_facts(conflict: Conflict) -> dict[str, Any]:
    sides = {"local": conflict.local, "remote": conflict.copy}
    versions = {
        side: file and {"path": file.path, "size": file.size, "modified": iso(file.mtime_ns)}
        for side, file in sides.items()
    }
    reason = f"the store's version is beside it as {conflict.copy.path.rpartition('/')[2]}"
    return {"type": "conflict", "path": conflict.path, "reason": reason, **versions}


def _compared(root: Folder, conflict: Conflict) -> dict[str, Any]:
    """Return the facts of a conflict with what only reading tells."""
    facts = _conflict_facts(conflict)
    for side, file in (("local", conflict.local), ("remote", conflict.copy)):
        if file is not None:
            with root.open_file(file.path) as opened:
                facts[side]["sha256"] = opened.digest().hex()
    return {**facts, "diff": _difference(root, conflict)}


def _difference(root: Folder, conflict: Conflict) -> list[str] | None:
    """Return what differs, line by line from the root's version to the store's; `None` if it is no short text."""
    here, there = _text(root, conflict.local), _text(root, conflict.copy)
    if here is None or there is None:
        return None
    return list(difflib.unified_diff(here, there, "local", "remote", lineterm=""))


def _text(root: Folder, file: LocalFile | None) -> list[str] | None:
    if file is None or file.size > _LONGEST_TEXT:
        return None
    with root.open_file(file.path) as opened:
        content = opened.read_at(0, file.size)
    try:
        return None if b"\0" in content else content.decode().splitlines()
    except UnicodeDecodeError:
        return None


_IN_WORDS = {
    Kind.DELETE_REMOTE: "gone from the folder, to be deleted in the store",
    Kind.DELETE_LOCAL: "gone from the store, to be deleted in the folder",
    Kind.UPLOAD: "edited in the folder, to replace the object in the store",
}
_DELETED = {
    Kind.DELETE_REMOTE: "deleted in the store before that, in the same event; reject brings them back",
    Kind.DELETE_LOCAL: "deleted in the folder before that, in the same event; reject brings them back",
}
_IN_VERSIONS = (
    "deleted in the store before that, in the same event; the bucket keeps them as versions,"
    " reject brings them back"
)
_REJECTED = "rejected, and not brought back; reject tries again, approve ends it"
_NOTHING = "No delete is held."
_MOST_AT_ONCE = 20
"""Paths told to a daemon in one request, which may have 64 KiB."""

_which = common.all_of(
    click.argument("paths", nargs=-1, metavar="[PATH]..."),
    click.option("--all", "everything", is_flag=True, help="All that are held."),
    common.dry_run_option,
    common.output_options,
    common.path_options,
)


@click.group(cls=Group)
def deletes() -> None:
    """List, carry out or undo the deletes that wait for a person.

    They wait because many paths were gone within a short time, or a whole side
    was empty. One that is held stays so until it is approved, rejected or there
    again, or until a run with another --max-delete or with --force-delete.
    What was deleted just before that belongs to the same event.

    A delete or an edit of an archived object (GLACIER) waits as well, where the
    bucket keeps no versions: of such an object no copy can be kept.

    \b
    Examples:
      craftsync deletes list
      craftsync deletes approve models/old
      craftsync deletes reject --all
    """


@deletes.command("list", cls=common.Command)
@common.all_of(common.json_option, common.path_options)
def list_deletes(**flags: Any) -> None:
    """List the deletes that are held, and why, and what was deleted before in the same event.

    \b
    Examples:
      craftsync deletes list
      craftsync deletes list --json --folder datasets
    """
    asked = common.asked_of(flags)
    words = common.words_of(flags)
    pair, _ = opening.around(".", words, asked)
    say_which(pair, words, flags)
    with opening.open_pair(pair, pairs.state_dir_of(asked), reading=True) as session:
        if flags["json"]:
            for one in session.held():
                say_json(_delete_facts(one))
            for gone in session.deleted():
                say_json(_facts_of_deleted(gone))
        else:
            for line in _lines(session.held()):
                say(line)
            in_versions = session.keeps_versions()
            for line in _lines_of_deleted(session.deleted(), in_versions=in_versions):
                say(line)


@deletes.command(cls=common.Command)
@_which
def approve(paths: tuple[str, ...], everything: bool, **flags: Any) -> int:
    """Carry out held deletes: those at each PATH and below it, or --all.

    One whose file or object is not the one it was when it was held is left,
    and looked at again. What goes can be got back with `craftsync trash`.
    With -n nothing is done, and what would be is listed.

    \b
    Examples:
      craftsync deletes approve models/old
      craftsync deletes approve --all --folder datasets
    """
    return _judge("approve", paths, everything, flags)


@deletes.command(cls=common.Command)
@_which
def reject(paths: tuple[str, ...], everything: bool, **flags: Any) -> int:
    """Undo held deletes: copy what survives at each PATH and below it, or --all, back.

    What was deleted before that in the same event comes back from the trash,
    unless something is there again. With -n nothing is done, and what would be
    is listed.

    \b
    Examples:
      craftsync deletes reject models/final.bin
      craftsync deletes reject --all -n
      craftsync deletes reject --all --folder datasets
    """
    return _judge("reject", paths, everything, flags)


def _judge(verb: str, paths: tuple[str, ...], everything: bool, flags: dict[str, Any]) -> int:
    """Have the daemon of the pair do it, or do it here when none runs."""
    if everything == bool(paths):
        raise click.UsageError("Give each PATH, or --all.")
    asked = common.asked_of(flags)
    words = common.words_of(flags)
    pair, inside = opening.around_all(paths, words, asked)
    say_which(pair, words, flags)
    count = _count(pair, asked, inside)
    if not count and not flags["json"]:
        say(_NOTHING)
        return 0
    if not asked.get("dry_run") and _told(pair, asked, verb, inside):
        _say_handed_over(pair, verb, count, flags)
        return 0
    return _judge_here(pair, asked, verb, inside, flags)


def _count(pair: pairs.Pair, asked: RunOptions, paths: tuple[str, ...] | None) -> int:
    """Count the held deletes that are meant; raises `UsageError` for a path that means none."""
    with opening.open_pair(pair, pairs.state_dir_of(asked), reading=True) as session:
        for path in paths or ():
            if malformed(path) or not _is_meant(session, path):
                raise UsageError(
                    f"No delete of {shown(path)} is held.",
                    remedy="See craftsync deletes list for those that are.",
                )
        return sum(1 for _ in chain(session.held(paths), session.deleted(paths)))


def _is_meant(session: Session, path: str) -> bool:
    return next(chain(session.held([path]), session.deleted([path])), None) is not None


def _told(pair: pairs.Pair, asked: RunOptions, verb: str, paths: tuple[str, ...] | None) -> bool:
    """Hand it to the daemon; return whether one runs."""
    if paths is None:
        return watch.tell(pair, asked, verb, paths=None) is not None
    batches = [paths[at : at + _MOST_AT_ONCE] for at in range(0, len(paths), _MOST_AT_ONCE)]
    return all(watch.tell(pair, asked, verb, paths=batch) is not None for batch in batches)


def _say_handed_over(pair: pairs.Pair, verb: str, count: int, flags: dict[str, Any]) -> None:
    if flags["json"]:
        say_json({"type": "handed-over", "command": verb, "held": count})
        say_json(Report(verb).as_json())
    elif not flags["quiet"]:
        say(f"{shown(str(pair.root))}: {verb} of {count} deletes handed to the daemon")
        say("craftsync deletes list tells what is left, craftsync history what was done.")


def _judge_here(
    pair: pairs.Pair,
    asked: RunOptions,
    verb: str,
    paths: tuple[str, ...] | None,
    flags: dict[str, Any],
) -> int:
    from craftsync.engine.review import Approval

    options = runs.options_for(pair, asked)
    with (
        reporting(verb, flags) as output,
        opening.open_pair(pair, pairs.state_dir_of(asked), read_only=options.dry_run) as session,
    ):
        verdict = Approval(verb == "approve", paths)
        return output.finish(session.judge(verdict, options, output.on_event))


def _lines(held: Iterator[HeldDelete]) -> Iterator[str]:
    """Yield held deletes for people, those with one reason below it."""
    what = None
    for one in held:
        if what != (one.kind, one.reason):
            what = one.kind, one.reason
            yield f"{_IN_WORDS[one.kind]}, held because {one.reason}:"
        yield f"  {shown(one.path)} ({size_shown(one.size)}), since {iso(one.since_ns)}"
    if what is None:
        yield _NOTHING


def _lines_of_deleted(deleted: Iterator[Deleted], *, in_versions: bool) -> Iterator[str]:
    """Yield for people what was deleted before, in the same events."""
    what = None
    for one in deleted:
        if what != (one.kind, one.rejected):
            what = one.kind, one.rejected
            is_version = in_versions and one.kind is Kind.DELETE_REMOTE
            yield f"{_REJECTED if one.rejected else _IN_VERSIONS if is_version else _DELETED[one.kind]}:"
        yield f"  {shown(one.path)} ({size_shown(one.size)}), {iso(one.at_ns)}"


def _facts_of_deleted(one: Deleted) -> dict[str, Any]:
    return {
        "type": "action",
        "action": one.kind,
        "path": one.path,
        "size": one.size,
        "status": "done",
        "rejected": one.rejected,
        "time": iso(one.at_ns),
    }


def _delete_facts(one: HeldDelete) -> dict[str, Any]:
    return {
        "type": "held",
        "path": one.path,
        "action": one.kind,
        "size": one.size,
        "reason": one.reason,
        "since": iso(one.since_ns),
    }
