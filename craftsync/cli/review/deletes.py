"""`deletes`: those that a run held back until a person decides."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from craftsync import linked_folders, runs
from craftsync.cli import Group, watch
from craftsync.cli import params as common
from craftsync.cli.output import reporting, say, say_json
from craftsync.cli.review import meant_by
from craftsync.cli.terminal import addressed, shown
from craftsync.clock import iso
from craftsync.config import pairs
from craftsync.config.options import RunOptions
from craftsync.core.model import Kind
from craftsync.engine.report import Report
from craftsync.engine.review.selection import Selection, parse_time_ns
from craftsync.errors import UsageError
from craftsync.wording import counted, size_shown

if TYPE_CHECKING:
    from craftsync.engine.session import Session
    from craftsync.state.held import Deleted, HeldDelete

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

_meant = common.all_of(
    common.paths_argument,
    common.when_option("--since", "Only those held or deleted since then (UTC)."),
)
_which = common.all_of(
    _meant,
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
      craftsync deletes approve models/old "reports/*.csv"
      craftsync deletes reject --all
    """


@deletes.command("list", cls=common.Command)
@common.all_of(_meant, common.json_option, common.path_options)
def list_(paths: tuple[str, ...], since: str | None, **flags: Any) -> None:
    """List the deletes that are held, and why, and what was deleted before in the same event.

    PATH is a file, a folder or a glob; without any, all are listed.

    \b
    Examples:
      craftsync deletes list
      craftsync deletes list models --since yesterday
      craftsync deletes list --json --folder datasets
    """
    pair, inside, asked = meant_by(paths, flags)
    with linked_folders.open_pair(pair, pairs.state_dir_of(asked), reading=True) as session:
        held, deleted = _chosen(session, Selection(inside or ()), since)
        if flags["json"]:
            for one in held:
                say_json(_delete_facts(one))
            for gone in deleted:
                say_json(_facts_of_deleted(gone))
        else:
            for line in _lines(held):
                say(line)
            in_versions = session.trash.keeps_versions()
            for line in _lines_of_deleted(deleted, in_versions=in_versions):
                say(line)


@deletes.command(cls=common.Command)
@_which
def approve(paths: tuple[str, ...], since: str | None, everything: bool, **flags: Any) -> int:
    """Carry out held deletes: those at each PATH and below it, or --all.

    PATH is a file, a folder or a glob. With --since only what is held since
    then; WHEN is a date or time, yesterday, or an age such as 2h. One whose file or object is not the one it was when it was held is left,
    and decided anew by the next run. What is deleted can be restored with `craftsync trash`.
    With -n nothing is done, and what would be is listed.

    \b
    Examples:
      craftsync deletes approve models/old "reports/*.csv"
      craftsync deletes approve --all --since 2h -n
      craftsync deletes approve --all --folder datasets
    """
    _refuse_unclear(paths, since, everything)
    return _resolve("approve", paths, since, flags)


@deletes.command(cls=common.Command)
@_which
def reject(paths: tuple[str, ...], since: str | None, everything: bool, **flags: Any) -> int:
    """Undo held deletes: copy what survives at each PATH and below it, or --all, back.

    PATH is a file, a folder or a glob. With --since only what was held or
    deleted since then; WHEN is a date or time, yesterday, or an age such as 2h.
    What was deleted before that in the same event comes back from the trash,
    unless something is there again. With -n nothing is done, and what would be
    is listed.

    \b
    Examples:
      craftsync deletes reject models/final.bin
      craftsync deletes reject --all -n
      craftsync deletes reject "models/*.bin" --since yesterday
      craftsync deletes reject --all --folder datasets
    """
    _refuse_unclear(paths, since, everything)
    return _resolve("reject", paths, since, flags)


def _refuse_unclear(paths: tuple[str, ...], since: str | None, everything: bool) -> None:
    if everything and paths:
        raise click.UsageError("Give each PATH, or --all.")
    if not (everything or paths or since):
        raise click.UsageError("Give each PATH, --since or --all.")


def _resolve(verb: str, paths: tuple[str, ...], since: str | None, flags: dict[str, Any]) -> int:
    """Send the decision to the daemon of the linked folder; if none runs, carry it out here."""
    from craftsync.daemon.control import send_decision

    pair, inside, asked = meant_by(paths, flags)
    count, meant = _meant_in(pair, asked, inside, since)
    if not count:
        if flags["json"]:
            say_json(Report(verb, dry_run=flags["dry_run"]).as_json())
        else:
            say(_NOTHING)
        return 0
    if not asked.get("dry_run") and send_decision(watch.folder_of(pair, asked), verb, meant):
        _say_handed_over(pair, verb, count, flags)
        return 0
    return _resolve_here(pair, asked, verb, meant, flags)


def _chosen(
    session: Session, wanted: Selection, since: str | None
) -> tuple[Iterator[HeldDelete], Iterator[Deleted]]:
    """Return the selected held deletes, and the selected deletes that the same event had carried out."""
    since_ns = parse_time_ns(since) if since else 0
    held, deleted = session.state.held, session.state.events
    paths = ((one.path for one in held.rows()), (one.path for one in deleted.deleted()))
    wanted = wanted.by_name(chain(*paths))
    return (
        (one for one in held.rows() if wanted.has(one.path) and one.since_ns >= since_ns),
        (one for one in deleted.deleted() if wanted.has(one.path) and one.at_ns >= since_ns),
    )


def _meant_in(
    pair: pairs.Pair, asked: RunOptions, words: tuple[str, ...] | None, since: str | None
) -> tuple[int, tuple[str, ...] | None]:
    """Return how many held deletes are meant, and which: paths, or `None` for all.

    Raises `UsageError` for a word that means none.
    """
    wanted = Selection(words or ())
    with linked_folders.open_pair(pair, pairs.state_dir_of(asked), reading=True) as session:
        held, deleted = _chosen(session, wanted, since)
        paths = (*(one.path for one in held), *(one.path for one in deleted))
    for word in ["."] if "." in wanted.words else wanted.unmatched(paths):
        raise UsageError(
            f"No delete of {shown(word)} is held{f' since {since}' if since else ''}.",
            remedy="See craftsync deletes list for those that are; --all means all of them.",
        )
    return len(paths), None if words is None and not since else paths


def _say_handed_over(pair: pairs.Pair, verb: str, count: int, flags: dict[str, Any]) -> None:
    if flags["json"]:
        say_json({"type": "handed-over", "command": verb, "held": count})
        say_json(Report(verb).as_json())
    elif not flags["quiet"]:
        say(f"{shown(str(pair.root))}: {verb} of {counted(count, 'delete')} handed to the daemon")
        say(
            addressed("craftsync deletes list shows what is left, craftsync history what was done.")
        )


def _resolve_here(
    pair: pairs.Pair,
    asked: RunOptions,
    verb: str,
    paths: tuple[str, ...] | None,
    flags: dict[str, Any],
) -> int:
    from craftsync.engine.review.deletes import Approval

    options = runs.options_for(pair, asked)
    with (
        reporting(verb, flags) as output,
        linked_folders.open_pair(
            pair, pairs.state_dir_of(asked), read_only=options.dry_run
        ) as session,
    ):
        approval = Approval(verb == "approve", paths)
        return output.finish(session.resolve_held(approval, options, output.on_event))


def _lines(held: Iterator[HeldDelete]) -> Iterator[str]:
    """Yield held deletes as lines for people, grouped by reason."""
    what = None
    for one in held:
        if what != (one.kind, one.reason):
            what = one.kind, one.reason
            yield f"{_IN_WORDS[one.kind]}, held because {one.reason}:"
        yield f"  {shown(one.path)} ({size_shown(one.size)}), since {iso(one.since_ns)}"
    if what is None:
        yield _NOTHING


def _lines_of_deleted(deleted: Iterator[Deleted], *, in_versions: bool) -> Iterator[str]:
    """Yield lines for people about what the same events deleted before."""
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
