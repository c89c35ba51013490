"""The program on S3 servers that are unlike Amazon's, and what it says where one refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from urllib.parse import parse_qsl

import pytest

from tests.support.cli import Craftsync
from tests.support.fake_s3 import Answer, Request, error
from tests.support.s3 import FakeS3, fake_s3
from tests.support.servers import ACCESS_KEY, SECRET_KEY

KEYS = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}


@pytest.fixture
def plain(craftsync: Craftsync) -> Iterator[FakeS3]:
    """Serve a fake S3 with the bucket `bucket`, which the program reaches."""
    with fake_s3("plain", "bucket") as (server, fake):
        craftsync.environment |= KEYS | {"AWS_ENDPOINT_URL": server.endpoint}
        yield fake


def test_profile_with_virtual_addressing_reaches_such_a_server(
    craftsync: Craftsync,
) -> None:
    craftsync.write("root/a")
    profile = f"[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    style = "s3 =\n  addressing_style = virtual\n"
    config = craftsync.write("aws-config", profile)
    with fake_s3("virtual-hosted", "bucket") as (server, fake):
        # The fake stands for the proxy too, so that its names need no resolver.
        craftsync.environment |= {
            "AWS_CONFIG_FILE": str(config),
            "AWS_ENDPOINT_URL": "http://s3.test",
            "http_proxy": server.endpoint,
        }
        refused = craftsync("push", "root", "s3://bucket")
        assert refused.code == 3
        assert "Please use virtual hosted style to access." in refused.err
        assert "addressing_style" in refused.err
        config.write_text(profile + style)
        run = craftsync("push", "root", "s3://bucket")
        assert run.code == 0, run.err
        assert "a" in fake.bucket("bucket")
        assert craftsync("pull", "copy", "s3://bucket").code == 0
    assert craftsync.files("copy") == {"a": "content"}


def test_an_unknown_s3_option_of_a_profile_is_named(craftsync: Craftsync, plain: FakeS3) -> None:
    config = craftsync.write("aws-config", "[default]\ns3 =\n  adressing_style = virtual\n")
    run = craftsync("ls", "s3://bucket", AWS_CONFIG_FILE=str(config))
    assert run.code == 78
    assert "adressing_style" in run.err and "Did you mean addressing_style?" in run.err


def test_requester_pays_bucket_needs_its_option(
    craftsync: Craftsync,
) -> None:
    craftsync.write("root/a")
    with fake_s3("requester-pays", "bucket") as (server, fake):
        craftsync.environment |= KEYS | {"AWS_ENDPOINT_URL": server.endpoint}
        refused = craftsync("push", "root", "s3://bucket")
        assert refused.code == 3
        assert "--request-payer" in refused.err
        run = craftsync("push", "--request-payer", "root", "s3://bucket")
        assert run.code == 0, run.err
        assert "a" in fake.bucket("bucket")
        assert craftsync("ls", "s3://bucket", CRAFTSYNC_REQUEST_PAYER="1").code == 0
        craftsync.config.write_text(
            "environments: {paid: {store: s3, bucket: bucket, request_payer: true}}"
        )
        assert craftsync("ls", "paid").lines == craftsync("ls", "--request-payer", "paid").lines


@pytest.mark.parametrize("endpoint", ["localhost:9000", "http//localhost", "http://localhost:x"])
def test_an_endpoint_with_a_typo_exits_78(craftsync: Craftsync, endpoint: str) -> None:
    for words in (["ls", "s3://bucket"], ["push", "root", "s3://bucket"]):
        craftsync.write("root/a")
        run = craftsync(*words, **KEYS, AWS_ENDPOINT_URL=endpoint)
        assert run.code == 78
        assert endpoint in run.err and "Traceback" not in run.err


def test_a_refusal_shows_the_sentence_of_the_server(craftsync: Craftsync, plain: FakeS3) -> None:
    body = b"<Error><Code>UserSuspended</Code><Message>Pay your bill first.</Message></Error>"
    plain.script = lambda _: Answer(403, body)
    run = craftsync("ls", "s3://bucket")
    assert run.code == 3
    assert "UserSuspended: Pay your bill first." in run.err


def test_another_region_is_named_with_its_flag(craftsync: Craftsync, plain: FakeS3) -> None:
    moved = error(301, "PermanentRedirect", ("x-amz-bucket-region", "eu-west-3"))
    plain.script = lambda _: moved
    run = craftsync("ls", "s3://bucket")
    assert run.code == 3
    assert "--region eu-west-3" in run.err


def test_a_new_object_gets_the_content_type_of_its_name(
    craftsync: Craftsync, plain: FakeS3
) -> None:
    expected = {
        "table.csv": "text/csv",
        "page.html": "text/html",
        "packed.csv.gz": "application/gzip",
        "notes.json": "application/json",
        "unknown.parquet0": None,
        "no-name": None,
    }
    for name in expected:
        craftsync.write(f"root/d/{name}")
    assert craftsync("push", "root", "s3://bucket").code == 0
    bucket = plain.bucket("bucket")
    assert {
        name: bucket.get(f"d/{name}").headers.get("content-type") for name in expected
    } == expected


@pytest.mark.parametrize("size", [1, 3 << 20], ids=["small", "in parts"])
def test_edit_keeps_headers_metadata_and_tags_of_others(
    craftsync: Craftsync, plain: FakeS3, size: int
) -> None:
    for name in ("a.txt", "bare.csv"):
        craftsync.write(f"root/{name}")
    assert craftsync("push", "root", "s3://bucket").code == 0
    bucket = plain.bucket("bucket")
    given = replace(
        bucket.get("a.txt"),
        headers={"content-type": "text/x-own", "cache-control": "max-age=60"},
        metadata={**bucket.get("a.txt").metadata, "owner": "somebody else"},
        tags="project=blue&note=a%20b",
    )
    bucket.versions["a.txt"] = [given]
    bucket.versions["bare.csv"] = [replace(bucket.get("bare.csv"), headers={})]
    plain.requests.clear()
    for name in ("a.txt", "bare.csv"):
        craftsync.write(f"root/{name}", "edited" * size)
    assert craftsync("push", "root", "s3://bucket").code == 0
    edited = bucket.get("a.txt")
    assert edited.content == b"edited" * size
    assert edited.headers == given.headers
    assert edited.metadata["owner"] == "somebody else"
    assert edited.metadata["craftsync-operation"] != given.metadata["craftsync-operation"]
    assert dict(parse_qsl(edited.tags)) == {"project": "blue", "note": "a b"}
    assert bucket.get("bare.csv").headers == {"content-type": "text/csv"}
    asked = [r.target for r in plain.requests if r.method == "GET" and "tagging" in r.target]
    assert asked == ["/bucket/a.txt?tagging="]


def test_an_edit_with_a_refused_head_is_that_paths_problem(
    craftsync: Craftsync, plain: FakeS3
) -> None:
    for name in ("a", "b"):
        craftsync.write(f"root/{name}")
    assert craftsync("sync", "root", "s3://bucket").code == 0
    for name in ("a", "b"):
        craftsync.write(f"root/{name}", "edited")

    def refuse(request: Request) -> Answer | None:
        return Answer(403) if (request.method, request.target) == ("HEAD", "/bucket/a") else None

    plain.script = refuse
    run = craftsync("sync", "root", "s3://bucket")
    assert run.code == 1
    assert "a: a was not replaced" in run.err and "s3:GetObject" in run.err
    bucket = plain.bucket("bucket")
    assert (bucket.get("a").content, bucket.get("b").content) == (b"content", b"edited")
    plain.script = None
    assert craftsync("sync", "root", "s3://bucket").code == 0
    assert bucket.get("a").content == b"edited"


def hiding(key: str) -> Callable[[Request], Answer | None]:
    """Return a script by which a server answers 404 to an object that it lists."""

    def script(request: Request) -> Answer | None:
        return error(404, "NoSuchKey") if request.target.endswith(key) else None

    return script


@pytest.mark.parametrize(
    "words",
    [("pull", "copy", "s3://bucket"), ("migrate", "s3://bucket", "./copy")],
    ids=["pull", "migrate"],
)
def test_a_listed_object_that_the_server_does_not_find_is_a_problem(
    craftsync: Craftsync, plain: FakeS3, words: tuple[str, ...]
) -> None:
    craftsync.write("root/a")
    craftsync.write("root/b")
    assert craftsync("push", "root", "s3://bucket").code == 0
    plain.script = hiding("/bucket/a")
    run = craftsync(*words)
    assert run.code == 1
    assert "lists a and answers 404" in run.err + run.text
    assert set(craftsync.files("copy")) == {"b"}


def test_a_listed_object_that_the_server_does_not_find_deletes_nothing(
    craftsync: Craftsync, plain: FakeS3
) -> None:
    for path in ("a", "b", "c"):
        craftsync.write(f"root/{path}")
    assert craftsync("sync", "root", "s3://bucket").code == 0
    craftsync.write("changed", "another content")
    assert craftsync("put", "changed", "s3://bucket", "a").code == 0
    plain.script = hiding("/bucket/a")
    assert craftsync("sync", "root", "s3://bucket").code != 0
    assert set(craftsync.files("root")) == {"a", "b", "c"}


@pytest.fixture
def served(craftsync: Craftsync, request: pytest.FixtureRequest) -> Iterator[FakeS3]:
    """Serve a fake S3 of the personality that the test names."""
    with fake_s3(request.param, "bucket") as (server, fake):
        craftsync.environment |= KEYS | {"AWS_ENDPOINT_URL": server.endpoint}
        yield fake


@pytest.mark.parametrize("served", ["no-etags"], indirect=True)
@pytest.mark.parametrize("size", [1, 3 << 20], ids=["small", "in parts"])
def test_without_etags_two_folders_stay_in_sync(
    craftsync: Craftsync, served: FakeS3, size: int
) -> None:
    for path in ("edited", "deleted", "same"):
        craftsync.write(f"root/{path}", path * size)
    assert craftsync("sync", "root", "s3://bucket").code == 0
    (craftsync.folder / "copy").mkdir()
    assert craftsync("sync", "copy", "s3://bucket").code == 0
    assert craftsync.files("copy") == craftsync.files("root")
    craftsync.write("root/edited", "changed" * size + "!")
    (craftsync.folder / "root/deleted").unlink()
    (craftsync.folder / "root/same").rename(craftsync.folder / "root/renamed")
    run = craftsync("sync", "root", "s3://bucket", "--json")
    assert (run.code, run.summary["uploaded"], run.summary["deleted_remote"]) == (0, 1, 1)
    assert craftsync("sync", "copy", "s3://bucket").code == 0
    assert craftsync.files("copy") == craftsync.files("root")
    for folder in ("root", "copy"):
        again = craftsync("sync", folder, "s3://bucket", "--json")
        assert (again.code, again.summary["unchanged"], again.summary["uploaded"]) == (0, 2, 0)
    kept = {key.rpartition("/")[2] for key in served.bucket("bucket") if "/trash/" in key}
    assert {"edited", "deleted"} <= kept
    assert craftsync("migrate", "s3://bucket", "./target").code == 0
    assert craftsync.files("target") == craftsync.files("root")


@pytest.mark.parametrize("served", ["no-etags"], indirect=True)
def test_doctor_warns_of_a_server_without_etags(craftsync: Craftsync, served: FakeS3) -> None:
    found = {line["name"]: line for line in craftsync("doctor", "s3://bucket", "--json").json[:-1]}
    assert found["s3://bucket: versions"]["level"] == "warning"
    assert found["s3://bucket: conditional replace"]["level"] == "warning"


@pytest.mark.parametrize("served", ["hides-below"], indirect=True)
def test_keys_a_listing_would_hide_are_not_written_or_deleted(
    craftsync: Craftsync, served: FakeS3
) -> None:
    craftsync.write("other/a")
    assert craftsync("push", "other", "s3://bucket").code == 0
    for path in ("a/below/file", "b"):
        craftsync.write(f"root/{path}")
    for _ in range(2):
        run = craftsync("push", "root", "s3://bucket")
        assert run.code == 1
        assert "a/below/file cannot be stored: a file and a folder share its path" in run.err
        assert "a/below/file" not in served.bucket("bucket")
        assert craftsync.files("root") == {"a/below/file": "content", "b": "content"}


@pytest.mark.parametrize("served", ["hides-below"], indirect=True)
def test_file_becoming_a_folder_syncs_where_listings_hide_below(
    craftsync: Craftsync, served: FakeS3
) -> None:
    craftsync.write("root/a")
    for path in ("a/below", "a"):
        assert craftsync("sync", "root", "s3://bucket").code == 0
        top = craftsync.folder / "root/a"
        if top.is_dir():
            (top / "below").unlink()
            top.rmdir()
        else:
            top.unlink()
        craftsync.write(f"root/{path}", path)
    assert craftsync("sync", "root", "s3://bucket").code == 0
    assert {key for key in served.bucket("bucket") if not key.startswith(".craftsync/")} == {"a"}
