"""S3 servers as subprocesses on loopback: two of different make, and one of the caller's choice."""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ACCESS_KEY, SECRET_KEY = "craftsync-tests", "only-for-tests-on-loopback"
START_SECONDS = 60.0


@dataclass(frozen=True)
class S3Server:
    """A running server. `checks_keys` tells whether it refuses wrong credentials."""

    name: str
    endpoint: str
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY
    checks_keys: bool = False

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables by which programs find this server and its keys."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
        }

    def client(self) -> Any:
        """Return a boto3 client for this server, so that what is tested does not prepare its own test; close it."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
        )

    def make_bucket(self, name: str) -> None:
        with closing(self.client()) as client:
            client.create_bucket(Bucket=name)

    def keep_versions(self, bucket: str) -> None:
        """Have a bucket keep versions."""
        with closing(self.client()) as client:
            client.put_bucket_versioning(
                Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
            )


def free_port() -> int:
    """Return a port of the loopback interface that only the caller uses as long as this process lives.

    It stays bound here, so that the kernel gives it to nobody else; a server
    can listen on it all the same, because it sets SO_REUSEADDR, too.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    atexit.register(holder.close)
    port: int = holder.getsockname()[1]
    return port


@contextmanager
def moto() -> Iterator[S3Server]:
    """Run moto: close to AWS, and holds any key; takes any credentials, and parts of any size."""
    port = free_port()
    program = Path(__file__).with_name("moto_server.py")
    with running(
        [sys.executable, "-P", str(program), str(port)], port, S3_UPLOAD_PART_MIN_SIZE="1"
    ):
        yield S3Server("moto", f"http://127.0.0.1:{port}")


@contextmanager
def rclone(folder: Path, *, certificate: Path | None = None) -> Iterator[S3Server]:
    """Run `rclone serve s3` over an empty folder: independent of AWS's code, ignores conditions.

    With a certificate, beside which its `key` lies, it speaks TLS only.
    """
    port = free_port()
    command = [
        *(_tool("rclone"), "serve", "s3", "--addr", f"127.0.0.1:{port}"),
        *("--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", "--config", "", str(folder)),
    ]
    if certificate is not None:
        command += ["--cert", str(certificate), "--key", str(certificate.with_name("key"))]
    scheme = "http" if certificate is None else "https"
    with running(command, port):
        yield S3Server("rclone", f"{scheme}://127.0.0.1:{port}", checks_keys=True)


def named_by_environment() -> S3Server | None:
    """Return the server CRAFTSYNC_TEST_S3_ENDPOINT names, with the usual AWS_* keys for it."""
    endpoint = os.environ.get("CRAFTSYNC_TEST_S3_ENDPOINT")
    if not endpoint:
        return None
    keys = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
    return S3Server("external", endpoint, *keys)


def _tool(name: str) -> str:
    """Return a program that was installed beside this Python."""
    return str(Path(sys.executable).parent / name)


@contextmanager
def running(command: list[str], port: int, **environment: str) -> Iterator[None]:
    """Run a server until the end of the block; raises `RuntimeError` when it does not listen on its port."""
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(process, port)
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)  # noqa: TID251 (a server tells nobody when it is ready)
    raise RuntimeError(f"{process.args} did not listen on port {port}")
