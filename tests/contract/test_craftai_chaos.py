"""Whole passes over a platform where any request may fail: nothing is lost, and all is in sync in the end."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from craftsync.core.retention import Retention, StoreTrash
from craftsync.errors import CraftsyncError
from craftsync.stores.craftai import Access, CraftAiStore, Limits
from craftsync.stores.retrying import RetryingStore
from tests.support.clock import FakeClock
from tests.support.platform import FaultyPlatform, faulty_platform
from tests.support.platform import faults as fault
from tests.support.platform.client import PART
from tests.support.world import World

ENDPOINTS = (
    *("refresh", "list", "information", "upload", "form", "begin", "part-url", "part", "end"),
    *("download", "get", "delete"),
)
FAULTS = (
    *(fault.status(503), fault.status(500), fault.connection_lost, fault.answer_lost),
    *(fault.xhtml_502, fault.xml_without_message, fault.html_200, fault.json_array_error),
    *(fault.short_body,),
)


class Story:
    """Edits on both sides, made up from a seed, and a platform that fails by chance."""

    def __init__(self, platform: FaultyPlatform, world: World, seed: int) -> None:
        self._platform = platform
        self._world = world
        self._rng = random.Random(seed)
        self._lock = threading.Lock()
        self.written: set[str] = set()

    def break_the_platform(self, rate: float) -> None:
        for endpoint in ENDPOINTS:
            self._platform.inject(
                endpoint, self._any_fault, times=10**9, when=lambda _: self._chance(rate)
            )

    def edit(self) -> None:
        """Change a few files on each side."""
        for _ in range(self._rng.randrange(5)):
            self._world.write(f"f{self._rng.randrange(6)}", self._content())
        for _ in range(self._rng.randrange(4)):
            self._platform.put(f"f{self._rng.randrange(8)}", self._content().encode())
        if self._chance(0.5):
            (self._world.root / f"f{self._rng.randrange(6)}").unlink(missing_ok=True)
        if self._chance(0.3):
            self._platform.bucket.delete(f"f{self._rng.randrange(8)}")

    def everything(self) -> set[str]:
        """Return all contents there are, those in both trashes included."""
        there = {stored.content.decode() for stored in self._platform.bucket.objects.values()}
        here = {file.read_text() for file in self._world.root.rglob("*") if file.is_file()}
        return {content for content in there | here if content.startswith("content")}

    def _content(self) -> str:
        size = self._rng.choice([0, 10, 5000, PART + 5, 3 * PART])
        content = f"content {len(self.written)} {'x' * size}"
        self.written.add(content)
        return content

    def _chance(self, rate: float) -> bool:
        with self._lock:
            return self._rng.random() < rate

    def _any_fault(self, request: fault.Request, proceed: fault.Proceed) -> fault.Answer | None:
        with self._lock:
            chosen = self._rng.choice(FAULTS)
        return chosen(request, proceed)


@pytest.fixture(params=["s3", "gcs"])
def platform(request: pytest.FixtureRequest) -> Iterator[FaultyPlatform]:
    with faulty_platform(gcs=request.param == "gcs") as platform:
        yield platform


@pytest.fixture
def store(platform: FaultyPlatform) -> Iterator[RetryingStore]:
    clock = FakeClock()
    access = Access(platform.url, lambda: platform.token, platform.url)
    store = CraftAiStore(access, clock=clock, limits=Limits(single_post=PART, smallest_part=PART))
    yield RetryingStore(store, clock=clock, rng=random.Random(0))
    store.close()


@pytest.mark.parametrize("seed", range(4))
def test_no_content_is_lost_or_torn_under_random_platform_faults(
    platform: FaultyPlatform, store: RetryingStore, tmp_path: Path, seed: int
) -> None:
    world = World(tmp_path, store)
    # Each version counts here, also those that `foreign` does not keep because it uploaded them.
    world.retention = Retention(store=StoreTrash.ALL)
    story = Story(platform, world, seed)
    for _ in range(5):
        story.edit()
        before = story.everything()
        story.break_the_platform(0.15)
        try:
            world.run()
        except CraftsyncError:
            # A run may end early; what it had done by then must be whole all the same.
            continue
        finally:
            platform.heal()
            assert before <= story.everything() <= story.written
    for _ in range(2):
        world.run()
    world.assert_in_step()
