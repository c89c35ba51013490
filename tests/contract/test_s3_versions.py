"""What a bucket keeps by itself is listed and read, on the fake S3 and on moto."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest

from craftsync.core.model import ABSENT, RemoteObject
from craftsync.errors import ListingBroken, ObjectNotFound, StoreDenied, StoreUnavailable
from craftsync.stores.base import OldVersion
from craftsync.stores.retrying import RetryingStore
from craftsync.stores.s3 import S3Store
from tests.contract.conftest import LIMITS
from tests.support.clock import FakeClock
from tests.support.fake_s3 import Answer, Request, error
from tests.support.s3 import FakeS3, fake_s3
from tests.support.servers import S3Server
from tests.support.world import Bytes

BUCKET = "keeps-versions"
OpenVersioned = Callable[[S3Server, str], S3Store]


@pytest.fixture
def open_versioned(use_keys_of: Callable[[S3Server], None]) -> Iterator[OpenVersioned]:
    opened: list[S3Store] = []

    def open_store(server: S3Server, prefix: str) -> S3Store:
        use_keys_of(server)
        store = S3Store(BUCKET, prefix, endpoint_url=server.endpoint, limits=LIMITS)
        opened.append(store)
        return store

    yield open_store
    for store in opened:
        store.close()


@pytest.fixture
def fake() -> Iterator[tuple[S3Server, FakeS3]]:
    """A server of which two versions make a page of their list."""
    with fake_s3("versioned", BUCKET) as (server, fake):
        fake.most_listed = 2
        yield server, fake


@pytest.fixture(params=["fake", "moto"])
def store(request: pytest.FixtureRequest, open_versioned: OpenVersioned) -> S3Store:
    """An empty store in a bucket that keeps versions."""
    if request.param == "fake":
        server, _ = request.getfixturevalue("fake")
    else:
        server = request.getfixturevalue("moto_server")
        server.make_bucket(BUCKET)
        server.keep_versions(BUCKET)
    return open_versioned(server, f"{uuid.uuid4().hex}/données")


def put(store: S3Store, path: str, content: str) -> RemoteObject:
    return store.write(path, Bytes(content.encode()), expect=None, operation=content)


def content_of(store: S3Store, old: OldVersion) -> str:
    with store.read_version(old.path, old.version_id) as reader:
        return b"".join(reader).decode()


def test_old_versions_are_listed_newest_first_and_readable(
    store: S3Store,
) -> None:
    tokens = {}
    for path in ("a", "a b+é&<c>", "d/x", ".craftsync/own"):
        for content in ("first", "second", "third"):
            tokens[content] = put(store, path, content).version
    store.delete("a", expect=None)
    found = list(store.old_versions(""))
    assert [(old.path, content_of(store, old)) for old in found] == [
        ("a", "third"),
        ("a", "second"),
        ("a", "first"),
        ("a b+é&<c>", "second"),
        ("a b+é&<c>", "first"),
        ("d/x", "second"),
        ("d/x", "first"),
    ]
    assert all(old.version == tokens[content_of(store, old)] for old in found)
    assert all(old.modified_ns <= old.gone_ns for old in found)
    assert [old.path for old in store.old_versions("d/")] == ["d/x", "d/x"]


def test_recreated_object_lists_its_old_version(store: S3Store) -> None:
    put(store, "a", "old")
    store.delete("a", expect=None)
    put(store, "a", "new")
    assert [content_of(store, old) for old in store.old_versions("a")] == ["old"]


def test_missing_version_is_not_found(store: S3Store) -> None:
    put(store, "a", "old")
    put(store, "a", "new")
    (old,) = store.old_versions("")
    with pytest.raises(ObjectNotFound), store.read_version("b", old.version_id):
        pass


@pytest.mark.parametrize(
    ("answer", "raised"),
    [
        (error(403, "AccessDenied"), StoreDenied),
        (Answer(200, b"<html>Please sign in</html>"), StoreUnavailable),
        (
            Answer(
                200,
                b"<ListVersionsResult><IsTruncated>false</IsTruncated><Version><Key>p/a</Key>"
                b"<LastModified>never</LastModified><Size>1</Size></Version></ListVersionsResult>",
            ),
            ListingBroken,
        ),
    ],
)
def test_invalid_version_listing_raises(
    open_versioned: OpenVersioned,
    fake: tuple[S3Server, FakeS3],
    answer: Answer,
    raised: type[Exception],
) -> None:
    server, serving = fake
    store = open_versioned(server, "p")
    store.write("a", Bytes(b"content"), expect=ABSENT, operation="one")
    serving.script = lambda _: answer
    with pytest.raises(raised):
        list(store.old_versions(""))


def test_failed_version_listing_is_retried(
    open_versioned: OpenVersioned, fake: tuple[S3Server, FakeS3]
) -> None:
    server, serving = fake
    store = open_versioned(server, "p")
    for content in ("1", "2", "3", "4"):
        put(store, "a", content)
    failures = iter([True, False, True])

    def script(_: Request) -> Answer | None:
        return error(503, "SlowDown") if next(failures, False) else None

    serving.script = script
    patient = RetryingStore(store, clock=FakeClock())
    found = list(patient.old_versions("a"))
    with patient.read_version("a", found[0].version_id) as reader:
        assert b"".join(reader) == b"3"
    assert len(found) == 3
