"""Archived objects (GLACIER), edited and deleted in the folder, with and without versions in the bucket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.cli import Craftsync, until
from tests.support.daemons import running
from tests.support.s3 import FakeS3, fake_s3
from tests.support.servers import ACCESS_KEY, SECRET_KEY

NAMED = ("--root", "root", "--store", "s3://bucket/p")
REASON = "the object is archived, and the store can keep no copy of it"
LARGE = 17 << 20


@contextmanager
def archived(craftsync: Craftsync, personality: str = "plain") -> Iterator[FakeS3]:
    """Serve a bucket in sync with a folder of which `edited`, `deleted` and `moved` are archived, and then change them."""
    for path in ("edited", "deleted", "moved", "other"):
        craftsync.write(f"root/{path}", f"first content of {path}")
    with fake_s3(personality, "bucket") as (server, fake):
        craftsync.environment |= {
            "AWS_ENDPOINT_URL": server.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        }
        assert craftsync("sync", "root", "s3://bucket/p").code == 0
        for path in ("edited", "deleted", "moved"):
            fake.bucket("bucket").archive(f"p/{path}")
        craftsync.write("root/edited", "another content")
        craftsync.write("root/other", "another content")
        (craftsync.folder / "root/deleted").unlink()
        (craftsync.folder / "root/moved").rename(craftsync.folder / "root/renamed")
        yield fake


def contents(fake: FakeS3) -> dict[str, str]:
    """Return the objects below the prefix, without craftsync's own."""
    bucket = fake.bucket("bucket")
    return {
        key.removeprefix("p/"): bucket.get(key).content.decode()
        for key in sorted(bucket)
        if "/.craftsync/" not in key
    }


CHANGED = {
    "edited": "another content",
    "other": "another content",
    "renamed": "first content of moved",
}
HELD = CHANGED | {
    "deleted": "first content of deleted",
    "edited": "first content of edited",
}


def test_without_versions_edits_and_deletes_of_archived_objects_wait_for_approval(
    craftsync: Craftsync,
) -> None:
    with archived(craftsync) as fake:
        run = craftsync("sync", "root", "s3://bucket/p")
        assert run.code == 7
        assert contents(fake) == HELD
        for path in ("deleted", "edited"):
            assert f"{path} held: {REASON}. Review: craftsync deletes list" in run.err
        assert "trash" not in run.err and "2 held for approval" in run.text
        again = craftsync("sync", "root", "s3://bucket/p", "--json")
        assert (again.code, again.summary["held"], again.summary["problems"]) == (7, 2, 0)
        assert craftsync("status", "root", "s3://bucket/p", "--json").json[0]["held"] == 2
        history = craftsync("history", "edited", "--json", *NAMED).json
        assert [row["status"] for row in history] == ["held", "done"]
        rows = craftsync("deletes", "list", "--json", *NAMED).json
        assert [(row["path"], row["action"], row["reason"]) for row in rows] == [
            ("deleted", "delete-remote", REASON),
            ("edited", "upload", REASON),
        ]
        listed = craftsync("deletes", "list", *NAMED).lines
        assert (
            f"edited in the folder, to replace the object in the store, held because {REASON}:"
            in listed
        )
        approved = craftsync("deletes", "approve", "--all", *NAMED)
        assert approved.code == 0, approved.err
        assert contents(fake) == CHANGED
        assert craftsync("deletes", "list", *NAMED).lines == ["No delete is held."]
        last = craftsync("sync", "root", "s3://bucket/p", "--json")
        assert (last.code, last.summary["unchanged"]) == (0, 3)


def test_with_versions_edits_and_deletes_of_archived_objects_go_through_at_once(
    craftsync: Craftsync,
) -> None:
    with archived(craftsync, "versioned") as fake:
        run = craftsync("sync", "root", "s3://bucket/p")
        assert run.code == 0, run.err
        assert contents(fake) == CHANGED
        versions = fake.bucket("bucket").versions["p/edited"]
        assert [kept.content for kept in versions] == [
            b"first content of edited",
            b"another content",
        ]


def test_approving_one_path_leaves_the_other_held(craftsync: Craftsync) -> None:
    with archived(craftsync) as fake:
        craftsync("sync", "root", "s3://bucket/p")
        assert craftsync("deletes", "approve", "deleted", *NAMED).code == 0
        assert contents(fake) == {path: HELD[path] for path in HELD if path != "deleted"}
        assert [row["path"] for row in craftsync("deletes", "list", "--json", *NAMED).json] == [
            "edited"
        ]


def test_approved_delete_of_a_restored_archive_keeps_a_copy(
    craftsync: Craftsync,
) -> None:
    with archived(craftsync) as fake:
        craftsync("sync", "root", "s3://bucket/p")
        fake.bucket("bucket").archive("p/deleted", "STANDARD")
        assert craftsync("deletes", "approve", "deleted", *NAMED).code == 0
        assert "deleted" not in contents(fake)
        (kept,) = (key for key in fake.bucket("bucket") if key.endswith("/deleted"))
        assert kept.startswith("p/.craftsync/trash/")


def test_rejecting_needs_the_object_restored_and_then_brings_it_back(craftsync: Craftsync) -> None:
    with archived(craftsync) as fake:
        craftsync("sync", "root", "s3://bucket/p")
        refused = craftsync("deletes", "reject", "--all", *NAMED)
        assert refused.code == 1
        assert "Restore it there (RestoreObject)" in refused.err
        assert len(craftsync("deletes", "list", "--json", *NAMED).json) == 2
        for path in ("deleted", "edited"):
            fake.bucket("bucket").archive(f"p/{path}", "STANDARD")
        rejected = craftsync("deletes", "reject", "--all", *NAMED)
        assert rejected.code == 0, rejected.err
        assert craftsync.files("root") == HELD == contents(fake)
        assert craftsync("deletes", "list", *NAMED).lines == ["No delete is held."]


def test_undoing_an_edit_of_an_archived_object_releases_it(craftsync: Craftsync) -> None:
    with archived(craftsync):
        craftsync("sync", "root", "s3://bucket/p")
        craftsync.write("root/edited", "first content of edited")
        craftsync.write("root/deleted", "first content of deleted")
        run = craftsync("sync", "root", "s3://bucket/p")
        assert run.code == 0, run.err
        assert craftsync("deletes", "list", *NAMED).lines == ["No delete is held."]


def test_a_held_archived_object_holds_no_other_delete(craftsync: Craftsync) -> None:
    with archived(craftsync) as fake:
        craftsync("sync", "root", "s3://bucket/p")
        (craftsync.folder / "root/other").unlink()
        run = craftsync("sync", "root", "s3://bucket/p", "--json")
        assert (run.summary["held"], run.summary["deleted_remote"]) == (2, 1)
        assert "other" not in contents(fake)


def test_large_edit_of_an_archived_object_waits_for_approval(
    craftsync: Craftsync,
) -> None:
    with archived(craftsync) as fake:
        craftsync.write("root/edited", "x" * LARGE)
        fake.requests.clear()
        assert craftsync("sync", "root", "s3://bucket/p").code == 7
        assert sum(len(request.body) for request in fake.requests) < LARGE
        assert craftsync("deletes", "approve", "--all", *NAMED).code == 0
        assert len(contents(fake)["edited"]) == LARGE


def test_a_push_over_an_archived_object_of_equal_size_is_held(craftsync: Craftsync) -> None:
    with archived(craftsync) as fake:
        craftsync.write("new/edited", "1st content of edited!")
        run = craftsync("push", "new", "s3://bucket/p")
        assert run.code == 7
        assert f"edited held: {REASON}" in run.err
        assert contents(fake)["edited"] == "first content of edited"


def test_daemon_carries_out_approved_archived_deletes(craftsync: Craftsync) -> None:
    pair = ("root", "s3://bucket/p")
    with archived(craftsync) as fake, running(craftsync, *pair) as daemon:
        daemon.until_status(lambda shown: shown["held"] == 2, "both are held", *pair)
        assert f"edited held: {REASON}" in daemon.log
        assert craftsync("deletes", "approve", "--all", *NAMED).code == 0
        until(lambda: contents(fake) == CHANGED, "what was approved is carried out")
        daemon.until_status(lambda shown: shown["held"] == 0, "nothing is held", *pair)


@pytest.mark.parametrize(
    "words", [("rm", "s3://bucket/p", "deleted"), ("put", "new", "s3://bucket/p", "deleted")]
)
def test_rm_and_put_of_archived_objects_print_no_trash_path(
    craftsync: Craftsync, words: tuple[str, ...]
) -> None:
    craftsync.write("new")
    with archived(craftsync) as fake:
        run = craftsync(*words)
        assert run.code == 1
        assert "deleted is archived" in run.err and "trash" not in run.err
        assert contents(fake)["deleted"] == "first content of deleted"
