"""The servers: of S3, of the Craft AI kind, of a Dask cluster; on free ports of loopback, ended with the scenario."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event

from benchmarks.listing_server import PAGES
from benchmarks.tools import BIN

ACCESS_KEY = "benchmark"
SECRET_KEY = "benchmark-secret"
START_TIMEOUT = 120.0


class Unavailable(Exception):
    """Something that a scenario needs is not on this machine; the message says what to do."""


def environment(endpoint: str, home: Path, certificate: Path | None = None) -> dict[str, str]:
    """Return the variables every tool is started with; nothing of the user's own settings is read.

    `certificate` is the server's own, which is to be trusted.
    """
    trust = {} if certificate is None else _trusting(str(certificate))
    return trust | {
        "HOME": str(home),
        "PATH": f"{BIN}:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": endpoint,
        "S3_ENDPOINT_URL": endpoint,
        "RCLONE_S3_ENDPOINT": endpoint,
        "CRAFT_AI_SDK_TOKEN": SECRET_KEY,
        "CRAFT_AI_ENVIRONMENT_URL": endpoint,
        "CRAFT_AI_CONTROL_URL": endpoint,
        "CRAFTSYNC_STATE_DIR": str(home / "state"),
    }


def _trusting(certificate: str) -> dict[str, str]:
    # aws would send its own checksum behind the body, in a form that the lean server does not know.
    checksums = {"AWS_REQUEST_CHECKSUM_CALCULATION": "when_required"}
    return checksums | {"AWS_CA_BUNDLE": certificate, "RCLONE_CA_CERT": certificate}


@contextmanager
def rclone_serve(folder: Path, log: Path) -> Iterator[str]:
    """Serve the folder's subfolders as buckets; yields the endpoint URL.

    The server remembers folders: nothing may be created or deleted in them but
    through it.
    """
    port = free_port()
    command = [
        *(str(BIN / "rclone"), "serve", "s3", str(folder), "--addr", f"127.0.0.1:{port}"),
        *("--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", "--config", os.devnull),
    ]
    with serving(command, port, log):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def static_listing(count: int, log: Path) -> Iterator[str]:
    """Serve a bucket that lists `count` objects; yields the endpoint URL."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.listing_server", str(count), str(port)]
    with serving(command, port, log):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def craftsync_serve(folder: Path, log: Path) -> Iterator[str]:
    """Serve the folder as the data store of an environment; yields its address."""
    port = free_port()
    command = [
        *(str(BIN / "craftsync"), "serve", str(folder), "--port", str(port)),
        *("--token", SECRET_KEY),
    ]
    with serving(command, port, log):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def delayed(endpoint: str, seconds: float, log: Path) -> Iterator[str]:
    """Listen on the way to a server and hold each request back for a while; yields the longer way's URL."""
    port = free_port()
    upstream_port = endpoint.rpartition(":")[2]
    delay = [str(port), upstream_port, str(seconds)]
    command = [sys.executable, "-m", "benchmarks.delay", *delay]
    with serving(command, port, log):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def dask_scheduler(log: Path) -> Iterator[str]:
    """Run a scheduler that has no workers yet; yields its address."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1"),
        *("--port", str(port), "--dashboard-address", "127.0.0.1:0"),
    ]
    with serving(command, port, log):
        yield f"tcp://127.0.0.1:{port}"


def pages_listed(endpoint: str) -> int:
    """Return how many pages the static listing has answered since it started."""
    with urllib.request.urlopen(endpoint + PAGES, timeout=10) as answer:
        return int(answer.read())


def make_folders(endpoint: str, home: Path, skeleton: Path, bucket: str) -> None:
    """Create the bucket with the folders of `skeleton` in it, one request at a time.

    `rclone serve s3` answers 500 to writes that race to create a folder; every
    client then waits before it tries again, which is not what is measured.
    """
    command = [
        *(str(BIN / "rclone"), "copy", str(skeleton), f":s3:{bucket}", "--config", os.devnull),
        *("--s3-provider", "Rclone", "--s3-env-auth", "--transfers", "1"),
    ]
    subprocess.run(command, env=environment(endpoint, home), check=True, timeout=120)


@contextmanager
def process(
    command: list[str], log: Path, variables: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command until the `with` ends, and then kill it, with all that it started."""
    with log.open("wb") as output:
        running = subprocess.Popen(
            command, env=variables, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield running
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()


@contextmanager
def serving(
    command: list[str], port: int, log: Path, variables: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Run a server until the `with` ends; begins when it accepts connections on its port."""
    with process(command, log, variables) as server:
        _await_port(server, port)
        yield


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await_port(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    pause = Event()
    while server.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            pause.wait(0.05)
        else:
            return
    raise RuntimeError(f"the server on port {port} did not start; its log says why")
