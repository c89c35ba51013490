"""The stores the contract is checked for: each test gets an empty one of every kind."""

from __future__ import annotations

import itertools
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from craftsync.stores import craftai
from craftsync.stores.base import Store
from craftsync.stores.craftai import Access, CraftAiStore
from craftsync.stores.craftai.multipart import PART_STEP
from craftsync.stores.retrying import RetryingStore
from craftsync.stores.s3 import Limits, ProbedFacts, S3Store, probe
from craftsync.stores.s3.multipart import MIB
from tests.support import servers
from tests.support.clock import FakeClock
from tests.support.s3 import PERSONALITIES as ALL
from tests.support.s3 import FakeS3, fake_s3
from tests.support.servers import S3Server

BUCKET = "craftsync-contract"
PERSONALITIES = (
    *("plain", "ceph-16", "ignores-conditions", "no-conditions", "kms", "versioned"),
    *("no-part-copy", "no-copy", "no-metadata", "utf-16-order", "object-lock"),
    *("hides-below", "no-etags"),
)
"""Those of the fake S3 that keep the contract; `tests.support.s3` has more."""
REACHED_OTHERWISE = ("slow-down", "virtual-hosted", "requester-pays")
"""Those that keep it too, for a client that tries again, or is set up for them (`set_up_for`)."""
S3_SERVERS = [
    *("moto", "rclone", *(f"fake-{name}" for name in PERSONALITIES)),
    *(["external"] if servers.named_by_environment() else []),
]
LIMITS = Limits(single_put=5 * MIB, smallest_part=5 * MIB, page=10, fresh_listing_seconds=0.0)
"""The smallest parts any server takes, short pages, and no listing taken for a look: a store at its most careful."""
MULTIPART = 2 * LIMITS.single_put + 1
"""Bytes of an object that takes several parts in every store."""
SMALL_LIMITS = replace(LIMITS, single_put=5000, smallest_part=5000)
"""For the servers of the tests, which take parts of any size: the same with a thousandth of the bytes."""
CRAFTAI_LIMITS = craftai.Limits(
    single_post=PART_STEP, smallest_part=PART_STEP, fresh_listing_seconds=0.0, stats_later=False
)

OpenS3 = Callable[..., S3Store]
OpenCraftAi = Callable[..., CraftAiStore]


@pytest.fixture(autouse=True)
def no_credentials_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep tests away from the profiles and the instance metadata of wherever they run."""
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def moto_server(moto: S3Server) -> S3Server:
    moto.make_bucket(BUCKET)
    return moto


@pytest.fixture(scope="session")
def rclone_server(rclone: S3Server) -> S3Server:
    rclone.make_bucket(BUCKET)
    return rclone


@pytest.fixture(scope="session")
def fake_server() -> Iterator[Callable[[str], S3Server]]:
    """Return a function that returns a running fake S3 of a personality, its bucket empty."""
    running: dict[str, tuple[S3Server, FakeS3]] = {}
    with ExitStack() as stack:

        def server(personality: str) -> S3Server:
            if personality not in running:
                kind = replace(ALL[personality], smallest_part=1)
                running[personality] = stack.enter_context(fake_s3(kind))
            opened, fake = running[personality]
            # What tests left there would be gone through by every listing.
            fake.buckets.clear()
            fake.bucket(BUCKET)
            fake.requests.clear()
            return opened

        yield server


@pytest.fixture
def plain_server(fake_server: Callable[[str], S3Server]) -> S3Server:
    """A server like Amazon's; what lies between it and a store is what a test is about."""
    return fake_server("plain")


@pytest.fixture(scope="session")
def external_server() -> S3Server:
    server = servers.named_by_environment()
    assert server is not None
    server.make_bucket(BUCKET)
    return server


@pytest.fixture(scope="session")
def probed() -> dict[str, ProbedFacts]:
    """What was found out about each server so far."""
    return {}


@pytest.fixture
def use_keys_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[S3Server], None]:
    def use(server: S3Server) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)

    return use


@pytest.fixture
def open_s3(
    probed: dict[str, ProbedFacts], use_keys_of: Callable[[S3Server], None]
) -> Iterator[OpenS3]:
    """Return a function that opens a store on a server, under a prefix nobody else uses."""
    opened: list[S3Store] = []
    prefix = f"{uuid.uuid4().hex}/données"

    def open_store(server: S3Server, **options: object) -> S3Store:
        use_keys_of(server)
        settings = {"limits": LIMITS, "prefix": prefix, **options}
        store = S3Store(BUCKET, endpoint_url=server.endpoint, **settings)  # type: ignore[arg-type]
        opened.append(store)
        if "facts" not in options:
            if server.name not in probed:
                probed[server.name] = probe(store)
            store.learn(probed[server.name])
        return store

    yield open_store
    for store in opened:
        store.close()


def server_named(name: str, request: pytest.FixtureRequest) -> S3Server:
    """Return a running server of `S3_SERVERS`."""
    make, _, personality = name.partition("-")
    server = request.getfixturevalue(f"{make}_server")
    return server(personality) if personality else server  # type: ignore[no-any-return]


@pytest.fixture(params=S3_SERVERS)
def s3_server(request: pytest.FixtureRequest) -> S3Server:
    return server_named(request.param, request)


@pytest.fixture
def s3_store(s3_server: S3Server, open_s3: OpenS3) -> S3Store:
    return open_s3(s3_server)


SERVE_MEMORY = """
from craftsync.cli.serve import listen, url_of
from craftsync.clock import SystemClock
from craftsync.serve import server
from tests.support.memory_store import MemoryStore

with listen("127.0.0.1", 0) as listener:
    print(url_of(listener), flush=True)
    settings = server.Settings(sdk_token="the token")
    server.serve(MemoryStore(), listener, settings, clock=SystemClock(), log=print)
"""


@pytest.fixture(scope="session")
def platform_url() -> Iterator[str]:
    """The address of a server that speaks the platform's API over a store that holds any key."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVE_MEMORY], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.kill()


@pytest.fixture
def open_craftai(platform_url: str) -> Iterator[OpenCraftAi]:
    """Return a function that opens an environment's store, below a folder nobody else uses."""
    opened: list[CraftAiStore] = []
    folder = f"{uuid.uuid4().hex}/données"

    def open_store(**options: object) -> CraftAiStore:
        access = Access(platform_url, lambda: "the token", platform_url)
        settings = {"limits": CRAFTAI_LIMITS, "folder": folder, **options}
        store = CraftAiStore(access, **settings)  # type: ignore[arg-type]
        opened.append(store)
        return store

    yield open_store
    for store in opened:
        store.close()


def set_up_for(
    personality: str, open_s3: OpenS3, server: S3Server, request: pytest.FixtureRequest
) -> Store:
    """Open a store as a user of this kind of server would."""
    if personality == "requester-pays":
        return open_s3(server, request_payer=True, limits=SMALL_LIMITS)
    if personality == "slow-down":
        clock = FakeClock()
        opened = open_s3(server, clock=clock, facts=ProbedFacts(), limits=SMALL_LIMITS)
        store = RetryingStore(opened, clock=clock, attempts=40, deadline_seconds=1e6)
        store.prepare(None)
        return store
    # The fake stands for the proxy too, so that its names need no resolver.
    environment = request.getfixturevalue("monkeypatch")
    config = request.getfixturevalue("tmp_path") / "aws-config"
    config.write_text("[default]\ns3 =\n  addressing_style = virtual\n")
    environment.setenv("AWS_CONFIG_FILE", str(config))
    environment.setenv("http_proxy", server.endpoint)
    return open_s3(replace(server, endpoint="http://s3.test"), limits=SMALL_LIMITS)


CONTRACT_SERVERS = [*S3_SERVERS, *(f"fake-{name}" for name in REACHED_OTHERWISE)]


@pytest.fixture(
    params=["directory", "memory", "craftai", *(f"s3-{name}" for name in CONTRACT_SERVERS)]
)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    kind, _, server = request.param.partition("-")
    personality = server.removeprefix("fake-")
    if personality in REACHED_OTHERWISE:
        opened = request.getfixturevalue("open_s3")
        yield set_up_for(personality, opened, server_named(server, request), request)
    elif kind == "s3":
        opened = request.getfixturevalue("open_s3")
        limits = LIMITS if server == "external" else SMALL_LIMITS
        yield opened(server_named(server, request), limits=limits)
    elif kind == "craftai":
        yield request.getfixturevalue("open_craftai")()
    elif kind == "directory":
        from craftsync.stores.directory import DirectoryStore

        directory = DirectoryStore.create(tmp_path / "store")
        yield directory
        directory.close()
    else:
        from tests.support.memory_store import MemoryStore

        yield MemoryStore()


@pytest.fixture
def large(request: pytest.FixtureRequest) -> int:
    """The bytes of an object that the `store` of this test takes in parts, if it takes any in parts."""
    chosen = getattr(request.node, "callspec", None)
    kind = chosen.params.get("store", "") if chosen else ""
    if kind == "s3-external":
        return MULTIPART
    limits = SMALL_LIMITS if kind.startswith("s3-") else CRAFTAI_LIMITS
    return 2 * limits.smallest_part + 1


@pytest.fixture
def operation() -> Callable[[], str]:
    """Return a function that returns another operation id each time."""
    numbers = itertools.count(1)
    return lambda: f"operation-{next(numbers)}"
