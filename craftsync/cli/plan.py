"""`plan` and `apply`: write what would be done, look at it, do exactly that."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import click

from craftsync import opening, runs
from craftsync.cli import parameters as common
from craftsync.cli.output import reporting, say, say_issue, sentence
from craftsync.config import pairs
from craftsync.core.model import Mode
from craftsync.errors import UsageError
from craftsync.sync import planfile


@click.command(cls=common.Command)
@common.all_of(
    common.pair_words,
    click.option("-o", "--output", default="-", metavar="FILE", help="Write it there."),
    common.mode_option,
    common.decision_options,
    common.access_options,
)
def plan(pair: tuple[str, ...], output: str, mode: str | None, **flags: Any) -> int:
    """Write what a pass would do, and do nothing.

    \b
    Examples:
      craftsync plan --mode push --delete data ./backup -o plan.jsonl
      craftsync plan datasets
    """
    asked = common.asked_of(flags)
    resolved = opening.resolve(pair, asked)
    chosen = common.mode_of(mode) or resolved.settings.mode or Mode.TWO_WAY
    options = replace(runs.options_for(resolved, asked, chosen), dry_run=True)
    state_dir = pairs.state_dir_of(asked)
    with (
        _written(output) as lines,
        opening.open_pair(resolved, state_dir, read_only=True, create_store=True) as session,
    ):
        report = session.write_plan(options, lines, say_issue)
    say(sentence(report), to_stderr=True)
    return report.exit_code


@click.command(cls=common.Command)
@common.all_of(
    click.argument("file"),
    common.transfer_options,
    common.output_options,
    common.access_options,
)
def apply(file: str, **flags: Any) -> int:
    """Do exactly what a plan says; a step that no longer fits is skipped and reported.

    \b
    Examples:
      craftsync apply plan.jsonl
    """
    asked = common.asked_of(flags)
    with reporting("apply", flags) as output, _read(file) as lines:
        read = planfile.read(lines)
        pair = pairs.remembered(read.root, read.store, asked)
        options = replace(runs.options_for(pair, asked, read.policy.mode), policy=read.policy)
        with runs.opened_for(pair, options, asked) as session:
            return output.finish(session.apply_plan(read.actions, options, output.on_event))


@contextmanager
def _written(file: str) -> Iterator[TextIO]:
    """Give a stream whose content appears under its name when it is complete."""
    if file == "-":
        yield sys.stdout
        return
    part = Path(f"{file}.part")
    try:
        with part.open("w", encoding="utf-8", errors="backslashreplace") as stream:
            yield stream
        os.replace(part, file)
    except OSError as error:
        raise UsageError(f"{file} cannot be written ({error.strerror}).") from error
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _read(file: str) -> Iterator[Iterator[str]]:
    if file == "-":
        yield iter(sys.stdin)
        return
    try:
        stream = Path(file).open(encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror}).") from error
    with stream:
        yield iter(stream)
