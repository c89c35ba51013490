"""What a rate limits and what progress counts: bytes as the other side takes them, in every kind of store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import craftsync
from craftsync.core.model import ABSENT
from craftsync.engine.report import Event, ProgressEvent
from craftsync.errors import PreconditionFailed
from craftsync.net.pace import Limiter, Pace
from craftsync.stores.base import Store
from craftsync.stores.craftai import Access, CraftAiStore
from craftsync.stores.directory import DirectoryStore
from craftsync.stores.s3 import S3Store
from tests.support.clock import FakeClock
from tests.support.fake_s3 import Answer, Drop, Request
from tests.support.memory_store import MemoryStore
from tests.support.platform import faulty_platform
from tests.support.s3 import fake_s3
from tests.support.world import Bytes, World

MIB = 1 << 20


@contextmanager
def s3(folder: Path) -> Iterator[Store]:
    with fake_s3("plain", "bucket") as (server, _):
        store = S3Store("bucket", endpoint_url=server.endpoint)
        store.prepare(None)
        yield store
        store.close()


@contextmanager
def craft_ai(folder: Path) -> Iterator[Store]:
    with faulty_platform() as platform:
        access = Access(platform.url, lambda: platform.token, platform.url)
        with closing(CraftAiStore(access)) as store:
            yield store


@contextmanager
def directory(folder: Path) -> Iterator[Store]:
    with closing(DirectoryStore.create(folder / "store")) as store:
        yield store


@contextmanager
def memory(folder: Path) -> Iterator[Store]:
    yield MemoryStore()


STORES = {"S3": s3, "Craft AI": craft_ai, "directory": directory, "memory": memory}


@pytest.fixture(params=STORES)
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Store]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "craftsync-tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "only-for-tests-on-loopback")
    with STORES[request.param](tmp_path) as opened:
        yield opened


@pytest.mark.parametrize("size", [3 * MIB, 18 * MIB], ids=["in one piece", "in parts"])
def test_upload_duration_follows_its_rate_limit(store: Store, size: int, tmp_path: Path) -> None:
    if isinstance(store, MemoryStore):
        pytest.skip("it takes a content at once")
    clock = FakeClock()
    world = World(tmp_path, store, clock=clock)
    (world.root / "large.bin").write_bytes(bytes(size))
    started = clock.monotonic()
    report = world.run(upload_rate=MIB)
    assert (report.uploaded, report.bytes_uploaded) == (1, size)
    assert clock.monotonic() - started >= size / MIB - 1.01


class Counted(Bytes):
    """Content whose bytes are counted as they leave."""

    def __init__(self, content: bytes, pace: Pace) -> None:
        super().__init__(content)
        self.pace = pace


@pytest.mark.parametrize("size", [5, 3 * MIB, 18 * MIB])
def test_written_bytes_count_once_and_failed_writes_not_at_all(store: Store, size: int) -> None:
    limiter = Limiter(None, FakeClock())
    content = Counted(bytes(size), limiter)
    store.write("a", content, expect=ABSENT, operation="one")
    assert limiter.moved == size
    again = Counted(b"x" * size, limiter)
    with pytest.raises(PreconditionFailed):
        store.write("a", again, expect=ABSENT, operation="two")
    # Its parts are in the storage, and the next try for the same content goes on with them.
    resumable = isinstance(store, CraftAiStore) and size > 16 * MIB
    assert limiter.moved == (2 * size if resumable else size)


def lost_once(method: str, path: str) -> Callable[[Request], Drop | Answer | None]:
    """Return a script that takes the first such request and hangs up."""
    lost: list[Request] = []

    def script(request: Request) -> Drop | None:
        if lost or request.method != method or path not in request.target:
            return None
        lost.append(request)
        return Drop(delivered=False)

    return script


def test_an_upload_that_is_tried_again_is_not_counted_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 3 * MIB
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "large.bin").write_bytes(bytes(size))
    seen: list[Event] = []
    with fake_s3("plain", "bucket") as (server, fake):
        fake.script = lost_once("PUT", "/large.bin")
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
        monkeypatch.setenv("CRAFTSYNC_CONFIG", "")
        words = {"state_dir": tmp_path / "state", "on_event": seen.append}
        report = craftsync.push(tmp_path / "root", "s3://bucket", **words)
    assert report.uploaded == 1
    assert len([r for r in fake.requests if r.method == "PUT" and "/large.bin" in r.target]) == 2
    done = [event.bytes_done for event in seen if isinstance(event, ProgressEvent)]
    assert max(done) == size
