"""`deletes`: list, approve and reject held deletes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from craftsync import linked_folders, runs
from craftsync.cli import Group, watch
from craftsync.cli import params as common
from craftsync.cli.output import reporting, say, say_json, say_summary
from craftsync.cli.review import meant_by, refuse_unnamed
from craftsync.cli.terminal import addressed
from craftsync.clock import iso
from craftsync.config import pairs
from craftsync.config.options import RunOptions
from craftsync.core.model import Kind
from craftsync.engine.report import Report
from craftsync.engine.review.selection import Selection, parse_time_ns
from craftsync.errors import UsageError
from craftsync.wording import counted, shown, size_shown

if TYPE_CHECKING:
    from craftsync.engine.session import Session
    from craftsync.state.held import Deleted, HeldDelete

_IN_WORDS = {
    Kind.DELETE_REMOTE: "gone from the folder, to be deleted in the store",
    Kind.DELETE_LOCAL: "gone from the store, to be deleted in the folder",
    Kind.UPLOAD: "edited in the folder, to replace the object in the store",
}
_DELETED = {
    Kind.DELETE_REMOTE: "already deleted in the store, in the same event; reject restores them",
    Kind.DELETE_LOCAL: "already deleted in the folder, in the same event; reject restores them",
}
_IN_VERSIONS = (
    "already deleted in the store, in the same event; the bucket keeps them as versions,"
    " reject restores them"
)
_REJECTED = "rejected, but not restored; reject tries again, approve accepts the deletes"
_NOTHING = "No delete is held."

_meant = common.all_of(
    common.paths_argument,
    common.when_option("--since", "Only those held or deleted since then (UTC)."),
)
_which = common.all_of(
    _meant,
    click.option("--all", "everything", is_flag=True, help="All held deletes."),
    common.dry_run_option,
    common.output_options,
    common.path_options,
)


@click.group(cls=Group)
def deletes() -> None:
    """List, approve or reject held deletes.

    A run holds deletes if many paths disappeared within a short time, or a
    whole side is empty. A delete stays held until you approve or reject it, its
    path exists again, or a run has another --max-delete or --force-delete.
    Deletes carried out just before belong to the same event.

    A delete or an edit of an archived object (GLACIER) is held, too, if the
    bucket keeps no versions: craftsync cannot keep a copy of such an object.

    \b
    Examples:
      craftsync deletes list
      craftsync deletes approve models/old "reports/*.csv"
      craftsync deletes reject --all
    """


@deletes.command("list", cls=common.Command)
@common.all_of(_meant, common.json_option, common.path_options)
def list_(paths: tuple[str, ...], since: str | None, **flags: Any) -> None:
    """List held deletes with the reason, and the deletes already carried out in the same event.

    PATH is a file, a folder or a glob; without PATH, all are listed.

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


@deletes.command(cls=common.CommandWithSummary)
@_which
def approve(paths: tuple[str, ...], since: str | None, everything: bool, **flags: Any) -> int:
    """Carry out held deletes: those at and below each PATH, or --all.

    PATH is a file, a folder or a glob. --since selects those held since then;
    WHEN is a date or time, yesterday, or an age such as 2h. If the file or
    object has changed since it was held, it stays, and the next run decides
    again. `craftsync trash` restores deleted versions. With -n, only list what
    would be deleted.

    \b
    Examples:
      craftsync deletes approve models/old "reports/*.csv"
      craftsync deletes approve --all --since 2h -n
      craftsync deletes approve --all --folder datasets
    """
    _refuse_unclear(paths, since, everything)
    return _resolve("approve", paths, since, flags)


@deletes.command(cls=common.CommandWithSummary)
@_which
def reject(paths: tuple[str, ...], since: str | None, everything: bool, **flags: Any) -> int:
    """Undo held deletes at and below each PATH, or --all: copy the surviving versions back.

    PATH is a file, a folder or a glob. --since selects what was held or deleted
    since then; WHEN is a date or time, yesterday, or an age such as 2h. Files
    already deleted in the same event are restored from the trash, unless their
    path exists again. With -n, only list what would be restored.

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
        raise click.UsageError("Give PATHs or --all, not both.")
    if not (everything or paths or since):
        raise click.UsageError("Give each PATH, --since or --all.")


def _resolve(verb: str, paths: tuple[str, ...], since: str | None, flags: dict[str, Any]) -> int:
    """Send the decision to the daemon of the linked folder; if none runs, carry it out in this process."""
    from craftsync.daemon.control import send_decision

    pair, inside, asked = meant_by(paths, flags, refuse_unnamed)
    meant = _meant_in(pair, asked, inside, since)
    if not meant.held + meant.deleted:
        if flags["json"]:
            say_summary(Report(verb, dry_run=flags["dry_run"]).as_json())
        else:
            say(_NOTHING)
        return 0
    if not asked.get("dry_run") and send_decision(watch.folder_of(pair, asked), verb, meant.paths):
        _say_handed_over(pair, verb, meant, flags)
        return 0
    return _resolve_in_process(pair, asked, verb, meant.paths, flags)


class _Meant(NamedTuple):
    """The deletes that a call selects: how many are held, how many the same event already carried out."""

    held: int
    deleted: int
    paths: tuple[str, ...] | None
    """The paths of both, or `None` for all."""


def _chosen(
    session: Session, wanted: Selection, since: str | None
) -> tuple[Iterator[HeldDelete], Iterator[Deleted]]:
    """Return the selected held deletes, and the selected deletes already carried out in the same event."""
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
) -> _Meant:
    """Return what the words select. Raises `UsageError` for a word that selects none."""
    wanted = Selection(words or ())
    with linked_folders.open_pair(pair, pairs.state_dir_of(asked), reading=True) as session:
        held, deleted = (
            tuple(one.path for one in found) for found in _chosen(session, wanted, since)
        )
    paths = held + deleted
    for word in ["."] if "." in wanted.words else wanted.unmatched(paths):
        raise UsageError(
            f"No delete of {shown(word)} is held{f' since {since}' if since else ''}.",
            remedy="See craftsync deletes list for the held deletes; --all selects all of them.",
        )
    chosen = None if words is None and not since else paths
    return _Meant(len(held), len(deleted), chosen)


def _say_handed_over(pair: pairs.Pair, verb: str, meant: _Meant, flags: dict[str, Any]) -> None:
    # An approval has nothing left to do for a path that is deleted already; a rejection restores it.
    count = meant.held if verb == "approve" else meant.held + meant.deleted
    if flags["json"]:
        say_json({"type": "handed-over", "command": verb, "held": count})
        say_summary(Report(verb).as_json())
    elif not flags["quiet"]:
        say(f"{shown(str(pair.root))}: {verb} of {counted(count, 'delete')} handed to the daemon")
        say(addressed("craftsync deletes list shows what is left, craftsync history the result."))


def _resolve_in_process(
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
    """Yield lines for people about the deletes already carried out in the same events."""
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
