"""Where a bucket keeps versions in place of the trash, what went is brought back from them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import pytest

from tests.support.cli import Craftsync
from tests.support.fake_s3 import Answer, Request, error
from tests.support.s3 import FakeS3, fake_s3
from tests.support.servers import ACCESS_KEY, SECRET_KEY

KEYS = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
PAIR = ("--root", "root", "--store", "s3://bucket/p")


@pytest.fixture
def bucket(craftsync: Craftsync) -> Iterator[FakeS3]:
    """Serve a bucket that keeps versions, of which three make a page of their list.

    Each is made in a second of its own, for S3 tells no less.
    """
    seconds = itertools.count(time.time_ns(), 10**9)
    with fake_s3("versioned", "bucket", clock=lambda: next(seconds)) as (server, fake):
        fake.most_listed = 3
        craftsync.environment |= KEYS | {"AWS_ENDPOINT_URL": server.endpoint}
        yield fake


def sync(craftsync: Craftsync, *words: str) -> int:
    return craftsync("sync", "root", "s3://bucket/p", *words).code


def unlisted(request: Request) -> Answer | None:
    """Refuse the list of versions, as a policy without s3:ListBucketVersions does."""
    return error(403, "AccessDenied") if "versions" in request.target.partition("?")[2] else None


def event(craftsync: Craftsync) -> None:
    """Lose files in two runs, the second of which is held."""
    for number in range(40):
        craftsync.write(f"root/{number:02}", f"content of {number:02}")
    assert sync(craftsync) == 0
    for first, last in ((0, 15), (15, 27)):
        for number in range(first, last):
            (craftsync.folder / f"root/{number:02}").unlink()
        sync(craftsync)


def test_a_rejected_delete_comes_back_from_the_versions_of_the_bucket(
    craftsync: Craftsync, bucket: FakeS3
) -> None:
    event(craftsync)
    rejected = craftsync("deletes", "reject", "--all", *PAIR)
    assert rejected.code == 0, rejected.err + rejected.text
    assert craftsync.files("root") == {f"{n:02}": f"content of {n:02}" for n in range(40)}
    assert sync(craftsync) == 0
    assert {f"p/{n:02}" for n in range(40)} <= set(bucket.bucket("bucket"))


def test_replaced_and_deleted_objects_are_listed_and_restored(
    craftsync: Craftsync, bucket: FakeS3
) -> None:
    for path in ("a", "a b", "d/été", "gone", "stays"):
        craftsync.write(f"root/{path}", f"old {path}")
    assert sync(craftsync) == 0
    for path in ("a", "a b", "d/été"):
        craftsync.write(f"root/{path}", f"newer {path}")
    (craftsync.folder / "root/gone").unlink()
    assert sync(craftsync) == 0
    rows = craftsync("trash", "list", "--json", *PAIR).json
    assert sorted(row["path"] for row in rows) == ["a", "a b", "d/été", "gone"]
    assert all(row["side"] == "store" and row["version_id"] for row in rows)
    assert "aws s3api" not in craftsync("trash", "list", *PAIR).text
    run = craftsync("trash", "restore", "gone", "d", "a", "--overwrite", *PAIR)
    assert run.code == 0, run.err
    restored = {"a": "old a", "a b": "newer a b", "d/été": "old d/été", "gone": "old gone"}
    assert craftsync.files("root") == {**restored, "stays": "old stays"}
    assert craftsync("trash", "restore", "never", *PAIR).code == 2


def test_restore_takes_the_newest_version_or_that_of_a_time(
    craftsync: Craftsync, bucket: FakeS3
) -> None:
    for content in ("1", "2", "3", "4"):
        craftsync.write("root/a", content)
        assert sync(craftsync) == 0
    rows = craftsync("trash", "list", "a", "--json", *PAIR).json
    assert len(rows) == 3
    for row, content in zip(rows, ("3", "2", "1"), strict=True):
        words = ("trash", "restore", "a", "--overwrite", "--at", row["stamp"], *PAIR)
        assert craftsync(*words).code == 0
        assert craftsync.files("root") == {"a": content}


def test_undo_of_a_run_restores_exactly_the_versions_it_replaced(
    craftsync: Craftsync, bucket: FakeS3
) -> None:
    for content in ("old", "newer"):
        craftsync.write("root/a", content)
        craftsync.write("root/b", content)
        assert sync(craftsync) == 0
    craftsync.write("other", "newer")
    craftsync("put", "other", "s3://bucket/p", "b")
    assert craftsync("trash", "restore", "--run", "2", "-n", *PAIR).code == 0
    assert craftsync("trash", "restore", "--run", "2", *PAIR).code == 0
    assert craftsync.files("root") == {"a": "old", "b": "old"}


def test_a_purge_touches_no_version_of_the_bucket(craftsync: Craftsync, bucket: FakeS3) -> None:
    for content in ("old", "newer"):
        craftsync.write("root/a", content)
        assert sync(craftsync) == 0
    assert craftsync("trash", "purge", "-n", "--older-than", "0", *PAIR).lines == []
    assert craftsync("trash", "purge", "--older-than", "0", *PAIR).text == "0 versions removed\n"
    assert len(bucket.bucket("bucket").versions["p/a"]) == 2


def test_unlistable_versions_error_prints_the_command_that_lists_them(
    craftsync: Craftsync, bucket: FakeS3
) -> None:
    event(craftsync)
    bucket.script = unlisted
    rejected = craftsync("deletes", "reject", "--all", *PAIR)
    assert rejected.code == 1
    assert "--bucket bucket --key p/00 --version-id" in rejected.err + rejected.text
    listed = craftsync("deletes", "list", *PAIR).text
    assert "rejected, but not restored" in listed and "  14 (" in listed
    assert (
        "list-object-versions --bucket bucket --prefix p" in craftsync("trash", "list", *PAIR).text
    )
    restored = craftsync("trash", "restore", "00", *PAIR)
    assert restored.code == 2 and "--key p/00 --version-id" in restored.err
    bucket.script = None
    assert craftsync("deletes", "reject", "--all", *PAIR).code == 0
    assert len(craftsync.files("root")) == 40
