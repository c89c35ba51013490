"""A migration on a real Dask scheduler with worker processes on loopback, one of which is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from threading import Thread

import pytest

import craftsync
from craftsync.engine.report import ProgressEvent
from craftsync.errors import StoreUnavailable, UsageError
from tests.support.cli import until
from tests.support.servers import free_port

# Not `importorskip`: each process of the tests would load it, a second long.
pytestmark = pytest.mark.skipif(
    find_spec("distributed") is None, reason="the extra `dask` is not installed"
)
WORKERS = 2


@contextmanager
def running(*words: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "output.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            env={**os.environ, "CRAFTSYNC_STATE_DIR": str(folder / "state of the workers")},
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[str]:
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    words = ["--host", "127.0.0.1", "--port", str(port), "--dashboard-address", "127.0.0.1:0"]
    with running("distributed.cli.dask_scheduler", *words, folder=tmp_path):
        yield address


@pytest.fixture
def workers(scheduler: str, tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    from distributed import Client

    words = [scheduler, "--host", "127.0.0.1", "--no-dashboard", "--no-nanny", "--nthreads", "1"]
    with ExitStack() as stack:
        started = []
        for number in range(WORKERS):
            own = ["--local-directory", str(tmp_path / f"worker {number}")]
            worker = running("distributed.cli.dask_worker", *words, *own, folder=tmp_path)
            started.append(stack.enter_context(worker))
        with Client(scheduler, timeout=60, set_as_default=False) as client:
            client.wait_for_workers(WORKERS, timeout=60)
        yield started


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRAFTSYNC_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("CRAFTSYNC_CONFIG", os.devnull)


def filled(folder: Path, count: int) -> Path:
    (folder / "sub").mkdir(parents=True)
    for number in range(count):
        (folder / ("sub" if number % 3 else "") / f"{number:04}").write_bytes(b"x" * number)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    found = (file for file in folder.rglob("*") if file.is_file())
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in found
        if ".craftsync" not in file.parts
    }


def test_shares_are_complete_although_a_worker_is_lost(
    scheduler: str, workers: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    source, target = filled(tmp_path / "source", 600), tmp_path / "target"
    wanted = files(source)
    (source / "left.out").write_text("x")
    (patterns := tmp_path / "patterns").write_text("*.out\n")

    def killed() -> None:
        until(lambda: target.exists() and len(files(target)) > 50, "some objects are copied")
        workers[0].send_signal(signal.SIGKILL)

    seen: list[ProgressEvent] = []

    def watch(event: object) -> None:
        if isinstance(event, ProgressEvent):
            seen.append(event)

    killer = Thread(target=killed)
    killer.start()
    report = craftsync.migrate(
        str(source),
        str(target),
        dask=scheduler,
        bwlimit="60K",
        exclude_from=[patterns],
        manifest_in_target=True,
        on_event=watch,
    )
    killer.join()
    assert workers[0].wait(60) == -signal.SIGKILL
    assert files(target) == wanted
    assert (report.copied + report.adopted + report.unchanged, report.exit_code) == (600, 0)
    assert report.manifest is not None
    lines = [json.loads(line)["path"] for line in Path(report.manifest).read_text().splitlines()]
    assert lines == sorted(wanted)
    assert (target / ".craftsync" / "manifest.jsonl").read_bytes() == Path(
        report.manifest
    ).read_bytes()
    assert [event.files_done for event in seen] == sorted(event.files_done for event in seen)


def test_unresponsive_dask_scheduler_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from craftsync.migrate import dask

    monkeypatch.setattr(dask, "_CONNECT_SECONDS", 0.5)
    filled(tmp_path / "source", 1)
    with pytest.raises(StoreUnavailable, match="No Dask scheduler responds"):
        craftsync.migrate(
            str(tmp_path / "source"),
            str(tmp_path / "target"),
            dask=f"tcp://127.0.0.1:{free_port()}",
        )


@pytest.mark.parametrize("more", [{"shard": "1/2"}, {"dry_run": True}, {"bwlimit": "08:00,1M"}])
def test_options_unsupported_with_dask_are_rejected(
    tmp_path: Path, scheduler: str, more: dict[str, str]
) -> None:
    filled(tmp_path / "source", 1)
    with pytest.raises(UsageError):
        craftsync.migrate(
            str(tmp_path / "source"),
            str(tmp_path / "target"),
            dask=scheduler,
            **more,  # type: ignore[arg-type]
        )
