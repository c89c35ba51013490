"""Figures and health over HTTP: real requests to a running daemon."""

from __future__ import annotations

import http.client
import json
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from craftsync.install_hint import install_command
from tests.support.cli import Craftsync, until
from tests.support.daemons import Daemon, running

ANY_PORT = "metrics_addr: 127.0.0.1:0\n"


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    root, store = tmp_path / "data", tmp_path / "store"
    root.mkdir()
    (root / "first").write_text("1")
    return root, store


def configure(craftsync: Craftsync, root: Path, store: Path, more: str = ANY_PORT) -> None:
    store.mkdir(exist_ok=True)
    craftsync.config.write_text(
        f"environments: {{store: {{store: directory, path: {store}}}}}\n"
        f"folders: {{data: {{root: {root}, environment: store}}}}\n{more}"
    )


def ports_of(daemon: Daemon) -> list[int]:
    """Return the ports that were listened on so far, as the log says."""
    return [int(port) for port in re.findall(r"http://127\.0\.0\.1:(\d+)/metrics", daemon.log)]


def port_of(daemon: Daemon) -> int:
    until(lambda: "/metrics" in daemon.log or daemon.process.poll() is not None, daemon.log)
    return ports_of(daemon)[-1]


def ask(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    """Return the status and the body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def samples_of(text: str) -> dict[tuple[str, str], float]:
    """Return the figures by name and state; there is one folder."""
    return {
        (sample.name, sample.labels.get("state", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_scrape_matches_status(craftsync: Craftsync, pair: tuple[Path, Path]) -> None:
    configure(craftsync, *pair)
    with running(craftsync) as daemon:
        port = port_of(daemon)
        daemon.until_state("watching")
        code, text = ask(port, "/metrics")
        figures, facts = samples_of(text), daemon.status()
        assert code == 200
        assert f'root="{pair[0]}"' in text
        assert figures["craftsync_uploaded_files_total", ""] == facts["totals"]["uploaded"] == 1
        assert figures["craftsync_up", ""] == 1
        assert figures["craftsync_pending_paths", ""] == facts["pending"] == 0
        assert figures["craftsync_state", "watching"] == 1
        assert figures["craftsync_state", "halted"] == 0


def test_a_folder_that_is_missing_makes_the_daemon_alive_but_not_ready(
    craftsync: Craftsync, pair: tuple[Path, Path]
) -> None:
    root, store = pair
    configure(craftsync, root, store)
    away = root.rename(root.with_name("away"))
    with running(craftsync) as daemon:
        port = port_of(daemon)
        daemon.until_state("halted")
        assert ask(port, "/healthz") == (200, "ok\n")
        code, text = ask(port, "/readyz")
        assert (code, str(root) in text, "halted" in text) == (503, True, True)
        away.rename(root)
        assert craftsync("rescan").code == 0
        until(lambda: ask(port, "/readyz") == (200, "ready\n"), "readiness")
        assert (store / "first").exists()


def test_a_paused_folder_is_ready(craftsync: Craftsync, pair: tuple[Path, Path]) -> None:
    configure(craftsync, *pair)
    with running(craftsync) as daemon:
        port = port_of(daemon)
        daemon.until_state("watching")
        assert craftsync("pause").code == 0
        assert ask(port, "/readyz") == (200, "ready\n")


def test_other_paths_and_methods_are_refused(craftsync: Craftsync, pair: tuple[Path, Path]) -> None:
    configure(craftsync, *pair)
    with running(craftsync) as daemon:
        port = port_of(daemon)
        assert ask(port, "/")[0] == 404
        assert ask(port, "/metrics", "POST")[0] == 405
        assert ask(port, "/healthz", "HEAD") == (200, "")
        assert ask(port, "/metrics", "HEAD") == (200, "")


def test_reload_changes_and_removes_the_metrics_address(
    craftsync: Craftsync, pair: tuple[Path, Path]
) -> None:
    configure(craftsync, *pair)
    with running(craftsync) as daemon:
        first = port_of(daemon)
        configure(craftsync, *pair, "metrics_addr: localhost:0\n")
        assert craftsync("reload").code == 0
        until(lambda: "http://localhost:" in daemon.log, "the second address")
        with pytest.raises(OSError):
            ask(first, "/healthz")
        configure(craftsync, *pair, "")
        assert craftsync("reload").code == 0
        daemon.until_logged("metrics are no longer served")
        assert daemon.status()["state"] != "stopped"


def test_the_flag_comes_before_the_configuration(
    craftsync: Craftsync, pair: tuple[Path, Path]
) -> None:
    configure(craftsync, *pair, "metrics_addr: 127.0.0.1:1\n")
    with running(craftsync, "--metrics-addr", "0") as daemon:
        assert ask(port_of(daemon), "/healthz")[0] == 200


def test_a_taken_port_stops_no_sync_and_is_reported_once(
    craftsync: Craftsync, pair: tuple[Path, Path]
) -> None:
    configure(craftsync, *pair)
    with running(craftsync) as daemon:
        port = port_of(daemon)
        other = craftsync.folder / "other"
        other.mkdir()
        (other / "file").write_text("x")
        with craftsync.start(
            *("watch", "--metrics-addr", str(port)), str(other), f"{other}-store"
        ) as process:
            until(Path(f"{other}-store/file").exists, "the file")
            process.terminate()
            _, log = process.communicate(timeout=60)
        assert log.count(b"Address already in use") == 1


@pytest.mark.parametrize("word", ["nowhere", "127.0.0.1:65536", "[::1:80", "example.org"])
def test_invalid_metrics_address_is_rejected(
    craftsync: Craftsync, pair: tuple[Path, Path], word: str
) -> None:
    configure(craftsync, *pair, f"metrics_addr: {json.dumps(word)}\n")
    run = craftsync("watch")
    assert run.code == 78
    assert "metrics_addr" in run.err and word in run.err and "9469" in run.err
    configure(craftsync, *pair)
    run = craftsync("watch", "--metrics-addr", word)
    assert (run.code, "--metrics-addr" in run.err) == (2, True)


def test_without_the_extra_the_key_is_refused_with_the_remedy(
    craftsync: Craftsync, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    missing = tmp_path / "missing"
    missing.mkdir()
    (missing / "prometheus_client.py").write_text("raise ImportError('not installed')\n")
    configure(craftsync, *pair)
    craftsync.environment["PYTHONPATH"] = str(missing)
    run = craftsync("watch")
    assert (run.code, install_command("metrics").partition(" ")[2] in run.err) == (78, True)
