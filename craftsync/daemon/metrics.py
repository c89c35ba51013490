"""The daemon's metrics for Prometheus: in a file, and as the answer to a scrape (`health.py` serves it).

The file is in the text format of node_exporter's textfile collector, and needs
no package: https://prometheus.io/docs/instrumenting/exposition_formats/
The answer uses prometheus_client (extra `metrics`), imported when needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from craftsync.errors import ConfigError
from craftsync.install_hint import install_command
from craftsync.local.files import written

STATES = ("watching", "scanning", "transferring", "paused", "offline", "halted", "stopped")

_STATE_HELP = "What the daemon is doing."

Status = Mapping[str, Any]


class _Figure(NamedTuple):
    """One metric of a folder; it is omitted while its value is `None`."""

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
        "Current limit of concurrent short transfers.",
        _of("transfers_at_once"),
    ),
    _Figure("conflicts", "gauge", "Unresolved conflicts.", _of("conflicts")),
    _Figure("held_deletes", "gauge", "Held deletes.", _of("held")),
    _Figure("problem_paths", "gauge", "Paths that failed in the last runs.", _of("problems")),
    _Figure(
        "watch_healthy",
        "gauge",
        "1 while file events report changes in the folder.",
        lambda status: status["watch"]["healthy"],
    ),
    _Figure("uploaded_bytes_total", "counter", "Bytes sent.", _total("bytes_uploaded")),
    _Figure("downloaded_bytes_total", "counter", "Bytes received.", _total("bytes_downloaded")),
    _Figure("uploaded_files_total", "counter", "Files sent.", _total("uploaded")),
    _Figure("downloaded_files_total", "counter", "Files received.", _total("downloaded")),
    _Figure("errors_total", "counter", "Paths that failed, and halts.", _total("errors")),
)


def rendered(statuses: Sequence[Status]) -> str:
    """Return the content of the metrics file."""
    lines: list[str] = []
    for figure in FIGURES:
        lines += _block(figure, statuses)
    lines += [f"# HELP craftsync_state {_STATE_HELP}", "# TYPE craftsync_state gauge"]
    for status in statuses:
        lines += (
            f"craftsync_state{_labels(status, state=state)} {int(status['state'] == state)}"
            for state in STATES
        )
    return "\n".join(lines) + "\n"


def write(file: Path, statuses: Sequence[Status]) -> None:
    """Replace the metrics file atomically; raises `OSError`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    # The collector runs as another user, and metrics are not secret.
    with written(file, mode=0o644) as stream:
        stream.write(rendered(statuses))


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


def _plain(text: str) -> str:
    """Return a text with lone surrogates replaced, so that it is valid UTF-8."""
    return text.encode("utf-8", "replace").decode()


def _escaped(text: str) -> str:
    return _plain(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def ensure_installed() -> None:
    """Raise `ConfigError` unless the packages of the extra `metrics` are installed."""
    try:
        import prometheus_client  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"metrics_addr needs a package that is not installed ({error.name or error}).",
            remedy=f"Install it with: {install_command('metrics')}",
        ) from error


def scrape_app(statuses: Callable[[], Sequence[Status]]) -> Callable[..., Iterable[bytes]]:
    """Return the WSGI application that answers a scrape with the current metrics."""
    from prometheus_client import CollectorRegistry, make_wsgi_app

    registry = CollectorRegistry()
    registry.register(_collector(statuses))
    return make_wsgi_app(registry)


def _collector(statuses: Callable[[], Sequence[Status]]) -> Any:
    """Return the collector that prometheus_client calls at each scrape."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector

    kinds = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily}

    class Figures(Collector):
        def collect(self) -> Iterator[Metric]:
            now = statuses()
            for figure in FIGURES:
                family = kinds[figure.kind](
                    f"craftsync_{figure.name}", figure.what, labels=("root", "store")
                )
                for status in now:
                    value = figure.value(status)
                    if value is not None:
                        family.add_metric([_plain(status["root"]), _plain(status["store"])], value)
                yield family
            states = GaugeMetricFamily(
                "craftsync_state", _STATE_HELP, labels=("root", "store", "state")
            )
            for status in now:
                for state in STATES:
                    labels = [_plain(status["root"]), _plain(status["store"]), state]
                    states.add_metric(labels, status["state"] == state)
            yield states

    return Figures()
