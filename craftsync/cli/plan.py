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

from craftsync import pairs, passes, planfile
from craftsync.cli import parameters as common
from craftsync.cli.output import reporting, say, sentence
from craftsync.core.model import Mode
from craftsync.errors import UsageError


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
    resolved = pairs.resolve(pair, asked)
    chosen = common.mode_of(mode) or resolved.settings.mode or Mode.TWO_WAY
    options = replace(passes.options_for(resolved, asked, chosen), dry_run=True)
    with (
        _written(output) as lines,
        passes.opened_for(resolved, options, asked) as session,
    ):
        lines.write(planfile.header_line(resolved, options) + "\n")
        report = session.write_plan(options, lines)
    say(sentence(report), to_stderr=True)
    return report.exit_code


@click.command(cls=common.Command)
@common.all_of(
    click.argument("file"),
    common.delete_guard_options,
    common.transfer_options,
    common.output_options,
)
def apply(file: str, **flags: Any) -> int:
    """Do exactly what a plan says; a step that no longer fits is skipped and reported.

    \b
    Examples:
      craftsync apply plan.jsonl
      craftsync plan data ./backup | craftsync apply -
    """
    asked = common.asked_of(flags)
    with reporting("apply", flags) as output, _read(file) as lines:
        header = planfile.read_header(next(lines, ""), file)
        options = replace(
            passes.options_for(header.pair, asked, header.policy.mode),
            policy=header.policy,
            include=header.include,
            exclude=header.exclude,
        )
        with passes.opened_for(header.pair, options, asked) as session:
            return output.finish(session.apply_plan(lines, options, output.on_event))


@contextmanager
def _written(file: str) -> Iterator[TextIO]:
    """Give a stream whose content appears under its name when it is complete."""
    if file == "-":
        yield sys.stdout
        return
    part = Path(f"{file}.part")
    try:
        with part.open("w", encoding="utf-8", errors="surrogateescape") as stream:
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
        stream = Path(file).open(encoding="utf-8", errors="surrogateescape")  # noqa: SIM115
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror}).") from error
    with stream:
        yield iter(stream)
