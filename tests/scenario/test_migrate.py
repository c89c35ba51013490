"""Stories of a migration: every pair of a folder and a store in memory, which behaves like a good S3."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from craftsync.core.guard import DeleteLimit
from craftsync.core.model import RemoteObject, Skipped
from craftsync.errors import (
    LockedError,
    StoreChanged,
    StoreDenied,
    StoreFull,
    StoreMissing,
    UsageError,
)
from craftsync.local.ignore import CallRules
from craftsync.migrate.options import Verify
from craftsync.migrate.shards import Shard
from craftsync.net.concurrency import Concurrency
from craftsync.net.tasks import TaskPool
from craftsync.state.migration import MigrationState
from craftsync.stores.base import Store
from craftsync.stores.directory import DirectoryStore
from tests.support.memory_store import MemoryStore
from tests.support.moving import Moving, held, kept

LARGE = bytes(range(256)) * (17 << 12)
"""17 MiB: more than is ever read in one piece."""


def made(kind: str, folder: Path, name: str) -> Store:
    if kind == "memory":
        return MemoryStore(name, raw_keys=True)
    return DirectoryStore.create(folder / name)


@pytest.fixture(params=["directory-memory", "memory-directory", "directory-directory"])
def moving(request: pytest.FixtureRequest, tmp_path: Path) -> Moving:
    source, target = request.param.split("-")
    return Moving(tmp_path, made(source, tmp_path, "source"), made(target, tmp_path, "target"))


@pytest.fixture
def in_memory(tmp_path: Path) -> Moving:
    return Moving(
        tmp_path, MemoryStore("source", raw_keys=True), MemoryStore("target", raw_keys=True)
    )


def test_migration_copies_everything_and_a_second_run_nothing(moving: Moving) -> None:
    for path, content in {"a": b"1", "b/c": b"", "é à": b"accents", "large": LARGE}.items():
        moving.put(moving.source, path, content)
    report = moving.run()
    assert held(moving.target) == held(moving.source)
    assert (report.copied, report.bytes_copied, report.exit_code) == (4, len(LARGE) + 8, 0)
    again = moving.run()
    assert (again.copied, again.unchanged, moving.said) == (0, 4, [])


def test_the_source_is_never_written(moving: Moving, tmp_path: Path) -> None:
    moving.put(moving.source, "a", "1")
    before = list(moving.source.list()), list(moving.source.list(".craftsync/"))
    moving.run(delete=True, verify=Verify.FULL)
    assert (list(moving.source.list()), list(moving.source.list(".craftsync/"))) == before


def test_next_migration_copies_source_changes(moving: Moving) -> None:
    for path in ("same", "edited", "gone"):
        moving.put(moving.source, path, "first")
    moving.run()
    moving.put(moving.source, "edited", "second")
    moving.put(moving.source, "new", "new")
    moving.source.delete("gone", expect=None)
    report = moving.run()
    assert moving.said == ["copy edited", "copy new"]
    assert held(moving.target)["edited"] == b"second"
    assert held(moving.target)["gone"] == b"first"
    assert kept(moving.target) == {b"first"}
    assert report.exit_code == 0


def test_migrate_delete_mirrors_and_keeps_removed_objects(moving: Moving) -> None:
    moving.put(moving.source, "a", "1")
    moving.put(moving.target, "extra", "only there")
    moving.run(delete=True)
    assert held(moving.target) == {"a": b"1"}
    assert kept(moving.target) == {b"only there"}


def test_a_target_in_use_keeps_all_other_objects(moving: Moving) -> None:
    moving.put(moving.source, "a", "from the source")
    moving.put(moving.source, "same", "same")
    moving.put(moving.target, "a", "its own")
    moving.put(moving.target, "same", "same")
    moving.put(moving.target, "other", "not concerned")
    report = moving.run()
    assert held(moving.target) == {
        "a": b"from the source",
        "same": b"same",
        "other": b"not concerned",
    }
    assert kept(moving.target) == {b"its own"}
    assert (report.copied, report.adopted) == (1, 1)


def test_no_overwrite_leaves_and_reports_existing_objects(moving: Moving) -> None:
    moving.put(moving.source, "a", "from the source")
    moving.put(moving.source, "b", "new")
    moving.put(moving.target, "a", "its own")
    report = moving.run(no_overwrite=True)
    assert held(moving.target) == {"a": b"its own", "b": b"new"}
    assert moving.said == ["skipped a", "copy b"]
    assert report.exit_code == 6


def test_a_dry_run_changes_nothing_and_counts(moving: Moving) -> None:
    moving.put(moving.source, "a", "12345")
    moving.put(moving.source, "large", LARGE)
    report = moving.run(dry_run=True)
    assert held(moving.target) == {} == held(moving.target, ".craftsync/")
    assert (report.copied, report.bytes_copied) == (2, len(LARGE) + 5)
    assert report.requests == 2 + 2 * 3 + 4
    assert not (moving.folder / "state").exists()


def test_many_deletes_are_held(moving: Moving) -> None:
    moving.put(moving.source, "a", "1")
    for number in range(5):
        moving.put(moving.target, f"extra {number}", "only there")
    report = moving.run(delete=True, delete_limit=DeleteLimit(files=4, share=0.0))
    assert (report.held, report.exit_code, len(held(moving.target))) == (5, 7, 6)
    moving.run(delete=True, force_delete=True)
    assert held(moving.target) == {"a": b"1"}


def test_excluded_objects_stay_unchanged_on_both_sides(moving: Moving) -> None:
    for path in ("data/a.csv", "data/a.tmp", "cache/b.csv"):
        moving.put(moving.source, path, "new")
    for path in ("data/a.tmp", "cache/old.csv", "old.csv"):
        moving.put(moving.target, path, "old")
    rules = CallRules(include=["*.csv"], exclude=["cache/"])
    report = moving.run(rules=rules, delete=True)
    assert held(moving.target) == {
        "data/a.csv": b"new",
        "data/a.tmp": b"old",
        "cache/old.csv": b"old",
    }
    assert moving.said == ["copy data/a.csv", "delete-remote old.csv"]
    assert report.manifest is not None
    assert len(Path(report.manifest).read_text().splitlines()) == 1


def test_copied_object_that_is_excluded_later_is_left_alone(moving: Moving) -> None:
    for path in ("a", "b"):
        moving.put(moving.source, path, "1")
    moving.run()
    moving.source.delete("b", expect=None)
    excluded = moving.run(rules=CallRules(exclude=["b"]), delete=True)
    assert (set(held(moving.target)), excluded.unchanged) == ({"a", "b"}, 1)
    assert excluded.manifest is not None
    assert len(Path(excluded.manifest).read_text().splitlines()) == 1
    moving.run(delete=True)
    assert set(held(moving.target)) == {"a"}


def test_unreadable_source_folder_keeps_its_copies(tmp_path: Path) -> None:
    moving = Moving(tmp_path, Unread("source"), MemoryStore("target"))
    for path in ("a.csv", "secret/b.csv"):
        moving.put(moving.source, path, "1")
        moving.put(moving.target, path, "1")
    assert isinstance(moving.source, Unread)
    moving.source.unread = "secret"
    rules = CallRules(include=["*.csv"])
    report = moving.run(rules=rules, delete=True, force_delete=True)
    assert set(held(moving.target)) == {"a.csv", "secret/b.csv"}
    assert (report.problems, moving.said) == (1, ["problem secret"])


class Unread(MemoryStore):
    """Cannot read one folder."""

    unread = ""

    def list(self, *what: Any, **how: Any) -> Any:
        for entry in super().list(*what, **how):
            if not self.unread or not entry.path.startswith(f"{self.unread}/"):
                yield entry
        if self.unread:
            yield Skipped(self.unread, "it cannot be read", subtree=True, failed=True)


def test_obstructing_object_is_deleted_and_copied_over_in_one_run(
    tmp_path: Path,
) -> None:
    target = DirectoryStore.create(tmp_path / "target")
    moving = Moving(tmp_path, MemoryStore("source"), target)
    moving.put(target, "name", "a file")
    moving.put(moving.source, "name/below", "an object below it")
    report = moving.run(delete=True)
    assert held(target) == {"name/below": b"an object below it"}
    assert (report.copied, report.deleted_remote, report.exit_code) == (1, 1, 0)
    assert kept(target) == {b"a file"}


def test_obstructing_object_is_reported_once(tmp_path: Path) -> None:
    target = DirectoryStore.create(tmp_path / "target")
    moving = Moving(tmp_path, MemoryStore("source"), target)
    moving.put(target, "name", "a file")
    moving.put(moving.source, "name/below", "an object below it")
    report = moving.run()
    assert (report.skipped, moving.said) == (1, ["skipped name/below"])
    assert "cannot hold it" in moving.reason("name/below")


def test_the_deletes_of_all_rounds_of_a_run_share_one_limit(tmp_path: Path) -> None:
    source = Meddled("source")
    moving = Moving(tmp_path, source, MemoryStore("target"))
    paths = [f"{number:02}" for number in range(30)]
    for path in ["a", *paths]:
        moving.put(source, path, "1")
    moving.run()

    def vanish() -> None:
        for path in ["a", *paths[20:]]:
            source.delete(path, expect=None)

    for path in paths[:20]:
        source.delete(path, expect=None)
    moving.put(source, "a", "2")
    source.meddle = vanish
    limit = DeleteLimit(files=20, share=0.0)
    report = moving.run(delete=True, delete_limit=limit)
    assert (report.deleted_remote, report.held, report.exit_code) == (20, 1, 7)
    assert set(held(moving.target)) == {"a", *paths[20:]}


def test_an_empty_source_never_empties_a_target(moving: Moving) -> None:
    moving.put(moving.target, "a", "1")
    report = moving.run(delete=True)
    assert held(moving.target) == {"a": b"1"}
    assert (report.held, moving.reason("a")) == (1, "the source is empty")


@pytest.mark.parametrize("verify", list(Verify))
def test_the_manifest_names_every_object_and_its_proof(moving: Moving, verify: Verify) -> None:
    moving.put(moving.source, "é", "1")
    moving.put(moving.source, "large", LARGE)
    report = moving.run(verify=verify, manifest_in_target=True)
    assert report.manifest is not None
    lines = [json.loads(line) for line in Path(report.manifest).read_text().splitlines()]
    assert [(line["path"], line["size"], line["sha256"]) for line in lines] == [
        ("large", len(LARGE), hashlib.sha256(LARGE).hexdigest()),
        ("é", 1, hashlib.sha256(b"1").hexdigest()),
    ]
    found = moving.target.stat("large")
    assert found is not None and lines[0]["target_version"] == found.version
    proof = "read back" if verify is Verify.FULL else "acknowledged"
    assert {line["verified"] for line in lines} == {proof}
    sent = held(moving.target, ".craftsync/manifest")
    assert sent == {".craftsync/manifest.jsonl": Path(report.manifest).read_bytes()}


def test_finer_times_in_a_listing_are_no_change(tmp_path: Path) -> None:
    moving = Moving(tmp_path, Finely("source", raw_keys=True), MemoryStore("target"))
    moving.put(moving.source, "large", LARGE)
    rounds: list[Concurrency] = []
    assert moving.run(make_pool=counted(rounds)).copied == 1
    assert len(rounds) == 1


class Finely(MemoryStore):
    """Lists times to the millisecond and shows them to the second, as MinIO does."""

    def list(self, *words: Any, **more: Any) -> Iterator[RemoteObject | Skipped]:
        for entry in super().list(*words, **more):
            if isinstance(entry, RemoteObject) and entry.modified_ns is not None:
                yield entry._replace(modified_ns=entry.modified_ns + 123_000_000)
            else:
                yield entry


def counted(rounds: list[Concurrency]) -> Callable[[Concurrency], TaskPool[Any]]:
    """Make the usual pools, and note each."""

    def make(concurrency: Concurrency) -> TaskPool[Any]:
        rounds.append(concurrency)
        return TaskPool(concurrency)

    return make


def test_verify_full_reads_back_earlier_copies(in_memory: Moving) -> None:
    in_memory.put(in_memory.source, "a", "1")
    in_memory.put(in_memory.source, "b", "2")
    in_memory.run()
    before = in_memory.target.stat("b")
    report = in_memory.run(verify=Verify.FULL)
    assert (report.unchanged, report.verified) == (2, {"read back": 2})
    assert in_memory.target.stat("b") == before


def test_an_object_that_the_target_damaged_fails_full_verification(tmp_path: Path) -> None:
    moving = Moving(tmp_path, MemoryStore("source"), Damaging("target"))
    moving.put(moving.source, "a", "12345")
    report = moving.run(verify=Verify.FULL)
    assert (report.exit_code, moving.said) == (1, ["problem a"])
    assert report.manifest is not None and Path(report.manifest).read_text() == ""


class Damaging(MemoryStore):
    """Gives back other bytes than it was given."""

    def read(self, path: str, **how: Any) -> Any:
        if not path.startswith(".craftsync"):
            described, content = self._objects[path]
            self._objects[path] = described, content[::-1]
        return super().read(path, **how)


def test_keys_that_no_folder_can_hold_travel_between_stores_that_can(in_memory: Moving) -> None:
    keys = ["../x", "/lead", "a", "a//b", "a/b", "a/./b", "bell\x07", "dir/", "nul\0byte"]
    for key in keys:
        in_memory.put(in_memory.source, key, key)
    report = in_memory.run()
    assert held(in_memory.target) == {key: key.encode() for key in keys}
    assert (report.copied, report.exit_code) == (len(keys), 0)


def test_keys_the_target_cannot_hold_are_named_with_the_reason(tmp_path: Path) -> None:
    target = DirectoryStore.create(tmp_path / "target")
    moving = Moving(tmp_path, MemoryStore("source", raw_keys=True), target)
    for key in ("../x", "a//b", "file", "file/below", "good"):
        moving.put(moving.source, key, key)
    report = moving.run()
    assert (report.copied, report.skipped, report.exit_code) == (2, 3, 6)
    assert "cannot hold it" in moving.reason("../x")
    assert "cannot hold it" in moving.reason("a//b")
    said = [line for line in moving.said if line.split()[1].startswith("file")]
    assert sorted(line.split()[0] for line in said) == ["copy", "skipped"]
    assert not (tmp_path / "x").exists()


class Meddled(MemoryStore):
    """Calls `meddle` once, right before the first read of an object named `path`."""

    path = "a"
    meddle: Callable[[], object] | None = None

    def read(self, path: str, **how: Any) -> Any:
        if path == self.path and self.meddle is not None:
            meddle, self.meddle = self.meddle, None
            meddle()
        return super().read(path, **how)


def test_a_source_object_that_changes_midway_is_copied_again(tmp_path: Path) -> None:
    source = Meddled("source")
    moving = Moving(tmp_path, source, MemoryStore("target"))
    moving.put(source, "a", "first")
    source.meddle = lambda: moving.put(source, "a", "second")
    report = moving.run()
    assert held(moving.target) == {"a": b"second"}
    assert (report.copied, report.exit_code) == (1, 0)


def test_a_large_object_that_changes_between_two_parts_is_never_torn(tmp_path: Path) -> None:
    source = Meddled("source")
    moving = Moving(tmp_path, source, DirectoryStore.create(tmp_path / "target"))
    moving.put(source, "a", LARGE)
    reads = iter(range(99))

    class Late(Meddled):
        def read(self, path: str, **how: Any) -> Any:
            if path == "a" and next(reads) == 2:
                moving.put(source, "a", LARGE[::-1])
            return super().read(path, **how)

    source.__class__ = Late
    report = moving.run()
    assert held(moving.target) == {"a": LARGE[::-1]}
    assert (report.copied, report.exit_code) == (1, 0)


def test_source_object_vanishing_during_migration_is_not_a_failure(tmp_path: Path) -> None:
    source = Meddled("source")
    moving = Moving(tmp_path, source, MemoryStore("target"))
    moving.put(source, "a", "first")
    moving.put(source, "b", "stays")
    source.meddle = lambda: source.delete("a", expect=None)
    report = moving.run()
    assert held(moving.target) == {"b": b"stays"}
    assert report.exit_code == 0


def test_an_object_that_appears_in_the_target_midway_is_kept(tmp_path: Path) -> None:
    source = Meddled("source")
    moving = Moving(tmp_path, source, MemoryStore("target"))
    moving.put(source, "a", "from the source")
    source.meddle = lambda: moving.put(moving.target, "a", "from somebody else")
    moving.run()
    assert held(moving.target) == {"a": b"from the source"}
    assert kept(moving.target) == {b"from somebody else"}


class Failing(MemoryStore):
    """Fails from the `after`-th write on."""

    after = 10**9
    error: Exception = StoreFull("There is no room left.")

    def write(self, path: str, *content: Any, **how: Any) -> RemoteObject:
        self.after -= not path.startswith(".craftsync")
        if self.after < 0:
            raise self.error
        return super().write(path, *content, **how)


@pytest.mark.parametrize(
    "error", [StoreFull("There is no room left."), StoreDenied("The token has expired.")]
)
def test_failing_target_ends_the_migration_and_the_next_resumes(
    tmp_path: Path, error: Exception
) -> None:
    target = Failing("target")
    moving = Moving(tmp_path, MemoryStore("source"), target)
    for number in range(30):
        moving.put(moving.source, f"{number:02}", f"content {number}")
    target.after, target.error = 10, error
    with pytest.raises(type(error)):
        moving.run()
    assert len(held(target)) == 10
    target.after = 10**9
    report = moving.run()
    assert held(target) == held(moving.source)
    assert (report.copied, report.unchanged, report.adopted) == (20, 10, 0)


def test_a_source_that_vanishes_ends_the_run_and_deletes_nothing(tmp_path: Path) -> None:
    moving = Moving(tmp_path, Vanishing("source"), MemoryStore("target"))
    for path in ("a", "b"):
        moving.put(moving.source, path, "1")
    moving.run()
    assert isinstance(moving.source, Vanishing)
    moving.source.gone = True
    with pytest.raises(StoreMissing):
        moving.run(delete=True, force_delete=True)
    assert held(moving.target) == {"a": b"1", "b": b"1"}


class Vanishing(MemoryStore):
    """Is not there any more once it is `gone`."""

    gone = False

    def list(self, *what: Any, **how: Any) -> Any:
        if self.gone:
            raise StoreMissing("There is no such bucket.")
        return super().list(*what, **how)


def test_another_store_at_the_same_address_is_noticed(in_memory: Moving) -> None:
    in_memory.put(in_memory.source, "a", "1")
    in_memory.run()
    in_memory.target = MemoryStore("target")
    with pytest.raises(StoreChanged):
        in_memory.run()


def test_one_store_under_two_names_is_refused(tmp_path: Path) -> None:
    store = DirectoryStore.create(tmp_path / "store")
    moving = Moving(tmp_path, store, DirectoryStore.create(tmp_path / "other"))
    moving.put(store, "a", "1")
    moving.run()
    (tmp_path / "alias").symlink_to(tmp_path / "other")
    moving.source = DirectoryStore(tmp_path / "alias")
    with pytest.raises(UsageError, match="the same store"):
        moving.run()


def test_same_store_without_identity_is_recognized_by_its_new_identity(tmp_path: Path) -> None:
    store = MemoryStore("one")
    moving = Moving(tmp_path, store, store)
    moving.put(store, "a", "1")
    for _ in range(2):
        with pytest.raises(UsageError, match="same store"):
            moving.run()
    assert held(store) == {"a": b"1"}


def test_second_run_of_a_running_migration_is_refused(in_memory: Moving) -> None:
    state = MigrationState.open(in_memory.folder / "state")
    with pytest.raises(LockedError):
        in_memory.run()
    state.close()
    in_memory.run()


def test_damaged_state_costs_only_a_comparison(in_memory: Moving) -> None:
    in_memory.put(in_memory.source, "a", "1")
    in_memory.put(in_memory.source, "b", "2")
    in_memory.run()
    (in_memory.folder / "state" / "state.db").write_bytes(b"no database" * 1000)
    report = in_memory.run()
    assert (report.adopted, report.copied, report.exit_code) == (2, 0, 7)
    assert kept(in_memory.target) == set()


@pytest.mark.parametrize("count", [1, 3, 7])
def test_shares_cover_every_key_exactly_once(tmp_path: Path, count: int) -> None:
    source, target = MemoryStore("source", raw_keys=True), MemoryStore("target", raw_keys=True)
    paths = [f"{number % 7}/{number}" for number in range(40)] + ["é", "a//b"]
    copied = []
    for number in range(1, count + 1):
        moving = Moving(tmp_path / str(number), source, target)
        if number == 1:
            for path in paths:
                moving.put(source, path, path)
        copied.append(moving.run(shard=Shard(number, count)).copied)
    assert held(target) == {path: path.encode() for path in paths}
    assert sum(copied) == len(paths)
    assert max(copied) <= 2 * len(paths) / count


def test_key_added_between_two_shares_is_copied_once(tmp_path: Path) -> None:
    source, target = MemoryStore("source"), MemoryStore("target")
    first, second = (Moving(tmp_path / name, source, target) for name in ("1", "2"))
    for path in "abcd":
        first.put(source, path, path)
    first.run(shard=Shard(1, 2))
    for path in ("aa", "bb", "cc", "zz"):
        first.put(source, path, path)
    second.run(shard=Shard(2, 2))
    first.run(shard=Shard(1, 2))
    assert held(target) == held(source)


def test_a_share_deletes_only_within_its_range(tmp_path: Path) -> None:
    source, target = MemoryStore("source"), MemoryStore("target")
    moving = Moving(tmp_path, source, target)
    for path in "abcd":
        moving.put(source, path, path)
    for path in ("a extra", "c extra"):
        moving.put(target, path, "extra")
    moving.run(shard=Shard(1, 2), delete=True)
    assert set(held(target)) == {"a", "b", "c extra"}
