"""What all tests share: how hypothesis runs, and servers that take seconds to start."""

from __future__ import annotations

import gc
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support import servers
from tests.support.servers import S3Server
from tests.support.serving import Serving, serving

# On a busy machine a single example may take long, which says nothing.
settings.register_profile("craftsync", deadline=None)
settings.load_profile("craftsync")


def pytest_configure(config: pytest.Config) -> None:
    """Let each worker begin to collect elsewhere: what one has compiled, the others need only load."""
    worker = getattr(config, "workerinput", None)
    if worker is None or [Path(place).name for place in config.args] != ["tests"]:
        return
    files = sorted(Path(__file__).parent.rglob("test_*.py"))
    begin = len(files) * int(worker["workerid"].removeprefix("gw")) // int(worker["workercount"])
    config.args = [str(file) for file in files[begin:] + files[:begin]]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests in one order again, wherever they were begun."""
    items.sort(key=lambda item: item.path)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Spare the collector what lives as long as the tests: all modules, and six thousand tests."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def moto() -> Iterator[S3Server]:
    """A server for all tests; each makes buckets that no other uses."""
    with servers.moto() as server:
        yield server


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Another, of another make."""
    with servers.rclone(tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server of the platform's kind over a folder; each test uses a folder in it that no other does."""
    with serving(tmp_path_factory.mktemp("served")) as server:
        yield server
