"""`doctor`: finds what could keep craftsync from working, with a remedy for each finding."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click

from craftsync.cli import params as common
from craftsync.cli.output import reporting, say, say_json, say_summary
from craftsync.clock import SystemClock
from craftsync.config import pairs
from craftsync.doctor.examination import examine
from craftsync.doctor.report import Finding, Level, exit_code_of
from craftsync.engine.report import Report
from craftsync.wording import counted, shown


@click.command(cls=common.CommandWithSummary)
@common.all_of(click.argument("store", required=False), common.json_option, common.access_options)
def doctor(store: str | None, **flags: Any) -> int:
    """Check this machine and STORE, or every folder and store in the configuration.

    Each finding has a remedy. doctor changes nothing, except that it writes
    small objects under .craftsync/ in a store and removes them again. The
    exit code is that of the most serious error.

    \b
    Examples:
      craftsync doctor
      craftsync doctor s3://bucket/prefix
    """
    asked = common.place_of(flags)
    clock = SystemClock()
    began = clock.monotonic()
    found = []
    printed: set[tuple[str, str]] = set()
    repeated: Counter[str] = Counter()
    with reporting("doctor", {**flags, "quiet": True, "verbose": False}):
        for finding in examine(
            store,
            config_file=asked.get("config"),
            state_dir=pairs.state_dir_of(asked),
            access=pairs.access_of(asked),
        ):
            found.append(finding)
            if flags["json"]:
                say_json(finding.as_json())
            elif not _is_repeated(finding, printed, repeated):
                _say(finding)
        code = exit_code_of(found)
    if repeated:
        where = ", ".join(f"{shown(label)} ({count})" for label, count in repeated.items())
        say(f"{'':8} The warnings above also apply to: {where}")
    _say_summary(found, code, round(clock.monotonic() - began, 3), as_json=flags["json"])
    return code


def _is_repeated(finding: Finding, printed: set[tuple[str, str]], repeated: Counter[str]) -> bool:
    """Return whether a warning was already printed for another store or folder; if so, count it."""
    key = (finding.detail, finding.remedy)
    if finding.level is not Level.WARNING:
        return False
    if key in printed:
        repeated[finding.name.partition(": ")[0]] += 1
        return True
    printed.add(key)
    return False


def _say(finding: Finding) -> None:
    say(f"{finding.level:8} {shown(finding.name)}: {shown(finding.detail)}")
    if finding.remedy and finding.level is not Level.OK:
        say(f"{'':8} {shown(finding.remedy)}")


def _say_summary(found: list[Finding], code: int, seconds: float, *, as_json: bool) -> None:
    counts = Counter(finding.level for finding in found)
    if as_json:
        report = Report("doctor", problems=counts[Level.ERROR], seconds=seconds)
        say_summary({**report.as_json(), "exit_code": code})
        return
    parts = [counted(counts[level], str(level), "ok" * (level is Level.OK)) for level in Level]
    say(f"{', '.join(parts)}; {seconds:.1f} s")
