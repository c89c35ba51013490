"""What an object in S3 gets besides its content: type, storage class, encryption."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cli import Craftsync, until
from tests.support.fake_s3 import Answer
from tests.support.s3 import FakeS3, fake_s3
from tests.support.s3.bucket import Stored
from tests.support.servers import ACCESS_KEY, SECRET_KEY

STORE = "s3://bucket"
KEY = "arn:aws:kms:eu-west-3:111122223333:key/mine"
KMS = ("--sse", f"aws:kms:{KEY}")
ENCRYPTION = "x-amz-server-side-encryption"
LARGE = "x" * (17 << 20)
"""More than is ever sent in one piece."""


@pytest.fixture
def fake(craftsync: Craftsync) -> Iterator[FakeS3]:
    with fake_s3("plain", "bucket") as (server, fake):
        craftsync.environment |= {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_ENDPOINT_URL": server.endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        yield fake


def ok(craftsync: Craftsync, *words: str) -> dict[str, int]:
    run = craftsync(*words, "--json")
    assert run.code == 0, run.err
    return run.summary


def objects(fake: FakeS3) -> dict[str, Stored]:
    bucket = fake.bucket("bucket")
    return {key: bucket.get(key) for key in bucket}


def test_every_kind_of_write_applies_sse(craftsync: Craftsync, fake: FakeS3) -> None:
    craftsync.write("data/small", "one")
    craftsync.write("data/large", LARGE)
    ok(craftsync, "sync", *KMS, "data", STORE)
    craftsync.write("data/small", "two, longer")
    (craftsync.folder / "data/large").rename(craftsync.folder / "data/moved")
    summary = ok(craftsync, "sync", *KMS, "data", STORE)
    assert (summary["uploaded"], summary["moved"]) == (1, 1)
    found = objects(fake)
    assert {key for key in found if not key.startswith(".craftsync/")} == {"small", "moved"}
    assert any(key.startswith(".craftsync/trash/") for key in found)
    assert {stored.encryption for stored in found.values()} == {"aws:kms"}
    sent = [request.headers for request in fake.requests if ENCRYPTION in request.headers]
    assert {headers[f"{ENCRYPTION}-aws-kms-key-id"] for headers in sent} == {KEY}


def test_upload_under_kms_is_in_sync_and_known_again_without_state(
    craftsync: Craftsync, fake: FakeS3
) -> None:
    craftsync.write("data/a", "one")
    ok(craftsync, "sync", "data", STORE)  # The facts say: an ETag is an MD5.
    craftsync.write("data/a", "two, longer")
    craftsync.write("data/b", "new")
    ok(craftsync, "sync", *KMS, "data", STORE)
    assert ok(craftsync, "sync", *KMS, "data", STORE)["unchanged"] == 2
    assert craftsync("check", "data", STORE).code == 0
    again = ok(craftsync, "sync", *KMS, "--state-dir", str(craftsync.folder / "new"), "data", STORE)
    assert (again["adopted"], again["conflicts"], again["uploaded"]) == (2, 0, 0)


def test_a_server_that_ignores_sse_is_named_and_nothing_is_uploaded(
    craftsync: Craftsync, fake: FakeS3
) -> None:
    craftsync.write("data/a")

    def silent(answer: Answer) -> Answer:
        kept = [pair for pair in answer.headers if pair[0] != ENCRYPTION]
        return answer._replace(headers=tuple(kept))

    fake.script = lambda _: silent
    run = craftsync("push", "--sse", "AES256", "data", STORE)
    assert run.code != 0
    assert "does not encrypt with AES256" in run.err and "--sse" in run.err
    assert "a" not in objects(fake)


def test_storage_class_and_type_are_those_of_the_environment(
    craftsync: Craftsync, fake: FakeS3
) -> None:
    craftsync.config.write_text(
        "environments: {cold: {store: s3, bucket: bucket, storage_class: STANDARD_IA,"
        " content_type: text/x-log, sse: AES256}}"
    )
    craftsync.write("data/a.csv", "one")
    craftsync.write("data/large", LARGE)
    ok(craftsync, "push", "data", "cold")
    (craftsync.folder / "data/a.csv").rename(craftsync.folder / "data/b.csv")
    ok(craftsync, "sync", "data", "cold")
    assert craftsync("put", "data/b.csv", "cold", "c.csv").code == 0
    assert craftsync("put", "--storage-class", "ONEZONE_IA", "data/b.csv", "cold", "d").code == 0
    found = {key: one for key, one in objects(fake).items() if not key.startswith(".craftsync/")}
    classes = {key: stored.storage_class for key, stored in found.items()}
    usual = dict.fromkeys(("b.csv", "large", "c.csv"), "STANDARD_IA")
    assert classes == {**usual, "d": "ONEZONE_IA"}
    assert {stored.headers["content-type"] for stored in found.values()} == {"text/x-log"}
    assert {stored.encryption for stored in found.values()} == {"AES256"}


def test_an_object_migrated_from_a_folder_gets_a_type_by_its_name(
    craftsync: Craftsync, fake: FakeS3
) -> None:
    craftsync.write("old/a.csv")
    ok(craftsync, "migrate", "--sse", "AES256", "--storage-class", "STANDARD_IA", "./old", STORE)
    stored = objects(fake)["a.csv"]
    assert stored.headers["content-type"] == "text/csv"
    assert (stored.storage_class, stored.encryption) == ("STANDARD_IA", "AES256")


@pytest.mark.parametrize(
    "words",
    [
        ("push", "--sse", "AES256", "data", "./store"),
        ("sync", "--storage-class", "STANDARD_IA", "data", "dev"),
        ("put", "--content-type", "text/csv", "data/a", "dev", "a"),
        ("migrate", "--sse", "aws:kms", "./data", "./store"),
    ],
)
def test_a_store_outside_s3_refuses_storage_class_and_encryption(
    craftsync: Craftsync, words: tuple[str, ...]
) -> None:
    craftsync.config.write_text(
        "environments: {dev: {store: craft-ai, url: 'https://x.craft.ai', token_env: TOKEN}}"
    )
    craftsync.write("data/a")
    run = craftsync(*words)
    assert run.code == 2
    assert words[1] in run.err and "does not support it" in run.err
    assert not (craftsync.folder / "store").exists()


@pytest.mark.parametrize(
    "words", [("--sse", "AES128"), ("--storage-class", "source"), ("--content-type", "csv")]
)
def test_an_invalid_storage_class_or_encryption_exits_2(
    craftsync: Craftsync, words: tuple[str, str]
) -> None:
    craftsync.write("data/a")
    run = craftsync("push", *words, "data", STORE)
    assert run.code == 2
    assert f"{words[0]}: {words[1]!r}" in run.err


def test_an_upload_begun_without_encryption_is_not_resumed_with_it(
    craftsync: Craftsync, fake: FakeS3
) -> None:
    craftsync.write("data/a", LARGE)
    uploads = fake.bucket("bucket").uploads

    def has_a_part() -> bool:
        return any(upload.key == "a" and upload.parts for upload in list(uploads.values()))

    process = craftsync.start("push", "--bwlimit", "4M", "data", STORE)
    until(has_a_part, "the first part")
    process.kill()
    process.communicate()
    ok(craftsync, "push", "--sse", "AES256", "data", STORE)
    stored = objects(fake)["a"]
    assert (stored.encryption, len(stored.content)) == ("AES256", len(LARGE))
    assert not uploads


def test_copies_by_the_server_get_the_calls_storage_class_and_encryption(
    craftsync: Craftsync, fake: FakeS3
) -> None:
    fake.bucket("other")
    for name, content in (("small", "one"), ("large", LARGE)):
        craftsync.write(name, content)
        place = (f"{STORE}/{name}", "--store", STORE)
        assert craftsync("put", name, *place).code == 0
    asked = ("--storage-class", "STANDARD_IA", "--sse", "AES256")
    stores = ("--store", STORE, "--store", "s3://other")
    for words in (
        ("cp", f"{STORE}/small", f"{STORE}/copied"),
        ("cp", f"{STORE}/large", f"{STORE}/copied-large"),
        ("mv", f"{STORE}/copied", f"{STORE}/moved"),
        ("cp", f"{STORE}/small", "s3://other/small"),
        ("cp", f"{STORE}/large", "s3://other/large"),
        ("mv", "s3://other/small", "s3://other/moved"),
    ):
        fake.requests.clear()
        run = craftsync(*words, *asked, *stores)
        assert run.code == 0, run.err
        assert any("x-amz-copy-source" in request.headers for request in fake.requests)
    mine, others = objects(fake), fake.bucket("other")
    copies = [mine["copied-large"], mine["moved"], others.get("moved"), others.get("large")]
    assert [stored.storage_class for stored in copies] == ["STANDARD_IA"] * 4
    assert [stored.encryption for stored in copies] == ["AES256"] * 4
