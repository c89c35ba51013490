"""`craftsync watch` while a large upload is under way: small changes arrive, and a stop ends both."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.support.cli import Craftsync, until
from tests.support.daemons import running
from tests.support.fake_s3 import Answer, Drop, Request, serving
from tests.support.s3 import FakeS3
from tests.support.servers import ACCESS_KEY, SECRET_KEY

PATIENCE = 60.0
STORE = "s3://bucket"


class Holding:
    """An S3 server that answers the parts of `large`, and other keys it is told, only once it is released."""

    def __init__(self) -> None:
        self.fake = FakeS3(keys=(ACCESS_KEY, SECRET_KEY))
        self.fake.bucket("bucket")
        self.held = {"large"}
        self.waiting: set[str] = set()
        self.released = threading.Event()

    def handle(self, request: Request) -> Answer | Drop:
        key = request.target.partition("?")[0].rpartition("/")[2]
        if request.method == "PUT" and key in self.held:
            self.waiting.add(key)
            self.released.wait(PATIENCE)
        return self.fake.handle(request)

    def content(self, key: str) -> bytes | None:
        bucket = self.fake.bucket("bucket")
        return bucket.get(key).content if key in bucket else None


@pytest.fixture
def server(craftsync: Craftsync) -> Iterator[Holding]:
    holding = Holding()
    with serving(holding) as endpoint:
        craftsync.environment |= {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_ENDPOINT_URL": endpoint,
        }
        try:
            yield holding
        finally:
            holding.released.set()


def write_large(craftsync: Craftsync) -> None:
    with craftsync.write("root/large").open("wb") as file:
        file.truncate(17 << 20)


def test_small_changes_arrive_while_a_large_upload_is_under_way(
    craftsync: Craftsync, server: Holding
) -> None:
    craftsync.write("root/first")
    write_large(craftsync)
    with running(craftsync, "root", STORE) as daemon:
        until(lambda: "large" in server.waiting, "the large upload")
        for content in ("one", "two"):
            craftsync.write("root/d/small", content)
            until(lambda: server.content("d/small") == content.encode(), f"small: {content}")  # noqa: B023
        facts = daemon.status("root", STORE)
        assert (facts["state"], facts["last_success"]) == ("transferring", None)
        assert server.content("large") is None
        server.released.set()
        daemon.until_state("watching", "root", STORE)
        assert daemon.end() == 0
    assert craftsync("check", "root", STORE).code == 0


def test_stop_ends_a_large_upload_and_added_changes(craftsync: Craftsync, server: Holding) -> None:
    server.held.add("small")
    write_large(craftsync)
    with running(craftsync, "root", STORE) as daemon:
        until(lambda: "large" in server.waiting, "the large upload")
        craftsync.write("root/small", "fresh")
        until(lambda: "small" in server.waiting, "the small upload")
        assert daemon.end() == 0
    server.released.set()
    craftsync.write("root/small", "edited since")
    run = craftsync("sync", "root", STORE)
    assert run.code == 0, run.err
    assert server.content("small") == b"edited since"
