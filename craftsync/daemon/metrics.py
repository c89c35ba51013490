"""The daemon's figures for Prometheus, in the text format that node_exporter's textfile collector reads.

The format: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

STATES = ("watching", "scanning", "transferring", "paused", "offline", "halted", "stopped")

Status = Mapping[str, Any]


class _Figure(NamedTuple):
    """One figure of a pair; `None` as a value leaves it out."""

    name: str
    kind: str
    what: str
    value: Callable[[Status], float | None]


def _of(name: str) -> Callable[[Status], float | None]:
    return lambda status: status[name]


def _total(name: str) -> Callable[[Status], float | None]:
    return lambda status: status["totals"][name]


FIGURES = (
    _Figure(
        "up",
        "gauge",
        "0 while the folder cannot be synced: offline, halted or stopped.",
        lambda status: status["state"] not in ("offline", "halted", "stopped"),
    ),
    _Figure("lag_seconds", "gauge", "Seconds since both sides were last in sync.", _of("lag")),
    _Figure(
        "last_success_timestamp_seconds",
        "gauge",
        "When both sides were last known to be in sync.",
        _of("last_success_seconds"),
    ),
    _Figure("pending_paths", "gauge", "Paths that wait for a run or a transfer.", _of("pending")),
    _Figure(
        "transfers_at_once",
        "gauge",
        "Short transfers the store is found to be worth at the same time.",
        _of("transfers_at_once"),
    ),
    _Figure("conflicts", "gauge", "Conflicts that wait for a person.", _of("conflicts")),
    _Figure("held_deletes", "gauge", "Deletes that wait for a person.", _of("held")),
    _Figure("problem_paths", "gauge", "Paths that failed in the last runs.", _of("problems")),
    _Figure(
        "watch_healthy",
        "gauge",
        "1 while changes of the folder are noticed by events.",
        lambda status: status["watch"]["healthy"],
    ),
    _Figure("uploaded_bytes_total", "counter", "Bytes sent.", _total("bytes_uploaded")),
    _Figure("downloaded_bytes_total", "counter", "Bytes received.", _total("bytes_downloaded")),
    _Figure("uploaded_files_total", "counter", "Files sent.", _total("uploaded")),
    _Figure("downloaded_files_total", "counter", "Files received.", _total("downloaded")),
    _Figure("errors_total", "counter", "Paths that failed, and halts.", _total("errors")),
)


def rendered(statuses: Sequence[Status]) -> str:
    """Return the content of the file."""
    lines: list[str] = []
    for figure in FIGURES:
        lines += _block(figure, statuses)
    lines += ["# HELP craftsync_state What the daemon is doing.", "# TYPE craftsync_state gauge"]
    for status in statuses:
        lines += (
            f"craftsync_state{_labels(status, state=state)} {int(status['state'] == state)}"
            for state in STATES
        )
    return "\n".join(lines) + "\n"


def write(file: Path, statuses: Sequence[Status]) -> None:
    """Put the figures in place so that a reader finds the old file or the new one; raises `OSError`."""
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh.write_text(rendered(statuses), "utf-8")
    # The collector is somebody else, and there is nothing secret in figures.
    fresh.chmod(0o644)
    fresh.replace(file)


def _block(figure: _Figure, statuses: Iterable[Status]) -> list[str]:
    name = f"craftsync_{figure.name}"
    lines = [f"# HELP {name} {figure.what}", f"# TYPE {name} {figure.kind}"]
    for status in statuses:
        value = figure.value(status)
        if value is not None:
            lines.append(f"{name}{_labels(status)} {float(value):.15g}")
    return lines


def _labels(status: Status, **more: str) -> str:
    labels = {"root": status["root"], "store": status["store"], **more}
    return "{" + ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items()) + "}"


def _escaped(text: str) -> str:
    text = text.encode("utf-8", "replace").decode()
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
