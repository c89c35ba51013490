"""Stores of which one lies in the other although the words for them do not show it: refused, and nothing is touched."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from tests.support.cli import Craftsync
from tests.support.servers import S3Server
from tests.support.serving import serving

OBJECTS = ("f", "sub/f", "sub/g")


@pytest.fixture
def server(moto: S3Server) -> S3Server:
    return moto


@pytest.fixture
def bucket(server: S3Server, craftsync: Craftsync) -> Iterator[Any]:
    """A bucket with objects, emptied before each test."""
    craftsync.environment |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    resource = boto3.resource(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id="a",
        aws_secret_access_key="b",
        region_name="us-east-1",
    )
    bucket = resource.create_bucket(Bucket="nested")
    bucket.objects.delete()
    for key in OBJECTS:
        bucket.put_object(Key=key, Body=key.encode())
    yield bucket
    resource.meta.client.close()


def aliased(server: S3Server) -> tuple[str, ...]:
    """Words that name one server differently for source and target."""
    other = server.endpoint.replace("127.0.0.1", "localhost")
    return "--source-endpoint-url", server.endpoint, "--endpoint-url", other


def keys(bucket: Any) -> set[str]:
    return {found.key for found in bucket.objects.all()}


def test_target_inside_the_source_is_detected_under_another_host_name(
    craftsync: Craftsync, server: S3Server, bucket: Any
) -> None:
    run = craftsync("migrate", *aliased(server), "s3://nested", "s3://nested/sub")
    assert run.code == 2
    assert "The source s3://nested contains the target s3://nested/sub (as sub/)" in run.err
    assert keys(bucket) - {"sub/.craftsync/store-id"} == set(OBJECTS)


@pytest.mark.parametrize("words", [(), ("--delete",)])
def test_source_inside_the_target_is_detected_under_another_host_name(
    craftsync: Craftsync, server: S3Server, bucket: Any, words: tuple[str, ...]
) -> None:
    run = craftsync("migrate", *words, *aliased(server), "s3://nested/sub", "s3://nested")
    assert run.code == 2
    assert "The source s3://nested/sub lies inside the target s3://nested (as sub/)" in run.err
    assert keys(bucket) - {".craftsync/store-id"} == set(OBJECTS)


def test_copied_source_identity_inside_the_target_is_not_the_source(
    craftsync: Craftsync, server: S3Server, bucket: Any
) -> None:
    words = "--endpoint-url", server.endpoint
    assert craftsync("migrate", *words, "s3://nested/sub", "./new/sub").code == 0
    run = craftsync("migrate", *words, "s3://nested/sub", "./new")
    assert (run.code, set(craftsync.files("new"))) == (0, {"f", "g", "sub/f", "sub/g"})


def test_folder_inside_the_served_one_is_rejected_as_target(craftsync: Craftsync) -> None:
    for path in OBJECTS:
        craftsync.write(f"served/{path}")
    with serving(craftsync.folder / "served") as server:
        craftsync.environment |= server.variables
        run = craftsync("migrate", "craft-ai://", "./served/sub")
    assert (run.code, "contains the target" in run.err) == (2, True)
    assert set(craftsync.files("served")) == set(OBJECTS)


def test_excluded_folder_may_contain_the_target(
    craftsync: Craftsync, server: S3Server, bucket: Any
) -> None:
    words = ("--exclude", "/sub/", *aliased(server))
    run = craftsync("migrate", *words, "s3://nested", "s3://nested/sub/new")
    assert run.code == 0, run.err
    assert {"sub/new/f", *OBJECTS} <= keys(bucket)
    assert "sub/new/sub/f" not in keys(bucket)


def test_craftsync_folders_of_nested_stores_are_not_migrated(craftsync: Craftsync) -> None:
    craftsync.write("root/kept")
    craftsync.write("root/deleted")
    assert craftsync("push", "root", "./env/models").code == 0
    (craftsync.folder / "root/deleted").unlink()
    assert craftsync("push", "root", "./env/models", "--delete").code == 0
    run = craftsync("migrate", "./env", "./copy", "--json")
    assert (run.code, run.summary["skipped"]) == (0, 0)
    assert list(craftsync.files("copy")) == ["models/kept"]
    assert not (craftsync.folder / "copy/models/.craftsync").exists()


def test_check_omits_craftsync_folders_of_nested_stores(
    craftsync: Craftsync,
) -> None:
    craftsync.write("root/kept")
    assert craftsync("push", "root", "./env/models").code == 0
    assert craftsync("migrate", "./env", "./copy").code == 0
    assert craftsync("check", "./env", "./copy").code == 0
    assert craftsync("pull", "mirror", "./env").code == 0
    assert list(craftsync.files("mirror")) == ["models/kept"]
    assert not (craftsync.folder / "mirror/models/.craftsync").exists()
