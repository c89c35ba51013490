"""Runs against kinds of S3 servers that once led to untrue answers, by the installed program."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.cli import Craftsync, Run
from tests.support.fake_s3 import Answer, Request
from tests.support.plans import as_older_versions_wrote_it
from tests.support.s3 import PERSONALITIES, FakeS3, fake_s3
from tests.support.servers import ACCESS_KEY, SECRET_KEY

BUCKET = "bucket"
STORE = f"s3://{BUCKET}"
LARGE = 17 << 20


@pytest.fixture
def fake(craftsync: Craftsync) -> Iterator[FakeS3]:
    with fake_s3("plain", BUCKET) as (server, fake):
        craftsync.environment |= {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_ENDPOINT_URL": server.endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        yield fake


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a").write_text("one")
    return tmp_path / "root"


def held(fake: FakeS3, key: str) -> bytes | None:
    stored = fake.bucket(BUCKET).current(key)
    return stored.content if stored else None


def trash(fake: FakeS3) -> list[str]:
    return [key for key in fake.bucket(BUCKET) if key.startswith(".craftsync/trash/")]


def succeeded(run: Run) -> None:
    assert run.code == 0, run.err


def test_an_edited_file_replaces_its_object_on_ceph(
    craftsync: Craftsync, fake: FakeS3, root: Path
) -> None:
    fake.personality = PERSONALITIES["ceph-16"]
    succeeded(craftsync("sync", str(root), STORE))
    (root / "a").write_text("two, longer")
    succeeded(craftsync("sync", str(root), STORE))
    assert held(fake, "a") == b"two, longer"
    assert len(trash(fake)) == 1
    (root / "a").unlink()
    succeeded(craftsync("sync", str(root), STORE))
    assert held(fake, "a") is None


def test_delete_is_synced_although_a_listing_lags(
    craftsync: Craftsync, fake: FakeS3, root: Path
) -> None:
    """The listing lacks the object, so the run takes it for gone from both sides until a stat finds it."""
    fake.personality = replace(PERSONALITIES["plain"], listing_lags=True)
    succeeded(craftsync("sync", str(root), STORE))
    (root / "a").unlink()
    run = craftsync("sync", "--json", str(root), STORE)
    succeeded(run)
    assert (run.summary["deleted_remote"], run.summary["downloaded"]) == (1, 0)
    assert held(fake, "a") is None
    assert not (root / "a").exists()


def test_rename_onto_an_object_in_an_old_plan_replaces_nothing(
    craftsync: Craftsync, fake: FakeS3, root: Path
) -> None:
    fake.personality = PERSONALITIES["ignores-conditions"]
    succeeded(craftsync("sync", str(root), STORE))
    (root / "a").rename(root / "new")
    succeeded(craftsync("put", "-", f"{STORE}/new", stdin=b"another client's"))
    plan = craftsync("plan", "--mode", "push", "--delete", str(root), STORE)
    run = craftsync("apply", "-", "--json", stdin=as_older_versions_wrote_it(plan))
    assert (run.code, run.summary["skipped"]) == (6, 1), run.err
    assert (held(fake, "a"), held(fake, "new")) == (b"one", b"another client's")


def test_repeatedly_refused_replacement_leaves_no_trash(
    craftsync: Craftsync, fake: FakeS3, root: Path
) -> None:
    succeeded(craftsync("sync", str(root), STORE))
    (root / "a").write_text("two, longer")

    def refuse(request: Request) -> Answer | None:
        copies = any(name.lower() == "x-amz-copy-source" for name in request.headers)
        hit = request.method == "PUT" and request.target.endswith(f"/{BUCKET}/a") and not copies
        return Answer(403, b"<Error><Code>AccessDenied</Code></Error>") if hit else None

    fake.script = refuse
    for _ in range(3):
        assert craftsync("sync", str(root), STORE).code == 1
    assert trash(fake) == []
    assert held(fake, "a") == b"one"


@pytest.mark.parametrize("named", [True, False], ids=["named in answers", "not named"])
def test_a_bucket_that_becomes_sse_kms_keeps_two_folders_in_sync(
    craftsync: Craftsync, fake: FakeS3, root: Path, tmp_path: Path, named: bool
) -> None:
    def both() -> None:
        succeeded(craftsync("sync", str(root), STORE))
        other = ("sync", "--state-dir", str(tmp_path / "other-state"), str(tmp_path / "other"))
        succeeded(craftsync(*other, STORE))

    (tmp_path / "other").mkdir()
    both()
    plain = fake.personality
    fake.personality = PERSONALITIES["kms"] if named else replace(plain, etags="random")
    (root / "a").write_text("two, longer")
    (root / "new").write_text("new")
    both()
    both()
    for folder in (root, tmp_path / "other"):
        names = sorted(path.name for path in folder.iterdir() if path.name != ".craftsync")
        assert names == ["a", "new"]
        assert (folder / "a").read_text() == "two, longer"


@pytest.mark.parametrize("size", [5, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("kind", ["named in answers", "not named", "of one object alone"])
def test_equal_content_under_a_non_md5_etag_makes_no_conflict(
    craftsync: Craftsync, fake: FakeS3, root: Path, kind: str, size: int
) -> None:
    succeeded(craftsync("sync", str(root), STORE))
    plain = fake.personality
    random = replace(plain, etags="random")
    content = bytes(range(251)) * (size // 251) + b"the end"
    (root / "b").write_bytes(content)
    bucket = fake.bucket(BUCKET)
    fake.personality = PERSONALITIES["kms"] if kind == "named in answers" else random
    bucket.put(fake.personality, "b", bucket.described(fake.personality, content))
    if kind == "of one object alone":
        fake.personality = plain
    assert craftsync("check", str(root), STORE).code == 0
    run = craftsync("sync", str(root), STORE)
    assert run.code == 0, run.err
    assert sorted(path.name for path in root.iterdir()) == [".craftsync", "a", "b"]


@pytest.mark.parametrize("at", [0, LARGE - 1], ids=["first byte", "last byte"])
def test_a_large_object_that_differs_in_one_byte_is_a_conflict(
    craftsync: Craftsync, fake: FakeS3, root: Path, at: int
) -> None:
    succeeded(craftsync("sync", str(root), STORE))
    (root / "b").write_bytes(bytes(LARGE))
    content = bytearray(LARGE)
    content[at] = 1
    bucket = fake.bucket(BUCKET)
    bucket.put(fake.personality, "b", bucket.described(fake.personality, bytes(content)))
    assert craftsync("check", str(root), STORE).code == 1
    assert craftsync("sync", str(root), STORE).code == 4
    assert len([path for path in root.iterdir() if path.name.startswith("b")]) == 2


def test_damaged_download_is_rejected_and_others_continue(
    craftsync: Craftsync, fake: FakeS3, root: Path
) -> None:
    succeeded(craftsync("sync", str(root), STORE))
    bucket = fake.bucket(BUCKET)
    for name in ("damaged", "intact"):
        bucket.put(fake.personality, name, bucket.described(fake.personality, b"content"))

    def damage(request: Request) -> Answer | None:
        if request.method != "GET" or not request.target.endswith(f"/{BUCKET}/damaged"):
            return None
        etag = bucket.get("damaged").etag
        return Answer(200, b"CONTENT", (("ETag", f'"{etag}"'),))

    fake.script = damage
    run = craftsync("sync", str(root), STORE)
    assert run.code == 1 and "damaged" in run.err
    assert not (root / "damaged").exists()
    assert (root / "intact").read_text() == "content"


def test_upload_answered_by_a_login_page_is_reported(
    craftsync: Craftsync, fake: FakeS3, root: Path
) -> None:
    succeeded(craftsync("sync", str(root), STORE))
    (root / "b").write_text("my only copy")

    def portal(request: Request) -> Answer | None:
        hit = request.method == "PUT" and request.target.endswith(f"/{BUCKET}/b")
        return Answer(200, b"<html>please log in</html>") if hit else None

    fake.script = portal
    for _ in range(2):
        assert craftsync("sync", str(root), STORE).code != 0
        assert (root / "b").read_text() == "my only copy"
    fake.script = None
    succeeded(craftsync("sync", str(root), STORE))
    assert held(fake, "b") == b"my only copy"
