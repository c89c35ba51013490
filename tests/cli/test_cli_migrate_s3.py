"""What an object's copy keeps besides its content, by the installed program: between buckets of one server, and of two."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest

import craftsync as package
from tests.support import servers
from tests.support.cli import Craftsync
from tests.support.fake_s3 import Answer, Request, proxied
from tests.support.servers import S3Server
from tests.support.serving import serving

LARGE = bytes(range(256)) * (17 << 12)
"""17 MiB: more than is ever sent in one piece."""
SIZES = pytest.mark.parametrize("size", [5, len(LARGE)], ids=["in one piece", "in parts"])


@pytest.fixture(scope="module")
def two_servers(moto: S3Server) -> Iterator[tuple[S3Server, S3Server]]:
    with servers.moto() as other:
        yield moto, other


@pytest.fixture(scope="module")
def clients(two_servers: tuple[S3Server, S3Server]) -> Iterator[tuple[Any, Any]]:
    with closing(two_servers[0].client()) as one, closing(two_servers[1].client()) as other:
        yield one, other


class Buckets(NamedTuple):
    """A client for each of the two servers, and what makes the program talk to them."""

    source: Any
    target: Any
    within: tuple[str, ...]
    """Words for a migration within the first server, from bucket `here` to `there`."""
    across: tuple[str, ...]
    """Words for one to the bucket `there` of the second."""


@pytest.fixture
def buckets(
    two_servers: tuple[S3Server, S3Server], clients: tuple[Any, Any], craftsync: Craftsync
) -> Buckets:
    craftsync.environment |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    one, other = two_servers
    source, target = clients
    for client, name in ((source, "here"), (source, "there"), (target, "there")):
        _empty(client, name)
        client.create_bucket(Bucket=name)
    words = "s3://here", "s3://there", "--endpoint-url"
    across = (*words, other.endpoint, "--source-endpoint-url", one.endpoint)
    return Buckets(source, target, (*words, one.endpoint), across)


def _empty(client: Any, bucket: str) -> None:
    if bucket not in {found["Name"] for found in client.list_buckets()["Buckets"]}:
        return
    for found in client.list_objects_v2(Bucket=bucket).get("Contents", ()):
        client.delete_object(Bucket=bucket, Key=found["Key"])


def classes(client: Any, bucket: str) -> dict[str, str]:
    listing = client.list_objects_v2(Bucket=bucket).get("Contents", ())
    return {
        found["Key"]: found["StorageClass"]
        for found in listing
        if not found["Key"].startswith(".craftsync/")
    }


def tags(client: Any, bucket: str, key: str) -> dict[str, str]:
    found = client.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
    return {tag["Key"]: tag["Value"] for tag in found}


WAYS = pytest.mark.parametrize(
    "way", [(), ("--stream",), None], ids=["by the server", "streamed", "to another server"]
)


def migrated(
    craftsync: Craftsync, buckets: Buckets, way: tuple[str, ...] | None, *words: str
) -> tuple[Any, Any]:
    """Migrate in one of the ways; return how the call ended, and a client for the target."""
    if way is None:
        return craftsync("migrate", *buckets.across, *words), buckets.target
    return craftsync("migrate", *buckets.within, *way, *words), buckets.source


@WAYS
def test_every_copy_gets_the_given_storage_class(
    craftsync: Craftsync, buckets: Buckets, way: tuple[str, ...] | None
) -> None:
    buckets.source.put_object(Bucket="here", Key="small", Body=b"1", StorageClass="ONEZONE_IA")
    buckets.source.put_object(Bucket="here", Key="large", Body=LARGE)
    run, target = migrated(craftsync, buckets, way, "--storage-class", "STANDARD_IA")
    assert run.code == 0, run.err
    assert classes(target, "there") == {"small": "STANDARD_IA", "large": "STANDARD_IA"}


@WAYS
def test_copies_keep_their_storage_class_with_source(
    craftsync: Craftsync, buckets: Buckets, way: tuple[str, ...] | None
) -> None:
    buckets.source.put_object(Bucket="here", Key="small", Body=b"1", StorageClass="ONEZONE_IA")
    buckets.source.put_object(Bucket="here", Key="usual", Body=b"1")
    buckets.source.put_object(Bucket="here", Key="large", Body=LARGE, StorageClass="STANDARD_IA")
    run, target = migrated(craftsync, buckets, way, "--storage-class", "source")
    assert run.code == 0, run.err
    assert classes(target, "there") == {
        "small": "ONEZONE_IA",
        "usual": "STANDARD",
        "large": "STANDARD_IA",
    }


@WAYS
def test_copies_have_the_default_storage_class(
    craftsync: Craftsync, buckets: Buckets, way: tuple[str, ...] | None
) -> None:
    buckets.source.put_object(Bucket="here", Key="small", Body=b"1", StorageClass="ONEZONE_IA")
    run, target = migrated(craftsync, buckets, way)
    assert (run.code, classes(target, "there")) == (0, {"small": "STANDARD"})


@SIZES
@WAYS
def test_a_copy_keeps_type_headers_and_metadata(
    craftsync: Craftsync, buckets: Buckets, way: tuple[str, ...] | None, size: int
) -> None:
    headers = {
        "ContentType": "text/csv",
        "CacheControl": "no-cache",
        "ContentDisposition": 'attachment; filename="a b.csv"',
        "ContentEncoding": "gzip",
        "ContentLanguage": "fr",
    }
    metadata = {"who": "me", "craftsync-sha256": "not ours", "mtime": "1.500000000"}
    buckets.source.put_object(
        Bucket="here", Key="données", Body=LARGE[:size], Metadata=metadata, **headers
    )
    run, target = migrated(craftsync, buckets, way)
    assert run.code == 0, run.err
    found = target.head_object(Bucket="there", Key="données")
    assert {name: found[name] for name in headers} == headers
    assert (found["Metadata"]["who"], found["Metadata"]["mtime"]) == ("me", "1.500000000")
    if way != ():  # The server knows nothing of notes, and copies what is there.
        assert found["Metadata"].get("craftsync-sha256") != "not ours"


@SIZES
def test_a_copy_keeps_the_time_it_expires(
    craftsync: Craftsync, buckets: Buckets, size: int
) -> None:
    expires = datetime(2027, 10, 21, 7, 28, tzinfo=UTC)
    buckets.source.put_object(Bucket="here", Key="a", Body=LARGE[:size], Expires=expires)
    assert craftsync("migrate", *buckets.across).code == 0
    assert buckets.target.head_object(Bucket="there", Key="a")["Expires"] == expires


@SIZES
def test_user_metadata_is_kept_when_ours_does_not_fit(
    craftsync: Craftsync, buckets: Buckets, two_servers: tuple[S3Server, S3Server], size: int
) -> None:
    def strict(request: Request) -> Answer | None:
        names = {name.lower(): value for name, value in request.headers.items()}
        own = {name: value for name, value in names.items() if name.startswith("x-amz-meta-")}
        if sum(len(name) - len("x-amz-meta-") + len(value) for name, value in own.items()) > 2048:
            return Answer(400, b"<Error><Code>MetadataTooLarge</Code></Error>")
        return None

    for number in range(9):  # One more than are taken for a broken store.
        metadata = {"note": "n" * (1830 + number * 24), "mtime": "1.500000000"}
        buckets.source.put_object(
            Bucket="here",
            Key=f"{number}",
            Body=LARGE[: size if number > 7 else 5],
            Metadata=metadata,
        )
    with proxied(two_servers[1], strict) as (server, _):
        words = *buckets.across[:-3], server.endpoint, *buckets.across[-2:]
        run = craftsync("migrate", *words)
        assert (run.code, run.lines[0].split(" (")[0]) == (0, "migrate: 9 copied"), run.err
        again = craftsync("migrate", *words)
        assert (again.code, again.lines[0].split(";")[0]) == (0, "migrate: 9 unchanged")
    for number in range(9):
        found = buckets.target.head_object(Bucket="there", Key=f"{number}")["Metadata"]
        assert (len(found["note"]), found["mtime"]) == (1830 + number * 24, "1.500000000")


@SIZES
@pytest.mark.parametrize("way", [("--stream",), None], ids=["streamed", "to another server"])
def test_streamed_copies_keep_tags_on_request(
    craftsync: Craftsync, buckets: Buckets, way: tuple[str, ...] | None, size: int
) -> None:
    for key, tagging in (("a", "colour=dark+red&n=1%2B2"), ("b", "")):
        buckets.source.put_object(Bucket="here", Key=key, Body=LARGE[:size], Tagging=tagging)
    run, target = migrated(craftsync, buckets, way, "--tags")
    assert run.code == 0, run.err
    assert tags(target, "there", "a") == {"colour": "dark red", "n": "1+2"}
    assert tags(target, "there", "b") == {}


def test_a_dry_run_counts_the_questions_it_would_ask(
    craftsync: Craftsync, buckets: Buckets
) -> None:
    buckets.source.put_object(Bucket="here", Key="a", Body=b"1")
    for words, requests in (((), 2), (("--tags",), 3), (("--storage-class", "source"), 3)):
        run = craftsync("migrate", "-n", *buckets.across, *words)
        assert f"about {requests} requests" in run.lines[-1]


@pytest.mark.parametrize("verify", ["checksum", "full"])
@pytest.mark.parametrize("way", [(), ("--stream",)], ids=["by the server", "streamed"])
def test_a_dry_run_counts_as_many_requests_as_the_run_then_makes(
    craftsync: Craftsync,
    buckets: Buckets,
    two_servers: tuple[S3Server, S3Server],
    way: tuple[str, ...],
    verify: str,
) -> None:
    for key in ("a", "b", "c"):
        buckets.source.put_object(Bucket="here", Key=key, Body=key.encode())
    buckets.source.put_object(Bucket="there", Key="extra", Body=b"1")
    with proxied(two_servers[0], lambda request: None) as (server, proxy):
        words = ("--delete", "--verify", verify, *way, "--endpoint-url", server.endpoint)
        planned = craftsync("migrate", "-n", *words, "s3://here", "s3://there")
        before = len(proxy.requests)
        assert craftsync("migrate", *words, "s3://here", "s3://there").code == 0
    objects = ("/a", "/b", "/c", "/extra")
    made = [request for request in proxy.requests[before:] if request.target.endswith(objects)]
    assert f"about {len(made)} requests" in planned.lines[-1]


@WAYS
def test_archived_object_is_a_problem_and_others_are_copied(
    craftsync: Craftsync, buckets: Buckets, way: tuple[str, ...] | None
) -> None:
    for key, storage_class in (("a", "STANDARD"), ("b", "GLACIER"), ("c", "DEEP_ARCHIVE")):
        buckets.source.put_object(Bucket="here", Key=key, Body=b"1", StorageClass=storage_class)
    run, target = migrated(craftsync, buckets, way)
    assert (run.code, classes(target, "there")) == (1, {"a": "STANDARD"})
    for key in ("b", "c"):
        (line,) = (line for line in run.err.splitlines() if f" {key}: " in line)
        assert "is archived and cannot be read. Restore it there" in line
    assert "Traceback" not in run.err
    left_out, _ = migrated(craftsync, buckets, way, "--exclude", "[bc]")
    assert left_out.code == 0


def test_archived_craft_ai_objects_do_not_block_others(
    craftsync: Craftsync, buckets: Buckets
) -> None:
    for number in range(20):
        buckets.source.put_object(
            Bucket="here", Key=f"{number:02}", Body=b"1", StorageClass="GLACIER"
        )
    buckets.source.put_object(Bucket="here", Key="usual", Body=b"1")
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    with serving("s3://here", AWS_ENDPOINT_URL=buckets.within[-1], **keys) as server:
        craftsync.environment |= server.variables
        run = craftsync("migrate", "craft-ai://", "./new")
    assert (run.code, set(craftsync.files("new"))) == (1, {"usual"})
    assert run.lines[0].startswith("migrate: 1 copied (1 byte), 20 failed"), run.err
    assert "07 cannot be read: 07 in s3://here is archived" in run.err


def test_a_copy_may_be_archived_at_once(craftsync: Craftsync, buckets: Buckets) -> None:
    buckets.source.put_object(Bucket="here", Key="a", Body=b"1")
    for way in ((), ("--stream",)):
        run, target = migrated(craftsync, buckets, way, "--storage-class", "GLACIER")
        assert (run.code, classes(target, "there")) == (0, {"a": "GLACIER"})
        again, _ = migrated(craftsync, buckets, way, "--storage-class", "GLACIER")
        assert (again.code, again.lines[0].split(";")[0]) == (0, "migrate: 1 unchanged")
        target.delete_object(Bucket="there", Key="a")


def test_unknown_storage_class_is_reported(craftsync: Craftsync, buckets: Buckets) -> None:
    buckets.source.put_object(Bucket="here", Key="a", Body=b"1")
    for way in ((), ("--stream",)):
        run, target = migrated(craftsync, buckets, way, "--storage-class", "COLD")
        assert (run.code, classes(target, "there")) == (1, {})
        assert "there is no such storage class. Give one that this server has." in run.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--storage-class", "standard ia"), "--storage-class: 'standard ia' is not a storage"),
        (("--storage-class", "GLACIER", "--verify", "full"), "cannot be read back"),
        (("--exclude", "!"), "--exclude: Invalid git pattern: '!'"),
    ],
)
def test_invalid_arguments_are_rejected(
    craftsync: Craftsync, buckets: Buckets, words: tuple[str, ...], said: str
) -> None:
    run = craftsync("migrate", *buckets.within, *words)
    assert (run.code, said in run.err) == (2, True), run.err
    assert classes(buckets.source, "there") == {}


def test_storage_class_is_refused_for_a_folder_target(
    craftsync: Craftsync, buckets: Buckets
) -> None:
    words = "--endpoint-url", buckets.within[-1], "--storage-class", "STANDARD_IA"
    run = craftsync("migrate", "s3://here", "./folder", *words)
    assert (run.code, "does not support it" in run.err) == (2, True)
    assert not (craftsync.folder / "folder").exists()


def test_a_folder_as_source_sets_no_storage_class(craftsync: Craftsync, buckets: Buckets) -> None:
    craftsync.write("folder/a")
    for asked, given in (("source", "STANDARD"), ("STANDARD_IA", "STANDARD_IA")):
        words = "--endpoint-url", buckets.within[-1], "--storage-class", asked
        assert craftsync("migrate", "./folder", "s3://there", *words).code == 0
        assert classes(buckets.source, "there") == {"a": given}
        buckets.source.delete_object(Bucket="there", Key="a")


def test_python_api_accepts_storage_class_and_tags(
    craftsync: Craftsync, buckets: Buckets, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in craftsync.environment.items():
        monkeypatch.setenv(name, value)
    buckets.source.put_object(
        Bucket="here", Key="a", Body=b"1", Tagging="a=b", StorageClass="ONEZONE_IA"
    )
    endpoint, origin = buckets.across[-3], buckets.across[-1]
    report = package.migrate(
        "s3://here",
        "s3://there",
        endpoint_url=endpoint,
        source_endpoint_url=origin,
        storage_class="source",
        tags=True,
        exclude=["*.tmp"],
    )
    assert (report.copied, classes(buckets.target, "there")) == (1, {"a": "ONEZONE_IA"})
    assert tags(buckets.target, "there", "a") == {"a": "b"}
