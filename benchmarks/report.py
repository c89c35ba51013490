"""Turns samples into the tables of docs/benchmarks.md, which nobody edits by hand."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.measure import Sample
from benchmarks.scenarios import Scenario
from benchmarks.tools import Tool, version_of

MIB = 1 << 20


def record(
    scenario: Scenario, tools: Iterable[Tool], samples: Mapping[str, list[Sample]], load: float
) -> dict[str, Any]:
    """Return everything about one scenario's runs, ready for JSON.

    `load` is the load average before the first run: what else the machine was doing.
    """
    return {
        "scenario": scenario.name,
        "amount": scenario.amount,
        "unit": scenario.unit,
        "alone": scenario.alone,
        "date": date.today().isoformat(),
        "machine": machine(),
        "load": load,
        "tools": [
            {
                "name": tool.name,
                "version": version_of(tool),
                "peer": tool.peer,
                "samples": [asdict(sample) for sample in samples[tool.name]],
            }
            for tool in tools
            if tool.name in samples
        ],
    }


def table(result: Mapping[str, Any]) -> str:
    """Return one scenario's table in markdown, and under what conditions it was made."""
    lines = _growth(result) if result.get("alone") else _contest(result)
    versions = "; ".join(f"{tool['name']}: {tool['version']}" for tool in result["tools"])
    conditions = (
        f"{result['date']}, {_runs(result)}, {result['machine']}, "
        f"load average before it {result['load']:.1f}. {versions}."
    )
    return "\n".join([*lines, "", conditions])


def _runs(result: Mapping[str, Any]) -> str:
    """Return how often each tool was run."""
    counts = {tool["name"]: len(tool["samples"]) for tool in result["tools"] if _valid(tool)}
    most = max(counts.values(), default=0)
    fewer = [f"{name}: {count}" for name, count in counts.items() if count < most]
    each = f"{most} {'run' if most == 1 else 'runs'} each"
    return f"{each} ({', '.join(fewer)})" if fewer else each


def _contest(result: Mapping[str, Any]) -> list[str]:
    """Return the lines for tools beside each other: medians, and the wall time beside the fastest peer's."""
    fastest = min(
        (_median(tool, "wall") for tool in result["tools"] if tool["peer"] and _valid(tool)),
        default=None,
    )
    return [
        f"| tool | seconds (lowest to highest) | {result['unit']} a second "
        "| processor seconds | peak memory, MiB | time beside the fastest peer |",
        "|---|---|---|---|---|---|",
        *(_row(tool, result["amount"], fastest) for tool in result["tools"]),
    ]


def _growth(result: Mapping[str, Any]) -> list[str]:
    """Return the lines for one program on more and more machines: medians, and how often one machine's speed.

    Processor time and memory are left out: what is measured is the process that waits for the others.
    """
    alone = next(
        (_median(tool, "wall") for tool in result["tools"] if tool["name"] == result["alone"]),
        None,
    )
    return [
        f"|  | seconds (lowest to highest) | {result['unit']} a second | speed-up |",
        "|---|---|---|---|",
        *(_growth_row(tool, result["amount"], alone) for tool in result["tools"]),
    ]


def save(result: Mapping[str, Any], file: Path) -> None:
    """Put the result into the JSON file, in place of an earlier one of the same scenario."""
    known = json.loads(file.read_text()) if file.exists() else {}
    known[result["scenario"]] = result
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(known, indent=1) + "\n")


def publish(result: Mapping[str, Any], page: Path) -> None:
    """Put the table of a scenario into the page; all else stays."""
    put(result["scenario"], table(result), page)


def put(name: str, text: str, page: Path) -> None:
    """Put text into the page, between the two marks of a name."""
    before = page.read_text()
    if not _place(name).search(before):
        raise SystemExit(f"{page} has no place for {name}")
    page.write_text(_place(name).sub(lambda found: f"{found[1]}\n{text}\n{found[3]}", before))


def placed(name: str, page: str) -> str:
    """Return the text between the two marks of a name, empty where there are none."""
    found = _place(name).search(page)
    return found[2] if found else ""


def _place(name: str) -> re.Pattern[str]:
    begin, end = (re.escape(f"<!-- {name}: {edge} -->") for edge in ("begin", "end"))
    return re.compile(f"({begin})(.*?)({end})", re.DOTALL)


def machine() -> str:
    """Return on what the figures were made."""
    return (
        f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}"
    )


def _valid(tool: Mapping[str, Any]) -> bool:
    return not any(sample["failure"] for sample in tool["samples"])


def _median(tool: Mapping[str, Any], field: str) -> float:
    return float(statistics.median(sample[field] for sample in tool["samples"]))


def _row(tool: Mapping[str, Any], amount: int, fastest: float | None) -> str:
    if not _valid(tool):
        return f"| {tool['name']} | failed: {_failure(tool)} | | | | |"
    wall = _median(tool, "wall")
    beside = f"{wall / fastest:.2f}" if fastest else ""
    return (
        f"| {tool['name']} | {_walls(tool)} | {amount / wall:,.3g} | {_median(tool, 'cpu'):.3g} "
        f"| {_median(tool, 'rss') / MIB:,.0f} | {beside} |"
    )


def _growth_row(tool: Mapping[str, Any], amount: int, alone: float | None) -> str:
    if not _valid(tool):
        return f"| {tool['name']} | failed: {_failure(tool)} | | |"
    wall = _median(tool, "wall")
    speed_up = f"{alone / wall:.2f}" if alone else ""
    return f"| {tool['name']} | {_walls(tool)} | {amount / wall:,.3g} | {speed_up} |"


def _walls(tool: Mapping[str, Any]) -> str:
    walls = [sample["wall"] for sample in tool["samples"]]
    return f"{_median(tool, 'wall'):.3g} ({min(walls):.3g} to {max(walls):.3g})"


def _failure(tool: Mapping[str, Any]) -> str:
    return str(next(sample["failure"] for sample in tool["samples"] if sample["failure"]))
