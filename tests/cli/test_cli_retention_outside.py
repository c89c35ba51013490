"""Whatever command puts a version into the trash, retention bounds it."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from craftsync import DataStore
from craftsync.state.history import KeptVersion, Outside
from tests.cli.test_cli_serve import sdk_of
from tests.support.cli import Craftsync
from tests.support.fake_s3 import Answer, Drop, error, failing, proxied
from tests.support.s3 import fake_s3
from tests.support.servers import S3Server
from tests.support.serving import serving

PAIR = ("--root", "data", "--store", "./store")


@pytest.fixture
def linked(craftsync: Craftsync) -> Craftsync:
    """A folder in sync with a store; nothing is in either trash."""
    for path in ("a", "b", "c"):
        craftsync.write(f"data/{path}", f"old {path}")
    assert craftsync("sync", "data", "./store").code == 0
    return craftsync


def assert_bounded(craftsync: Craftsync, *replaced: str, deleted: Collection[str] = ()) -> None:
    """Check that these are in the trash, that all of it counts as this client's, and that a bound removes it.

    Deletes that the next run carries to the other side stay for as long as their event lasts.
    """
    assert {*replaced, *deleted} <= {entry["path"] for entry in listed(craftsync)}
    assert craftsync("sync", "data", "./store").code == 0
    found = listed(craftsync)
    assert counted(craftsync) == (len(found), sum(entry["size"] for entry in found))
    craftsync.config.write_text("trash: {max_size: 1}\n")
    assert craftsync("sync", "data", "./store").code == 0
    left = listed(craftsync)
    assert {entry["path"] for entry in left} == set(deleted)
    assert counted(craftsync) == (len(left), sum(entry["size"] for entry in left))


def listed(craftsync: Craftsync) -> list[dict[str, Any]]:
    return craftsync("trash", "list", "--json", *PAIR).json


def counted(craftsync: Craftsync) -> tuple[int, int]:
    (status,) = craftsync("status", "--json", "data", "./store").json
    return status["trash"]["files"], status["trash"]["bytes"]


@pytest.mark.parametrize("keep", ["local", "remote"])
def test_retention_covers_resolved_conflicts(linked: Craftsync, keep: str) -> None:
    linked.write("data/a", "mine")
    linked.write("store/a", "theirs")
    assert linked("sync", "data", "./store").code == 4
    (copy,) = (path for path in linked.files("data") if "conflict" in path)
    assert linked("conflicts", "resolve", "data/a", "--keep", keep).code == 0
    assert_bounded(linked, "a", deleted=[copy])


def test_retention_covers_approved_and_rejected_deletes(
    linked: Craftsync,
) -> None:
    for path in ("a", "b", "c"):
        (linked.folder / "data" / path).unlink()
    assert linked("sync", "data", "./store").code == 7
    assert linked("deletes", "reject", "c", *PAIR).code == 0
    assert linked("deletes", "approve", "--all", *PAIR).code == 0
    assert_bounded(linked, "a", "b")


def test_retention_covers_put_and_rm(linked: Craftsync) -> None:
    linked.write("new", "newer a")
    assert linked("put", "new", "./store", "a").code == 0
    assert linked("put", "new", "./store", "created").code == 0
    assert linked("rm", "./store", "b").code == 0
    assert counted(linked) == (2, 10)
    assert_bounded(linked, "a", deleted=["b"])


def test_retention_covers_the_python_data_store(linked: Craftsync) -> None:
    state = linked.folder / "state"
    with DataStore(linked.folder / "store", config=linked.config, state_dir=state) as store:
        store.upload_data_store_object(linked.write("new", "newer a"), "a")
        store.delete_data_store_object("b")
        store.delete_data_store_object("never there")
    assert_bounded(linked, "a", deleted=["b"])


def test_retention_covers_migrate_targets(linked: Craftsync) -> None:
    linked.write("source/a", "first")
    linked.write("source/more", "first")
    assert linked("migrate", "./source", "./store").code == 0
    (linked.folder / "source/more").unlink()
    assert linked("migrate", "./source", "./store", "--delete", "--force-delete").code == 0
    assert_bounded(linked, "a", "more", deleted=["b", "c"])


def test_retention_covers_served_stores(linked: Craftsync) -> None:
    state = str(linked.folder / "state")
    with (
        serving(linked.folder / "store", CRAFTSYNC_STATE_DIR=state) as server,
        sdk_of(server) as sdk,
    ):
        sdk.upload_data_store_object(str(linked.write("new", "newer a")), "a")
        sdk.delete_data_store_object("b")
    assert_bounded(linked, "a", deleted=["b"])


def test_retention_covers_restores(linked: Craftsync) -> None:
    linked.write("store/a", "newer a")
    assert linked("sync", "data", "./store").code == 0
    assert linked("trash", "restore", "a", "--overwrite", *PAIR).code == 0
    assert_bounded(linked, "a")


@pytest.mark.parametrize("recorded", ["apart", "by an earlier version"])
def test_retention_does_not_count_another_endpoints_trash(
    craftsync: Craftsync, moto: S3Server, rclone: S3Server, recorded: str
) -> None:
    bucket = f"same-{recorded[0]}"
    environments = {}
    for server in (moto, rclone):
        server.make_bucket(bucket)
        environments[server.name] = {
            "store": "s3",
            "bucket": bucket,
            "endpoint_url": server.endpoint,
        }
    trash = {"keep": "30d", "max_size": "1K", "store": "all"}
    craftsync.config.write_text(json.dumps({"environments": environments, "trash": trash}))
    craftsync.environment |= {
        "AWS_ACCESS_KEY_ID": rclone.access_key,
        "AWS_SECRET_ACCESS_KEY": rclone.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for server in (moto, rclone):
        assert craftsync("put", "-", f"{server.name}:big", stdin=b"x" * 700).code == 0
        assert craftsync("rm", f"{server.name}:big").code == 0
    if recorded != "apart":
        records = list((craftsync.folder / "state/outside").iterdir())
        both = b"".join(file.read_bytes() for file in records)
        for file in records:
            file.unlink()
        old = Outside(craftsync.folder / "state", f"s3://{bucket}")
        old.note([VERSION], 5)
        (file,) = (craftsync.folder / "state/outside").iterdir()
        file.write_bytes(both)
    for server in (moto, rclone):
        folder, store = f"root-{server.name}", f"{server.name}:"
        craftsync.write(f"{folder}/k")
        assert craftsync("sync", folder, store).code == 0
        listed = craftsync("trash", "list", "--root", folder, "--store", store, "--json").json
        assert [(entry["path"], entry["size"]) for entry in listed] == [("big", 700)]
        (status,) = craftsync("status", "--json", folder, store).json
        assert (status["trash"]["files"], status["trash"]["bytes"]) == (1, 700)


@pytest.mark.parametrize(
    ("words", "faults", "kept"),
    [
        (("cp", "s3:c", "s3:a"), [Drop()], [3, 18]),
        (("put", "new", "s3:a"), [Drop(delivered=False), error(403, "AccessDenied")], [18]),
    ],
    ids=["repeated cp", "failed put"],
)
def test_purge_of_a_store_removes_what_lost_answers_left(
    craftsync: Craftsync, words: tuple[str, ...], faults: list[Drop | Answer], kept: list[int]
) -> None:
    left = list(faults)
    with (
        fake_s3("no-metadata", "bucket") as (behind, _),
        proxied(behind, lambda _: None) as (server, proxy),
    ):
        craftsync.environment |= server.variables
        craftsync.config.write_text("environments: {s3: {store: s3, bucket: bucket}}\n")
        craftsync.write("new", "newer")
        for path, content in (("a", b"the version before"), ("c", b"new")):
            assert craftsync("put", "-", f"s3:{path}", stdin=content).code == 0
        proxy.script = failing("PUT", "bucket/a", left)
        assert (craftsync(*words).code == 0) is (words[0] == "cp")
        assert not left
        store = ("--store", "s3:")
        listed = craftsync("trash", "list", "--json", *store).json
        assert sorted(one["size"] for one in listed) == kept
        assert craftsync("trash", "purge", "--older-than", "0", *store).code == 0
        assert craftsync("trash", "list", "--json", *store).json == []


VERSION = KeptVersion("store", "20260101T000000000000Z", "a\udcff\n", 3)


def test_duplicate_and_truncated_retention_notes_are_tolerated(
    tmp_path: Path,
) -> None:
    place = Outside(tmp_path, "place")
    place.note([VERSION], 5)
    (file,) = (tmp_path / "outside").iterdir()
    with file.open("ab") as opened:
        opened.write(b'\n["store", "2026')
    other = VERSION._replace(side="root")
    place.note([VERSION, other], 6)
    with place.taken() as found:
        assert found == [(VERSION, 5), (other, 6)]
    with place.taken() as found:
        assert found == []


def test_unprocessed_retention_notes_are_kept(tmp_path: Path) -> None:
    place = Outside(tmp_path, "place")
    place.note([VERSION], 5)
    with pytest.raises(RuntimeError), place.taken():
        raise RuntimeError
    assert place.noted() == [(VERSION, 5)]
    assert Outside(tmp_path, "another place").noted() == []
