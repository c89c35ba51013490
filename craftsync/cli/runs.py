"""`push`, `pull`, `sync`, `plan`, `apply`, `check`, `scrub` and `migrate`."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

import click

from craftsync import linked_folders, runs
from craftsync.cli import params as common
from craftsync.cli.output import (
    Output,
    reporting,
    say,
    say_issue,
    say_json,
    say_which,
    sizes_shown,
    summary_line,
)
from craftsync.cli.review import meant_by
from craftsync.config import pairs
from craftsync.config.options import MigrateOptions
from craftsync.config.places import DirectoryLocation
from craftsync.core.model import DELETES, Kind
from craftsync.engine import planfile
from craftsync.engine.report import (
    COPIES,
    COUNTERS,
    STEP_WORDS,
    ActionEvent,
    Issue,
    IssueEvent,
    Report,
)
from craftsync.errors import UsageError
from craftsync.wording import counted, shown, size_shown

if TYPE_CHECKING:
    from craftsync.migrate.options import MigrationReport

_ROOT_AND_STORE = 2

_run_options = (
    common.dry_run_option,
    common.decision_options,
    common.transfer_options,
    common.output_options,
    common.pair_options,
)
_filters = (common.take_part_options, common.existing_options)


def _run(command: str, pair: tuple[str, ...], flags: dict[str, Any]) -> int:
    with reporting(command, flags) as output:
        asked = common.asked_of(flags)
        words = common.words_of(flags, pair)
        output.names(common.naming(words))
        if len(words) < _ROOT_AND_STORE:
            say_which(linked_folders.resolve(words, asked), words, flags)
        asked["on_event"] = output.on_event
        return output.finish(runs.run(command, words, asked))


@click.command(cls=common.CommandWithSummary)
@common.all_of(*_run_options, *_filters, common.links_option, common.written_options)
def push(pair: tuple[str, ...], **flags: Any) -> int:
    """Transfer changes in the folder to the store.

    Without --delete, nothing is deleted in the store; with it, the store
    mirrors the folder. Overwritten and deleted versions can be restored.

    \b
    Examples:
      craftsync push data s3://bucket/prefix
      craftsync push --dry-run --delete data ./backup
      git ls-files | craftsync push --files-from - data s3://bucket/prefix
    """
    return _run("push", pair, flags)


@click.command(cls=common.CommandWithSummary)
@common.all_of(*_run_options, *_filters, common.refused_links)
def pull(pair: tuple[str, ...], **flags: Any) -> int:
    """Transfer changes in the store to the folder.

    Without --delete, nothing is deleted in the folder; with it, the folder
    mirrors the store. Overwritten and deleted versions can be restored. A
    missing folder is created.

    \b
    Examples:
      craftsync pull data s3://bucket/prefix
      craftsync pull --exclude '*.tmp' datasets
      craftsync pull --max-size 100M --max-age 7d datasets
    """
    return _run("pull", pair, flags)


@click.command(cls=common.CommandWithSummary)
@common.all_of(*_run_options, common.refused_filters, common.written_options)
def sync(pair: tuple[str, ...], **flags: Any) -> int:
    """Synchronise folder and store, both ways.

    Deletes are transferred, too. If both sides changed the same file, both
    versions are kept, unless --conflict chooses one.

    \b
    Examples:
      craftsync sync ~/datasets ./backup
      craftsync sync --conflict newer datasets
    """
    return _run("sync", pair, flags)


@click.command(cls=common.CommandWithSummary)
@common.all_of(
    common.filter_options,
    common.take_part_options,
    common.links_option,
    common.refused_existing,
    common.output_options,
    common.pair_options,
)
def check(pair: tuple[str, ...], **flags: Any) -> int:
    """Compare the content of folder and store, and change nothing.

    One line for each difference: - only in the store, + only in the folder,
    * different, ! could not be read; with -v also = equal, so that every path
    has a line. To compare two stores, give the first one instead of the folder.

    \b
    Examples:
      craftsync check data s3://bucket/prefix
      craftsync check -v --json datasets
      craftsync check --size-only datasets
      craftsync check dev s3://bucket/prefix
    """

    from craftsync.migrate import command

    legend = [_LEGEND] if sys.stdout.isatty() else []
    with reporting("check", flags) as output:

        def on_line(symbol: str, path: str) -> None:
            output.on_line(symbol)
            if symbol == "=" and not flags["verbose"]:
                return
            if legend and not flags["json"] and not flags["quiet"]:
                say(legend.pop())
            if flags["json"]:
                say_json({"type": "check", "symbol": symbol, "path": path})
            elif not flags["quiet"]:
                say(f"{symbol} {shown(path)}")

        asked = common.asked_of(flags)
        asked["on_event"] = output.on_event
        words = common.words_of(flags, pair)
        compare = command.check if command.are_stores(words, asked) else runs.check
        if compare is runs.check:
            say_which(linked_folders.resolve(words, asked), words, flags)
        return output.finish(compare(words, asked, on_line))


_LEGEND = (
    "+ only in the folder (or the first store)   - only in the store (or the second)\n"
    "* different   ! could not be read"
)


@click.command(cls=common.Command)
@common.all_of(
    click.option(
        "-o", "--output", default="-", metavar="FILE", help="The file to write the plan to."
    ),
    common.mode_option,
    common.decision_options,
    *_filters,
    common.links_option,
    common.pair_options,
)
def plan(pair: tuple[str, ...], output: str, mode: str | None, **flags: Any) -> int:
    """Write what a run would do as a plan, and do nothing.

    \b
    Examples:
      craftsync plan --mode push --delete data ./backup -o plan.jsonl
      craftsync plan datasets
    """
    asked = common.asked_of(flags)
    words = common.words_of(flags, pair)
    resolved = linked_folders.resolve(words, asked)
    _refuse_inside(resolved, output)
    say_which(resolved, words, flags)
    options = replace(runs.options_for(resolved, asked, common.mode_of(mode)), dry_run=True)
    runs.refuse_filter(options)
    state_dir = pairs.state_dir_of(asked)
    with (
        _written(output) as lines,
        linked_folders.open_pair(resolved, state_dir, read_only=True, create_store=True) as session,
    ):
        report = session.write_plan(options, lines, say_issue)
    say(summary_line(report), to_stderr=True)
    return report.exit_code


@click.command(cls=common.CommandWithSummary)
@common.all_of(
    click.argument("file"),
    common.dry_run_option,
    common.transfer_options,
    common.output_options,
    common.access_options,
    common.written_options,
)
def apply(file: str, **flags: Any) -> int:
    """Carry out exactly the steps of a plan; skip and report a step that no longer applies.

    With -n, print the steps in words, without reading either side.

    \b
    Examples:
      craftsync apply -n plan.jsonl
      craftsync apply plan.jsonl
    """
    asked = common.asked_of(flags)
    with reporting("apply", flags) as output, _read(file) as lines:
        read = planfile.read(lines)
        pair = pairs.remembered(read.root, read.store, asked)
        options = replace(
            runs.options_for(pair, asked, read.policy.mode),
            policy=read.policy,
            follow_links=read.follow_links,
        )
        say_which(pair, (), flags)
        if flags["dry_run"]:
            return output.finish(_in_words(read, output, flags))
        with runs.opened_for(pair, options, asked) as session:
            return output.finish(session.apply_plan(read.actions, options, output.on_event))


_STEPS = {
    Kind.UPLOAD: "upload {path} ({size})",
    Kind.DOWNLOAD: "download {path} ({size})",
    **{kind: f"{STEP_WORDS[kind]} {{path}} ({{size}})" for kind in DELETES},
    Kind.MOVE_REMOTE: f"{STEP_WORDS[Kind.MOVE_REMOTE]} {{source}} → {{path}}",
    Kind.MOVE_LOCAL: f"{STEP_WORDS[Kind.MOVE_LOCAL]} {{source}} → {{path}}",
    Kind.RECONCILE: "keep both versions, if they differ: {path}",
    Kind.ADOPT: "record as equal on both sides: {path}",
    Kind.FORGET: "record as gone from both sides: {path}",
}


def _in_words(plan: planfile.PlanFile, output: Output, flags: dict[str, Any]) -> Report:
    """Print the steps of a plan; return the report of a dry run."""
    report = Report("apply", dry_run=True)
    for action in plan.actions:
        size, replaces = action.size, action.replaced_size
        if action.kind is Kind.RECONCILE:
            report.conflicts += 1
        elif action.kind in COUNTERS:
            report.count(action.kind, size if action.kind in COPIES else 0)
            report.replaced += replaces is not None
        report.adopted += action.kind is Kind.ADOPT
        if flags["json"]:
            if action.kind is Kind.RECONCILE:
                output.on_event(IssueEvent(Issue.CONFLICT, action.path, action.rule))
            elif action.kind in COUNTERS:
                event = ActionEvent(
                    action.kind, action.path, size, "planned", action.rule, replaces
                )
                output.on_event(event)
        elif not flags["quiet"]:
            names = {"path": shown(action.path), "source": shown(action.source or "")}
            step = _STEPS[action.kind].format(**names, size=sizes_shown(size, replaces))
            say(f"{step}: {shown(action.rule)}")
    return report


def _refuse_inside(pair: pairs.Pair, file: str) -> None:
    """Raise `UsageError` for a file inside the folder or the store: a run would copy or replace it."""
    sides = [pair.root]
    if isinstance(pair.location, DirectoryLocation):
        sides.append(pair.location.path)
    for side in sides if file != "-" else ():
        if Path(os.path.realpath(file)).is_relative_to(os.path.realpath(side)):
            raise UsageError(
                f"{file} is inside {side}, a side of the plan.",
                remedy="Write the plan outside of it, such as -o /tmp/plan.jsonl.",
            )


@contextmanager
def _written(file: str) -> Iterator[TextIO]:
    """Yield a stream; its file appears once it is complete."""
    if file == "-":
        yield sys.stdout
        return
    from craftsync.local.files import written

    try:
        with written(Path(file)) as stream:
            yield stream
    except OSError as error:
        raise UsageError(f"{file} cannot be written ({error.strerror}).") from error


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


@click.command(cls=common.CommandWithSummary)
@common.all_of(
    click.argument("paths", nargs=-1, metavar="[PATH]..."),
    click.option(
        "--repair",
        is_flag=True,
        help="Replace damaged content with that of the other side; the damaged version goes to the trash.",
    ),
    common.output_options,
    common.path_options,
)
def scrub(paths: tuple[str, ...], repair: bool, **flags: Any) -> int:
    """Read both sides and compare them with the last synced state.

    Damage on a disk or a server changes neither size nor time, so no run finds
    it. scrub prints which side of each damaged path is wrong. Without PATH, it
    reads everything, except what has changed since the last run. With
    `scrub: 1%` in the configuration, the service reads that share each day.

    \b
    Examples:
      craftsync scrub
      craftsync scrub models/large.bin --repair
      craftsync scrub --folder datasets --json
    """
    with reporting("scrub", flags) as output:
        pair, inside, asked = meant_by(paths, flags)
        state_dir = pairs.state_dir_of(asked)
        with linked_folders.open_pair(pair, state_dir, read_only=not repair) as session:
            report = session.scrub(output.on_event, inside or (), repair=repair)
        return output.finish(report)


_migrate_options = (
    click.argument("source"),
    click.argument("target"),
    common.dry_run_option,
    common.option("delete"),
    common.option("max_delete"),
    common.option("force_delete"),
    common.pattern_options,
    common.take_part_options,
    common.existing_options,
    common.group("migrate"),
    common.transfer_options,
    click.option(
        "--bandwidth", metavar="RATE", default="100M", help="The bandwidth that -n estimates with."
    ),
    common.output_options,
    common.access_options,
    common.option("storage_class"),
    common.option("sse"),
    common.group("source"),
)


@click.command(cls=common.CommandWithSummary)
@common.all_of(*_migrate_options)
def migrate(source: str, target: str, **flags: Any) -> int:
    """Copy what TARGET lacks from SOURCE, from store to store, and verify it.

    The bytes pass through memory; a server that holds both stores copies them
    itself. A killed migration resumes where it stopped; a repeated one copies
    what has changed. Versions overwritten or deleted in the target can be
    restored there; the source is only read.

    \b
    Examples:
      craftsync migrate -n dev prod
      craftsync migrate dev prod
      craftsync migrate --delete --verify full s3://old/data s3://new/data
      craftsync migrate --exclude "*.tmp" --storage-class source s3://old s3://new
    """
    from craftsync.migrate import command
    from craftsync.migrate.options import parse_bandwidth

    rate = parse_bandwidth(flags["bandwidth"])
    with reporting("migrate", flags) as output:
        names = MigrateOptions.__annotations__
        asked = cast(
            MigrateOptions,
            {name: value for name, value in flags.items() if name in names},
        )
        asked["on_event"] = output.on_event
        report = command.run(source, target, asked)
        code = output.finish(report)
    if not flags["json"] and not flags["quiet"]:
        _say_more(report, rate)
    return code


def _say_more(report: MigrationReport, rate: float) -> None:
    """Print what only a migration reports."""
    if report.dry_run:
        say(
            # Objects that may be equal count: only the copy compares them.
            f"to copy: at most {counted(report.copied, 'object')}, {size_shown(report.bytes_copied)},"
            f" about {report.requests} requests;"
            f" at {size_shown(int(rate))}/s {_time_shown(report.bytes_copied / rate)}"
        )
        return
    done = "copied or found equal" if report.adopted else "copied"
    for how, count in sorted(report.verified.items()):
        say(f"{count} {done}; {_VERIFIED.get(how, f'verified by {how}')}")
    if report.held:
        say("held deletes: the same command with -n names them")
    if report.manifest is not None:
        say(f"manifest: {shlex.quote(report.manifest)}")


_VERIFIED = {
    "acknowledged": "the target acknowledged them (it reports no checksum)",
    "checksum": "the target's checksum is that of the source",
    "digest": "both stores hold the same SHA-256",
    "server": "the server copied them by itself (it reports no checksum to compare)",
    "read back": "read back from the target and compared",
}
"""The ways to verify a copy, for people."""


def _time_shown(seconds: float) -> str:
    """Return a time in the two largest units it fills."""
    minutes, hours, days = (int(seconds // size) for size in (60, 3600, 86_400))
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {seconds % 60:.0f} s" if minutes else f"{seconds:.1f} s"
