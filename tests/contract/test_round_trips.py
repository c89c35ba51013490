"""What changes cost in requests and in waits one after the other is what docs/benchmarks.md says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import craftsync
from craftsync.errors import StoreChanged, StoreError
from tests.contract.conftest import BUCKET
from tests.support.fake_s3 import Answer, Request, error, proxied
from tests.support.platform import faulty_platform
from tests.support.round_trips import DOCUMENT, TABLES, documented, table
from tests.support.s3 import fake_s3
from tests.support.servers import S3Server


@pytest.mark.parametrize("name", TABLES)
def test_round_trips_of_each_change_are_those_documented(name: str) -> None:
    assert table(name) == documented(name, DOCUMENT.read_text("utf-8")), "make round-trips"


def test_listing_of_another_bucket_deletes_nothing_in_the_folder(
    use_keys_of: Callable[[S3Server], None], tmp_path: Path
) -> None:
    root, state = tmp_path / "root", tmp_path / "state"
    root.mkdir()
    for name in "ab":
        (root / name).write_text(name)
    with fake_s3("plain", BUCKET) as (server, fake):
        use_keys_of(server)
        options = {"endpoint_url": server.endpoint, "state_dir": state}
        craftsync.sync(root, f"s3://{BUCKET}", **options)
        del fake.buckets[BUCKET]
        fake.bucket(BUCKET)
        (root / "c").write_text("c")
        for run in (craftsync.push, craftsync.pull, craftsync.sync):
            with pytest.raises(StoreChanged, match="has no identity file"):
                run(root, f"s3://{BUCKET}", delete=True, force_delete=True, **options)
        assert not fake.bucket(BUCKET).versions
    assert sorted(path.name for path in root.iterdir()) == [".craftsync", "a", "b", "c"]


def test_nothing_is_recorded_before_the_identity_file_is_written(
    use_keys_of: Callable[[S3Server], None], tmp_path: Path
) -> None:
    root, refuses = tmp_path / "root", True
    root.mkdir()
    (root / "a").write_text("a")

    def script(request: Request) -> Answer | None:
        is_identity = request.method == "PUT" and request.target.endswith("store-id")
        return error(400, "InvalidRequest") if refuses and is_identity else None

    with fake_s3("plain", BUCKET) as (behind, fake), proxied(behind, script) as (server, _):
        use_keys_of(server)
        options = {"endpoint_url": server.endpoint, "state_dir": tmp_path / "state"}
        with pytest.raises(StoreError):
            craftsync.sync(root, f"s3://{BUCKET}", **options)
        assert "a" in fake.bucket(BUCKET).versions, "it was on its way already"
        del fake.buckets[BUCKET]
        fake.bucket(BUCKET)
        refuses = False
        assert craftsync.sync(root, f"s3://{BUCKET}", **options).uploaded == 1
    assert (root / "a").read_text() == "a", "recorded, its absence would be a delete"


def test_environment_with_another_identity_file_of_like_size_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a").write_text("a")
    with faulty_platform() as platform:
        monkeypatch.setenv("CRAFT_AI_ENVIRONMENT_URL", platform.url)
        monkeypatch.setenv("CRAFT_AI_CONTROL_URL", platform.url)
        monkeypatch.setenv("CRAFT_AI_SDK_TOKEN", platform.token)
        for _ in range(3):
            craftsync.sync(root, "craft-ai://", state_dir=tmp_path / "state")
        platform.put(".craftsync/store-id", b"f" * 32)
        with pytest.raises(StoreChanged, match="is not the store of the last run"):
            craftsync.sync(root, "craft-ai://", state_dir=tmp_path / "state")
