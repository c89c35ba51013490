"""The daemon's metrics for Prometheus: in a file, and over HTTP with health checks.

The file is in the text format of node_exporter's textfile collector, and needs
no package: https://prometheus.io/docs/instrumenting/exposition_formats/
HTTP uses prometheus_client (extra `metrics`), imported when needed.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from socketserver import ThreadingMixIn
from threading import Lock, Thread
from typing import Any, NamedTuple
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from craftsync.errors import ConfigError
from craftsync.install_hint import install_command
from craftsync.local.files import written

Address = tuple[str, int]
"""Host and port; port 0 takes any free one."""

_SILENT_SECONDS = 10.0
"""How long a client may be silent."""
_MOST_CLIENTS = 32

_log = logging.getLogger(__name__)

STATES = ("watching", "scanning", "transferring", "paused", "offline", "halted", "stopped")

_STATE_HELP = "What the daemon is doing."

Status = Mapping[str, Any]


class _Figure(NamedTuple):
    """One metric of a folder; it is left out while its value is `None`."""

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


class Health(NamedTuple):
    """The health checks, called for each request from any thread.

    `is_alive` returns whether the daemon's main loop runs, `unready` why folders
    are not kept in sync, one line each; an empty list means ready.
    """

    is_alive: Callable[[], bool]
    unready: Callable[[], Sequence[str]]


def ensure_installed() -> None:
    """Raise `ConfigError` unless the packages of the extra `metrics` are installed."""
    try:
        import prometheus_client  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"metrics_addr needs a package that is not installed ({error.name or error}).",
            remedy=f"Install it with: {install_command('metrics')}",
        ) from error


class MetricsServer:
    """Serves GET /metrics, /healthz and /readyz in threads of its own until closed."""

    def __init__(
        self, wanted: Address, statuses: Callable[[], Sequence[Status]], health: Health
    ) -> None:
        """Raises `OSError` when the address cannot be listened on."""
        self.wanted = wanted
        self._server = _Server(wanted)
        self._server.set_app(_app(statuses, health))
        Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    @property
    def url(self) -> str:
        host = f"[{self.wanted[0]}]" if ":" in self.wanted[0] else self.wanted[0]
        return f"http://{host}:{self._server.server_port}/metrics"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingMixIn, WSGIServer):
    """A thread for each client; the oldest is disconnected when there are too many."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, address: Address) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._lock = Lock()
        self._clients: dict[Any, None] = {}
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # WSGIServer's own looks up the host name, which may take long.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = self.socket.getsockname()[:2]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._clients[request] = None
            oldest = next(iter(self._clients)) if len(self._clients) > _MOST_CLIENTS else None
        if oldest is not None:
            with suppress(OSError):
                oldest.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._clients.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        _log.debug("a metrics request failed", exc_info=True)


class _Handler(WSGIRequestHandler):
    timeout = _SILENT_SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: there is a request every few seconds."""


def _app(
    statuses: Callable[[], Sequence[Status]], health: Health
) -> Callable[..., Iterable[bytes]]:
    from prometheus_client import CollectorRegistry, make_wsgi_app

    registry = CollectorRegistry()
    registry.register(_collector(statuses))
    figures = make_wsgi_app(registry)

    def answer(environment: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environment["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _text(start, "405 Method Not Allowed", "use GET")
        match environment["PATH_INFO"]:
            case "/metrics":
                return list(figures({**environment, "REQUEST_METHOD": "GET"}, start))
            case "/healthz":
                fine = health.is_alive()
                return _text(start, _code(fine), "ok" if fine else "the main loop hangs")
            case "/readyz":
                unready = health.unready()
                return _text(start, _code(not unready), *(unready or ["ready"]))
        return _text(start, "404 Not Found", "use /metrics, /healthz or /readyz")

    def app(environment: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        body = answer(environment, start)
        return [b""] if environment["REQUEST_METHOD"] == "HEAD" else body

    return app


def _code(is_fine: bool) -> str:
    return "200 OK" if is_fine else "503 Service Unavailable"


def _text(start: Callable[..., Any], code: str, *lines: str) -> list[bytes]:
    start(code, [("Content-Type", "text/plain; charset=utf-8"), ("Allow", "GET, HEAD")])
    return ["".join(f"{line}\n" for line in lines).encode(errors="replace")]


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
