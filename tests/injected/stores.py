"""The stores of the trials: each server runs once, and every trial has a bucket or folder of its own in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.injected.sides import Files, Objects, Served, Side
from tests.support.s3 import fake_s3
from tests.support.servers import S3Server, rclone
from tests.support.serving import serving


@dataclass(frozen=True)
class Store:
    """What one trial needs to know of its store."""

    side: Side
    word: str
    variables: Mapping[str, str] = field(default_factory=dict)
    clear: Callable[[], None] = lambda: None


Stores = Callable[[Path], Store]
"""Gives the trial in this folder its store."""


@contextmanager
def directory(folder: Path) -> Iterator[Stores]:
    """Plain folders beside the trials' own."""
    yield lambda trial: Store(Files(trial / "store"), "./store")


@contextmanager
def fake(folder: Path) -> Iterator[Stores]:
    """Buckets of the fake S3 of the tests, which checks conditions."""
    with fake_s3() as (server, s3):

        def open_store(trial: Path) -> Store:
            def clear() -> None:
                s3.requests.clear()
                s3.buckets.pop(trial.name, None)

            side = Objects(s3, trial.name)
            return Store(side, f"s3://{trial.name}", _variables(server), clear)

        yield open_store


@contextmanager
def rclones(folder: Path) -> Iterator[Stores]:
    """Buckets of `rclone serve s3`, which ignores conditions."""
    import boto3

    top = folder / "rclone"
    top.mkdir()
    with rclone(top) as server:
        client = boto3.client(
            "s3",
            endpoint_url=server.endpoint,
            aws_access_key_id=server.access_key,
            aws_secret_access_key=server.secret_key,
            region_name="us-east-1",
        )

        def open_store(trial: Path) -> Store:
            client.create_bucket(Bucket=trial.name)
            bucket = top / trial.name
            side = Served(client, trial.name, bucket)
            return Store(
                side, f"s3://{trial.name}", _variables(server), lambda: shutil.rmtree(bucket)
            )

        yield open_store


@contextmanager
def served(folder: Path) -> Iterator[Stores]:
    """Folders of a data store of the platform's kind, `craftsync serve`."""
    top = folder / "served"
    top.mkdir()
    with serving(top) as server:

        def open_store(trial: Path) -> Store:
            part = top / trial.name
            return Store(
                Files(part),
                f"craft-ai://{trial.name}",
                server.variables,
                lambda: shutil.rmtree(part),
            )

        yield open_store


STORES = {"directory": directory, "s3": fake, "rclone": rclones, "serve": served}


def _variables(server: S3Server) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "AWS_REGION": "us-east-1",
    }
