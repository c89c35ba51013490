"""What all tests share: how hypothesis runs, and servers that take seconds to start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.support import servers
from tests.support.servers import S3Server
from tests.support.serving import Serving, serving

# On a busy machine a single example may take long, which says nothing.
settings.register_profile("craftsync", deadline=None)
settings.load_profile("craftsync")


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
