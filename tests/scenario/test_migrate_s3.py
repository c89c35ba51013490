"""A migration between two buckets of one real server: streamed through here, and copied by the server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from craftsync.core.model import RemoteObject
from craftsync.errors import Interrupted, ObjectNotFound, PreconditionFailed, StoreUnavailable
from craftsync.migrate.options import Verify
from craftsync.state.migration import MigrationState
from craftsync.stores.base import Properties, Store
from craftsync.stores.retrying import RetryingStore
from craftsync.stores.s3 import Limits, S3Store
from tests.support.clock import FakeClock
from tests.support.moving import Eager, Moving, held, kept
from tests.support.s3 import fake_s3
from tests.support.servers import S3Server

MIB = 1024 * 1024
LIMITS = Limits(quick_copy=MIB, fresh_listing_seconds=0.0)
LARGE = bytes(range(256)) * (17 << 12)
"""More than a stream reads at once, which are 16 MiB."""
COPIED = LARGE[: 2 * MIB]
"""More than a server copies at once."""
WAYS = pytest.mark.parametrize("server_side", [False, True], ids=["streamed", "by the server"])


@pytest.fixture(scope="module", params=["moto", "rclone"])
def server(request: pytest.FixtureRequest) -> S3Server:
    running: S3Server = request.getfixturevalue(request.param)
    for bucket in ("here", "there"):
        running.make_bucket(bucket)
    return running


@pytest.fixture(scope="module")
def keys(server: S3Server) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", server.access_key)
        environment.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
        yield


@pytest.fixture(scope="module")
def facts(server: S3Server, keys: None) -> str:
    """What a probe finds: three quarters of the requests of a small migration to a new bucket."""
    with closing(S3Store("there", "probed", endpoint_url=server.endpoint)) as store:
        return store.prepare(None) or ""


@pytest.fixture
def unprobed(server: S3Server, keys: None, tmp_path: Path) -> Iterator[Moving]:
    open_bucket = partial(
        S3Store, prefix=tmp_path.name, endpoint_url=server.endpoint, limits=LIMITS, raw_keys=True
    )
    with closing(open_bucket("here")) as source, closing(open_bucket("there")) as target:
        # As `migrate` opens them; moto sometimes answers 500 to requests at once.
        yield Moving(tmp_path, *(RetryingStore(each, clock=Eager()) for each in (source, target)))


@pytest.fixture
def moving(unprobed: Moving, facts: str) -> Moving:
    with closing(MigrationState.open(unprobed.folder / "state")) as state:
        state.database.put("facts", facts)
        state.database.put("facts_at_ns", str(Eager().now_ns()))
    return unprobed


def bucket(store: Store) -> S3Store:
    """Return the bucket that is retried."""
    assert isinstance(store, RetryingStore) and isinstance(store.store, S3Store)
    return store.store


@pytest.fixture
def s3(server: S3Server) -> Iterator[Any]:
    client = server.client()
    yield client
    client.close()


@WAYS
@pytest.mark.parametrize("verify", list(Verify))
def test_migration_copies_everything_and_a_second_run_nothing(
    moving: Moving, server_side: bool, verify: Verify
) -> None:
    content = {"a": b"1", "b/c": b"", "é à": b"accents", "large": COPIED if server_side else LARGE}
    for path, body in content.items():
        moving.put(moving.source, path, body)
    report = moving.run(server_side=server_side, verify=verify)
    assert held(moving.target) == content
    assert (report.copied, report.exit_code, sum(report.verified.values())) == (4, 0, 4)
    assert moving.run(server_side=server_side).unchanged == 4


@WAYS
def test_migrate_keeps_replaced_and_deleted_objects_of_the_target(
    unprobed: Moving, server_side: bool
) -> None:
    moving = unprobed
    moving.put(moving.source, "a", "from the source")
    moving.put(moving.target, "a", "its own")
    moving.put(moving.target, "extra", "only there")
    moving.run(server_side=server_side, delete=True)
    assert held(moving.target) == {"a": b"from the source"}
    assert kept(moving.target) == {b"its own", b"only there"}


def test_equal_objects_on_one_server_are_found_equal_without_reading(moving: Moving) -> None:
    for store in (moving.source, moving.target):
        moving.put(store, "a", "same")
    report = moving.run()
    assert (report.adopted, report.verified, kept(moving.target)) == (1, {"checksum": 1}, set())


@WAYS
def test_interrupted_large_migration_resumes_with_arrived_parts(
    aws_like: None, moving: Moving, server_side: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("craftsync.stores.s3.multipart.COPIED_PART", 6 * MIB)
    moving.put(moving.source, "large", LARGE)
    effect = "copy_part" if server_side else "upload_part"
    sent: list[int] = []

    def watched(store: S3Store, most: int) -> None:
        original = getattr(type(store.calls), effect)

        def counted(key: str, upload: str, number: int, *rest: Any) -> str:
            if len(sent) >= most:
                raise Interrupted
            sent.append(number)
            version: str = original(store.calls, key, upload, number, *rest)
            return version

        setattr(store.calls, effect, counted)

    target = bucket(moving.target)
    watched(target, 2)
    with pytest.raises(Interrupted):
        moving.run(server_side=server_side)
    assert len(sent) == 2
    watched(target, 3)
    moving.run(server_side=server_side)
    assert sorted(sent) == [1, 2, 3]
    assert held(moving.target) == {"large": LARGE}


@pytest.fixture
def aws_like(server: S3Server) -> None:
    if server.name != "moto":
        pytest.skip("this server keeps objects in folders, and copies no parts of them")


@WAYS
def test_keys_that_no_folder_can_hold_are_copied_byte_for_byte(
    aws_like: None, moving: Moving, server_side: bool
) -> None:
    source = bucket(moving.source)
    keys = [
        "../x",
        "/lead",
        "a",
        "a//b",
        "a/b",
        "a/./b",
        "bell\x07",
        "dir/",
        "tab\tx",
        "x%2Fy",
        "+ &",
    ]
    for key in keys:
        source.calls.put(source.root + key, key.encode(), {}, None)
    report = moving.run(server_side=server_side)
    assert (report.copied, report.exit_code) == (len(keys), 0)
    assert held(moving.target) == {key: key.encode() for key in keys}


@pytest.mark.parametrize(
    ("asked", "given"),
    [(None, None), ("source", "ONEZONE_IA"), ("STANDARD_IA", "STANDARD_IA")],
)
@pytest.mark.parametrize("size", [5, len(COPIED)], ids=["in one piece", "in parts"])
def test_a_copy_by_the_server_keeps_all_that_belongs_to_an_object(
    aws_like: None, moving: Moving, s3: Any, size: int, asked: str | None, given: str | None
) -> None:
    prefix = moving.folder.name
    s3.put_object(
        Bucket="here",
        Key=f"{prefix}/a",
        Body=COPIED[:size],
        ContentType="text/csv",
        CacheControl="no-cache",
        Metadata={"who": "me"},
        Tagging="colour=dark+red&n=1%2B2",
        StorageClass="ONEZONE_IA",
    )
    moving.run(storage_class=asked)
    found = s3.head_object(Bucket="there", Key=f"{prefix}/a")
    assert (found["ContentType"], found["CacheControl"]) == ("text/csv", "no-cache")
    assert found["Metadata"] == {"who": "me"}
    assert found.get("StorageClass") == given
    tags = s3.get_object_tagging(Bucket="there", Key=f"{prefix}/a")["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"colour": "dark red", "n": "1+2"}


def test_small_objects_are_streamed_with_their_metadata_in_no_more_requests(
    moving: Moving, monkeypatch: pytest.MonkeyPatch
) -> None:
    moving.put(moving.source, "a", "1")

    def asked(store: S3Store, expect: RemoteObject) -> Properties:
        raise AssertionError("a request that nobody needs")

    monkeypatch.setattr(S3Store, "properties", asked)
    assert moving.run(server_side=False).copied == 1


def test_properties_are_those_of_the_object_that_was_listed(aws_like: None, moving: Moving) -> None:
    source = bucket(moving.source)
    first = moving.put(source, "a", "first")
    assert source.properties(first).metadata == {}
    moving.put(source, "a", "second")
    with pytest.raises(PreconditionFailed):
        source.properties(first)
    source.delete("a", expect=None)
    with pytest.raises(ObjectNotFound):
        source.properties(first)


@pytest.fixture
def conditional(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Moving]:
    """Two buckets of a server that checks the condition on the source of a copy, which moto does not."""
    with fake_s3("plain", "here", "there") as (server, _):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
        with (
            closing(S3Store("here", endpoint_url=server.endpoint, limits=LIMITS)) as source,
            closing(S3Store("there", endpoint_url=server.endpoint, limits=LIMITS)) as target,
        ):
            yield Moving(tmp_path, source, target)


def test_a_copy_by_the_server_is_of_the_version_that_was_listed(conditional: Moving) -> None:
    source, target = conditional.source, conditional.target
    assert isinstance(target, S3Store)
    first = conditional.put(source, "a", "first")
    copy, newer, refused = target.calls.copy, list[RemoteObject](), list[str]()

    def late(name: str, to: str, **how: Any) -> str:
        if name == "a" and not newer:  # The probe copies, too.
            newer.append(conditional.put(source, "a", "second"))
        try:
            return copy(name, to, **how)
        except PreconditionFailed:
            if name == "a":
                refused.append(how["match"].strip('"'))
            raise

    target.calls.copy = late  # type: ignore[method-assign]
    report = conditional.run()
    assert refused == [first.version]
    assert held(target) == {"a": b"second"}
    assert (report.copied, report.adopted, report.exit_code) == (1, 0, 0)


def test_a_copy_whose_answer_was_lost_is_recognised(aws_like: None, moving: Moving) -> None:
    moving.put(moving.source, "a", "new")
    moving.put(moving.target, "a", "old")
    target = bucket(moving.target)
    copy, lost = target.calls.copy, []

    def losing(source: str, to: str, **how: Any) -> str:
        version = copy(source, to, **how)
        if to.endswith(f"{moving.folder.name}/a") and not lost:
            lost.append(to)
            raise StoreUnavailable("The answer was lost.")
        return version

    target.calls.copy = losing  # type: ignore[method-assign]
    moving.target = RetryingStore(target, clock=FakeClock())
    report = moving.run()
    assert lost and report.exit_code == 0
    assert (held(target), kept(target)) == ({"a": b"new"}, {b"old"})
