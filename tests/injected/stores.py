"""The stores of the trials: each server runs once, and each trial has its own bucket or folder in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.injected.sides import Bucket, Files, Objects, Served, Side
from tests.support.fake_s3 import Script, proxied
from tests.support.s3 import fake_s3
from tests.support.servers import S3Server, moto, rclone
from tests.support.serving import serving


@dataclass(frozen=True)
class Store:
    """The store of one trial: its side, its argument, its environment variables, and how to clear it."""

    side: Side
    word: str
    variables: Mapping[str, str] = field(default_factory=dict)
    clear: Callable[[], None] = lambda: None


Stores = Callable[[Path], Store]
"""Returns the store for the trial in a folder."""


@contextmanager
def directory(folder: Path) -> Iterator[Stores]:
    """Directory stores in the folders of the trials."""
    yield lambda trial: Store(Files(trial / "store"), "./store")


@contextmanager
def fakes(folder: Path) -> Iterator[Stores]:
    """Buckets of the tests' fake S3 server, which checks conditions."""
    with fake_s3() as (server, s3):

        def open_store(trial: Path) -> Store:
            def clear() -> None:
                s3.requests.clear()
                s3.buckets.pop(trial.name, None)

            side = Objects(s3, trial.name)
            return Store(side, f"s3://{trial.name}", server.variables, clear)

        yield open_store


@contextmanager
def rclones(folder: Path, script: Script | None = None) -> Iterator[Stores]:
    """Buckets of `rclone serve s3`, which ignores conditions; with a script, behind a proxy."""
    top = folder / "rclone"
    top.mkdir()
    with rclone(top) as server, _behind(server, script) as seen:
        client = server.client()

        def open_store(trial: Path) -> Store:
            client.create_bucket(Bucket=trial.name)
            bucket = top / trial.name
            side = Served(client, trial.name, bucket)
            return Store(side, f"s3://{trial.name}", seen.variables, lambda: shutil.rmtree(bucket))

        yield open_store


@contextmanager
def motos(
    folder: Path, script: Script | None = None, running: S3Server | None = None
) -> Iterator[Stores]:
    """Buckets of moto, which checks conditions; with a script, behind a proxy."""
    with nullcontext(running) if running else moto() as server, _behind(server, script) as seen:
        client = server.client()

        def open_store(trial: Path) -> Store:
            client.create_bucket(Bucket=trial.name)
            return Store(Bucket(client, trial.name), f"s3://{trial.name}", seen.variables)

        yield open_store


@contextmanager
def platforms(folder: Path, script: Script | None = None) -> Iterator[Stores]:
    """Folders of `craftsync serve`, a data store like the platform's; with a script, behind a proxy."""
    top = folder / "served"
    top.mkdir()
    with serving(top) as serve, _behind(S3Server("serve", serve.url), script) as seen:

        def open_store(trial: Path) -> Store:
            part = top / trial.name
            return Store(
                Files(part),
                f"craft-ai://{trial.name}",
                replace(serve, url=seen.endpoint).variables,
                lambda: shutil.rmtree(part),
            )

        yield open_store


STORES = {"directory": directory, "s3": fakes, "rclone": rclones, "serve": platforms}
PROXIED = {"rclone": rclones, "moto": motos, "serve": platforms}


@contextmanager
def _behind(server: S3Server, script: Script | None) -> Iterator[S3Server]:
    """Yield the server, or the proxy before it, as the program reaches it."""
    if script is None:
        yield server
    else:
        with proxied(server, script) as (seen, _):
            yield seen
