"""`push`, `pull` and `sync`: one run over a linked folder."""

from __future__ import annotations

from typing import Any

import click

from craftsync import opening, runs
from craftsync.cli import parameters as common
from craftsync.cli.output import reporting, say, shown

_pass_options = (
    common.pair_words,
    common.dry_run_option,
    common.decision_options,
    common.transfer_options,
    common.output_options,
    common.access_options,
)


def _run(command: str, pair: tuple[str, ...], flags: dict[str, Any]) -> int:
    with reporting(command, flags) as output:
        asked = common.asked_of(flags)
        if not pair and not flags["json"] and not flags["quiet"]:
            meant = opening.resolve(pair, asked)
            name = f"{meant.folder}: " if meant.folder else ""
            say(shown(f"{name}{meant.root} ⇄ {meant.location}"), to_stderr=True)
        asked["on_event"] = output.on_event
        return output.finish(runs.run(command, pair, asked))


@click.command(cls=common.Command)
@common.all_of(*_pass_options)
def push(pair: tuple[str, ...], **flags: Any) -> int:
    """Bring what changed in the folder to the store.

    Nothing is deleted in the store without --delete, which makes the store
    mirror the folder. What is overwritten or deleted there stays recoverable.

    \b
    Examples:
      craftsync push data s3://bucket/prefix
      craftsync push --dry-run --delete data ./backup
    """
    return _run("push", pair, flags)


@click.command(cls=common.Command)
@common.all_of(*_pass_options)
def pull(pair: tuple[str, ...], **flags: Any) -> int:
    """Bring what changed in the store to the folder.

    Nothing is deleted in the folder without --delete, which makes the folder
    mirror the store. What is overwritten or deleted there stays recoverable.
    A folder that is not there yet is created.

    \b
    Examples:
      craftsync pull data s3://bucket/prefix
      craftsync pull --exclude '*.tmp' datasets
    """
    return _run("pull", pair, flags)


@click.command(cls=common.Command)
@common.all_of(*_pass_options)
def sync(pair: tuple[str, ...], **flags: Any) -> int:
    """Bring folder and store in sync, both ways.

    Deletions are carried over. Where both sides changed the same file, both
    versions are kept, unless --conflict says otherwise.

    \b
    Examples:
      craftsync sync ~/datasets ./backup
      craftsync sync --conflict newer datasets
    """
    return _run("sync", pair, flags)
